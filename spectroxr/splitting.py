"""Which samples train and which validate, fold by fold and repeat by repeat."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from spectroxr.errors import UnknownNameError, nearest
from spectroxr.inherit import derived_from
from spectroxr.schema import Array, Filter
from spectroxr.together import split_together

if TYPE_CHECKING:
    from spectroxr.dataset import SpectroDataset

__all__ = ["Fold", "calibration_samples", "folds_of"]


@dataclass(frozen=True)
class Fold:
    """One fold of one repeat.

    Attributes
    ----------
    repeat, number : int
    seed : int
    train : ndarray of uint32, ascending
        Originals and the augmented samples derived from them.
    val : ndarray of uint32, ascending
        Originals.
    """

    repeat: int
    number: int
    seed: int
    train: Array
    val: Array

    def __str__(self) -> str:
        return f"fold {self.number}" + (f" of repeat {self.repeat}" if self.repeat else "")


def calibration_samples(ds: SpectroDataset, filter: Filter) -> Array:
    """Return the samples a filter selects, augmented ones included, those of partition "test" only if it says so."""
    samples = ds.features.resolver.samples(filter)
    if _names_partition(filter):
        return samples
    partition = ds.features.index.samples["partition"] == "test"
    test = (partition.fill_null(False) if partition.null_count() else partition).to_numpy()[samples]
    if test.all():
        raise ValueError(
            "all samples selected are in partition 'test', which is not validated; a filter that names the partition, "
            "such as {'partition': 'test'}, overrides that."
        )
    return samples[~test] if test.any() else samples


def _names_partition(filter: Filter) -> bool:
    if isinstance(filter, pl.Expr):
        return "partition" in filter.meta.root_names()
    return isinstance(filter, dict) and "partition" in filter


def folds_of(
    ds: SpectroDataset,
    samples: Array,
    y: Array | None,
    *,
    cv: Any,
    groups: str | None,
    repeats: int,
    seed: int,
    stratify: bool,
) -> list[Fold]:
    """Return the folds of all repeats.

    Parameters
    ----------
    ds : SpectroDataset
    samples : ndarray of uint32, ascending
        Those that may train or validate, augmented ones included; only originals are split.
    y : ndarray, shape (original,), or None
        What a stratified splitter needs, one value per original of `samples`.
    cv, groups, repeats, seed
        As in `cross_validate`.
    stratify : bool
        Whether a number of folds means stratified ones.

    Raises
    ------
    ValueError, TypeError, UnknownNameError
        If the folds leak, part a group, do not fit the samples, or repeats would all be the same.
    """
    origins = ds.features.index.origins
    originals = samples[origins[samples] == samples]
    if not len(originals):
        raise ValueError("the filter selects no original sample; augmented ones do not validate.")
    if cv is None and len(ds.folds):
        if groups is not None:
            raise ValueError("groups= goes with a number of folds or a splitter, not with the folds that are set; cv=5")
        rounds = [ds.folds.pairs] * repeats
    elif cv is None or _splits(cv) or (isinstance(cv, int | np.integer) and not isinstance(cv, bool)):
        values = None if groups is None else _groups(ds, groups, originals)
        rounds = []
        for repeat in range(repeats):
            splitter = _splitter(5 if cv is None else cv, seed, repeat, values is not None, stratify)
            rounds.append(_split(ds, splitter, originals, y, values, repeat))
    else:
        if groups is not None:
            raise ValueError("groups= goes with a number of folds or a splitter, not with an iterable of (train, val).")
        rounds = [ds.folds.checked(cv)] * repeats
    taking = np.zeros(len(origins), dtype=bool)
    taking[samples] = True
    derived = len(samples) > len(originals)
    found = []
    for repeat, pairs in enumerate(rounds):
        for number, (train, val) in enumerate(pairs):
            if derived:
                train = np.union1d(train, np.flatnonzero(derived_from(origins, train)).astype(np.uint32))
            fold = Fold(repeat, number, seed + repeat, train[taking[train]], val[taking[val]])
            for side, ids in (("trains", fold.train), ("validates", fold.val)):
                if not len(ids):
                    raise ValueError(
                        f"{fold}: none of its samples {side}: they are not among the {len(samples)} that the filter "
                        "selects. Without a filter on it, partition 'test' is left out."
                    )
            found.append(fold)
    return found


def _split(
    ds: SpectroDataset, splitter: Any, originals: Array, y: Array | None, groups: pl.Series | None, repeat: int
) -> list[tuple[Array, Array]]:
    """Return the sides that a splitter makes of original samples, ids ascending."""
    pairs = []
    ranks = None if groups is None else groups.rank("dense").to_numpy()
    empty = np.zeros((len(originals), 1))
    instead = ", or a number such as cv=5,"
    for train, val in split_together(splitter, empty, y, ranks, named=groups, repeat=repeat, instead=instead):
        times = np.bincount(np.concatenate([train, val]), minlength=len(originals))
        sides = (originals[np.sort(train)], originals[np.sort(val)])
        if times.max() > 1 or not len(train) or not len(val):
            ds.folds.checked([sides])
        pairs.append(sides)
    return pairs


def changes(cv: Any, folds_set: bool) -> bool:
    """Tell whether another seed makes other folds."""
    if cv is None or isinstance(cv, int | np.integer):
        return not (cv is None and folds_set)
    return _splits(cv) and "random_state" in vars(cv) and getattr(cv, "shuffle", True) is not False


def _splits(cv: Any) -> bool:
    return hasattr(cv, "split") and not isinstance(cv, str)


def _groups(ds: SpectroDataset, name: Any, originals: Array) -> pl.Series:
    if not isinstance(name, str):
        raise TypeError(f"groups names a column of the index, the metadata or the targets, not {name!r}.")
    index = ds.features.index
    known = [*index.samples.columns, *ds.metadata.columns, *ds.targets.columns]
    if name not in known:
        raise UnknownNameError(nearest(name, known, "column for groups"))
    column = ds.features.column(name).gather(pl.Series(originals))
    missing = column.null_count()
    if missing:
        raise ValueError(f"{missing} of {len(originals)} samples have no {name!r}; nobody knows what to keep together.")
    return column


def _splitter(cv: Any, seed: int, repeat: int, grouped: bool, stratify: bool) -> Any:
    """Return a splitter that shuffles by a seed: the one that is given, or one of so many folds."""
    from sklearn import model_selection as sk

    if _splits(cv):
        if inspect.isclass(cv):
            raise TypeError(f"cv is a splitter, not its class: {cv.__name__}(...).")
        return _reseeded(cv, seed, repeat)
    if cv < 2:
        raise ValueError(f"cv={cv} folds; there are at least 2.")
    if grouped:
        kind = sk.StratifiedGroupKFold if stratify else sk.GroupKFold
    else:
        kind = sk.StratifiedKFold if stratify else sk.KFold
    return kind(int(cv), shuffle=True, random_state=seed + repeat)


def _reseeded(cv: Any, seed: int, repeat: int) -> Any:
    """Return a copy of a splitter that draws other folds in each repeat, from its own number or else from the seed."""
    cv = copy.deepcopy(cv)
    if "random_state" in vars(cv) and getattr(cv, "shuffle", True) is not False:
        if cv.random_state is None:
            cv.random_state = seed + repeat
        elif isinstance(cv.random_state, int | np.integer):
            cv.random_state = int(cv.random_state) + repeat
        else:
            raise TypeError("a splitter with a random generator makes other folds each time; give it a whole number.")
    return cv


def sequence_of(names: str | Sequence[str] | None) -> list[str] | None:
    """Return one name or several as a list."""
    return None if names is None else [names] if isinstance(names, str) else list(names)
