"""The state behind the features: sources, index and row count; and writing cells without disturbing others."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from spectroxr.errors import UnknownNameError, nearest
from spectroxr.index import Index, distinct
from spectroxr.lazyplane import is_dask
from spectroxr.lineage import Lineage
from spectroxr.schema import Array
from spectroxr.source import FeatureSource

__all__ = ["Cells", "check_name", "existing", "sample_ids"]


@dataclass
class Cells:
    """Sources aligned by row, and the index that says which cells exist.

    Attributes
    ----------
    sources : dict of str to FeatureSource
    index : Index
    rows : int
        Physical rows in use, the same in every source.
    epoch : int
        Grows when sources or axes change.
    lock : threading.Lock
        Held while variants are brought together at a read.
    lineage : Lineage
        How the processings were made.
    """

    sources: dict[str, FeatureSource] = field(default_factory=dict)
    index: Index = field(default_factory=Index)
    rows: int = 0
    epoch: int = 0
    lock: Any = field(default_factory=threading.Lock, repr=False)
    lineage: Lineage = field(init=False)

    def __post_init__(self) -> None:
        self.lineage = Lineage(self.index)

    def source(self, which: str | int) -> FeatureSource:
        """Return a source by name or position.

        Raises
        ------
        UnknownNameError
            If there is none of that name or position.
        """
        names = list(self.sources)
        if isinstance(which, int | np.integer) and not isinstance(which, bool):
            if not -len(names) <= which < len(names):
                raise UnknownNameError(f"there is no source {which}; there are {len(names)}: {names}.")
            return self.sources[names[which]]
        if which not in self.sources:
            raise UnknownNameError(nearest(which, names, "source"))
        return self.sources[which]

    def state(self) -> tuple[Any, ...]:
        """Return what `back` needs to undo additions."""
        index = self.index
        blocks = {name: source.blocks for name, source in self.sources.items()}
        return (self.sources, blocks, self.rows, self.lineage.state(), index.samples, index.lines, index.holes)

    def back(self, state: tuple[Any, ...]) -> None:
        """Undo additions since `state` was taken; cells that existed then were never written."""
        self.sources, blocks, self.rows, lineage, *index = state
        self.lineage.back(lineage)
        for name, source in self.sources.items():
            source.adopt(blocks[name])
            for block in source.blocks:
                block.filled = [min(rows, self.rows) for rows in block.filled]
        self.index.swap(*index)
        self.epoch += 1

    def plan(self, samples: Array, processing: str) -> tuple[Array, Array]:
        """Decide on which rows to write samples, so that no other sample is changed.

        Parameters
        ----------
        samples : ndarray of uint32
            Distinct, in any order.
        processing : str

        Returns
        -------
        rows : ndarray of intp
            One per sample; those at or above `self.rows` are new.
        moved : ndarray of uint32
            The samples that get a new row, in the order of the new rows.
        """
        index = self.index
        if index.in_order:
            return samples.astype(np.intp), samples[:0]
        rows = index.rows[samples]
        everyone = np.arange(len(index), dtype=np.uint32)
        crowd = np.bincount(index.rows, minlength=self.rows)
        shared = crowd[rows] > 1
        if not shared.any():
            return rows, samples[:0]
        has = index.has(everyone, processing)
        claims = np.bincount(index.rows[has], minlength=self.rows)
        others = claims[rows] - has[samples]
        move = shared & (others > 0)
        stay = shared & ~move
        if stay.any():
            order = np.lexsort((samples, rows))
            order = order[stay[order]]
            first = np.ones(len(order), dtype=bool)
            first[1:] = rows[order][1:] != rows[order][:-1]
            move[order[~first]] = True
        rows = rows.copy()
        rows[move] = self.rows + np.arange(int(move.sum()))
        return rows, samples[move]

    def write(self, samples: Array, processing: str, data: Mapping[str, Array], absent: Sequence[str]) -> int:
        """Write one ``(sample, wavelength)`` array per source, and record it in the index.

        Parameters
        ----------
        samples : ndarray of uint32
            Distinct, in the order of the lines of `data`.
        processing : str
        data : mapping of str to ndarray
            Checked already: known sources, right shapes and dtypes.
        absent : sequence of str
            Sources that lines new to the index are missing from.

        Returns
        -------
        int
            How many samples got a row of their own first.
        """
        index = self.index
        lazy = [name for name, values in data.items() if is_dask(values) and not self.sources[name].where(processing)]
        data = {  # what Dask fails to compute must fail before anything is written
            name: np.asarray(values.compute()) if is_dask(values) and name not in lazy else values  # type: ignore[attr-defined]
            for name, values in data.items()
        }
        rows, moved = self.plan(samples, processing)
        total = self.rows + len(moved)
        if len(moved):
            old = index.rows[moved]
            new = np.arange(self.rows, total)
            taken = [
                (source, name, has)
                for source in self.sources.values()
                for name in source.processings
                if (has := index.has(moved, name)).any()
            ]
            for source, name, _ in taken:
                source.reserve(name, total, self.rows)
            for source, name, has in taken:
                source.copy_rows(name, old[has], new[has])
        for name in data:
            if name not in lazy:
                self.sources[name].reserve(processing, total, self.rows)
        for name, values in data.items():
            if name in lazy:
                self.sources[name].put_lazy(processing, rows, values, total)
            else:
                self.sources[name].put(processing, rows, values)
        order = np.argsort(samples, kind="stable")
        index.write(
            processing,
            samples[order],
            list(data),
            absent,
            (moved, np.arange(self.rows, total, dtype=np.uint32)),
        )
        self.rows = total
        self.lineage.touched(processing)
        return len(moved)

    def write_rows(
        self, rows: Array, samples: Array, processing: str, data: Mapping[str, Array], absent: Sequence[str]
    ) -> None:
        """Write spectra by their rows, for all samples that sit on these: samples that share a row go on sharing it.

        Parameters
        ----------
        rows : ndarray of intp
            Distinct; line k of each array goes to row k.
        samples : ndarray of uint32, ascending
            Those that then have the processing; each sits on one of `rows`.
        processing : str
        data : mapping of str to ndarray
            As for `write`.
        absent : sequence of str
            As for `write`.
        """
        lazy = {name for name, values in data.items() if is_dask(values)}
        for name in data:
            if name not in lazy:
                self.sources[name].reserve(processing, self.rows, self.rows)
        for name, values in data.items():
            if name in lazy:
                self.sources[name].put_lazy(processing, rows, values, self.rows)
            else:
                self.sources[name].put(processing, rows, values)
        self.index.write(processing, samples, list(data), absent)


def check_name(name: Any, what: str) -> str:
    """Return `name` if it is text one can name a source or processing with.

    Raises
    ------
    TypeError, ValueError
        If it is not text, or empty, or holds a ``/``.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a {what} is text, not {type(name).__name__} ({name!r}).")
    if not name or (what == "source" and "/" in name):
        raise ValueError(f"{name!r} cannot name a {what}: it is empty or holds a '/'.")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name!r} cannot name a {what}: it is not valid Unicode text.") from None
    return name


def sample_ids(indexes: Any, known: int) -> Array:
    """Return the distinct samples of an index, or of a list of ids, in order.

    Parameters
    ----------
    indexes : polars.DataFrame, polars.Series or sequence of int
        A DataFrame is read by its column ``sample``.
    known : int
        Number of samples that exist.

    Raises
    ------
    ValueError, TypeError
        If there is no such column, or an id is not a whole number.
    UnknownNameError
        If a sample does not exist.
    """
    if isinstance(indexes, pl.DataFrame):
        if "sample" not in indexes.columns:
            raise ValueError(f"indexes needs a column 'sample'; it has {indexes.columns}.")
        values = indexes["sample"]
    elif isinstance(indexes, pl.Series):
        values = indexes
    else:
        array = np.asarray(indexes)
        if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
            raise TypeError(f"sample ids are whole numbers in one dimension, not {indexes!r}.")
        values = pl.Series(array.astype(np.int64) if not array.size else array)
    if not values.dtype.is_integer():
        raise TypeError(f"column 'sample' holds {values.dtype}; sample ids are whole numbers.")
    if values.null_count():
        raise ValueError("column 'sample' holds nulls.")
    return distinct(existing(values.to_numpy(), known))


def existing(ids: Array, known: int) -> Array:
    """Return whole numbers as sample ids, uint32.

    Raises
    ------
    UnknownNameError
        If one is not the id of a sample.
    """
    wrong = ids[(ids < 0) | (ids >= known)]
    if len(wrong):
        raise UnknownNameError(f"sample {wrong[0]} does not exist; samples are 0 to {known - 1}.")
    return ids.astype(np.uint32)
