"""Figures of merit: how predictions differ from the values that were measured.

All take ``measured`` (reference values) before ``predicted``. One-dimensional arrays give a number, arrays of shape
(sample, output) one number per output. A NaN among the values of an output makes its figures NaN. No figure warns.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from spectroxr.schema import Array

__all__ = ["accuracy", "balanced_accuracy", "bias", "confusion", "f1", "mae", "r2", "rmse", "rpd", "rpiq", "sep"]


@np.errstate(all="ignore")
def rmse(measured: Any, predicted: Any) -> Any:
    """Return the root mean square error, in the units of the values.

    ``sqrt(sum((predicted - measured)^2) / n)``: of the calibration samples it is called RMSEC, of out-of-fold
    predictions RMSECV, of samples that had no part in the calibration RMSEP. It divides by n in each case;
    some programs divide RMSEC by n less the number of latent variables and one.

    Parameters
    ----------
    measured, predicted : array_like, shape (n,) or (n, outputs)

    Returns
    -------
    float or ndarray of float64, shape (outputs,)

    Raises
    ------
    ValueError, TypeError
        If the shapes differ, there is no value, or they are not numbers. So do all formulas of this module.

    References
    ----------
    Næs T., Isaksson T., Fearn T., Davies T. (2002), A User-Friendly Guide to Multivariate Calibration and
    Classification, NIR Publications, chapter 13.

    Examples
    --------
    >>> rmse([1.0, 2.0, 3.0], [1.0, 2.0, 6.0])
    1.7320508075688772
    """
    errors = _errors(measured, predicted)[1]
    return _result(np.sqrt(np.mean(errors**2, axis=0)), measured)


@np.errstate(all="ignore")
def bias(measured: Any, predicted: Any) -> Any:
    """Return the mean error, in the units of the values: positive where predictions are too high.

    ``sum(predicted - measured) / n``, the sign of Næs et al. Programs that take measured less predicted give it the
    other sign.

    Parameters
    ----------
    measured, predicted : array_like, shape (n,) or (n, outputs)

    Returns
    -------
    float or ndarray of float64, shape (outputs,)

    References
    ----------
    Næs et al. (2002), see `rmse`.

    Examples
    --------
    >>> bias([1.0, 2.0, 3.0], [1.5, 2.5, 3.5])
    0.5
    """
    errors = _errors(measured, predicted)[1]
    return _result(np.mean(errors, axis=0), measured)


@np.errstate(all="ignore")
def sep(measured: Any, predicted: Any) -> Any:
    """Return the standard error of prediction, corrected for bias, in the units of the values.

    ``sqrt(sum((predicted - measured - bias)^2) / (n - 1))``: the standard deviation of the errors, so that
    ``rmse^2 = sep^2 (n - 1) / n + bias^2``. Some authors call it SEP(C), and the RMSEP itself SEP. NaN for one sample.

    Parameters
    ----------
    measured, predicted : array_like, shape (n,) or (n, outputs)

    Returns
    -------
    float or ndarray of float64, shape (outputs,)

    References
    ----------
    Næs et al. (2002), see `rmse`.

    Examples
    --------
    >>> sep([1.0, 2.0, 3.0], [2.0, 2.0, 5.0])
    1.0
    """
    errors = _errors(measured, predicted)[1]
    return _result(_deviation(errors), measured)


@np.errstate(all="ignore")
def mae(measured: Any, predicted: Any) -> Any:
    """Return the mean absolute error, in the units of the values: ``sum(|predicted - measured|) / n``.

    Parameters
    ----------
    measured, predicted : array_like, shape (n,) or (n, outputs)

    Returns
    -------
    float or ndarray of float64, shape (outputs,)

    References
    ----------
    Willmott C. J., Matsuura K. (2005), Climate Research 30, 79-82.

    Examples
    --------
    >>> mae([1.0, 2.0, 3.0], [2.0, 2.0, 1.0])
    1.0
    """
    errors = _errors(measured, predicted)[1]
    return _result(np.mean(np.abs(errors), axis=0), measured)


@np.errstate(all="ignore")
def r2(measured: Any, predicted: Any) -> Any:
    """Return the coefficient of determination, at most 1, negative where the mean would predict better.

    ``1 - sum((predicted - measured)^2) / sum((measured - mean(measured))^2)``, as ``sklearn.metrics.r2_score``: not the
    squared correlation, which forgives bias and slope. NaN for one sample and for measured values that are all the same
    (scikit-learn gives 0 or 1 there).

    Parameters
    ----------
    measured, predicted : array_like, shape (n,) or (n, outputs)

    Returns
    -------
    float or ndarray of float64, shape (outputs,)

    References
    ----------
    Kvålseth T. O. (1985), The American Statistician 39, 279-285: its R²₁.

    Examples
    --------
    >>> r2([1.0, 2.0, 3.0], [1.0, 2.0, 2.0])
    0.5
    """
    true, errors = _errors(measured, predicted)
    centred = true - np.mean(true, axis=0)
    total = np.where(_constant(true), np.nan, np.sum(centred**2, axis=0))
    return _result(1.0 - np.true_divide(np.sum(errors**2, axis=0), total), measured)


@np.errstate(all="ignore")
def rpd(measured: Any, predicted: Any) -> Any:
    """Return the ratio of performance to deviation: standard deviation of the measured values by `sep`.

    ``sqrt(sum((measured - mean(measured))^2) / (n - 1)) / sep``. The denominator is Williams', corrected for bias; some
    authors divide by the RMSEP, which gives less where there is a bias. NaN for one sample and for measured values that
    are all the same; infinite if the errors are all the same.

    Parameters
    ----------
    measured, predicted : array_like, shape (n,) or (n, outputs)

    Returns
    -------
    float or ndarray of float64, shape (outputs,)

    References
    ----------
    Williams P. C. (1987), in Williams, Norris (eds.), Near-Infrared Technology in the Agricultural and Food Industries,
    AACC, 143-167; Williams P. (2014), NIR news 25 (1), 22-26.

    Examples
    --------
    >>> rpd([1.0, 3.0, 5.0], [2.0, 3.0, 7.0])
    2.0
    """
    true, errors = _errors(measured, predicted)
    spread = np.where(_constant(true), np.nan, _deviation(true))
    return _result(np.true_divide(spread, _deviation(errors)), measured)


@np.errstate(all="ignore")
def rpiq(measured: Any, predicted: Any) -> Any:
    """Return the ratio of performance to interquartile range: ``(Q3 - Q1) / rmse``, Q of the measured values.

    For values that are not normally distributed, which the standard deviation in `rpd` describes badly. Quartiles are
    interpolated linearly (definition 7 of Hyndman and Fan, the default of numpy and R). NaN for one sample and for
    measured values that are all the same; infinite if there is no error.

    Parameters
    ----------
    measured, predicted : array_like, shape (n,) or (n, outputs)

    Returns
    -------
    float or ndarray of float64, shape (outputs,)

    References
    ----------
    Bellon-Maurel V., Fernandez-Ahumada E., Palagos B., Roger J.-M., McBratney A. (2010), Trends in Analytical Chemistry
    29, 1073-1081.

    Examples
    --------
    >>> rpiq([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 3.0, 4.0, 5.0, 6.0])
    2.0
    """
    true, errors = _errors(measured, predicted)
    low, high = np.percentile(true, [25.0, 75.0], axis=0)
    spread = np.where(_constant(true), np.nan, high - low)
    return _result(np.true_divide(spread, np.sqrt(np.mean(errors**2, axis=0))), measured)


def accuracy(measured: Any, predicted: Any) -> float:
    """Return the share of samples whose class is right: ``sklearn.metrics.accuracy_score``.

    Parameters
    ----------
    measured, predicted : array_like, shape (n,)
        Classes, numbers or text.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the shapes differ, there is no value or one is missing. So do all formulas for classes.

    Examples
    --------
    >>> accuracy(["a", "a", "b", "b"], ["a", "a", "b", "a"])
    0.75
    """
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(*_classes(measured, predicted)))


def balanced_accuracy(measured: Any, predicted: Any) -> float:
    """Return the mean over the measured classes of the share that is right: ``balanced_accuracy_score``.

    Parameters
    ----------
    measured, predicted : array_like, shape (n,)

    Returns
    -------
    float

    References
    ----------
    Brodersen K. H. et al. (2010), Proceedings of the 20th International Conference on Pattern Recognition, 3121-3124.

    Examples
    --------
    >>> balanced_accuracy(["a", "a", "a", "b"], ["a", "a", "a", "a"])
    0.5
    """
    from sklearn.metrics import balanced_accuracy_score

    given = _classes(measured, predicted)
    with _quiet():
        return float(balanced_accuracy_score(*given))


def f1(measured: Any, predicted: Any) -> float:
    """Return the mean over all classes of 2 TP / (2 TP + FP + FN): ``f1_score(average="macro")``.

    Every class that is measured or predicted counts alike; one that is never predicted right counts as 0.

    Parameters
    ----------
    measured, predicted : array_like, shape (n,)

    Returns
    -------
    float

    References
    ----------
    van Rijsbergen C. J. (1979), Information Retrieval, 2nd edition, chapter 7.

    Examples
    --------
    >>> round(f1(["a", "a", "a", "b"], ["a", "a", "a", "a"]), 4)
    0.4286
    """
    from sklearn.metrics import f1_score

    return float(f1_score(*_classes(measured, predicted), average="macro", zero_division=0.0))


def confusion(measured: Any, predicted: Any) -> pl.DataFrame:
    """Return how often each class was predicted as which: ``sklearn.metrics.confusion_matrix``, as a long table.

    Parameters
    ----------
    measured, predicted : array_like, shape (n,)

    Returns
    -------
    polars.DataFrame
        ``measured``, ``predicted``, ``n``, of the pairs that occur, sorted.

    Examples
    --------
    >>> confusion(["a", "a", "b"], ["a", "b", "b"]).rows()
    [('a', 'a', 1), ('a', 'b', 1), ('b', 'b', 1)]
    """
    from sklearn.metrics import confusion_matrix

    true, found = _classes(measured, predicted)
    labels = np.unique(np.concatenate([true, found]))
    with _quiet():
        counts = confusion_matrix(true, found, labels=labels)
    rows, columns = np.nonzero(counts)
    return pl.DataFrame(
        {
            "measured": labels[rows].tolist(),
            "predicted": labels[columns].tolist(),
            "n": pl.Series(counts[rows, columns], dtype=pl.UInt32),
        }
    )


def _errors(measured: Any, predicted: Any) -> tuple[Array, Array]:
    """Return measured values and errors as float64, one column per output."""
    true, found = np.asarray(measured), np.asarray(predicted)
    if true.shape != found.shape:
        raise ValueError(f"measured values have shape {true.shape}, predicted ones {found.shape}.")
    if true.ndim not in (1, 2) or not true.size:
        raise ValueError(f"values have shape (n,) or (n, outputs) with at least one of each, not {true.shape}.")
    for array in (true, found):
        if array.dtype.kind not in "fiub":
            raise TypeError(f"figures of merit are of numbers, not of {array.dtype}.")
    true = true.astype(np.float64)
    return true, found.astype(np.float64) - true


def _deviation(values: Array) -> Array:
    """Return the standard deviation over n - 1; exactly 0 where all values are the same, NaN for one."""
    n = len(values)
    if n < 2:
        return np.full(values.shape[1:], np.nan)
    return np.where(_constant(values), 0.0, np.std(values, axis=0, ddof=1))


def _constant(values: Array) -> Array:
    return np.asarray(np.max(values, axis=0) == np.min(values, axis=0))


def _result(figure: Any, measured: Any) -> Any:
    return float(figure) if np.ndim(measured) == 1 else np.asarray(figure)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what scikit-learn says of classes that are predicted only, and of a single one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _classes(measured: Any, predicted: Any) -> tuple[Array, Array]:
    true, found = np.asarray(measured), np.asarray(predicted)
    if true.ndim != 1 or true.shape != found.shape or not true.size:
        raise ValueError(
            f"classes have shape (n,), measured and predicted alike, not {true.shape} and {found.shape}; predictions "
            "per class become one class by argmax."
        )
    for array in (true, found):
        lost = np.isnan(array) if array.dtype.kind == "f" else np.array([one is None for one in array])
        if lost.any():
            raise ValueError(f"{int(lost.sum())} of {len(array)} classes are missing; leave those samples out.")
    return true, found
