"""Writing one version: what is new of its spectra, tables and documents; the rest is shared with the one before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from spectroxr.chunks import ChunkTable, Grid, Key, chunk_name, digest, encode, fitted
from spectroxr.errors import StoreError
from spectroxr.lazyplane import DaskPlane
from spectroxr.manifest import RESTORE, checksum
from spectroxr.place import Place, Record, fetch, generation_name
from spectroxr.rawshard import RawShard
from spectroxr.schema import Array
from spectroxr.snapshot import SourceSnapshot
from spectroxr.stored import StoredArray, StoredPlane
from spectroxr.threads import Work

__all__ = ["Generation", "WrittenLater", "write_spectra"]

FEATURES = "features.zarr"


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
        if share and old is not None and old.content == content and old.size == len(data):
            with contextlib.suppress(FileNotFoundError, StoreError):
                if self.place.links:
                    fetch(self.place, old)  # what is damaged is not shared but written again
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
        return replace(self.array, table=_table(ordered))


def _compatible(stored: StoredArray, place: Place, folder: str, grid: Grid, compression: str | None) -> bool:
    """Tell whether chunks of `stored` can be chunks of an array on `grid`."""
    return (
        stored.place == place
        and stored.folder == folder
        and stored.compression == compression
        and stored.grid.dtype == grid.dtype
        and stored.grid.chunk == grid.chunk
        and stored.grid.shape[2] == grid.shape[2]
    )


def write_spectra(
    out: Generation,
    source: SourceSnapshot,
    folder: str,
    previous: StoredArray | None,
    compression: str | None,
    chunks: Mapping[str, int],
) -> WrittenLater:
    """Begin to write the spectra of a source; those that Dask computes are there when this returns.

    Parameters
    ----------
    out : Generation
    source : SourceSnapshot
        Its planes may lie in a store, also in the one that is written to, or be computed by Dask.
    folder : str
        Of the Zarr array, without the generation.
    previous : StoredArray or None
        The same source in the version before, its processings in the same order as far as it has them.
    compression : str or None
    chunks : mapping
        Sizes of chunks that the caller wants.

    Returns
    -------
    WrittenLater
        Where the spectra will be.
    """
    (rows, width), count = source.planes[0].shape, len(source.planes)
    shape, dtype = (rows, count, width), source.planes[0].dtype.newbyteorder("<")
    if compression is None:
        return _write_raw(out, source, folder, previous, shape, dtype)
    same = previous is not None and previous.compression == compression and previous.grid.dtype == dtype
    grid = Grid(shape, fitted(shape, dtype, chunks, previous.grid if previous is not None and same else None), dtype)
    if previous is not None and not _compatible(previous, out.place, folder, grid, compression):
        previous = None
    writer = ChunkWriter(out.place, out.name, folder, grid, compression, previous, out.trusted)
    found: dict[Key, Future[Chunk]] = {}
    lazy = [k for k, plane in enumerate(source.planes) if isinstance(plane, DaskPlane)]
    for key in grid:
        if key[1] not in lazy:
            found[key] = out.work.start(writer.chunk, key, source.planes[key[1]])
    for position in lazy:
        for key, chunk in source.planes[position].write_chunks(writer, position).items():
            found[key] = _known(chunk)
    return WrittenLater(StoredArray(out.place, folder, grid, compression, _table([])), found)


def _known(chunk: Chunk) -> Future[Chunk]:
    future: Future[Chunk] = Future()
    future.set_result(chunk)
    return future


def _lasts(place: Place, previous: StoredArray | None, stored: StoredArray, key: Key) -> bool:
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


def _table(records: list[Any]) -> ChunkTable:
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
            at_home = _compatible(there, self.place, self.folder, self.grid, self.compression)
            home = self.trusted and at_home and plane.position == key[1]
            if full and home and _lasts(self.place, self.previous, there, key):
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
        """Write a chunk from its values, or share it if the version before has the same."""
        block = self._padded(values)
        content = digest(block)
        old = self._before(key)
        if old is not None and old.content == content:
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


def _write_raw(
    out: Generation,
    source: SourceSnapshot,
    folder: str,
    previous: StoredArray | None,
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
) -> WrittenLater:
    """Begin to write spectra uncompressed: one block of all processings, or one per group where these stay."""
    old = previous.grid if previous is not None and previous.compression is None else None
    stays: dict[Key, Record] = {}
    groups = shape[1]
    if old is not None and (old.shape[0], old.shape[2], old.dtype) == (shape[0], shape[2], dtype):
        groups = old.chunk[1] if shape[1] % old.chunk[1] == 0 else shape[1]
        stays = _staying(out, source, folder, previous, groups)
    if not stays:
        groups = shape[1]
        stays = _staying(out, source, folder, previous, groups)
    shard = RawShard.fitted((shape[0], groups, shape[2]), dtype)
    grid = Grid(shape, shard.shape, dtype)
    found: dict[Key, Future[Chunk]] = {}
    for key in grid:
        name = f"{out.name}/{folder}/{chunk_name(key)}"
        if key in stays:
            record = stays[key]
            with contextlib.suppress(FileNotFoundError):
                shared = out.place.share(name, record.key, record.size)
                number = int(shared.partition("/")[0])
                found[key] = _known(Chunk(shared, record.size, record.crc32c, record.content, number, False))
                continue
        group = slice(key[1] * groups, (key[1] + 1) * groups)
        origin = _origin(source.stored[group], group.start)
        found[key] = out.work.start(_write_shard, out, name, shard, key, source.planes[group], origin)
    return WrittenLater(StoredArray(out.place, folder, grid, None, _table([]), shard.inner_rows), found)


def _write_shard(
    out: Generation, name: str, shard: RawShard, key: Key, planes: Sequence[Any], origin: StoredArray | None
) -> Chunk:
    tally = _Tally(shard)
    out.place.write(name, tally.through(planes))
    _check_read(origin, shard, key, tally.content)
    return Chunk(name, tally.size, tally.crc32c, tally.content, out.number)


def _check_read(origin: StoredArray | None, shard: RawShard, key: Key, content: bytes) -> None:
    """Raise StoreError if spectra that were read from a store are not what was saved there."""
    if origin is None or (origin.compression, origin.grid.chunk, origin.grid.dtype) != (None, shard.shape, shard.dtype):
        return
    record = origin.record(key)
    if record.content not in (None, content):
        raise StoreError(f"{origin.place.name_of(record.key)} is damaged: it does not hold what was saved. {RESTORE}")


def _staying(
    out: Generation, source: SourceSnapshot, folder: str, previous: StoredArray | None, groups: int
) -> dict[Key, Record]:
    """Return the uncompressed chunks of the store that hold groups of planes as they are now."""
    (rows, width), dtype = source.planes[0].shape, source.planes[0].dtype.newbyteorder("<")
    shard = RawShard.fitted((rows, groups, width), dtype)
    found = {}
    for key in Grid((rows, len(source.planes), width), shard.shape, dtype):
        some = slice(key[1] * groups, (key[1] + 1) * groups)
        origin = _origin(source.stored[some], some.start)
        for old in (origin, previous) if out.trusted else (previous,):
            if (
                old is None
                or (old.place, old.folder, old.compression) != (out.place, folder, None)
                or (old.grid.chunk, old.grid.dtype, old.inner_rows) != (shard.shape, dtype, shard.inner_rows)
                or key[1] >= old.grid.counts[1]
            ):
                continue
            record = old.record(key)
            if old is origin and _lasts(out.place, previous, old, key):
                found[key] = record
                break
            if record.content is not None:
                content = shard.digest(source.planes[some])
                _check_read(origin, shard, key, content)
                if record.content == content:
                    found[key] = record
                    break
    return found


def _origin(planes: Sequence[StoredPlane | None], first: int) -> StoredArray | None:
    """Return the array that planes are, unchanged, the processings of from `first` on, or None."""
    if not planes or planes[0] is None:
        return None
    array = planes[0].array
    for position, plane in enumerate(planes, first):
        if plane is None or plane.array is not array or plane.position != position:
            return None
    return array


class _Tally:
    """Counts and hashes the pieces of a raw shard on their way."""

    def __init__(self, shard: RawShard) -> None:
        import xxhash

        self._shard, self._state = shard, xxhash.xxh3_128()
        self.size = self.crc32c = 0

    @property
    def content(self) -> bytes:
        """XXH3-128 of the values."""
        return bytes(self._state.digest())

    def through(self, planes: Sequence[Any]) -> Iterator[Any]:
        """Yield the pieces of the shard."""
        for part in self._shard.parts(planes):
            if isinstance(part, np.ndarray):
                self._state.update(part.data)
            self.crc32c = checksum(part, self.crc32c)
            self.size += memoryview(part).nbytes
            yield part
