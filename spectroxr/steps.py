"""Running the steps of a processing on an array: fit them, transform, and say what axis comes out."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spectroxr.axis import Axis
from spectroxr.layouts import readonly
from spectroxr.schema import Array

__all__ = [
    "Outcome",
    "axis_after",
    "called",
    "fit_steps",
    "is_fitted_to_data",
    "listed_steps",
    "names_after",
    "run_steps",
]


@dataclass(frozen=True)
class Outcome:
    """What steps made of spectra.

    Attributes
    ----------
    values : ndarray, shape (row, feature)
    axis : Axis or None
        The one they were given if nothing says otherwise; None if there are other columns and nobody knows which.
    """

    values: Array
    axis: Axis | None


def listed_steps(transformer: Any) -> list[Any]:
    """Return the steps of a transformer one by one: estimators, and functions as pairs with their parameters.

    Parameters
    ----------
    transformer : estimator, function, pair or list of these
        A scikit-learn `Pipeline` is its steps; those that are None or ``"passthrough"`` are left out.

    Raises
    ------
    TypeError
        If a step is none of these, or a name where a function is needed.
    """
    if hasattr(type(transformer), "get_params"):
        inside = getattr(transformer, "steps", None)
        if type(transformer).__name__ == "Pipeline" and isinstance(inside, list):
            return [step for _, one in inside if one not in (None, "passthrough") for step in listed_steps(one)]
        return [transformer]
    if isinstance(transformer, list | tuple):
        if len(transformer) == 2 and isinstance(transformer[1], Mapping):
            function, params = transformer
            if not callable(function) or isinstance(function, type):
                raise TypeError(
                    f"a step is an estimator, a function, or a function with its parameters, not {transformer!r}."
                )
            return [(function, dict(params))]
        if len(transformer) == 2 and isinstance(transformer[0], str) and not isinstance(transformer[1], str):
            return listed_steps(transformer[1])
        return [step for one in transformer for step in listed_steps(one)]
    if isinstance(transformer, functools.partial) and not transformer.args:
        return [(transformer.func, dict(transformer.keywords))]
    if callable(transformer) and not isinstance(transformer, type):
        return [(transformer, {})]
    more = f"; call it: {transformer.__name__}()" if isinstance(transformer, type) else ""
    raise TypeError(f"a step is an estimator or a function, not {transformer!r}{more}.")


def is_fitted_to_data(step: Any) -> bool:
    """Tell whether a step learns something from the spectra it is fitted on."""
    if isinstance(step, tuple):
        return False
    tags = getattr(step, "__sklearn_tags__", None)
    try:
        return bool(tags().requires_fit) if callable(tags) else True
    except (AttributeError, NotImplementedError):
        return True


def fit_steps(steps: Sequence[Any], x: Array, y: Array | None) -> list[Any]:
    """Return clones of the steps, fitted one after the other.

    Parameters
    ----------
    steps : sequence
        As `listed_steps` returns them; not changed.
    x : ndarray, shape (row, wavelength)
        Not changed.
    y : ndarray or None

    Returns
    -------
    list
        Fitted estimators, and functions as they are.
    """
    from sklearn.base import clone

    fitted: list[Any] = []
    for k, step in enumerate(steps):
        if not isinstance(step, tuple):
            step = clone(step)
            given = _guarded(x)
            step = step.fit(given) if y is None else step.fit(given, y)
        fitted.append(step)
        if k < len(steps) - 1:
            x = _run(step, x)
    return fitted


def run_steps(fitted: Sequence[Any], x: Array, axis: Axis) -> Outcome:
    """Transform spectra, and find out what axis they have then.

    Parameters
    ----------
    fitted : sequence
        As `fit_steps` returns them.
    x : ndarray, shape (row, wavelength)
        Not changed.
    axis : Axis
        Of `x`.

    Raises
    ------
    ValueError
        If a step changes the number of rows, or gives no matrix of real numbers, or NaN where there was none.
    """
    names: Any = np.array([str(k) for k in range(len(axis))], dtype=object)
    start = np.isfinite(x).all(axis=1)
    for k, step in enumerate(fitted):
        # what numpy would warn of is looked for below
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            made = _run(step, x)
        called = f"step {k} ({_called(step)})"
        if made.ndim != 2 or len(made) != len(x):
            raise ValueError(
                f"{called} made {made.shape} of spectra {x.shape}; a processing keeps the rows. To leave samples out, "
                "filter them; to average replicates, see average."
            )
        if made.dtype.kind not in "fiub":
            raise ValueError(f"{called} made values of dtype {made.dtype}, not real numbers.")
        if made.dtype.kind == "f":
            lost = start & ~np.isfinite(made).all(axis=1)
            if lost.any():
                raise NotFiniteError(called, np.flatnonzero(lost))
        names = names_after(step, names, made.shape[1])
        x = made
    return Outcome(x, axis_after(names, x.shape[1], axis))


class NotFiniteError(ValueError):
    """A step made NaN or infinities of finite spectra.

    Attributes
    ----------
    lines : ndarray of intp
        Which lines of the array.
    """

    def __init__(self, called: str, lines: Array) -> None:
        super().__init__(f"{called} made NaN or infinities of {len(lines)} finite spectra.")
        self.called, self.lines = called, lines


def _called(step: Any) -> str:
    if isinstance(step, tuple):
        return getattr(step[0], "__name__", repr(step[0]))
    return type(step).__name__


def _guarded(x: Array) -> Array:
    """Return a view that cannot be written: a step with ``copy=False`` would write into the dataset."""
    view = x.view()
    view.flags.writeable = False
    return view


def _run(step: Any, x: Array) -> Array:
    given = _guarded(x)
    if not isinstance(step, tuple):
        with warnings.catch_warnings():
            # names of columns are given by the dataset, not by data frames
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            made = step.transform(given)
    else:
        made = called(given, *step)
    if hasattr(made, "toarray"):
        made = made.toarray()
    return np.asarray(made)


def called(x: Array, function: Callable[..., Any], params: Mapping[str, Any]) -> Any:
    """Return what a function makes of spectra; one of pybaselines has its baselines taken off."""
    return _baselines(function, params, x) if _of_pybaselines(function) else function(x, **params)


def _of_pybaselines(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).partition(".")[0] == "pybaselines"


def _baselines(function: Callable[..., Any], params: Mapping[str, Any], x: Array) -> Array:
    """Return spectra without the baselines that a function of pybaselines finds, one spectrum at a time."""
    made = np.empty(x.shape, dtype=np.float64)
    for k, spectrum in enumerate(x):
        made[k] = spectrum - function(spectrum, **params)[0]
    return made


def names_after(step: Any, names: Any, width: int) -> Any:
    """Return the names of the columns after a step: None if nobody knows."""
    if names is None:
        return None
    if isinstance(step, tuple):
        return names if width == len(names) else None
    ask = getattr(step, "get_feature_names_out", None)
    try:
        found = np.asarray(ask(names), dtype=object) if ask is not None else None
    except Exception:  # a method that scikit-learn only promises for some settings
        found = None
    if found is not None and len(found) == width:
        return found
    return names if width == len(names) else None


def axis_after(names: Any, width: int, axis: Axis) -> Axis | None:
    """Return the axis that names of columns stand for, None without names."""
    if names is None:
        return None
    kept = [int(name) if str(name).isdecimal() and int(name) < len(axis) else -1 for name in names]
    if kept == list(range(len(axis))):
        return axis
    if min(kept, default=-1) >= 0 and len(set(kept)) == len(kept):
        positions = np.array(kept)
        values = readonly(np.ascontiguousarray(axis.values[positions]))
        segments = None if axis.segments is None else tuple(axis.segments[k] for k in kept)
        return Axis(values, dict(axis.attrs), segments)
    return Axis.build(np.arange(1, width + 1), width, {"quantity": "score"})
