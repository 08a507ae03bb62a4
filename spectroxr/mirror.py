"""The index as coordinates of the rows, for readers that know only Zarr or xarray."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from spectroxr.schema import Array

__all__ = ["NONE", "row_coordinates", "spectra_attrs"]

#: Stands for "no sample here" and for null in the coordinates of unsigned integers.
NONE = 0xFFFFFFFF

Coordinates = dict[str, tuple[tuple[str, ...], Array]]

#: Attributes that xarray takes as instructions to decode values.
_DECODED = {"_FillValue", "_Unsigned", "missing_value", "scale_factor", "add_offset", "dtype", "calendar"}
_DECODED |= {"bounds", "climatology", "coordinates", "formula_terms", "grid_mapping", "ancillary_variables"}
_TIMES = {"days", "hours", "minutes", "seconds", "milliseconds", "microseconds", "nanoseconds"}


def row_coordinates(index: pl.DataFrame, rows: int, processings: Sequence[str]) -> Coordinates:
    """Return the coordinates that each row of a source has.

    A row's owner is the lowest sample on it. A row without a sample gets `NONE` and an empty partition.

    Parameters
    ----------
    index : polars.DataFrame
        Columns of the specification.
    rows : int
        Number of rows of the arrays.
    processings : sequence of str
        Of the source, in order.

    Returns
    -------
    dict
        Name to (dimensions, values); ``branch`` has a processing dimension if it varies within a row.
    """
    lines = index.sort("row", "sample", maintain_order=True)
    first = lines.unique("row", keep="first", maintain_order=True)
    at = first["row"].to_numpy()

    def spread(column: str) -> Array:
        values = np.full(rows, NONE, np.uint32)
        values[at] = first[column].fill_null(NONE).to_numpy()
        return values

    sample = spread("sample")
    partition = np.full(rows, "", np.dtypes.StringDType())
    partition[at] = np.array(first["partition"].fill_null("").to_list(), np.dtypes.StringDType())

    owned = lines.filter(
        pl.Series(sample[lines["row"].to_numpy()]) == lines["sample"],
        pl.col("processing").is_in(list(processings)),
    )
    numbers = range(len(processings))
    position = owned["processing"].replace_strict(list(processings), numbers, return_dtype=pl.Int64)
    cells = owned["row"].to_numpy(), position.to_numpy()
    branch = np.full((rows, len(processings)), NONE, np.uint32)
    branch[cells] = owned["branch"].fill_null(NONE).to_numpy()
    known = np.zeros(branch.shape, bool)
    known[cells] = True
    low = branch.min(axis=1, where=known, initial=NONE)
    same = bool(np.all((branch == low[:, None]) | ~known))
    return {
        "row": (("row",), np.arange(rows, dtype=np.uint32)),
        "sample": (("row",), sample),
        "origin": (("row",), spread("origin")),
        "group": (("row",), spread("group")),
        "partition": (("row",), partition),
        "branch": (("row",), low) if same else (("row", "processing"), branch),
    }


def spectra_attrs(attrs: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a source that are safe on an array: xarray would not decode by them."""
    units = attrs.get("units")
    timed = isinstance(units, str) and (" since " in units or units in _TIMES)
    unsafe = _DECODED | {"units"} if timed else _DECODED
    return {name: value for name, value in attrs.items() if name not in unsafe}
