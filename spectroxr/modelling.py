"""What `cross_validate` and `fit_predict` have in common: spectra, models, and what is told of predictions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from spectroxr.errors import SpectroWarning, nearest
from spectroxr.fitting import labels_of, scales, takes_lists
from spectroxr.foldreading import FoldSpectra, plain_spectra
from spectroxr.problems import Problem
from spectroxr.runs import Run
from spectroxr.schema import Array, Filter

if TYPE_CHECKING:
    from spectroxr.dataset import SpectroDataset

__all__ = ["about_of", "behind", "check_whole", "fields_of", "output_of", "spectra_for", "tell_missing"]


def check_whole(**numbers: Any) -> None:
    """Raise if arguments are no whole numbers, or too small.

    Raises
    ------
    TypeError, ValueError
        If so; the message names the argument.
    """
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"{name} is a whole number, not {value!r}.")
        if value < (1 if name == "repeats" else 0):
            raise ValueError(f"{name}={value} is too small.")


def spectra_for(
    ds: SpectroDataset,
    estimator: Any,
    samples: Array,
    filter: Filter,
    layout: str,
    src_concat: bool | str,
    refit: bool,
) -> FoldSpectra:
    """Return the spectra that an estimator is given.

    Raises
    ------
    ValueError, NotRectangularError
        If samples lack some of them, or the estimator takes no list of sources.

    Warns
    -----
    SpectroWarning
        If the estimator undoes the scaling of blocks.
    """
    if src_concat not in (True, False, "block"):
        raise ValueError(nearest(src_concat, (True, False, "block"), "src_concat"))
    if refit:
        from spectroxr.refitting import refitted_spectra

        spectra = refitted_spectra(ds, samples, filter, layout, src_concat)
    else:
        spectra = plain_spectra(ds, samples, filter, layout, src_concat)
    if not src_concat and len(spectra.sources) > 1 and not takes_lists(estimator):
        raise ValueError(
            f"{type(estimator).__name__} takes one matrix, not a list of {len(spectra.sources)} sources "
            f"{list(spectra.sources)}; take src_concat=True or 'block', or one source=...."
        )
    if src_concat == "block" and scales(estimator):
        warnings.warn(
            f"{type(estimator).__name__} scales every column again, which undoes the weights of the blocks; "
            "scale=False keeps them.",
            SpectroWarning,
            stacklevel=3,
        )
    return spectra


def behind(ahead: Any, estimator: Any) -> Any:
    """Return an estimator with what the spectra go through before it."""
    if ahead is None or isinstance(ahead, str):
        return estimator
    from sklearn.pipeline import make_pipeline

    return make_pipeline(ahead, estimator)


def about_of(estimator: Any, spectra: FoldSpectra, layout: str, src_concat: bool | str, refit: bool) -> dict[str, Any]:
    """Return what the metadata of predictions tell of the spectra."""
    return {
        "features": list(spectra.features),
        "source": list(spectra.sources),
        "layout": layout,
        "src_concat": src_concat,
        "scale": scales(estimator),
        **({"refit": True} if refit else {}),
    }


def tell_missing(call: str, missing: Mapping[str, int], count: int) -> None:
    """Warn of samples that lack targets."""
    lost = [f"{number} have no {name!r}" for name, number in missing.items() if number]
    if lost:
        warnings.warn(
            f"{call}: of {count} samples, {', '.join(lost)}; they are left out of it.", SpectroWarning, stacklevel=3
        )


def fields_of(one: Problem, run: Run, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is told of the predictions of a problem, but their fold and samples."""
    known = {} if one.known is None else {"classes": one.known}
    named = one.targets[0] if len(one.targets) == 1 else list(one.targets)
    fields = {"model": run.model, "processing": one.version, "target": named}
    return {**fields, **about, "task": one.task, **known, "run": run.name}


def output_of(one: Problem, values: Array) -> Array:
    """Return predictions as they are stored: classes that are text by their labels."""
    return values if one.classes is None else labels_of(values, one.classes)
