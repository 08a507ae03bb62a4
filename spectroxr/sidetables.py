"""The tables (Parquet) and documents (JSON) next to the spectra."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import polars as pl

from spectroxr.errors import StoreError
from spectroxr.later import value_of
from spectroxr.manifest import RESTORE, Files, encode_json, named
from spectroxr.snapshot import Snapshot

__all__ = ["DOCUMENTS", "TABLES", "as_parquet", "check_table", "parsed_table", "read_table", "side_files", "write_side"]

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


def side_files(snapshot: Snapshot) -> dict[str, bytes]:
    """Return all tables and documents as files, by name.

    Parameters
    ----------
    snapshot : Snapshot
        With tables that `check_table` accepts and documents that `check_json` accepts.
    """
    names = snapshot.every_table
    files = {f"{name}.parquet": as_parquet(snapshot.table(name), quick=name == "index") for name in names}
    return files | {f"{name}.json": encode_json(value_of(given)) for name, given in snapshot.documents.items()}


def as_parquet(frame: pl.DataFrame, quick: bool = False) -> bytes:
    """Return a table as a Parquet file: small, or, at one and a half times the size, read in half the time."""
    out = io.BytesIO()
    # in one piece, so that equal tables are equal files
    frame.rechunk().write_parquet(out, compression="lz4" if quick else "zstd")
    return out.getvalue()


def write_side(snapshot: Snapshot, folder: Path) -> None:
    """Write all tables and documents into a folder that exists."""
    for name, data in side_files(snapshot).items():
        with named(folder / name), open(folder / name, "xb") as file:
            file.write(data)


def read_table(files: Files, name: str) -> pl.DataFrame:
    """Read one table after checking its checksum.

    Raises
    ------
    StoreError
        If the file is missing, damaged or not Parquet.
    """
    return parsed_table(files.read(name), files.root / name)


def parsed_table(data: bytes, where: object) -> pl.DataFrame:
    """Return the table of a Parquet file.

    Raises
    ------
    StoreError
        If it is none; the message names it.
    """
    try:
        return pl.read_parquet(io.BytesIO(data))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise StoreError(f"{where} is not readable as Parquet ({error}). {RESTORE}") from error
