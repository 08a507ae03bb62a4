"""What a dataset consists of, as plain arrays, tables and JSON: the arrow between blocks and storage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import polars as pl

from spectroxr.later import Later, value_of
from spectroxr.schema import Array

__all__ = ["Snapshot", "SourceSnapshot", "Table"]

#: A table, or one that is read when it is asked for.
Table: TypeAlias = pl.DataFrame | Later[pl.DataFrame]


@dataclass(frozen=True)
class SourceSnapshot:
    """One source as it stands.

    Attributes
    ----------
    name : str
        Name of the source; unique in the dataset, any non-empty text without ``/``.
    planes : tuple of ndarray, StoredPlane or DaskPlane
        One ``(row, wavelength)`` array per processing, all of one dtype (float32 or float64) and shape,
        of any strides; or what gives one when it is sliced. Cells the index does not know (holes)
        are NaN, or what was there before a sample moved. After a load the planes are `StoredPlane`, or views of maps
        in C order, ``(row, processing, wavelength)``.
    processings : tuple of str
        Names of the planes.
    wavelength : ndarray, shape (wavelength,)
        The axis, in the order it came in; numbers (float64 or as given).
    attrs : dict
        JSON values: ``units`` (nm, um, cm-1, eV, ...), ``quantity`` (absorbance, ...), ``laser_nm``, ...
    segments : tuple of str or None
        For a merged axis, the source each wavelength came from.
    stored : tuple of StoredPlane or None
        Per plane, where the same spectra lie in a store, if they do; empty for nowhere.
    """

    name: str
    planes: tuple[Any, ...]
    processings: tuple[str, ...]
    wavelength: Array
    attrs: dict[str, Any] = field(default_factory=dict)
    segments: tuple[str, ...] | None = None
    stored: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """A whole dataset.

    Attributes
    ----------
    sources : tuple of SourceSnapshot
        All with the same number of rows.
    index : polars.DataFrame, or Later of one
        The seven columns of the specification, one line per existing (sample, processing).
    holes : polars.DataFrame, or Later of one
        Columns ``sample`` (u32), ``processing`` (str), ``source`` (str): lines of the index that a source
        does not have.
    tables : dict of str to polars.DataFrame, or Later of one
        ``targets``, ``metadata``, ``predictions``; a table may have no lines and no columns.
    documents : dict of str to JSON, or Later of it
        ``folds``, ``lineage`` and ``state`` (whatever else the blocks need to come back).
    """

    sources: tuple[SourceSnapshot, ...]
    index: Table
    holes: Table
    tables: Mapping[str, Table]
    documents: dict[str, Any]

    @property
    def every_table(self) -> dict[str, Table]:
        """All tables by name, the index and the holes first."""
        return {"index": self.index, "holes": self.holes, **self.tables}

    def late(self, name: str) -> bool:
        """Tell whether a table is yet to be read."""
        return isinstance(self.every_table[name], Later)

    def table(self, name: str) -> pl.DataFrame:
        """Return a table, also the index and the holes, and read it if that has not been done."""
        return value_of(self.every_table[name])
