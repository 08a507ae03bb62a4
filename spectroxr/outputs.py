"""The outputs of models as columns, and tables of them below each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from spectroxr.schema import Array
from spectroxr.stacking import column_of

__all__ = ["OUTPUTS", "output_column", "stacked_lines"]

#: Numbers, and class labels given as text.
OUTPUTS = ("preds", "labels")


def _as_list(column: pl.Series) -> pl.Series:
    if isinstance(column.dtype, pl.List):
        return column
    if isinstance(column.dtype, pl.Array):
        return column.arr.to_list()
    return column.reshape((len(column), 1)).arr.to_list()


def output_column(values: Array) -> pl.Series:
    """Return model outputs as the column ``preds``, or ``labels`` if they are text."""
    column = column_of("preds", values, False)
    inner = column.dtype.inner if isinstance(column.dtype, pl.Array) else column.dtype
    return column.alias("labels") if inner == pl.String else column


def stacked_lines(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return tables below each other, their outputs in one dtype that keeps every value.

    Raises
    ------
    TypeError
        If there is none.
    """
    for name in OUTPUTS:
        kinds = {part.schema[name] for part in parts if name in part.columns}
        if len(kinds) > 1:
            parts = [part.with_columns(_as_list(part[name])) if name in part.columns else part for part in parts]
            inner = {part[name].list.explode().dtype for part in parts if name in part.columns}
            if len(inner) > 1:
                parts = [_recast(part, name, inner) if name in part.columns else part for part in parts]
    return pl.concat(parts, how="diagonal", rechunk=False)


def _recast(part: pl.DataFrame, name: str, kinds: set[Any]) -> pl.DataFrame:
    empty = [pl.DataFrame({"k": pl.Series([], dtype=kind)}) for kind in kinds]
    kind = pl.concat(empty, how="vertical_relaxed").schema["k"]
    cast = part[name].cast(pl.List(kind))
    if part[name].dtype != cast.dtype:
        before = part[name].list.explode()
        if before.dtype.is_integer() and kind.is_float() and (before.abs() > 2**53).any():
            raise TypeError(
                f"predictions of {before.dtype} and of {kind} cannot be kept together without losing digits."
            )
    return part.with_columns(cast)
