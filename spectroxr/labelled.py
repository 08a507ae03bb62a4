"""Estimators that know the axis they were fitted on, and what a model says of it: loadings, coefficients, VIP."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from spectroxr.axis import Axis
from spectroxr.schema import Array
from spectroxr.spectrum import axis_of_spectra, check_axis, described, matrix_of, wavelength_coords, wavelength_names
from spectroxr.steps import axis_after, names_after

if TYPE_CHECKING:
    import xarray as xr

F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["OnAxis", "coefficients", "loadings", "vip"]


def _offered(method: str) -> Callable[[F], F]:
    """Return a decorator for a method that is there if the estimator inside has one."""

    def check(self: Any) -> bool:
        return hasattr(getattr(self, "estimator_", self.estimator), method)

    return available_if(check)  # type: ignore[no-any-return]


class OnAxis(BaseEstimator):  # type: ignore[misc]
    """An estimator that remembers the wavelengths it was fitted on.

    It hands spectra on as numpy views, refuses those of another axis, and gives transformed spectra their coordinates
    back. It has the methods of the estimator inside, and stands anywhere an estimator does.

    Parameters
    ----------
    estimator : estimator
        A transformer, regressor or classifier of scikit-learn or chemotools, or a pipeline. A clone is fitted.
    wavelength : array_like or DataArray, optional
        The axis of spectra that come as plain arrays. Those that come as DataArrays bring their own.

    Attributes
    ----------
    estimator_ : estimator
        The fitted clone.
    wavelength_ : ndarray, shape (wavelength,)
        Read-only.
    feature_names_in_ : ndarray of object, shape (wavelength,)
        The wavelengths as text: ``"1100"``, ``"914.29435"``, or with their source, ``"nir 1100"``, where sources were
        merged.
    n_features_in_ : int

    Notes
    -----
    Spectra have shape (row, wavelength), or (row, 1, wavelength), which ``ds.sel(...)`` and ``ds["nir"]`` hand out.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.decomposition import PCA
    >>> from spectroxr import SpectroDataset
    >>> ds = SpectroDataset()
    >>> ds.add_features({"nir": np.random.default_rng(0).random((8, 5))}, wavelength=[1100, 1102, 1104, 1106, 1108])
    >>> pca = OnAxis(PCA(2)).fit(ds["nir"])
    >>> pca.feature_names_in_.tolist()
    ['1100', '1102', '1104', '1106', '1108']
    >>> scores = pca.transform(ds["nir"])
    >>> scores.dims, scores["sample"].values.tolist()
    (('row', 'latent_variable'), [0, 1, 2, 3, 4, 5, 6, 7])
    >>> loadings(pca).dims
    ('latent_variable', 'wavelength')
    """

    def __init__(self, estimator: Any, wavelength: Any = None) -> None:
        self.estimator = estimator
        self.wavelength = wavelength

    def fit(self, X: Any, y: Any = None, **params: Any) -> OnAxis:
        """Fit a clone of the estimator, and keep the axis.

        Parameters
        ----------
        X : DataArray or array_like, shape (row, wavelength) or (row, 1, wavelength)
        y : array_like, optional
        **params
            For the estimator.

        Returns
        -------
        OnAxis
            This one.

        Raises
        ------
        ValueError
            If nothing says what axis the spectra have, it is not that of `wavelength`, or they have several
            processings.
        TypeError
            If the axis does not hold numbers.
        """
        x = matrix_of(X)
        axis = axis_of_spectra(X, self.wavelength, x.shape[1])
        self.estimator_ = clone(self.estimator).fit(x, y, **params)
        self._axis = axis
        self.wavelength_ = axis.values
        self.n_features_in_ = len(axis)
        self.feature_names_in_ = wavelength_names(axis)
        return self

    def _given(self, X: Any) -> Array:
        check_is_fitted(self, "estimator_")
        check_axis(X, self._axis)
        return matrix_of(X)

    @_offered("transform")
    def transform(self, X: Any) -> Any:
        """Return transformed spectra.

        Parameters
        ----------
        X : DataArray or array_like, shape (row, wavelength) or (row, 1, wavelength)
            Of the axis of `fit`.

        Returns
        -------
        DataArray or ndarray, shape (row, wavelength) or (row, latent_variable)
            Of a DataArray a DataArray with its row coordinates and the wavelengths that are left, or latent variables
            1, 2, ... where others came out; of an array an array.

        Raises
        ------
        ValueError
            If the axis is another one.
        """
        x = self._given(X)
        made = self.estimator_.transform(x)
        axis = self._axis_out(made.shape[1])
        return described(made, X, axis)

    @_offered("transform")
    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit to spectra and return them transformed."""
        return self.fit(X, y, **params).transform(X)

    @_offered("predict")
    def predict(self, X: Any) -> Array:
        """Return what the estimator predicts, an array."""
        x = self._given(X)
        return np.asarray(self.estimator_.predict(x))

    @_offered("predict_proba")
    def predict_proba(self, X: Any) -> Array:
        """Return probabilities, shape (row, class)."""
        x = self._given(X)
        return np.asarray(self.estimator_.predict_proba(x))

    @_offered("decision_function")
    def decision_function(self, X: Any) -> Array:
        """Return decision values of the classes."""
        x = self._given(X)
        return np.asarray(self.estimator_.decision_function(x))

    @_offered("score")
    def score(self, X: Any, y: Any = None) -> float:
        """Return the score of the estimator: R2 of a regressor, accuracy of a classifier."""
        x = self._given(X)
        return float(self.estimator_.score(x, y))

    @property
    def classes_(self) -> Array:
        """The classes of a classifier."""
        return np.asarray(self.estimator_.classes_)

    def _axis_out(self, width: int) -> Axis | None:
        return axis_after(names_after(self.estimator_, _positions(self._axis), width), width, self._axis)

    @_offered("transform")
    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return the names of transformed columns: wavelengths as text, or those the estimator gives.

        Parameters
        ----------
        input_features : array_like of str, optional
            Other names for the wavelengths.

        Returns
        -------
        ndarray of object
        """
        check_is_fitted(self, "estimator_")
        names = self.feature_names_in_ if input_features is None else np.asarray(input_features, dtype=object)
        if len(names) != self.n_features_in_:
            raise ValueError(f"{len(names)} names for {self.n_features_in_} wavelengths.")
        ask = getattr(self.estimator_, "get_feature_names_out", None)
        if ask is None:  # it keeps the axis, or nobody knows
            return names
        kept = [str(name) for name in ask(_positions(self._axis))]
        known = all(name.isdecimal() and int(name) < len(names) for name in kept)
        return names[[int(name) for name in kept]] if known else np.array(kept, dtype=object)

    def __sklearn_tags__(self) -> Any:
        return get_tags(self.estimator)


def loadings(estimator: Any, axis: Any = None) -> xr.DataArray:
    """Return the loadings of a PCA or PLS over the wavelengths.

    Parameters
    ----------
    estimator : estimator
        Fitted; or a pipeline or search whose last step it is, behind steps that keep or select wavelengths.
    axis : array_like, DataArray or Axis, optional
        The wavelengths of the spectra that went in. Not needed for an `OnAxis`.

    Returns
    -------
    DataArray, shape (latent_variable, wavelength)
        ``x_loadings_`` of a PLS, ``components_`` of a PCA. ``attrs["scale"]`` tells whether the columns were scaled to
        unit variance by the PLS itself, which scikit-learn's does by default.

    Raises
    ------
    TypeError
        If the estimator has no loadings.
    ValueError
        If the axis is missing or of another length, or a step makes scores of it.
    """
    model, given = _model_on(estimator, axis)
    found = getattr(model, "x_loadings_", None)
    values = getattr(model, "components_", None) if found is None else found.T
    if values is None or np.ndim(values) != 2:
        raise TypeError(f"a {type(model).__name__} has no loadings; a PCA and a PLS have.")
    return _over("latent_variable", None, values, given, "loading", model)


def coefficients(estimator: Any, axis: Any = None, targets: Sequence[Any] | None = None) -> xr.DataArray:
    """Return the regression or discriminant coefficients of a linear model over the wavelengths.

    Parameters
    ----------
    estimator, axis
        As in `loadings`: a PLS, or a linear model such as ``Ridge`` or ``LinearDiscriminantAnalysis``.
    targets : sequence, optional
        Names of the targets (default: the classes, or 0, 1, ...).

    Returns
    -------
    DataArray, shape (target, wavelength)
        Per unit of the spectra as the last step gets them. Those of a PLS are for spectra that are not scaled, whatever
        its ``scale``.

    Raises
    ------
    TypeError
        If the estimator has no coefficients.
    ValueError
        If the axis is missing or of another length, a step makes scores of it, or there are more or fewer targets.
    """
    model, given = _model_on(estimator, axis)
    values = getattr(model, "coef_", None)
    if values is None:
        raise TypeError(f"a {type(model).__name__} has no coefficients; linear models and a PLS have.")
    values = np.atleast_2d(values.toarray() if hasattr(values, "toarray") else values)
    names: Any = targets
    if names is None:
        classes = getattr(model, "classes_", range(len(values)))
        # of two classes, the coefficients are those of the second
        names = classes if len(classes) == len(values) else classes[1:]
    if len(names) != len(values):
        raise ValueError(f"{len(names)} names for {len(values)} targets.")
    return _over("target", names, values, given, "coefficient", model)


def vip(estimator: Any, axis: Any = None) -> xr.DataArray:
    """Return the variable importance in projection of a PLS over the wavelengths.

    Parameters
    ----------
    estimator, axis
        As in `loadings`: a PLS.

    Returns
    -------
    DataArray, shape (wavelength,)
        The mean of its squares is one.

    Raises
    ------
    TypeError
        If the estimator is no PLS.
    ValueError
        If the axis is missing or of another length, or a step makes scores of it.

    Notes
    -----
    ``VIP_j = sqrt(p * sum_a(SS_a * w_ja ** 2) / sum_a(SS_a))`` for p wavelengths, where ``w_a`` are the weights of
    latent variable a, of unit length, and ``SS_a = sum_k(q_ka ** 2) * sum_i(t_ia ** 2)`` is the sum of squares of the
    targets that it explains.

    References
    ----------
    Wold S., Johansson E., Cocchi M. (1993), PLS: partial least squares projections to latent structures, in Kubinyi H.
    (ed.), 3D QSAR in Drug Design, ESCOM, Leiden, 523-550. Chong I.-G., Jun C.-H. (2005), Chemometrics and Intelligent
    Laboratory Systems 78, 103-112.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.cross_decomposition import PLSRegression
    >>> x = np.random.default_rng(0).random((30, 4))
    >>> pls = PLSRegression(2, scale=False).fit(x, 3 * x[:, 1])
    >>> int(vip(pls, [1100, 1200, 1300, 1400]).idxmax())
    1200
    """
    model, given = _model_on(estimator, axis)
    parts = [getattr(model, name, None) for name in ("x_weights_", "x_scores_", "y_loadings_")]
    if any(part is None for part in parts):
        raise TypeError(f"a {type(model).__name__} has no VIP; a PLS has.")
    weights, scores, targets = (np.asarray(part) for part in parts)
    explained = (targets**2).sum(axis=0) * (scores**2).sum(axis=0)
    weights = weights / np.linalg.norm(weights, axis=0)
    values = np.sqrt(len(weights) * (weights**2 @ explained) / explained.sum())
    return _over(None, None, values, given, "VIP", model)


def _positions(axis: Axis) -> Array:
    return np.array([str(k) for k in range(len(axis))], dtype=object)


def _model_on(estimator: Any, axis: Any) -> tuple[Any, Axis]:
    """Return the last step of a fitted estimator, and the axis of what it gets."""
    steps, given = _flat(estimator)
    if axis is None and given is None:
        raise ValueError("nothing says what wavelengths the estimator was fitted on; give axis, such as ds['nir'].")
    width = int(steps[0].n_features_in_)
    there = given if axis is None else axis_of_spectra(None, axis, width)
    if given is not None and there is not None and not given.same_as(there.values):
        raise ValueError("axis is not the one that the estimator was fitted on.")
    if there is None or len(there) != width:
        raise ValueError(f"axis has {0 if there is None else len(there)} wavelengths, the estimator {width}.")
    names: Any = _positions(there)
    for step, following in itertools.pairwise(steps):
        count = int(following.n_features_in_)
        names = names_after(step, names, count)
        left = axis_after(names, count, there)
        if left is None or (left is not there and left.attrs.get("quantity") == "score"):
            raise ValueError(
                f"what comes out of step {type(step).__name__} are not wavelengths, so that the last step has none."
            )
    left = axis_after(names, len(names), there)
    assert left is not None
    return steps[-1], left


def _flat(estimator: Any) -> tuple[list[Any], Axis | None]:
    """Return the fitted steps one by one, and the axis of the first if it knows it."""
    if isinstance(estimator, OnAxis):
        check_is_fitted(estimator, "estimator_")
        return _flat(estimator.estimator_)[0], estimator._axis
    best = getattr(estimator, "best_estimator_", None)
    if best is not None:
        return _flat(best)
    inside = getattr(estimator, "steps", None)
    if isinstance(inside, list):
        parts = [_flat(step) for _, step in inside if step not in (None, "passthrough")]
        return [one for steps, _ in parts for one in steps], parts[0][1]
    check_is_fitted(estimator)
    return [estimator], None


def _over(dim: str | None, names: Any, values: Array, axis: Axis, what: str, model: Any) -> xr.DataArray:
    import xarray as xr

    coords = wavelength_coords(axis)
    if dim is not None:
        labels = np.arange(1, len(values) + 1) if names is None else np.asarray(list(names))
        coords[dim] = (dim, labels)
    scale = getattr(model, "scale", None)
    attrs = {"long_name": what} | ({"scale": scale} if isinstance(scale, bool) else {})
    dims = ("wavelength",) if dim is None else (dim, "wavelength")
    return xr.DataArray(np.asarray(values), coords, dims, name=what, attrs=attrs)
