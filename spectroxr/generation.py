"""One version while it is written: its files and chunks, shared with the version before where they are the same."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from spectroxr.chunks import ChunkTable, Grid, Key, chunk_name, digest, encode
from spectroxr.errors import StoreError
from spectroxr.manifest import RESTORE, checksum
from spectroxr.place import Place, Record, fetch, generation_name, intact
from spectroxr.schema import Array
from spectroxr.stored import StoredArray, StoredPlane
from spectroxr.threads import Work

__all__ = ["Chunk", "ChunkWriter", "Generation", "WrittenLater", "compatible", "holds", "known", "lasts", "table_of"]


@dataclass
class Generation:
    """A version while it is written.

    Attributes
    ----------
    place : Place
    number : int
    known : mapping of str to Record
        The files of the version before, by name.
    work : Work
        Writes everything; when it has finished, what was recorded is there.
    trusted : bool
        Whether the store still has the version that the snapshot comes from, so that chunks of that can be shared by
        their names.
    files : dict of str to Record
        Those of this version.
    written : int
        Bytes that were written, without what is shared.
    """

    place: Place
    number: int
    known: Mapping[str, Record]
    work: Work
    trusted: bool = True
    files: dict[str, Record] = field(default_factory=dict)
    written: int = 0

    @property
    def name(self) -> str:
        """Folder of the generation."""
        return generation_name(self.number)

    def add(self, name: str, data: bytes, share: bool = True) -> Record:
        """Share a file if the version before has the same and `share` allows it, else begin to write it."""
        content = digest(data)
        old = self.known.get(name)
        if share and old is not None and old.size == len(data) and holds(self.place, old, content):
            with contextlib.suppress(FileNotFoundError):
                return self.share(name, old)
        self.files[name] = record = Record(f"{self.name}/{name}", len(data), checksum(data), content)
        self.work.start(self.place.write, record.key, [data])
        self.written += len(data)
        return record

    def share(self, name: str, old: Record) -> Record:
        """Let a file be one of an earlier version.

        Raises
        ------
        FileNotFoundError
            If that is not there.
        """
        shared = self.place.share(f"{self.name}/{name}", old.key, old.size)
        self.files[name] = record = Record(shared, old.size, old.crc32c, old.content)
        return record


@dataclass(frozen=True)
class WrittenLater:
    """The spectra of a source while they are written.

    Attributes
    ----------
    array : StoredArray
        All but what is recorded of its chunks.
    chunks : dict of Key to Future
        Of all of them.
    """

    array: StoredArray
    chunks: Mapping[Key, Future[Chunk]]

    def stored(self, out: Generation) -> StoredArray:
        """Return the array when all chunks are there, and count what was written."""
        ordered = [self.chunks[key].result() for key in self.array.grid]
        out.written += sum(record.size for record in ordered if record.fresh)
        return replace(self.array, table=table_of(ordered))


def compatible(stored: StoredArray, place: Place, folder: str, grid: Grid, compression: str | None) -> bool:
    """Tell whether chunks of `stored` can be chunks of an array on `grid`."""
    return (
        stored.place == place
        and stored.folder == folder
        and stored.compression == compression
        and stored.grid.dtype == grid.dtype
        and stored.grid.chunk == grid.chunk
        and stored.grid.shape[2] == grid.shape[2]
    )


def holds(place: Place, old: Record, content: bytes) -> bool:
    """Tell whether a file of the store has this content, so that it can be shared by who has the content in memory.

    What a disk has damaged since it was written is not shared but written again. A bucket answers for its objects.
    """
    return old.content == content and (not place.links or intact(place, old))


def known(chunk: Chunk) -> Future[Chunk]:
    """Return a chunk that is there already as one that was waited for."""
    future: Future[Chunk] = Future()
    future.set_result(chunk)
    return future


def lasts(place: Place, previous: StoredArray | None, stored: StoredArray, key: Key) -> bool:
    """Tell whether a chunk that a plane was loaded from can be shared.

    A link makes sure that it is there. In a bucket, where only a reference is kept, it may have been removed with the
    version it was loaded from, unless the current version has it.
    """
    if place.links:
        return True
    current = None if previous is None else previous.find(key)
    return current is not None and current.key == stored.record(key).key


@dataclass(frozen=True)
class Chunk(Record):
    """A chunk that was written or shared, and the generation that has it."""

    generation: int = 0
    fresh: bool = True


def table_of(records: list[Any]) -> ChunkTable:
    """Return what is recorded of chunks as one table."""
    return ChunkTable(
        np.array([record.generation for record in records], np.uint32),
        np.array([record.size for record in records], np.uint64),
        np.array([record.crc32c for record in records], np.uint32),
        pl.Series("content", [record.content for record in records], pl.Binary),
    )


@dataclass(frozen=True)
class ChunkWriter:
    """Writes chunks of one array; can be sent to another process.

    Attributes
    ----------
    place : Place
    generation, folder : str
    grid : Grid
    compression : str
    previous : StoredArray or None
        Chunks at the same place of it are shared where their content is the same.
    trusted : bool
        As in `Generation`.
    """

    place: Place
    generation: str
    folder: str
    grid: Grid
    compression: str
    previous: StoredArray | None
    trusted: bool

    def _key(self, key: Key) -> str:
        return f"{self.generation}/{self.folder}/{chunk_name(key)}"

    def _number(self, key: str) -> int:
        return int(key.partition("/")[0])

    def chunk(self, key: Key, plane: Any) -> Chunk:
        """Write a chunk of a plane, or share it, or carry it over from another store as it is."""
        if isinstance(plane, StoredPlane):
            moved = (key[0], plane.position, key[2])
            there = plane.array
            full = self.grid.span(key, 0) == there.grid.span(moved, 0)
            at_home = compatible(there, self.place, self.folder, self.grid, self.compression)
            home = self.trusted and at_home and plane.position == key[1]
            if full and home and lasts(self.place, self.previous, there, key):
                try:
                    return self._shared(key, there.record(moved))
                except FileNotFoundError as error:
                    name = self.place.name_of(there.record(moved).key)
                    raise StoreError(f"{name} is missing from the store, or not as it was saved. {RESTORE}") from error
            alike = there.compression == self.compression and there.grid.chunk == self.grid.chunk
            if full and alike and there.grid.dtype == self.grid.dtype and there.grid.shape[2] == self.grid.shape[2]:
                record = there.record(moved)
                old = self._before(key)
                if old is not None and old.content is not None and old.content == record.content:
                    with contextlib.suppress(FileNotFoundError):
                        return self._shared(key, old)
                return self._written(key, fetch(there.place, record), record.content)
        (start, stop), (first, last) = self.grid.span(key, 0), self.grid.span(key, 2)
        return self.block(key, plane[start:stop, first:last])

    def block(self, key: Key, values: Array) -> Chunk:
        """Write a chunk from its values, or share it if the version before has the same.

        Raises
        ------
        ValueError
            If it has not the shape of its place in the grid.
        """
        (start, stop), (first, last) = self.grid.span(key, 0), self.grid.span(key, 2)
        if values.shape != (stop - start, last - first):
            raise ValueError(
                f"rows {start} to {stop - 1}, wavelengths {first} to {last - 1} have shape {values.shape} instead of "
                f"{(stop - start, last - first)}."
            )
        block = self._padded(values)
        content = digest(block)
        old = self._before(key)
        if old is not None and holds(self.place, old, content):
            with contextlib.suppress(FileNotFoundError):
                return self._shared(key, old)
        return self._written(key, encode(block, self.compression), content)

    def _before(self, key: Key) -> Record | None:
        """Return what the version before has at the same place."""
        return None if self.previous is None else self.previous.find(key)

    def _padded(self, values: Array) -> Array:
        shape = (self.grid.chunk[0], self.grid.chunk[2])
        block = np.ascontiguousarray(values, self.grid.dtype)
        if block.shape == shape:
            return block
        # as rows that a processing does not have: so a chunk stays as it is when rows come that it has nothing of
        whole = np.full(shape, np.nan, self.grid.dtype)
        whole[: block.shape[0], : block.shape[1]] = block
        return whole

    def _shared(self, key: Key, record: Record) -> Chunk:
        shared = self.place.share(self._key(key), record.key, record.size)
        return Chunk(shared, record.size, record.crc32c, record.content, self._number(shared), False)

    def _written(self, key: Key, data: bytes, content: bytes | None) -> Chunk:
        name = self._key(key)
        self.place.write(name, [data])
        return Chunk(name, len(data), int.from_bytes(data[-4:], "little"), content, self._number(name))
