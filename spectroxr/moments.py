"""Means, deviations, cross products and quantiles of blocks of spectra, and of blocks together: arrays alone.

None depends on where the blocks are cut, but for rounding. A column with a NaN, or with infinities of both signs, has
the mean NaN; one with infinities of one sign has that infinity; a finite one has a finite mean, even if its sum
overflows. What is squared is NaN where the mean is not finite, and inf where squares of finite values overflow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias

import numpy as np

from spectroxr.schema import Array

__all__ = ["Moments", "group_quantiles", "joined", "joined_products", "products"]

#: Copies in float64 are made of about this many bytes at a time.
_PIECE_BYTES = 1 << 22

#: Counts, means and squares, in float64.
Sums: TypeAlias = tuple[Array, Array, Array]


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of each group of a block."""

    groups: int

    def __call__(self, block: Array, codes: Array) -> Sums:
        """Return them of spectra (n, feature) whose groups are `codes`: (group,), and twice (group, feature)."""
        return reduce(joined, (self._piece(x, c) for x, c in _pieces(block, codes)))

    def _piece(self, block: Array, codes: Array) -> Sums:
        count = np.bincount(codes, minlength=self.groups).astype(np.float64)
        mean = np.zeros((self.groups, block.shape[1]))
        squares = np.zeros_like(mean)
        for group in np.flatnonzero(count):
            some = block if count[group] == len(block) else block[codes == group]
            mean[group] = _means(some)
            with np.errstate(over="ignore", invalid="ignore"):
                rest = some - mean[group]
                squares[group] = np.einsum("ij,ij->j", rest, rest)
        squares[~np.isfinite(mean)] = np.nan
        return count, mean, squares


def joined(one: Sums, other: Sums) -> Sums:
    """Return the moments of two blocks together."""
    (n, mean, squares), (m, second, more) = one, other
    middle, step = _together(n[:, None], mean, m[:, None], second)
    with np.errstate(over="ignore", invalid="ignore"):
        total = squares + more + step**2
    total[~np.isfinite(middle)] = np.nan
    return n + m, middle, total


def products(block: Array, y: Array) -> Sums:
    """Return the count, the means, and the centred cross products of spectra and targets side by side."""
    return reduce(joined_products, (_of_piece(x, part) for x, part in _pieces(block, y)))


def _of_piece(block: Array, y: Array) -> Sums:
    both = np.concatenate([block.astype(np.float64, copy=False), y], axis=1)
    mean = _means(both) if len(both) else np.zeros(both.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        both = both - mean
        centred = both.T @ both
    return np.array(float(len(both))), mean, _marked(centred, mean)


def joined_products(one: Sums, other: Sums) -> Sums:
    """Return the cross products of two blocks together."""
    (n, mean, centred), (m, second, more) = one, other
    middle, step = _together(n, mean, m, second)
    with np.errstate(over="ignore", invalid="ignore"):
        total = centred + more + np.outer(step, step)
    return n + m, middle, _marked(total, middle)


def _marked(matrix: Array, mean: Array) -> Array:
    """Return cross products, changed in place: NaN in the rows and columns of what has no finite mean."""
    odd = ~np.isfinite(mean)
    matrix[odd] = np.nan
    matrix[:, odd] = np.nan
    return matrix


def _means(values: Array) -> Array:
    """Return the mean of each column of some rows, in float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean: Array = values.mean(axis=0, dtype=np.float64)
        odd = np.flatnonzero(~np.isfinite(mean))
        if len(odd):
            some = values[:, odd].astype(np.float64)
            finite = np.isfinite(some)
            # only what is not finite counts beside it, not a sum of finite values that overflows
            mean[odd] = np.where(finite, 0.0, some).sum(axis=0)
            whole = finite.all(axis=0)
            large = some[:, whole]
            scaled = np.ldexp(np.ldexp(large, -64).mean(axis=0), 64)
            mean[odd[whole]] = np.clip(scaled, large.min(axis=0), large.max(axis=0))
    return mean


def _together(n: Array, mean: Array, m: Array, second: Array) -> tuple[Array, Array]:
    """Return the mean of two blocks, and the step between theirs, scaled: its square is added to those of both."""
    total = n + m
    share = np.divide(m, total, out=np.zeros_like(total), where=total > 0)
    with np.errstate(over="ignore", invalid="ignore"):
        step = second - mean
        middle = mean + step * share
        odd = ~np.isfinite(step)
        if odd.any():
            far = np.isfinite(mean) & np.isfinite(second)
            beside = np.where(far, mean * (1 - share) + second * share, mean + second)
            middle = np.where(odd, beside, middle)
        return middle, step * np.sqrt(n * share)


def _pieces(block: Array, beside: Array) -> Iterator[tuple[Array, Array]]:
    """Yield some rows of a block at a time, so that its copies in float64 stay small; an empty block is one piece."""
    step = max(64, _PIECE_BYTES // max(1, 8 * block.shape[1]))
    for start in range(0, max(1, len(block)), step):
        yield block[start : start + step], beside[start : start + step]


def group_quantiles(values: Array, codes: Array, groups: int, wanted: Array) -> Array:
    """Return quantiles (quantile, group, processing, wavelength); `values` may be sorted in place."""
    out = np.full((len(wanted), groups, *values.shape[1:]), np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        for group in range(groups):
            inside = values if groups == 1 else values[codes == group]
            out[:, group] = np.quantile(inside, wanted, axis=0, overwrite_input=True)
    return out
