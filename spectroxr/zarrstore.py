"""The folder of versions: spectra in Zarr, tables in Parquet, one manifest that names the current version."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from spectroxr.errors import StoreError
from spectroxr.manifest import Files, record_files, replace_file, seal, sync, sync_tree, unseal
from spectroxr.sidetables import DOCUMENTS, TABLES, read_table, write_side
from spectroxr.snapshot import Snapshot
from spectroxr.writerlock import only_writer
from spectroxr.zarrgroup import read_group, write_group

__all__ = ["MANIFEST", "read_zarr", "write_zarr"]

MANIFEST = "manifest.json"
_GROUP = "features.zarr"
_SPECTRA = re.compile(r"[^/]+/features\.zarr/[^/]+/spectra/c/.*")
_GENERATION = re.compile(r"\d{6,}")


def write_zarr(path: Path, snapshot: Snapshot, compression: str | None) -> None:
    """Save a snapshot as the new current version of a store.

    Parameters
    ----------
    path : Path
        A store of this kind, or nothing, or an empty folder.
    snapshot : Snapshot
        Valid.
    compression : str or None
        One of `chunkfiles.LEVELS`, or None for the raw shard.

    Raises
    ------
    StoreError
        If another writer is at work on the store.
    """
    created = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    with only_writer(path):
        fresh = not (path / MANIFEST).exists()
        if fresh:
            replace_file(path / MANIFEST, seal({"generation": None}))
            sync(path.parent)
        folder = path / _next_generation(path)
        folder.mkdir()
        try:
            known = _write_version(folder, snapshot, compression)
            content = {
                "generation": folder.name,
                "compression": compression,
                "files": record_files(path, folder, known),
            }
            sync_tree(folder)
            replace_file(path / MANIFEST, seal(content))
        except BaseException:
            if unseal(path / MANIFEST)["generation"] != folder.name:
                shutil.rmtree(folder, ignore_errors=True)
                if fresh:
                    (path / MANIFEST).unlink()
                if created:
                    path.rmdir()
            raise
        for old in path.iterdir():
            if _GENERATION.fullmatch(old.name) and old != folder:
                shutil.rmtree(old, ignore_errors=True)


def _next_generation(path: Path) -> str:
    names = [*(entry.name for entry in path.iterdir()), unseal(path / MANIFEST)["generation"] or ""]
    return f"{max((int(name) for name in names if _GENERATION.fullmatch(name)), default=0) + 1:06d}"


def _write_version(folder: Path, snapshot: Snapshot, compression: str | None) -> dict[Path, int]:
    (folder / "tables").mkdir()
    write_side(snapshot, folder / "tables", folder)
    return write_group(folder / _GROUP, snapshot.sources, snapshot.index, compression)


def read_zarr(path: Path, verify: bool) -> Snapshot:
    """Read the current version of a store.

    Parameters
    ----------
    path : Path
        The store.
    verify : bool
        Whether to read mapped spectra too, to check them.

    Returns
    -------
    Snapshot
        Planes are views of a map (raw shard) or of an array in memory (compressed).

    Raises
    ------
    StoreError
        If the store is damaged; the message names the file.
    """
    while True:
        manifest = unseal(path / MANIFEST)
        if manifest["generation"] is None:
            raise StoreError(f"{path} holds nothing: its first save did not finish. Save the dataset again.")
        try:
            return _read_version(path, manifest, verify)
        except (StoreError, FileNotFoundError):
            # Another process may have saved meanwhile, and removed the version that was being read.
            if unseal(path / MANIFEST)["generation"] == manifest["generation"]:
                raise


def _read_version(path: Path, manifest: dict[str, Any], verify: bool) -> Snapshot:
    files = Files(path, manifest["files"])
    files.check_sizes()
    generation = manifest["generation"]
    store = f"{generation}/{_GROUP}"
    check_spectra = verify and manifest["compression"] is None
    files.verify(
        name
        for name in files.records
        if name.startswith(f"{store}/") and (check_spectra or not _SPECTRA.fullmatch(name))
    )
    names = ("index", "holes", *TABLES)
    tables = {name: read_table(files, f"{generation}/tables/{name}.parquet") for name in names}
    documents = {name: files.read_json(f"{generation}/{name}.json") for name in DOCUMENTS}
    return Snapshot(
        sources=read_group(files, store, manifest["compression"]),
        index=tables.pop("index"),
        holes=tables.pop("holes"),
        tables=tables,
        documents=documents,
    )
