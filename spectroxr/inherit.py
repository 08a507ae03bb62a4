"""Values of a sample that has none of its own: those of its origin."""

from __future__ import annotations

import numpy as np
import polars as pl

from spectroxr.errors import UnknownNameError
from spectroxr.index import Index
from spectroxr.schema import Array

__all__ = ["check_samples", "derived_from", "inherited", "roots_of", "spread"]


def check_samples(table: pl.DataFrame, index: Index, what: str) -> pl.DataFrame:
    """Return `table` with a column ``sample`` of uint32, numbered by line if it has none.

    Raises
    ------
    TypeError
        If it is not a Polars DataFrame, or ``sample`` does not hold whole numbers.
    ValueError
        If it has no such column and another number of lines than there are samples, or an id is null.
    UnknownNameError
        If a sample does not exist.
    """
    if not isinstance(table, pl.DataFrame):
        raise TypeError(f"{what} come as a polars.DataFrame, not {type(table).__name__}.")
    if "sample" not in table.columns:
        originals = np.flatnonzero(index.origins == np.arange(len(index)))
        for ids in (np.arange(len(index)), originals):
            if table.height == len(ids):
                return table.with_columns(pl.Series("sample", ids, dtype=pl.UInt32))
        raise ValueError(
            f"{what} have {table.height} lines for {len(index)} samples; add a column 'sample' that says which."
        )
    column = table["sample"]
    if not column.dtype.is_integer():
        raise TypeError(f"column 'sample' of {what} holds {column.dtype}; sample ids are whole numbers.")
    if column.null_count():
        raise ValueError(f"column 'sample' of {what} holds nulls.")
    wrong = column.filter((column < 0) | (column >= len(index)))
    if len(wrong):
        raise UnknownNameError(
            f"{what} name sample {wrong[0]}, which does not exist; samples are 0 to {len(index) - 1}."
        )
    return table.with_columns(pl.col("sample").cast(pl.UInt32))


def spread(samples: pl.Series, values: pl.Series, count: int) -> pl.Series:
    """Return `values` as one per sample, null where `samples` does not name it."""
    if len(samples) == count and np.array_equal(samples.to_numpy(), np.arange(count, dtype=np.uint32)):
        return values
    where = np.full(count, -1, dtype=np.int64)
    where[samples.to_numpy()] = np.arange(len(samples))
    positions = pl.Series(where)
    return values.gather(pl.select(pl.when(positions < 0).then(None).otherwise(positions)).to_series())


def derived_from(origins: Array, samples: Array) -> Array:
    """Tell for each sample whether it was derived, in any number of steps, from one of `samples`, which are not.

    An origin that does not exist is none.

    Examples
    --------
    >>> derived_from(np.array([0, 1, 1, 2]), np.array([1]))
    array([False, False,  True,  True])
    """
    ids = np.arange(len(origins), dtype=origins.dtype)
    family = np.zeros(len(origins), dtype=bool)
    if np.array_equal(origins, ids):
        return family
    parents = np.where(origins < len(origins), origins, ids)
    family[samples] = True
    while not np.array_equal(grown := family | family[parents], family):
        family = grown
    family[samples] = False
    return family


def roots_of(origins: Array) -> Array:
    """Return for each sample the original it was derived from, in any number of steps; itself if it is one.

    Examples
    --------
    >>> roots_of(np.array([0, 1, 1, 2]))
    array([0, 1, 1, 1])
    """
    roots = origins
    while not np.array_equal(further := roots[roots], roots):
        roots = further
    return roots


def inherited(values: pl.Series, origins: Array) -> pl.Series:
    """Return `values`, one per sample, each null filled by the sample's origin (and its origin in turn).

    Examples
    --------
    >>> inherited(pl.Series([10.0, 20.0, None, None]), np.array([0, 1, 1, 2])).to_list()
    [10.0, 20.0, 20.0, 20.0]
    """
    missing = values.is_null().to_numpy()
    derived = origins != np.arange(len(origins), dtype=origins.dtype)
    if not (missing & derived).any():
        return values
    source = np.arange(len(origins), dtype=np.int64)
    open_ = missing & derived
    while open_.any():
        source[open_] = origins[source[open_]]
        open_ = missing[source] & derived[source]
    return values.gather(pl.Series(source))
