"""Which lines of the predictions are compared with the targets, and by what they are told apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from spectroxr.errors import UnknownNameError, nearest
from spectroxr.index import Index
from spectroxr.matching import SideTable
from spectroxr.outputs import OUTPUTS
from spectroxr.references import Classes, Meaning, compared, meaning_of
from spectroxr.schema import Array
from spectroxr.targets import TargetBlock

__all__ = ["Pairs", "in_units", "pairs_of"]

#: What the lines of one kind have in common; `text` tells labels from numbers.
KIND = ("model", "fold", "repeat", "partition", "processing", "seed", "metadata", "inverse", "inverse_of", "text")


@dataclass(frozen=True)
class Pairs:
    """What was measured and what was predicted.

    Attributes
    ----------
    cells : polars.DataFrame
        ``cell`` and the columns that tell whole predictions apart, ``partition`` the last of them.
    numbers, classes : list of polars.DataFrame
        Per target of some lines ``cell``, ``target``, columns of samples (``by 0``, ...), ``measured``, ``predicted``.
    columns : dict of str to str
        The columns of samples by which lines are told apart, and what they are called in the tables.
    names : polars.Series
        The classes, in the order of their numbers.
    targets : tuple of str
        The targets, in the order of their numbers.
    """

    cells: pl.DataFrame
    numbers: list[pl.DataFrame]
    classes: list[pl.DataFrame]
    columns: dict[str, str]
    names: pl.Series
    targets: tuple[str, ...]


def in_units(table: pl.DataFrame, mask: pl.Series) -> pl.DataFrame:
    """Return the lines that a mask selects, each that was brought back to the units of the targets only as such.

    Parameters
    ----------
    table : polars.DataFrame
        Predictions.
    mask : polars.Series of bool

    Returns
    -------
    polars.DataFrame
        In place of a line that was inverted, its inverse, whether selected or not.
    """
    if not table["inverse"].any():
        return table if mask.all() else table.filter(mask)
    kind, kinds = kinds_of(table)
    before = [pl.coalesce(pl.when("inverse").then("inverse_of"), "processing").alias("processing")]
    own = kinds.with_columns(before).select(KIND[:7])
    origin = own.select(pl.struct(pl.all()).rank("dense")).to_series()
    pair = origin.gather(kind).cast(pl.UInt64) * 2**32 + table["sample"].cast(pl.UInt64)
    inverse = table["inverse"]
    wanted = pair.is_in(pair.filter(mask).unique().implode()) & inverse
    replaced = pair.is_in(pair.filter(inverse).unique().implode())
    return table.filter(wanted | (mask & ~inverse & ~replaced))


def kinds_of(table: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame]:
    """Return the kind of each line, and the kinds: the distinct values of all columns but samples and outputs.

    Predictions come in runs of lines that differ in the sample alone; only the first of each is looked at.
    """
    text = pl.col("preds").is_null() if {*OUTPUTS} <= {*table.columns} else pl.lit("labels" in table.columns)
    what = table.with_columns(text.alias("text")).select(KIND)
    begins = what.select(
        pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift(1)) for name in KIND)
        | (pl.int_range(pl.len()) == 0)
    ).to_series()
    heads = what.filter(begins)
    kinds = heads.unique(maintain_order=True).with_row_index("kind")
    run = begins.cast(pl.UInt32).cum_sum() - 1
    if kinds.height == heads.height:
        return run, kinds.drop("kind")
    of_run = heads.join(kinds, on=KIND, how="left", nulls_equal=True, maintain_order="left")["kind"]
    return of_run.gather(run), kinds.drop("kind")


def pairs_of(
    lines: pl.DataFrame,
    by: Sequence[str],
    asked: Sequence[str] | None,
    index: Index,
    side: Mapping[str, SideTable],
) -> Pairs:
    """Set what was predicted beside what was measured.

    Parameters
    ----------
    lines : polars.DataFrame
        Predictions in the units of the targets; at least one.
    by : sequence of str
        What to tell apart besides partitions and targets.
    asked : sequence of str, optional
        Leave out other targets.
    index : Index
    side : mapping of str to SideTable
        Metadata and targets.

    Raises
    ------
    UnknownNameError, ValueError, TypeError
        As `PredictionBlock.metrics`.
    """
    targets = side["targets"]
    assert isinstance(targets, TargetBlock)
    for name in asked or ():
        if name not in targets.columns:
            raise UnknownNameError(nearest(name, targets.columns, "target"))
    kind, kinds = kinds_of(lines)
    texts = {text: _fields(text) for text in kinds["metadata"].unique().to_list()}
    fields = [texts[text] for text in kinds["metadata"]]
    known, columns = _told_apart(by, kinds, fields, index, side)
    cell, cells = _cells(kinds, known)
    meanings: dict[Meaning | None, int] = {}
    of_kind = np.array(
        [
            meanings.setdefault(meaning_of(one, more, targets, asked), len(meanings))
            for one, more in zip(kinds.iter_rows(named=True), fields, strict=True)
        ],
        dtype=np.uint32,
    )
    kept = lines.select(
        "sample",
        cell.gather(kind).alias("cell"),
        *[values.gather(lines["sample"]).alias(columns[name]) for name, values in _values(columns, index, side)],
        *[name for name in OUTPUTS if name in lines.columns],
    )
    classes, order = Classes(), {name: k for k, name in enumerate(targets.columns)}
    found: dict[bool, list[pl.DataFrame]] = {False: [], True: []}
    for meaning, part in zip(meanings, _parted(kept, of_kind, kind, len(meanings)), strict=True):
        if meaning is None:
            continue
        beside = part.select("cell", *columns.values())
        for name, one, values in compared(part, meaning, targets, classes):
            if asked is None or name in asked:
                number = order.setdefault(one, len(order))
                column = pl.lit(number, dtype=pl.UInt32).alias("target")
                found[meaning.classified].append(beside.with_columns(column).hstack(values))
    if not any(found.values()):
        raise ValueError(f"no prediction selected is of the targets {asked}.")
    return Pairs(cells, found[False], found[True], columns, classes.names, tuple(order))


def _fields(text: str | None) -> dict[str, Any]:
    found = {} if text is None else json.loads(text)
    return found if isinstance(found, dict) else {}


def _parted(lines: pl.DataFrame, of_kind: Array, kind: pl.Series, count: int) -> list[pl.DataFrame]:
    """Return the lines of each part, in time that does not depend on how many parts there are."""
    if count == 1:
        return [lines]
    part = of_kind[kind.to_numpy()]
    order = np.argsort(part, kind="stable")
    ends = np.cumsum(np.bincount(part, minlength=count))
    sorted_ = lines[pl.Series(order.astype(np.uint32))] if np.any(part[1:] < part[:-1]) else lines
    return [sorted_.slice(end - n, n) for end, n in zip(ends, np.diff(ends, prepend=0), strict=True)]


def _told_apart(
    by: Sequence[str],
    kinds: pl.DataFrame,
    fields: Sequence[Mapping[str, Any]],
    index: Index,
    side: Mapping[str, SideTable],
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return the columns of `by` that whole kinds have, and names of those that samples have."""
    keys = dict.fromkeys(key for one in fields for key in one)
    own = [name for name in KIND if name != "text"]
    of_samples = dict.fromkeys(
        ["sample", *index.samples.columns, *(c for table in side.values() for c in table.columns)]
    )
    found: list[pl.Series] = []
    columns: dict[str, str] = {}
    for name in by:
        if name in ("target", "partition"):
            continue
        homes = [table for table in side.values() if name in table.columns]
        if name in own:
            found.append(kinds[name])
        elif name in keys and name in of_samples:
            raise ValueError(f"{name!r} is both a further field of the predictions and a column of the samples.")
        elif name in keys:
            found.append(_column(name, [one.get(name) for one in fields]))
        elif len(homes) > 1:
            raise ValueError(f"{name!r} is a column of the metadata and of the targets.")
        elif name in of_samples:
            columns[name] = f"by {len(columns)}"
        else:
            valid = dict.fromkeys(["target", *own, *keys, *of_samples])
            raise UnknownNameError(nearest(name, valid, "column of predictions and samples"))
    return pl.DataFrame([*found, kinds["partition"]]), columns


def _column(name: str, values: Sequence[Any]) -> pl.Series:
    """Return values from JSON as a column: lists of text joined by commas, what is of several types as JSON."""
    plain = [", ".join(v) if isinstance(v, list) and all(isinstance(x, str) for x in v) else v for v in values]
    types = {type(value) for value in plain if value is not None}
    if types <= {int, float} and float in types:
        return pl.Series(name, plain, dtype=pl.Float64, strict=False)
    if len(types) > 1 or types & {list, dict}:
        plain = [v if v is None or isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in plain]
    return pl.Series(name, plain, dtype=pl.String if not types else None)


def _cells(kinds: pl.DataFrame, known: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame]:
    """Return the cell of each kind, and the cells, in the order of their first line."""
    cells = known.unique(maintain_order=True).with_row_index("cell")
    cell = known.join(cells, on=known.columns, how="left", nulls_equal=True, maintain_order="left")["cell"]
    return cell, cells


def _values(columns: Mapping[str, str], index: Index, side: Mapping[str, SideTable]) -> list[tuple[str, pl.Series]]:
    found = []
    for name in columns:
        homes = [table for table in side.values() if name in table.columns]
        found.append((name, homes[0].column(name) if homes else index.samples[name]))
    return found
