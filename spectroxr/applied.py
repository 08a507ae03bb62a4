"""Spectra that steps are applied to, what they make of them, and writing it: all of it or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spectroxr.axis import Axis
from spectroxr.casting import fitting
from spectroxr.cells import Cells
from spectroxr.lineage import Fit
from spectroxr.schema import Array, Filter
from spectroxr.steps import NotFiniteError, run_steps

if TYPE_CHECKING:
    from spectroxr.dataset import SpectroDataset

__all__ = ["Result", "Spectra", "changes", "read", "samples_of", "spectra_of", "transformed", "write"]


@dataclass(frozen=True)
class Spectra:
    """The spectra of one source in one processing, each physical row once.

    Attributes
    ----------
    source : str
    axis : Axis
    samples : ndarray of uint32, ascending
        All that the spectra are of.
    rows : ndarray of intp
        The distinct rows they sit on.
    values : ndarray, shape (row, wavelength)
    first : ndarray of uint32
        For each row, the first of its samples.
    """

    source: str
    axis: Axis
    samples: Array
    rows: Array
    values: Array
    first: Array


@dataclass(frozen=True)
class Result:
    """What is to be written of one source."""

    spectra: Spectra
    fit: Fit
    values: Array
    axis: Axis


def samples_of(ds: SpectroDataset, source: str, parent: str, filter: Filter) -> Array:
    """Return the samples of a filter that have a processing in a source, ascending."""
    cells, resolver = ds.features.cells, ds.features.resolver
    samples = cells.index.lines[parent].samples
    samples = samples[~cells.index.lacks(samples, parent, source)]
    if filter is not None:
        samples = samples[np.isin(samples, resolver.samples(filter))]
    if not len(samples):
        raise ValueError(f"no sample of {filter!s} has {parent!r} in source {source!r}.")
    return samples


def read(ds: SpectroDataset, source: str, processing: str, samples: Array) -> Array:
    """Return the spectra of known samples in one processing of a source: a view where the dataset has one."""
    whole = slice(0, len(ds.features.cells.sources[source].axis), 1)
    chosen = ds.features.resolver.select(samples, (processing,), (source,), {source: whole})
    return np.asarray(ds.features.read(chosen, "2d")[0])


def spectra_of(ds: SpectroDataset, source: str, parent: str, filter: Filter) -> Spectra:
    """Return the spectra of a source, each physical row once: a view where the dataset has one."""
    cells = ds.features.cells
    samples = samples_of(ds, source, parent, filter)
    rows, first = np.unique(cells.index.rows[samples], return_index=True)
    once = samples if len(rows) == len(samples) else np.sort(samples[first])
    values = read(ds, source, parent, once)
    return Spectra(source, cells.sources[source].axis, samples, cells.index.rows[once], values, once)


def transformed(fitted: Sequence[Any], spectra: Spectra, wavelength: Any = None) -> tuple[Array, Axis]:
    """Return what fitted steps make of spectra, and its axis: the same object if it is the same axis.

    Raises
    ------
    ValueError
        If a step changes the number of rows, makes NaN, or an axis that nobody knows.
    """
    try:
        outcome = run_steps(fitted, spectra.values, spectra.axis)
    except NotFiniteError as error:
        ids = spectra.first[error.lines]
        some = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
        raise ValueError(f"{error} In source {spectra.source!r} these are sample {some}.") from error
    width = outcome.values.shape[1]
    if not width:
        raise ValueError(f"the steps leave no wavelength of source {spectra.source!r}.")
    axis = outcome.axis
    if wavelength is not None:
        axis = Axis.build(wavelength, width, spectra.axis.attrs)
        if axis.same_as(spectra.axis.values):
            axis = spectra.axis
    if axis is None:
        raise ValueError(
            f"the steps made {width} columns of the {len(spectra.axis)} wavelengths of source {spectra.source!r} and "
            "do not say which; give wavelength=[...]."
        )
    what = f"what the steps made of source {spectra.source!r}"
    return fitting(outcome.values, outcome.values.shape, spectra.values.dtype, what), axis


def write(ds: SpectroDataset, name: str, results: Sequence[Result]) -> None:
    """Write a processing of several sources: all of them, or nothing if one does not fit."""
    from spectroxr.source import FeatureSource
    from spectroxr.transaction import all_or_nothing

    cells = ds.features.cells
    for one in results:
        place = cells.sources.get(one.fit.to)
        if one.fit.to != one.fit.source and place is not None and not place.axis.same_as(one.axis.values):
            raise ValueError(
                f"there is a source {one.fit.to!r} already, with another axis; give another new_source=..."
            )
    targets = [one.fit.to for one in results]
    if len(set(targets)) < len(targets):
        raise ValueError(f"new_source gives several sources one name: {targets}; give {{source: new name}}.")
    with all_or_nothing(ds):
        for one in results:
            known = list(cells.sources)
            if one.fit.to not in cells.sources:
                dtype = cells.sources[one.fit.source].dtype
                holes = {(p, one.fit.to): lines.samples for p, lines in cells.index.lines.items()}
                cells.sources = {**cells.sources, one.fit.to: FeatureSource(one.fit.to, one.axis, dtype, ds.features)}
                cells.index.set_holes({**cells.index.holes, **holes})
            values = one.values.astype(cells.sources[one.fit.to].dtype, copy=False)
            absent = [other for other in known if other != one.fit.to]
            _put(cells, one.spectra, name, one.fit.to, values, absent)
        cells.epoch += 1


def changes(ds: SpectroDataset, name: str, result: Result, learns: bool) -> bool:
    """Tell whether spectra that are there are changed by applying the same again.

    Raises
    ------
    ValueError
        If the steps would be fitted to something else than for samples that keep their spectra.
    """
    index, to = ds.features.cells.index, result.fit.to
    if to not in ds.features.cells.sources or result.spectra.source not in ds.lineage[name].fits:
        return False
    held = index.lines[name].samples
    held = held[~index.lacks(held, name, to)]
    if learns and len(np.setdiff1d(held, result.spectra.samples)):
        try:
            before, _ = transformed(ds.lineage.fitted(name, result.spectra.source), result.spectra, result.axis.values)
            same = np.array_equal(before, result.values, equal_nan=True)
        except (ValueError, ImportError):
            same = False
        if not same:
            raise ValueError(
                f"processing {name!r} was fitted on other spectra before, and some samples would keep those of then; "
                f"apply it to all, or give these samples what was fitted: replay({name!r}, filter=...)."
            )
    line = np.flatnonzero(np.isin(result.spectra.first, held))
    if not len(line):
        return False
    old = read(ds, to, name, result.spectra.first[line])
    return not np.array_equal(old, result.values[line], equal_nan=True)


def _put(cells: Cells, spectra: Spectra, name: str, to: str, values: Array, absent: list[str]) -> None:
    """Write spectra for all samples that share their rows; where a row shows others too, for each sample alone."""
    index, samples = cells.index, spectra.samples
    others = np.setdiff1d(index.lines[name].samples, samples) if name in index.lines else samples[:0]
    taken = np.isin(spectra.rows, index.rows[others])
    rows = index.rows[samples]
    free = ~np.isin(rows, spectra.rows[taken])
    if free.any():
        cells.write_rows(spectra.rows[~taken], samples[free], name, {to: values[~taken]}, absent)
    if not free.all():
        line = np.argsort(spectra.rows)[np.searchsorted(np.sort(spectra.rows), rows[~free])]
        cells.write(samples[~free], name, {to: values[line]}, absent)
