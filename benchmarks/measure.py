"""Timing of candidate and reference in turns, and memory of this process."""

from __future__ import annotations

import gc
import os
import resource
import statistics
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

MB = 1e6


@dataclass(frozen=True)
class Call:
    """What is timed: ``run(prepare())``, of which only ``run`` counts."""

    run: Callable[..., Any]
    prepare: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Times:
    """Seconds of each repetition, in the order they were run."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def low(self) -> float:
        return min(self.seconds)

    @property
    def high(self) -> float:
        return max(self.seconds)


@dataclass(frozen=True)
class Ratio:
    """Candidate over reference: of the medians, the range of the pairs, and of each one's quietest repetition."""

    value: float
    low: float
    high: float
    quiet: float

    @classmethod
    def of(cls, candidate: Times, reference: Times) -> Ratio:
        pairs = [a / b for a, b in zip(candidate.seconds, reference.seconds, strict=True)]
        return cls(candidate.median / reference.median, min(pairs), max(pairs), candidate.low / reference.low)

    def __str__(self) -> str:
        return f"{self.value:.2f}x (pairs {self.low:.2f}-{self.high:.2f}, quietest {self.quiet:.2f}x)"


def in_turns(calls: dict[str, Call], repeats: int, warm: int = 1) -> dict[str, Times]:
    """Time several calls in turns, each repetition beginning with another one.

    What a call returns is released after its clock has stopped, and before the next call is prepared.
    """
    names = list(calls)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for turn in range(-warm, repeats):
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                call = calls[name]
                given = () if call.prepare is None else (call.prepare(),)
                start = perf_counter()
                result = call.run(*given)
                spent = perf_counter() - start
                del result, given
                if turn >= 0:
                    seconds[name].append(spent)
            gc.collect()
    finally:
        gc.enable()
    return {name: Times(tuple(spent)) for name, spent in seconds.items()}


def per_call(calls: dict[str, Callable[[], Any]], repeats: int, number: int) -> dict[str, Times]:
    """Time short calls in turns, `number` at a time; seconds of one call."""

    def loop(run: Callable[[], Any]) -> Callable[[], None]:
        def many() -> None:
            for _ in range(number):
                run()

        return many

    times = in_turns({name: Call(loop(run)) for name, run in calls.items()}, repeats)
    return {name: Times(tuple(s / number for s in t.seconds)) for name, t in times.items()}


def claim(size: float) -> None:
    """Touch and release `size` bytes, so that a virtual machine's host has backed them before anything is timed."""
    np.ones(int(size) // 8)


def resident(field: str = "VmRSS") -> float:
    """Return the resident memory of this process in bytes, or its peak (``VmHWM``)."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(field + ":"):
                return 1024.0 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if os.uname().sysname == "Darwin" else 1024 * peak)


def peak_resident(run: Callable[[], Any]) -> float:
    """Return by how many bytes the resident memory of this process rises at most while `run` works.

    Without Linux' ``clear_refs`` the peak is that of the process's life: give each measurement a process of its own.
    """
    gc.collect()
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")
    before = resident()
    result = run()
    peak = resident("VmHWM")
    del result
    return max(0.0, peak - before)


@dataclass(frozen=True)
class Traced:
    """Bytes tracemalloc saw: at the highest, and held by the result in numpy's domain."""

    peak: float
    arrays: float


def traced(run: Callable[[], Any]) -> Traced:
    """Return what `run` allocates, as tracemalloc sees it."""
    gc.collect()
    tracemalloc.start()
    try:
        base = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        result = run()
        peak = tracemalloc.get_traced_memory()[1] - base
        snapshot = tracemalloc.take_snapshot()
        only = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
        arrays = sum(trace.size for trace in snapshot.filter_traces([only]).traces)
        del result
    finally:
        tracemalloc.stop()
    return Traced(float(max(0, peak)), float(arrays))
