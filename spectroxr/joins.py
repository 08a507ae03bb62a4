"""Laying new lines over old ones, by sample."""

from __future__ import annotations

from typing import Any

import polars as pl

__all__ = ["check_width", "completed", "overlaid"]


def completed(old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """Return `old` with the values of `new` that are not null, and its samples and columns."""
    joined = old.join(new, on="sample", how="full", coalesce=True, suffix="\0new")
    columns = [pl.col("sample")]
    for name in dict.fromkeys([*old.columns, *new.columns]):
        if name == "sample":
            continue
        if f"{name}\0new" in joined.columns:
            columns.append(pl.coalesce(f"{name}\0new", name).alias(name))
        else:
            columns.append(pl.col(name))
    return joined.select(columns).sort("sample")


def overlaid(old: pl.DataFrame, new: pl.DataFrame, version: str) -> pl.DataFrame:
    """Return `old` with the values of `new`, nulls included, wherever `new` names the sample and the column.

    Raises
    ------
    TypeError
        If a column of `new` does not fit the dtype of `old` without loss.
    """
    for name in new.columns:
        if name in old.columns and old.schema[name] != new.schema[name]:
            try:
                new = new.with_columns(_exact_cast(new[name], old.schema[name]))
            except (pl.exceptions.PolarsError, ValueError):
                raise TypeError(
                    f"target {name!r} is {old.schema[name]} in version {version!r}, the new values are "
                    f"{new.schema[name]}."
                ) from None
    joined = old.join(new, on="sample", how="full", coalesce=True, suffix="\0new")
    here = pl.Series("here", joined["sample"].is_in(new["sample"].implode()))
    for name in new.columns:
        if name != "sample" and name in old.columns:
            chosen = pl.when(here).then(pl.col(f"{name}\0new")).otherwise(pl.col(name)).alias(name)
            joined = joined.with_columns(chosen).drop(f"{name}\0new")
    return joined.sort("sample")


def _exact_cast(values: pl.Series, kind: Any) -> pl.Series:
    cast = values.cast(kind, strict=True)
    if not cast.cast(values.dtype, strict=True).equals(values):
        raise ValueError("the cast would lose digits")
    return cast


def check_width(old: pl.DataFrame, name: str, width: int, version: str) -> None:
    """Raise if the lists of a column are not `width` values long.

    Raises
    ------
    ValueError
        If so.
    """
    if name in old.columns and isinstance(old.schema[name], pl.List):
        others = set(old[name].list.len().drop_nulls().to_list()) - {width}
        if others:
            raise ValueError(f"version {version!r} has {others.pop()} values a sample, not {width}.")
