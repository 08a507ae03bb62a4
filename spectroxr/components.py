"""How many latent variables: the errors of a PLS with one, two, ... of them, and the field's rules for choosing."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from spectroxr.schema import Array
from spectroxr.together import split_together

__all__ = ["LatentVariableCurve", "latent_variables"]

Engine = Literal["ikpls", "sklearn"]


@dataclass(frozen=True)
class LatentVariableCurve:
    """Errors of a PLS per number of latent variables; see `latent_variables`.

    Attributes
    ----------
    table : polars.DataFrame
        ``latent_variables`` from 1 on, ``RMSEC``, ``RMSECV``, ``standard_error`` (of the RMSECV, over folds), ``PRESS``
        and ``R`` (PRESS with one more by PRESS; null in the last line).
    scale : bool
        Whether spectra (and targets) were scaled to unit variance.
    engine : str
        ``"ikpls"`` or ``"sklearn"``.
    """

    table: pl.DataFrame
    scale: bool
    engine: str

    def minimum(self) -> int:
        """Return the number with the least RMSECV, the smallest of several.

        References
        ----------
        Stone M. (1974), Journal of the Royal Statistical Society B 36, 111-147.
        """
        return int(np.argmin(self._column("RMSECV"))) + 1

    def one_se(self) -> int:
        """Return the smallest number whose RMSECV is within one standard error of the least.

        Raises
        ------
        ValueError
            If there is but one fold, so that the standard error is unknown.

        References
        ----------
        Breiman L., Friedman J. H., Olshen R. A., Stone C. J. (1984), Classification and Regression Trees, section
        3.4.3; Hastie T., Tibshirani R., Friedman J. (2009), The Elements of Statistical Learning, section 7.10.
        """
        errors, best = self._column("RMSECV"), self.minimum() - 1
        bound = errors[best] + self._column("standard_error")[best]
        if np.isnan(bound):
            raise ValueError("one fold has no standard error; take more, or the rule minimum or wold.")
        return int(np.argmax(errors <= bound)) + 1

    def wold(self, threshold: float = 0.95) -> int:
        """Return the first number after which one more does not lessen PRESS enough: R above the threshold.

        Parameters
        ----------
        threshold : float, default 0.95
            Wold's own is 1: stop as soon as PRESS rises. Li et al. compare 0.90 and 0.95, which choose fewer.

        Returns
        -------
        int
            The last number if no ratio is above.

        Raises
        ------
        ValueError
            If the threshold is not above 0.

        References
        ----------
        Wold S. (1978), Technometrics 20, 397-405; Li B., Morris J., Martin E. B. (2002), Chemometrics and Intelligent
        Laboratory Systems 64, 79-89.
        """
        if not threshold > 0:
            raise ValueError(f"the threshold of Wold's R is above 0, such as 0.95, not {threshold!r}.")
        above = np.flatnonzero(self._column("R")[:-1] > threshold)
        return int(above[0]) + 1 if len(above) else self.table.height

    def _column(self, name: str) -> Array:
        return self.table[name].to_numpy()


def latent_variables(
    x: Any,
    y: Any,
    cv: Any,
    most: int = 20,
    *,
    groups: Sequence[Any] | None = None,
    scale: bool = False,
    engine: Engine | None = None,
) -> LatentVariableCurve:
    """Cross-validate a PLS with 1, 2, ... latent variables, fitting once per fold.

    Parameters
    ----------
    x : array_like, shape (n, wavelength), or a tuple of one
        Spectra, such as ``ds.x(...)`` gives; read, never written to.
    y : array_like, shape (n,) or (n, target)
        Several targets make one PLS2, and errors over all of them: bring them to one scale first.
    cv : scikit-learn splitter or iterable of (train, val)
        Places in `x`, as index arrays or masks. Every validation counts, so repeats may be chained.
    most : int, default 20
        Up to so many, and to what the smallest training set and the wavelengths allow: n - 1 and their number.
    groups : sequence, optional
        One per sample, for a splitter that keeps groups together; one that parts a group is refused.
    scale : bool, default False
        Scale each wavelength and target to unit variance in each training set. In chemometrics one does not, since
        spectra have one unit: scikit-learn's PLSRegression scales unless told otherwise. They are centred always.
    engine : {"ikpls", "sklearn"}, optional
        What fits: ``ikpls`` (improved kernel PLS, algorithm 1), or scikit-learn's PLSRegression (NIPALS); both give the
        same numbers. Default: ``ikpls`` if it is installed, which takes a fraction of the time.

    Returns
    -------
    LatentVariableCurve
        ``RMSEC`` of the PLS of all samples, predicting them: the root of the sum of squares by n. ``PRESS``, sum of the
        squared errors of all validations; ``RMSECV``, the root of PRESS by their number. ``standard_error``: standard
        deviation of the folds' root mean square errors by the root of the number of folds, NaN for one fold. Where
        spectra have no further latent variables, lines repeat the last.

    Raises
    ------
    ValueError
        If shapes do not fit, a value is missing, there is no fold, a side of one is empty, or a sample or group on
        both.
    ImportError
        If the engine is not installed.

    References
    ----------
    Dayal B. S., MacGregor J. F. (1997), Journal of Chemometrics 11, 73-85; Engstrøm O.-C. G. (2024), arXiv:2401.13185.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> scores = rng.normal(size=(40, 3)) * [3.0, 2.0, 1.0]
    >>> x = scores @ rng.normal(size=(3, 50)) + 0.01 * rng.normal(size=(40, 50))
    >>> folds = [(np.flatnonzero(np.arange(40) % 4 != k), np.flatnonzero(np.arange(40) % 4 == k)) for k in range(4)]
    >>> curve = latent_variables(x, scores.sum(axis=1), folds, most=6)
    >>> curve.table.columns
    ['latent_variables', 'RMSEC', 'RMSECV', 'standard_error', 'PRESS', 'R']
    >>> curve.wold()
    3
    """
    spectra, wanted = _spectra(x), _targets(y)
    if len(spectra) != len(wanted):
        raise ValueError(f"{len(spectra)} spectra for {len(wanted)} targets.")
    folds = _folds(cv, spectra, wanted, groups)
    if not isinstance(most, int | np.integer) or isinstance(most, bool) or most < 1:
        raise ValueError(f"most is a whole number of at least 1, not {most!r}.")
    smallest = min(len(train) for train, _ in folds)
    if smallest < 2:
        raise ValueError("a fold trains on one sample; a PLS needs at least 2.")
    count = min(int(most), smallest - 1, spectra.shape[1])
    chosen = _engine(engine)
    fit = _by_ikpls if chosen == "ikpls" else _by_sklearn
    squares = np.empty((len(folds), count))
    sizes = np.array([len(val) * wanted.shape[1] for _, val in folds], dtype=np.float64)
    with warnings.catch_warnings():  # of latent variables that spectra do not have
        warnings.simplefilter("ignore")
        for k, (train, val) in enumerate(folds):
            found = fit(_copied(spectra, train), wanted[train], _copied(spectra, val), count, bool(scale))
            squares[k] = ((found - wanted[val]) ** 2).sum(axis=(1, 2))
        everything = np.arange(len(spectra))
        found = fit(_copied(spectra, everything), wanted.copy(), _copied(spectra, everything), count, bool(scale))
    press = squares.sum(axis=0)
    each = np.sqrt(squares / sizes[:, None])
    error = each.std(axis=0, ddof=1) / np.sqrt(len(folds)) if len(folds) > 1 else np.full(count, np.nan)
    table = pl.DataFrame(
        {
            "latent_variables": pl.Series(np.arange(1, count + 1), dtype=pl.UInt32),
            "RMSEC": np.sqrt(((found - wanted) ** 2).mean(axis=(1, 2))),
            "RMSECV": np.sqrt(press / sizes.sum()),
            "standard_error": error,
            "PRESS": press,
        }
    )
    return LatentVariableCurve(
        table.with_columns((pl.col("PRESS").shift(-1) / pl.col("PRESS")).alias("R")), scale, chosen
    )


def _spectra(x: Any) -> Array:
    if isinstance(x, tuple | list) and len(x) and np.ndim(x[0]) == 2:
        if len(x) > 1:
            raise ValueError(f"there are spectra of {len(x)} sources; take one, or src_concat=True.")
        x = x[0]
    spectra = np.asarray(x)
    if spectra.ndim != 2 or not spectra.size:
        raise ValueError(f"spectra have shape (n, wavelength), not {spectra.shape}; for instance layout='2d'.")
    if not np.isfinite(spectra).all():
        raise ValueError("the spectra hold NaN or infinite values; a PLS needs all of them.")
    return spectra


def _targets(y: Any) -> Array:
    values = np.asarray(y)
    if values.dtype.kind not in "fiub" or values.ndim not in (1, 2):
        raise ValueError(f"targets are numbers of shape (n,) or (n, target), not {values.dtype} of {values.shape}.")
    values = values.astype(np.float64).reshape(len(values), -1)
    if not np.isfinite(values).all():
        lost = int((~np.isfinite(values)).any(axis=1).sum())
        raise ValueError(f"{lost} of {len(values)} samples have no finite target; leave them out by a filter.")
    return values


def _folds(cv: Any, x: Array, y: Array, groups: Sequence[Any] | None) -> list[tuple[Array, Array]]:
    if hasattr(cv, "split") and not isinstance(cv, str):
        given: Iterable[Any] = split_together(cv, x, y[:, 0] if y.shape[1] == 1 else y, groups)
    elif groups is not None:
        raise ValueError("groups go with a splitter; an iterable of (train, val) says itself what stays together.")
    else:
        try:
            given = list(cv)
        except TypeError:
            raise TypeError(
                f"cv is a splitter, such as KFold(5), or an iterable of (train, val), not {cv!r}."
            ) from None
    folds = []
    for k, fold in enumerate(given):
        try:
            train, val = fold
        except (TypeError, ValueError):
            raise TypeError(f"fold {k} is not (train, val), arrays of places in x: {fold!r}.") from None
        sides = [_places(train, len(x), k), _places(val, len(x), k)]
        both = np.intersect1d(sides[0], sides[1])
        if len(both):
            raise ValueError(f"fold {k}: sample {both[0]} trains and validates.")
        folds.append((sides[0], sides[1]))
    if not folds:
        raise ValueError("there is no fold.")
    return folds


def _places(given: Any, count: int, k: int) -> Array:
    side = np.asarray(given)
    if side.dtype == bool and side.shape == (count,):
        side = np.flatnonzero(side)
    if side.ndim != 1 or not len(side) or side.dtype.kind not in "iu":
        raise ValueError(f"fold {k}: a side is an array of places, or a mask of {count}, with at least one sample.")
    if side.min() < 0 or side.max() >= count:
        raise ValueError(f"fold {k}: place {side.min() if side.min() < 0 else side.max()} of {count} samples.")
    return side


def _copied(x: Array, places: Array) -> Array:
    """Return some lines as float64 of their own, which the engines may write to."""
    return np.asarray(x[places], dtype=np.float64)


def _engine(engine: str | None) -> str:
    if engine not in (None, "ikpls", "sklearn"):
        raise ValueError(f"engine is 'ikpls', 'sklearn' or None, not {engine!r}.")
    if engine == "sklearn":
        return "sklearn"
    there = importlib.util.find_spec("ikpls") is not None
    if engine == "ikpls" and not there:
        raise ImportError("ikpls is not installed: python -m pip install 'spectroxr[learn]'", name="ikpls")
    return "ikpls" if there else "sklearn"


def _by_ikpls(x: Array, y: Array, unknown: Array, count: int, scale: bool) -> Array:
    """Return predictions of shape (latent variables, sample, target)."""
    from ikpls.numpy import PLS

    # its own fast cross-validation takes only folds that part the samples, and was not faster on spectra
    model = PLS(algorithm=1, scale_X=scale, scale_Y=scale, ddof=1, copy=False)
    model.fit(x, y, count)
    return np.asarray(model.predict(unknown))


def _by_sklearn(x: Array, y: Array, unknown: Array, count: int, scale: bool) -> Array:
    """Return predictions of shape (latent variables, sample, target)."""
    from sklearn.cross_decomposition import PLSRegression

    spread = np.where(np.ptp(y, axis=0) == 0, 1.0, y.std(axis=0, ddof=1)) if scale else np.ones(y.shape[1])
    mean = y.mean(axis=0)
    # of several targets NIPALS finds weights by iteration; the tolerance is that of their squared change
    model = PLSRegression(count, scale=scale, copy=False, tol=1e-20, max_iter=10_000).fit(x, y)
    scores = model.transform(unknown)
    # what is left of spectra that have no more latent variables is rounding: ikpls leaves that out by the same rule
    squares = (model.x_scores_**2).sum(axis=0)
    stable = np.logical_and.accumulate(squares > np.finfo(np.float64).eps * np.maximum.accumulate(squares))
    parts = (scores * stable).T[:, :, None] * model.y_loadings_.T[:, None, :]
    return np.asarray(np.cumsum(parts, axis=0) * spread + mean)
