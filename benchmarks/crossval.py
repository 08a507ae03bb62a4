"""Cross-validation: five folds of the whole dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
from figures import Effort, Figure, duration
from measure import Call, Ratio, in_turns
from sklearn.model_selection import KFold
from spectra import SAMPLES, dataset, spectra


def folds(effort: Effort) -> list[Figure]:
    """All folds of ``get_data``, against a generator that takes the same rows with numpy."""
    figures = []
    y = np.random.default_rng(3).random(SAMPLES)
    for shuffled in (True, False):
        splitter = KFold(5, shuffle=shuffled, random_state=4 if shuffled else None)
        pairs = list(splitter.split(np.zeros((SAMPLES, 1))))
        ds = dataset(False)
        ds.add_targets(pl.DataFrame({"protein": y}))
        ds.set_folds(splitter)
        _check(ds, pairs, spectra())
        times = in_turns(
            {
                "get_data": Call(_through, prepare=ds.get_data),
                "needed": Call(_through, prepare=lambda pairs=pairs: _taken(pairs, y, _needed)),
                "all": Call(_through, prepare=lambda pairs=pairs: _taken(pairs, y, _copy)),
            },
            effort.times(15, 5),
        )
        ratio = Ratio.of(times["get_data"], times["needed"])
        rest = Ratio.of(times["get_data"], times["all"])
        how = "shuffled" if shuffled else "in blocks"
        copied = sum(not _even(side) for pair in pairs for side in pair)
        figures.append(
            Figure(
                "folds",
                f"five-fold get_data, {how}",
                "<= 1.3x np.take of the same rows"
                + ("" if shuffled else f", views where they exist ({10 - copied} of 10)"),
                f"{ratio}, {duration(times['get_data'].median)}" + ("" if shuffled else f"; of np.take of all {rest}"),
                ratio.value <= 1.3,
                {"seconds": {k: t.seconds for k, t in times.items()}},
            )
        )
    return figures


def _through(folds: Iterator[Any]) -> None:
    """Go through the folds as a user does, who holds one while the next is made."""
    for _ in folds:
        pass


def _taken(pairs: Any, y: np.ndarray[Any, Any], rows_of: Callable[..., Any]) -> Iterator[Any]:
    for train, val in pairs:
        yield rows_of(spectra(), train), y[train], rows_of(spectra(), val), y[val]


def _copy(array: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.take(array, rows, axis=0)


def _needed(array: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array[rows[0] : rows[-1] + 1] if _even(rows) else np.take(array, rows, axis=0)


def _even(rows: np.ndarray[Any, Any]) -> bool:
    return bool(rows[-1] - rows[0] == len(rows) - 1)


def _check(ds: Any, pairs: Any, array: np.ndarray[Any, Any]) -> None:
    for (train, val), (x_train, _, x_val, y_val) in zip(pairs, ds.get_data(), strict=True):
        flat = array.reshape(len(array), -1)
        same = np.array_equal(x_train[0][::997], flat[train[::997]]) and np.array_equal(x_val[0], flat[val])
        if not same or len(y_val) != len(val):
            raise AssertionError("get_data gave other rows than its folds")
