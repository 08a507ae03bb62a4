"""Changing labels of the index: partition, group, branch, and the name of a processing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from spectroxr.adding import label_column
from spectroxr.cells import Cells, check_name, existing
from spectroxr.errors import UnknownNameError, nearest
from spectroxr.index import Index
from spectroxr.schema import INDEX_SCHEMA, Array

__all__ = ["update_labels"]

SETTABLE = ("partition", "group", "branch", "processing")


def update_labels(cells: Cells, indexes: Any, updates: Mapping[str, Any]) -> int:
    """Change labels of lines of the index; see `FeatureBlock.update_indexes`.

    Returns
    -------
    int
        Number of lines addressed.
    """
    index = cells.index
    samples, processings = _addressed(indexes, index)
    for key in updates:
        if key not in INDEX_SCHEMA:
            raise UnknownNameError(nearest(key, SETTABLE, "index column"))
        if key not in SETTABLE:
            raise ValueError(f"column {key!r} is set by the dataset and cannot be updated.")
    columns = {k: label_column(k, v, len(samples)) for k, v in updates.items() if k != "processing"}
    table = index.samples
    for key in ("partition", "group"):
        if key in columns:
            table = table.with_columns(_scatter(table[key], samples, columns[key]))
    branches: dict[str, Array] = {}
    if "branch" in columns:
        branches = _branches(index, samples, processings, columns["branch"].to_numpy())
    rename = None
    if "processing" in updates:
        rename = _check_rename(index, samples, processings, updates["processing"])
    if columns:
        index.relabel(table, branches)
    if rename is not None and rename[0] != rename[1]:
        for source in cells.sources.values():
            source.rename(*rename)
        index.rename(*rename)
        cells.lineage.rename(*rename)
        cells.epoch += 1
    return len(samples)


def _addressed(indexes: Any, index: Index) -> tuple[Array, list[str | None]]:
    """Return sample and processing of each line; a processing of None stands for all the sample has."""
    if isinstance(indexes, pl.DataFrame):
        if "sample" not in indexes.columns:
            raise ValueError(f"indexes needs a column 'sample'; it has {indexes.columns}.")
        column = indexes["sample"]
        names = indexes["processing"].to_list() if "processing" in indexes.columns else [None] * len(column)
    else:
        column = pl.Series(np.asarray(indexes))
        names = [None] * len(column)
    if not len(column):
        raise ValueError("indexes names no line.")
    if not column.dtype.is_integer() or column.null_count():
        raise TypeError(f"sample ids are whole numbers, not {column.dtype} with {column.null_count()} nulls.")
    samples = existing(column.to_numpy(), len(index))
    for name in dict.fromkeys(names):
        if name is None:
            continue
        if name not in index.lines:
            raise UnknownNameError(nearest(name, index.lines, "processing"))
        asked = samples[np.array([n == name for n in names])]
        lost = asked[~index.has(asked, name)]
        if len(lost):
            raise UnknownNameError(f"sample {lost[0]} has no processing {name!r}.")
    return samples, names


def _scatter(column: pl.Series, samples: Array, values: pl.Series) -> pl.Series:
    """Set values of a column of the samples; a sample with two different values is an error."""
    pairs = pl.DataFrame({"sample": samples, "value": values}).unique()
    twice = pairs.filter(pl.col("sample").is_duplicated())
    if twice.height:
        raise ValueError(
            f"sample {twice['sample'][0]} would get several values of {column.name!r}, which belongs to the sample."
        )
    where = np.arange(len(column), dtype=np.uint32)
    known = pl.DataFrame({"sample": where, "old": column})
    joined = known.join(pairs.with_columns(hit=pl.lit(True)), on="sample", how="left", maintain_order="left")
    return joined.select(
        pl.when(pl.col("hit")).then(pl.col("value")).otherwise(pl.col("old")).alias(column.name)
    ).to_series()


def _branches(index: Index, samples: Array, processings: list[str | None], values: Array) -> dict[str, Array]:
    names = np.array(processings, dtype=object)
    asked_for = pl.DataFrame({"sample": samples, "name": pl.Series(processings, dtype=pl.String), "value": values})
    asked_for = asked_for.unique()
    twice = asked_for.filter(asked_for.select("sample", "name").is_duplicated())
    if twice.height:
        raise ValueError(f"a line of sample {twice['sample'][0]} would get several values of 'branch'.")
    branches: dict[str, Array] = {}
    for processing, lines in index.lines.items():
        asked = np.array([n is None or n == processing for n in names], dtype=bool)
        asked &= index.has(samples, processing)
        if asked.any():
            changed = lines.branch.copy()
            changed[np.searchsorted(lines.samples, samples[asked])] = values[asked]
            branches[processing] = changed
    return branches


def _check_rename(index: Index, samples: Array, processings: list[str | None], to: Any) -> tuple[str, str]:
    check_name(to, "processing")
    named = {name for name in processings if name is not None}
    if None in processings:
        named |= {p for p in index.lines if index.has(samples, p).any()}
    if len(named) != 1:
        raise ValueError(f"one processing is renamed at a time; the lines are of {sorted(named)}.")
    (old,) = named
    lines = index.lines[old].samples
    if len(np.unique(samples)) != len(lines):
        raise ValueError(
            f"processing {old!r} can only be renamed in all of its {len(lines)} lines, not in "
            f"{len(np.unique(samples))} of them; write those under the new name with update_x."
        )
    if to != old and to in index.lines:
        raise ValueError(f"there is a processing {to!r} already.")
    return old, to
