"""The Zarr group of one version, all but its spectra: metadata and coordinates that plain xarray opens as a tree."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from spectroxr.axis import split_attrs
from spectroxr.chunks import zarr_codecs
from spectroxr.mirror import row_coordinates, spectra_attrs
from spectroxr.snapshot import SourceSnapshot
from spectroxr.stored import StoredArray

__all__ = ["folder_names", "group_files", "runs_of"]


def group_files(
    sources: Sequence[SourceSnapshot], arrays: Sequence[StoredArray], folders: Sequence[str], index: pl.DataFrame
) -> dict[str, bytes]:
    """Return the files of the group besides the chunks of spectra.

    Parameters
    ----------
    sources : sequence of SourceSnapshot
    arrays : sequence of StoredArray
        Where the spectra of each are.
    folders : sequence of str
        The name of each source's child group.
    index : polars.DataFrame
        Mirrored as coordinates of the rows.

    Returns
    -------
    dict of str to bytes
        By name within the group.
    """
    import zarr
    from zarr.storage import MemoryStore

    kept: dict[str, Any] = {}
    names = [source.name for source in sources]
    root = zarr.create_group(MemoryStore(kept), zarr_format=3, attributes={"sources": names, "groups": list(folders)})
    for source, array, folder in zip(sources, arrays, folders, strict=True):
        _describe(root.create_group(folder), source, array, index)
    files = {name: bytes(value.to_bytes()) for name, value in kept.items()}
    _consolidate(files, folders)
    return files


def _describe(group: Any, source: SourceSnapshot, array: StoredArray, index: pl.DataFrame) -> None:
    rows = array.grid.shape[0]
    wavelength = np.ascontiguousarray(source.wavelength, source.wavelength.dtype.newbyteorder("<"))
    coordinates = row_coordinates(index, rows, source.processings)
    coordinates["processing"] = (("processing",), np.array(source.processings, np.dtypes.StringDType()))
    coordinates["wavelength"] = (("wavelength",), wavelength)
    if source.segments is not None:
        coordinates["source"] = (("wavelength",), np.array(source.segments, np.dtypes.StringDType()))
    axis = {key: value for key, value in source.attrs.items() if key in ("units", "laser_nm")}
    for name, (dims, values) in coordinates.items():
        one = group.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=tuple(max(1, length) for length in values.shape),
            compressors=None if name == "wavelength" else "auto",
            dimension_names=dims,
            attributes=spectra_attrs(axis) if name == "wavelength" else None,
            config={"write_empty_chunks": True},
        )
        one[...] = values
    labels = [name for name, (dims, _) in coordinates.items() if (name,) != dims]
    attributes = {**spectra_attrs(split_attrs(source.attrs)[1]), "coordinates": " ".join(labels)}
    layout: dict[str, Any]
    if array.compression is None:
        layout = {"chunks": array.shard.inner_shape, "shards": array.shard.shard_shape, "compressors": None}
    else:
        chunk = tuple(max(1, size) for size in array.grid.chunk)
        layout = {"chunks": chunk, "compressors": zarr_codecs(array.compression, array.grid.dtype.itemsize)}
    group.create_array(
        "spectra",
        shape=array.grid.shape,
        dtype=array.grid.dtype,
        **layout,
        dimension_names=("row", "processing", "wavelength"),
        attributes=attributes,
    )
    group.attrs.update(
        {
            "source": source.name,
            "source_attrs": source.attrs,
            "processings": list(source.processings),
            "segments": runs_of(source.segments),
        }
    )


def runs_of(segments: Sequence[str] | None) -> list[list[Any]] | None:
    """Return segments as runs of (name, count)."""
    if segments is None:
        return None
    return [[name, len(list(run))] for name, run in itertools.groupby(segments)]


def folder_names(names: Sequence[str], kept: Mapping[str, str]) -> list[str]:
    """Return a folder name for each source, of letters, digits, ``_`` and ``-`` only.

    Readers in other languages trip over more than these; the name itself stands in the attributes.

    Parameters
    ----------
    names : sequence of str
    kept : mapping of str to str
        Folders that sources have already.

    Examples
    --------
    >>> folder_names(["nir", "mir é", "NIR"], {})
    ['nir', 'mir', 'NIR-2']
    """
    taken = {kept[name].casefold() for name in names if name in kept}
    folders = []
    for name in names:
        if name in kept:
            folders.append(kept[name])
            continue
        safe = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:100].strip("_") or "source"
        unique = next(text for text in _numbered(safe) if text.casefold() not in taken)
        taken.add(unique.casefold())
        folders.append(unique)
    return folders


def _numbered(text: str) -> Iterator[str]:
    yield text
    for number in itertools.count(2):
        yield f"{text}-{number}"


def _consolidate(files: dict[str, bytes], folders: Sequence[str]) -> None:
    """Put the metadata of everything below into the group and into each source's group.

    zarr.consolidate_metadata warns that version 3 has no word on it; what it writes is this JSON.
    """
    everything: dict[str, Any] = {}
    for folder in folders:
        own = json.loads(files[f"{folder}/zarr.json"])
        below = sorted(name for name in files if name.startswith(f"{folder}/") and name.endswith("/zarr.json"))
        nodes = {name.split("/")[1]: json.loads(files[name]) for name in below if name.count("/") == 2}
        everything |= {folder: own} | {f"{folder}/{node}": meta for node, meta in nodes.items()}
        files[f"{folder}/zarr.json"] = _consolidated(own, nodes)
    files["zarr.json"] = _consolidated(json.loads(files["zarr.json"]), everything)


def _consolidated(own: dict[str, Any], nodes: dict[str, Any]) -> bytes:
    whole = {**own, "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": nodes}}
    return json.dumps(whole).encode()
