"""The versions of a store: the manifest that names them, and what each consists of."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from spectroxr.chunks import ChunkTable, Grid
from spectroxr.errors import StoreError, UnknownNameError
from spectroxr.manifest import RESTORE, decode_json, seal, unsealed
from spectroxr.place import MANIFEST, Place, Record, fetch, generation_name
from spectroxr.schema import Array
from spectroxr.stored import StoredArray

__all__ = [
    "Contents",
    "History",
    "StoredSource",
    "Version",
    "chunk_table",
    "contents_of_format_1",
    "history_of",
    "now",
    "read_history",
    "record_of",
]


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
    if content["format_version"] == 1:
        name = content["generation"]
        old = {"compression": content.get("compression"), "files": content.get("files")}
        return History(() if name is None else (Version(int(name), old=old),), token, data)
    versions = []
    for about in content["versions"]:
        described = about.get("description")
        versions.append(
            Version(
                int(about["version"]),
                about["time"],
                about["message"],
                int(about["written"]),
                int(about["samples"]),
                None if described is None else record_of(described),
                about.get("format_1"),
            )
        )
    return History(tuple(versions), token, data)


def now() -> str:
    """Return the time in UTC, as it is kept with a version."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class StoredSource:
    """A source of a version: what is known of it without its spectra.

    Attributes
    ----------
    name, folder : str
    processings : tuple of str
        In the order of the array.
    wavelength : ndarray
    attrs : dict
    segments : list or None
        Runs of (name, count).
    array : StoredArray
    """

    name: str
    folder: str
    processings: tuple[str, ...]
    wavelength: Array
    attrs: dict[str, Any]
    segments: list[list[Any]] | None
    array: StoredArray

    def as_json(self) -> dict[str, Any]:
        """Return what stands in the description of a version; the records of chunks are in a table of their own."""
        grid = self.array.grid
        return {
            "name": self.name,
            "folder": self.folder,
            "processings": list(self.processings),
            "wavelength": self.wavelength.tolist(),
            "wavelength_dtype": self.wavelength.dtype.newbyteorder("<").str,
            "attrs": self.attrs,
            "segments": self.segments,
            "shape": list(grid.shape),
            "chunk": list(grid.chunk),
            "dtype": grid.dtype.str,
            "compression": self.array.compression,
            "inner_rows": self.array.inner_rows,
        }


#: The columns of the table of chunks.
CHUNKS = {
    "source": pl.String,
    "row": pl.UInt32,
    "processing": pl.UInt32,
    "wavelength": pl.UInt32,
    "generation": pl.UInt32,
    "size": pl.UInt64,
    "crc32c": pl.UInt32,
    "xxh3": pl.Binary,
}


@dataclass(frozen=True)
class Contents:
    """What a version consists of.

    Attributes
    ----------
    files : dict of str to Record
        Tables, documents, and the metadata and coordinates of the Zarr group, by name within the generation.
    sources : tuple of StoredSource
    """

    files: dict[str, Record] = field(default_factory=dict)
    sources: tuple[StoredSource, ...] = ()

    def file(self, place: Place, version: Version, name: str) -> Record:
        """Return the record of a file.

        Raises
        ------
        StoreError
            If the version has none of that name.
        """
        if name not in self.files:
            raise StoreError(f"{place.name_of(f'{version.generation}/{name}')} is missing from the store. {RESTORE}")
        return self.files[name]

    def described(self) -> dict[str, Any]:
        """Return the description of the version as JSON."""
        return {
            "files": {name: record_json(record) for name, record in sorted(self.files.items())},
            "sources": [source.as_json() for source in self.sources],
        }

    @staticmethod
    def from_description(place: Place, data: bytes, where: str, chunks: pl.DataFrame) -> Contents:
        """Rebuild from the description and the table of chunks.

        Raises
        ------
        StoreError
            If they contradict each other.
        """
        said = decode_json(data, where)
        files = {name: record_of(given) for name, given in said["files"].items()}
        return Contents(files, tuple(_source(place, about, chunks, where) for about in said["sources"]))


def _source(place: Place, about: dict[str, Any], chunks: pl.DataFrame, where: str) -> StoredSource:
    rows, processings, width = about["shape"]
    a, b, c = about["chunk"]
    grid = Grid((rows, processings, width), (a, b, c), np.dtype(about["dtype"]))
    mine = chunks.filter(pl.col("source") == about["folder"])
    if mine.height != np.prod(grid.counts):
        raise StoreError(
            f"{where} has {mine.height} chunks of source {about['name']!r} instead of {np.prod(grid.counts)}. {RESTORE}"
        )
    table = ChunkTable(mine["generation"].to_numpy(), mine["size"].to_numpy(), mine["crc32c"].to_numpy(), mine["xxh3"])
    folder = f"features.zarr/{about['folder']}/spectra"
    return StoredSource(
        about["name"],
        about["folder"],
        tuple(about["processings"]),
        np.array(about["wavelength"], about["wavelength_dtype"]),
        about["attrs"],
        about["segments"],
        StoredArray(place, folder, grid, about["compression"], table, about["inner_rows"]),
    )


def chunk_table(sources: Sequence[StoredSource]) -> pl.DataFrame:
    """Return what is recorded of all chunks as one table."""
    parts = [pl.DataFrame(schema=CHUNKS)]
    for source in sources:
        keys = np.array(list(source.array.grid), np.uint32).reshape(-1, 3)
        table = source.array.table
        parts.append(
            pl.DataFrame(
                {
                    "source": [source.folder] * len(keys),
                    "row": keys[:, 0],
                    "processing": keys[:, 1],
                    "wavelength": keys[:, 2],
                    "generation": table.generation,
                    "size": table.size,
                    "crc32c": table.crc32c,
                    "xxh3": table.content,
                },
                schema=CHUNKS,
            )
        )
    return pl.concat(parts)


def contents_of_format_1(place: Place, version: Version) -> Contents:
    """Rebuild the contents of a version that was saved in format 1.

    Raises
    ------
    StoreError
        If a file is missing or damaged.
    """
    assert version.old is not None
    store = f"{version.generation}/features.zarr"
    known = {
        name: Record(name, int(about["size"]), int(about["crc32c"], 16)) for name, about in version.old["files"].items()
    }

    def load(name: str) -> Any:
        if name not in known:
            raise StoreError(f"{place.name_of(name)} is missing from the store. {RESTORE}")
        return decode_json(fetch(place, known[name]), place.name_of(name))

    compression = version.old["compression"]
    sources = []
    for folder in load(f"{store}/zarr.json")["attributes"]["groups"]:
        said = load(f"{store}/{folder}/zarr.json")
        attrs, nodes = said["attributes"], said["consolidated_metadata"]["metadata"]
        meta, axis = nodes["spectra"], nodes["wavelength"]
        rows, processings, width = meta["shape"]
        dtype = np.dtype(meta["data_type"]).newbyteorder("<")
        inner = 1
        if compression is None:
            chunk = (rows, processings, width)
            inner = meta["codecs"][0]["configuration"]["chunk_shape"][0]
        else:
            a, b, c = meta["chunk_grid"]["configuration"]["chunk_shape"]
            chunk = (a, b, c)
        grid = Grid((rows, processings, width), chunk, dtype)
        array_folder = f"features.zarr/{folder}/spectra"
        names = [f"{store}/{folder}/spectra/c/{i}/{p}/{j}" for i, p, j in grid]
        lost = next((name for name in names if name not in known), None)
        if lost is not None:
            raise StoreError(f"{place.name_of(lost)} is missing from the store. {RESTORE}")
        table = ChunkTable(
            np.full(len(names), version.number, np.uint32),
            np.array([known[name].size for name in names], np.uint64),
            np.array([known[name].crc32c for name in names], np.uint32),
            pl.Series("xxh3", [None] * len(names), pl.Binary),
        )
        name = f"{store}/{folder}/wavelength/c/0"
        values = fetch(place, known[name]) if axis["shape"] != [0] else b""
        sources.append(
            StoredSource(
                attrs["source"],
                folder,
                tuple(attrs["processings"]),
                np.frombuffer(values, np.dtype(axis["data_type"]).newbyteorder("<")),
                attrs["source_attrs"],
                attrs["segments"],
                StoredArray(place, array_folder, grid, compression, table, inner),
            )
        )
    files = {name.partition("/")[2]: record for name, record in known.items() if "/spectra/c/" not in name}
    return Contents(files, tuple(sources))
