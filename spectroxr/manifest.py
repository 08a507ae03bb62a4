"""What a store promises: its files with sizes and checksums, and the sealed JSON that lists them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from spectroxr.errors import StoreError
from spectroxr.schema import Array

__all__ = [
    "NPY_VERSION",
    "RESTORE",
    "VERSION",
    "Files",
    "check_json",
    "checksum",
    "decode_json",
    "encode_json",
    "named",
    "record_files",
    "replace_file",
    "seal",
    "sync",
    "sync_tree",
    "unseal",
    "unsealed",
]

FORMAT = "spectroxr"
#: The newest version of the format on disk that this package writes and reads.
VERSION = 3
#: The version of the plain folder of ``format="npy"``, which has not changed since.
NPY_VERSION = 1
#: What every message about a damaged file ends with.
RESTORE = "Restore it from a copy, or save the dataset elsewhere."

_BUFFER = 1 << 22


def checksum(data: bytes | Array, start: int = 0) -> int:
    """Return the CRC32C of `data`, continuing from `start`."""
    return int(google_crc32c.extend(start, data))


def _file_checksum(path: Path) -> int:
    crc, buffer = 0, np.empty(_BUFFER, np.uint8)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer.data):
            crc = checksum(buffer[:count], crc)
    return crc


@dataclass(frozen=True)
class Files:
    """The files of one saved version.

    Attributes
    ----------
    root : Path
        Folder that the names are relative to.
    records : mapping
        For each name its ``size`` and, unless the folder was written by others, its ``crc32c`` in hex.
    """

    root: Path
    records: Mapping[str, Mapping[str, Any]]

    def check_sizes(self) -> None:
        """Check that every file is there with its size.

        Raises
        ------
        StoreError
            Naming the first one that is missing or has another size.
        """
        for name, record in self.records.items():
            path = self.root / name
            try:
                size = path.stat().st_size
            except (FileNotFoundError, NotADirectoryError) as error:
                raise StoreError(f"{path} is missing from the store. {RESTORE}") from error
            if size != record["size"]:
                raise StoreError(f"{path} has {size} bytes instead of {record['size']}. {RESTORE}")

    def read(self, name: str) -> bytes:
        """Return the content of a file after checking its checksum.

        Raises
        ------
        StoreError
            If the file is not part of the store, is missing or is damaged.
        """
        if name not in self.records:
            raise StoreError(f"{self.root / name} is missing from the store. {RESTORE}")
        try:
            data = (self.root / name).read_bytes()
        except FileNotFoundError as error:
            raise StoreError(f"{self.root / name} is missing from the store. {RESTORE}") from error
        self._compare(name, checksum(data))
        return data

    def read_json(self, name: str) -> Any:
        """Return the value of a JSON file after checking its checksum.

        Raises
        ------
        StoreError
            If the file is missing, damaged or not JSON.
        """
        return decode_json(self.read(name), self.root / name)

    def verify(self, names: Iterable[str]) -> None:
        """Check the checksums of the named files.

        Raises
        ------
        StoreError
            Naming the first file that differs.
        """
        for name in names:
            self._compare(name, _file_checksum(self.root / name))

    def _compare(self, name: str, crc: int) -> None:
        expected = self.records[name].get("crc32c")
        if expected is not None and f"{crc:08x}" != expected:
            raise StoreError(f"{self.root / name} is damaged: its checksum does not match. {RESTORE}")


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below `folder` in a fixed order."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            yield from _walk(entry)
        else:
            yield entry


def record_files(root: Path, folder: Path, known: Mapping[Path, int]) -> dict[str, dict[str, Any]]:
    """Describe every file of a version that was just written.

    Parameters
    ----------
    root : Path
        Folder that the names are relative to.
    folder : Path
        Folder of the version, `root` or below it.
    known : mapping of Path to int
        Checksums that were computed while writing; the other files are read again.

    Returns
    -------
    dict
        For each name its ``size`` and ``crc32c`` (8 hexadecimal digits).
    """
    records = {}
    for path in _walk(folder):
        crc = known[path] if path in known else _file_checksum(path)
        records[path.relative_to(root).as_posix()] = {"size": path.stat().st_size, "crc32c": f"{crc:08x}"}
    return records


@contextlib.contextmanager
def named(path: object) -> Iterator[None]:
    """Give errors of the operating system the name of a file, where they have none, as when a disk is full."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def sync(path: Path) -> None:
    """Have the operating system put a file, or the names in a folder, on the disk.

    A folder that may be changed but not listed is left to the operating system: there is no way to ask for it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Have the operating system put a folder and all that is in it on the disk."""
    for entry in folder.iterdir():
        if entry.is_dir():
            sync_tree(entry)
        else:
            sync(entry)
    sync(folder)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that at any instant either the old or the whole new content is there."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with named(temporary), open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def check_json(value: Any, where: str) -> None:
    """Refuse what JSON would not give back: keys that are not text, objects.

    Parameters
    ----------
    value : Any
        None, bool, int, float, str, and lists and dicts of these; tuples come back as lists.
    where : str
        What it is, for the message.

    Raises
    ------
    StoreError
        If the value would not come back equal.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise StoreError(f"{where} has the key {key!r}: keys must be text to survive in JSON")
            check_json(item, where)
    elif isinstance(value, list | tuple):
        if not set(map(type, value)) <= {int, float, str, bool, type(None)}:
            for item in value:
                check_json(item, where)
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise StoreError(f"{where} has a {type(value).__name__}: only JSON values can be stored")


def encode_json(value: Any) -> bytes:
    """Return a value as JSON, in ASCII; NaN and the infinities as Python's json writes them."""
    return json.dumps(value).encode("ascii")


def decode_json(data: bytes, path: object) -> Any:
    """Return the value of JSON; `path` names it in the error."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is not readable as JSON ({error}). {RESTORE}") from error


def _seal_of(content: dict[str, Any]) -> str:
    return f"{checksum(json.dumps(content, sort_keys=True).encode('ascii')):08x}"


def seal(content: dict[str, Any], version: int = VERSION) -> bytes:
    """Return a manifest as JSON with the format's name and version, the package's version and a checksum."""
    try:
        package = metadata.version("spectroxr")
    except metadata.PackageNotFoundError:
        package = "not installed"
    content = {"format": FORMAT, "format_version": version, "package_version": package, **content}
    return json.dumps({**content, "crc32c": _seal_of(content)}, indent=1).encode("ascii")


def unseal(path: Path) -> dict[str, Any]:
    """Read a manifest; see `unsealed`.

    Raises
    ------
    StoreError
        As `unsealed`, and if the file is missing.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing from the store. {RESTORE}") from error
    return unsealed(data, path)


def unsealed(data: bytes, path: object) -> dict[str, Any]:
    """Take a manifest apart.

    Parameters
    ----------
    data : bytes
        What `seal` returned.
    path : object
        Where it lies, for messages.

    Returns
    -------
    dict
        What was given to `seal`, with the versions.

    Raises
    ------
    StoreError
        If it is unreadable, not ours, damaged, or of a newer version.
    """
    content = decode_json(data, path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise StoreError(f"{path} is not the manifest of a spectroxr store")
    version = content.get("format_version")
    if isinstance(version, int) and version > VERSION:
        raise StoreError(f"{path} was written by a newer spectroxr (format {version}); update spectroxr")
    if content.pop("crc32c", None) != _seal_of(content):
        raise StoreError(f"{path} is damaged: its checksum does not match. {RESTORE}")
    return content
