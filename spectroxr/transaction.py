"""Several writes as one: all of them, or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from spectroxr.dataset import SpectroDataset

__all__ = ["all_or_nothing", "numbered"]


@contextmanager
def all_or_nothing(ds: SpectroDataset) -> Iterator[None]:
    """Undo what was added in the block if it raises.

    Holds for additions of rows, sources and targets, which never write into cells that exist; metadata are added last.
    """
    cells = ds.features.cells
    state = cells.state()
    targets = ds.targets.state()
    try:
        yield
    except BaseException:
        cells.back(state)
        ds.targets.back(targets)
        raise


def numbered(table: pl.DataFrame, start: int, stop: int) -> pl.DataFrame:
    """Return `table` with a column ``sample`` that numbers its lines from `start`, unless it has one.

    Raises
    ------
    TypeError
        If it is not a Polars DataFrame.
    ValueError
        If it has no such column and not one line per sample from `start` to `stop`, or names others.
    """
    if not isinstance(table, pl.DataFrame):
        raise TypeError(f"targets and metadata come as a polars.DataFrame, not {type(table).__name__}.")
    if "sample" in table.columns:
        column = table["sample"]
        if column.dtype.is_integer() and ((column < start) | (column >= stop)).any():
            raise ValueError(f"column 'sample' names others than the new samples, {start} to {stop - 1}.")
        return table
    if table.height != stop - start:
        raise ValueError(f"the table has {table.height} lines for {stop - start} new samples.")
    return table.with_columns(pl.Series("sample", np.arange(start, stop), dtype=pl.UInt32))
