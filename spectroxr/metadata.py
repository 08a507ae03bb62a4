"""Metadata: attributes of samples that are neither features nor targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from spectroxr.errors import UnknownNameError, nearest
from spectroxr.index import Index
from spectroxr.inherit import check_samples, inherited, spread
from spectroxr.joins import completed, overlaid
from spectroxr.later import Late, Later
from spectroxr.log import enabled, log
from spectroxr.schema import FILTER_KEYS, Filter
from spectroxr.selection import Resolver

__all__ = ["MetadataBlock", "check_columns"]


def check_columns(columns: Sequence[str], what: str) -> None:
    """Raise if a column has the name of a filter key of its own.

    Raises
    ------
    ValueError
        If so: a filter could not tell them apart.
    """
    for name in columns:
        if name in FILTER_KEYS:
            raise ValueError(
                f"a column of {what} cannot be called {name!r}: filters use that name for the index. Rename it, or "
                "set the index itself with update_indexes."
            )


class MetadataBlock:
    """A Polars table of sample attributes; usually reached as ``ds.metadata``."""

    _table: Late[pl.DataFrame] = Late()

    def __init__(self, index: Index) -> None:
        self._index = index
        self._table = pl.DataFrame(schema={"sample": pl.UInt32})
        self._dense: dict[str, tuple[int, pl.Series]] = {}
        self.version = 0
        self.resolver: Resolver

    @property
    def table(self) -> pl.DataFrame:
        """The table as stored: ``sample`` and the columns, one line per sample that has any, ids ascending."""
        return self._table.clone()

    @property
    def columns(self) -> list[str]:
        """Names of the attributes."""
        return [name for name in self._table.columns if name != "sample"]

    @property
    def schema(self) -> dict[str, Any]:
        """Dtypes of the attributes."""
        return {name: kind for name, kind in self._table.schema.items() if name != "sample"}

    def add_meta(self, meta_df: pl.DataFrame) -> None:
        """Add attributes, or change them.

        Parameters
        ----------
        meta_df : polars.DataFrame
            ``sample`` and one column per attribute, of any dtype; without ``sample``, line k is the k-th sample (or
            the k-th original). A value that is not null replaces that of the same sample and column.

        Raises
        ------
        TypeError, ValueError, UnknownNameError
            If a sample does not exist or comes twice, a name is taken by the index, or a column exists with another
            dtype. The dataset is then as it was.
        """
        new = check_samples(meta_df, self._index, "metadata")
        names = [name for name in new.columns if name != "sample"]
        check_columns(names, "the metadata")
        if not names:
            raise ValueError("the metadata have no column besides 'sample'.")
        if new["sample"].is_duplicated().any():
            twice = new["sample"].filter(new["sample"].is_duplicated())[0]
            raise ValueError(f"the metadata give sample {twice} twice.")
        for name in names:
            if new.schema[name] == pl.Object:
                raise TypeError(f"column {name!r} holds Python objects, which cannot be stored; convert it.")
            old = self._table.schema.get(name)
            if old is not None and old not in (new.schema[name], pl.Null) and new.schema[name] != pl.Null:
                raise TypeError(f"column {name!r} is {old}, the new values are {new.schema[name]}.")
        self._table = completed(self._table, new.select("sample", *names))
        self.version += 1
        if enabled():
            log(f"add_meta: {new.height} samples, columns {names}")

    def update_meta(self, meta_df: pl.DataFrame) -> None:
        """Set attributes of samples, nulls included.

        Parameters
        ----------
        meta_df : polars.DataFrame
            ``sample`` and columns that exist: each value replaces what the sample has.

        Raises
        ------
        TypeError, ValueError, UnknownNameError
            If a sample or column does not exist, or a dtype differs. The dataset is then as it was.
        """
        new = check_samples(meta_df, self._index, "metadata")
        for name in new.columns:
            if name not in self._table.columns:
                raise UnknownNameError(nearest(name, self.columns, "metadata column"))
        if new["sample"].is_duplicated().any():
            raise ValueError("the metadata give a sample twice.")
        self._table = overlaid(self._table, new, "metadata")
        self.version += 1
        if enabled():
            log(f"update_meta: {new.height} samples")

    def drop_meta(self, columns: str | Sequence[str]) -> None:
        """Remove attributes.

        Parameters
        ----------
        columns : str or sequence of str

        Raises
        ------
        UnknownNameError
            If one does not exist; none is removed then.
        """
        names = [columns] if isinstance(columns, str) else list(columns)
        for name in names:
            if name not in self.columns:
                raise UnknownNameError(nearest(name, self.columns, "metadata column"))
        self._table = self._table.drop(names)
        self.version += 1
        if enabled():
            log(f"drop_meta: {names}")

    def column(self, name: str) -> pl.Series:
        """Return one value per sample, ids ascending; an augmented sample without one has its origin's.

        Raises
        ------
        UnknownNameError
            If there is no such column.
        """
        if name not in self.columns:
            raise UnknownNameError(nearest(name, self.columns, "metadata column"))
        kept = self._dense.get(name)
        stamp = hash((self.version, self._index.version))
        if kept is not None and kept[0] == stamp:
            return kept[1]
        values = spread(self._table["sample"], self._table[name], len(self._index))
        dense = inherited(values, self._index.origins).alias(name)
        self._dense[name] = (stamp, dense)
        return dense

    def meta(self, filter: Filter = None) -> pl.DataFrame:
        """Return the attributes of the samples a filter selects.

        Parameters
        ----------
        filter : None, dict or polars.Expr

        Returns
        -------
        polars.DataFrame
            ``sample`` and every attribute, one line per sample, in the order of `x` for the same filter; null where a
            sample (and its origin) has none.

        Raises
        ------
        ValueError
            If nothing matches.
        """
        samples = self.resolver.samples(filter)
        ids = pl.Series("sample", samples, dtype=pl.UInt32)
        table = pl.DataFrame([ids, *[self.column(name).gather(ids) for name in self.columns]])
        if enabled():
            log(f"meta: {table.height} samples, {len(self.columns)} columns")
        return table

    @property
    def unread(self) -> Later[Any] | None:
        """What this will be read from when it is first asked for; None if it is here."""
        return MetadataBlock._table.unread(self)

    def snapshot(self) -> pl.DataFrame | Later[pl.DataFrame]:
        """Return what is to be stored."""
        unread = self.unread
        return self._table if unread is None else unread

    def restore(self, table: pl.DataFrame | Later[pl.DataFrame]) -> None:
        """Take back what was stored."""
        if isinstance(table, Later) or table.width:
            self._table = table
        self.version += 1
