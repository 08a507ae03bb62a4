"""Means, deviations, cross products and quantiles of blocks of spectra, and of blocks together: arrays alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np

from spectroxr.schema import Array

__all__ = ["Moments", "group_quantiles", "joined", "joined_products", "products"]

#: Copies in float64 are made of about this many bytes at a time.
_PIECE_BYTES = 1 << 22


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of each group of a block."""

    groups: int

    def __call__(self, block: Array, codes: Array) -> tuple[Array, Array, Array]:
        """Return them of spectra (n, feature) whose groups are `codes`: (group,), and twice (group, feature)."""
        return reduce(joined, (self._piece(x, c) for x, c in _pieces(block, codes)))

    def _piece(self, block: Array, codes: Array) -> tuple[Array, Array, Array]:
        count = np.bincount(codes, minlength=self.groups).astype(np.float64)
        mean = np.zeros((self.groups, block.shape[1]))
        squares = np.zeros_like(mean)
        for group in np.flatnonzero(count):
            some = block if count[group] == len(block) else block[codes == group]
            mean[group] = some.mean(axis=0, dtype=np.float64)
            rest = some - mean[group]
            squares[group] = np.einsum("ij,ij->j", rest, rest)
        return count, mean, squares


def joined(one: tuple[Array, Array, Array], other: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    """Return the moments of two blocks together."""
    (n, mean, squares), (m, second, more) = one, other
    total = n + m
    share = np.divide(m, total, out=np.zeros_like(total), where=total > 0)[:, None]
    step = second - mean
    return total, mean + step * share, squares + more + step**2 * (n[:, None] * share)


def _pieces(block: Array, beside: Array) -> Iterator[tuple[Array, Array]]:
    """Yield some rows of a block at a time, so that its copies in float64 stay small."""
    step = max(64, _PIECE_BYTES // max(1, 8 * block.shape[1]))
    for start in range(0, len(block), step):
        yield block[start : start + step], beside[start : start + step]


def products(block: Array, y: Array) -> tuple[float, Array, Array]:
    """Return the count, the means, and the centred cross products of spectra and targets side by side."""
    return reduce(joined_products, (_of_piece(x, part) for x, part in _pieces(block, y)))


def _of_piece(block: Array, y: Array) -> tuple[float, Array, Array]:
    both = np.concatenate([block.astype(np.float64, copy=False), y], axis=1)
    mean = both.mean(axis=0)
    both = both - mean
    return float(len(both)), mean, both.T @ both


def joined_products(one: tuple[float, Array, Array], other: tuple[float, Array, Array]) -> tuple[float, Array, Array]:
    """Return the cross products of two blocks together."""
    (n, mean, centred), (m, second, more) = one, other
    step = second - mean
    return n + m, mean + step * (m / (n + m)), centred + more + np.outer(step, step) * (n * m / (n + m))


def group_quantiles(values: Array, codes: Array, groups: int, wanted: Array) -> Array:
    """Return quantiles (quantile, group, processing, wavelength); `values` may be sorted in place."""
    out = np.full((len(wanted), groups, *values.shape[1:]), np.nan)
    for group in range(groups):
        inside = values if groups == 1 else values[codes == group]
        out[:, group] = np.quantile(inside, wanted, axis=0, overwrite_input=True)
    return out
