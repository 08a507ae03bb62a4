"""From a selection to arrays: the view where one exists, else the reason why not, or a copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spectroxr.gather import Picks, picks_len, run_of
from spectroxr.layouts import as_layout, cells_of, concat_axis, concat_shape, side_by_side
from spectroxr.schema import Array, Layout
from spectroxr.selection import Selection
from spectroxr.source import FeatureSource, LazyBlock

__all__ = ["copied", "view_of"]


def view_of(
    sources: Mapping[str, FeatureSource],
    selection: Selection,
    layout: Layout,
    src_concat: bool,
    *,
    explain: bool,
) -> tuple[Array, ...] | str:
    """Return a selection as read-only views, or the reason why none exists.

    Parameters
    ----------
    sources : mapping of str to FeatureSource
    selection : Selection
    layout : {"2d", "2d_interlaced", "3d", "3d_transpose"}
    src_concat : bool
    explain : bool
        Find out the exact reason, which takes time.

    Returns
    -------
    tuple of ndarray, or str
    """
    arrays = []
    arenas = []
    for name in selection.sources:
        source = sources[name]
        block = source.together(selection.processings)
        if block is None and any(one.lazy for one in source.blocks):
            return f"spectra of source {name!r} are not in memory"
        if block is None:
            return (
                f"the processings {list(selection.processings)} of source {name!r} are stored apart, some in a map of "
                "a file"
            )
        if isinstance(block, LazyBlock):
            return f"the spectra of source {name!r} are {block.state}, not in memory"
        positions = _positions(selection, name, block.processings)
        if positions is None:
            return (
                f"the processings {list(selection.processings)} of source {name!r} are not evenly spaced among "
                f"{block.processings}"
            )
        bands = selection.bands[name]
        if not isinstance(bands, slice):
            return f"the selected wavelengths of source {name!r} are not evenly spaced on its axis"
        cells = _rows(block.view[:, positions, bands], selection.rows)
        if cells is None:
            shared = explain and len(np.unique(np.asarray(selection.rows))) < len(selection.samples)
            why = (
                "augmented samples share the rows of their origins (select them apart from these)"
                if shared
                else "the rows are scattered"
            )
            return f"{why}, so no strided view shows these {len(selection.samples)} samples"
        array = as_layout(cells, layout)
        if array is None:
            order = "(row, wavelength, processing)" if layout == "2d_interlaced" else "(row, processing, wavelength)"
            return (
                f"layout {layout!r} of {len(selection.processings)} processings needs a contiguous run of each row of "
                f"source {name!r} in {order} order"
            )
        arrays.append(array)
        arenas.append(block.arena)
    if not src_concat or len(arrays) == 1:
        return tuple(arrays)
    kinds = {str(array.dtype) for array in arrays}
    if len(kinds) > 1:
        return f"the sources have different dtypes {sorted(kinds)}, so no one array shows them"
    joined = None
    if arenas[0] is not None and all(arena is arenas[0] for arena in arenas):
        joined = side_by_side(arrays, concat_axis(layout))
    if joined is None:
        return "the sources lie in separate buffers, or what is selected of them does not lie side by side in one"
    return (joined,)


def _rows(cells: Array, rows: Picks) -> Array | None:
    """Return rows in arithmetic progression, or one row again and again, as a view."""
    if isinstance(rows, slice):
        return cells[rows]
    if len(rows) > 1 and rows[0] == rows[-1] and bool(np.all(rows == rows[0])):
        return np.broadcast_to(cells[rows[0] : rows[0] + 1], (len(rows), *cells.shape[1:]))
    return None


def _positions(selection: Selection, source: str, processings: list[str]) -> slice | None:
    key = (source, tuple(processings))
    if key not in selection.memo:
        selection.memo[key] = run_of(np.asarray([processings.index(p) for p in selection.processings]))
    found = selection.memo[key]
    assert found is None or isinstance(found, slice)
    return found


def copied(
    sources: Mapping[str, FeatureSource],
    selection: Selection,
    layout: Layout,
    src_concat: bool,
    out: Any = None,
) -> tuple[Array, ...]:
    """Copy a selection into fresh arrays, or into `out`, with no temporary of their size.

    Parameters
    ----------
    sources : mapping of str to FeatureSource
    selection : Selection
    layout : {"2d", "2d_interlaced", "3d", "3d_transpose"}
    src_concat : bool
    out : ndarray or sequence of ndarray, optional
        Writable, of the shapes and dtypes of the result.

    Returns
    -------
    tuple of ndarray
        Private and writable; those of `out` if given.

    Raises
    ------
    ValueError, TypeError
        If `out` does not fit; nothing has been written then.
    """
    chosen = [sources[name] for name in selection.sources]
    n, p = len(selection.samples), len(selection.processings)
    widths = [picks_len(selection.bands[s.name], len(s.axis)) for s in chosen]
    groups = [list(range(len(chosen)))] if src_concat else [[k] for k in range(len(chosen))]
    shapes = [concat_shape(n, p, [widths[k] for k in group], layout) for group in groups]
    dtypes = [np.result_type(*[chosen[k].dtype for k in group]) for group in groups]
    arrays = _check_out(out, shapes, dtypes, list(sources.values()))
    if arrays is None:
        arrays = [np.empty(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
    for array, group in zip(arrays, groups, strict=True):
        parts = cells_of(array, p, [widths[k] for k in group], layout)
        for k, part in zip(group, parts, strict=True):
            source = chosen[k]
            source.copy_out(selection.rows, selection.processings, selection.bands[source.name], part)
    return tuple(arrays)


def _check_out(
    out: Any, shapes: Sequence[tuple[int, ...]], dtypes: Sequence[np.dtype[Any]], sources: list[FeatureSource]
) -> list[Array] | None:
    if out is None:
        return None
    given = [out] if isinstance(out, np.ndarray) else list(out)
    if len(given) != len(shapes):
        raise ValueError(f"out has {len(given)} arrays, the result {len(shapes)}.")
    for array, shape, dtype in zip(given, shapes, dtypes, strict=True):
        if not isinstance(array, np.ndarray):
            raise TypeError(f"out takes numpy arrays, not {type(array).__name__}.")
        if array.shape != shape:
            raise ValueError(f"out has shape {array.shape}, the result {shape}.")
        if not np.can_cast(dtype, array.dtype, "safe"):
            raise TypeError(f"out is {array.dtype}, which cannot hold {dtype} without loss.")
        if not array.flags.writeable:
            raise ValueError("out is read-only.")
        memories = [block.memory for s in sources for block in s.blocks if block.memory is not None]
        if any(np.may_share_memory(array, memory) for memory in memories):
            raise ValueError("out shares memory with the dataset; give an array of your own.")
        if any(step == 0 and size > 1 for step, size in zip(array.strides, array.shape, strict=True)):
            raise ValueError("out shows the same memory several times; give an ordinary array.")
    for k, array in enumerate(given):
        if any(np.shares_memory(array, other) for other in given[:k]):
            raise ValueError("two arrays of out share memory; give one of its own per source.")
    return given
