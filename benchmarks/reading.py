"""Views and copies of a selection."""

from __future__ import annotations

from typing import Any

import numpy as np
from figures import Effort, Figure, duration, spread, volume
from measure import Call, Ratio, in_turns, per_call
from probe import TRAIN, memory_of
from spectra import BANDS, SAMPLES, VARIANTS, dataset, spectra, train_rows, untouched

WIDTHS = (100, 1000, 10_000)


def view(effort: Effort) -> list[Figure]:
    """The training part of a dataset that is stored in the order of its partitions."""
    arrays = {width: untouched(SAMPLES, VARIANTS, width) for width in WIDTHS}
    asked = {width: dataset(False, array) for width, array in arrays.items()}
    for width, ds in asked.items():
        (block,) = ds.x(TRAIN, copy=False)
        if not np.shares_memory(block, arrays[width]) or block.shape != (8000, VARIANTS * width):
            raise AssertionError("the view is not one")
    again = per_call(
        {str(width): (lambda ds=ds: ds.x(TRAIN)) for width, ds in asked.items()},
        effort.times(25, 7),
        effort.times(2000, 1000),
    )
    first = in_turns(
        {
            str(width): Call(lambda ds: ds.x(TRAIN), prepare=lambda array=array: dataset(False, array))
            for width, array in arrays.items()
        },
        effort.times(50, 10),
    )
    here = str(BANDS)
    figures = [
        Figure(
            "view",
            'x({"partition": "train"}) as a view, asked again',
            "<= 30 us",
            spread(again[here]),
            again[here].median <= 30e-6,
            {"seconds": again[here].seconds},
        ),
        Figure(
            "view",
            "the same, first time on a new dataset",
            "<= 3 ms",
            spread(first[here]),
            first[here].median <= 3e-3,
            {"seconds": first[here].seconds},
        ),
    ]
    for label, times in (("asked again", again), ("first time", first)):
        medians = {width: times[str(width)].median for width in WIDTHS}
        apart = max(medians.values()) / min(medians.values())
        shown = " / ".join(duration(value) for value in medians.values())
        figures.append(
            Figure(
                "view",
                f"100 / 1000 / 10 000 bands, {label}",
                "no dependence (within 1.25x)",
                f"{shown}: {apart:.2f}x",
                apart <= 1.25,
                {"medians": medians},
            )
        )
    memory = {width: memory_of("view", width) for width in ((1000, 10_000) if effort.quick else WIDTHS)}
    worst = {key: max(found[key] for found in memory.values()) for key in memory[1000]}
    figures.append(
        Figure(
            "view",
            "allocated when asked again",
            "nothing: 0 B of arrays",
            f"arrays {volume(worst['again_arrays'])}, Python objects at most {volume(worst['again_peak'])}; "
            f"resident after 1000 held views +{volume(worst['resident_per_1000'])}",
            worst["again_arrays"] == 0 and worst["again_peak"] < 16e3 and worst["resident_per_1000"] < 4e6,
            {"bytes": memory},
        )
    )
    even = len({found["first_arrays"] for found in memory.values()}) == 1
    figures.append(
        Figure(
            "view",
            "allocated the first time (sample ids and the like, kept for the next)",
            "no spectra: <= 16 B per sample, whatever the bands",
            f"arrays {volume(worst['first_arrays'])}, peak {volume(worst['first_peak'])}",
            even and worst["first_arrays"] <= 16 * SAMPLES,
        )
    )
    return figures


def _turned(array: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Take rows, then lay them out (row, wavelength, processing): what numpy users write for these layouts."""
    return np.ascontiguousarray(np.take(array, rows, axis=0).transpose(0, 2, 1))


def split(effort: Effort) -> list[Figure]:
    """A random four fifths, in one copy."""
    array, rows = spectra(), train_rows()
    n = len(rows)
    repeats = effort.times(21, 5)
    figures = []
    timed = ("2d", "2d_interlaced") if effort.quick else ("2d", "3d", "3d_transpose", "2d_interlaced")
    for layout in timed:
        shape = dataset(True).x({"partition": "test"}, layout=layout)[0].shape[1:]
        out = np.ones((n, *shape), dtype=np.float32)
        taken = np.ones((n, VARIANTS, BANDS), dtype=np.float32)
        plain = layout in ("2d", "3d")

        def fresh(ds: Any, layout: str = layout) -> Any:
            return ds.x(TRAIN, layout=layout)

        def into(ds: Any, layout: str = layout, out: Any = out) -> Any:
            return ds.x(TRAIN, layout=layout, out=out)

        def turned_into(out: Any = out, taken: Any = taken) -> None:
            np.take(array, rows, axis=0, out=taken, mode="clip")
            np.copyto(out.reshape(n, BANDS, VARIANTS), taken.transpose(0, 2, 1))

        def take_into(taken: Any = taken) -> Any:
            return np.take(array, rows, axis=0, out=taken, mode="clip")

        calls = {
            "x": Call(fresh, prepare=lambda: dataset(True)),
            "take": Call(lambda: np.take(array, rows, axis=0)),
            "x out": Call(into, prepare=lambda: dataset(True)),
            "take out": Call(take_into),
        }
        if not plain:
            calls["turned"] = Call(lambda: _turned(array, rows))
            calls["turned out"] = Call(turned_into)
        times = in_turns(calls, repeats, warm=2)
        for what, kind in (("fresh array", ""), ("out=, reused", " out")):
            ratio = Ratio.of(times["x" + kind], times["take" + kind])
            shown = f"{ratio}, {duration(times['x' + kind].median)}"
            if plain:
                figures.append(
                    Figure(
                        "split",
                        f"random 80/20, {layout}, {what}",
                        "<= 1.2x np.take" + (" into a fresh array" if not kind else "(out=, mode='clip')"),
                        shown,
                        ratio.value <= 1.2,
                        {"seconds": {k: t.seconds for k, t in times.items()}},
                    )
                )
                continue
            fair = Ratio.of(times["x" + kind], times["turned" + kind])
            figures.append(
                Figure(
                    "split",
                    f"random 80/20, {layout}, {what}",
                    "np.take and transposing copy 1x",
                    f"{fair}; of np.take alone {ratio.value:.2f}x, {duration(times['x' + kind].median)}",
                    None,
                    {"seconds": {k: t.seconds for k, t in times.items()}},
                )
            )
    if not effort.quick:
        figures.append(_packed_split(effort))
    layouts = ("2d",) if effort.quick else ("2d", "3d", "3d_transpose", "2d_interlaced")
    for layout in layouts:
        found = memory_of("split", layout, "fresh")
        for key, how in (("resident", "resident peak of a process"), ("traced", "tracemalloc")):
            share = found[key] / found["result"]
            figures.append(
                Figure(
                    "split",
                    f"peak memory, {layout}: {how}",
                    "<= 1.1x the result",
                    f"{share:.3f}x ({volume(found[key])})",
                    share <= 1.1,
                    {"bytes": found},
                )
            )
    found = memory_of("split", "2d", "out")
    figures.append(
        Figure(
            "split",
            "peak memory, 2d, out=",
            "<= 0.1x the result",
            f"resident {found['resident'] / found['result']:.3f}x, tracemalloc "
            f"{found['traced'] / found['result']:.3f}x",
            max(found["resident"], found["traced"]) <= 0.1 * found["result"],
            {"bytes": found},
        )
    )
    return figures


def _packed_split(effort: Effort) -> Figure:
    """The interlaced layout from a store packed for it: the rows are then copied as they lie."""
    ds = dataset(True)
    ds.pack(layout="2d_interlaced")
    base = np.ascontiguousarray(spectra().transpose(0, 2, 1))
    rows = train_rows()
    times = in_turns(
        {
            "x": Call(lambda: ds.x(TRAIN, layout="2d_interlaced")),
            "take": Call(lambda: np.take(base, rows, axis=0)),
        },
        effort.times(15, 5),
        warm=2,
    )
    ratio = Ratio.of(times["x"], times["take"])
    return Figure(
        "split",
        "random 80/20, 2d_interlaced, packed for it",
        "np.take of the packed rows 1x",
        f"{ratio}, {duration(times['x'].median)}",
        None,
        {"seconds": {k: t.seconds for k, t in times.items()}},
    )
