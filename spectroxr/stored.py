"""Spectra in a store, read chunk by chunk as they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spectroxr.chunks import ChunkTable, Grid, Key, decode
from spectroxr.errors import StoreError
from spectroxr.gather import Picks, run_of
from spectroxr.manifest import RESTORE
from spectroxr.place import Place, Record, fetch
from spectroxr.rawshard import RawShard
from spectroxr.schema import Array
from spectroxr.threads import in_threads

__all__ = ["StoredArray", "StoredPlane"]

#: Rows of an uncompressed array that lie at most this many bytes apart are read in one go.
_GAP_BYTES = 1 << 16


@dataclass(frozen=True, eq=False)
class StoredArray:
    """The spectra of one source in one version of a store.

    Attributes
    ----------
    place : Place
    folder : str
        Of the Zarr array, without the generation.
    grid : Grid
    compression : str or None
        None: each chunk is a `RawShard`.
    table : ChunkTable
    inner_rows : int
        Rows of an inner chunk of a raw shard.
    """

    place: Place
    folder: str
    grid: Grid
    compression: str | None
    table: ChunkTable
    inner_rows: int = 1

    @property
    def shard(self) -> RawShard:
        """What an uncompressed chunk looks like."""
        rows, processings, width = self.grid.chunk
        return RawShard((rows, processings, width), self.grid.dtype, self.inner_rows)

    def plane(self, position: int) -> StoredPlane:
        """Return one processing."""
        return StoredPlane(self, position)

    def record(self, key: Key) -> Record:
        """Return what is recorded of a chunk."""
        return self.table.record(self.grid.number(key), self.folder, key)

    def find(self, key: Key) -> Record | None:
        """Return what is recorded of a chunk, None if the grid has none there."""
        if not all(k < n for k, n in zip(key, self.grid.counts, strict=True)):
            return None
        return self.record(key)

    def maps(self) -> list[Array]:
        """Map the uncompressed chunks of a local store, each ``(row, processing, wavelength)``, read-only.

        Raises
        ------
        StoreError
            If a file is missing, has another size, or its index is damaged.
        """
        rows, processings, width = self.grid.shape
        each, shard = max(1, self.grid.chunk[1]), self.shard
        if not all(self.grid.counts):
            sizes = [min(each, processings - first) for first in range(0, processings, each)]
            return [np.empty((rows, size, width), self.grid.dtype) for size in sizes]
        found = []
        for key in self.grid:
            path = self.place.name_of(self.table.name(self.grid.number(key), self.folder, key))
            try:
                found.append(shard.map(path))
            except (FileNotFoundError, NotADirectoryError) as error:
                raise StoreError(f"{path} is missing from the store. {RESTORE}") from error
        return found

    def read(self, rows: Picks, positions: Sequence[int], bands: Picks, out: Array, workers: int | None = None) -> None:
        """Read cells into `out`, shape ``(n, processing, wavelength)``; only the chunks that hold them are read.

        Parameters
        ----------
        rows, bands : slice or ndarray of intp
        positions : sequence of int
            Along the processings of this array.
        out : ndarray
            Of any strides; written in full.
        workers : int, optional
            How many chunks at a time (default: as many as are worth it there).

        Raises
        ------
        StoreError
            If a chunk is missing or damaged; the message names it.
        """
        if not out.size:
            return
        which = np.arange(self.grid.shape[0])[rows] if isinstance(rows, slice) else rows
        columns = np.arange(self.grid.shape[2])[bands] if isinstance(bands, slice) else bands
        if self.compression is None:
            each = self.grid.chunk[1]
            for group in sorted({position // each for position in positions}):
                some = [k for k, position in enumerate(positions) if position // each == group]
                self._read_raw(which, group, [(k, positions[k] % each) for k in some], columns, out)
            return
        jobs: list[tuple[Key, Array, Array, Array]] = []
        step, width = self.grid.chunk[0], self.grid.chunk[2]
        by_row, by_band = which // step, columns // width
        for k, position in enumerate(positions):
            for i in np.unique(by_row):
                lines = np.flatnonzero(by_row == i)
                for j in np.unique(by_band):
                    jobs.append(((int(i), position, int(j)), lines, np.flatnonzero(by_band == j), out[:, k]))

        def one(job: tuple[Key, Array, Array, Array]) -> None:
            key, lines, cols, target = job
            local_rows, local_bands = which[lines] - key[0] * step, columns[cols] - key[2] * width
            self._place_chunk(key, local_rows, local_bands, _window(target, lines, cols))

        in_threads(one, jobs, workers or self.place.workers)

    def _place_chunk(self, key: Key, rows: Array, bands: Array, target: tuple[Array, Any]) -> None:
        """Decode a chunk and put some of it where it belongs."""
        shape = (self.grid.chunk[0], self.grid.chunk[2])
        record = self.record(key)
        data = fetch(self.place, record)
        name = self.place.name_of(record.key)
        array, index = target
        some, run = run_of(rows), run_of(bands)
        if (some, run) == (slice(0, shape[0], 1), slice(0, shape[1], 1)) and isinstance(index[0], slice):
            view = array[index]
            if view.flags.c_contiguous and view.dtype == self.grid.dtype:
                decode(data, view, name)
                return
        chunk = np.empty(shape, self.grid.dtype)
        decode(data, chunk, name)
        picked = chunk[some] if some is not None else chunk[rows]
        array[index] = picked[:, run] if run is not None else picked[:, bands]

    def _read_raw(self, rows: Array, group: int, picks: Sequence[tuple[int, int]], bands: Array, out: Array) -> None:
        """Read rows of an uncompressed chunk by ranges, neighbouring ones together.

        `picks` pairs positions in `out` with positions among the processings of the chunk.
        """
        size, width = self.grid.dtype.itemsize, self.grid.shape[2]
        line = self.grid.chunk[1] * width
        record = self.record((0, group, 0))
        wanted, back = np.unique(rows, return_inverse=True)
        offsets = np.array([position * width for _, position in picks])
        low = int(offsets.min() + bands.min())
        length = int(offsets.max() + bands.max()) + 1 - low
        starts = (wanted * line + low) * size
        stops = starts + length * size
        cuts = np.flatnonzero(starts[1:] - stops[:-1] > _GAP_BYTES) + 1
        firsts, lasts = np.r_[0, cuts], np.r_[cuts, len(wanted)] - 1
        try:
            parts = self.place.read_ranges(record.key, starts[firsts].tolist(), stops[lasts].tolist())
        except FileNotFoundError as error:
            raise StoreError(f"{self.place.name_of(record.key)} is missing from the store. {RESTORE}") from error
        values = np.empty((len(wanted), length), self.grid.dtype)
        for part, first, last in zip(parts, firsts, lasts, strict=True):
            if len(part) != stops[last] - starts[first]:
                raise StoreError(f"{self.place.name_of(record.key)} is shorter than it was saved. {RESTORE}")
            for n in range(first, last + 1):
                values[n] = np.frombuffer(part, self.grid.dtype, length, int(starts[n] - starts[first]))
        for (k, _), offset in zip(picks, offsets, strict=True):
            out[:, k] = values[:, offset + bands - low][back]


def _window(target: Array, lines: Array, cols: Array) -> tuple[Array, Any]:
    """Return how to index `target` for some lines and columns: by slices where they are runs."""
    some, run = run_of(lines), run_of(cols)
    if some is not None and run is not None:
        return target, (some, run)
    if some is not None:
        return target, (some, cols)
    if run is not None:
        return target, (lines, run)
    return target, (lines[:, None], cols)


@dataclass(frozen=True, eq=False)
class StoredPlane:
    """One processing of a stored array: it has a shape and a dtype, and is read when it is sliced.

    Attributes
    ----------
    array : StoredArray
    position : int
    """

    array: StoredArray
    position: int

    @property
    def shape(self) -> tuple[int, int]:
        """(row, wavelength)."""
        return (self.array.grid.shape[0], self.array.grid.shape[2])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values, in native byte order."""
        return self.array.grid.dtype.newbyteorder("=")

    @property
    def ndim(self) -> int:
        """Two."""
        return 2

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, rows: Picks, bands: Picks, out: Array) -> None:
        """Read cells into `out`, shape ``(n, wavelength)``."""
        self.array.read(rows, [self.position], bands, out[:, None, :])

    def __getitem__(self, key: Any) -> Array:
        """Return rows, or rows and wavelengths, as a fresh array; slices only."""
        rows, bands = key if isinstance(key, tuple) else (key, slice(None))
        rows, bands = (slice(*one.indices(size)) for one, size in zip((rows, bands), self.shape, strict=True))
        shape = tuple(len(range(*one.indices(size))) for one, size in zip((rows, bands), self.shape, strict=True))
        out = np.empty(shape, self.dtype)
        # who slices a plane, Dask above all, does several at a time already; only a bucket is worth waiting for at once
        place = self.array.place
        self.array.read(rows, [self.position], bands, out[:, None, :], 1 if place.links else place.workers)
        return out
