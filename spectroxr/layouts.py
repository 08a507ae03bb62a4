"""The four layouts as pure functions of strides: which view shows them, and how to fill a buffer.

All take *cells*: an array of shape ``(n, processing, wavelength)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.lib.stride_tricks import as_strided

from spectroxr.schema import Array, Layout

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["as_layout", "cells_of", "concat_axis", "concat_shape", "layout_shape", "readonly", "side_by_side"]


def readonly(array: Array) -> Array:
    """Return a live view of `array` that cannot be written, nor be made writable again.

    A view made by ``flags.writeable = False`` can be switched back when its base is writable; one whose
    base is a read-only buffer cannot.

    Examples
    --------
    >>> view = readonly(np.zeros((2, 3)))
    >>> view.flags.writeable = True
    Traceback (most recent call last):
    ValueError: cannot set WRITEABLE flag to True of this array
    """
    if array.size == 0:
        return np.frombuffer(b"", dtype=array.dtype).reshape(array.shape)
    if array.dtype.kind in "mM":
        return readonly(array.view(np.int64)).view(array.dtype)
    if array.dtype.kind == "U":
        return readonly(array.view(np.uint32)).view(array.dtype)
    return np.asarray(memoryview(cast("Buffer", array)).toreadonly())


def _merge(cells: Array) -> Array | None:
    """Return the last two axes as one, as a view, or None where strides do not allow it."""
    n, p, w = cells.shape
    if p == 1:
        return cells[:, 0, :]
    if w == 1:
        return cells[:, :, 0]
    if cells.strides[1] != w * cells.strides[2]:
        return None
    return as_strided(cells, (n, p * w), (cells.strides[0], cells.strides[2]), writeable=cells.flags.writeable)


def as_layout(cells: Array, layout: Layout) -> Array | None:
    """Return `cells` in a layout as a view, or None where no strided view shows it.

    Parameters
    ----------
    cells : ndarray, shape (n, processing, wavelength)
    layout : {"2d", "2d_interlaced", "3d", "3d_transpose"}

    Returns
    -------
    ndarray or None
        ``(n, processing * wavelength)`` ordered p0w0 p0w1 ... p1w0 ... for ``2d`` and w0p0 w0p1 ... w1p0 ...
        for ``2d_interlaced``; ``(n, processing, wavelength)`` for ``3d``; ``(n, wavelength, processing)``
        for ``3d_transpose``. Always a view of `cells`.

    Examples
    --------
    >>> cells = np.arange(12).reshape(2, 2, 3)
    >>> as_layout(cells, "2d")
    array([[ 0,  1,  2,  3,  4,  5],
           [ 6,  7,  8,  9, 10, 11]])
    >>> as_layout(cells, "2d_interlaced") is None
    True
    """
    if layout == "3d":
        return cells
    turned = cells.transpose(0, 2, 1)
    if layout == "3d_transpose":
        return turned
    return _merge(cells if layout == "2d" else turned)


def layout_shape(n: int, p: int, w: int, layout: Layout) -> tuple[int, ...]:
    """Shape of `n` samples of `p` processings and `w` wavelengths in a layout."""
    if layout == "3d":
        return (n, p, w)
    return (n, w, p) if layout == "3d_transpose" else (n, p * w)


def concat_shape(n: int, p: int, widths: Sequence[int], layout: Layout) -> tuple[int, ...]:
    """Shape of several sources side by side on the feature axis."""
    return layout_shape(n, p, sum(widths), layout)


def concat_axis(layout: Layout) -> int:
    """Axis along which sources follow each other in a layout."""
    return 2 if layout == "3d" else 1


def cells_of(out: Array, p: int, widths: Sequence[int], layout: Layout) -> list[Array]:
    """Split a buffer in a layout into one ``(n, processing, wavelength)`` view per source.

    Parameters
    ----------
    out : ndarray
        Of the shape of `concat_shape`.
    p : int
        Number of processings.
    widths : sequence of int
        Number of wavelengths of each source.
    layout : {"2d", "2d_interlaced", "3d", "3d_transpose"}

    Returns
    -------
    list of ndarray
        Views of `out`: writing them fills it.
    """
    n = out.shape[0]
    views = []
    start = 0
    for w in widths:
        if layout == "3d":
            cells = out[:, :, start : start + w]
        elif layout == "3d_transpose":
            cells = out[:, start : start + w, :].transpose(0, 2, 1)
        else:
            flat = out[:, start * p : (start + w) * p]
            a, b = (p, w) if layout == "2d" else (w, p)
            step = flat.strides[1] if flat.shape[1] else flat.itemsize
            cells = as_strided(flat, (n, a, b), (flat.strides[0], b * step, step))
            cells = cells if layout == "2d" else cells.transpose(0, 2, 1)
        views.append(cells)
        start += w
    return views


def side_by_side(blocks: Sequence[Array], axis: int) -> Array | None:
    """Return blocks that lie next to each other in memory as one array, or None where they do not.

    Parameters
    ----------
    blocks : sequence of ndarray
        Of one dtype; alike in every axis but `axis`.
    axis : int
        The axis along which they follow each other.

    Returns
    -------
    ndarray or None
        A read-only view over the memory of all blocks, which must belong to one buffer.
    """
    first = blocks[0]
    if len(blocks) == 1:
        return first
    place, second = (block.__array_interface__["data"][0] for block in blocks[:2])
    step = second - place if all(block.shape[axis] == 1 for block in blocks) else first.strides[axis]
    for block in blocks:
        alike = (a == b or size == 1 for a, b, size in zip(block.strides, first.strides, first.shape, strict=True))
        if block.dtype != first.dtype or not all(alike):
            return None
        if block.__array_interface__["data"][0] != place:
            return None
        place += step * block.shape[axis]
    shape, strides = list(first.shape), list(first.strides)
    shape[axis] = sum(block.shape[axis] for block in blocks)
    strides[axis] = step
    return as_strided(first, shape, strides, writeable=False)
