"""Adding spectra: new sources, more rows, new variants, augmented samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from spectroxr.casting import as_declared
from spectroxr.cells import Cells, check_name, sample_ids
from spectroxr.errors import UnknownNameError, nearest
from spectroxr.index import LARGEST
from spectroxr.intake import Incoming, axis_of, check_samples_named, check_spectra, per_source, take_in, unlabelled
from spectroxr.lazyplane import is_dask
from spectroxr.schema import FLOATS, Array
from spectroxr.source import Block, FeatureSource, allocate

__all__ = ["add_rows", "add_source", "augment", "update"]


def add_rows(
    cells: Cells,
    owner: Any,
    spectra: Any,
    *,
    names: Sequence[str] | None,
    processing: str | Sequence[str] | None,
    wavelength: Any,
    attrs: Mapping[str, Any],
    labels: Mapping[str, Any],
    copy: bool,
) -> int:
    """Add sources (first call) or more rows of the same sources; see `FeatureBlock.add_features`.

    Returns
    -------
    int
        Number of samples added.
    """
    given = take_in(spectra)
    given = _named(given, names, list(cells.sources))
    known = [item.name in cells.sources for item in given]
    if cells.sources and not any(known):
        called = [str(item.name) for item in given]
        axes = per_source(wavelength, called, "wavelength")
        extras = _split_attrs(attrs, called)
        for item in given:
            _check_alone(item, len(cells.index))
        given_labels = [key for key, value in labels.items() if value is not None]
        if given_labels:
            raise ValueError(f"{given_labels[0]} labels new samples; new sources are of samples that have theirs.")
        before = cells.state()
        try:
            for item, values, extra in zip(given, axes, extras, strict=True):
                add_source(cells, owner, item, None, processing, values, extra)
        except BaseException:
            cells.back(before)
            raise
        return 0
    if cells.sources and {item.name for item in given} != set(cells.sources):
        raise ValueError(
            f"more rows come with all sources, {list(cells.sources)}, not with {[i.name for i in given]}; "
            "give None for one that was not measured."
        )
    order = list(cells.sources) or [str(item.name) for item in given]
    given = sorted(given, key=lambda item: order.index(str(item.name)))
    measured = [item for item in given if item.data is not None]
    if not measured or (not cells.sources and len(measured) < len(given)):
        raise ValueError("at the first call every source needs spectra, later at least one.")
    lengths = {str(i.name): i.data.shape[0] for i in measured if i.data is not None}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the sources have different numbers of rows: {lengths}.")
    count: int = next(iter(lengths.values()))
    if count == 0:
        raise ValueError("the spectra have no rows.")
    axes = per_source(wavelength, order, "wavelength")
    extras = _split_attrs(attrs, order)
    plans = []
    for item, values, extra in zip(given, axes, extras, strict=True):
        if item.data is None:
            continue
        previous = cells.sources.get(str(item.name))
        axis = axis_of(item, values, extra, previous.axis if previous else None)
        data = item.data
        if previous is not None and not np.can_cast(data.dtype, previous.dtype, "safe"):
            raise TypeError(
                f"source {item.name!r} is {previous.dtype}, the new rows are {data.dtype}; cast them with "
                f".astype('{previous.dtype}')."
            )
        plans.append((item, axis, _processings(item, processing, previous, cells)))
    marks = _labels(labels, measured, count)
    present = {str(item.name): set(names_) for item, _, names_ in plans}
    added = list(dict.fromkeys(name for _, _, names_ in plans for name in names_))
    ids = cells.index.next_ids(count)
    holes = {(p, s): ids for p in added for s in order if p not in present.get(s, set())}
    start, total = cells.rows, cells.rows + count
    if total > LARGEST:
        raise OverflowError(f"{total} rows exceed what uint32 can number.")
    fresh: dict[str, FeatureSource] = {}
    for item, axis, names_ in plans:
        assert item.data is not None
        name = str(item.name)
        source = cells.sources.get(name)
        if source is None:
            source = fresh[name] = FeatureSource(name, axis, item.data.dtype, owner)
            others = [block.memory for one in fresh.values() for block in one.blocks if block.memory is not None]
            buffer = _private(item.data) if copy or _overlaps(item.data, others) else item.data
            source.adopt([Block(buffer, list(names_))])
        else:
            for p in names_:
                source.reserve(p, total, start)
    rows = np.arange(start, total)
    for item, _, names_ in plans:
        if str(item.name) in fresh:
            continue
        assert item.data is not None
        for k, p in enumerate(names_):
            cells.sources[str(item.name)].put(p, rows, item.data[:, k, :])
    if fresh:
        cells.sources = {**cells.sources, **fresh}
        cells.epoch += 1
    branch = marks["branch"].to_numpy()
    cells.index.append(
        rows.astype(np.uint32),
        ids,
        marks["partition"],
        marks["group"],
        dict.fromkeys(added, (ids, branch)),
        holes,
    )
    cells.rows = total
    return count


def _private(data: Array) -> Array:
    rows, processings, width = data.shape
    buffer = allocate(rows, processings, width, data.dtype)
    buffer[...] = data
    return buffer


def _overlaps(data: Array, others: Sequence[Array]) -> bool:
    """Tell whether two cells of `data`, or one of it and one of the others, are the same memory."""
    reach = 0
    for step, size in sorted(
        (abs(step), size) for step, size in zip(data.strides, data.shape, strict=True) if size > 1
    ):
        if step <= reach:
            return True
        reach += step * (size - 1)
    return any(np.shares_memory(data, other) for other in others)


def _named(given: list[Incoming], names: Sequence[str] | None, known: list[str]) -> list[Incoming]:
    if names is not None:
        names = [names] if isinstance(names, str) else list(names)
        if len(names) != len(given):
            raise ValueError(f"{len(names)} names for {len(given)} sources.")
    elif all(item.name is None for item in given):
        if known and len(given) != len(known):
            raise ValueError(
                f"the dataset has {len(known)} sources, {known}; {len(given)} were given. Name them to add new "
                "sources: add_features({'name': spectra})."
            )
        names = known or [f"source{k}" for k in range(len(given))]
    else:
        names = [item.name or f"source{k}" for k, item in enumerate(given)]
    for name in names:
        check_name(name, "source")
    if len(set(names)) != len(names):
        raise ValueError(f"two sources have the same name: {list(names)}.")
    return [replace(i, name=name) for name, i in zip(names, given, strict=True)]


def _split_attrs(attrs: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    columns = {key: per_source(value, names, key) for key, value in attrs.items() if value is not None}
    return [{key: column[k] for key, column in columns.items()} for k in range(len(names))]


def _processings(
    item: Incoming, processing: str | Sequence[str] | None, previous: FeatureSource | None, cells: Cells
) -> tuple[str, ...]:
    assert item.data is not None
    count = item.data.shape[1]
    if processing is not None:
        names = (processing,) if isinstance(processing, str) else tuple(processing)
    elif item.processings is not None:
        names = item.processings
    elif count == 1:
        names = ("raw",)
    elif previous is not None and count == len(cells.index.processings):
        names = cells.index.processings
    else:
        names = ("raw", *(f"variant{k}" for k in range(1, count)))
    if len(names) != count:
        raise ValueError(f"{len(names)} processings named for {count} in the spectra of {item.name!r}.")
    for name in names:
        check_name(name, "processing")
    if len(set(names)) != len(names):
        raise ValueError(f"two processings have the same name: {list(names)}.")
    return names


def _labels(labels: Mapping[str, Any], measured: list[Incoming], count: int) -> dict[str, pl.Series]:
    defaults = {"partition": "train", "group": 0, "branch": 0}
    columns = {}
    for key in ("sample", *defaults):
        said = [i.labels[key] for i in measured if i.labels and key in i.labels]
        if labels.get(key) is None and any(not _same(one, said[0]) for one in said[1:]):
            raise ValueError(
                f"the sources contradict each other in the coordinate {key!r} of their rows; align them first."
            )
    for key, default in defaults.items():
        value = labels.get(key)
        if value is None:
            value = next((i.labels[key] for i in measured if i.labels and key in i.labels), default)
            if key == "group" and isinstance(value, np.ndarray) and value.dtype.kind == "f":
                value = pl.Series(value).fill_nan(None).cast(pl.UInt32)  # a null, as coordinates show it
        columns[key] = label_column(key, value, count)
    return columns


def _same(one: Array, other: Array) -> bool:
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f" == other.dtype.kind))


def label_column(key: str, value: Any, count: int) -> pl.Series:
    """Return one value per line of an index column, from one value or as many as lines.

    Raises
    ------
    TypeError, ValueError
        If the values do not fit the column's type, or are not as many as the lines.
    """
    kind = pl.String if key in ("partition", "processing") else pl.UInt32
    scalar = value is None or isinstance(value, str) or np.ndim(value) == 0
    if isinstance(value, np.ndarray):
        value = value.copy()  # Polars adopts the memory of numpy arrays
    items = value if isinstance(value, pl.Series) else pl.Series(key, [value] if scalar else value, strict=False)
    if kind is pl.String and items.dtype not in (pl.String, pl.Null, pl.Categorical, pl.Enum):
        raise TypeError(f"{key} is text, not {items.dtype} ({value!r}).")
    if kind is pl.UInt32 and not (items.dtype.is_integer() or items.dtype == pl.Null):
        raise TypeError(f"{key} is a whole number from 0 to {LARGEST}, not {items.dtype} ({value!r}).")
    try:
        items = items.cast(kind, strict=True)
    except pl.exceptions.PolarsError:
        raise ValueError(f"{key} is a whole number from 0 to {LARGEST}, not {value!r}.") from None
    if key == "branch" and items.null_count():
        raise ValueError("branch cannot be null.")
    if scalar:
        return pl.repeat(items[0], count, dtype=kind, eager=True).alias(key)
    if len(items) != count:
        raise ValueError(f"{len(items)} values of {key} for {count} lines.")
    return items.alias(key)


def _check_alone(item: Incoming, samples: int) -> None:
    if item.data is None:
        raise ValueError(f"the new source {item.name!r} has no spectra.")
    if item.data.shape[0] != samples:
        raise ValueError(
            f"the new source {item.name!r} has {item.data.shape[0]} rows for {samples} samples; say which samples "
            "they belong to with add_source(..., indexes=...)."
        )


def add_source(
    cells: Cells,
    owner: Any,
    item: Incoming,
    indexes: Any,
    processing: str | Sequence[str] | None,
    wavelength: Any,
    attrs: Mapping[str, Any],
) -> Array:
    """Add a source for samples that exist; the others get holes. See `FeatureBlock.add_source`."""
    name = check_name(item.name, "source")
    if name in cells.sources:
        raise ValueError(f"there is a source {name!r} already; give another name, or update_x its spectra.")
    index = cells.index
    ids = np.arange(len(index), dtype=np.uint32) if indexes is None else sample_ids(indexes, len(index))
    _check_alone(item, len(ids))
    check_samples_named(item.labels, ids, f"the spectra of source {name!r}")
    assert item.data is not None
    names = _processings(item, processing, None, cells)
    axis = axis_of(item, wavelength, attrs)
    source = FeatureSource(name, axis, item.data.dtype, owner)
    everyone = {p: lines.samples for p, lines in index.lines.items()}
    before = cells.state()
    sources = dict(cells.sources)
    try:
        cells.sources = {**sources, name: source}
        index.set_holes({**index.holes, **{(p, name): samples for p, samples in everyone.items()}})
        for k, p in enumerate(names):
            cells.write(ids, p, {name: item.data[:, k, :]}, list(sources))
    except BaseException:
        cells.back(before)
        raise
    cells.epoch += 1
    return ids


def update(cells: Cells, new_data: Any, indexes: Any, processing: str) -> tuple[int, int]:
    """Write a variant; see `FeatureBlock.update_x`.

    Returns
    -------
    tuple of int
        Samples written, and samples that got a row of their own first.
    """
    check_name(processing, "processing")
    ids = sample_ids(indexes, len(cells.index))
    if not len(ids):
        raise ValueError("indexes names no sample.")
    names = list(cells.sources)
    if isinstance(new_data, Mapping):
        for key in new_data:
            if key not in cells.sources:
                raise UnknownNameError(nearest(key, names, "source"))
        arrays = [new_data.get(name) for name in names]
    elif isinstance(new_data, np.ndarray) or hasattr(new_data, "dims") or is_dask(new_data):
        arrays = [new_data]
    else:
        arrays = list(new_data)
    if len(arrays) != len(names):
        raise ValueError(f"{len(arrays)} arrays for {len(names)} sources {names}; give None for one left as it is.")
    pairs = zip(names, arrays, strict=True)
    data = {name: _checked(array, cells.sources[name], ids, cells) for name, array in pairs if array is not None}
    if not data:
        raise ValueError("every source is None: there is nothing to write.")
    absent = [name for name in names if name not in data]
    # a source that holds the line already keeps it; a new line is missing from the sources left out
    moved = cells.write(ids, processing, data, absent)
    return len(ids), moved


def _checked(array: Any, source: FeatureSource, ids: Array, cells: Cells) -> Any:
    what = f"the new spectra of source {source.name!r}"
    lazy = array.data if hasattr(array, "dims") and is_dask(getattr(array, "data", None)) else array
    if is_dask(lazy):
        if lazy is not array:
            lazy = unlabelled(array, source.axis, ids, what)
        return _checked_dask(lazy, source, ids, what)
    if hasattr(array, "dims") and hasattr(array, "coords"):
        array = unlabelled(array, source.axis, ids, what)
    values = check_spectra(array, what)
    expected = (len(ids), len(source.axis))
    if values.shape != expected:
        raise ValueError(
            f"{what} have shape {values.shape}; {expected[0]} samples of {expected[1]} wavelengths make {expected}."
        )
    if not np.can_cast(values.dtype, source.dtype, "safe"):
        raise TypeError(
            f"{what} are {values.dtype}, the source is {source.dtype}; cast with .astype('{source.dtype}')."
        )
    if any(one.holds(values) for one in cells.sources.values()):
        return values.copy()
    return values


def _checked_dask(array: Any, source: FeatureSource, ids: Array, what: str) -> Any:
    """Return a Dask array that fits; it is not computed."""
    expected = (len(ids), len(source.axis))
    if tuple(array.shape) != expected:
        raise ValueError(
            f"{what} have shape {tuple(array.shape)}; {expected[0]} samples of {expected[1]} wavelengths make "
            f"{expected}."
        )
    if array.dtype not in FLOATS or not np.can_cast(array.dtype, source.dtype, "safe"):
        raise TypeError(f"{what} are {array.dtype}, the source is {source.dtype}; cast with .astype('{source.dtype}').")
    return as_declared(array).astype(source.dtype)


def augment(cells: Cells, samples: Array, copies: Array) -> Array:
    """Add `copies` samples by reference to each of `samples`; return the new ids.

    Parameters
    ----------
    samples : ndarray of uint32
        Parents; a parent may come twice.
    copies : ndarray of int
        At least one each.
    """
    index = cells.index
    ids = index.next_ids(sum(copies.tolist()))
    parents = np.repeat(samples, copies)
    lines = {}
    holes = {}
    for name, held in index.lines.items():
        has = index.has(parents, name)
        branch = held.branch[np.searchsorted(held.samples, parents[has])]
        lines[name] = (ids[has], branch)
        for source in cells.sources:
            lack = index.lacks(parents, name, source)
            if lack.any():
                holes[name, source] = ids[lack]
    owners = index.samples[parents]
    index.append(owners["row"].to_numpy(), parents, owners["partition"], owners["group"], lines, holes)
    return ids
