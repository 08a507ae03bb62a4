"""The versions of a store, and the manifest that names them."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from spectroxr.description import is_record, whole
from spectroxr.errors import StoreError, UnknownNameError
from spectroxr.manifest import RESTORE, seal, unsealed
from spectroxr.place import MANIFEST, Place, Record, generation_name

__all__ = ["History", "Version", "history_of", "now", "read_history", "record_json", "record_of"]


@dataclass(frozen=True)
class Version:
    """One version as the manifest lists it.

    Attributes
    ----------
    number : int
        Also that of its generation.
    time : str
        When it was saved, UTC, ISO 8601; empty for stores of format 1.
    message : str
    written : int
        Bytes that were written for it; the rest is shared with earlier versions.
    samples : int
    record : Record or None
        Its description; None for a version of format 1.
    old : dict or None
        What the manifest of format 1 said of it.
    """

    number: int
    time: str = ""
    message: str = ""
    written: int = 0
    samples: int = 0
    record: Record | None = None
    old: dict[str, Any] | None = field(default=None, hash=False)

    @property
    def generation(self) -> str:
        """Its folder."""
        return generation_name(self.number)

    @property
    def stamp(self) -> tuple[Any, ...]:
        """What tells it from every other version, also of another store."""
        return (self.number, self.time, None if self.record is None else self.record.crc32c)

    def as_json(self) -> dict[str, Any]:
        """Return what stands in the manifest."""
        about: dict[str, Any] = {
            "version": self.number,
            "generation": self.generation,
            "time": self.time,
            "message": self.message,
            "written": self.written,
            "samples": self.samples,
        }
        if self.record is not None:
            about["description"] = record_json(self.record)
        if self.old is not None:
            about["format_1"] = self.old
        return about


def record_json(record: Record) -> list[Any]:
    """Return a record as ``[key, size, crc32c, xxh3]``."""
    return [record.key, record.size, f"{record.crc32c:08x}", None if record.content is None else record.content.hex()]


def record_of(given: Sequence[Any]) -> Record:
    """Return a record from what `record_json` made of it."""
    key, size, crc, content = given
    return Record(str(key), int(size), int(crc, 16), None if content is None else bytes.fromhex(content))


@dataclass(frozen=True)
class History:
    """All versions that a store keeps, oldest first, and the token of the manifest that says so."""

    versions: tuple[Version, ...]
    token: Any = None
    data: bytes | None = None

    @property
    def current(self) -> Version | None:
        """The newest version."""
        return self.versions[-1] if self.versions else None

    def version(self, number: int | None, where: str) -> Version:
        """Return a version by its number; negative ones count from the newest, None is the newest.

        Raises
        ------
        StoreError
            If the store holds none yet.
        UnknownNameError
            If there is none of that number.
        TypeError
            If it is not a whole number.
        """
        if not self.versions:
            raise StoreError(f"{where} holds nothing: its first save did not finish. Save the dataset again.")
        if number is None:
            return self.versions[-1]
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise TypeError(f"a version is a whole number, not {number!r}.")
        known = [one.number for one in self.versions]
        if number < 0 and -number <= len(known):
            return self.versions[int(number)]
        if number not in known:
            near = min(known, key=lambda one: abs(one - number))
            raise UnknownNameError(f"{where} has no version {number}; the nearest is {near}. It has {known}.")
        return self.versions[known.index(int(number))]

    def sealed(self) -> bytes:
        """Return the manifest."""
        current = self.current
        return seal(
            {
                "generation": None if current is None else current.generation,
                "versions": [version.as_json() for version in self.versions],
            }
        )

    def with_version(self, version: Version) -> History:
        """Return the history with one more version."""
        return replace(self, versions=(*self.versions, version))


def read_history(place: Place) -> History | None:
    """Return the versions of a store, None if there is no store.

    Raises
    ------
    StoreError
        If the manifest is damaged, newer than this package or not ours.
    """
    data, token = place.manifest()
    return None if data is None else history_of(place, data, token)


def history_of(place: Place, data: bytes, token: Any = None) -> History:
    """Return the versions that a manifest lists."""
    where = place.name_of(MANIFEST)
    content = unsealed(data, where)
    try:
        if content["format_version"] == 1:
            name = content["generation"]
            old = {"compression": content.get("compression"), "files": content.get("files")}
            return History(() if name is None else (Version(int(name), old=old),), token, data)
        versions = tuple(map(_version, content["versions"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(
            f"{where} does not list versions as it should ({type(error).__name__}: {error}). {RESTORE}"
        ) from error
    numbers = [version.number for version in versions]
    if numbers != sorted(set(numbers)):
        raise StoreError(f"{where} lists versions {numbers}, which do not ascend. {RESTORE}")
    current = versions[-1].generation if versions else None
    if content.get("generation", "") != current:
        raise StoreError(
            f"{where} names generation {content.get('generation')!r}, the last it lists is {current!r}. {RESTORE}"
        )
    return History(versions, token, data)


def _version(about: dict[str, Any]) -> Version:
    """Return a version as the manifest lists it; raises what `history_of` names if it is none."""
    record, old = about.get("description"), about.get("format_1")
    numbers = [about["version"], about["written"], about["samples"]]
    if not all(map(whole, numbers)):
        raise ValueError(f"numbers {numbers!r}")
    if not isinstance(about["message"], str) or not isinstance(about["time"], str):
        raise TypeError(f"time {about['time']!r} and message {about['message']!r}")
    if about["time"]:
        datetime.datetime.fromisoformat(about["time"])
    if record is not None and not is_record(record):
        raise ValueError(f"record {record!r}")
    if record is None and not isinstance(old, dict):
        raise ValueError(f"version {about['version']} is not described")
    return Version(
        about["version"],
        about["time"],
        about["message"],
        about["written"],
        about["samples"],
        None if record is None else record_of(record),
        old,
    )


def now() -> str:
    """Return the time in UTC, as it is kept with a version."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
