"""Selections as xarray objects: real DataArrays and DataTrees over the same memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from spectroxr.axis import Axis, split_attrs
from spectroxr.gather import Picks
from spectroxr.index import Index
from spectroxr.layouts import readonly
from spectroxr.schema import Array
from spectroxr.selection import Selection

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["labelled", "tree_of"]

DIMS = ("row", "processing", "wavelength")


def _text(values: Sequence[str]) -> Array:
    """Return text as a read-only array of fixed width."""
    return readonly(np.array(values, dtype=np.str_))


def _mirror(column: pl.Series) -> Array:
    """Return a column of the index as a read-only array; a null is ``""`` in text and NaN in numbers."""
    if column.dtype == pl.String:
        return _text(column.fill_null("").to_list())
    if column.null_count():
        column = column.cast(pl.Float64)
    return readonly(np.ascontiguousarray(column.to_numpy()))


def coordinates(selection: Selection, index: Index, axis: Axis) -> xr.Coordinates:
    """Return the coordinates of a selection on one axis.

    ``sample, origin, partition, group`` are on ``row``; ``branch`` too, or on ``(row, processing)`` where the
    processings of a sample lie in several branches; ``source`` is on ``wavelength`` of a merged axis.
    """
    import pandas as pd
    import xarray as xr
    from xarray.indexes import PandasIndex

    if "labels" not in selection.memo:
        selection.memo["labels"] = _labels(selection, index)
    labels: dict[str, Array] = selection.memo["labels"]
    plain: dict[str, xr.Variable] = {
        name: xr.Variable(("row", "processing")[: labels[name].ndim], labels[name])
        for name in ("sample", "origin", "partition", "group", "branch")
    }
    if axis.segments is not None:
        plain["source"] = xr.Variable(("wavelength",), _text(axis.segments))
    # pandas and xarray keep the read-only memory of an index only if it is handed over as a finished index.
    indexes = {}
    for name, values in (
        ("row", labels["row"]),
        ("processing", labels["processing"]),
        ("wavelength", axis.values),
    ):
        indexes[name] = PandasIndex(pd.Index(values, dtype=values.dtype, copy=False), name)
        plain.update(indexes[name].create_variables())
    return xr.Coordinates(plain, indexes=indexes)


def _labels(selection: Selection, index: Index) -> dict[str, Array]:
    """Return the labels of a selection as read-only arrays."""
    table = index.part(selection.processings[0], selection.samples)
    branches = [index.part(name, selection.samples)["branch"].to_numpy() for name in selection.processings]
    same = all(np.array_equal(branches[0], other) for other in branches[1:])
    return {
        **{name: _mirror(table[name]) for name in ("row", "sample", "origin", "partition", "group")},
        "branch": readonly(np.ascontiguousarray(branches[0]) if same else np.stack(branches, axis=1)),
        "processing": readonly(np.array(selection.processings, dtype=object)),
    }


def labelled(cells: Any, selection: Selection, index: Index, name: str, axis: Axis, bands: Picks) -> xr.DataArray:
    """Return cells of one source as a DataArray with dims ``(row, processing, wavelength)``."""
    import xarray as xr

    some = axis.take(bands)
    # the constructor of DataArray copies coordinates into writable memory, assign_coords does not
    array = xr.DataArray(xr.Variable(DIMS, cells), name=name).assign_coords(coordinates(selection, index, some))
    on_axis, on_array = split_attrs(some.attrs)
    array.coords["wavelength"].attrs.update(on_axis)
    array.attrs.update(on_array)
    return array


def tree_of(arrays: Mapping[str, xr.DataArray]) -> xr.DataTree:
    """Return a DataTree with one child per source, its variable named ``spectra``."""
    import xarray as xr

    return xr.DataTree.from_dict({f"/{name}": array.to_dataset(name="spectra") for name, array in arrays.items()})
