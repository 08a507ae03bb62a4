"""Checking every file of a version, and removing versions that nobody needs any more."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import numpy as np
import polars as pl

from spectroxr.chunks import Key, decode, digest
from spectroxr.contents import StoredSource
from spectroxr.contradictions import contradictions
from spectroxr.description import FORGED, short
from spectroxr.errors import StoreError
from spectroxr.groupfit import wrong_group
from spectroxr.history import History, Version, read_history
from spectroxr.localplace import LocalPlace
from spectroxr.place import Entry, Place, Record, fetch
from spectroxr.schema import INDEX_SCHEMA
from spectroxr.sidetables import DOCUMENTS, TABLES
from spectroxr.snapshot import Snapshot
from spectroxr.threads import in_threads
from spectroxr.zarrstore import contents_of, snapshot_of

__all__ = ["vacuum_store", "verify_version"]

#: The files of a generation.
_WRITTEN = re.compile(
    rf"claim|(version|features\.refs|{'|'.join(DOCUMENTS)})\.json|features\.zarr/.+"
    rf"|tables/(index|holes|chunks|{'|'.join(TABLES)})(\.\d+)?\.parquet"
)


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
        return str(error).splitlines()
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
            except (MemoryError, ValueError) as error:
                known[record.key] = f"{place.name_of(record.key)} cannot hold chunks of that shape: {error}."
            except OSError as error:
                known[record.key] = f"{place.name_of(record.key)} cannot be read: {error.strerror or error}."
        return known[record.key]

    damage = in_threads(look, contents.files.values(), place.workers)
    for source in contents.sources:
        records = [source.array.record(key) for key in source.array.grid]
        damage += in_threads(partial(look, source=source), records, place.workers)
    found = [text for text in damage if text is not None]
    if found:
        return found
    where = f"version {version.number} of {place.name_of('')}"
    try:
        parts = snapshot_of(place, version, contents, late=False)
    except StoreError as error:
        return str(error).splitlines()
    except FORGED as error:
        return [f"{where} does not say what it should ({type(error).__name__}: {short(str(error))})."]
    comparisons: list[Callable[[], list[str]]] = [
        partial(contradictions, parts),
        partial(wrong_group, place, contents, None if _index_is_wrong(parts) else parts.table("index")),
        partial(_refused, parts),
    ]
    for compare in comparisons:
        if compare is comparisons[-1] and found:
            break
        try:
            found += compare()
        except FORGED as error:
            found.append(f"it does not say what it should ({type(error).__name__}: {short(str(error))}).")
    return [f"{where}: {text}" for text in found]


def _check_chunk(place: Place, source: StoredSource, record: Record, data: bytes) -> None:
    """Raise StoreError if a chunk does not decode to what was saved."""
    grid = source.array.grid
    block = np.empty((grid.chunk[0], grid.chunk[2]), grid.dtype)
    decode(data, block, place.name_of(record.key))
    if record.content is not None and digest(block) != record.content:
        raise StoreError(f"{place.name_of(record.key)} does not decode to what was saved.")


def _index_is_wrong(parts: Snapshot) -> bool:
    """Tell whether an index cannot be mirrored by the rows of the sources."""
    index = parts.table("index")
    columns = dict(index.schema) == INDEX_SCHEMA
    last = index["row"].max() if columns else None
    rows = min((source.planes[0].shape[0] for source in parts.sources if source.planes), default=0)
    nulls = index.select(pl.exclude("partition", "group").null_count()).sum_horizontal() if columns else None
    return nulls is None or bool(nulls[0]) or (isinstance(last, int) and last >= rows)


def _refused(parts: Snapshot) -> list[str]:
    """Return why no dataset can be made of a version in which no contradiction was found."""
    from spectroxr.dataset import SpectroDataset
    from spectroxr.io import fill

    try:
        fill(SpectroDataset(), parts)
    except StoreError as error:
        return str(error).splitlines()
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
        emptied = []
        for generation in place.generations():
            if generation in current:
                continue
            entries = list(place.entries(generation))
            if generation not in dropped and not all(map(_from_a_save, entries)):
                continue  # a folder of somebody else's that is called like one of ours
            emptied.append(generation)
            for entry in entries:
                settled = generation in dropped or isinstance(place, LocalPlace) or entry.age > older_than
                if settled and entry.key not in needed:
                    useless.append(entry)
        # what makes a Zarr group of a generation goes first: without its chunks it would show fill values
        place.tidy()
        groups = [entry for entry in useless if entry.key.endswith("zarr.json")]
        freed = place.remove(groups) + place.remove([entry for entry in useless if entry not in groups])
        for generation in emptied if isinstance(place, LocalPlace) else ():
            place.discard(generation)
    return freed


def _from_a_save(entry: Entry) -> bool:
    """Tell whether a file has the name of one that a save writes: all that a save which was killed has left do."""
    return _WRITTEN.fullmatch(entry.key.partition("/")[2]) is not None


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
