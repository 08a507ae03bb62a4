"""Whether the tables of a version have the samples, columns and types they should, and fit its state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from spectroxr.description import short, whole
from spectroxr.encoding import is_record
from spectroxr.fields import SCHEMA
from spectroxr.outputs import OUTPUTS
from spectroxr.snapshot import Snapshot

__all__ = ["wrong_samples", "wrong_state", "wrong_table", "wrong_versions"]

#: What every prediction says.
_NEEDED = ("sample", "model", "processing")
_TEXTS = (pl.String, pl.Categorical, pl.Enum)


def wrong_state(state: Any, parts: Snapshot, strict: bool) -> list[str]:
    """Return what is wrong with the state; with `strict` also what `load` can do without."""
    if not isinstance(state, dict):
        return [f"the state is {short(state)}, not an object."]
    found = []
    given = state.get("processings")
    if "processings" in state and not (given is None and not strict):
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            found.append(f"the state has processings {short(given)}, not a list of names.")
        elif len(set(given)) < len(given):
            twice = next(name for name in given if given.count(name) > 1)
            found.append(f"the state has processing {twice!r} twice.")
        elif strict and "processing" in parts.table("index").columns:
            named = parts.table("index")["processing"].unique(maintain_order=True).to_list()
            found += [f"the state has processing {name!r}, the index does not." for name in given if name not in named]
            found += [f"the index has processing {name!r}, the state does not." for name in named if name not in given]
    if strict and "rows" in state:
        rows = {len(source.planes[0]) for source in parts.sources if source.planes}
        if not whole(state["rows"]):
            found.append(f"the state has rows {short(state['rows'])}, not a number.")
        elif rows and state["rows"] not in rows:
            found.append(f"the state has {state['rows']} rows, the sources {sorted(rows)}.")
    return found + (wrong_versions(state.get("targets"), parts.table("targets"), True) if strict else [])


def wrong_versions(document: Any, table: pl.DataFrame, strict: bool) -> list[str]:
    """Return where the versions of the targets and their table do not fit."""
    if document is None or document == {}:
        return []
    if not isinstance(document, dict):
        return [f"the state has targets {short(document)}, not an object."]
    found = []
    versions = document.get("versions", [])
    owned: dict[str, set[str]] = {}
    if not _are_versions(versions):
        return [f"the state has versions of the targets {short(versions)}, not [version, [[target, column], ...]]."]
    for version, columns in versions:
        if version in owned:
            found.append(f"the state has version {version!r} of the targets twice.")
        owned[version] = {column for _, column in columns}
        targets = [target for target, _ in columns]
        if len(set(targets)) < len(targets):
            found.append(f"the state has a target twice in version {version!r}.")
        for _, column in columns:
            if column not in table.columns:
                found.append(f"version {version!r} of the targets has column {column!r}, their table does not.")
    written = document.get("written", [])
    if not _are_written(written):
        found.append(f"the state has targets written {short(written)}, not [version, target, number].")
    elif strict:
        known = [(version, target) for version, columns in versions for target, _ in columns]
        found += [
            f"the state has target {target!r} written in version {version!r}, which does not have it."
            for version, target, _ in written
            if (version, target) not in known
        ]
    records = document.get("records", [])
    if not _are_records(records):
        found.append(f"the state has records of the targets {short(records)}, not [version, target, record].")
    elif strict:
        known = [(version, target) for version, columns in versions for target, _ in columns]
        found += [
            f"the state records how target {target!r} was made in version {version!r}, which does not have it."
            for version, target, _ in records
            if (version, target) not in known
        ]
    if not versions and not table.height:
        return found
    for name in ("sample", "processing"):
        if name not in table.columns:
            return [*found, f"table 'targets' has no column {name!r}."]
    if table.schema["processing"] not in (*_TEXTS, pl.Null):
        return [*found, f"table 'targets' has column 'processing' of {table.schema['processing']}."]
    if not strict:
        return found
    for version in table["processing"].unique(maintain_order=True).to_list():
        if version not in owned:
            found.append(f"table 'targets' has lines of version {version!r}, which the state does not know.")
            continue
        lines = table.filter(pl.col("processing") == version)
        others = [name for name in table.columns if name not in ("sample", "processing", *owned[version])]
        found += [
            f"table 'targets' has values in column {name!r} for version {version!r}, which does not have it."
            for name in others
            if lines[name].null_count() < lines.height
        ]
    return found


def _are_versions(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, list)
        and len(one) == 2
        and isinstance(one[0], str)
        and isinstance(one[1], list)
        and all(isinstance(pair, list) and [type(name) for name in pair] == [str, str] for pair in one[1])
        for one in value
    )


def _are_written(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, list) and [type(part) for part in one] == [str, str, int] for one in value
    )


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, list) and len(one) == 3 and [type(p) for p in one[:2]] == [str, str] and is_record(one[2])
        for one in value
    )


def wrong_samples(name: str, table: pl.DataFrame, samples: int) -> list[str]:
    """Return what is wrong with the samples that a table names."""
    if not table.width:
        return []
    if "sample" not in table.columns:
        return [f"table {name!r} has no column 'sample'."]
    column = table["sample"]
    if not column.dtype.is_integer() and (column.dtype != pl.Null or len(column)):
        return [f"table {name!r} has samples of {column.dtype}, which are no ids."]
    if column.null_count():
        return [f"table {name!r} has a line of no sample."]
    wrong = column.filter((column < 0) | (column >= samples)) if len(column) else column
    if len(wrong):
        return [f"table {name!r} names sample {wrong[0]}; there are {samples}."]
    return []


def wrong_table(name: str, table: pl.DataFrame, samples: int) -> list[str]:
    """Return what is wrong with a table by itself, and with the samples that it names."""
    found = wrong_samples(name, table, samples)
    if name == "predictions":
        return [*found, *_wrong_predictions(table)]
    keys = ["sample", "processing"] if name == "targets" and "processing" in table.columns else ["sample"]
    if table.width and not found:
        twice = table.filter(table.select(keys).is_duplicated())
        found += [f"table {name!r} has sample {twice['sample'][0]} twice."] if twice.height else []
    return found


def _wrong_predictions(table: pl.DataFrame) -> Iterator[str]:
    if not table.width:
        return
    for name, kind in SCHEMA.items():
        given = table.schema.get(name)
        if given is None:
            if name in _NEEDED and name != "sample":
                yield f"table 'predictions' has no column {name!r}."
            continue
        fits = given in _TEXTS if kind == pl.String else given == kind or (given.is_integer() and kind.is_integer())
        if not fits and given != pl.Null and name != "sample":
            yield f"table 'predictions' has column {name!r} of {given}, not {kind}."
    outputs = [name for name in OUTPUTS if name in table.columns]
    if not outputs:
        yield "table 'predictions' has no column 'preds' or 'labels'."
    for name in outputs:
        kind = table.schema[name]
        inner = kind.inner if isinstance(kind, pl.List | pl.Array) else kind
        if inner != pl.Null and not (
            inner in _TEXTS if name == "labels" else inner.is_numeric() or inner == pl.Boolean
        ):
            yield f"table 'predictions' has column {name!r} of {kind}."
