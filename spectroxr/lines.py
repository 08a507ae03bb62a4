"""The samples that exist in each processing, and how they are read from the lines of an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from spectroxr.schema import INDEX_SCHEMA, SAMPLE_COLUMNS, Array

__all__ = ["Lines", "from_sorted"]


@dataclass(frozen=True)
class Lines:
    """The samples that exist in one processing.

    Attributes
    ----------
    samples : ndarray of uint32, ascending
    branch : ndarray of uint32
        One per sample.
    """

    samples: Array
    branch: Array


def from_sorted(table: pl.DataFrame, order: Sequence[str]) -> tuple[pl.DataFrame, dict[str, Lines]] | None:
    """Take apart an index with lines in the order of `Index.table`, and every sample in the first processing.

    Returns
    -------
    tuple or None
        The samples and the lines; None if the table is not like that, or something contradicts, which `check_table`
        words.
    """
    if dict(table.schema) != INDEX_SCHEMA:
        return None
    # columns one by one: a query over all of them starts threads, which takes longer than a small index
    if any(table[name].null_count() for name in INDEX_SCHEMA if name not in ("partition", "group")):
        return None
    runs = table["processing"].rle().struct.unnest()
    names = runs["value"].to_list()
    if names != list(order) or len(set(names)) != len(names):
        return None
    sizes = runs["len"].to_list()
    count = int(sizes[0]) if names else 0
    owned = pl.DataFrame([table[name] for name in SAMPLE_COLUMNS])
    owners = owned.slice(0, count)
    ids, branch = table["sample"].to_numpy(), table["branch"].to_numpy()
    everyone = np.arange(count, dtype=np.uint32)
    alike = bool((runs["len"] == count).all()) and _repeats(table, count)
    lines: dict[str, Lines] = {}
    start = 0
    for name, size in zip(names, sizes, strict=True):
        samples = ids[start : start + size]
        if not start or not alike:
            whole = size == count and bool(np.array_equal(samples, everyone))
            if not whole and (not start or samples[-1] >= count or not bool(np.all(samples[1:] > samples[:-1]))):
                return None
            part = owned.slice(start, size)
            if start and not part.equals(owners if whole else owners[samples], null_equal=True):
                return None
        lines[name] = Lines(samples, branch[start : start + size])
        start += size
    return owners, lines


def _repeats(table: pl.DataFrame, count: int) -> bool:
    """Tell whether what belongs to the samples comes again every `count` lines."""
    for name in SAMPLE_COLUMNS:
        column = table[name]
        later, earlier = column.slice(count), column.slice(0, max(0, len(column) - count))
        if not later.equals(earlier, null_equal=True):
            return False
    return True
