"""The tables (Parquet) and documents (JSON) next to the spectra."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import polars as pl

from spectroxr.errors import StoreError
from spectroxr.manifest import RESTORE, Files, encode_json
from spectroxr.snapshot import Snapshot

__all__ = ["DOCUMENTS", "TABLES", "check_table", "read_table", "write_side"]

#: Tables of a snapshot besides the index and the holes.
TABLES = ("targets", "metadata", "predictions")
#: Documents of a snapshot.
DOCUMENTS = ("folds", "lineage", "state")


def _unstorable(dtype: pl.DataType) -> str | None:
    """Name the first part of a type that Parquet has no place for."""
    if isinstance(dtype, pl.Object):
        return "Object"
    if isinstance(dtype, pl.Struct):
        if not dtype.fields:
            return "a Struct with no fields"
        return next((bad for field in dtype.fields if (bad := _unstorable(_instance(field.dtype)))), None)
    if isinstance(dtype, pl.List | pl.Array):
        return _unstorable(_instance(dtype.inner))
    return None


def _instance(dtype: Any) -> pl.DataType:
    instance: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return instance


def check_table(name: str, table: pl.DataFrame) -> None:
    """Check that a table can be stored.

    Raises
    ------
    StoreError
        Naming the column that cannot.
    """
    for column, dtype in table.schema.items():
        if bad := _unstorable(dtype):
            raise StoreError(
                f"column {column!r} of {name} is {dtype}: {bad} cannot be stored. Cast the column or drop it."
            )


def write_side(snapshot: Snapshot, tables: Path, documents: Path) -> None:
    """Write all tables and documents.

    Parameters
    ----------
    snapshot : Snapshot
        With tables that `check_table` accepts and documents that `check_json` accepts.
    tables, documents : Path
        Folders that exist.
    """
    frames = {"index": snapshot.index, "holes": snapshot.holes, **snapshot.tables}
    for name, frame in frames.items():
        with open(tables / f"{name}.parquet", "xb") as file:
            frame.write_parquet(file)
    for name, value in snapshot.documents.items():
        (documents / f"{name}.json").write_bytes(encode_json(value))


def read_table(files: Files, name: str) -> pl.DataFrame:
    """Read one table after checking its checksum.

    Raises
    ------
    StoreError
        If the file is missing, damaged or not Parquet.
    """
    data = files.read(name)
    try:
        return pl.read_parquet(io.BytesIO(data))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise StoreError(f"{files.root / name} is not readable as Parquet ({error}). {RESTORE}") from error
