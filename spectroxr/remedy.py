"""Which `pack` would make a view of a selection that has none: tried on strides alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl

from spectroxr.cells import Cells
from spectroxr.gather import run_of
from spectroxr.layouts import as_layout, cells_of, concat_axis, concat_shape, side_by_side
from spectroxr.rearrange import row_order
from spectroxr.schema import LAYOUTS, Array, Layout
from spectroxr.selection import Selection
from spectroxr.source import allocate

__all__ = ["remedy"]


def remedy(
    cells: Cells, selection: Selection, layout: Layout, src_concat: bool, column: Callable[[str], pl.Series]
) -> str:
    """Word what would help: the call of `pack` after which the selection is a view, or that there is none.

    Parameters
    ----------
    cells : Cells
    selection : Selection
    layout : {"2d", "2d_interlaced", "3d", "3d_transpose"}
    src_concat : bool
    column : callable
        Returns a column of the index, metadata or targets by name, one value per sample.

    Returns
    -------
    str
        A sentence.
    """
    order = _sorting(cells, selection, column)
    if order is not None and all(isinstance(bands, slice) for bands in selection.bands.values()):
        several = src_concat and len(selection.sources) > 1
        for kind in ("3d", layout, *LAYOUTS) if not several else (layout, *LAYOUTS):
            if _shows(cells, selection, layout, src_concat, kind, several):
                return f"{_call(order, kind, several)} would make one."
    return "No pack would make one: take copy=None, or select otherwise."


def _sorting(cells: Cells, selection: Selection, column: Callable[[str], pl.Series]) -> tuple[str, ...] | None:
    """Return the columns to sort the rows by, so that the selection becomes a range; none may be needed."""
    names = selection.columns
    choices: list[tuple[str, ...]] = [(), *((name,) for name in names), *([names] if len(names) > 1 else [])]
    for by in choices:
        table = pl.DataFrame([column(name) for name in by]) if by else None
        rows = row_order(cells, table)[1][selection.samples].astype(np.intp)
        if run_of(rows) is not None or len(np.unique(rows)) == 1:
            return by
    return None


def _shows(cells: Cells, selection: Selection, layout: Layout, src_concat: bool, kind: Layout, together: bool) -> bool:
    """Tell whether a storage packed for `kind` shows the selection in `layout`, tried on two rows."""
    names = cells.index.processings
    positions = run_of(np.array([names.index(name) for name in selection.processings]))
    if positions is None:
        return False
    views = []
    for name, buffer in _blank(cells, names, kind, together).items():
        if name in selection.sources:
            view = as_layout(buffer[:, positions, selection.bands[name]], layout)
            if view is None:
                return False
            views.append(view)
    if not src_concat or len(views) == 1:
        return True
    return together and side_by_side(views, concat_axis(layout)) is not None


def _blank(cells: Cells, names: Sequence[str], kind: Layout, together: bool) -> Mapping[str, Array]:
    sources = list(cells.sources.values())
    if together:
        if len({source.dtype for source in sources}) > 1:
            return {source.name: allocate(2, len(names), len(source.axis), source.dtype) for source in sources}
        widths = [len(source.axis) for source in sources]
        arena = np.empty(concat_shape(2, len(names), widths, kind), sources[0].dtype)
        parts = cells_of(arena, len(names), widths, kind)
        return {source.name: part for source, part in zip(sources, parts, strict=True)}
    return {
        source.name: allocate(2, len(names), len(source.axis), source.dtype, kind == "2d_interlaced")
        for source in sources
    }


def _call(by: tuple[str, ...], kind: Layout, together: bool) -> str:
    parts = []
    if by:
        parts.append(f"by={by[0]!r}" if len(by) == 1 else f"by={list(by)!r}")
    if kind != "3d":
        parts.append(f"layout={kind!r}")
    if together:
        parts.append("src_concat=True")
    return f"pack({', '.join(parts)})"
