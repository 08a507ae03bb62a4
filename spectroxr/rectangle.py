"""Whether a selection is rectangular: every sample has every processing in every source."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spectroxr.errors import NotRectangularError
from spectroxr.index import Index
from spectroxr.schema import Array

__all__ = ["check_rectangular"]


def check_rectangular(index: Index, lines: list[tuple[str, Array]], sources: Sequence[str]) -> None:
    """Raise unless every sample of `lines` has each of their processings in each of `sources`."""
    first = lines[0][1]
    even = all(len(s) == len(first) and np.array_equal(s, first) for _, s in lines[1:])
    lacking = [
        (name, source, int(hit.sum()))
        for name, samples in lines
        for source in sources
        if (hit := index.lacks(samples, name, source)).any()
    ]
    if even and not lacking:
        return
    everyone = first
    for _, samples in lines[1:]:
        everyone = np.union1d(everyone, samples)
    problems = [
        f"{len(everyone) - len(samples)} of {len(everyone)} samples lack processing {name!r}"
        for name, samples in lines
        if len(samples) < len(everyone)
    ]
    problems += [
        f"{n} {'sample lacks' if n == 1 else 'samples lack'} {name!r} in source {source!r}"
        for name, source, n in lacking
    ]
    raise NotRectangularError(
        "the selection is not rectangular: " + "; ".join(problems) + ". " + _rectangular(index, lines, sources)
    )


def _rectangular(index: Index, lines: list[tuple[str, Array]], sources: Sequence[str]) -> str:
    everyone = np.unique(np.concatenate([samples for _, samples in lines]))
    whole = [
        name
        for name, samples in lines
        if len(samples) == len(everyone) and not any(index.lacks(samples, name, source).any() for source in sources)
    ]
    if whole:
        return f"Rectangular would be {{'processing': {whole[0] if len(whole) == 1 else whole!r}}}."
    tip = []
    for source in sources:
        held = [
            name
            for name, samples in lines
            if len(samples) == len(everyone) and not index.lacks(samples, name, source).any()
        ]
        if held:
            tip.append(f"{{'source': {source!r}, 'processing': {held!r}}}")
    if tip:
        return "Rectangular would be " + " or ".join(tip) + "."
    complete = everyone
    for name, samples in lines:
        complete = np.intersect1d(complete, samples)
        for source in sources:
            complete = complete[~index.lacks(complete, name, source)]
    if len(complete):
        shown = complete[:10].tolist()
        more = "" if len(complete) <= 10 else f" (the first 10 of {len(complete)})"
        return f"Rectangular would be {{'sample': {shown}}}{more}."
    name, samples = max(lines, key=lambda line: len(line[1]))
    best = [(s, samples[~index.lacks(samples, name, s)]) for s in sources]
    source, chosen = max(best, key=lambda pair: len(pair[1]))
    if not len(chosen):
        return f"No sample has {name!r} in {' or '.join(map(repr, sources))}."
    shown = chosen[:10].tolist()
    return f"Rectangular would be {{'source': {source!r}, 'processing': {name!r}, 'sample': {shown}}}."
