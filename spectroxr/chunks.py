"""How spectra are cut into chunks and coded: the grid, the codecs, and the table of what is where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import polars as pl

from spectroxr.errors import StoreError, nearest
from spectroxr.manifest import RESTORE, checksum
from spectroxr.place import Record, generation_name
from spectroxr.schema import Array

__all__ = [
    "LEVELS",
    "ChunkTable",
    "Grid",
    "Key",
    "check_chunks",
    "chunk_name",
    "decode",
    "digest",
    "encode",
    "fitted",
    "zarr_codecs",
]

#: The compressors and the level each is used at.
LEVELS = {"zstd": 1, "lz4": 5, "zlib": 1}
#: Blosc compresses so many bytes together: with 256 kB, level 1 of zstd is as small as level 3 with what Blosc chooses.
BLOCK_BYTES = 1 << 18
#: Rows of a chunk are chosen so that it has about this many bytes; see the benchmarks for why.
CHUNK_BYTES = 1 << 21
#: A chunk has at least this many rows, so that a hundred rows lie in two chunks at most.
LEAST_ROWS = 128

#: A chunk's place in the grid: along rows, processings and wavelengths.
Key = tuple[int, int, int]


@dataclass(frozen=True)
class Grid:
    """An array cut into chunks of one shape.

    Attributes
    ----------
    shape : tuple of int
        (row, processing, wavelength).
    chunk : tuple of int
        Shape of a chunk; the last ones reach beyond the array.
    dtype : dtype
        Little-endian.

    Examples
    --------
    >>> Grid((5, 2, 3), (2, 1, 3), np.dtype("<f4")).counts
    (3, 2, 1)
    """

    shape: tuple[int, int, int]
    chunk: tuple[int, int, int]
    dtype: np.dtype[Any]

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many chunks there are along each dimension."""
        if not prod(self.shape):
            return (0, 0, 0)
        a, b, c = (-(-size // step) for size, step in zip(self.shape, self.chunk, strict=True))
        return (a, b, c)

    def __iter__(self) -> Iterator[Key]:
        """Yield the chunks, processing by processing, each in order of its rows."""
        rows, processings, widths = self.counts
        for p in range(processings):
            for i in range(rows):
                for j in range(widths):
                    yield (i, p, j)

    def number(self, key: Key) -> int:
        """Return the place of a chunk in the order in which the grid yields them."""
        rows, _, widths = self.counts
        return (key[1] * rows + key[0]) * widths + key[2]

    def span(self, key: Key, dim: int) -> tuple[int, int]:
        """Return where a chunk begins and ends along a dimension, within the array."""
        start = key[dim] * self.chunk[dim]
        return start, min(start + self.chunk[dim], self.shape[dim])


def chunk_name(key: Key) -> str:
    """Return the name of a chunk within the folder of its array, as Zarr has it.

    Examples
    --------
    >>> chunk_name((2, 0, 1))
    'c/2/0/1'
    """
    return f"c/{key[0]}/{key[1]}/{key[2]}"


def check_chunks(chunks: Mapping[str, Any] | None) -> dict[str, int]:
    """Return the sizes of chunks that a caller asks for.

    Raises
    ------
    ValueError, TypeError
        If it is no dict, a dimension is not row or wavelength, or a size not a positive whole number.
    """
    if not isinstance(chunks, Mapping | None):
        raise TypeError(f"chunks is a dict of sizes such as {{'row': 4096, 'wavelength': 128}}, not {chunks!r}.")
    sizes = {}
    for name, size in (chunks or {}).items():
        if name not in ("row", "wavelength"):
            raise ValueError(nearest(name, ("row", "wavelength"), "dimension of a chunk"))
        if isinstance(size, bool) or not isinstance(size, int | np.integer):
            raise TypeError(f"the size of a chunk is a whole number, not {size!r}.")
        if size < 1:
            raise ValueError(f"the size of a chunk is at least 1, not {size}.")
        sizes[name] = int(size)
    return sizes


def fitted(
    shape: tuple[int, int, int], dtype: np.dtype[Any], asked: Mapping[str, int], previous: Grid | None
) -> tuple[int, int, int]:
    """Choose the shape of chunks: one processing, all wavelengths, about two megabytes.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
    asked : mapping
        Sizes the caller wants.
    previous : Grid or None
        What the last version has: its chunks are kept, so that those that do not change stay the same, unless all
        rows lie in one chunk, which more rows change anyway.
    """
    width = max(1, min(asked.get("wavelength", shape[2]), shape[2]))
    if previous is not None and "wavelength" not in asked and previous.shape[2] == shape[2]:
        width = previous.chunk[2]
    most = asked.get("row", max(LEAST_ROWS, CHUNK_BYTES // max(1, width * dtype.itemsize)))
    if previous is not None and "row" not in asked and previous.counts[0] > 1:
        return (previous.chunk[0], 1, width)
    return (max(1, min(most, shape[0])), 1, width)


def zarr_codecs(compression: str, itemsize: int) -> list[Any]:
    """Return the codecs that chunks are coded with, for the metadata of the Zarr array."""
    from zarr.codecs import BloscCodec, Crc32cCodec

    name: Any = compression  # some zarr versions take an enumeration here, all take its text
    blosc = BloscCodec(
        typesize=itemsize, cname=name, clevel=LEVELS[compression], shuffle="shuffle", blocksize=BLOCK_BYTES
    )
    return [blosc, Crc32cCodec()]


def digest(block: Any) -> bytes:
    """Return the XXH3-128 of a C-ordered block, by which it is known again."""
    import xxhash

    return xxhash.xxh3_128_digest(block)


def encode(block: Array, compression: str) -> bytes:
    """Compress a C-ordered chunk (Blosc, byte shuffle) and append the CRC32C of the result."""
    from numcodecs import Blosc  # type: ignore[import-untyped]

    data: bytes = Blosc(compression, LEVELS[compression], Blosc.SHUFFLE, BLOCK_BYTES).encode(block)
    return data + checksum(data).to_bytes(4, "little")


def decode(data: bytes, out: Array, name: str) -> None:
    """Decompress a chunk into a C-ordered array.

    Raises
    ------
    StoreError
        If it does not decode; the message names it.
    """
    from numcodecs import blosc

    body = memoryview(data)[:-4]
    try:
        if len(data) < 20 or int.from_bytes(body[4:8], "little") != out.nbytes:
            raise ValueError("it holds another number of bytes")
        blosc.decompress(body, out)
    except (RuntimeError, ValueError) as error:
        raise StoreError(f"{name} is damaged ({error}). {RESTORE}") from error


class ChunkTable:
    """What is recorded of the chunks of one array, in the order of its `Grid`.

    Parameters
    ----------
    generation : ndarray of uint32
        In which generation each chunk was written.
    size, crc32c : ndarray
    content : polars.Series of binary
        XXH3-128 of what it decodes to; null in stores of format 1.
    """

    def __init__(self, generation: Array, size: Array, crc32c: Array, content: pl.Series) -> None:
        self.generation, self.size, self.crc32c, self.content = generation, size, crc32c, content

    def __len__(self) -> int:
        return len(self.size)

    def name(self, number: int, folder: str, key: Key) -> str:
        """Return where a chunk lies."""
        return f"{generation_name(int(self.generation[number]))}/{folder}/{chunk_name(key)}"

    def record(self, number: int, folder: str, key: Key) -> Record:
        """Return what is recorded of a chunk."""
        return Record(
            self.name(number, folder, key), int(self.size[number]), int(self.crc32c[number]), self.content[number]
        )
