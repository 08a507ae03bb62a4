"""Between columns of a table and numpy arrays, without losing a digit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from spectroxr.layouts import readonly
from spectroxr.schema import Array

__all__ = ["column_of", "stacked"]


def column_of(name: str, values: Array, as_list: bool) -> pl.Series:
    """Return an ``(n, k)`` array as a column: scalars for k = 1 unless `as_list`, else vectors.

    Raises
    ------
    TypeError
        If Polars has no type for the values.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError("the values are a masked array; say what masked values are, for instance with .filled(np.nan).")
    n, k = values.shape
    values = np.array(values, order="C")  # Polars adopts the memory of numpy arrays
    try:
        if as_list:
            inner = pl.Series(values.reshape(-1))
            return inner.reshape((n, k)).arr.to_list().alias(name)
        if k == 1:
            flat = values[:, 0]
            return pl.Series(name, flat.tolist() if flat.dtype == object else flat)
        inner = pl.Series(values.reshape(-1))
        return inner.reshape((n, k)).alias(name)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise TypeError(f"values of dtype {values.dtype} cannot be kept in a column: {error}") from None


def stacked(columns: Sequence[pl.Series], samples: Array, *, flat: bool) -> Array:
    """Return columns (one value per sample of the dataset) side by side, for some samples.

    Parameters
    ----------
    columns : sequence of polars.Series
    samples : ndarray of uint32, ascending
    flat : bool
        Return a single scalar column one-dimensional.

    Returns
    -------
    ndarray
        Read-only; a view of the column's memory where it is one column, without nulls, and the samples a range.
    """
    parts = [_pick(column, samples) for column in columns]
    if len(parts) == 1:
        part = parts[0]
        joined = part if part.ndim == 2 or flat else part[:, None]
    else:
        blocks = [part if part.ndim == 2 else part[:, None] for part in parts]
        joined = np.concatenate([b.astype(common(blocks), copy=False) for b in blocks], axis=1)
    return _sealed(joined)


def _sealed(array: Array) -> Array:
    if array.dtype.kind in "fiub" and array.dtype.itemsize and array.dtype != np.float16:
        return readonly(array)
    array = array.view()
    array.flags.writeable = False
    return array


def _pick(column: pl.Series, samples: Array) -> Array:
    first, n = int(samples[0]), len(samples)
    part = column.slice(first, n) if int(samples[-1]) - first == n - 1 else column.gather(pl.Series(samples))
    kind = part.dtype
    if isinstance(kind, pl.List | pl.Array):
        return _vectors(part, column)
    if kind in (pl.Categorical, pl.Enum) or kind == pl.String:
        return np.array(part.cast(pl.String).to_list(), dtype=object)
    if part.null_count() and (kind.is_integer() or kind == pl.Boolean):
        floats = part.cast(pl.Float64)
        if kind == pl.Boolean or floats.cast(kind, strict=False).equals(part):
            return floats.to_numpy()
        return np.array(part.to_list(), dtype=object)
    if kind == pl.Null:
        return np.full(n, np.nan)
    return part.to_numpy()


def _vectors(part: pl.Series, column: pl.Series) -> Array:
    """Return lists as lines of an array as wide as the lists of the whole column."""
    if isinstance(column.dtype, pl.Array):
        width = int(column.dtype.size)
    else:
        widths = column.list.len().drop_nulls().unique().sort()
        if len(widths) != 1:
            what = f"have different lengths, {widths.to_list()}" if len(widths) else "are all missing"
            raise ValueError(f"the lists of {column.name!r} {what}; no one array holds them.")
        width = int(widths[0])
    flat = part.drop_nulls().explode()
    inner = flat.to_numpy() if flat.dtype.is_numeric() else np.array(flat.to_list(), dtype=object)
    inner = inner.reshape(-1, width)
    if not part.null_count():
        return inner
    kind = inner.dtype if inner.dtype.kind in "fO" else np.dtype(np.float64)
    out = np.full((len(part), width), None if kind.hasobject else np.nan, dtype=kind)
    out[part.is_not_null().to_numpy()] = inner
    return out


def common(blocks: Sequence[Array]) -> np.dtype[Any]:
    """Return the dtype that keeps every value of all blocks: the promoted one, or object."""
    kinds = {block.dtype for block in blocks}
    if len(kinds) == 1:
        return kinds.pop()
    if any(block.dtype.kind not in "fiub" for block in blocks):
        return np.dtype(object)
    kind = np.result_type(*blocks)
    for block in blocks:
        if block.dtype.kind in "iu" and kind.kind == "f":
            back = block.astype(kind)
            if np.any(np.abs(back) >= 2.0**53) or not np.array_equal(back.astype(block.dtype), block):
                return np.dtype(object)
    return np.dtype(kind)
