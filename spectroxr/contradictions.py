"""What the parts of a version say against each other: index, holes, folds, state, tables and sources."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from spectroxr.description import FORGED, short, whole
from spectroxr.index import Index
from spectroxr.inherit import derived_from
from spectroxr.later import Later
from spectroxr.schema import HOLES_SCHEMA, INDEX_SCHEMA, Array
from spectroxr.snapshot import Snapshot
from spectroxr.statefit import wrong_samples, wrong_state, wrong_table, wrong_versions

__all__ = ["circling", "contradictions", "unfit", "unreadable"]


def contradictions(parts: Snapshot) -> list[str]:
    """Return what the parts of a version say against each other, a line each; empty if all is well.

    Parameters
    ----------
    parts : Snapshot
        As read; its documents and tables may be anything.
    """
    found = [*_wrong_sources(parts), *wrong_state(parts.documents.get("state"), parts, strict=True)]
    table, holes = parts.table("index"), parts.table("holes")
    if dict(table.schema) != INDEX_SCHEMA:
        return [*found, f"the columns of the index are {table.schema}, not {INDEX_SCHEMA}."]
    wrong_holes = _wrong_holes_table(holes)
    found += wrong_holes
    samples = _samples(parts)
    found += [text for name in parts.tables for text in wrong_table(name, parts.table(name), samples)]
    index = None
    try:
        index = Index.from_tables(table, pl.DataFrame(schema=HOLES_SCHEMA), _processings(parts))
    except FORGED as error:
        found.append(f"the index contradicts itself: {error}")
    if index is not None:
        found += _wrong_origins(index)
        found += _wrong_lines(parts, index, None if wrong_holes else holes)
        if not wrong_holes:
            found += _wrong_holes(parts, index)
    return found + _wrong_folds(parts.documents.get("folds"), samples, None if index is None else index.origins)


def unreadable(parts: Snapshot) -> list[str]:
    """Return what of a snapshot cannot be taken into a dataset, a line each; what is yet to be read is left out.

    Less than `contradictions`: what a dataset can be made of, however odd, is left to `SpectroDataset.verify`.
    """
    found = wrong_state(parts.documents.get("state") or {}, parts, strict=False)
    if not parts.late("holes"):
        found += _wrong_holes_table(parts.table("holes"))
    folds = parts.documents.get("folds")
    if parts.late("index"):
        return found
    samples = _samples(parts)
    for name in parts.tables:
        if not parts.late(name):
            found += unfit(name, parts.table(name), samples, parts.documents.get("state"))
    return found if isinstance(folds, Later) else found + unfit("folds", folds, samples)


def unfit(name: str, given: Any, samples: int, state: Any = None) -> list[str]:
    """Return why a table, or the folds, cannot be taken into a dataset of so many samples, a line each."""
    if name == "folds":
        return [] if given is None else _wrong_forms(given, samples)[0]
    if name == "targets" and "sample" not in given.columns:
        return []
    document = state.get("targets") if name == "targets" and isinstance(state, dict) else None
    return wrong_samples(name, given, samples) + wrong_versions(document, given, strict=False)


def circling(origins: Array) -> Array:
    """Return the samples whose origins lead nowhere: to a sample that does not exist, or back to themselves."""
    count = len(origins)
    ids = np.arange(count)
    if np.array_equal(origins, ids):
        return ids[:0]
    inside = origins < count
    reached = np.where(inside, origins, ids).astype(np.intp)
    lost = ~inside
    for _ in range(count.bit_length()):  # twice as many steps each time
        lost = lost | lost[reached]
        reached = reached[reached]
    rooted = np.where(inside, origins, count)[reached] == reached
    return np.flatnonzero(lost | ~rooted)


def _samples(parts: Snapshot) -> int:
    last = parts.table("index")["sample"].max()
    return int(last) + 1 if isinstance(last, int) else 0


def _processings(parts: Snapshot) -> list[str]:
    """Return the processings in the order of the state, if that fits, else as the index has them."""
    named: list[str] = parts.table("index")["processing"].unique(maintain_order=True).to_list()
    state = parts.documents.get("state")
    given = state.get("processings") if isinstance(state, dict) else None
    if isinstance(given, list) and len(given) == len(named) and all(given.count(name) == 1 for name in named):
        return given
    return named


def _wrong_sources(parts: Snapshot) -> list[str]:
    found = []
    names = [source.name for source in parts.sources]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        found.append(f"{names.count(name)} sources have the name {name!r}.")
    rows = {len(source.planes[0]) for source in parts.sources if source.planes}
    if len(rows) > 1:
        found.append(f"the sources have different numbers of rows: {sorted(rows)}.")
    for source in parts.sources:
        planes = len(source.planes)
        if not planes or planes != len(source.processings):
            found.append(f"source {source.name!r} has {planes} planes for processings {list(source.processings)}.")
            continue
        width = source.planes[0].shape[1]
        if len(source.wavelength) != width:
            found.append(f"source {source.name!r} has {len(source.wavelength)} wavelengths, its spectra {width}.")
        if source.segments is not None and len(source.segments) != width:
            found.append(f"source {source.name!r} has {len(source.segments)} segments, its spectra {width}.")
    return found


def _wrong_holes_table(holes: pl.DataFrame) -> list[str]:
    if dict(holes.schema) != HOLES_SCHEMA:
        return [f"the columns of the table of holes are {holes.schema}, not {HOLES_SCHEMA}."]
    return ["the table of holes has nulls."] if holes.null_count().sum_horizontal()[0] else []


def _wrong_origins(index: Index) -> Iterator[str]:
    """Yield which samples have an origin that cannot be theirs, and which share a row with strangers."""
    origins, count = index.origins, len(index)
    ids = np.arange(count, dtype=np.uint32)
    lost = circling(origins)
    for sample in _few(np.flatnonzero(origins >= count)):
        yield f"sample {sample} has origin {origins[sample]}; there are {count}."
    for sample in _few(lost[(origins[lost] < count) & (origins[lost] <= lost)]):
        yield f"the origins of sample {sample} lead to no original: they go in a circle, or to none that exists."
    for sample in _few(np.flatnonzero((origins > ids) & (origins < count))):
        circle = ", and their origins go in a circle" if sample in lost else ""
        yield f"sample {sample} has origin {origins[sample]}, which is later than itself{circle}."
    if len(lost):
        return
    root = origins.astype(np.intp)
    while not np.array_equal(root, root[root]):
        root = root[root]
    shared = pl.DataFrame({"row": index.rows, "sample": ids, "root": root})
    for row, both in (
        (shared.group_by("row").agg(pl.col("root").n_unique(), pl.col("sample")).filter(pl.col("root") > 1).sort("row"))
        .select("row", "sample")
        .head(20)
        .iter_rows()
    ):
        yield (
            f"samples {both[0]} and {next(s for s in both if root[s] != root[both[0]])} are both on row {row}, and "
            "neither is of the other's origin."
        )


def _wrong_lines(parts: Snapshot, index: Index, holes: pl.DataFrame | None) -> Iterator[str]:
    """Yield which lines of the index the sources have no spectra for, and the other way round."""
    for source in parts.sources:
        rows = len(source.planes[0]) if source.planes else 0
        if len(index) and int(index.rows.max()) >= rows:
            yield f"the index refers to row {int(index.rows.max())}, source {source.name!r} has {rows}."
        for name, lines in index.lines.items():
            if name in source.processings:
                continue
            missing = lines.samples
            if holes is not None:
                known = holes.filter(pl.col("processing") == name, pl.col("source") == source.name)
                missing = np.setdiff1d(missing, known["sample"].to_numpy())
            if len(missing):
                yield (
                    f"the index has samples in processing {name!r}, such as {missing[0]}, source {source.name!r} does "
                    "not have it."
                )
        for name in source.processings:
            if len(index) and name not in index.lines:
                yield f"source {source.name!r} has processing {name!r}, the index does not."


def _wrong_holes(parts: Snapshot, index: Index) -> Iterator[str]:
    """Yield which holes are where there is no line, and which lines are nothing but holes."""
    names = list(dict.fromkeys(source.name for source in parts.sources))
    holes = parts.table("holes")
    for (processing, source), lines in holes.group_by(["processing", "source"], maintain_order=True):
        where = f"holes name processing {processing!r} of source {source!r}"
        if processing not in index.lines or source not in names:
            yield f"{where}, which is not there."
            continue
        samples = lines["sample"].to_numpy()
        for sample in _few(samples[samples >= len(index)]):
            yield f"holes name sample {sample}; there are {len(index)}."
        known = samples[samples < len(index)]
        for sample in _few(known[~index.has(known, str(processing))]):
            yield f"{where} for sample {sample}, which has no such line."
        if len(np.unique(samples)) < len(samples):
            yield f"{where} for a sample twice."
    everywhere = (
        holes.filter(pl.col("source").is_in(names), pl.col("sample") < len(index))
        .group_by("sample", "processing")
        .agg(pl.col("source").n_unique())
        .filter(pl.col("source") == len(names))
        .sort("processing", "sample")
    )
    for sample, processing, _ in everywhere.head(20).iter_rows():
        if processing in index.lines:
            yield f"sample {sample} has a line in processing {processing!r}, and a hole there in every source."


def _wrong_forms(folds: Any, samples: int) -> tuple[list[str], list[tuple[int, Array, Array]]]:
    """Return what is wrong with folds by themselves, and those with which nothing is: number, train, val."""
    if not isinstance(folds, list):
        return [f"the folds are {short(folds)}, not a list."], []
    found, right = [], []
    for k, fold in enumerate(folds):
        if not isinstance(fold, dict) or set(fold) != {"train", "val"}:
            found.append(f"fold {k} is {short(fold)}, not of the form {{'train': [...], 'val': [...]}}.")
            continue
        bad = [f"fold {k}: {side} is {short(ids)}, not a list." for side, ids in fold.items() if type(ids) is not list]
        if not bad:
            bad = [
                f"fold {k} names sample {short(one)}; there are {samples}."
                for ids in fold.values()
                for one in ([] if _are_samples(ids, samples) else ids)
                if not whole(one) or one >= samples
            ][:20]
        if bad:
            found += bad
            continue
        right.append((k, np.array(fold["train"], np.intp), np.array(fold["val"], np.intp)))
    return found, right


def _are_samples(ids: list[Any], samples: int) -> bool:
    """Tell quickly, of many, whether all are samples."""
    return not ids or (set(map(type, ids)) == {int} and min(ids) >= 0 and max(ids) < samples)


def _wrong_folds(folds: Any, samples: int, origins: Array | None) -> list[str]:
    """Return what is wrong with folds; without origins, leaks are not looked for."""
    found, right = _wrong_forms(folds, samples)
    for k, train, val in right:
        for side, ids in (("train", train), ("val", val)):
            if not len(ids):
                found.append(f"fold {k}: {side} is empty.")
            once, count = np.unique(ids, return_counts=True)
            found += [f"fold {k} names sample {one} twice in {side}." for one in _few(once[count > 1])]
        found += [f"fold {k}: sample {one} trains and validates." for one in _few(np.intersect1d(train, val))]
        if origins is None:
            continue
        found += [f"fold {k}: sample {one} is augmented and validates." for one in _few(val[origins[val] != val])]
        derived = np.setdiff1d(train[derived_from(origins, val)[train]], val)
        found += [f"fold {k}: sample {one} trains while one it was derived from validates." for one in _few(derived)]
    return found


def _few(samples: Array) -> list[int]:
    """Return the first of many: a list of all would hide the rest."""
    few: list[int] = samples[:20].tolist()
    return few
