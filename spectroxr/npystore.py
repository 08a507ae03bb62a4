"""The seed's folder: one .npy per source, tables in Parquet, documents in JSON."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from spectroxr.errors import ConflictError, StoreError
from spectroxr.history import Version, now
from spectroxr.localplace import LocalPlace
from spectroxr.manifest import (
    NPY_VERSION,
    RESTORE,
    Files,
    checksum,
    named,
    record_files,
    replace_file,
    seal,
    sync,
    sync_tree,
    unsealed,
)
from spectroxr.place import Record
from spectroxr.rawshard import write_planes
from spectroxr.schema import HOLES_SCHEMA, INDEX_SCHEMA, Array
from spectroxr.sidetables import DOCUMENTS, TABLES, read_table, write_side
from spectroxr.snapshot import Snapshot, SourceSnapshot
from spectroxr.zarrstore import Saved

__all__ = ["DESCRIPTION", "FIRST", "NEXT", "PLAIN", "Found", "clear", "find", "read_npy", "version_of", "write_npy"]

#: Describes the sources and lists the files; a folder of the seed has none.
DESCRIPTION = "features.json"
#: The first source, by which a folder of the seed is known.
FIRST = "features_src0.npy"
#: Where a save writes, inside the folder: once a description is in it, what is in it is the dataset.
NEXT = ".npy.next"
#: The number of what is in a folder without versions.
PLAIN = 0

_FEATURES = re.compile(r"features_src(\d+)\.npy")
_OURS = {
    DESCRIPTION,
    "index.parquet",
    "holes.parquet",
    *(f"{name}.parquet" for name in TABLES),
    *(f"{name}.json" for name in DOCUMENTS),
}


class Found(NamedTuple):
    """Where the last whole dataset of a folder lies, and its description (None: a folder of the seed)."""

    root: Path
    data: bytes | None


def find(path: Path) -> Found | None:
    """Look for a dataset in a folder, also while it is being replaced; None if there is none."""
    for _ in range(3):  # what is replaced is gone from one place only when it is in the other
        for root in (path / NEXT, path):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                return Found(root, (root / DESCRIPTION).read_bytes())
        if (path / FIRST).exists() and (path / "index.parquet").exists():
            return Found(path, None)
    return None


def version_of(found: Found) -> Version:
    """Return what tells a dataset in a plain folder from every other that is or was there."""
    data = found.data
    return Version(PLAIN, record=None if data is None else Record(DESCRIPTION, len(data), checksum(data)))


def write_npy(place: LocalPlace, snapshot: Snapshot, base: Version | None, overwrite: bool, sent: list[Saved]) -> Saved:
    """Save a snapshot in the place of what is in a folder.

    All is written into a folder inside, `NEXT`, and its description last: with that, it is the dataset, for `find`.
    Then the files change places, which the next save does if this one is cut off.

    Parameters
    ----------
    place : LocalPlace
        A folder of this kind, or an empty one; the caller holds its lock, see `LocalPlace.writing`.
    snapshot : Snapshot
        Valid.
    base : Version or None
        What the snapshot comes from: if it is not what is there, others have saved since.
    overwrite : bool
        Save all the same then.
    sent : list
        Gets what is saved just before it counts, for whom an error comes after that.

    Raises
    ------
    ConflictError
        If others have saved since, or change the folder meanwhile without asking for its lock.
    StoreError
        If the folder has files of someone else's.
    """
    path, folder = place.root, place.root / NEXT
    before = find(path)
    if before is not None and before.root == folder:
        _put_in_place(place)
        before = find(path)
    clear(path)
    if strange := _strange(path):
        raise StoreError(f"{path / strange} is not the dataset's and would be lost; move it or save elsewhere")
    if not overwrite and base is not None and before is not None and version_of(before).stamp != base.stamp:
        raise ConflictError(
            f"{path} was saved by others since this dataset was loaded or saved there, and saving it would remove what "
            "they saved. Load it again and repeat your changes on that, save elsewhere, or with overwrite=True."
        )
    try:
        folder.mkdir()
        data = _write_folder(folder, snapshot)
        sync_tree(folder)
        sync(path)
        if find(path) != before or _strange(path):
            raise ConflictError(f"{path} was changed by others meanwhile; nothing of theirs was touched")
        saved = Saved(place, version_of(Found(path, data)), (), {})
        sent.append(saved)
        replace_file(folder / DESCRIPTION, data)
    except BaseException:
        if not (folder / DESCRIPTION).exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise
    _put_in_place(place)
    return saved


def clear(path: Path) -> None:
    """Remove what a save that was cut off has left in a folder; not what `find` finds."""
    if (path / NEXT).exists() and not (path / NEXT / DESCRIPTION).exists():
        shutil.rmtree(path / NEXT)


def _is_ours(name: str) -> bool:
    return name in _OURS or _FEATURES.fullmatch(name) is not None


def _strange(path: Path) -> str | None:
    """Return the name of something in the folder that no save has put there, None if there is nothing."""
    names = (entry.name for entry in path.iterdir() if not (_is_ours(entry.name) and entry.is_file()))
    return next((name for name in names if name != NEXT), None)


def _put_in_place(place: LocalPlace) -> None:
    """Put what is in `NEXT` in the place of what was there before.

    The old files go first and descriptions come last, so that no other program takes files of two datasets for one.
    """
    path, folder = place.root, place.root / NEXT
    try:
        old = sorted(entry.name for entry in path.iterdir() if _is_ours(entry.name))
        for name in sorted(old, key=DESCRIPTION.__ne__):
            (path / name).unlink()
        new = {entry.name: entry.stat().st_size for entry in sorted(folder.iterdir())}
        for name in sorted(new, key=DESCRIPTION.__eq__):
            place.share(name, f"{NEXT}/{name}", new[name])
        sync(path)
        (folder / DESCRIPTION).unlink()
        sync(folder)
        shutil.rmtree(folder)
    except BaseException as error:
        error.add_note(f"The dataset was saved; its files are in {folder} until {path} is saved again.")
        raise


def _write_folder(folder: Path, snapshot: Snapshot) -> bytes:
    """Write all files but the description, which is returned."""
    write_side(snapshot, folder)
    known: dict[Path, int] = {}
    described = []
    for number, source in enumerate(snapshot.sources):
        file = folder / f"features_src{number}.npy"
        known[file] = _write_array(file, source.planes)
        described.append(
            {
                "name": source.name,
                "processings": list(source.processings),
                "wavelength": source.wavelength.tolist(),
                "wavelength_dtype": source.wavelength.dtype.newbyteorder("<").str,
                "attrs": source.attrs,
                "segments": source.segments,
            }
        )
    files = record_files(folder, folder, known)
    return seal({"sources": described, "files": files, "saved": now()}, NPY_VERSION)


def _write_array(path: Path, planes: tuple[Array, ...]) -> int:
    dtype = planes[0].dtype.newbyteorder("<")
    shape = (len(planes[0]), len(planes), planes[0].shape[1])
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    with named(path), open(path, "xb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        crc = checksum(path.read_bytes())
        return write_planes(file, planes, dtype, crc)


def read_npy(place: LocalPlace, verify: bool) -> tuple[Snapshot, Saved]:
    """Read a folder of .npy and Parquet files, again if it is replaced meanwhile.

    Parameters
    ----------
    place : LocalPlace
        Written by `write_npy`, or by the seed: ``features_src#.npy`` with two or three dimensions,
        ``index.parquet`` and whichever of the other files there are.
    verify : bool
        Whether to read the mapped spectra too, to check them.

    Returns
    -------
    Snapshot
        Planes are views of a map per source. What a folder of the seed lacks is empty (tables) or None
        (documents), and its sources are ``source0``, ... on an axis 0, 1, 2, ...
    Saved

    Raises
    ------
    StoreError
        If the folder is damaged; the message names the file.
    """
    while True:
        found = find(place.root)
        if found is None:
            raise StoreError(f"{place.root} is missing {DESCRIPTION} or {FIRST}. {RESTORE}")
        try:
            snapshot = _read(found, verify)
        except (StoreError, OSError):
            if find(place.root) == found:
                raise
            continue
        if find(place.root) == found:
            return snapshot, Saved(place, version_of(found), (), {})


def _read(found: Found, verify: bool) -> Snapshot:
    path, data = found
    described: list[dict[str, Any]] | None = None
    if data is not None:
        content = unsealed(data, path / DESCRIPTION)
        files, described = Files(path, content["files"]), content["sources"]
    elif (path / "state.json").exists():
        raise StoreError(f"{path / DESCRIPTION} is missing from the store. {RESTORE}")
    else:
        files = Files(path, {e.name: {"size": e.stat().st_size} for e in path.iterdir() if e.is_file()})
    files.check_sizes()
    if verify:
        files.verify(name for name in files.records if _FEATURES.fullmatch(name))
    numbers = sorted(int(match[1]) for name in files.records if (match := _FEATURES.fullmatch(name)))
    if numbers != list(range(len(numbers))):
        raise StoreError(f"{path} has features_src{numbers[-1]}.npy but not all before it. {RESTORE}")
    blocks = [_map(path / f"features_src{number}.npy") for number in numbers]
    index = read_table(files, "index.parquet")
    if described is None:
        index = _seed_index(index, path)
        sources = [_seed_source(number, block, index) for number, block in enumerate(blocks)]
    else:
        sources = [_source(block, **about) for block, about in zip(blocks, described, strict=True)]

    def has(name: str) -> bool:
        return described is not None or name in files.records

    def table(name: str, default: pl.DataFrame) -> pl.DataFrame:
        return read_table(files, name) if has(name) else default

    return Snapshot(
        sources=tuple(sources),
        index=index,
        holes=table("holes.parquet", pl.DataFrame(schema=HOLES_SCHEMA)),
        tables={name: table(f"{name}.parquet", pl.DataFrame()) for name in TABLES},
        documents={n: files.read_json(f"{n}.json") if has(f"{n}.json") else None for n in DOCUMENTS},
    )


def _map(path: Path) -> Array:
    try:
        with open(path, "rb") as file:
            np.lib.format.read_magic(file)
        block = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise StoreError(f"{path} is not readable as .npy ({error}). {RESTORE}") from error
    if block.ndim == 2:
        block = block[:, None, :]
    if block.ndim != 3:
        raise StoreError(f"{path} has {block.ndim} dimensions; 2 or 3 are readable")
    return block


def _source(
    block: Array,
    name: str,
    processings: list[str],
    wavelength: list[float],
    wavelength_dtype: str,
    attrs: dict[str, Any],
    segments: list[str] | None,
) -> SourceSnapshot:
    return SourceSnapshot(
        name=name,
        planes=tuple(block[:, number] for number in range(block.shape[1])),
        processings=tuple(processings),
        wavelength=np.array(wavelength, wavelength_dtype),
        attrs=attrs,
        segments=None if segments is None else tuple(segments),
    )


def _seed_index(index: pl.DataFrame, path: Path) -> pl.DataFrame:
    try:
        return index.select(pl.col(name).cast(dtype) for name, dtype in INDEX_SCHEMA.items())
    except pl.exceptions.PolarsError as error:
        raise StoreError(f"{path / 'index.parquet'} is not an index: {error}") from error


def _seed_source(number: int, block: Array, index: pl.DataFrame) -> SourceSnapshot:
    count = block.shape[1]
    names = index["processing"].unique(maintain_order=True).drop_nulls().to_list()
    if len(names) != count:
        names = ["raw", *(f"processing{number}" for number in range(1, count))]
    return SourceSnapshot(
        name=f"source{number}",
        planes=tuple(block[:, at] for at in range(count)),
        processings=tuple(names),
        wavelength=np.arange(block.shape[2], dtype=np.float64),
    )
