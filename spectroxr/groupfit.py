"""Whether the Zarr group of a version shows plain readers what its description and its index say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
import polars as pl

from spectroxr.axis import split_attrs
from spectroxr.chunks import chunk_name
from spectroxr.contents import Contents, StoredSource
from spectroxr.description import short
from spectroxr.manifest import decode_json
from spectroxr.mirror import row_coordinates, spectra_attrs
from spectroxr.place import Place, fetch
from spectroxr.schema import Array
from spectroxr.threads import in_threads

__all__ = ["wrong_group"]

_GROUP = "features.zarr/"
_REFERENCES = "features.refs.json"
_DIMS = ("row", "processing", "wavelength")


def wrong_group(place: Place, contents: Contents, index: pl.DataFrame | None) -> list[str]:
    """Return where the Zarr group differs from the description and the index, a line each.

    Parameters
    ----------
    place : Place
    contents : Contents
        Of a version whose files are as they were saved.
    index : polars.DataFrame or None
        None if it contradicts itself: then the coordinates of the rows are not compared.
    """
    names = [name for name in contents.files if name.startswith(_GROUP)]
    read = in_threads(lambda name: fetch(place, contents.files[name]), names, place.workers)
    files = {name.removeprefix(_GROUP): data for name, data in zip(names, read, strict=True)}
    found: list[str] = []
    if "zarr.json" not in files and _REFERENCES not in contents.files:
        return [f"it lists neither {_GROUP}zarr.json nor {_REFERENCES}."]
    if _REFERENCES in contents.files:
        found += _wrong_references(place, contents, files)
    whole: dict[str, Any] = {}
    for name, data in files.items():
        if name.endswith("zarr.json"):
            try:
                whole[name] = json.loads(data)
            except (ValueError, RecursionError):
                found.append(f"{_GROUP}{name} is not readable as JSON.")
    found += _wrong_root(contents, whole)
    show = cache(_decoded)  # most coordinates are the same in all sources
    coordinates: dict[tuple[str, ...], dict[str, tuple[tuple[str, ...], Array]]] = {}
    for source in contents.sources:
        if index is not None and source.processings not in coordinates:
            rows = source.array.grid.shape[0]
            coordinates[source.processings] = dict(row_coordinates(index, rows, source.processings))
        mirrored = coordinates.get(source.processings, {})
        found += [f"source {source.name!r}: {text}" for text in _wrong_source(source, whole, files, mirrored, show)]
    return found


def _wrong_references(place: Place, contents: Contents, files: dict[str, bytes]) -> Iterator[str]:
    """Yield what is wrong with the references; what they hold of the group is added to `files`."""
    said = decode_json(fetch(place, contents.files[_REFERENCES]), _REFERENCES)
    refs = _at(said, "refs")
    if _at(said, "version") != 1 or not isinstance(_at(said, "templates", "store"), str) or not isinstance(refs, dict):
        yield f"{_REFERENCES} are no references of version 1 with a template 'store'."
        return
    wanted = {name: contents.files[_GROUP + name].key for name in files if not name.endswith("zarr.json")}
    for source in contents.sources:
        for key in source.array.grid:
            wanted[f"{source.folder}/spectra/{chunk_name(key)}"] = source.array.record(key).key
    for name, path in wanted.items():
        if name not in refs:
            yield f"{_REFERENCES} have nothing for {name}."
        elif refs[name] != ["{{store}}/" + path]:
            yield f"{_REFERENCES} have {short(refs[name])} for {name}, not {path}."
    for name, given in refs.items():
        if name.endswith("zarr.json") and isinstance(given, str):
            files[name] = given.encode()
        elif name not in wanted:
            yield f"{_REFERENCES} have {name}, which the version does not."


def _wrong_root(contents: Contents, whole: Mapping[str, Any]) -> Iterator[str]:
    root = whole.get("zarr.json")
    if _at(root, "node_type") != "group" or _at(root, "zarr_format") != 3:
        yield f"{_GROUP}zarr.json is no group of Zarr version 3."
    for name, right in (
        ("sources", [source.name for source in contents.sources]),
        ("groups", [source.folder for source in contents.sources]),
    ):
        given = _at(root, "attributes", name)
        if given != right:
            yield f"the Zarr group has {name} {short(given)}, the description {right}."
    listed = _at(root, "consolidated_metadata", "metadata")
    for source in contents.sources:
        own = whole.get(f"{source.folder}/zarr.json")
        below = _at(own, "consolidated_metadata", "metadata")
        # some versions of zarr say in the group what is below a source, others do not; what they say is compared below
        if not _same(_bare(_at(listed, source.folder)), _bare(own)):
            yield f"source {source.name!r}: the Zarr group says something else of it than its own group."
        for name in [*(below if isinstance(below, dict) else ()), "spectra"]:
            node = whole.get(f"{source.folder}/{name}/zarr.json")
            for given in (_at(below, name), _at(listed, f"{source.folder}/{name}")):
                if not _same(given, node):
                    yield f"source {source.name!r}: the Zarr group says something else of {name!r} than itself does."
                    break


def _bare(node: Any) -> Any:
    """Return a node of Zarr without what it says of the nodes below it."""
    if not isinstance(node, dict):
        return node
    return {key: value for key, value in node.items() if key != "consolidated_metadata"}


def _wrong_source(
    source: StoredSource,
    whole: Mapping[str, Any],
    files: Mapping[str, bytes],
    mirrored: Mapping[str, tuple[tuple[str, ...], Array]],
    show: Callable[[tuple[tuple[str, bytes], ...]], Array],
) -> Iterator[str]:
    """Yield where the group of a source differs from its description, and its coordinates from the index."""
    own = whole.get(f"{source.folder}/zarr.json")
    if _at(own, "node_type") != "group" or _at(own, "zarr_format") != 3:
        yield "it has no Zarr group."
        return
    for name, right in (
        ("source", source.name),
        ("processings", list(source.processings)),
        ("source_attrs", source.attrs),
        ("segments", source.segments),
    ):
        given = _at(own, "attributes", name)
        if not _same(given, right):
            yield f"the Zarr group has {name} {short(given)}, the description {short(right)}."
    yield from _wrong_spectra(source, whole.get(f"{source.folder}/spectra/zarr.json"))
    expected = dict(mirrored)
    expected["processing"] = (("processing",), np.array(source.processings, np.dtypes.StringDType()))
    expected["wavelength"] = (("wavelength",), source.wavelength)
    if source.segments is not None:
        segments = [name for name, count in source.segments for _ in range(count)]
        expected["source"] = (("wavelength",), np.array(segments, np.dtypes.StringDType()))
    for name, (dims, values) in expected.items():
        start = f"{source.folder}/{name}/"
        own_files = tuple((key.removeprefix(start), files[key]) for key in sorted(files) if key.startswith(start))
        text = _wrong_coordinate(whole.get(f"{start}zarr.json"), partial(show, own_files), dims, values)
        if text is not None:
            yield f"its Zarr coordinate {name!r} {text}"
    units = {key: value for key, value in source.attrs.items() if key in ("units", "laser_nm")}
    given = _at(whole.get(f"{source.folder}/wavelength/zarr.json"), "attributes")
    if not _same(given, spectra_attrs(units)):
        yield f"its Zarr wavelengths have the attributes {short(given)}, the description {short(spectra_attrs(units))}."


def _wrong_spectra(source: StoredSource, meta: Any) -> Iterator[str]:
    """Yield where the metadata of a Zarr array of spectra differ from the description."""
    array, grid = source.array, source.array.grid
    if array.compression is None:
        chunk, inner = list(array.shard.shard_shape), list(array.shard.inner_shape)
        names = ["sharding_indexed"]
    else:
        chunk, inner = [max(1, size) for size in grid.chunk], []
        names = ["bytes", "blosc", "crc32c"]
    codecs = _at(meta, "codecs")
    compared: list[tuple[str, Any, Any]] = [
        ("shape", _at(meta, "shape"), list(grid.shape)),
        ("dtype", _at(meta, "data_type"), grid.dtype.name),
        ("dimensions", _at(meta, "dimension_names"), list(_DIMS)),
        ("grid", _at(meta, "chunk_grid", "name"), "regular"),
        ("chunk", _at(meta, "chunk_grid", "configuration", "chunk_shape"), chunk),
        ("codecs", [_at(one, "name") for one in codecs] if isinstance(codecs, list) else codecs, names),
        ("names of chunks", _at(meta, "chunk_key_encoding", "name"), "default"),
        ("separator", _at(meta, "chunk_key_encoding", "configuration", "separator") or "/", "/"),
        ("storage transformers", _at(meta, "storage_transformers") or [], []),
    ]
    if array.compression is None:
        shard = _at(codecs, 0, "configuration")
        compared += [
            ("inner chunk", _at(shard, "chunk_shape"), inner),
            ("codecs in the shard", _named(_at(shard, "codecs")), [["bytes", "little"]]),
            ("codecs of its index", _named(_at(shard, "index_codecs")), [["bytes", "little"], ["crc32c", None]]),
            ("index", _at(shard, "index_location") or "end", "end"),
        ]
    else:
        compared += [
            ("byte order", _at(codecs, 0, "configuration", "endian"), "little"),
            ("compression", _at(codecs, 1, "configuration", "cname"), array.compression),
        ]
    attrs = _at(meta, "attributes")
    own = {key: value for key, value in attrs.items() if key != "coordinates"} if isinstance(attrs, dict) else attrs
    compared.append(("attributes", own, spectra_attrs(split_attrs(source.attrs)[1])))
    for what, given, right in compared:
        if not _same(given, right):
            yield f"its Zarr spectra have {what} {short(given)}, the description {short(right)}."


def _named(codecs: Any) -> Any:
    """Return codecs as pairs of name and byte order."""
    if not isinstance(codecs, list):
        return codecs
    return [[_at(one, "name"), _at(one, "configuration", "endian")] for one in codecs]


def _wrong_coordinate(meta: Any, show: Callable[[], Array], dims: tuple[str, ...], values: Array) -> str | None:
    """Return how a coordinate in the Zarr group differs from what it should be."""
    kind = "string" if values.dtype.kind == "T" else values.dtype.name
    for what, given, right in (
        ("dimensions", _at(meta, "dimension_names"), list(dims)),
        ("shape", _at(meta, "shape"), list(values.shape)),
        ("dtype", _at(meta, "data_type"), kind),
    ):
        if not _same(given, right):
            return f"has {what} {short(given)}, not {right}."
    try:
        shown = show()
    except Exception as error:  # zarr says in many ways that it cannot read what was forged
        return f"cannot be read: {type(error).__name__}: {short(str(error))}."
    if shown.tolist() == values.tolist():
        return None
    other = [k for k, (one, two) in enumerate(zip(shown.tolist(), values.tolist(), strict=True)) if one != two]
    return f"does not mirror the {'index' if 'row' in dims else 'description'}, first at {other[0]}."


def _decoded(files: tuple[tuple[str, bytes], ...]) -> Array:
    """Return the values of a Zarr array from its files."""
    import zarr
    from zarr.core.buffer import cpu
    from zarr.storage import MemoryStore

    kept: Any = {name: cpu.Buffer.from_bytes(data) for name, data in files}
    array: Any = zarr.open_array(MemoryStore(kept), mode="r", zarr_format=3)
    return np.asarray(array[...])


def _at(value: Any, *path: str | int) -> Any:
    """Return what stands at a path in JSON, None where there is nothing."""
    for key in path:
        if isinstance(key, str) and isinstance(value, dict):
            value = value.get(key)
        elif isinstance(key, int) and isinstance(value, list) and key < len(value):
            value = value[key]
        else:
            return None
    return value


def _same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same JSON; NaN is NaN."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
