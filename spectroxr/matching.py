"""Which lines of the index pass a filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import polars as pl

from spectroxr.filters import Parsed, mask_of
from spectroxr.index import Index
from spectroxr.schema import Array

__all__ = ["SideTable", "matching"]


class SideTable(Protocol):
    """A block whose columns can be filtered by: metadata or targets."""

    version: int

    @property
    def unread(self) -> object | None:
        """What it will be read from; None if it is here."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """Dtypes of the columns."""

    def column(self, name: str) -> pl.Series:
        """One value per sample, ids ascending, inherited from origins where missing."""


def matching(index: Index, side: Mapping[str, SideTable], parsed: Parsed) -> list[tuple[str, Array]]:
    """Return per processing (of those with any) the samples, ascending, whose lines pass."""
    held = [(name, lines.samples) for name, lines in index.lines.items()]
    per_sample, per_name, per_line = _by_reach(parsed)
    if per_line:
        return _line_by_line(index, side, parsed)
    if per_name:
        names = pl.DataFrame({"processing": [name for name, _ in held]}, schema={"processing": pl.String})
        held = [pair for pair, hit in zip(held, mask_of(names, per_name), strict=True) if hit]
    if per_sample:
        mask = mask_of(_with_columns(index, side, index.samples, parsed.columns), per_sample)
        passed = index.samples["sample"].filter(mask).to_numpy()
        held = [
            (name, passed if len(samples) == len(index) else passed[index.has(passed, name)]) for name, samples in held
        ]
    return [(name, samples) for name, samples in held if len(samples)]


def _with_columns(
    index: Index, side: Mapping[str, SideTable], table: pl.DataFrame, names: Sequence[str]
) -> pl.DataFrame:
    homes = {name: next(table for table in side.values() if name in table.columns) for name in names}
    columns = [home.column(name).alias(name) for name, home in homes.items()]
    if table is not index.samples:
        columns = [column.gather(table["sample"]) for column in columns]
    return table.with_columns(columns)


def _line_by_line(index: Index, side: Mapping[str, SideTable], parsed: Parsed) -> list[tuple[str, Array]]:
    if parsed.by_line:
        masks: dict[tuple[int, int, str], Array] = {}
        named = any("processing" in condition.meta.root_names() for condition in parsed.conditions)
        for name, lines in index.lines.items():
            key = (id(lines.samples), id(lines.branch), name if named else "")
            if key not in masks:
                part = _with_columns(index, side, index.part(name), parsed.columns)
                masks[key] = part["sample"].filter(mask_of(part, parsed.conditions)).to_numpy()
        hits = [
            (name, masks[id(lines.samples), id(lines.branch), name if named else ""])
            for name, lines in index.lines.items()
        ]
        return [hit for hit in hits if len(hit[1])]
    table = _with_columns(index, side, index.table, parsed.columns)
    mask = mask_of(table, parsed.conditions)
    passed = table["sample"].filter(mask).to_numpy()
    found = []
    line = taken = 0
    for name, lines in index.lines.items():
        length = len(lines.samples)
        count = int(mask.slice(line, length).sum())
        if count:
            found.append((name, passed[taken : taken + count]))
        line += length
        taken += count
    return found


def _by_reach(parsed: Parsed) -> tuple[list[pl.Expr], list[pl.Expr], list[pl.Expr]]:
    """Part conditions into those on samples, those on names of processings, and those on single lines."""
    parts: tuple[list[pl.Expr], list[pl.Expr], list[pl.Expr]] = ([], [], [])
    for condition in parsed.conditions:
        roots = set(condition.meta.root_names())
        reach = 0 if not roots & {"processing", "branch"} else 1 if roots == {"processing"} else 2
        parts[reach].append(condition)
    return parts
