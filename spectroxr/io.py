"""Between a dataset and what is stored of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from spectroxr.axis import Axis
from spectroxr.contradictions import circling, unfit, unreadable
from spectroxr.description import FORGED
from spectroxr.errors import StoreError
from spectroxr.index import Index
from spectroxr.later import Later, value_of
from spectroxr.layouts import readonly
from spectroxr.lazyplane import PaddedPlane
from spectroxr.lazyread import check_dask_chunks
from spectroxr.snapshot import Snapshot, SourceSnapshot
from spectroxr.source import Block, FeatureSource, LazyBlock
from spectroxr.stored import StoredPlane

if TYPE_CHECKING:
    from spectroxr.contents import StoredSource
    from spectroxr.dataset import SpectroDataset
    from spectroxr.place import Place
    from spectroxr.zarrstore import Saved

__all__ = ["fill", "save", "snapshot", "stored"]


def snapshot(ds: SpectroDataset) -> Snapshot:
    """Return what is to be stored of a dataset; the spectra are views of it, or stay where they lie."""
    cells = ds.features.cells
    names = cells.index.processings
    sources = []
    for source in cells.sources.values():
        source.settle(cells.rows)
        held = [name for name in names if source.where(name)]
        pairs = [_plane(source, name, cells.rows) for name in held]
        axis = source.axis
        sources.append(
            SourceSnapshot(
                source.name,
                tuple(plane for plane, _ in pairs),
                tuple(held),
                axis.values,
                dict(axis.attrs),
                axis.segments,
                tuple(stored for _, stored in pairs),
            )
        )
    targets, versions = ds.targets.snapshot()
    state = {"processings": list(names), "rows": cells.rows, "targets": versions}
    return Snapshot(
        tuple(sources),
        cells.index.table,
        cells.index.holes_table(),
        {"targets": targets, "metadata": ds.metadata.snapshot(), "predictions": ds.predictions.snapshot()},
        {"folds": ds.folds.snapshot(), "lineage": ds.lineage.snapshot(), "state": state},
    )


def _plane(source: FeatureSource, processing: str, rows: int) -> tuple[Any, Any]:
    """Return all rows of a processing, and where they lie in a store, if they do."""
    place = source.where(processing)
    assert place is not None
    block, k = place
    if isinstance(block, LazyBlock):
        if block.capacity == rows:
            return block.plane, block.plane if isinstance(block.plane, StoredPlane) else None
        return PaddedPlane(block.plane, rows), None
    plane = block.view[:rows, k, :]
    if block.capacity >= rows:
        same = block.stored is not None and block.capacity == rows
        return plane, block.stored[k] if same and block.stored is not None else None
    return PaddedPlane(plane, rows), None


def fill(ds: SpectroDataset, parts: Snapshot, chunks: Any = None) -> None:
    """Make an empty dataset that of a snapshot, adopting its arrays.

    Parameters
    ----------
    ds : SpectroDataset
    parts : Snapshot
    chunks : optional
        As in `SpectroDataset.load`.

    Raises
    ------
    StoreError
        If its parts contradict each other.
    """
    chunks = check_dask_chunks(chunks)
    cells = ds.features.cells
    wrong = unreadable(parts)
    if wrong:
        raise StoreError("\n".join(f"the store contradicts itself: {text}" for text in wrong))
    state: dict[str, Any] = parts.documents.get("state") or {}
    rows = min((len(source.planes[0]) for source in parts.sources), default=0)
    if parts.late("index") or parts.late("holes"):
        cells.index.adopt(Later(lambda: _index(parts, state.get("processings"), rows)))
    else:
        cells.index.adopt(_index(parts, state.get("processings"), rows))
    for given in parts.sources:
        axis = Axis(readonly(np.ascontiguousarray(given.wavelength)), dict(given.attrs), given.segments)
        source = FeatureSource(given.name, axis, given.planes[0].dtype, ds.features)
        source.adopt(_blocks(given, chunks))
        cells.sources[given.name] = source
        cells.rows = max(cells.rows, len(given.planes[0]))
    cells.epoch += 1
    stored: dict[str, tuple[Callable[[Any], None], Any]] = {
        "targets": (lambda table: ds.targets.restore(table, state.get("targets") or {}), parts.tables["targets"]),
        "metadata": (ds.metadata.restore, parts.tables["metadata"]),
        "predictions": (ds.predictions.restore, parts.tables["predictions"]),
        "folds": (ds.folds.restore, parts.documents.get("folds")),
        "lineage": (lambda document: ds.lineage.restore(value_of(document)), parts.documents.get("lineage")),
    }
    for name, (take, value) in stored.items():
        if name != "lineage" and (isinstance(value, Later) or parts.late("index")):
            later = value if isinstance(value, Later) else Later.of(value)
            value = later.then(partial(_checked, name, cells.index, state))
        try:
            take(value)
        except FORGED as error:
            raise StoreError(f"{name} of the store contradict the rest: {error}") from error


def _checked(name: str, index: Index, state: dict[str, Any], given: Any) -> Any:
    """Return a table, or the folds, that was just read, if it fits the rest."""
    if wrong := unfit(name, given, len(index), state):
        raise StoreError("\n".join(f"the store contradicts itself: {text}" for text in wrong))
    return given


def _index(parts: Snapshot, order: list[str] | None, rows: int) -> Index:
    table = parts.table("index")
    order = order or table["processing"].unique(maintain_order=True).to_list()
    try:
        index = Index.from_tables(table, parts.table("holes"), order)
        if parts.sources and len(index) and (last := int(index.rows.max())) >= rows:
            raise ValueError(f"it refers to row {last}, but the spectra have {rows} rows.")
        if len(lost := circling(index.origins)):
            raise ValueError(f"the origins of sample {lost[0]} lead to no original")
    except FORGED as error:
        raise StoreError(f"the index of the store contradicts itself: {error}") from None
    return index


def _blocks(given: SourceSnapshot, chunks: Any) -> list[Block | LazyBlock]:
    """Return a block for each plane, or one for those that are views of one buffer."""
    blocks: list[Block | LazyBlock] = []
    run: list[int] = []
    # spectra that can be changed, as those of a copy, are no longer what is stored
    kept = zip(given.planes, given.stored or (None,) * len(given.planes), strict=True)
    stored = [None if isinstance(plane, np.ndarray) and plane.flags.writeable else place for plane, place in kept]

    def close() -> None:
        if run:
            first = given.planes[run[0]]
            buffer = first.base if len(run) > 1 else first[:, None, :]
            blocks.append(Block(buffer, [given.processings[k] for k in run], stored=[stored[k] for k in run]))
            run.clear()

    for k, plane in enumerate(given.planes):
        place = stored[k]
        if not isinstance(plane, np.ndarray):
            close()
            blocks.append(LazyBlock(plane, given.processings[k], chunks))
        elif chunks is not None and place is not None:
            close()
            blocks.append(LazyBlock(place, given.processings[k], chunks))
        else:
            if run and not _side_by_side(given.planes[run[0]], plane, len(run)):
                close()
            run.append(k)
            base = given.planes[run[0]].base
            if isinstance(base, np.ndarray) and base.ndim == 3 and base.shape[1] == len(run):
                close()
    while run:
        k = run.pop(0)
        blocks.append(Block(given.planes[k][:, None, :], [given.processings[k]], stored=[stored[k]]))
    return blocks


def _side_by_side(first: Any, plane: Any, k: int) -> bool:
    """Tell whether `plane` is the `k`-th processing of the buffer that `first` is the first of."""
    base = first.base
    if not isinstance(base, np.ndarray) or base.ndim != 3 or plane.base is not base or base.shape[1] <= k:
        return False
    start = base.__array_interface__["data"][0]
    places = [one.__array_interface__["data"][0] - start for one in (first, plane)]
    return places == [0, k * base.strides[1]] and bool(first.strides == plane.strides)


def save(
    ds: SpectroDataset,
    path: str | os.PathLike[str],
    *,
    compression: str | None = "zstd",
    format: str = "zarr",
    message: str = "",
    chunks: Mapping[str, int] | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> int | None:
    """Write a dataset to a folder or bucket; see `SpectroDataset.save`. Returns the number of the version."""
    from spectroxr.npystore import PLAIN
    from spectroxr.storage import committed, write_store
    from spectroxr.storedtables import rebound

    sent: list[Saved] = []
    try:
        saved = write_store(
            path,
            snapshot(ds),
            compression=compression,
            format=format,
            message=message,
            chunks=chunks,
            bases=ds.origins,
            overwrite=overwrite,
            storage_options=storage_options,
            sent=sent,
        )
    except BaseException:
        if sent and committed(sent[0]):
            ds.origins[sent[0].place] = sent[0]
        raise
    ds.origins[saved.place] = saved
    if saved.version.number == PLAIN:
        return None
    for stored in saved.sources:
        _settle(ds.features.cells.sources[stored.name], stored, saved.place)
    for block in (ds.targets, ds.metadata, ds.predictions, ds.folds):
        rebound(block.unread, saved.place, saved.files)
    return saved.version.number


def _settle(source: FeatureSource, stored: StoredSource, place: Place) -> None:
    """Let spectra that Dask computed, or that earlier versions there hold, be read from what was saved from now on."""
    blocks: list[Block | LazyBlock] = []
    for block in source.blocks:
        if isinstance(block, LazyBlock):
            (name,) = block.processings
            plane = stored.array.plane(stored.processings.index(name))
            old = block.plane
            if not isinstance(old, StoredPlane) or old.array.place == place:
                block = LazyBlock(plane, name, block.chunks)
        blocks.append(block)
    source.adopt(blocks)


def stored(
    path: str | os.PathLike[str],
    *,
    version: int | None = None,
    verify: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> tuple[Snapshot, Saved]:
    """Read what a folder or bucket holds, all but its spectra; see `SpectroDataset.load`."""
    from spectroxr.storage import read_store

    return read_store(path, version=version, verify=verify, storage_options=storage_options)
