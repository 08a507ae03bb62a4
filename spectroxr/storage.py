"""A snapshot to a folder on disk and back; all that is known about files ends here."""

from __future__ import annotations

import os
from pathlib import Path

from spectroxr.chunkfiles import LEVELS
from spectroxr.errors import StoreError, nearest
from spectroxr.manifest import check_json, unseal
from spectroxr.npystore import DESCRIPTION, FIRST, committed, read_npy, write_npy
from spectroxr.schema import FLOATS, INDEX_SCHEMA
from spectroxr.sidetables import DOCUMENTS, TABLES, check_table
from spectroxr.snapshot import Snapshot, SourceSnapshot
from spectroxr.zarrstore import MANIFEST, read_zarr, write_zarr

__all__ = ["read_store", "write_store"]


def write_store(
    path: str | os.PathLike[str],
    snapshot: Snapshot,
    *,
    compression: str | None = "zstd",
    format: str = "zarr",
    overwrite: bool = True,
) -> Path:
    """Save a snapshot; whatever happens, the last saved version stays readable.

    Nothing is written over in place, so the snapshot may be mapped from the same path.

    Parameters
    ----------
    path : path-like
        A store, or nothing, or an empty folder.
    snapshot : Snapshot
        What to save.
    compression : {"zstd", "lz4", "zlib"} or None
        For ``format="zarr"``: how to compress the spectra. With None they are one uncompressed file, which
        `read_store` maps.
    format : {"zarr", "npy"}
        A folder with Zarr, Parquet and a manifest, or the seed's folder of .npy and Parquet files.
    overwrite : bool
        Whether a store that exists may be replaced.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ValueError
        If the compression or the format is unknown.
    FileExistsError
        If `path` is a file, or a store while `overwrite` is false.
    StoreError
        If `path` holds something else or a store of the other format, if another writer is at work on it,
        or if the snapshot is inconsistent or has something that cannot be stored.
    """
    if compression is not None and compression not in LEVELS:
        raise ValueError(nearest(compression, LEVELS, "compression").rstrip(".") + " or None.")
    if format not in ("zarr", "npy"):
        raise ValueError(nearest(format, ("zarr", "npy"), "format"))
    _check(snapshot, "the dataset")
    root = _local(path)
    if root.exists() and not root.is_dir():
        raise FileExistsError(f"{path} is a file; a store is a folder: choose another path")
    present = _format_of(committed(root))
    if present is None and root.exists() and any(root.iterdir()):
        raise StoreError(f"{path} holds something else than a spectroxr store; save elsewhere")
    if present is not None and present != format:
        raise StoreError(f"{path} is a store of format {present!r}: save with format={present!r}, or to another path")
    if present is not None and not overwrite:
        raise FileExistsError(f"{path} exists; save with overwrite=True, or to another path")
    if format == "npy":
        write_npy(root, snapshot)
    else:
        write_zarr(root, snapshot, compression)
    return Path(path)


def read_store(path: str | os.PathLike[str], *, verify: bool = False) -> Snapshot:
    """Load what `write_store` saved, or a folder of the seed.

    Parameters
    ----------
    path : path-like
        The store; its format is seen from its content.
    verify : bool
        Whether to check mapped spectra too, which reads them whole. All else is checked always.

    Returns
    -------
    Snapshot
        The planes of a source are views of one array: a read-only map if the spectra are uncompressed.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    StoreError
        If it is not a store, is newer than this package, or is damaged; the message names the file.
    """
    root = committed(_local(path))
    if not root.exists():
        raise FileNotFoundError(f"there is nothing at {path}")
    present = _format_of(root) if root.is_dir() else None
    if present is None:
        raise StoreError(f"{path} is not a spectroxr store: it has no {MANIFEST}, {DESCRIPTION} or {FIRST}")
    snapshot = read_npy(root, verify) if present == "npy" else read_zarr(root, verify)
    _check(snapshot, str(path))
    return snapshot


def _local(path: str | os.PathLike[str]) -> Path:
    if "://" in os.fspath(path):
        raise StoreError(f"{path} is a URL; only local paths can be saved to and loaded")
    return Path(os.path.realpath(os.path.expanduser(path)))


def _format_of(root: Path) -> str | None:
    """Tell which format a folder has; None if it is not a store."""
    if (root / MANIFEST).exists():
        unseal(root / MANIFEST)
        return "zarr"
    if (root / DESCRIPTION).exists():
        unseal(root / DESCRIPTION)
        return "npy"
    return "npy" if (root / FIRST).exists() and (root / "index.parquet").exists() else None


def _check(snapshot: Snapshot, where: str) -> None:
    """Check that a snapshot is consistent and has nothing that cannot be stored."""
    for what, given, expected in (
        ("tables", snapshot.tables, TABLES),
        ("documents", snapshot.documents, DOCUMENTS),
    ):
        if set(given) != set(expected):
            raise StoreError(f"{where}: {what} must be {sorted(expected)}, not {sorted(given)}")
    if dict(snapshot.index.schema) != INDEX_SCHEMA:
        raise StoreError(f"{where}: the index must have {INDEX_SCHEMA}, not {snapshot.index.schema}")
    for name, table in {"holes": snapshot.holes, **snapshot.tables}.items():
        check_table(name, table)
    for name, document in snapshot.documents.items():
        check_json(document, f"{where}: {name}")
    names = [source.name for source in snapshot.sources]
    if len(set(names)) != len(names):
        raise StoreError(f"{where}: two sources have the same name: {names}")
    for source in snapshot.sources:
        _check_source(source, f"{where}: source {source.name!r}")
    rows = {len(source.planes[0]) for source in snapshot.sources}
    if len(rows) > 1:
        raise StoreError(f"{where}: the sources have different numbers of rows: {sorted(rows)}")
    last = snapshot.index["row"].max()
    if rows and isinstance(last, int) and last >= min(rows):
        raise StoreError(f"{where}: the index refers to row {last}, but the spectra have {min(rows)} rows")


def _check_source(source: SourceSnapshot, where: str) -> None:
    planes, length = source.planes, len(source.wavelength)
    if not source.name:
        raise StoreError(f"{where} must have a name")
    if not planes or {plane.dtype for plane in planes} - set(FLOATS) or len({p.dtype for p in planes}) > 1:
        raise StoreError(f"{where} must have planes, all of float32 or all of float64")
    if {plane.shape for plane in planes} != {(len(planes[0]), length)}:
        raise StoreError(
            f"{where}: {length} wavelengths, but the planes have shapes {[plane.shape for plane in planes]}"
        )
    if source.wavelength.ndim != 1 or source.wavelength.dtype.kind not in "iuf":
        raise StoreError(f"{where}: wavelength must be numbers along one dimension")
    if len(set(source.processings)) != len(source.processings) or len(source.processings) != len(planes):
        raise StoreError(f"{where}: {len(planes)} planes, but processings {source.processings}")
    if source.segments is not None and len(source.segments) != length:
        raise StoreError(f"{where}: {length} wavelengths, but {len(source.segments)} segments")
    check_json(source.attrs, f"{where}: attrs")
