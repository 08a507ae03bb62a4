"""Between a dataset and what is stored of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from spectroxr.axis import Axis
from spectroxr.errors import StoreError
from spectroxr.index import Index
from spectroxr.layouts import readonly
from spectroxr.snapshot import Snapshot, SourceSnapshot
from spectroxr.source import Block, FeatureSource

if TYPE_CHECKING:
    from spectroxr.dataset import SpectroDataset

__all__ = ["fill", "save", "snapshot", "stored"]


def snapshot(ds: SpectroDataset) -> Snapshot:
    """Return what is to be stored of a dataset; the spectra are views of it."""
    cells = ds.features.cells
    names = cells.index.processings
    sources = []
    for source in cells.sources.values():
        planes = []
        source.settle(cells.rows)
        held = [name for name in names if source.where(name)]
        for name in held:
            place = source.where(name)
            assert place is not None
            block, k = place
            plane = block.view[: cells.rows, k, :]
            if block.capacity < cells.rows:
                whole = np.full((cells.rows, len(source.axis)), np.nan, source.dtype)
                whole[: block.capacity] = plane
                plane = whole
            planes.append(plane)
        axis = source.axis
        sources.append(
            SourceSnapshot(source.name, tuple(planes), tuple(held), axis.values, dict(axis.attrs), axis.segments)
        )
    targets, versions = ds.targets.snapshot()
    state = {"processings": list(names), "rows": cells.rows, "targets": versions}
    return Snapshot(
        tuple(sources),
        cells.index.table,
        cells.index.holes_table(),
        {"targets": targets, "metadata": ds.metadata.snapshot(), "predictions": ds.predictions.table},
        {"folds": ds.folds.snapshot(), "lineage": {}, "state": state},
    )


def fill(ds: SpectroDataset, parts: Snapshot) -> None:
    """Make an empty dataset that of a snapshot, adopting its arrays.

    Raises
    ------
    StoreError
        If its parts contradict each other.
    """
    cells = ds.features.cells
    state: dict[str, Any] = parts.documents.get("state") or {}
    order = state.get("processings") or parts.index["processing"].unique(maintain_order=True).to_list()
    try:
        built = Index.from_tables(parts.index, parts.holes, order)
    except (ValueError, pl.exceptions.PolarsError) as error:
        raise StoreError(f"the index of the store contradicts itself: {error}") from None
    cells.index.adopt(built)
    for given in parts.sources:
        axis = Axis(readonly(np.ascontiguousarray(given.wavelength)), dict(given.attrs), given.segments)
        source = FeatureSource(given.name, axis, given.planes[0].dtype, ds.features)
        source.adopt(_blocks(given))
        cells.sources[given.name] = source
        cells.rows = max(cells.rows, len(given.planes[0]))
    cells.epoch += 1
    ds.targets.restore(parts.tables["targets"], state.get("targets") or {})
    ds.metadata.restore(parts.tables["metadata"])
    ds.predictions.restore(parts.tables["predictions"])
    ds.folds.restore(parts.documents.get("folds") or [])


def _blocks(given: SourceSnapshot) -> list[Block]:
    """Return the planes as one block where they are views of one buffer, else a block each."""
    planes = given.planes
    first = planes[0]
    if len(planes) > 1:
        places = [plane.__array_interface__["data"][0] for plane in planes]
        steps = set(np.diff(places).tolist())
        base = first.base
        if len(steps) == 1 and isinstance(base, np.ndarray) and base.ndim == 3 and base.shape[1] == len(planes):
            return [Block(base, list(given.processings))]
    return [Block(plane[:, None, :], [name]) for plane, name in zip(planes, given.processings, strict=True)]


def save(
    ds: SpectroDataset,
    path: str | os.PathLike[str],
    *,
    compression: str | None = "zstd",
    format: str = "zarr",
) -> None:
    """Write a dataset to a folder; see `SpectroDataset.save`."""
    from spectroxr.storage import write_store

    write_store(path, snapshot(ds), compression=compression, format=format)


def stored(path: str | os.PathLike[str], *, verify: bool = False) -> Snapshot:
    """Read what a folder holds; see `SpectroDataset.load`."""
    from spectroxr.storage import read_store

    return read_store(path, verify=verify)
