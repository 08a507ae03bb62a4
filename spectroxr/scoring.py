"""Figures of merit of many predictions at once, in Polars; `spectroxr.formulas` says what each of them is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from spectroxr.index import Index
from spectroxr.matching import SideTable
from spectroxr.pairing import Pairs, pairs_of

__all__ = ["CLASSES", "NUMBERS", "confused", "scored"]

#: Figures of numbers; the first three are one, named after the partition.
NUMBERS = ("RMSEC", "RMSECV", "RMSEP", "SEP", "bias", "R2", "RPD", "RPIQ", "MAE")

#: Figures of classes.
CLASSES = ("accuracy", "balanced_accuracy", "F1")

TAKEN = ("n", "missing", "measured", "predicted", *NUMBERS, *CLASSES)


def scored(
    lines: pl.DataFrame,
    by: str | Sequence[str],
    target: str | Sequence[str] | None,
    index: Index,
    side: Mapping[str, SideTable],
) -> pl.DataFrame:
    """Return the figures of merit of predictions; see `PredictionBlock.metrics`."""
    names = _names(by)
    pairs = pairs_of(lines, names, _asked(target), index, side)
    keys = ["cell", "target", *pairs.columns.values()]
    parts = []
    if pairs.numbers:
        parts.append(_of_numbers(pl.concat(pairs.numbers), keys))
    if pairs.classes:
        parts.append(_of_classes(_counts(pl.concat(pairs.classes), keys), keys))
    figures = pl.concat(parts, how="diagonal").with_columns(
        pl.lit(None, dtype=pl.Float64).alias(name)
        for name in ("RMSE", *NUMBERS[3:], *CLASSES)
        if not any(name in part.columns for part in parts)
    )
    named = _named(figures, pairs, names)
    role = pl.col("partition").replace_strict({"train": "RMSEC", "val": "RMSECV"}, default="RMSEP")
    return named.with_columns(pl.when(role == name).then("RMSE").alias(name) for name in NUMBERS[:3]).select(
        *_leading(names), "n", "missing", *NUMBERS, *CLASSES
    )


def confused(
    lines: pl.DataFrame,
    by: str | Sequence[str],
    target: str | Sequence[str] | None,
    index: Index,
    side: Mapping[str, SideTable],
) -> pl.DataFrame:
    """Return how often each class was predicted as which; see `PredictionBlock.confusion`."""
    names = _names(by)
    pairs = pairs_of(lines, names, _asked(target), index, side)
    if not pairs.classes:
        raise ValueError("the predictions are numbers; a confusion is of classes.")
    keys = ["cell", "target", *pairs.columns.values()]
    counts = _counts(pl.concat(pairs.classes), keys).filter(pl.col("measured").is_not_null())
    labels = counts.with_columns(pairs.names.gather(counts[name]).alias(name) for name in ("measured", "predicted"))
    return _named(labels, pairs, names, ["measured", "predicted"]).select(
        *_leading(names), "measured", "predicted", pl.col("len").alias("n")
    )


def _names(by: str | Sequence[str]) -> list[str]:
    names = [by] if isinstance(by, str) else list(by)
    taken = [name for name in names if name in TAKEN]
    if taken:
        raise ValueError(f"the table has a column {taken[0]!r} of its own; it cannot be told apart by another.")
    if len(set(names)) < len(names):
        raise ValueError(f"by names a column twice: {names}.")
    return names


def _leading(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*names, "target", "partition"]))


def _asked(target: str | Sequence[str] | None) -> list[str] | None:
    return [target] if isinstance(target, str) else None if target is None else list(target)


def _named(table: pl.DataFrame, pairs: Pairs, names: Sequence[str], within: Sequence[str] = ()) -> pl.DataFrame:
    """Return the table with what its cells and targets are called, in order."""
    columns = pairs.columns
    ordered = table.sort("cell", "target", *columns.values(), *within)
    targets = pl.Series(pairs.targets, dtype=pl.String).gather(ordered["target"])
    joined = ordered.with_columns(targets.alias("target")).join(
        pairs.cells, on="cell", how="left", maintain_order="left"
    )
    return joined.rename({short: name for name, short in columns.items()})


def _of_numbers(lines: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Return the figures of numbers per group; null in a column of values is a missing value."""
    error, true = pl.col("predicted") - pl.col("measured"), pl.col("measured")
    known = lines.filter(true.is_not_null()) if lines["measured"].null_count() else lines
    found = known.group_by(keys).agg(
        pl.len().alias("lines"),
        error.len().sub(error.null_count()).cast(pl.UInt32).alias("n"),
        error.pow(2).mean().sqrt().alias("RMSE"),
        error.mean().alias("bias"),
        error.std().alias("SEP"),
        error.abs().mean().alias("MAE"),
        (error.min() == error.max()).alias("shifted"),
        (true.min() == true.max()).alias("constant"),
        true.std().alias("spread"),
        (true.quantile(0.75, "linear") - true.quantile(0.25, "linear")).alias("quartiles"),
    )
    n, nan = pl.col("n"), pl.lit(float("nan"))
    found = found.with_columns(
        pl.when(n < 2).then(nan).when("shifted").then(0.0).otherwise("SEP").alias("SEP"),
        pl.when("constant").then(nan).otherwise("spread").alias("spread"),
        pl.when("constant").then(nan).otherwise("quartiles").alias("quartiles"),
    ).with_columns(
        (1 - pl.col("RMSE").pow(2) * n / (pl.col("spread").pow(2) * (n - 1))).alias("R2"),
        (pl.col("spread") / pl.col("SEP")).alias("RPD"),
        (pl.col("quartiles") / pl.col("RMSE")).alias("RPIQ"),
    )
    figures = ["RMSE", *NUMBERS[3:]]
    whole = pl.col("lines") == n
    found = found.with_columns(pl.when(whole).then(name).otherwise(nan).fill_null(nan).alias(name) for name in figures)
    return _with_missing(found.select(*keys, "n", *figures), lines.filter(true.is_null()), keys)


def _with_missing(found: pl.DataFrame, missing: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Return the figures with the number of lines left out; those of nothing are NaN."""
    if not missing.height:
        return found.with_columns(pl.lit(0, dtype=pl.UInt32).alias("missing"))
    lost = missing.group_by(keys).agg(pl.len().cast(pl.UInt32).alias("missing"))
    joined = found.join(lost, on=keys, how="full", coalesce=True, nulls_equal=True)
    return joined.with_columns(
        pl.col("n", "missing").fill_null(0), pl.col(pl.Float64).exclude(keys).fill_null(float("nan"))
    )


def _counts(lines: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    return lines.group_by(*keys, "measured", "predicted").agg(pl.len().cast(pl.UInt32))


def _of_classes(counts: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Return the figures of classes per group, from how often each class was predicted as which."""
    known = counts.filter(pl.col("measured").is_not_null())
    right = pl.col("len").filter(pl.col("measured") == pl.col("predicted")).sum()
    total = known.group_by(keys).agg(
        pl.col("len").sum().alias("lines"),
        pl.col("len").filter(pl.col("predicted").is_not_null()).sum().cast(pl.UInt32).alias("n"),
        right.alias("right"),
    )
    of_class = (
        known.group_by(*keys, pl.col("measured").alias("class"))
        .agg(pl.col("len").sum().alias("true"), right.alias("right"))
        .join(
            known.group_by(*keys, pl.col("predicted").alias("class")).agg(pl.col("len").sum().alias("found")),
            on=[*keys, "class"],
            how="full",
            coalesce=True,
            nulls_equal=True,
        )
        .with_columns(pl.col("true", "right", "found").fill_null(0))
    )
    recall = (pl.col("right") / pl.col("true")).filter(pl.col("true") > 0).mean()
    f1 = (2 * pl.col("right") / (pl.col("true") + pl.col("found"))).mean()
    found = total.join(
        of_class.group_by(keys).agg(recall.alias("balanced_accuracy"), f1.alias("F1")),
        on=keys,
        how="left",
        nulls_equal=True,
    ).with_columns((pl.col("right") / pl.col("lines")).alias("accuracy"))
    whole = pl.col("lines") == pl.col("n")
    found = found.with_columns(pl.when(whole).then(name).otherwise(float("nan")).alias(name) for name in CLASSES)
    missing = counts.filter(pl.col("measured").is_null())
    lost = missing.group_by(keys).agg(pl.col("len").sum().cast(pl.UInt32).alias("missing"))
    joined = found.select(*keys, "n", *CLASSES).join(lost, on=keys, how="full", coalesce=True, nulls_equal=True)
    return joined.with_columns(pl.col("n", "missing").fill_null(0), pl.col(CLASSES).fill_null(float("nan")))
