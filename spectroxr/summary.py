"""The text that tells what a dataset holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from spectroxr.dataset import SpectroDataset

__all__ = ["describe"]


def describe(ds: SpectroDataset) -> str:
    """Return a few lines: sources, processings, samples, targets, metadata, folds, predictions.

    Parameters
    ----------
    ds : SpectroDataset

    Returns
    -------
    str
    """
    index = ds.features.index
    samples = index.samples
    lines = [f"<SpectroDataset: {_many(len(index), 'sample')}, {_many(len(ds.features.sources), 'source')}>"]
    if len(index):
        parts = samples.group_by("partition", maintain_order=True).len()
        names = ", ".join(f"{name} {count}" for name, count in parts.iter_rows())
        derived = int((index.origins != np.arange(len(index))).sum())
        lines.append(f"Samples      {names}" + (f" ({derived} augmented)" if derived else ""))
        groups = samples["group"].drop_nulls().n_unique()
        branches = len({int(b) for held in index.lines.values() for b in np.unique(held.branch)})
        if groups > 1 or branches > 1:
            lines.append(f"Labels       {_many(groups, 'group')}, {_many(branches, 'branch', 'branches')}")
    for k, source in enumerate(ds.features.sources):
        axis = source.axis
        unit = axis.attrs.get("units", "")
        span = f"{axis.values[0]:g} to {axis.values[-1]:g} {unit}".strip()
        quantity = f", {axis.attrs['quantity']}" if "quantity" in axis.attrs else ""
        size = sum(block.nbytes for block in source.blocks)
        where = " and ".join(dict.fromkeys(block.state for block in source.blocks))
        lines.append(
            f"{'Sources' if k == 0 else '':<13}{source.name}: {len(axis)} wavelengths, {span}{quantity}, "
            f"{source.dtype}, {_bytes(size)} {where}"
        )
    made = {name: (parent, label) for parent, name, label in ds.lineage.edges}
    for k, (name, held) in enumerate(index.lines.items()):
        lack = {s.name: index.lacks(held.samples, name, s.name) for s in ds.features.sources}
        holds = [source for source, lacks in lack.items() if not lacks.all() or not len(lacks)]
        gaps = [source for source in holds if lack[source].any()]
        note = f" in {', '.join(holds)}" if len(holds) < len(lack) else ""
        note += f" (not whole in {', '.join(gaps)})" if gaps else ""
        if name in made:
            note += f", of {made[name][0]} by {made[name][1]}"
        lines.append(f"{'Processings' if k == 0 else '':<13}{name}: {_many(len(held.samples), 'sample')}{note}")
    unread = {"Targets": ds.targets.unread, "Metadata": ds.metadata.unread, "Folds": ds.folds.unread}
    unread["Predictions"] = ds.predictions.unread
    if unread["Targets"] is None and ds.targets.columns:
        for k, name in enumerate(ds.targets.columns):
            column = ds.targets.column(name)
            lines.append(f"{'Targets' if k == 0 else '':<13}{name}: {column.dtype}, {_missing(column)}")
        lines.append(f"{'':<13}versions: {', '.join(ds.targets.versions)}")
    if unread["Metadata"] is None and ds.metadata.columns:
        lines.append(f"Metadata     {_short(ds.metadata.columns)}")
    if unread["Folds"] is None and len(ds.folds):
        lines.append(f"Folds        {len(ds.folds)}")
    if unread["Predictions"] is None and len(ds.predictions):
        models = ds.predictions.table["model"].unique(maintain_order=True).to_list()
        lines.append(f"Predictions  {len(ds.predictions)} of {_short([str(m) for m in models])}")
    lines += [f"{name:<13}in the store, not read yet" for name, later in unread.items() if later is not None]
    return "\n".join(lines)


def _many(count: int, one: str, more: str | None = None) -> str:
    return f"{count} {one if count == 1 else more or one + 's'}"


def _missing(column: pl.Series) -> str:
    count = column.null_count()
    return f"{len(column) - count} values" + (f", {count} missing" if count else "")


def _short(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return ""
