"""Versions of the targets as one table, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

__all__ = ["from_long_table", "long_table"]


def long_table(versions: Mapping[str, pl.DataFrame]) -> tuple[pl.DataFrame, dict[str, dict[str, str]]]:
    """Return versions below each other, and under which column each target of each version stands.

    A target whose dtype differs between versions has a column per dtype, named ``target@version``.
    """
    taken = {name for frame in versions.values() for name in frame.columns}
    names: dict[str, dict[str, str]] = {}
    kinds: dict[str, Any] = {}
    parts = []
    for version, frame in versions.items():
        renamed = {}
        for name in frame.columns:
            if name == "sample":
                continue
            kind = frame.schema[name]
            column = name if kinds.setdefault(name, kind) == kind else f"{name}@{version}"
            while column != name and column in taken:
                column += "'"
            renamed[name] = column
        names[version] = renamed
        parts.append(frame.rename(renamed).with_columns(pl.lit(version, dtype=pl.String).alias("processing")))
    if not parts:
        return pl.DataFrame(schema={"sample": pl.UInt32, "processing": pl.String}), {}
    return pl.concat(parts, how="diagonal"), names


def from_long_table(table: pl.DataFrame, document: Mapping[str, Any]) -> dict[str, pl.DataFrame]:
    """Return the versions of a long table; `document` says which columns are whose."""
    versions = {}
    for version, columns in document.get("versions", []):
        part = table.filter(pl.col("processing") == version)
        versions[version] = part.select(pl.col("sample"), *[pl.col(column).alias(name) for name, column in columns])
    return versions
