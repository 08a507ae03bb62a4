"""Where a store lies: a folder or a prefix in a bucket, behind the same few calls."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from spectroxr.errors import StoreError, nearest
from spectroxr.manifest import RESTORE, checksum, named

__all__ = [
    "MANIFEST",
    "Entry",
    "Place",
    "Record",
    "check",
    "fetch",
    "generation_name",
    "intact",
    "open_place",
]

#: The one object that is ever replaced: it names the current version.
MANIFEST = "manifest.json"


#: An object that is only checked is read in pieces of this size.
_PIECE = 1 << 22
#: The URLs that are understood.
SCHEMES = ("s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss", "http", "https", "memory", "file")
#: CRC32C of whatever ends with its own CRC32C.
_CLOSED = checksum(bytes(4))


@dataclass(frozen=True)
class Entry:
    """An object that is there: its key, its bytes, and how many seconds ago it was written."""

    key: str
    size: int
    age: float


class Place(Protocol):
    """What storage asks of a folder or a bucket. Every object but the manifest is written once and never changed.

    Attributes
    ----------
    workers : int
        How many requests are worth having under way at once.
    links : bool
        Whether a shared object is found under its new key too, so that every generation is whole by itself.
    """

    workers: int
    links: bool

    def name_of(self, key: str) -> str:
        """Name an object for a message."""

    def read(self, key: str) -> bytes:
        """Return an object; FileNotFoundError if there is none."""

    def read_ranges(self, key: str, starts: Sequence[int], stops: Sequence[int]) -> list[bytes]:
        """Return parts of an object; FileNotFoundError if there is none."""

    def expect(self, key: str, size: int) -> None:
        """Raise StoreError if an object is cheaply seen not to be there with its size."""

    def write(self, key: str, parts: Iterable[Any]) -> None:
        """Write a new object of some buffers, and have it on the disk or in the bucket when this returns."""

    def share(self, key: str, known: str, size: int) -> str:
        """Let `key` be what `known` is, without copying, and return the key to find it under.

        FileNotFoundError if it is seen not to be there with its size.
        """

    def settle(self, generation: str) -> None:
        """Have the names of a generation on the disk."""

    def writing(self) -> AbstractContextManager[None]:
        """Hold what keeps other writers away, if there is such a thing."""

    def prepare(self) -> None:
        """Make the place ready for its first version."""

    def claim(self, generation: str) -> bool:
        """Take a generation for this writer alone; False if it is taken."""

    def manifest(self) -> tuple[bytes | None, Any]:
        """Return the manifest, None if there is none, and a token that `commit` compares."""

    def commit(self, data: bytes, token: Any, ours: Callable[[bytes | None], bool]) -> None:
        """Replace the manifest at once if it is still the one of `token`, else raise ConflictError.

        `ours` tells whether a manifest holds what was to be committed, for answers that are lost on the way.
        """

    def tidy(self) -> None:
        """Remove what is left of manifests that were never put in place."""

    def discard(self, generation: str) -> None:
        """Remove what was written of a generation."""

    def generations(self) -> list[str]:
        """Return the generations there are, committed or not."""

    def entries(self, generation: str) -> Iterator[Entry]:
        """Yield the objects of a generation."""

    def remove(self, entries: Sequence[Entry]) -> int:
        """Remove objects; return how many bytes that frees."""

    def undo(self) -> None:
        """Undo `prepare` after a first save that failed."""


@dataclass(frozen=True)
class Record:
    """An object that a version consists of.

    Attributes
    ----------
    key : str
        Where it lies.
    size : int
        Its bytes.
    crc32c : int
        Of its bytes; of a compressed chunk, that of all but the last four, which are this number: with them, the
        checksum of every chunk would be the same.
    content : bytes or None
        XXH3-128 of what it says (of a compressed chunk: of what it decodes to), by which a later version knows that
        it has not changed. None in stores of format 1.
    """

    key: str
    size: int
    crc32c: int
    content: bytes | None = None


def fetch(place: Place, record: Record) -> bytes:
    """Return an object after checking its size and checksum.

    Raises
    ------
    StoreError
        If it is missing or damaged; the message names it.
    """
    try:
        with named(place.name_of(record.key)):
            data = place.read(record.key)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise StoreError(f"{place.name_of(record.key)} is missing from the store. {RESTORE}") from error
    check(place, record, data)
    return data


def check(place: Place, record: Record, data: bytes) -> None:
    """Raise StoreError if `data` is not what was recorded."""
    if len(data) != record.size:
        raise StoreError(
            f"{place.name_of(record.key)} has {len(data)} bytes instead of {record.size}; it is damaged. {RESTORE}"
        )
    if not _fits(record, checksum(data), data[-4:]):
        raise StoreError(f"{place.name_of(record.key)} is damaged: its checksum does not match. {RESTORE}")


def _fits(record: Record, crc: int, end: bytes) -> bool:
    """Tell whether the checksum of an object, whose last four bytes are `end`, is what was recorded."""
    return crc == record.crc32c or (crc == _CLOSED and end == record.crc32c.to_bytes(4, "little"))


def intact(place: Place, record: Record) -> bool:
    """Tell whether an object has the size and checksum that were recorded; it is read a few megabytes at a time."""
    crc, end = 0, b""
    try:
        place.expect(record.key, record.size)
        for start in range(0, record.size, _PIECE):
            (part,) = place.read_ranges(record.key, [start], [min(start + _PIECE, record.size)])
            crc, end = checksum(part, crc), (end + part[-4:])[-4:]
    except (StoreError, OSError):
        return False
    return _fits(record, crc, end)


def generation_name(number: int) -> str:
    """Return the folder of a version by its number.

    Examples
    --------
    >>> generation_name(7)
    '000007'
    """
    return f"{number:06d}"


def open_place(path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Place:
    """Return the place that a path or URL names; nothing is read yet.

    Parameters
    ----------
    path : path-like or str
        A local path, ``file://``, or a URL with a scheme of object storage: ``s3://``, ``gs://``, ``az://``, ...,
        or ``memory://`` (in this process alone).
    storage_options : mapping, optional
        For URLs: keys of the object store (``region``, ``endpoint``, ``access_key_id``, ...), ``client_options``,
        ``retry_config``.

    Raises
    ------
    ValueError
        If options are given for a local path, it is empty, or the URL makes no sense.
    TypeError
        If it is neither text nor path-like.
    ImportError
        If the extra for object storage is not installed.
    """
    text = path if isinstance(path, str | bytes) else os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"a path is text or a pathlib.Path, not {text!r}; os.fsdecode makes text of bytes.")
    if not text:
        raise ValueError("the path is empty; '.' is the current folder.")
    if text.startswith("file://"):
        from urllib.parse import unquote

        rest = text.removeprefix("file://").removeprefix("localhost")
        if not rest.startswith("/"):
            raise ValueError(f"{text!r} names no file here; such a URL is like 'file:///folder/name'.")
        text = unquote(rest)
    elif "://" in text:
        if wrong := re.findall(r"[?#]|%[0-9a-fA-F]{2}", text):
            raise ValueError(f"{text!r} has {' and '.join(wrong)}, which mean something else in a URL.")
        scheme = text.partition("://")[0].lower()
        if scheme not in SCHEMES:
            raise ValueError(nearest(scheme, SCHEMES, f"kind of URL in {text!r}:"))
        from spectroxr.objectplace import ObjectPlace

        return ObjectPlace(text, dict(storage_options or {}))
    if storage_options:
        raise ValueError(f"storage_options are for URLs such as 's3://bucket/name'; {text!r} is a local path.")
    from spectroxr.localplace import LocalPlace

    return LocalPlace(os.path.realpath(os.path.expanduser(text)))
