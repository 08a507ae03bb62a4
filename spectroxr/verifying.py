"""Checking every file of a version, and removing versions that nobody needs any more."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import polars as pl

from spectroxr.chunks import Key, decode, digest
from spectroxr.contents import Contents, StoredSource
from spectroxr.errors import StoreError
from spectroxr.history import History, Version, read_history
from spectroxr.index import Index
from spectroxr.later import value_of
from spectroxr.localplace import LocalPlace
from spectroxr.place import Entry, Place, Record, fetch
from spectroxr.schema import INDEX_SCHEMA
from spectroxr.snapshot import Snapshot
from spectroxr.threads import in_threads
from spectroxr.zarrstore import contents_of, snapshot_of

__all__ = ["vacuum_store", "verify_version"]


def verify_version(place: Place, version: Version, seen: dict[str, str | None] | None = None) -> list[str]:
    """Check every file of a version against its checksum, and what they say against each other.

    Parameters
    ----------
    place : Place
    version : Version
    seen : dict, optional
        What was found of files before, by key; extended. Files that versions share are read once.

    Returns
    -------
    list of str
        What is damaged, a line each; empty if all is well.
    """
    known: dict[str, str | None] = {} if seen is None else seen
    try:
        contents = contents_of(place, version)
    except StoreError as error:
        return [str(error)]
    except OSError as error:
        return [f"{error.filename or place.name_of(version.generation)} cannot be read: {error.strerror or error}."]

    def look(record: Record, source: StoredSource | None = None) -> str | None:
        if record.key not in known:
            try:
                data = fetch(place, record)
                if source is not None and source.array.compression is not None:
                    _check_chunk(place, source, record, data)
                known[record.key] = None
            except StoreError as error:
                known[record.key] = str(error)
            except OSError as error:
                known[record.key] = f"{place.name_of(record.key)} cannot be read: {error.strerror or error}."
        return known[record.key]

    damage = in_threads(look, contents.files.values(), place.workers)
    for source in contents.sources:
        records = [source.array.record(key) for key in source.array.grid]
        damage += in_threads(partial(look, source=source), records, place.workers)
    found = [text for text in damage if text is not None]
    return found or _contradictions(place, version, contents)


def _check_chunk(place: Place, source: StoredSource, record: Record, data: bytes) -> None:
    """Raise StoreError if a chunk does not decode to what was saved."""
    grid = source.array.grid
    block = np.empty((grid.chunk[0], grid.chunk[2]), grid.dtype)
    decode(data, block, place.name_of(record.key))
    if record.content is not None and digest(block) != record.content:
        raise StoreError(f"{place.name_of(record.key)} does not decode to what was saved.")


def _contradictions(place: Place, version: Version, contents: Contents) -> list[str]:
    """Return what contradicts itself in a version whose files are all as they were saved."""
    where = f"version {version.number} of {place.name_of('')}"
    if not {"features.zarr/zarr.json", "features.refs.json"} & set(contents.files):
        return [f"{where}: it lists neither features.zarr/zarr.json nor features.refs.json."]
    try:
        parts = snapshot_of(place, version, contents, late=False)
        lines = value_of(parts.index)
        if dict(lines.schema) != INDEX_SCHEMA:
            return [f"{where}: the columns of the index are {lines.schema}, not {INDEX_SCHEMA}."]
        state = parts.documents.get("state")
        order = (state.get("processings") if isinstance(state, dict) else None) or lines["processing"].unique(
            maintain_order=True
        ).to_list()
        index = Index.from_tables(lines, value_of(parts.holes), order)
    except (ValueError, TypeError, KeyError, pl.exceptions.PolarsError) as error:
        return [f"{where}: {error}"]
    return [f"{where}: {text}" for text in _unfit(parts, index) + _unfit_axes(place, contents)]


def _unfit(parts: Snapshot, index: Index) -> list[str]:
    """Return what of tables, folds and spectra does not fit the index."""
    found = []
    samples = len(index)
    for source in parts.sources:
        rows = len(source.planes[0])
        if samples and int(index.rows.max()) >= rows:
            found.append(f"the index refers to row {int(index.rows.max())}, source {source.name!r} has {rows}.")
        if len(source.wavelength) != source.planes[0].shape[1]:
            found.append(f"source {source.name!r} has {len(source.wavelength)} wavelengths, its spectra others.")
        if source.segments is not None and len(source.segments) != len(source.wavelength):
            found.append(f"source {source.name!r} has {len(source.wavelength)} wavelengths, its segments others.")
        for name, lines in index.lines.items():
            if name not in source.processings and not index.lacks(lines.samples, name, source.name).all():
                found.append(f"the index has samples in processing {name!r}, source {source.name!r} does not have it.")
    for name, given in parts.tables.items():
        if (table := value_of(given)).width:
            found += _unfit_table(name, table, samples)
    names = [source.name for source in parts.sources]
    for (processing, source_name), hole in index.holes.items():
        if processing not in index.lines or source_name not in names:
            found.append(f"holes name processing {processing!r} of source {source_name!r}, which is not there.")
        elif len(hole) and int(hole.max()) >= samples:
            found.append(f"holes name sample {int(hole.max())}; there are {samples}.")
    return found + _unfit_folds(parts.documents.get("folds"), samples)


def _unfit_axes(place: Place, contents: Contents) -> list[str]:
    """Return which sources show plain readers other wavelengths than the description of the version has."""
    found = []
    for source in contents.sources:
        record = contents.files.get(f"features.zarr/{source.folder}/wavelength/c/0")
        plain = b"" if record is None else fetch(place, record)
        if plain != source.wavelength.astype(source.wavelength.dtype.newbyteorder("<")).tobytes():
            found.append(f"source {source.name!r} has other wavelengths in its Zarr group than in the description.")
    return found


def _unfit_table(name: str, table: pl.DataFrame, samples: int) -> list[str]:
    """Return what is wrong with the samples that a table names."""
    if "sample" not in table.columns:
        return [f"table {name!r} has no column 'sample'."]
    column = table["sample"]
    if not column.dtype.is_integer() or column.null_count():
        return [f"table {name!r} has samples that are no ids."]
    wrong = column.filter((column < 0) | (column >= samples))
    if len(wrong):
        return [f"table {name!r} names sample {wrong[0]}; there are {samples}."]
    keys = [
        key for key in ("sample", "processing") if key in table.columns and (key, name) != ("processing", "metadata")
    ]
    if name != "predictions" and table.select(keys).is_duplicated().any():
        return [f"table {name!r} has a sample twice."]
    return []


def _unfit_folds(folds: Any, samples: int) -> list[str]:
    """Return what is wrong with folds."""
    if not isinstance(folds, list):
        return []
    for k, fold in enumerate(folds):
        if not isinstance(fold, dict) or set(fold) != {"train", "val"}:
            return [f"fold {k} is not of the form {{'train': [...], 'val': [...]}}."]
        ids = [one for side in fold.values() for one in (side if isinstance(side, list) else [None])]
        wrong = [one for one in ids if isinstance(one, bool) or not isinstance(one, int) or not 0 <= one < samples]
        if wrong:
            return [f"fold {k} names sample {wrong[0]!r}; there are {samples}."]
        if len(set(ids)) != len(ids):
            return [f"fold {k} names a sample twice."]
    return []


def vacuum_store(place: Place, keep: int, older_than: float) -> int:
    """Remove all but the newest versions, and what saves that failed have left.

    Parameters
    ----------
    place : Place
    keep : int
        How many versions stay.
    older_than : float
        In a bucket, leftovers younger than this many seconds may be a save under way and stay.

    Returns
    -------
    int
        Bytes freed.
    """
    with place.writing():
        history = read_history(place)
        assert history is not None
        kept = history.versions[-keep:]
        needed = {key for version in kept for key in _keys(place, version)}
        dropped = {version.generation for version in history.versions if version not in kept}
        if dropped:
            sealed = History(kept).sealed()
            place.commit(sealed, history.token, lambda data: data == sealed)
        current = {version.generation for version in kept}
        useless: list[Entry] = []
        for generation in place.generations():
            if generation in current:
                continue
            for entry in place.entries(generation):
                settled = generation in dropped or isinstance(place, LocalPlace) or entry.age > older_than
                if settled and entry.key not in needed:
                    useless.append(entry)
        # what makes a Zarr group of a generation goes first: without its chunks it would show fill values
        place.tidy()
        groups = [entry for entry in useless if entry.key.endswith("zarr.json")]
        freed = place.remove(groups) + place.remove([entry for entry in useless if entry not in groups])
        for generation in place.generations() if isinstance(place, LocalPlace) else ():
            if generation not in current:
                place.discard(generation)
    return freed


def _keys(place: Place, version: Version) -> list[str]:
    """Return the keys of all objects of a version."""
    contents = contents_of(place, version)
    keys = [record.key for record in contents.files.values()]
    if version.record is not None:
        keys.append(version.record.key)
    for source in contents.sources:
        numbered: list[Key] = list(source.array.grid)
        keys += [source.array.record(key).key for key in numbered]
    return keys
