"""The seed's folder: one .npy per source, tables in Parquet, documents in JSON."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from spectroxr.errors import StoreError
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
    unseal,
)
from spectroxr.rawshard import write_planes
from spectroxr.schema import HOLES_SCHEMA, INDEX_SCHEMA, Array
from spectroxr.sidetables import DOCUMENTS, TABLES, read_table, write_side
from spectroxr.snapshot import Snapshot, SourceSnapshot
from spectroxr.writerlock import only_writer

__all__ = ["DESCRIPTION", "FIRST", "committed", "read_npy", "write_npy"]

#: Describes the sources and lists the files; a folder of the seed has none.
DESCRIPTION = "features.json"
#: The first source, by which a folder of the seed is known.
FIRST = "features_src0.npy"

_FEATURES = re.compile(r"features_src(\d+)\.npy")


def _previous(path: Path) -> Path:
    return path.with_name(f".{path.name}.previous")


def committed(path: Path) -> Path:
    """Return where the last whole version lies: beside `path` if a save was interrupted while swapping."""
    return _previous(path) if not path.exists() and _previous(path).exists() else path


def write_npy(path: Path, snapshot: Snapshot) -> None:
    """Save a snapshot into a new folder and put that in the place of `path`.

    Parameters
    ----------
    path : Path
        A folder of this kind, or nothing, or an empty folder.
    snapshot : Snapshot
        Valid.

    Raises
    ------
    StoreError
        If `path` has files of someone else's, which would be lost, or another writer is at work on it.
    """
    if committed(path) != path:
        os.rename(_previous(path), path)
    _check_ours(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.with_name(f".{path.name}.new")
    folder.mkdir(exist_ok=True)
    with only_writer(folder):
        try:
            for leftover in folder.iterdir():
                leftover.unlink()
            _write_folder(folder, snapshot)
            sync_tree(folder)
            _swap(folder, path)
            sync(path.parent)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    shutil.rmtree(_previous(path), ignore_errors=True)


def _check_ours(path: Path) -> None:
    ours = {DESCRIPTION, "index.parquet", "holes.parquet"}
    ours |= {f"{name}.parquet" for name in TABLES} | {f"{name}.json" for name in DOCUMENTS}
    for entry in path.iterdir() if path.exists() else ():
        if entry.name not in ours and not _FEATURES.fullmatch(entry.name):
            raise StoreError(f"{entry} is not the dataset's and would be lost; move it or save elsewhere")


def _swap(folder: Path, path: Path) -> None:
    """Put `folder` in the place of `path`; what was there can be read meanwhile, see `committed`."""
    if path.exists() and any(path.iterdir()):
        shutil.rmtree(_previous(path), ignore_errors=True)
        os.rename(path, _previous(path))
        try:
            os.rename(folder, path)
        except BaseException:
            if not path.exists():
                os.rename(_previous(path), path)
            raise
    else:
        os.rename(folder, path)


def _write_folder(folder: Path, snapshot: Snapshot) -> None:
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
    replace_file(folder / DESCRIPTION, seal({"sources": described, "files": files}, NPY_VERSION))


def _write_array(path: Path, planes: tuple[Array, ...]) -> int:
    dtype = planes[0].dtype.newbyteorder("<")
    shape = (len(planes[0]), len(planes), planes[0].shape[1])
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    with named(path), open(path, "xb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        crc = checksum(path.read_bytes())
        return write_planes(file, planes, dtype, crc)


def read_npy(path: Path, verify: bool) -> Snapshot:
    """Read a folder of .npy and Parquet files.

    Parameters
    ----------
    path : Path
        Written by `write_npy`, or by the seed: ``features_src#.npy`` with two or three dimensions,
        ``index.parquet`` and whichever of the other files there are.
    verify : bool
        Whether to read the mapped spectra too, to check them.

    Returns
    -------
    Snapshot
        Planes are views of a map per source. What a folder of the seed lacks is empty (tables) or None
        (documents), and its sources are ``source0``, ... on an axis 0, 1, 2, ...

    Raises
    ------
    StoreError
        If the folder is damaged; the message names the file.
    """
    described: list[dict[str, Any]] | None = None
    if (path / DESCRIPTION).exists() or (path / "state.json").exists():
        content = unseal(path / DESCRIPTION)
        files, described = Files(path, content["files"]), content["sources"]
    else:
        files = Files(path, {entry.name: {"size": entry.stat().st_size} for entry in path.iterdir()})
    files.check_sizes()
    if verify:
        files.verify(name for name in files.records if _FEATURES.fullmatch(name))
    found = sorted(int(match[1]) for name in files.records if (match := _FEATURES.fullmatch(name)))
    if found != list(range(len(found))):
        raise StoreError(f"{path} has features_src{found[-1]}.npy but not all before it. {RESTORE}")
    blocks = [_map(path / f"features_src{number}.npy") for number in found]
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
