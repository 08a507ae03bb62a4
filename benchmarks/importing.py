"""The time an import takes, in fresh interpreters."""

from __future__ import annotations

import subprocess
import sys

from figures import Effort, Figure, duration
from measure import Call, Ratio, Times, in_turns

TIMED = "from time import perf_counter as clock; start = clock(); import {names}; print(clock() - start)"


def _seconds(names: str) -> float:
    done = subprocess.run([sys.executable, "-c", TIMED.format(names=names)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def imports(effort: Effort) -> list[Figure]:
    """Importing the package against importing what it stands on."""
    cases = {
        "spectroxr": "spectroxr",
        "reference": "xarray, polars",
        "both": "spectroxr, xarray",
    }
    if effort.quick:
        del cases["both"]
    inside: dict[str, list[float]] = {case: [] for case in cases}

    def once(case: str) -> None:
        inside[case].append(_seconds(cases[case]))

    in_turns({case: Call(lambda case=case: once(case)) for case in cases}, effort.times(11, 3))
    times = {case: Times(tuple(seconds[1:])) for case, seconds in inside.items()}
    ratio = Ratio.of(times["spectroxr"], times["reference"])
    figures = [
        Figure(
            "import",
            "import spectroxr",
            "<= 1.3x importing xarray and polars",
            f"{ratio}, {duration(times['spectroxr'].median)} against {duration(times['reference'].median)}",
            ratio.value <= 1.3,
            {"seconds": {case: t.seconds for case, t in times.items()}},
        ),
    ]
    if "both" in times:
        figures.append(
            Figure(
                "import",
                "import spectroxr and xarray, which it loads when a DataArray is first asked for",
                "-",
                f"{Ratio.of(times['both'], times['reference'])}, {duration(times['both'].median)}",
            )
        )
    return figures
