"""A dataset as a version of a store: written with what it shares with the one before, read without its spectra."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spectroxr.chunks import chunk_name
from spectroxr.contents import Contents, StoredSource, chunk_table, contents_of_format_1
from spectroxr.description import described
from spectroxr.errors import ConflictError, StoreError
from spectroxr.generation import Generation
from spectroxr.history import History, Version, history_of, now, read_history, record_of
from spectroxr.later import value_of
from spectroxr.localplace import LocalPlace
from spectroxr.manifest import RESTORE, encode_json
from spectroxr.place import Place, Record, fetch, generation_name
from spectroxr.sidetables import DOCUMENTS, TABLES, as_parquet, parsed_table
from spectroxr.snapshot import Snapshot, SourceSnapshot
from spectroxr.storedtables import read_side, write_tables
from spectroxr.threads import Work
from spectroxr.writespectra import write_spectra
from spectroxr.zarrgroup import folder_names, group_files, runs_of

__all__ = ["Saved", "contents_of", "read_zarr", "snapshot_of", "write_zarr"]

_DESCRIPTION = "version.json"
_CHUNKS = "tables/chunks.parquet"
_REFERENCES = "features.refs.json"


@dataclass(frozen=True)
class Saved:
    """What a save or a load was of: the place, the version, and where the spectra of each source are.

    Attributes
    ----------
    place : Place
    version : Version
    sources : tuple of StoredSource
    files : dict of str to Record
    """

    place: Place
    version: Version
    sources: tuple[StoredSource, ...]
    files: dict[str, Record]


def write_zarr(
    place: Place,
    snapshot: Snapshot,
    compression: str | None,
    chunks: Mapping[str, int],
    message: str,
    base: Version | None,
    overwrite: bool = False,
    sent: list[Saved] | None = None,
    elsewhere: Sequence[Version] = (),
) -> Saved:
    """Save a snapshot as the new current version of a store.

    Parameters
    ----------
    place : Place
        The caller holds what keeps other writers away, see `Place.writing`.
    snapshot : Snapshot
        Valid.
    compression : str or None
    chunks : mapping
        Sizes of chunks that the caller wants.
    message : str
    base : Version or None
        The version that the snapshot comes from: if it is not the current one, others have saved since.
    overwrite : bool
        Save all the same then.
    sent : list, optional
        Gets what is saved just before it is committed, for whom an error comes after that.
    elsewhere : sequence of Version
        Those of other places that the snapshot comes from. A store that has one of them is a copy.

    Raises
    ------
    ConflictError
        If another writer was first; nothing of this save is kept then.
    StoreError
        If something is damaged or cannot be written.
    """
    history = read_history(place)
    fresh = history is None
    generation = None
    sent = [] if sent is None else sent
    try:
        place.prepare()
        if history is None:
            history = read_history(place) or History(())
        if not overwrite:
            _check_base(place, history, base or _copied(history, elsewhere))
        generation = _claimed(place, history)
        saved = _write_version(place, snapshot, compression, chunks, message, history, generation, base, sent)
    except BaseException as error:
        # A bucket may still apply a manifest that was sent, long after the error: then its objects must be there.
        if place.links or not sent or isinstance(error, ConflictError):
            _undo(place, generation, fresh)
        raise
    return saved


def _check_base(place: Place, history: History, base: Version | None) -> None:
    current = history.current
    if base is None or current is None or base.stamp == current.stamp:
        return
    origin = f"version {base.number}" if base.number else "a plain folder that was there"
    raise ConflictError(
        f"{place.name_of('')} has version {current.number} now; this dataset comes from {origin}, and "
        "saving it would leave out what was saved since. Load the store again and repeat your changes on that, save "
        "elsewhere, or save with overwrite=True: the versions before stay readable by load(path, version=...)."
    )


def _copied(history: History, elsewhere: Sequence[Version]) -> Version | None:
    """Return the newest version that a store has in common with those of other places."""
    stamps = {version.stamp for version in elsewhere if version.record is not None}  # format 1 has no time to tell by
    return next((version for version in reversed(history.versions) if version.stamp in stamps), None)


def _claimed(place: Place, history: History) -> str:
    """Take the first free generation after the current one."""
    number = (history.current.number if history.current else 0) + 1
    while not place.claim(generation_name(number)):  # what a save that failed has left keeps its number
        taken = {int(name) for name in place.generations()}
        number = next(k for k in itertools.count(number + 1) if k not in taken)
    return generation_name(number)


def _undo(place: Place, generation: str | None, fresh: bool) -> None:
    """Remove what a save that failed has written, unless it was committed after all."""
    try:
        history = read_history(place)
    except StoreError:
        return
    current = history.current if history is not None else None
    kept = [] if history is None else [version.generation for version in history.versions]
    if generation is not None and generation not in kept:
        place.discard(generation)
    if fresh and current is None:
        place.undo()


def _write_version(
    place: Place,
    snapshot: Snapshot,
    compression: str | None,
    chunks: Mapping[str, int],
    message: str,
    history: History,
    generation: str,
    base: Version | None,
    sent: list[Saved],
) -> Saved:
    try:
        previous = contents_of(place, history.current) if history.current else Contents()
    except StoreError:
        previous = Contents()  # a damaged version has nothing to share
    before = {source.name: source for source in previous.sources}
    kept = {name: source.folder for name, source in before.items()}
    sources = [_in_stored_order(source, before.get(source.name)) for source in snapshot.sources]
    folders = folder_names([source.name for source in sources], kept)
    with Work(place.workers) as work:
        # a store that was made anew at the same place has other files under the names that the snapshot knows
        trusted = base is not None and base.stamp in {version.stamp for version in history.versions}
        out = Generation(place, int(generation), previous.files, work, trusted)
        begun = []
        for source, folder in zip(sources, folders, strict=True):
            old = before.get(source.name)
            same = old is not None and old.processings == source.processings[: len(old.processings)]
            array = f"features.zarr/{folder}/spectra"
            begun.append(write_spectra(out, source, array, old.array if old and same else None, compression, chunks))
        tables = write_tables(out, snapshot, previous.tables)
        index = value_of(snapshot.index)
        group = group_files(sources, [one.array for one in begun], folders, index)
        whole = place.links or not before
        if whole:
            _add_group(out, group)
        stored = [
            StoredSource(
                source.name,
                folder,
                source.processings,
                source.wavelength,
                source.attrs,
                runs_of(source.segments),
                one.stored(out),
            )
            for source, folder, one in zip(sources, folders, begun, strict=True)
        ]
        if not whole:
            if all((one.array.table.generation == out.number).all() for one in stored):
                _add_group(out, group)
            else:
                _add_references(out, group, stored)
        out.add(_CHUNKS, as_parquet(chunk_table(stored)))
        description = encode_json(Contents(dict(out.files), tuple(stored), tables).described())
        record = out.add(_DESCRIPTION, description, share=False)
        work.finish()
    samples = int(index["sample"].n_unique())
    version = Version(out.number, now(), message, out.written, samples, record)
    place.settle(generation)
    sent.append(Saved(place, version, tuple(stored), dict(out.files)))
    place.commit(history.with_version(version).sealed(), history.token, lambda data: _holds(place, data, version))
    return sent[0]


def _add_group(out: Generation, group: Mapping[str, bytes]) -> None:
    for name, data in group.items():
        out.add(f"features.zarr/{name}", data, out.place.links)


def _holds(place: Place, data: bytes | None, version: Version) -> bool:
    """Tell whether a manifest lists a version."""
    return data is not None and version in history_of(place, data).versions


def _add_references(out: Generation, group: Mapping[str, bytes], stored: Sequence[StoredSource]) -> None:
    """Write what plain readers need where objects of earlier versions cannot be found under the new ones' names.

    A Zarr reader takes a chunk that is not under its array for one that was never written, and returns NaN. So no Zarr
    metadata is put there, and a file of references in the form of Kerchunk (version 1) says where everything is.
    """
    root = out.place.name_of("")
    references: dict[str, Any] = {}
    for name, data in group.items():
        if name.endswith("zarr.json"):
            references[name] = data.decode()
        else:
            references[name] = ["{{store}}/" + out.add(f"features.zarr/{name}", data).key]
    for source in stored:
        for key in source.array.grid:
            name = f"{source.folder}/spectra/{chunk_name(key)}"
            references[name] = ["{{store}}/" + source.array.record(key).key]
    out.add(_REFERENCES, encode_json({"version": 1, "templates": {"store": root}, "refs": references}))


def _in_stored_order(source: SourceSnapshot, old: StoredSource | None) -> SourceSnapshot:
    """Return a source with the processings that the version before has first, in its order."""
    stored = source.stored or (None,) * len(source.planes)
    source = replace(source, stored=stored)
    if old is None or not set(old.processings) <= set(source.processings):
        return source
    names = [*old.processings, *(name for name in source.processings if name not in old.processings)]
    order = [source.processings.index(name) for name in names]
    return replace(
        source,
        processings=tuple(names),
        planes=tuple(source.planes[k] for k in order),
        stored=tuple(stored[k] for k in order),
    )


def contents_of(place: Place, version: Version) -> Contents:
    """Return what a version consists of, without its tables and spectra.

    Raises
    ------
    StoreError
        If its description or its table of chunks is missing or damaged.
    """
    if version.record is None:
        return contents_of_format_1(place, version)
    data, where = fetch(place, version.record), place.name_of(version.record.key)
    said = described(data, where)
    if _CHUNKS not in said["files"]:
        raise StoreError(f"{where} does not list {_CHUNKS}. {RESTORE}")
    chunks = record_of(said["files"][_CHUNKS])
    table = parsed_table(fetch(place, chunks), place.name_of(chunks.key))
    return Contents.from_description(place, said, where, table)


def read_zarr(place: Place, number: int | None, history: History) -> tuple[Snapshot, Saved]:
    """Read a version of a store, all but its spectra.

    Parameters
    ----------
    place : Place
    number : int or None
        None: the current version.
    history : History
        The versions there are, as just read.

    Returns
    -------
    Snapshot
        Its planes are views of read-only maps (uncompressed, on a local disk), else `StoredPlane`.
    Saved

    Raises
    ------
    StoreError
        If the store is damaged; the message names the file.
    """
    while True:
        version = history.version(number, place.name_of(""))
        try:
            contents = contents_of(place, version)
            return snapshot_of(place, version, contents), Saved(place, version, contents.sources, contents.files)
        except StoreError:
            # Another process may have removed the version that was being read.
            again = read_history(place)
            if again is None or version in again.versions:
                raise
            history = again


def snapshot_of(place: Place, version: Version, contents: Contents, late: bool = True) -> Snapshot:
    """Read the tables and documents of a version, as `read_side` does, and put them together with its spectra."""
    found = read_side(place, version, contents, late)
    return Snapshot(
        sources=tuple(_with_planes(place, source) for source in contents.sources),
        index=found["index"],
        holes=found["holes"],
        tables={name: found[name] for name in TABLES},
        documents={name: found[name] for name in DOCUMENTS},
    )


def _with_planes(place: Place, source: StoredSource) -> SourceSnapshot:
    array = source.array
    stored = tuple(array.plane(position) for position in range(array.grid.shape[1]))
    planes: tuple[Any, ...] = stored
    if array.compression is None and isinstance(place, LocalPlace):
        planes = tuple(block[:, k] for block in array.maps() for k in range(block.shape[1]))
    return SourceSnapshot(
        name=source.name,
        planes=planes,
        processings=source.processings,
        wavelength=source.wavelength,
        attrs=source.attrs,
        segments=None if source.segments is None else tuple(n for n, count in source.segments for _ in range(count)),
        stored=stored,
    )
