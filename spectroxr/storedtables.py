"""The tables and documents of a version: written in parts, shared with the version before, read when asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from spectroxr.contents import Contents
from spectroxr.errors import StoreError
from spectroxr.generation import Generation
from spectroxr.history import Version
from spectroxr.later import Later, value_of
from spectroxr.manifest import decode_json, encode_json
from spectroxr.parts import FEW, MOST, Part, joined, split, split_lines
from spectroxr.place import Place, Record, fetch
from spectroxr.sidetables import DOCUMENTS, TABLES, as_parquet, parsed_table
from spectroxr.snapshot import Snapshot, Table
from spectroxr.threads import in_threads

__all__ = ["read_side", "rebound", "write_tables"]

#: Tables and documents up to this size are read with the version, larger ones when they are asked for.
LATE_BYTES = 1 << 20
#: Tables up to this size are written whole.
WHOLE_BYTES = 1 << 16


@dataclass
class Stored:
    """Where an unread table or document lies.

    Attributes
    ----------
    place : Place
    name : str
    parts : tuple of Part
        Of a table.
    records : dict of str to Record
        By name of the file.
    """

    place: Place
    name: str
    parts: tuple[Part, ...]
    records: dict[str, Record]


def write_tables(
    out: Generation, snapshot: Snapshot, known: Mapping[str, Sequence[Part]]
) -> dict[str, tuple[Part, ...]]:
    """Begin to write what is new of the tables and documents.

    Parameters
    ----------
    out : Generation
    snapshot : Snapshot
    known : mapping of str to sequence of Part
        The parts of each table in the version before.

    Returns
    -------
    dict of str to tuple of Part
        Those of each table now.
    """
    tables = snapshot.every_table.items()
    written = {name: _write_table(out, name, table, known.get(name, ())) for name, table in tables}
    for name, document in snapshot.documents.items():
        if not isinstance(document, Later) or not _share(out, document.stored):
            out.add(f"{name}.json", encode_json(value_of(document)))
    return written


def _write_table(out: Generation, name: str, table: Table, known: Sequence[Part]) -> tuple[Part, ...]:
    if isinstance(table, Later) and _share(out, table.stored):
        parts: tuple[Part, ...] = table.stored.parts
        return parts
    frame = value_of(table)
    records = [out.known.get(part.file(name)) for part in known]
    if sum(record.size for record in records if record is not None) < WHOLE_BYTES:
        known = ()
    if not out.place.links and name in ("index", "holes"):
        known = ()  # what every reading needs is one request
    if name in ("index", "targets") and {"sample", "processing"} <= set(frame.columns):
        some = split_lines(frame, known, FEW if name == "index" else MOST)
    else:
        some = split(frame, known)
    for part, lines in some:
        out.add(part.file(name), as_parquet(lines, quick=name == "index"))
    return tuple(part for part, _ in some)


def _share(out: Generation, stored: Stored | None) -> bool:
    """Share files that nobody has read, if they are the store's own."""
    if stored is None or stored.place != out.place or not out.trusted:
        return False
    # in a bucket, what only an earlier version has may be removed with it
    if not out.place.links and any(out.known.get(name) != record for name, record in stored.records.items()):
        return False
    with contextlib.suppress(StoreError):
        for record in stored.records.values():
            out.place.expect(record.key, record.size)
        for name, record in stored.records.items():
            out.share(name, record)
        return True
    return False


def read_side(place: Place, version: Version, contents: Contents, late: bool = True) -> dict[str, Any]:
    """Read the tables and documents of a version.

    Parameters
    ----------
    place : Place
    version : Version
    contents : Contents
    late : bool
        Whether those that are large are `Later`; of these, only the sizes of files on a local disk are checked. False
        also looks at every line of parts.

    Returns
    -------
    dict
        By name.

    Raises
    ------
    StoreError
        If one is missing or damaged.
    """
    readers: dict[str, Callable[[], Any]] = {}
    found: dict[str, Any] = {}

    def reader(name: str, stored: Stored) -> Callable[[], Any]:
        def read() -> Any:
            if not stored.parts:
                (record,) = stored.records.values()
                return decode_json(fetch(place, record), place.name_of(record.key))
            frames = in_threads(_frame, [(place, one) for one in stored.records.values()], place.workers)
            _check_lines(stored, frames, whole=not late)
            return joined(frames, stored.parts, _order(name, state.value) if name in ("index", "targets") else None)

        return read

    for name in ("index", "holes", *TABLES, *DOCUMENTS):
        parts = () if name in DOCUMENTS else contents.tables.get(name, (Part(0, -1),))
        files = [part.file(name) for part in parts] or [f"{name}.json"]
        stored = Stored(place, name, tuple(parts), {file: contents.file(place, version, file) for file in files})
        readers[name] = read = reader(name, stored)
        large = sum(record.size for record in stored.records.values()) > LATE_BYTES
        if late and name not in ("lineage", "state") and (large or (len(parts) > 1 and not place.links)):
            for record in stored.records.values():
                place.expect(record.key, record.size)
            found[name] = Later(read, stored)
    # the order of lines stands in the state, which is read first
    state: Later[Any] = Later(readers["state"])
    readers["state"] = lambda: state.value
    now = sorted(set(readers) - set(found), key=lambda name: name != "state")
    values = in_threads(lambda name: readers[name](), now, place.workers)
    return found | dict(zip(now, values, strict=True))


def _order(table: str, state: Any) -> list[str]:
    """Return the order of the processings of an index, or of the versions of targets, as far as the state has one."""
    said = state if isinstance(state, dict) else {}
    names = said.get("processings")
    if table == "targets":
        document = said.get("targets")
        versions = document.get("versions") if isinstance(document, dict) else None
        names = [one[0] for one in versions if isinstance(one, list) and one] if isinstance(versions, list) else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _frame(given: tuple[Place, Record]) -> pl.DataFrame:
    place, record = given
    return parsed_table(fetch(place, record), place.name_of(record.key))


def _check_lines(stored: Stored, frames: Sequence[pl.DataFrame], whole: bool) -> None:
    """Raise StoreError if parts are not what is said of them; with `whole`, their lines are looked at too."""
    for part, frame, record in zip(stored.parts, frames, stored.records.values(), strict=True):
        if part.lines not in (-1, frame.height):
            raise StoreError(
                f"{stored.place.name_of(record.key)} has {frame.height} lines instead of the {part.lines} that the "
                "description of the version says."
            )
        if frame.schema != frames[0].schema:
            raise StoreError(f"{stored.place.name_of(record.key)} has other columns than the first part of its table.")
        if not whole or part.processings is None or part.samples is None or not frame.height:
            continue
        if frame.schema.get("sample") == pl.UInt32 and frame.schema.get("processing") == pl.String:
            strange = ~frame["processing"].is_in(part.processings) | ~frame["sample"].is_between(*part.samples)
            if strange.any():
                raise StoreError(
                    f"{stored.place.name_of(record.key)} has a line of sample {frame['sample'].filter(strange)[0]} in "
                    f"processing {frame['processing'].filter(strange)[0]!r}, which is not of its part."
                )


def rebound(later: Later[Any] | None, place: Place, files: Mapping[str, Record]) -> None:
    """Let what is unread be read from the version that was saved there last."""
    stored = None if later is None else later.stored
    if isinstance(stored, Stored) and stored.place == place and set(stored.records) <= set(files):
        stored.records.update({name: files[name] for name in stored.records})
