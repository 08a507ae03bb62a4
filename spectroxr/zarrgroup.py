"""The Zarr group of one version: a child group per source that plain xarray opens as a tree."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from spectroxr.axis import split_attrs
from spectroxr.chunkfiles import ChunkFiles
from spectroxr.manifest import Files, checksum
from spectroxr.mirror import row_coordinates, spectra_attrs
from spectroxr.rawshard import RawShard
from spectroxr.snapshot import SourceSnapshot

__all__ = ["read_group", "write_group"]


def write_group(
    store: Path, sources: Sequence[SourceSnapshot], index: pl.DataFrame, compression: str | None
) -> dict[Path, int]:
    """Write all sources.

    Parameters
    ----------
    store : Path
        Folder of the group; must not exist.
    sources : sequence of SourceSnapshot
        In the order to keep.
    index : polars.DataFrame
        Mirrored as coordinates of the rows.
    compression : str or None
        One of `chunkfiles.LEVELS`, or None for the raw shard.

    Returns
    -------
    dict of Path to int
        CRC32C of the files with spectra.
    """
    import zarr

    names = [source.name for source in sources]
    groups = _folder_names(names)
    root = zarr.create_group(str(store), zarr_format=3, attributes={"sources": names, "groups": groups})
    known: dict[Path, int] = {}
    for source, name in zip(sources, groups, strict=True):
        known |= _write_source(root.create_group(name), store / name, source, index, compression)
    _consolidate(store, groups)
    return known


def read_group(files: Files, store: str, compression: str | None) -> tuple[SourceSnapshot, ...]:
    """Read all sources in their order.

    Parameters
    ----------
    files : Files
        Whose sizes were checked.
    store : str
        Name of the group's folder.
    compression : str or None
        As given to `write_group`.

    Returns
    -------
    tuple of SourceSnapshot
        Planes are views of a map (raw shard) or of an array in memory (compressed).

    Raises
    ------
    StoreError
        If a file is damaged; the message names it.
    """
    groups = files.read_json(f"{store}/zarr.json")["attributes"]["groups"]
    return tuple(_read_source(files, f"{store}/{name}", compression) for name in groups)


def _write_source(
    group: Any, folder: Path, source: SourceSnapshot, index: pl.DataFrame, compression: str | None
) -> dict[Path, int]:
    rows, width = source.planes[0].shape
    shape = (rows, len(source.planes), width)
    dtype = source.planes[0].dtype.newbyteorder("<")
    wavelength = np.ascontiguousarray(source.wavelength, source.wavelength.dtype.newbyteorder("<"))
    coordinates = row_coordinates(index, rows, source.processings)
    coordinates["processing"] = (("processing",), np.array(source.processings, np.dtypes.StringDType()))
    coordinates["wavelength"] = (("wavelength",), wavelength)
    if source.segments is not None:
        coordinates["source"] = (("wavelength",), np.array(source.segments, np.dtypes.StringDType()))
    axis = {key: value for key, value in source.attrs.items() if key in ("units", "laser_nm")}
    for name, (dims, values) in coordinates.items():
        array = group.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=tuple(max(1, length) for length in values.shape),
            compressors=None if name == "wavelength" else "auto",
            dimension_names=dims,
            attributes=spectra_attrs(axis) if name == "wavelength" else None,
            config={"write_empty_chunks": True},
        )
        array[...] = values
    labels = [name for name, (dims, _) in coordinates.items() if (name,) != dims]
    attributes = {**spectra_attrs(split_attrs(source.attrs)[1]), "coordinates": " ".join(labels)}
    layout: dict[str, Any]
    if compression is None:
        shard = RawShard.fitted(shape, dtype)
        layout = {"chunks": shard.inner_shape, "shards": shard.shard_shape, "compressors": None}
    else:
        chunks = ChunkFiles.fitted(shape, dtype)
        layout = {"chunks": chunks.chunk_shape, "compressors": chunks.codecs(compression)}
    group.create_array(
        "spectra",
        shape=shape,
        dtype=dtype,
        **layout,
        dimension_names=("row", "processing", "wavelength"),
        attributes=attributes,
    )
    runs = [[name, len(list(run))] for name, run in itertools.groupby(source.segments or ())]
    group.attrs.update(
        {
            "source": source.name,
            "source_attrs": source.attrs,
            "processings": list(source.processings),
            "segments": None if source.segments is None else runs,
        }
    )
    if compression is not None:
        return chunks.write(folder / "spectra", source.planes, compression)
    if 0 in shape:
        return {}
    file = folder / "spectra/c/0/0/0"
    file.parent.mkdir(parents=True)
    return {file: shard.write(file, source.planes)}


def _folder_names(names: list[str]) -> list[str]:
    """Return a folder name for each source: its name if that is safe on any file system."""
    taken: set[str] = set()
    folders = []
    for name in names:
        safe = re.sub(r"[^A-Za-z0-9_-]|^_(?=_)", lambda found: _percent(found[0]), name)
        if len(safe) > 120:
            safe = f"{safe[:100]}%{checksum(name.encode()):08X}"
        unique = next(text for text in _numbered(safe) if text.casefold() not in taken)
        taken.add(unique.casefold())
        folders.append(unique)
    return folders


def _percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def _numbered(text: str) -> Iterator[str]:
    yield text
    for number in itertools.count(2):
        yield f"{text}%7E{number}"


def _consolidate(store: Path, groups: list[str]) -> None:
    """Put the metadata of everything below into the group and into each source's group.

    zarr.consolidate_metadata warns that version 3 has no word on it; what it writes is this JSON.
    """
    everything: dict[str, Any] = {}
    for name in groups:
        files = sorted((store / name).glob("*/zarr.json"))
        nodes = {file.parent.name: json.loads(file.read_bytes()) for file in files}
        own = json.loads((store / name / "zarr.json").read_bytes())
        everything |= {name: own} | {f"{name}/{node}": meta for node, meta in nodes.items()}
        _write_consolidated(store / name, own, nodes)
    _write_consolidated(store, json.loads((store / "zarr.json").read_bytes()), everything)


def _write_consolidated(folder: Path, own: dict[str, Any], nodes: dict[str, Any]) -> None:
    whole = {**own, "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": nodes}}
    (folder / "zarr.json").write_text(json.dumps(whole))


def _read_source(files: Files, folder: str, compression: str | None) -> SourceSnapshot:
    described = files.read_json(f"{folder}/zarr.json")
    attrs, nodes = described["attributes"], described["consolidated_metadata"]["metadata"]
    meta, axis = nodes["spectra"], nodes["wavelength"]
    shape, dtype = tuple(meta["shape"]), np.dtype(meta["data_type"]).newbyteorder("<")
    if compression is not None:
        chunks = ChunkFiles(shape, dtype, meta["chunk_grid"]["configuration"]["chunk_shape"][0])
        block = chunks.read(files, f"{folder}/spectra")
    elif 0 in shape:
        block = np.empty(shape, dtype)
    else:
        shard = RawShard(shape, dtype, meta["codecs"][0]["configuration"]["chunk_shape"][0])
        block = shard.map(files.root / folder / "spectra/c/0/0/0")
    wavelength = files.read(f"{folder}/wavelength/c/0") if axis["shape"] != [0] else b""
    runs = attrs["segments"]
    return SourceSnapshot(
        name=attrs["source"],
        planes=tuple(block[:, number] for number in range(shape[1])),
        processings=tuple(attrs["processings"]),
        wavelength=np.frombuffer(wavelength, np.dtype(axis["data_type"]).newbyteorder("<")),
        attrs=attrs["source_attrs"],
        segments=None if runs is None else tuple(name for name, count in runs for _ in range(count)),
    )
