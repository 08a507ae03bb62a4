"""What a version of a store consists of: its files, its sources, and where each chunk of their spectra is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import polars as pl

from spectroxr.chunks import ChunkTable, Grid
from spectroxr.description import FORGED
from spectroxr.errors import StoreError
from spectroxr.history import Version, record_json, record_of
from spectroxr.manifest import RESTORE, decode_json
from spectroxr.parts import Part
from spectroxr.place import Place, Record, fetch
from spectroxr.schema import Array
from spectroxr.stored import StoredArray

__all__ = ["Contents", "StoredSource", "chunk_table", "contents_of_format_1"]


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
    tables : dict of str to tuple of Part
        The parts of each table; a table that is not named is in one file. So are all before format 3.
    """

    files: dict[str, Record] = field(default_factory=dict)
    sources: tuple[StoredSource, ...] = ()
    tables: dict[str, tuple[Part, ...]] = field(default_factory=dict)

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
            "tables": {name: [part.as_json() for part in parts] for name, parts in self.tables.items()},
            "sources": [source.as_json() for source in self.sources],
        }

    @staticmethod
    def from_description(place: Place, said: dict[str, Any], where: str, chunks: pl.DataFrame) -> Contents:
        """Rebuild from the description, as `described` returns it, and the table of chunks.

        Raises
        ------
        StoreError
            If they contradict each other.
        """
        files = {name: record_of(given) for name, given in said["files"].items()}
        if dict(chunks.schema) != CHUNKS:
            raise StoreError(f"{where} has a table of chunks with {chunks.schema}, not {CHUNKS}. {RESTORE}")
        if any(chunks[name].null_count() for name in CHUNKS if name != "xxh3"):
            raise StoreError(f"{where} has a table of chunks with nulls. {RESTORE}")
        folders = {about["folder"] for about in said["sources"]}
        if strange := sorted(set(chunks["source"].unique()) - folders):
            raise StoreError(f"{where} has chunks of {strange[0]!r}, which is no folder of a source. {RESTORE}")
        sources = tuple(_source(place, about, chunks, where) for about in said["sources"])
        tables = {name: tuple(map(Part.from_json, parts)) for name, parts in said.get("tables", {}).items()}
        return Contents(files, sources, tables)


def _source(place: Place, about: dict[str, Any], chunks: pl.DataFrame, where: str) -> StoredSource:
    m, p, n = about["shape"]
    a, b, c = about["chunk"]
    grid = Grid((m, p, n), (a, b, c), np.dtype(about["dtype"]))
    mine = chunks[(chunks["source"] == about["folder"]).arg_true()]
    count = prod(grid.counts)
    if mine.height != count:
        raise StoreError(f"{where} has {mine.height} chunks of source {about['name']!r} instead of {count}. {RESTORE}")
    rows, processings, widths = grid.counts
    at_each = np.indices((processings, rows, widths), np.uint32)
    for name, at in zip(("processing", "row", "wavelength"), at_each, strict=True):
        if not np.array_equal(mine[name].to_numpy(), at.ravel()):
            raise StoreError(f"{where} has the chunks of source {about['name']!r} in another order. {RESTORE}")
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
        If a file is missing or damaged, or does not say what it is for.
    """
    try:
        return _contents_of_format_1(place, version)
    except StoreError:
        raise
    except FORGED as error:
        raise StoreError(
            f"{place.name_of(version.generation)} has a manifest or a Zarr group that does not say what the version "
            f"consists of ({type(error).__name__}: {error}). {RESTORE}"
        ) from error


def _contents_of_format_1(place: Place, version: Version) -> Contents:
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
