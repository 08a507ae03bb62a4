"""Spectra uncompressed in one file: the raw shard of Zarr, written without and mapped with no copy.

The file is at once one C-ordered (row, processing, wavelength) block at offset 0 and a valid Zarr shard:
the inner chunks are full-width blocks of rows, so they lie one after the other; the index (offset and size
of each, little-endian u64) and its CRC32C follow. The last inner chunk is padded with zeros.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, BinaryIO

import numpy as np

from spectroxr.errors import StoreError
from spectroxr.manifest import RESTORE, checksum
from spectroxr.schema import Array

__all__ = ["RawShard", "write_planes"]

_INNER_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 23


def _blocks(planes: Sequence[Any], dtype: np.dtype[Any]) -> Iterator[Array]:
    """Yield the planes as C-ordered (row, processing, wavelength) blocks; each is valid until the next."""
    rows, width = planes[0].shape
    step = max(1, _BLOCK_BYTES // max(1, len(planes) * width * dtype.itemsize))
    first = planes[0]
    if len(planes) == 1 and isinstance(first, np.ndarray) and first.flags.c_contiguous and first.dtype == dtype:
        for start in range(0, rows, step):
            yield first[start : start + step, None, :]
        return
    whole = _one_block(planes, dtype)
    if whole is not None:
        for start in range(0, rows, step):
            yield whole[start : start + step]
        return
    scratch = np.empty((min(step, rows), len(planes), width), dtype)
    for start in range(0, rows, step):
        block = scratch[: min(step, rows - start)]
        for number, plane in enumerate(planes):
            part = plane[start : start + step]
            if part.shape != (len(block), width):
                raise ValueError(
                    f"rows {start} to {start + len(block) - 1} of processing {number} have shape {part.shape} instead "
                    f"of {(len(block), width)}."
                )
            block[:, number] = part
        yield block


def _one_block(planes: Sequence[Any], dtype: np.dtype[Any]) -> Array | None:
    """Return the C-ordered block that planes are views of side by side, or None."""
    if not all(isinstance(plane, np.ndarray) and plane.dtype == dtype and plane.size for plane in planes):
        return None
    (rows, width), count = planes[0].shape, len(planes)
    places = [plane.__array_interface__["data"][0] for plane in planes]
    line = width * dtype.itemsize
    steps = {tuple(plane.strides) for plane in planes}
    if steps != {(count * line, dtype.itemsize)} or places != [places[0] + k * line for k in range(count)]:
        return None
    if not all(plane.base is not None and np.may_share_memory(plane, planes[0].base) for plane in planes):
        return None
    strides = (count * line, line, dtype.itemsize)
    return np.lib.stride_tricks.as_strided(planes[0], (rows, count, width), strides, writeable=False)


def write_planes(file: BinaryIO, planes: Sequence[Array], dtype: np.dtype[Any], crc: int = 0) -> int:
    """Write planes as one C-ordered (row, processing, wavelength) block, a few megabytes at a time.

    Parameters
    ----------
    file : binary file
        Written at its position.
    planes : sequence of ndarray
        One (row, wavelength) array per processing, of any strides.
    dtype : dtype
        As which to write them.
    crc : int
        CRC32C of what the file has already.

    Returns
    -------
    int
        CRC32C of the file up to and with the block.
    """
    for block in _blocks(planes, dtype):
        file.write(block.data)
        crc = checksum(block, crc)
    return crc


@dataclass(frozen=True)
class RawShard:
    """The raw shard of an array.

    Attributes
    ----------
    shape : tuple of int
        Of the array: (row, processing, wavelength).
    dtype : dtype
        Little-endian.
    inner_rows : int
        Rows per inner chunk.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    inner_rows: int

    @classmethod
    def fitted(cls, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> RawShard:
        """Choose inner chunks of about 1 MB that leave the least to pad."""
        rows = shape[0]
        most = max(1, _INNER_BYTES // max(1, prod(shape[1:]) * dtype.itemsize))
        count = max(1, -(-rows // most))
        return cls(shape, dtype, max(1, -(-rows // count)))

    @property
    def inner_shape(self) -> tuple[int, int, int]:
        """Shape of an inner chunk as Zarr has it."""
        return (self.inner_rows, max(1, self.shape[1]), max(1, self.shape[2]))

    @property
    def shard_shape(self) -> tuple[int, int, int]:
        """Shape of the shard as Zarr has it: the array, up to a whole inner chunk."""
        inner = self.inner_shape
        return (max(1, self._count) * inner[0], inner[1], inner[2])

    @property
    def _count(self) -> int:
        return -(-self.shape[0] // self.inner_rows)

    @property
    def _inner_bytes(self) -> int:
        return prod(self.inner_shape) * self.dtype.itemsize

    def _index(self) -> bytes:
        return _index(self._count, self._inner_bytes)

    def parts(self, planes: Sequence[Any]) -> Iterator[Any]:
        """Yield the file piece by piece; each piece is valid until the next.

        Parameters
        ----------
        planes : sequence of ndarray, or of what gives one when sliced
            One (row, wavelength) array per processing, of any strides.
        """
        yield from _blocks(planes, self.dtype)
        yield bytes(self._count * self._inner_bytes - prod(self.shape) * self.dtype.itemsize)
        yield self._index()

    def digest(self, planes: Sequence[Any]) -> bytes:
        """Return the XXH3-128 of the values, as they lie in the file."""
        import xxhash

        state = xxhash.xxh3_128()
        for block in _blocks(planes, self.dtype):
            state.update(block.data)
        return state.digest()

    def map(self, path: str) -> Array:
        """Map the file read-only.

        Returns
        -------
        ndarray
            The whole array; its pages are read when they are first used.

        Raises
        ------
        StoreError
            If the file has another size, or its index is damaged.
        """
        end, index = self._count * self._inner_bytes, self._index()
        # not numpy.memmap, which takes longer than all else: a store that has grown has hundreds of such files
        descriptor = os.open(path, os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            if size != end + len(index):
                raise StoreError(f"{path} has {size} bytes instead of {end + len(index)}. {RESTORE}")
            if os.pread(descriptor, len(index), end) != index:
                raise StoreError(f"{path} is damaged: the index at its end does not match. {RESTORE}")
            whole = mmap.mmap(descriptor, end, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
        return np.ndarray(self.shape, self.dtype, whole)


@lru_cache(maxsize=64)
def _index(count: int, size: int) -> bytes:
    """Return the index of so many inner chunks of `size` bytes: those of a source that grew have the same."""
    index = np.empty((count, 2), "<u8")
    index[:, 0] = np.arange(count, dtype="<u8") * np.uint64(size)
    index[:, 1] = size
    data = index.tobytes()
    return data + checksum(data).to_bytes(4, "little")
