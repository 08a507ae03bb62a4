"""Fitting an estimator: clones, seeds, what it says of itself, and the predictions of one fold."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np

from spectroxr.schema import Array

__all__ = ["Labelled", "check_estimator", "cloned", "fit_fold", "is_classifier", "joint", "scales", "takes_lists"]


def check_estimator(estimator: Any) -> None:
    """Raise if something is no estimator.

    Raises
    ------
    TypeError
        If it is a class, or has no ``fit`` and ``predict``.
    """
    if inspect.isclass(estimator):
        raise TypeError(f"the estimator is an object, not its class: {estimator.__name__}(...).")
    for method in ("fit", "predict"):
        if not callable(getattr(estimator, method, None)):
            raise TypeError(f"an estimator has fit and predict; {type(estimator).__name__} has no {method}.")


def cloned(estimator: Any, seed: int) -> Any:
    """Return an unfitted copy, in which each ``random_state`` that is None is the seed."""
    if not hasattr(estimator, "get_params"):
        return copy.deepcopy(estimator)
    from sklearn.base import clone

    fresh = clone(estimator)
    params = fresh.get_params(deep=True)
    draws = {key: seed for key in params if key.rpartition("__")[2] == "random_state" and params[key] is None}
    return fresh.set_params(**draws) if draws else fresh


def draws(estimator: Any) -> bool:
    """Tell whether another seed may make another model."""
    if not hasattr(estimator, "get_params"):
        return True
    params = estimator.get_params(deep=True)
    return any(key.rpartition("__")[2] == "random_state" and value is None for key, value in params.items())


def _tags(estimator: Any) -> Any:
    from sklearn.utils import get_tags

    try:
        return get_tags(estimator)
    except (AttributeError, TypeError):
        return None


def is_classifier(estimator: Any) -> bool:
    """Tell whether an estimator predicts classes."""
    tags = _tags(estimator)
    kind = getattr(estimator, "_estimator_type", None) if tags is None else tags.estimator_type
    return bool(kind == "classifier")


def joint(estimator: Any) -> bool:
    """Tell whether an estimator can be fitted to several targets at once."""
    tags = _tags(estimator)
    return tags is not None and bool(tags.target_tags.multi_output)


def takes_lists(estimator: Any) -> bool:
    """Tell whether an estimator may be given a list of arrays, one per source: if it does not say it takes matrices."""
    if type(estimator).__module__.partition(".")[0] == "sklearn":
        return False
    if not hasattr(type(estimator), "__sklearn_tags__"):  # scikit-learn 1.6 makes some up for any class
        return True
    tags = _tags(estimator)
    return tags is None or not tags.input_tags.two_d_array


def scales(estimator: Any) -> bool | None:
    """Tell whether an estimator scales its columns to unit variance; None if it does not say."""
    for name in ("estimator", "best_estimator_", "regressor"):
        inner = getattr(estimator, name, None)
        if inner is not None and hasattr(inner, "fit"):
            return scales(inner)
    steps = getattr(estimator, "steps", None)
    if isinstance(steps, list) and steps:
        found = [scales(step) for _, step in steps if step is not None and not isinstance(step, str)]
        return True if True in found else found[-1] if found else None
    if type(estimator).__name__ == "StandardScaler":
        return bool(estimator.with_std)
    value = getattr(estimator, "scale", None) if hasattr(estimator, "get_params") else None
    return value if isinstance(value, bool) else None


def fit_fold(
    estimator: Any, seed: int, jobs: list[tuple[Any, Array, Any]], keep_train: bool, last: list[Any] | None = None
) -> list[tuple[Array, Array | None]]:
    """Fit clones of an estimator, one per target or set of targets, and predict.

    Parameters
    ----------
    estimator : estimator
        Not changed.
    seed : int
    jobs : list of (x_train, y_train, x_val)
    keep_train : bool
    last : list, optional
        Where the last model stays until the next is fitted. Without it, all that a fold has allocated is free at once,
        the C library gives it back to the system and asks for it again page by page in the next fold.

    Returns
    -------
    list of (ndarray, ndarray or None)
        Predictions of x_val, and of x_train if they are to be kept.
    """
    found = []
    for x_train, y_train, x_val in jobs:
        model = cloned(estimator, seed).fit(x_train, y_train)
        found.append((predicted(model, x_val), predicted(model, x_train) if keep_train else None))
        if last is not None:
            last[:] = [model]
    return found


def predicted(model: Any, x: Any) -> Array:
    """Return what a fitted estimator predicts, one-dimensional for a single output.

    Raises
    ------
    ValueError
        If there is not one prediction per sample.
    """
    values = np.asarray(model.predict(x))
    count = len(x[0]) if isinstance(x, list) else len(x)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim not in (1, 2) or len(values) != count:
        raise ValueError(f"{type(model).__name__} predicted {values.shape} for {count} samples.")
    return values


class Labelled:
    """A fitted classifier of class codes that predicts labels.

    Attributes
    ----------
    estimator : estimator
        Fitted to the codes 0, 1, ... of the classes.
    classes : list of list of str
        The labels, in the order of their codes, per target.
    """

    def __init__(self, estimator: Any, classes: list[list[str]]) -> None:
        self.estimator, self.classes = estimator, classes

    def __repr__(self) -> str:
        return f"Labelled({self.estimator!r}, {self.classes!r})"

    def predict(self, X: Any) -> Array:
        """Return the labels of some spectra, an array of text of shape (n,) or (n, target)."""
        return labels_of(predicted(self.estimator, X), self.classes)


def labels_of(codes: Array, classes: list[list[str]]) -> Array:
    """Return the labels of class codes, shape (n,) for one target, (n, target) for several."""
    whole = np.asarray(codes).astype(np.intp)
    if len(classes) == 1:
        return np.array(classes[0])[whole]
    return np.column_stack([np.array(known)[whole[:, k]] for k, known in enumerate(classes)])
