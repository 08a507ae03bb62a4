"""Writing the spectra of a source: chunk by chunk, or uncompressed as blocks that can be mapped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from spectroxr.chunks import Grid, Key, chunk_name, fitted
from spectroxr.errors import StoreError
from spectroxr.generation import (
    Chunk,
    ChunkWriter,
    Generation,
    WrittenLater,
    compatible,
    holds,
    known,
    lasts,
    table_of,
)
from spectroxr.lazyplane import DaskPlane
from spectroxr.manifest import RESTORE, checksum
from spectroxr.place import Record
from spectroxr.rawshard import RawShard
from spectroxr.snapshot import SourceSnapshot
from spectroxr.stored import StoredArray, StoredPlane

__all__ = ["write_spectra"]


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
    if previous is not None and not compatible(previous, out.place, folder, grid, compression):
        previous = None
    writer = ChunkWriter(out.place, out.name, folder, grid, compression, previous, out.trusted)
    found: dict[Key, Future[Chunk]] = {}
    lazy = [k for k, plane in enumerate(source.planes) if isinstance(plane, DaskPlane)]
    for key in grid:
        if key[1] not in lazy:
            found[key] = out.work.start(writer.chunk, key, source.planes[key[1]])
    for position in lazy:
        for key, chunk in source.planes[position].write_chunks(writer, position).items():
            found[key] = known(chunk)
    return WrittenLater(StoredArray(out.place, folder, grid, compression, table_of([])), found)


def _write_raw(
    out: Generation,
    source: SourceSnapshot,
    folder: str,
    previous: StoredArray | None,
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
) -> WrittenLater:
    """Begin to write spectra uncompressed: one block of all processings, or blocks of fewer in a source that grew."""
    old = previous.grid if previous is not None and previous.compression is None else None
    tried = [shape[1]]
    if old is not None and (old.shape[0], old.shape[2], old.dtype) == (shape[0], shape[2], dtype):
        # a source that grows is written anew once, and what is added later beside it
        tried = [1] if shape[1] % old.chunk[1] else [old.chunk[1], shape[1]]
    for groups in dict.fromkeys(tried):
        stays = _staying(out, source, folder, previous, groups)
        if stays:
            break
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
                found[key] = known(Chunk(shared, record.size, record.crc32c, record.content, number, False))
                continue
        group = slice(key[1] * groups, (key[1] + 1) * groups)
        origin = _origin(source.stored[group], group.start)
        found[key] = out.work.start(_write_shard, out, name, shard, key, source.planes[group], origin)
    return WrittenLater(StoredArray(out.place, folder, grid, None, table_of([]), shard.inner_rows), found)


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
            if old is origin and lasts(out.place, previous, old, key):
                found[key] = record
                break
            if record.content is not None:
                content = shard.digest(source.planes[some])
                _check_read(origin, shard, key, content)
                if holds(out.place, record, content):
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
