"""Spectra compressed, one file per Zarr chunk: Blosc with byte shuffle, then a CRC32C."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from spectroxr.errors import StoreError
from spectroxr.manifest import RESTORE, Files, checksum
from spectroxr.schema import Array

__all__ = ["LEVELS", "ChunkFiles"]

#: The compressors and the level each is used at.
LEVELS = {"zstd": 3, "lz4": 5, "zlib": 1}

_CHUNK_BYTES = 1 << 21

T = TypeVar("T")
R = TypeVar("R")


def _in_threads(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Map over threads; after the first error nothing more is started."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@dataclass(frozen=True)
class ChunkFiles:
    """The compressed chunks of an array.

    Attributes
    ----------
    shape : tuple of int
        Of the array: (row, processing, wavelength).
    dtype : dtype
        Little-endian.
    rows : int
        Rows per chunk; a chunk has one processing and all wavelengths.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    rows: int

    @classmethod
    def fitted(cls, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> ChunkFiles:
        """Choose chunks of about 2 MB."""
        most = max(1, _CHUNK_BYTES // max(1, shape[2] * dtype.itemsize))
        return cls(shape, dtype, max(1, min(most, shape[0])))

    @property
    def chunk_shape(self) -> tuple[int, int, int]:
        """Shape of a chunk as Zarr has it."""
        return (self.rows, 1, max(1, self.shape[2]))

    def codecs(self, compression: str) -> list[Any]:
        """Return the codecs that the chunks are written with, for the metadata of the Zarr array."""
        from zarr.codecs import BloscCodec, Crc32cCodec

        name: Any = compression  # some zarr versions take an enumeration here, all take its text
        blosc = BloscCodec(
            typesize=self.dtype.itemsize,
            cname=name,
            clevel=LEVELS[compression],
            shuffle="shuffle",
        )
        return [blosc, Crc32cCodec()]

    def _keys(self) -> list[tuple[int, int]]:
        if not self.shape[2]:
            return []
        return [(n, p) for n in range(-(-self.shape[0] // self.rows)) for p in range(self.shape[1])]

    def write(self, folder: Path, planes: Sequence[Array], compression: str) -> dict[Path, int]:
        """Write every chunk, several at a time.

        Parameters
        ----------
        folder : Path
            Folder of the Zarr array.
        planes : sequence of ndarray
            One (row, wavelength) array per processing, of any strides.
        compression : str
            One of `LEVELS`.

        Returns
        -------
        dict of Path to int
            CRC32C of each file.
        """
        from numcodecs import Blosc  # type: ignore[import-untyped]

        codec = Blosc(compression, LEVELS[compression], Blosc.SHUFFLE)

        def write_chunk(key: tuple[int, int]) -> tuple[Path, int]:
            number, processing = key
            start = number * self.rows
            chunk = np.ascontiguousarray(planes[processing][start : start + self.rows], self.dtype)
            if len(chunk) < self.rows:
                whole = np.zeros((self.rows, self.shape[2]), self.dtype)
                whole[: len(chunk)] = chunk
                chunk = whole
            data = codec.encode(chunk)
            crc = checksum(data)
            path = folder / _name(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            tail = crc.to_bytes(4, "little")
            with open(path, "xb") as file:
                file.write(data)
                file.write(tail)
            return path, checksum(tail, crc)

        return dict(_in_threads(write_chunk, self._keys()))

    def read(self, files: Files, folder: str) -> Array:
        """Read every chunk, several at a time, after checking its checksum.

        Parameters
        ----------
        files : Files
            The store's files.
        folder : str
            Name of the Zarr array's folder in the store.

        Returns
        -------
        ndarray
            A new array of (row, processing, wavelength).

        Raises
        ------
        StoreError
            Naming a chunk that is missing or damaged.
        """
        from numcodecs import blosc

        out = np.empty(self.shape, self.dtype)

        def read_chunk(key: tuple[int, int]) -> None:
            number, processing = key
            name = f"{folder}/{_name(key)}"
            part = out[number * self.rows :, processing][: self.rows]
            data = memoryview(files.read(name))[:-4]
            direct = len(part) == self.rows and part.flags.c_contiguous
            target = part if direct else np.empty((self.rows, self.shape[2]), self.dtype)
            try:
                blosc.decompress(data, target)
            except (RuntimeError, ValueError) as error:
                raise StoreError(f"{files.root / name} is damaged ({error}). {RESTORE}") from error
            if not direct:
                part[:] = target[: len(part)]

        _in_threads(read_chunk, self._keys())
        return out


def _name(key: tuple[int, int]) -> str:
    return f"c/{key[0]}/{key[1]}/0"
