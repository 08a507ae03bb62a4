"""Replicates brought together: one sample per specimen, with mean, median or standard deviation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from spectroxr.blockwise import pieces, rows_of
from spectroxr.errors import nearest
from spectroxr.grouping import check_complete, groups_of
from spectroxr.log import enabled, log, quiet
from spectroxr.schema import HOLES_SCHEMA, INDEX_SCHEMA, Array, Filter
from spectroxr.selection import Selection
from spectroxr.snapshot import Snapshot, SourceSnapshot

if TYPE_CHECKING:
    from spectroxr.dataset import SpectroDataset

__all__ = ["average"]

_OF_SPECTRA: dict[str, Callable[[Array], Array]] = {
    "mean": lambda x: np.mean(x, axis=1),
    "median": lambda x: np.median(x, axis=1),
    "std": lambda x: np.std(x, axis=1, ddof=1),
}
_OF_TARGETS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "mean": pl.Expr.mean,
    "median": pl.Expr.median,
    "std": lambda value: value.std(ddof=1),
}
COUNT = "replicates"


def average(ds: SpectroDataset, by: str = "sample_id", how: str = "mean", *, filter: Filter = None) -> SpectroDataset:
    """Return a new dataset with one sample per group of replicates; this one stays as it is.

    Parameters
    ----------
    by : str, default "sample_id"
        A column of the index, the metadata or the targets: originals with the same value are one group. Groups are in
        the order of their first samples.
    how : {"mean", "median", "std"}
        ``std`` gives the standard deviations among the replicates (n - 1 in the denominator) as a dataset of its own,
        with the same sources, axes and columns: what is plotted, saved and filtered as the means are, and is never
        taken for spectra by a model of them. Groups in which nothing was measured twice are left out of it.
    filter : None, dict or polars.Expr
        Which samples, sources, processings and wavelengths (default: all). Augmented samples are left out.

    Returns
    -------
    SpectroDataset
        In memory, spectra in the dtype of their source (computed in float64). Metadata: those of the samples where all
        of a group agree (nulls aside), else null; and ``replicates``, the number of samples in the group. Folds and
        predictions are of other samples and are left behind.

    Raises
    ------
    UnknownNameError
        If a column or what the filter names does not exist.
    ValueError
        If nothing matches, a sample has no value of `by`, the samples of a group are in several partitions or have
        different values of a target that is no number, there is a column ``replicates`` already, or with ``std``
        nothing was measured twice.

    Notes
    -----
    A source or processing that some replicates lack (a hole) is averaged over those that have it, and is a hole where
    none has it. NaN and infinities count as in numpy.

    Of the targets, numbers are averaged as the spectra are, those missing left out; whole numbers that agree within
    every group stay whole. Other versions than ``"raw"`` come along where they agree within every group, as codes of
    classes do; write the others anew from the averages. ``group`` is null and ``branch`` 0 where replicates differ.

    Examples
    --------
    >>> import numpy as np, polars as pl
    >>> from spectroxr import SpectroDataset
    >>> ds = SpectroDataset()
    >>> ds.add_features([np.array([[1.0, 2.0], [3.0, 4.0], [7.0, 7.0]])])
    >>> ds.add_meta(pl.DataFrame({"oil": ["a", "a", "b"]}))
    >>> mean = ds.average("oil")
    >>> mean.x()[0]
    array([[2., 3.],
           [7., 7.]])
    >>> mean.meta().rows()
    [(0, 'a', 2), (1, 'b', 1)]
    >>> ds.average("oil", "std").x()[0]
    array([[1.41421356, 1.41421356]])
    """
    if how not in _OF_SPECTRA:
        raise ValueError(nearest(how, _OF_SPECTRA, "way to average"))
    for table, what in ((ds.metadata, "metadata"), (ds.targets, "targets")):
        if COUNT in table.columns:
            raise ValueError(
                f"the {what} have a column {COUNT!r} already, where the number of samples goes; rename it."
            )
    origins = ds.features.index.origins
    parts = []
    for piece in pieces(ds, filter):
        own = piece.samples[origins[piece.samples] == piece.samples]
        if len(own):
            parts.append(ds.features.resolver.select(own, piece.processings, piece.sources, piece.bands))
    if not parts:
        raise ValueError("the filter selects no original sample; augmented ones are not averaged.")
    if how == "std":
        parts, by_sample = _measured_twice(ds, parts, by)
    else:
        by_sample = _group_of(ds, _union(parts), by)
    samples = np.flatnonzero(by_sample >= 0).astype(np.uint32)
    codes = by_sample[samples]
    count = int(codes.max()) + 1
    tables = _tables(ds, samples, codes, count, how)
    new = _filled(ds, parts, samples, by_sample, count, how)
    with quiet():
        for frame in tables["targets"]:
            new.targets.add_targets(frame)
        new.metadata.add_meta(tables["metadata"][0])
    if enabled():
        log(f"average: {how} of {len(samples)} samples by {by!r}, {count} groups")
    return new


def _union(parts: list[Selection]) -> Array:
    return np.unique(np.concatenate([part.samples for part in parts]))


def _group_of(ds: SpectroDataset, samples: Array, by: str) -> Array:
    """Return for every sample of the dataset its group, in the order of first samples; -1 for none."""
    column = ds.features.column(by).gather(pl.Series(samples)).alias(by)
    check_complete(column, samples, "value in")
    _, codes = groups_of(column)
    _, first = np.unique(codes, return_index=True)
    place = np.empty(len(first), dtype=np.intp)
    place[np.argsort(first)] = np.arange(len(first))
    groups = np.full(len(ds.features.index), -1, dtype=np.intp)
    groups[samples] = place[codes]
    return groups


def _measured_twice(ds: SpectroDataset, parts: list[Selection], by: str) -> tuple[list[Selection], Array]:
    """Return what of each piece was measured more than once, and the groups of those samples."""
    groups = _group_of(ds, _union(parts), by)
    kept = []
    for part in parts:
        codes = groups[part.samples]
        twice = part.samples[np.bincount(codes)[codes] > 1]
        if len(twice):
            kept.append(ds.features.resolver.select(twice, part.processings, part.sources, part.bands))
    if not kept:
        raise ValueError(f"no value of {by!r} has two samples: there is no standard deviation.")
    some = np.isin(groups, groups[_union(kept)]) & (groups >= 0)
    return kept, _group_of(ds, np.flatnonzero(some).astype(np.uint32), by)


def _filled(
    ds: SpectroDataset, parts: list[Selection], samples: Array, groups: Array, count: int, how: str
) -> SpectroDataset:
    """Return a dataset of the averaged spectra, with their index and holes."""
    index = ds.features.index
    codes = groups[samples]
    owners = index.samples[samples].select("partition", "group").with_columns(pl.Series("code", codes))
    apart = owners.group_by("code").agg(pl.col("partition").n_unique()).filter(pl.col("partition") > 1).sort("code")
    if apart.height:
        some = samples[codes == apart["code"][0]].tolist()
        raise ValueError(
            f"samples {some[:6]} are of one group, but in several partitions; assign_partition(groups=...) keeps them "
            "together, a filter on the partition averages within one."
        )
    labels = (
        owners.group_by("code")
        .agg(
            pl.col("partition").first(),
            pl.when(pl.col("group").n_unique() == 1).then(pl.col("group").first()).alias("group"),
        )
        .sort("code")
    )
    ids = np.arange(count, dtype=np.uint32)
    base = pl.DataFrame({"row": ids, "sample": ids, "origin": ids}).with_columns(labels["partition"], labels["group"])
    has: dict[tuple[str, str], Array] = {}
    sources = []
    for name in dict.fromkeys(part.sources[0] for part in parts):
        own = [part for part in parts if part.sources[0] == name]
        source = ds.features.cells.sources[name]
        axis = source.axis.take(own[0].bands[name])
        block = np.full((count, len(own), len(axis)), np.nan, dtype=source.dtype)
        for k, part in enumerate(own):
            has[part.processings[0], name] = _average_into(ds, block[:, k], part, groups, how)
        planes = tuple(block[:, k] for k in range(len(own)))
        names = tuple(part.processings[0] for part in own)
        sources.append(SourceSnapshot(name, planes, names, axis.values, dict(axis.attrs), axis.segments))
    order = [name for name in index.processings if any(key[0] == name for key in has)]
    lines, holes = [], []
    for name in order:
        each = {source.name: has.get((name, source.name), np.zeros(count, dtype=bool)) for source in sources}
        exists = np.logical_or.reduce(list(each.values()))
        branch = _branch(ds, name, samples, groups, count)
        line = base.with_columns(pl.Series("branch", branch, dtype=pl.UInt32), processing=pl.lit(name))
        lines.append(line.filter(pl.Series(exists)).select(list(INDEX_SCHEMA)))
        for other, there in each.items():
            lack = ids[exists & ~there]
            new = pl.DataFrame({"sample": lack}).with_columns(processing=pl.lit(name), source=pl.lit(other))
            holes.append(new.select(list(HOLES_SCHEMA)))
    empty = {"targets": pl.DataFrame(), "metadata": pl.DataFrame(), "predictions": ds.predictions.table.clear()}
    state = {"processings": order, "rows": count, "targets": {}}
    documents = {"folds": [], "lineage": {}, "state": state}
    from spectroxr.io import fill

    made = type(ds)()
    fill(made, Snapshot(tuple(sources), pl.concat(lines), pl.concat(holes), empty, documents))
    return made


def _average_into(ds: SpectroDataset, out: Array, part: Selection, groups: Array, how: str) -> Array:
    """Write the averages of one processing of one source; return which groups have one."""
    there = np.zeros(len(out), dtype=bool)
    step = rows_of(ds, part)
    for members, codes in _batches(part.samples, groups[part.samples], step):
        ids = np.sort(members.ravel())
        some = ds.features.resolver.select(ids, part.processings, part.sources, part.bands)
        x = np.asarray(ds.features.read(some)[0])[np.searchsorted(ids, members)].astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            out[codes] = _OF_SPECTRA[how](x)
        there[codes] = True
    return there


def _batches(samples: Array, codes: Array, step: int) -> Iterator[tuple[Array, Array]]:
    """Yield the samples of groups of one size, ``(group, replicate)``, and the groups; about `step` samples a time."""
    order = np.argsort(codes, kind="stable")
    present, start, sizes = np.unique(codes[order], return_index=True, return_counts=True)
    for size in np.unique(sizes):
        some = np.flatnonzero(sizes == size)
        each = max(1, step // int(size))
        for k in range(0, len(some), each):
            batch = some[k : k + each]
            yield samples[order[start[batch][:, None] + np.arange(size)]], present[batch]


def _branch(ds: SpectroDataset, processing: str, samples: Array, groups: Array, count: int) -> Array:
    """Return the branch of each group in a processing: that of its samples, or 0 where they differ."""
    lines = ds.features.index.lines[processing]
    own = np.isin(lines.samples, samples)
    codes, branch = groups[lines.samples[own]], lines.branch[own]
    lowest = np.full(count, np.iinfo(np.uint32).max, dtype=np.uint32)
    highest = np.zeros(count, dtype=np.uint32)
    np.minimum.at(lowest, codes, branch)
    np.maximum.at(highest, codes, branch)
    return np.where(lowest == highest, highest, 0).astype(np.uint32)


def _tables(ds: SpectroDataset, samples: Array, codes: Array, count: int, how: str) -> dict[str, list[pl.DataFrame]]:
    """Return the targets, a table per version, and the metadata of the groups."""
    ids = pl.Series("sample", np.arange(count), dtype=pl.UInt32)
    gather = pl.Series(samples)
    versions = []
    held, _ = ds.targets.state()
    for version, frame in held.items():
        columns = []
        for name in frame.columns[1:]:
            values = ds.targets.column(name, version).gather(gather).alias(name)
            agreed, differing = _agreed(values, codes, count)
            number = values.dtype.is_numeric()
            if version != next(iter(held)):
                if differing.any() or (number and how == "std"):
                    continue
            elif number and (how == "std" or differing.any() or values.dtype.is_float()):
                agreed = _number(values, codes, how)
            elif differing.any():
                wrong = int(np.flatnonzero(differing)[0])
                some = samples[codes == wrong].tolist()
                raise ValueError(
                    f"samples {some[:6]} are of one group, but differ in target {name!r}, which is {values.dtype}: "
                    f"{values.filter(pl.Series(codes == wrong)).unique(maintain_order=True).to_list()[:6]}."
                )
            columns.append(agreed)
        if columns:
            versions.append(pl.DataFrame([ids, *columns]).with_columns(processing=pl.lit(version)))
    kept = [
        _agreed(ds.metadata.column(name).gather(gather).alias(name), codes, count)[0] for name in ds.metadata.columns
    ]
    sizes = pl.Series(COUNT, np.bincount(codes, minlength=count), dtype=pl.UInt32)
    return {"targets": versions, "metadata": [pl.DataFrame([ids, *kept, sizes])]}


def _agreed(values: pl.Series, codes: Array, count: int) -> tuple[pl.Series, Array]:
    """Return the value that the lines of each group agree on, nulls aside, else null; and which groups differ."""
    known = np.flatnonzero(values.is_not_null().to_numpy())
    present, first = np.unique(codes[known], return_index=True)
    where = np.full(count, -1, dtype=np.int64)
    where[present] = known[first]
    own, shared = values.gather(pl.Series(known)), values.gather(pl.Series(where[codes[known]]))
    if values.dtype.is_nested() or values.dtype == pl.Null:
        unlike = np.array([a != b for a, b in zip(own.to_list(), shared.to_list(), strict=True)], dtype=bool)
    else:
        unlike = (own != shared).to_numpy()
    differing = np.zeros(count, dtype=bool)
    differing[codes[known][unlike]] = True
    where[differing] = -1
    positions = pl.Series(where)
    picked = values.gather(pl.select(pl.when(positions < 0).then(None).otherwise(positions)).to_series())
    return picked.alias(values.name), differing


def _number(values: pl.Series, codes: Array, how: str) -> pl.Series:
    """Return the average of each group, NaN and nulls left out: float64, or of the dtype of floats."""
    kind = values.dtype if values.dtype.is_float() else pl.Float64
    table = pl.DataFrame({"code": codes, "value": values.cast(pl.Float64).fill_nan(None)})
    column = table.group_by("code").agg(_OF_TARGETS[how](pl.col("value"))).sort("code")["value"]
    return column.cast(kind).alias(values.name)
