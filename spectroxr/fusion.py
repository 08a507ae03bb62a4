"""Block-scaled fusion: spectra of several instruments side by side, each with the same weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from spectroxr.schema import Array

__all__ = ["BlockScaler"]


class BlockScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Centre columns, and scale blocks of them so that all have the same total variance.

    Each block is divided by the square root of the sum of the variances of its columns, so its total variance is one,
    however many wavelengths it has and in whatever unit it was measured. Within a block, columns keep their
    proportions.

    Parameters
    ----------
    widths : sequence of int, optional
        Number of columns of each block, from the left (default: all columns are one block).

    Attributes
    ----------
    mean_ : ndarray, shape (column,)
        Of the rows it was fitted on.
    scale_ : ndarray, shape (block,)
        What the columns of each block are divided by; 1 for a block that does not vary.

    Notes
    -----
    Block scaling to equal sums of squares, as in J. A. Westerhuis, T. Kourti and J. F. MacGregor, "Analysis of
    multiblock and hierarchical PCA and PLS models", Journal of Chemometrics 12 (1998) 301-321. An estimator that scales
    every column again, as scikit-learn's ``PLSRegression`` does by default, undoes it: take ``scale=False``.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x = np.hstack([rng.normal(size=(50, 100)), 1000 * rng.normal(size=(50, 3))])
    >>> scaled = BlockScaler([100, 3]).fit_transform(x)
    >>> [float(block.var(axis=0, ddof=1).sum().round(6)) for block in (scaled[:, :100], scaled[:, 100:])]
    [1.0, 1.0]
    """

    def __init__(self, widths: Sequence[int] | None = None) -> None:
        self.widths = widths

    def fit(self, X: Any, y: Any = None) -> BlockScaler:
        """Find the mean of each column and the total variance of each block.

        Parameters
        ----------
        X : array_like, shape (row, column)
            At least two rows of finite numbers.
        y : ignored

        Returns
        -------
        BlockScaler
            This one.

        Raises
        ------
        ValueError
            If the widths are not positive, or do not add up to the number of columns.
        """
        x = validate_data(self, X, dtype=(np.float64, np.float32), ensure_min_samples=2)
        widths = [x.shape[1]] if self.widths is None else list(self.widths)
        if any(width < 1 for width in widths) or sum(widths) != x.shape[1]:
            raise ValueError(f"blocks of {widths} columns do not make the {x.shape[1]} columns of these spectra.")
        self.mean_ = x.mean(axis=0, dtype=np.float64).astype(x.dtype)
        starts = np.concatenate([[0], np.cumsum(widths)[:-1]]).astype(np.intp)
        total = np.add.reduceat(x.var(axis=0, ddof=1, dtype=np.float64), starts)
        self.scale_ = np.where(total > 0, np.sqrt(total), 1.0)
        self._divisor = np.repeat(self.scale_, widths).astype(x.dtype)
        return self

    def transform(self, X: Any) -> Array:
        """Return the rows centred and scaled.

        Parameters
        ----------
        X : array_like, shape (row, column)

        Returns
        -------
        ndarray, shape (row, column)
            A new array, float32 if `X` is, else float64.
        """
        check_is_fitted(self)
        x = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        scaled = np.subtract(x, self.mean_, dtype=x.dtype)
        scaled /= self._divisor.astype(x.dtype, copy=False)
        return np.asarray(scaled)
