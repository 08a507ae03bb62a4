"""A snapshot to a folder or bucket and back; all that is known about files ends here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from spectroxr import npystore
from spectroxr.chunks import LEVELS, check_chunks
from spectroxr.contradictions import contradictions
from spectroxr.errors import StoreError, nearest
from spectroxr.history import History, Version, read_history
from spectroxr.later import Later
from spectroxr.localplace import LocalPlace
from spectroxr.manifest import check_json, unseal, unsealed
from spectroxr.npystore import DESCRIPTION, FIRST, NEXT, PLAIN, read_npy, write_npy
from spectroxr.place import MANIFEST, Place, open_place
from spectroxr.schema import FLOATS, INDEX_SCHEMA
from spectroxr.sidetables import DOCUMENTS, TABLES, check_table
from spectroxr.snapshot import Snapshot, SourceSnapshot
from spectroxr.verifying import vacuum_store, verify_version
from spectroxr.zarrstore import Saved, read_zarr, write_zarr

__all__ = ["committed", "list_versions", "read_store", "vacuum", "verify", "write_store"]


def write_store(
    path: str | os.PathLike[str],
    snapshot: Snapshot,
    *,
    compression: str | None = "zstd",
    format: str = "zarr",
    message: str = "",
    chunks: Mapping[str, int] | None = None,
    bases: Mapping[Place, Saved] | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    sent: list[Saved] | None = None,
) -> Saved:
    """Save a snapshot; whatever happens, the last saved version stays readable.

    Nothing is written over in place, so the snapshot may be mapped from the same path.

    Parameters
    ----------
    path : path-like or str
        A store, or nothing, or an empty folder; or a URL.
    snapshot : Snapshot
        What to save.
    compression : {"zstd", "lz4", "zlib"} or None
        For ``format="zarr"``: how to compress the spectra. With None they are uncompressed files, which
        `read_store` maps.
    format : {"zarr", "npy"}
        A folder with Zarr, Parquet and a manifest, or the seed's folder of .npy and Parquet files.
    message : str
        Kept with the version; a plain folder has none.
    chunks : mapping, optional
        Sizes of the compressed chunks along ``row`` and ``wavelength``.
    bases : mapping of Place to Saved, optional
        The versions that the snapshot comes from, or was saved as, by where they are.
    overwrite : bool
        Save also if others have saved since the version it comes from.
    storage_options : mapping, optional
        See `open_place`.
    sent : list, optional
        As in `write_zarr`.

    Returns
    -------
    Saved
        Of the plain folder, its version is number `PLAIN`.

    Raises
    ------
    ValueError, TypeError
        If an option makes no sense.
    FileExistsError
        If `path` is a file.
    ConflictError
        If another writer was first.
    StoreError
        If `path` holds something else or a store of the other format,
        or if the snapshot is inconsistent or has something that cannot be stored.
    """
    if not isinstance(compression, str | None):
        raise TypeError(f"compression is one of {', '.join(map(repr, LEVELS))} or None, not {compression!r}.")
    if compression is not None and compression not in LEVELS:
        raise ValueError(nearest(compression, LEVELS, "compression").rstrip(".") + " or None.")
    if format not in ("zarr", "npy"):
        raise ValueError(nearest(format, ("zarr", "npy"), "format"))
    if not isinstance(message, str):
        raise TypeError(f"message is text, not {message!r}.")
    if any("\ud800" <= letter <= "\udfff" for letter in message):
        raise ValueError(f"message {message!r} has letters that cannot be stored as UTF-8.")
    if message and format == "npy":
        raise ValueError("message is kept with a version; a folder of format='npy' has no versions.")
    sizes = check_chunks(chunks)
    if sizes and (compression is None or format == "npy"):
        raise ValueError("chunks are for compressed spectra; uncompressed ones are one block.")
    _check(snapshot, "the dataset")
    place = open_place(path, storage_options)
    if isinstance(place, LocalPlace):
        if place.root.exists() and not place.root.is_dir():
            raise FileExistsError(f"{path} is a file; a store is a folder: choose another path")
    elif format == "npy":
        raise ValueError(f"format='npy' is for local folders; save {path} with format='zarr'.")
    known = {where: saved.version for where, saved in (bases or {}).items()}
    base = known.pop(place, None)
    sent = [] if sent is None else sent
    with place.writing():  # both formats hold the same lock, and look at the folder when they have it
        if isinstance(place, LocalPlace):
            _check_folder(place.root, path, format)
            if format == "npy":
                return write_npy(place, snapshot, base, overwrite, sent)
            npystore.clear(place.root)
        return write_zarr(place, snapshot, compression, sizes, message, base, overwrite, sent, list(known.values()))


def committed(saved: Saved) -> bool:
    """Tell whether a version that was sent counts, as far as the place answers."""
    try:
        if saved.version.number == PLAIN and isinstance(saved.place, LocalPlace):
            found = npystore.find(saved.place.root)
            return found is not None and npystore.version_of(found) == saved.version
        history = read_history(saved.place)
    except (StoreError, OSError):
        return False
    return history is not None and saved.version in history.versions


def _check_folder(root: Path, path: object, format: str) -> None:
    """Refuse a folder that is inside a store, or not a store of this format, nor empty."""
    around = next((folder for folder in root.parents if _is_store(folder)), None)
    if around is not None:
        raise StoreError(f"{path} is inside the store {around}, which may remove what is in it; save elsewhere")
    present = _format_of(root)
    if present is None and any(one.name not in (f"{MANIFEST}.tmp", NEXT) for one in root.iterdir()):
        raise StoreError(f"{path} holds something else than a spectroxr store; save elsewhere")
    if present is not None and present != format:
        raise StoreError(f"{path} is a store of format {present!r}: save with format={present!r}, or to another path")


def read_store(
    path: str | os.PathLike[str],
    *,
    version: int | None = None,
    verify: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> tuple[Snapshot, Saved]:
    """Load what `write_store` saved, or a folder of the seed.

    Parameters
    ----------
    path : path-like or str
        The store; its format is seen from its content.
    version : int, optional
        Which one (default: the current one).
    verify : bool
        Whether to check every file, which reads them all.
    storage_options : mapping, optional
        See `open_place`.

    Returns
    -------
    Snapshot
        Its planes are views of read-only maps if the spectra are uncompressed on a local disk, else read when sliced.
    Saved
        What was read.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    StoreError
        If it is not a store, is newer than this package, or is damaged; the message names the file.
    """
    place = open_place(path, storage_options)
    if isinstance(place, LocalPlace):
        if not place.root.exists():
            raise FileNotFoundError(f"there is nothing at {path}")
        present = _format_of(place.root)
        if present is None:
            raise StoreError(f"{path} is not a spectroxr store: it has no {MANIFEST}, {DESCRIPTION} or {FIRST}")
        if present == "npy":
            if version is not None:
                raise ValueError(f"{path} is a plain folder, which has no versions.")
            snapshot, saved = read_npy(place, verify)
            _check(snapshot, str(path))
            return snapshot, saved
    history = _history(place, path)
    if verify:
        history = _whole(place, path, lambda found: (found.version(version, place.name_of("")),))
    snapshot, saved = read_zarr(place, version, history)
    _check(snapshot, str(path))
    return snapshot, saved


def _history(place: Place, path: object) -> History:
    history = read_history(place)
    if history is None:
        if isinstance(place, LocalPlace) and place.root.exists():
            raise StoreError(f"{path} is not a spectroxr store with versions: it has no {MANIFEST}")
        raise FileNotFoundError(f"there is nothing at {path}")
    return history


def _listed(damage: list[str], most: int = 20) -> str:
    more = f"\n... and {len(damage) - most} more" if len(damage) > most else ""
    return "\n".join(damage[:most]) + more


def verify(
    path: str | os.PathLike[str],
    *,
    version: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Check every file of a store; see `SpectroDataset.verify`."""
    place = open_place(path, storage_options)
    if isinstance(place, LocalPlace) and _format_of(place.root) == "npy":
        snapshot, _ = read_store(path, version=version, verify=True)
        # a folder of the seed has no state, and may lack what makes the rest consistent
        if snapshot.documents["state"] is not None and (wrong := contradictions(snapshot)):
            raise StoreError(_listed([f"{path}: {text}" for text in wrong]))
        return
    where = place.name_of("")

    def chosen(history: History) -> tuple[Version, ...]:
        newest = history.version(version, where)
        return history.versions if version is None else (newest,)

    _whole(place, path, chosen)


def _whole(place: Place, path: object, choose: Callable[[History], tuple[Version, ...]]) -> History:
    """Check every file of some versions; return the history they are of.

    Raises
    ------
    StoreError
        Naming all that is damaged. What another process has removed with its version meanwhile is not.
    """
    while True:
        history = _history(place, path)
        seen: dict[str, str | None] = {}
        wanted = choose(history)
        damage = [text for one in wanted for text in verify_version(place, one, seen)]
        if not damage:
            return history
        again = read_history(place)
        if again is None or set(wanted) <= set(again.versions):
            raise StoreError(_listed(list(dict.fromkeys(damage))))


def list_versions(path: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None) -> pl.DataFrame:
    """Return the versions of a store; see `SpectroDataset.versions`."""
    history = _history(open_place(path, storage_options), path)
    times = pl.Series("time", [one.time or None for one in history.versions], pl.String)
    return pl.DataFrame(
        {
            "version": pl.Series([one.number for one in history.versions], dtype=pl.Int64),
            "time": times.str.to_datetime(time_unit="us", time_zone="UTC"),
            "message": pl.Series([one.message for one in history.versions], dtype=pl.String),
            "samples": pl.Series([one.samples if one.record else None for one in history.versions], dtype=pl.Int64),
            "written": pl.Series([one.written if one.record else None for one in history.versions], dtype=pl.Int64),
        }
    )


def vacuum(
    path: str | os.PathLike[str],
    *,
    keep: int = 1,
    storage_options: Mapping[str, Any] | None = None,
    older_than: float = 86400.0,
) -> int:
    """Remove earlier versions and leftovers; see `SpectroDataset.vacuum`."""
    if isinstance(keep, bool) or not isinstance(keep, int):
        raise TypeError(f"keep is the number of versions to keep, not {keep!r}.")
    if keep < 1:
        raise ValueError(f"keep is at least 1, not {keep}: the current version stays.")
    place = open_place(path, storage_options)
    _history(place, path)
    return vacuum_store(place, keep, older_than)


def _format_of(root: Path) -> str | None:
    """Tell which format a folder has; None if it is not a store."""
    if (root / MANIFEST).exists():
        unseal(root / MANIFEST)
        return "zarr"
    found = npystore.find(root)
    if found is not None and found.data is not None:
        unsealed(found.data, found.root / DESCRIPTION)
    return None if found is None else "npy"


def _is_store(folder: Path) -> bool:
    """Tell whether a folder is a store of any format, as far as it can be seen."""
    with contextlib.suppress(StoreError, OSError):
        return _format_of(folder) is not None
    return False


def _check(snapshot: Snapshot, where: str) -> None:
    """Check that a snapshot is consistent and has nothing that cannot be stored."""
    for what, given, expected in (
        ("tables", snapshot.tables, TABLES),
        ("documents", snapshot.documents, DOCUMENTS),
    ):
        if set(given) != set(expected):
            raise StoreError(f"{where}: {what} must be {sorted(expected)}, not {sorted(given)}")
    for name, table in {"holes": snapshot.holes, **snapshot.tables}.items():
        if isinstance(table, pl.DataFrame):
            check_table(name, table)
    for name, document in snapshot.documents.items():
        if not isinstance(document, Later):
            check_json(document, f"{where}: {name}")
    names = [source.name for source in snapshot.sources]
    if len(set(names)) != len(names):
        raise StoreError(f"{where}: two sources have the same name: {names}")
    for source in snapshot.sources:
        _check_source(source, f"{where}: source {source.name!r}")
    rows = {len(source.planes[0]) for source in snapshot.sources}
    if len(rows) > 1:
        raise StoreError(f"{where}: the sources have different numbers of rows: {sorted(rows)}")
    if isinstance(snapshot.index, pl.DataFrame):
        if dict(snapshot.index.schema) != INDEX_SCHEMA:
            raise StoreError(f"{where}: the index must have {INDEX_SCHEMA}, not {snapshot.index.schema}")
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
