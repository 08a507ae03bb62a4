"""Groups of samples by a column of the index, the metadata or the targets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from spectroxr.schema import Array

__all__ = ["check_complete", "check_free", "groups_of"]

#: Whole numbers from here on are not all float64.
_WHOLE = 2**53


def check_free(name: str, taken: Sequence[str]) -> None:
    """Raise if a column to group by has the name of something in the result.

    Raises
    ------
    ValueError
        If so: the result could not hold both.
    """
    if name in taken:
        raise ValueError(
            f"column {name!r} is called like a part of the result ({', '.join(taken)}); give its values to add_meta "
            "under another name and group by that."
        )


def check_complete(column: pl.Series, samples: Array, what: str) -> None:
    """Raise if one of `samples`, line by line those of `column`, has no value.

    Raises
    ------
    ValueError
        If so; the message says how many and names the first.
    """
    real = column.dtype.is_float()
    lost = (column.is_null() | column.is_nan() if real else column.is_null()).to_numpy()
    if lost.any():
        # an expression that is null for a sample does not select it
        test = f"pl.col({column.name!r}).is_not_{'nan' if real else 'null'}()"
        raise ValueError(
            f"{lost.sum()} of {len(samples)} samples have no {what} {column.name!r}, the first is sample "
            f"{samples[lost][0]}; leave them out, for instance by the filter {{{column.name!r}: {test}}}."
        )


def groups_of(column: pl.Series) -> tuple[Array, Array]:
    """Return the groups that a column parts its lines into.

    Parameters
    ----------
    column : polars.Series

    Returns
    -------
    labels : ndarray, shape (group,)
        Ascending, that of the nulls last: NaN among numbers, NaT among times, else None. Numbers that float64 would
        change, or that are NaN themselves, are Python objects beside None.
    codes : ndarray of intp, shape (line,)
        The group of each line.

    Raises
    ------
    TypeError
        If the column holds lists or arrays, which label no group.
    """
    if isinstance(column.dtype, pl.List | pl.Array):
        raise TypeError(
            f"column {column.name!r} holds {column.dtype}, which labels no group; group by one of text, numbers, "
            "booleans or times."
        )
    table = pl.DataFrame({"label": column})
    labels = table.unique().sort("label", nulls_last=True).with_row_index("code")
    codes = table.join(labels, on="label", how="left", nulls_equal=True, maintain_order="left")["code"]
    return _plain(labels["label"]), codes.to_numpy().astype(np.intp)


def _plain(labels: pl.Series) -> Array:
    """Return labels as an array of the dtype that xarray indexes best and that tells all of them apart."""
    kind, some = labels.dtype, labels.null_count() > 0
    times = isinstance(kind, pl.Duration) or (isinstance(kind, pl.Datetime) and kind.time_zone is None)
    whole = kind.is_integer() and (not some or (labels.drop_nulls().cast(pl.Float64).abs() < _WHOLE).all())
    real = kind.is_float() and not (some and labels.is_nan().any())
    return labels.to_numpy() if times or whole or real else np.array(labels.to_list())
