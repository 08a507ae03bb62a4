"""Spectra that Dask computes: one processing, chunk by chunk, on whatever scheduler is active."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spectroxr.gather import Picks
from spectroxr.schema import Array

__all__ = ["DaskPlane", "PaddedPlane", "is_dask", "padded"]


def is_dask(value: Any) -> bool:
    """Tell whether a value is a Dask array, without importing Dask."""
    return type(value).__module__.partition(".")[0] == "dask" and hasattr(value, "to_delayed")


def padded(array: Any, rows: int) -> Any:
    """Return a Dask array with NaN for the rows it does not have."""
    if array.shape[0] >= rows:
        return array
    import dask.array

    da: Any = dask.array
    rest = da.full((rows - array.shape[0], array.shape[1]), np.nan, dtype=array.dtype)
    return da.concatenate([array, rest])


@dataclass(frozen=True, eq=False)
class DaskPlane:
    """One processing as a Dask array, shape (row, wavelength)."""

    dask: Any

    @property
    def shape(self) -> tuple[int, int]:
        """(row, wavelength)."""
        rows, width = self.dask.shape
        return (int(rows), int(width))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        kind: np.dtype[Any] = np.dtype(self.dask.dtype)
        return kind

    @property
    def ndim(self) -> int:
        """Two."""
        return 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Array:
        """Compute and return a part."""
        return np.asarray(self.dask[key].compute())

    def read(self, rows: Picks, bands: Picks, out: Array) -> None:
        """Compute cells into `out`, shape ``(n, wavelength)``."""
        out[...] = self.dask[rows][:, bands].compute()

    def write_chunks(self, writer: Any, position: int) -> dict[Any, Any]:
        """Compute and write all chunks, each by the worker that computes it; return what was recorded of each."""
        import dask

        ask: Any = dask

        rows, width = writer.grid.chunk[0], writer.grid.chunk[2]
        blocks = self.dask.astype(writer.grid.dtype).rechunk((rows, width)).to_delayed()
        write = ask.delayed(_write, pure=False)
        keys = [(i, position, j) for i in range(blocks.shape[0]) for j in range(blocks.shape[1])]
        tasks = [write(writer, key, blocks[key[0], key[2]]) for key in keys]
        return dict(zip(keys, ask.compute(*tasks), strict=True))


@dataclass(frozen=True, eq=False)
class PaddedPlane:
    """A plane with more rows than it has: the rest is NaN."""

    plane: Any
    rows: int

    @property
    def shape(self) -> tuple[int, int]:
        """(row, wavelength)."""
        return (self.rows, int(self.plane.shape[1]))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        kind: np.dtype[Any] = np.dtype(self.plane.dtype)
        return kind

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, key: Any) -> Array:
        """Return rows, or rows and wavelengths, as a fresh array; slices only."""
        rows, bands = key if isinstance(key, tuple) else (key, slice(None))
        start, stop, _ = rows.indices(self.rows)
        known = len(self.plane)
        part = self.plane[min(start, known) : min(stop, known), bands]
        out = np.full((stop - start, part.shape[1]), np.nan, self.dtype)
        out[: len(part)] = part
        return out

    def read(self, rows: Picks, bands: Picks, out: Array) -> None:
        """Read cells into `out`, shape ``(n, wavelength)``."""
        which = np.arange(self.rows)[rows] if isinstance(rows, slice) else rows
        known = which < len(self.plane)
        out[...] = np.nan
        if known.any():
            if isinstance(self.plane, np.ndarray):
                out[known] = self.plane[which[known]][:, bands]
            else:
                part = np.empty((int(known.sum()), out.shape[1]), self.dtype)
                self.plane.read(which[known], bands, part)
                out[known] = part


def _write(writer: Any, key: tuple[int, int, int], block: Array) -> Any:
    return writer.block(key, np.asarray(block))
