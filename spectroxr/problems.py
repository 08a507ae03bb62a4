"""What is to be predicted: one target or several at once, of which samples, in which numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spectroxr.encoding import classes_of, present
from spectroxr.errors import UnknownNameError, nearest
from spectroxr.fitting import is_classifier, joint
from spectroxr.schema import Array

if TYPE_CHECKING:
    from spectroxr.dataset import SpectroDataset

__all__ = ["Problem", "problems_of"]


@dataclass(frozen=True)
class Problem:
    """Targets that one model predicts.

    Attributes
    ----------
    targets : tuple of str
    version : str
        The version of the targets.
    samples : ndarray of uint32, ascending
        Those with values.
    y : ndarray, shape (sample,) or (sample, output)
    classes : list of list of str, or None
        Labels of the codes in `y`, per target, where the targets are text.
    task : {"regression", "classification"}
    known : list or None
        The classes, where there are any.
    """

    targets: tuple[str, ...]
    version: str
    samples: Array
    y: Array
    classes: list[list[str]] | None
    task: str
    known: list[Any] | None

    def among(self, samples: Array) -> Array:
        """Return those of some samples (ascending) that have values."""
        if len(samples) <= len(self.samples):
            where = np.searchsorted(self.samples, samples)
            where[where == len(self.samples)] = 0
            has = self.samples[where] == samples
            return samples if has.all() else samples[has]
        return np.intersect1d(samples, self.samples, assume_unique=True)

    def values(self, samples: Array) -> Array:
        """Return the targets of some of its samples."""
        return np.asarray(self.y[np.searchsorted(self.samples, samples)])


def problems_of(
    ds: SpectroDataset,
    estimator: Any,
    samples: Array,
    target: str | Sequence[str] | None,
    version: str | None,
) -> tuple[list[Problem], dict[str, int]]:
    """Return what is to be predicted, and how many samples each target has no value of.

    Parameters
    ----------
    ds : SpectroDataset
    estimator : estimator
    samples : ndarray of uint32, ascending
    target : str or sequence of str, optional
    version : str, optional
        Default: of each target the one that `y` gives.

    Raises
    ------
    TypeError
        If the estimator cannot be fitted to targets of that kind.
    ValueError, UnknownNameError
        If there are no targets, or a name does not exist.
    """
    names = ds.targets.names(target) if ds.targets.versions else []
    if not names:
        raise ValueError("there are no targets yet; add_targets comes first.")
    classifier = is_classifier(estimator)
    single = [_problem(ds, name, samples, version, classifier) for name in names]
    missing = {one.targets[0]: len(samples) - len(one.samples) for one in single}
    if len(single) == 1 or any(missing.values()) or not joint(estimator):
        return single, missing
    kinds = {(one.version, one.task, one.classes is None, one.y.ndim) for one in single}
    if len(kinds) > 1 or single[0].y.ndim > 1:
        return single, missing
    first = single[0]
    whole = Problem(
        tuple(names),
        first.version,
        first.samples,
        np.column_stack([one.y for one in single]),
        None if first.classes is None else [one.classes[0] for one in single if one.classes],
        first.task,
        None if first.known is None else [one.known for one in single],
    )
    return [whole], missing


def _problem(ds: SpectroDataset, name: str, samples: Array, version: str | None, classifier: bool) -> Problem:
    targets = ds.targets
    held = targets.version_of(name) if version is None else version
    if held not in targets.versions:
        raise UnknownNameError(nearest(held, targets.versions, "target version"))
    column = targets.column(name, "raw" if "raw" in targets.versions else held)
    kept = samples[present(column)[samples]]
    if not len(kept):
        raise ValueError(f"none of the {len(samples)} samples has target {name!r}.")
    y = targets.values(kept, held, name)
    if y.dtype.kind == "f" and np.isnan(y).any():
        whole = ~np.isnan(y if y.ndim == 1 else y.sum(axis=1))
        kept, y = kept[whole], y[whole]
    record = targets.records.get((held, name))
    known = classes_of(record)
    if y.dtype.kind in "fiub":
        if not classifier and known is not None and y.ndim == 1:
            known = None
        task = "classification" if classifier or (known is not None and y.ndim == 2) else "regression"
        if task == "classification" and known is None and y.ndim == 1:
            known = np.unique(y).tolist()
        return Problem((name,), held, kept, y, None, task, known)
    if not classifier:
        raise TypeError(
            f"target {name!r} is {column.dtype} in version {held!r}, and the estimator predicts numbers; take a "
            f"classifier, or ds.encode_targets(OneHotEncoder(), target={name!r}) and its version."
        )
    if y.ndim != 1 or not all(isinstance(value, str) for value in y):
        raise TypeError(f"target {name!r} is {column.dtype}, neither numbers nor text; a classifier needs classes.")
    classes, codes = np.unique(y.astype(str), return_inverse=True)
    return Problem((name,), held, kept, codes.astype(np.int64), [classes.tolist()], "classification", classes.tolist())
