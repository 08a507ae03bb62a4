"""Blocks of spectra: which rows make one, and what a function makes of all, here or on the active Dask scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from spectroxr.lazyread import any_dask
from spectroxr.matching import matching
from spectroxr.schema import Array, Filter
from spectroxr.selection import Selection, nothing

if TYPE_CHECKING:
    from spectroxr.dataset import SpectroDataset

__all__ = ["blocks", "of_one_processing", "of_one_source", "pieces", "reduced", "rows_of"]

#: A block that is read here has about this many bytes.
_BLOCK_BYTES = 1 << 24


def of_one_source(ds: SpectroDataset, filter: Filter, source: str | None, processing: str | None) -> Selection:
    """Return the selection of a filter in one source, of one processing if it is named.

    Raises
    ------
    ValueError
        If several sources are selected and none is named, or nothing matches.
    """
    features = ds.features
    only = None if source is None else features.cells.source(source).name
    wanted = filter
    if processing is not None:
        if isinstance(filter, dict):
            wanted = {**filter, "processing": processing}
        elif filter is None:
            wanted = {"processing": processing}
        else:
            wanted = filter & (pl.col("processing") == processing)
    chosen = features.resolver.resolve(wanted, features.cells.epoch, only)
    if len(chosen.sources) != 1:
        raise ValueError(f"{list(chosen.sources)} are selected; name one with source=...")
    return chosen


def of_one_processing(ds: SpectroDataset, filter: Filter, source: str | None, processing: str | None) -> Selection:
    """Return the selection of a filter in one processing of one source.

    Raises
    ------
    ValueError
        If several sources or processings are selected and none is named, or nothing matches.
    """
    chosen = of_one_source(ds, filter, source, processing)
    if len(chosen.processings) != 1:
        raise ValueError(f"processings {list(chosen.processings)} are selected; name one with processing=...")
    return chosen


def rows_of(ds: SpectroDataset, chosen: Selection) -> int:
    """Return how many samples make a block."""
    sources = [ds.features.cells.sources[name] for name in chosen.sources]
    line: int = sum(len(source.axis) * source.dtype.itemsize for source in sources) * len(chosen.processings)
    return max(1, _BLOCK_BYTES // max(1, line))


def blocks(ds: SpectroDataset, chosen: Selection) -> Iterator[Callable[[], Array]]:
    """Yield what reads the spectra of some samples after the other, ``(n, feature)``."""
    features, step = ds.features, rows_of(ds, chosen)
    for start in range(0, len(chosen.samples), step):
        part = features.resolver.select(
            chosen.samples[start : start + step], chosen.processings, chosen.sources, chosen.bands
        )
        yield lambda part=part: np.asarray(features.read(part, "2d")[0])  # type: ignore[misc]


def reduced(
    ds: SpectroDataset,
    chosen: Selection,
    function: Callable[[Array, Array], Any],
    join: Callable[[Any, Any], Any],
    beside: Array,
) -> Any:
    """Return what a function makes of each block of spectra and the lines of `beside` that belong to it, joined."""
    if not any_dask(ds.features.cells.sources, chosen):
        made, start = None, 0
        for block in blocks(ds, chosen):
            values = block()
            part = function(values, beside[start : start + len(values)])
            made = part if made is None else join(made, part)
            start += len(values)
        return made
    import dask

    ask: Any = dask
    lazy: Any = ds.features.read(chosen, "2d")[0]
    lazy = lazy.rechunk({1: -1})
    ends = np.cumsum(lazy.chunks[0])
    work = ask.delayed(function, pure=False)
    tasks = [
        work(block, beside[end - size : end])
        for block, size, end in zip(lazy.to_delayed()[:, 0], lazy.chunks[0], ends, strict=True)
    ]
    joining = ask.delayed(join, pure=False)
    while len(tasks) > 1:
        pairs = [joining(*tasks[k : k + 2]) for k in range(0, len(tasks) - 1, 2)]
        tasks = pairs + (tasks[-1:] if len(tasks) % 2 else [])
    return ask.compute(tasks[0])[0]


def pieces(ds: SpectroDataset, filter: Filter) -> list[Selection]:
    """Return what a filter selects as one selection per source and processing, of the samples that have it.

    Unlike the selection of `x` they need not be rectangular together: holes are left out.

    Raises
    ------
    UnknownNameError, TypeError
        If the filter names something that does not exist, or does not fit.
    ValueError
        If nothing matches.
    """
    resolver = ds.features.resolver
    index = resolver.index
    parsed = resolver.parse(filter)
    sources, bands = resolver.pick(parsed)
    lines = matching(index, resolver.side, parsed)
    resolver.check_processings(filter)
    found = []
    for source in sources:
        for name, samples in lines:
            has = samples[~index.lacks(samples, name, source)]
            if len(has):
                found.append(resolver.select(has, (name,), (source,), {source: bands[source]}))
    if not found:
        raise nothing(filter)
    return found
