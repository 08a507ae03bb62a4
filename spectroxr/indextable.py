"""Whether a table is an index: columns, types, and lines that do not contradict each other."""

from __future__ import annotations

from typing import Any

import polars as pl

from spectroxr.schema import INDEX_SCHEMA, SAMPLE_COLUMNS

__all__ = ["check_table"]


def check_table(table: Any) -> pl.DataFrame:
    """Return `table` with exactly the columns and types of the schema, its lines consistent.

    Raises
    ------
    TypeError
        If it is not a Polars DataFrame.
    ValueError
        If a column is missing or unknown, a value does not fit its type, a line comes twice, or a sample
        has two values in a column that belongs to the sample.
    """
    if not isinstance(table, pl.DataFrame):
        raise TypeError(f"an index is a polars.DataFrame, not {type(table).__name__}.")
    if set(table.columns) != set(INDEX_SCHEMA):
        raise ValueError(f"an index has the columns {list(INDEX_SCHEMA)}, not {table.columns}.")
    for name, kind in INDEX_SCHEMA.items():
        given = table.schema[name]
        fits = given.is_integer() if kind == pl.UInt32 else given in (pl.String, pl.Categorical, pl.Enum)
        if not fits and given != pl.Null:
            raise TypeError(f"column {name!r} of an index holds {kind}, not {given}.")
    try:
        checked: pl.DataFrame = table.select(
            pl.col(name).cast(kind, strict=True) for name, kind in INDEX_SCHEMA.items()
        )
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"an index column does not fit its type: {str(error).splitlines()[0]}") from None
    for column in ("row", "sample", "origin", "branch", "processing"):
        if checked[column].null_count():
            raise ValueError(f"column {column!r} of an index cannot hold nulls.")
    if checked.select("sample", "processing").is_duplicated().any():
        raise ValueError("an index has one line per (sample, processing); some come twice.")
    owners = checked.select(SAMPLE_COLUMNS).unique()
    twice = owners.filter(pl.col("sample").is_duplicated())
    if twice.height:
        sample = twice["sample"][0]
        column = next(c for c in SAMPLE_COLUMNS if twice.filter(pl.col("sample") == sample)[c].n_unique() > 1)
        raise ValueError(
            f"sample {sample} has several values of {column!r} in its lines; {column!r} belongs to the sample "
            "and is the same in all of its processings."
        )
    return checked
