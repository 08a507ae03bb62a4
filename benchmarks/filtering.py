"""Filters on the index of a million samples."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import polars as pl
from figures import Effort, Figure, spread
from measure import Call, in_turns
from spectra import NAMES, untouched

from spectroxr import SpectroDataset

SAMPLES = 1_000_000
LIMIT = 10e-3


@functools.cache
def _columns() -> tuple[pl.Series, pl.DataFrame]:
    rng = np.random.default_rng(5)
    partition = pl.Series(np.where(rng.random(SAMPLES) < 0.8, "train", "test"))
    site = pl.Series(np.array(["north", "south", "east", "west"])[rng.integers(0, 4, SAMPLES)])
    return partition, pl.DataFrame({"site": site, "moisture": rng.random(SAMPLES)})


def _million(variants: int) -> SpectroDataset:
    """A dataset with a random partition and two columns of metadata."""
    partition, meta = _columns()
    ds = SpectroDataset()
    array = untouched(SAMPLES, variants, 2)
    ds.add_features({"nir": array}, processing=NAMES[:variants], partition=partition, copy=False)
    ds.add_meta(meta)
    return ds


def _forgotten(ds: SpectroDataset) -> SpectroDataset:
    """Let the index count as changed: nothing that was kept for it holds any more."""
    ds.features.index.adopt(ds.features.index)
    return ds


def _resolve(ds: SpectroDataset, filter: Any) -> Any:
    """Find samples, rows and processings of a filter, as every getter does first; no spectrum is read."""
    return ds.features.resolver.resolve(filter, ds.features.cells.epoch)


def _rows(array: Any) -> Any:
    return np.asarray(array).nonzero()[0]


def filters(effort: Effort) -> list[Figure]:
    """Each filter as if for the first time: after a change of the index."""
    partition, meta = _columns()
    site, moisture = meta["site"].to_numpy(), meta["moisture"].to_numpy()
    some = np.random.default_rng(6).permutation(SAMPLES)[: SAMPLES // 10]
    train = partition.to_numpy() == "train"
    everyone = np.arange(SAMPLES)
    cases: list[tuple[str, Any, Any]] = [
        ('{"partition": "train"}', {"partition": "train"}, _rows(train)),
        ('{"partition": ["train", "val"]}', {"partition": ["train", "val"]}, _rows(train)),
        ('{"sample": slice(1000, 500_000)}', {"sample": slice(1000, 500_000)}, everyone[1000:500_001]),
        ('{"sample": 100 000 ids}', {"sample": some}, np.sort(some)),
        ('{"site": "north"}, metadata', {"site": "north"}, _rows(site == "north")),
        (
            '{"moisture": slice(0.2, 0.4)}, metadata',
            {"moisture": slice(0.2, 0.4)},
            _rows((moisture >= 0.2) & (moisture <= 0.4)),
        ),
        (
            "pl.col('moisture') < 0.3, metadata",
            pl.col("moisture") < 0.3,
            _rows(moisture < 0.3),
        ),
        (
            '{"partition": "train", "site": "north"}',
            {"partition": "train", "site": "north"},
            _rows(train & (site == "north")),
        ),
        ('{"processing": "raw", "partition": "train"}', {"processing": "raw", "partition": "train"}, _rows(train)),
        ('{"branch": 0}', {"branch": 0}, everyone),
    ]
    figures = []
    for variants in (1, 4):
        ds = _million(variants)
        for what, filter, expected in cases:
            found = _resolve(ds, filter)
            if not np.array_equal(found.samples, expected):
                raise AssertionError(f"the filter {what} selects other samples")
        calls = {
            what: Call(lambda ds, f=filter: _resolve(ds, f), prepare=lambda ds=ds: _forgotten(ds))
            for what, filter, _ in cases
        }
        times = in_turns(calls, effort.times(15, 5))
        for what in calls:
            figures.append(
                Figure(
                    "filter",
                    f"{what}, {variants} processing{'s' if variants > 1 else ''}",
                    "< 10 ms",
                    spread(times[what]),
                    times[what].median < LIMIT,
                    {"seconds": times[what].seconds},
                )
            )
    return figures
