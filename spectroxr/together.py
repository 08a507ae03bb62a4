"""Splitting by a scikit-learn splitter so that no group is on both sides of a fold."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl

from spectroxr.schema import Array

__all__ = ["split_together"]

#: What keeps groups together where a splitter does not.
GROUPED = {
    "StratifiedKFold": "StratifiedGroupKFold",
    "LeaveOneOut": "LeaveOneGroupOut",
    "LeavePOut": "LeavePGroupsOut",
    "ShuffleSplit": "GroupShuffleSplit",
    "StratifiedShuffleSplit": "GroupShuffleSplit",
}


def split_together(
    splitter: Any,
    x: Array,
    y: Array | None,
    groups: Sequence[Any] | Array | None,
    *,
    named: Sequence[Any] | pl.Series | None = None,
    repeat: int = 0,
    instead: str = "",
) -> Iterator[tuple[Array, Array]]:
    """Yield the sides of the folds that a splitter makes, as places in `x`.

    Parameters
    ----------
    splitter : splitter
        Also one that takes no account of groups, as long as its folds happen to keep them together; that scikit-learn
        warns of it is then not shown.
    x : ndarray, shape (n, wavelength)
    y : ndarray, shape (n,) or (n, target), or None
    groups : sequence, shape (n,), or None
        None: nothing is to be kept together.
    named : sequence, shape (n,), optional
        What an error calls the groups (default: as they are).
    repeat : int, default 0
        What an error calls the repeat.
    instead : str, default ""
        What an error offers besides a splitter of groups.

    Raises
    ------
    ValueError
        If a group is on both sides of a fold, or there is not one group per sample.
    """
    if groups is None:
        yield from splitter.split(x, y)
        return
    codes = _codes(groups, len(x))
    for number, (train, val) in enumerate(_unwarned(splitter, x, y, groups)):
        trains = np.zeros(len(x), dtype=bool)
        trains[codes[train]] = True
        both = np.arange(len(x))[val][trains[codes[val]]]
        if len(both):
            group = (groups if named is None else named)[int(both[0])]
            shown = repr(group.item() if isinstance(group, np.generic) else group)
            kind = type(splitter).__name__
            raise ValueError(
                f"fold {number}{f' of repeat {repeat}' if repeat else ''}: group {shown} trains and validates; {kind} "
                f"does not keep groups together, {GROUPED.get(kind, 'GroupKFold')} of scikit-learn{instead} does."
            )
        yield train, val


def _unwarned(splitter: Any, x: Array, y: Array | None, groups: Any) -> Iterator[tuple[Array, Array]]:
    """Yield folds without the warning that groups are ignored, since they are looked at here."""
    folds = None
    while True:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The groups parameter is ignored", category=UserWarning)
            folds = iter(splitter.split(x, y, groups)) if folds is None else folds
            fold = next(folds, None)
        if fold is None:
            return
        yield fold


def _codes(groups: Sequence[Any] | Array, count: int) -> Array:
    """Return groups as whole numbers from 0."""
    given = np.asarray(groups)
    if given.shape != (count,):
        raise ValueError(f"groups of shape {given.shape} for {count} samples; there is one group per sample.")
    if given.dtype.kind != "O":
        return np.unique(given, return_inverse=True)[1]
    seen: dict[Any, int] = {}
    return np.array([seen.setdefault(one, len(seen)) for one in given.tolist()], dtype=np.intp)
