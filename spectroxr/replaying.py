"""Replaying: what was done to the spectra of one dataset, done to those of another with the fitted steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from spectroxr.applied import Result, spectra_of, transformed, write
from spectroxr.axis import Axis
from spectroxr.errors import UnknownNameError, nearest
from spectroxr.lineage import Made
from spectroxr.log import enabled, log
from spectroxr.schema import Filter
from spectroxr.transaction import all_or_nothing

if TYPE_CHECKING:
    from spectroxr.dataset import SpectroDataset

__all__ = ["replay"]


def replay(
    ds: SpectroDataset,
    processing: str,
    *,
    onto: SpectroDataset | None = None,
    source: str | Sequence[str] | None = None,
    filter: Filter = None,
    trusted: Sequence[str] = (),
    pickles: bool = False,
) -> str:
    """Apply a processing that `apply` recorded, with all it was made from, as it was fitted, to new spectra.

    Parameters
    ----------
    processing : str
    onto : SpectroDataset, optional
        The dataset with the new spectra, in sources of the same names and axes, and in the processing that the
        first step started from (default: this one, whose samples that were added since get the processing too).
    source : str or sequence of str, optional
        Which sources (default: all it was made of).
    filter : None, dict or polars.Expr
        Only transform these samples.
    trusted : sequence of str
        Packages, or full names of classes, of which a store may make estimators, besides scikit-learn, chemotools
        and scipy.
    pickles : bool, default False
        Read steps that were kept as pickles, which run whatever code is in them.

    Returns
    -------
    str
        The name of the processing, the same in the other dataset.

    Raises
    ------
    UnknownNameError
        If the processing was not made by `apply`, or a source or the parent does not exist there.
    ValueError
        If a source has another axis than the steps were fitted on.
    StoreError
        If a step was not kept, is damaged or not trusted. The other dataset is then as it was.

    Notes
    -----
    Deterministic steps give the same bits as in the dataset they were fitted in, with the same versions of the
    libraries on the same machine.
    """
    other = ds if onto is None else onto
    links = ds.lineage.chain(processing)
    if not links:
        ds.lineage[processing]  # says what is wrong
    wanted = _wanted(links, source)
    for link in links:
        _check_same(other, link)
    # what a link has just made is read from the dataset by the next one
    with all_or_nothing(other):
        for link in links:
            results = [_result(ds, other, link, name, filter, trusted, pickles) for name in link.fits if name in wanted]
            write(other, link.processing, results)
            other.lineage.note(replace(link, fits={one.fit.source: one.fit for one in results}))
    if enabled():
        log(f"replay: {processing!r}")
    return processing


def _result(
    ds: SpectroDataset,
    other: SpectroDataset,
    link: Made,
    name: str,
    filter: Filter,
    trusted: Sequence[str],
    pickles: bool,
) -> Result:
    """Return what the steps that were fitted on a source of one dataset make of that source of another."""
    fit = link.fits[name]
    mine, theirs = ds.features.cells.sources, other.features.cells.sources
    for one in {name, fit.to}:
        if one not in mine:
            raise ValueError(
                f"the dataset that {link.processing!r} was made in has no source {one!r} any more, so its axis is not "
                "known; replay from a version before it was merged or split."
            )
    if name not in theirs:
        raise UnknownNameError(nearest(name, theirs, f"source, and {link.processing!r} was fitted on {name!r}"))
    _check_axis(mine[name].axis, theirs[name].axis, name, link.processing)
    if link.parent not in other.features.cells.index.lines:
        known = other.features.cells.index.lines
        raise UnknownNameError(nearest(link.parent, known, f"processing, and {link.processing!r} is made of it"))
    fitted = ds.lineage.fitted(link.processing, name, trusted=trusted, pickles=pickles)
    spectra = spectra_of(other, name, link.parent, filter)
    values, axis = transformed(fitted, spectra, None if fit.to == name else mine[fit.to].axis.values)
    if fit.to != name:
        axis = mine[fit.to].axis
    return Result(spectra, replace(fit, live=tuple(fitted)), values, axis)


def _wanted(links: Sequence[Made], source: str | Sequence[str] | None) -> set[str]:
    """Return the sources to take, and those made of them on the way."""
    every = [name for link in links for name in link.fits]
    if source is None:
        return set(every)
    names = [source] if isinstance(source, str) else list(source)
    for name in names:
        if name not in every:
            raise UnknownNameError(nearest(name, dict.fromkeys(every), "source of the recorded processing"))
    wanted = set(names)
    for link in links:
        wanted |= {fit.to for name, fit in link.fits.items() if name in wanted}
    return wanted


def _check_axis(mine: Axis, theirs: Axis, source: str, processing: str) -> None:
    if mine.same_as(theirs.values):
        units = (mine.attrs.get("units"), theirs.attrs.get("units"))
        if None in units or units[0] == units[1]:
            return
        raise ValueError(
            f"source {source!r}: {processing!r} was fitted on an axis in {units[0]}, these spectra are in {units[1]}."
        )
    if len(mine) != len(theirs):
        what = f"{len(theirs)} wavelengths instead of {len(mine)}"
    else:
        k = int(np.argmax(np.abs(mine.values - theirs.values) > mine.tolerance))
        what = f"{theirs.values[k]} instead of {mine.values[k]} at position {k}"
    raise ValueError(
        f"source {source!r} has another axis than the one {processing!r} was fitted on: {what}. Interpolate the "
        "spectra onto that axis, or apply the steps anew."
    )


def _check_same(other: SpectroDataset, link: Made) -> None:
    """Raise if the other dataset has something else by this name."""
    name = link.processing
    if name not in other.features.cells.index.lines:
        return
    there = other.lineage.state().get(name)
    if (
        there is None
        or (there.recipe, there.parent, there.target) != (link.recipe, link.parent, link.target)
        or any(there.fits[one].kept != fit.kept for one, fit in link.fits.items() if one in there.fits)
    ):
        raise ValueError(
            f"the dataset has a processing {name!r} already, which was made otherwise; rename one of them."
        )
