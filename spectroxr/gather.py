"""Copying scattered cells into a buffer without a temporary of their size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spectroxr.schema import Array

__all__ = ["Picks", "copy_all", "copy_cells", "picks_len", "run_of"]

#: Positions along an axis: a slice where they are in arithmetic progression, else an array.
Picks = slice | Array

#: About this many bytes are copied at a time where numpy needs a temporary or a transposition.
BLOCK_BYTES = 1 << 18


def run_of(positions: Array) -> slice | None:
    """Return the slice that picks `positions`, or None if they are not in arithmetic progression.

    Any step but zero; for a single position the step is one.

    Examples
    --------
    >>> run_of(np.array([7, 5, 3]))
    slice(7, 2, -2)
    >>> run_of(np.array([0, 1, 3])) is None
    True
    """
    n = len(positions)
    if n == 0:
        return slice(0, 0, 1)
    first = int(positions[0])
    if n == 1:
        return slice(first, first + 1, 1)
    step = int(positions[1]) - first
    last = int(positions[-1])
    if step == 0 or last - first != step * (n - 1):
        return None
    if n > 2 and not bool(np.all(np.diff(positions) == step)):
        return None
    stop = last + (1 if step > 0 else -1)
    return slice(first, None if stop < 0 else stop, step)


def picks_len(picks: Picks, length: int) -> int:
    """Return how many of `length` positions are picked."""
    return len(range(*picks.indices(length))) if isinstance(picks, slice) else len(picks)


def copy_cells(source: Array, rows: Picks, position: int, bands: Picks, out: Array) -> None:
    """Copy one processing of some rows and wavelengths of `source` into `out`.

    Parameters
    ----------
    source : ndarray, shape (row, processing, wavelength)
    rows, bands : slice or ndarray of intp
        Rows and wavelengths to take, within bounds.
    position : int
        The processing to take.
    out : ndarray, shape (len(rows), len(bands))
        Of any strides; written in full.
    """
    plane = source[:, position, :]
    if isinstance(bands, slice):
        plane = plane[:, bands]
        if isinstance(rows, slice):
            _blockwise(plane[rows], out)
            return
        if plane.flags.c_contiguous and out.flags.c_contiguous and plane.dtype == out.dtype:
            np.take(plane, rows, axis=0, out=out, mode="clip")
            return
        for start, stop in _blocks(out):
            out[start:stop] = plane[rows[start:stop]]
        return
    for start, stop in _blocks(out):
        if isinstance(rows, slice):
            out[start:stop] = plane[rows][start:stop, bands]
        else:
            out[start:stop] = plane[rows[start:stop, None], bands]


def copy_all(source: Array, rows: Picks, positions: Sequence[int], bands: Picks, out: Array) -> None:
    """Copy several processings of one array into `out`, shape ``(n, processing, wavelength)``.

    A whole row that is contiguous in `source` and in `out` is copied in one go.
    """
    run = run_of(np.asarray(positions))
    whole = isinstance(bands, slice) and bands == slice(0, source.shape[2], 1)
    if run is not None and whole and not isinstance(rows, slice):
        block = source[:, run]
        if block.flags.c_contiguous and out.flags.c_contiguous and block.dtype == out.dtype:
            np.take(block, rows, axis=0, out=out, mode="clip")
            return
        if _interlaced(block) and _interlaced(out) and block.dtype == out.dtype:
            np.take(block.transpose(0, 2, 1), rows, axis=0, out=out.transpose(0, 2, 1), mode="clip")
            return
    if run is not None and isinstance(bands, slice):
        block = source[:, run, bands]
        if isinstance(rows, slice):
            _blockwise(block[rows], out)
        else:
            for start, stop in _blocks(out):
                out[start:stop] = block[rows[start:stop]]
        return
    for k, position in enumerate(positions):
        copy_cells(source, rows, position, bands, out[:, k, :])


def _interlaced(cells: Array) -> bool:
    return cells.transpose(0, 2, 1).flags.c_contiguous


def _blocks(out: Array) -> list[tuple[int, int]]:
    n = len(out)
    size = max(1, out.itemsize * (out.size // n if n else 1))
    step = max(1, BLOCK_BYTES // size)
    return [(start, min(n, start + step)) for start in range(0, n, step)]


def _blockwise(source: Array, out: Array) -> None:
    if source.ndim < 3 or source.strides == out.strides or np.argmin(source.strides) == np.argmin(out.strides):
        out[...] = source
        return
    for start, stop in _blocks(out):
        out[start:stop] = source[start:stop]
