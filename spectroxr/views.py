"""From a selection to arrays: the view where one exists, else the reason why not, or a copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spectroxr.errors import NoViewError
from spectroxr.gather import picks_len, run_of
from spectroxr.layouts import as_layout, cells_of, concat_shape, side_by_side
from spectroxr.schema import Array, Layout
from spectroxr.selection import Selection
from spectroxr.source import FeatureSource

__all__ = ["copied", "view_of"]


def view_of(
    sources: Mapping[str, FeatureSource], selection: Selection, layout: Layout, src_concat: bool
) -> tuple[Array, ...] | NoViewError:
    """Return a selection as read-only views, or the error that says why none exists.

    Parameters
    ----------
    sources : mapping of str to FeatureSource
    selection : Selection
    layout : {"2d", "2d_interlaced", "3d", "3d_transpose"}
    src_concat : bool

    Returns
    -------
    tuple of ndarray, or NoViewError
        The error is returned, not raised.
    """
    arrays = []
    arenas = []
    for name in selection.sources:
        source = sources[name]
        block = source.together(selection.processings)
        reason = _scattered(selection, name)
        if reason is not None:
            return NoViewError(reason)
        if block is None:
            return NoViewError(
                f"the processings {list(selection.processings)} of source {name!r} are stored apart, in a map of a "
                "file and in memory; pack() brings them together in memory."
            )
        positions = _positions(selection, name, block.processings)
        if positions is None:
            return NoViewError(
                f"the processings {list(selection.processings)} of source {name!r} are not evenly spaced among "
                f"{block.processings}; no pack makes them so: select a contiguous run, or take copy=None."
            )
        rows, bands = selection.rows, selection.bands[name]
        array = as_layout(block.view[rows, positions, bands], layout)
        if array is None:
            return NoViewError(_layout_reason(source, selection, layout))
        arrays.append(array)
        arenas.append(block.arena)
    if not src_concat or len(arrays) == 1:
        return tuple(arrays)
    axis = 1 if layout == "3d_transpose" else arrays[0].ndim - 1
    joined = None
    if arenas[0] is not None and all(arena is arenas[0] for arena in arenas):
        joined = side_by_side(arrays, axis)
    if joined is None:
        return NoViewError(_concat_reason(sources, selection, layout))
    return (joined,)


def _scattered(selection: Selection, source: str) -> str | None:
    if not isinstance(selection.rows, slice):
        shared = len(np.unique(selection.rows)) < len(selection.rows)
        why = "augmented samples share the rows of their origins" if shared else "the rows are scattered"
        return f"{why}, so no strided view shows these {len(selection.samples)} samples; " + (
            "select originals and augmented samples apart, or take copy=None."
            if shared
            else "pack(by=...) with the columns of the filter (such as pack(by='partition')) sorts the rows "
            "so that it becomes a range."
        )
    if not isinstance(selection.bands[source], slice):
        return (
            f"the selected wavelengths of source {source!r} are not evenly spaced on its axis; no pack makes them "
            "so: select a range, or take copy=None."
        )
    return None


def _positions(selection: Selection, source: str, processings: list[str]) -> slice | None:
    key = (source, tuple(processings))
    if key not in selection.memo:
        selection.memo[key] = run_of(np.asarray([processings.index(p) for p in selection.processings]))
    found = selection.memo[key]
    assert found is None or isinstance(found, slice)
    return found


def _layout_reason(source: FeatureSource, selection: Selection, layout: Layout) -> str:
    width = picks_len(selection.bands[source.name], len(source.axis))
    if layout == "2d" and width < len(source.axis):
        return (
            f"layout '2d' of several processings over a part of the axis of source {source.name!r} is not one "
            "strided view; ask layout '3d', one processing or the whole axis, or take copy=None."
        )
    if layout == "2d":
        return (
            f"layout '2d' needs the selected processings of source {source.name!r} to be a contiguous run in "
            "(row, processing, wavelength) order; pack(layout='2d') restores that order: then all processings, "
            "or a contiguous run of them, are a view."
        )
    return (
        f"layout '2d_interlaced' of several processings needs source {source.name!r} in "
        "(row, wavelength, processing) order; pack(layout='2d_interlaced') stores it so: then all processings "
        "together are a view."
    )


def _concat_reason(sources: Mapping[str, FeatureSource], selection: Selection, layout: Layout) -> str:
    kinds = {str(sources[name].dtype) for name in selection.sources}
    if len(kinds) > 1:
        return f"the sources have different dtypes {sorted(kinds)}, so no one array views them; take copy=None."
    return (
        "the sources lie in separate buffers, or the selection cuts between them; "
        f"pack(layout={layout!r}, src_concat=True) puts them side by side: then all sources with all "
        "processings over their whole axes are a view."
    )


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
    arrays = _check_out(out, shapes, dtypes, chosen)
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
        if any(np.may_share_memory(array, block.buffer) for s in sources for block in s.blocks):
            raise ValueError("out shares memory with the dataset; give an array of your own.")
    return given
