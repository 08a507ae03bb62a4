"""Cross-validating a PLS: time and peak memory, against the same loop by hand; memory in processes of its own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

import numpy as np
import polars as pl
from figures import Effort, Figure, duration, volume
from measure import Call, Ratio, claim, in_turns, peak_resident
from sklearn.cross_decomposition import PLSRegression
from sklearn.model_selection import KFold
from storing import spectra
from threadpoolctl import threadpool_limits

from spectroxr import SpectroDataset

COMPONENTS = 10
#: Samples, in all with 700 wavelengths in float32; the second is the size of the nirsoil set.
SIZES = {"5000 x 700": 5000, "825 x 700": 825}


def _targets(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(7)
    return x[:, ::50] @ rng.random(14) + rng.normal(0, 0.01, len(x))


def _dataset(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> SpectroDataset:
    ds = SpectroDataset()
    ds.add_features({"nir": x}, copy=False)
    ds.add_targets(pl.DataFrame({"protein": y}))
    return ds


def _by_ds(ds: SpectroDataset) -> Any:
    return ds.cross_validate(PLSRegression(COMPONENTS, scale=False), cv=_splitter())


def _by_hand(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    found = np.empty(len(y))
    for train, val in _splitter().split(x):
        pls = PLSRegression(COMPONENTS, scale=False).fit(x[train], y[train])
        found[val] = pls.predict(x[val]).ravel()
    return found


def _splitter() -> KFold:
    return KFold(5, shuffle=True, random_state=1)


def validating(effort: Effort) -> list[Figure]:
    """Five folds of a PLS through `cross_validate`, and by hand."""
    figures = []
    for what, samples in SIZES.items():
        x = spectra(samples)
        y = _targets(x)
        lines = _by_ds(_dataset(x, y)).sort("sample")
        if not np.array_equal(lines["preds"].to_numpy(), _by_hand(x, y)):
            raise AssertionError("cross_validate predicts otherwise than the loop by hand")
        with threadpool_limits(1):  # threads of BLAS wait for cores that others use, and that is what one would time
            times = in_turns(
                {
                    "ds": Call(_by_ds, prepare=lambda x=x, y=y: _dataset(x, y)),
                    "hand": Call(lambda _, x=x, y=y: _by_hand(x, y), prepare=lambda: None),
                },
                effort.times(25, 9),
            )
        ratio = Ratio.of(times["ds"], times["hand"])
        figures.append(
            Figure(
                "validate",
                f"PLS, {COMPONENTS} latent variables, five folds, {what}",
                "<= 1.1x the loop by hand",
                f"{ratio}, {duration(times['ds'].median)}",
                ratio.value <= 1.1,
                {"seconds": {k: t.seconds for k, t in times.items()}},
            )
        )
        peaks = {how: [_peak(how, samples) for _ in range(effort.times(5, 3))] for how in ("ds", "hand")}
        middle = {how: statistics.median(values) for how, values in peaks.items()}
        share = middle["ds"] / middle["hand"]
        figures.append(
            Figure(
                "validate",
                f"the same, {what}: resident peak of a process",
                "<= 1.1x the loop by hand",
                f"{share:.2f}x, {volume(middle['ds'])} against {volume(middle['hand'])}",
                share <= 1.1,
                {"bytes": peaks},
            )
        )
    return figures


def _peak(how: str, samples: int) -> float:
    command = [sys.executable, __file__, how, str(samples)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout))


def _worker(how: str, samples: int) -> float:
    few = spectra(60)
    small = _targets(few)
    _by_ds(_dataset(few, small))  # what is imported late
    _by_hand(few, small)
    x = spectra(samples)
    y = _targets(x)
    ds = _dataset(x, y)
    return peak_resident(lambda: _by_ds(ds) if how == "ds" else _by_hand(x, y))


if __name__ == "__main__":
    claim(1e8)
    print(json.dumps(_worker(sys.argv[1], int(sys.argv[2]))))
