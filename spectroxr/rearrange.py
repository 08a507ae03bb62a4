"""Physical changes that keep every sample: pack, merge and split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from spectroxr.axis import Axis
from spectroxr.cells import Cells, check_name
from spectroxr.errors import NotRectangularError
from spectroxr.layouts import cells_of, concat_shape, readonly
from spectroxr.schema import Array, Layout
from spectroxr.source import Block, FeatureSource, allocate

__all__ = ["merge", "pack", "row_order", "split"]


def pack(cells: Cells, order: pl.DataFrame | None, layout: Layout, src_concat: bool) -> None:
    """Store rows, processings and sources in a new order; see `FeatureBlock.pack`.

    Parameters
    ----------
    cells : Cells
    order : polars.DataFrame or None
        One line per sample: what to sort the rows by (then by sample).
    layout : {"2d", "2d_interlaced", "3d", "3d_transpose"}
    src_concat : bool
    """
    index = cells.index
    sources = list(cells.sources.values())
    names = index.processings
    if src_concat and len({source.dtype for source in sources}) > 1:
        kinds = {source.name: str(source.dtype) for source in sources}
        raise ValueError(f"sources of different dtypes cannot share one buffer: {kinds}.")
    old_rows, new_rows = row_order(cells, order)
    count = len(old_rows)
    widths = [len(source.axis) for source in sources]
    p = len(names)
    if src_concat:
        shape = concat_shape(count, p, widths, layout)
        arena = np.empty(shape, sources[0].dtype)
        buffers = cells_of(arena, p, widths, layout)
        blocks = [[Block(buffer, list(names), arena)] for buffer in buffers]
    else:
        flipped = layout == "2d_interlaced"
        buffers = [allocate(count, p, len(s.axis), s.dtype, flipped) for s in sources]
        blocks = [[Block(buffer, list(names))] for buffer in buffers]
    for source, buffer in zip(sources, buffers, strict=True):
        _fill(source, names, old_rows, buffer)
    for source, adopted in zip(sources, blocks, strict=True):
        source.forget_views()
        source.adopt(adopted)
    cells.rows = count
    index.with_rows(new_rows)
    cells.epoch += 1


def row_order(cells: Cells, order: pl.DataFrame | None) -> tuple[Array, Array]:
    """Return the old row of each new row, and the new row of each sample; rows nobody uses are left out."""
    index = cells.index
    if order is None or not order.width:
        sequence = np.arange(len(index))
    else:
        numbered = order.with_columns(pl.int_range(pl.len()).alias("\0sample"))
        sequence = numbered.sort(numbered.columns, nulls_last=True)["\0sample"].to_numpy()
    rows = index.rows[sequence]
    _, first, place = np.unique(rows, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.intp)
    rank[np.argsort(first)] = np.arange(len(first))
    new = np.empty(len(index), dtype=np.uint32)
    new[sequence] = rank[place]
    return rows[np.sort(first)], new


def _fill(source: FeatureSource, names: Sequence[str], rows: Array, buffer: Array, bands: slice | None = None) -> None:
    """Copy rows and a run of bands (default: all) of some processings into a buffer; what is not there is NaN."""
    bands = slice(0, len(source.axis), 1) if bands is None else bands
    source.settle(int(rows.max(initial=-1)) + 1)
    for k, name in enumerate(names):
        place = source.where(name)
        if place is None:
            buffer[:, k, :] = np.nan
            continue
        block, position = place
        inside = rows < block.capacity
        part = buffer[:, k : k + 1, :]
        if inside.all():
            block.copy_into(rows, [position], bands, part)
        else:
            buffer[~inside, k, :] = np.nan
            some = np.empty((int(inside.sum()), 1, buffer.shape[2]), source.dtype)
            block.copy_into(rows[inside], [position], bands, some)
            buffer[inside, k, :] = some[:, 0]


def merge(cells: Cells, owner: Any, which: Sequence[str | int]) -> str:
    """Join sources along the wavelength axis; see `FeatureBlock.merge`."""
    if isinstance(which, str | int) or len(which) < 2:
        raise ValueError("merge takes at least two sources, by position or name.")
    chosen = [cells.source(one) for one in which]
    names = [source.name for source in chosen]
    if len(set(names)) < len(names):
        raise ValueError(f"merge names a source twice: {names}.")
    index = cells.index
    for processing, lines in index.lines.items():
        lacking = [index.lacks(lines.samples, processing, name) for name in names]
        for name, other in zip(names, lacking, strict=True):
            if not np.array_equal(other, lacking[0]):
                raise NotRectangularError(
                    f"sources {names} cannot be merged: in processing {processing!r}, "
                    f"{int((other != lacking[0]).sum())} samples are in one of {names[0]!r} and {name!r} only."
                )
    held = [p for p in index.processings if any(source.where(p) for source in chosen)]
    dtype = np.result_type(*[source.dtype for source in chosen])
    widths = [len(source.axis) for source in chosen]
    buffer = allocate(cells.rows, len(held), sum(widths), dtype)
    start = 0
    rows = np.arange(cells.rows)
    for source, width in zip(chosen, widths, strict=True):
        _fill(source, held, rows, buffer[:, :, start : start + width])
        start += width
    name = "+".join(names)
    if name in cells.sources:
        raise ValueError(f"the merged source would be named {name!r}, which exists.")
    merged = FeatureSource(name, _merged_axis(chosen), dtype, owner)
    merged.adopt([Block(buffer, held)])
    position = min(list(cells.sources).index(n) for n in names)
    rest = [source for source in cells.sources.values() if source.name not in names]
    before = sum(1 for source in list(cells.sources.values())[:position] if source.name not in names)
    rest.insert(before, merged)
    holes = {key: hole for key, hole in index.holes.items() if key[1] not in names}
    holes |= {(p, name): hole for (p, s), hole in index.holes.items() if s == names[0]}
    cells.sources = {source.name: source for source in rest}
    index.set_holes(holes)
    cells.epoch += 1
    return name


def _merged_axis(chosen: Sequence[FeatureSource]) -> Axis:
    values = np.concatenate([source.axis.values for source in chosen])
    segments: list[str] = []
    parts: dict[str, Any] = {}
    for source in chosen:
        if source.axis.segments is None:
            segments += [source.name] * len(source.axis)
            parts[source.name] = dict(source.axis.attrs)
        else:
            segments += source.axis.segments
            parts |= source.axis.attrs.get("merged", {})
    common = {
        key: value
        for key, value in chosen[0].axis.attrs.items()
        if key != "merged" and all(source.axis.attrs.get(key) == value for source in chosen)
    }
    return Axis(readonly(values), {**common, "merged": parts}, tuple(segments))


def split(
    cells: Cells, owner: Any, ranges: Sequence[tuple[int, int]], which: str | int | None, names: Any
) -> list[str]:
    """Cut a source along its wavelength axis; see `FeatureBlock.split`."""
    if which is None and len(cells.sources) != 1:
        raise ValueError(f"say which source to split, source=..., of {list(cells.sources)}.")
    source = cells.source(0 if which is None else which)
    spans = _check_ranges(ranges, len(source.axis), source.name)
    labels = _part_names(source, spans) if names is None else [check_name(n, "source") for n in names]
    if len(labels) != len(spans):
        raise ValueError(f"{len(labels)} names for {len(spans)} ranges.")
    others = [name for name in cells.sources if name != source.name]
    taken = [name for name in labels if labels.count(name) > 1 or name in others]
    if taken:
        raise ValueError(f"the name {taken[0]!r} would stand for two sources; give names=[...].")
    index = cells.index
    held = [p for p in index.processings if source.where(p)]
    rows = np.arange(cells.rows)
    parts = []
    for (start, stop), name in zip(spans, labels, strict=True):
        buffer = allocate(cells.rows, len(held), stop - start, source.dtype)
        _fill(source, held, rows, buffer, slice(start, stop, 1))
        part = FeatureSource(name, _part_axis(source.axis, start, stop), source.dtype, owner)
        part.adopt([Block(buffer, list(held))])
        parts.append(part)
    holes = {key: hole for key, hole in index.holes.items() if key[1] != source.name}
    holes |= {(p, name): hole for (p, s), hole in index.holes.items() if s == source.name for name in labels}
    rebuilt: dict[str, FeatureSource] = {}
    for name, old in cells.sources.items():
        rebuilt |= {part.name: part for part in parts} if name == source.name else {name: old}
    cells.sources = rebuilt
    index.set_holes(holes)
    cells.epoch += 1
    return labels


def _check_ranges(ranges: Sequence[tuple[int, int]], width: int, name: str) -> list[tuple[int, int]]:
    spans = []
    for pair in ranges:
        try:
            start, stop = pair
        except (TypeError, ValueError):
            raise TypeError(f"a range is (start, stop), not {pair!r}.") from None
        if isinstance(start, bool) or not isinstance(start, int | np.integer) or not isinstance(stop, int | np.integer):
            raise TypeError(f"a range is two whole positions on the axis, not {pair!r}.")
        spans.append((int(start), int(stop)))
    if not spans:
        raise ValueError("split needs at least one range.")
    expected = 0
    for start, stop in spans:
        if start != expected or stop <= start:
            raise ValueError(
                f"the ranges must follow each other from 0 to {width}, start included and stop not, so that no "
                f"wavelength of source {name!r} is lost or doubled; {spans} do not."
            )
        expected = stop
    if expected != width:
        raise ValueError(
            f"the ranges end at {expected}, source {name!r} has {width} wavelengths; none may be lost: add "
            f"({expected}, {width})."
            if expected < width
            else f"the ranges end at {expected}, source {name!r} has only {width} wavelengths."
        )
    return spans


def _part_names(source: FeatureSource, spans: Sequence[tuple[int, int]]) -> list[str]:
    names = []
    for start, stop in spans:
        segment = source.axis.segments
        inside = set(segment[start:stop]) if segment else set()
        if segment and len(inside) == 1 and segment.count(segment[start]) == stop - start:
            names.append(segment[start])
        else:
            names.append(f"{source.name}[{start}:{stop}]")
    return names


def _part_axis(axis: Axis, start: int, stop: int) -> Axis:
    part = axis.take(slice(start, stop, 1))
    attrs = {key: value for key, value in axis.attrs.items() if key != "merged"}
    if part.segments is None:
        return Axis(part.values, attrs)
    inside = list(dict.fromkeys(part.segments))
    merged = axis.attrs.get("merged", {})
    if len(inside) == 1:
        return Axis(part.values, dict(merged.get(inside[0], attrs)))
    return Axis(part.values, {**attrs, "merged": {name: merged.get(name, {}) for name in inside}}, part.segments)
