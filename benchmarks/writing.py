"""New variants, and augmentation by reference."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
from figures import Effort, Figure, duration, spread, volume
from measure import Call, Ratio, Times, claim, in_turns
from spectra import BANDS, SAMPLES, dataset, spectra, untouched

from spectroxr import SpectroDataset

VARIANTS_ADDED = 16


def large(samples: int) -> SpectroDataset:
    """A dataset of 1000 bands that has not been asked anything yet; its spectra take no memory."""
    ds = SpectroDataset()
    ds.add_features({"nir": untouched(samples, 1, 1000)}, copy=False)
    return ds


def variant(effort: Effort) -> list[Figure]:
    """Sixteen variants, each followed by copies of the same bytes."""
    claim(2.5e9)
    planes = [np.ascontiguousarray(spectra()[:, k]) for k in range(4)]
    ids = np.arange(SAMPLES)
    warm = np.ones((SAMPLES, BANDS), dtype=np.float32)
    spent: dict[str, list[float]] = {"update_x": [], "fresh": [], "warm": [], "read": []}
    for turn in range(-1, effort.times(5, 1)):
        ds = dataset(False)
        kept: list[Any] = []
        clock = dict.fromkeys(spent, 0.0)
        for k in range(VARIANTS_ADDED):
            plane = planes[k % len(planes)]

            def update(plane: Any = plane, k: int = k, ds: SpectroDataset = ds) -> None:
                ds.update_x([plane], ids, f"variant{k}")

            def fresh(plane: Any = plane, kept: list[Any] = kept) -> None:
                copy = np.empty_like(plane)
                np.copyto(copy, plane)
                kept.append(copy)

            steps = [("update_x", update), ("fresh", fresh), ("warm", lambda plane=plane: np.copyto(warm, plane))]
            for name, step in steps[k % 2 :] + steps[: k % 2]:
                start = perf_counter()
                step()
                clock[name] += perf_counter() - start
        del kept, fresh, update, steps, step
        start = perf_counter()
        ds.x(None, layout="3d", copy=False)
        clock["read"] = perf_counter() - start
        del ds
        if turn >= 0:
            for name, seconds in clock.items():
                spent[name].append(seconds)
    times = {name: Times(tuple(seconds)) for name, seconds in spent.items()}
    total = Times(tuple(a + b for a, b in zip(times["update_x"].seconds, times["read"].seconds, strict=True)))
    ratio = Ratio.of(times["update_x"], times["fresh"])
    numbers = {"seconds of 16": {name: t.seconds for name, t in times.items()}}
    return [
        Figure(
            "variant",
            "adding a variant by update_x, mean of 16",
            "<= 2.5x a memcpy into a fresh array",
            f"{ratio}, {duration(times['update_x'].median / VARIANTS_ADDED)}",
            ratio.value <= 2.5,
            numbers,
        ),
        Figure(
            "variant",
            "the same, against a memcpy into a warm array (each in its quietest round)",
            "-",
            f"{times['update_x'].low / times['warm'].low:.2f}x",
        ),
        Figure(
            "variant",
            "the same, with the first 3d view of all 20 variants, which brings them together once",
            "-",
            f"{Ratio.of(total, times['fresh'])} of the fresh memcpy; that read {duration(times['read'].median)}",
        ),
    ]


def augment(effort: Effort) -> list[Figure]:
    """Five augmented samples for each of 100 000."""
    from probe import memory_of

    times = in_turns(
        {"augment": Call(lambda ds: ds.augment_features_x(5), prepare=lambda: large(100_000))}, effort.times(9, 3)
    )["augment"]
    found = memory_of("augment")
    if found["samples"] != 600_000:
        raise AssertionError("augmentation made another number of samples")
    return [
        Figure(
            "augment",
            "augment_features_x(5), 100 000 samples x 1000 bands",
            "< 0.5 s",
            spread(times),
            times.median < 0.5,
            {"seconds": times.seconds},
        ),
        Figure(
            "augment",
            "the same, resident peak of a process",
            "< 100 MB more",
            volume(found["resident"]),
            found["resident"] < 100e6,
            {"bytes": found},
        ),
    ]
