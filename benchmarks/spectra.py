"""The datasets that are measured."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import polars as pl

from spectroxr import SpectroDataset

SAMPLES, VARIANTS, BANDS = 10_000, 4, 1000
NAMES = ["raw", "snv", "d1", "d2"]


@functools.cache
def spectra() -> np.ndarray[Any, Any]:
    """Spectra of the common size, 10 000 x 4 x 1000 float32."""
    return np.random.default_rng(1).random((SAMPLES, VARIANTS, BANDS), dtype=np.float32)


@functools.cache
def split_labels(shuffled: bool) -> pl.Series:
    """A partition of four fifths to train, at random or in one piece."""
    train = np.arange(SAMPLES) < SAMPLES * 4 // 5
    if shuffled:
        train = np.random.default_rng(2).permutation(train)
    return pl.Series(np.where(train, "train", "test"))


@functools.cache
def train_rows() -> np.ndarray[Any, Any]:
    """Rows of the random split's larger part."""
    return np.flatnonzero((split_labels(True) == "train").to_numpy())


def dataset(shuffled: bool, array: np.ndarray[Any, Any] | None = None) -> SpectroDataset:
    """A dataset that has not been asked anything yet, over the spectra without a copy of them."""
    ds = SpectroDataset()
    array = spectra() if array is None else array
    names = NAMES[: array.shape[1]]
    ds.add_features({"nir": array}, processing=names, partition=split_labels(shuffled), copy=False)
    return ds


def untouched(rows: int, variants: int, bands: int) -> np.ndarray[Any, Any]:
    """Zeros that take address space and no memory, for what must not read spectra."""
    return np.zeros((rows, variants, bands), dtype=np.float32)
