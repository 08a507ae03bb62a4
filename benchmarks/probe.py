"""Memory of single operations, each in a process of its own: ``python probe.py NAME`` prints JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from measure import claim, peak_resident, resident, traced
from spectra import SAMPLES, VARIANTS, dataset, train_rows, untouched

TRAIN = {"partition": "train"}


def view(bands: str) -> dict[str, float]:
    """A view: the first request, and a thousand more."""
    array = untouched(SAMPLES, VARIANTS, int(bands))
    dataset(False, array).x(TRAIN)
    fresh = dataset(False, array)
    first = traced(lambda: fresh.x(TRAIN))
    again = traced(lambda: fresh.x(TRAIN))
    before = resident()
    held = [fresh.x(TRAIN) for _ in range(1000)]
    grown = resident() - before
    return {
        "first_peak": first.peak,
        "first_arrays": first.arrays,
        "again_peak": again.peak,
        "again_arrays": again.arrays,
        "resident_per_1000": grown * len(held) / 1000,
    }


def split(layout: str, reused: str) -> dict[str, float]:
    """A copy of scattered rows, into fresh memory or `out`."""
    n = len(train_rows())
    ds = dataset(True)
    shape = ds.x({"partition": "test"}, layout=layout)[0].shape
    out = np.zeros((n, *shape[1:]), dtype=np.float32) if reused == "out" else None
    size = 4.0 * n * int(np.prod(shape[1:]))
    if out is not None:
        out.fill(1)
    dataset(True).x({"partition": "test"}, layout=layout)
    fresh = dataset(True)
    peak = peak_resident(lambda: fresh.x(TRAIN, layout=layout, out=out))
    other = dataset(True)
    seen = traced(lambda: other.x(TRAIN, layout=layout, out=out))
    return {"resident": peak, "traced": seen.peak, "result": size}


def augment() -> dict[str, float]:
    """Five augmented copies of each of 100 000 samples."""
    from writing import large

    large(1000).augment_features_x(5)
    ds = large(100_000)
    peak = peak_resident(lambda: ds.augment_features_x(5))
    return {"resident": peak, "samples": float(len(ds))}


PROBES: dict[str, Callable[..., dict[str, float]]] = {"view": view, "split": split, "augment": augment}


def memory_of(name: str, *args: Any) -> dict[str, float]:
    """Run a probe in a fresh interpreter and return what it printed."""
    command = [sys.executable, __file__, name, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"probe {name} failed: {done.stderr.strip()}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    claim(1e8)
    print(json.dumps(PROBES[sys.argv[1]](*sys.argv[2:])))
