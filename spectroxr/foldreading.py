"""Spectra for the folds: selected once, read fold by fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from spectroxr.gather import picks_len
from spectroxr.schema import Array, Filter, check_layout
from spectroxr.selection import Selection

if TYPE_CHECKING:
    from spectroxr.dataset import SpectroDataset

__all__ = ["FoldSpectra", "plain_spectra", "with_choice"]

#: About this many bytes of spectra are read at a time for a checksum.
PIECE = 1 << 22


@dataclass(frozen=True)
class FoldSpectra:
    """What estimators are given of the samples.

    Attributes
    ----------
    read : callable
        Returns the spectra of some samples (ascending): a read-only array, or a list of one per source.
    samples : ndarray of uint32, ascending
        All samples that have the spectra.
    features, sources : tuple of str
    widths : tuple of int
        Columns of each source.
    width : int
        Bytes of a sample.
    ahead : estimator or None
        What the spectra go through before the estimator, fitted with it in each fold.
    """

    read: Callable[[Array], Any]
    samples: Array
    features: tuple[str, ...]
    sources: tuple[str, ...]
    widths: tuple[int, ...]
    width: int
    ahead: Any = None

    def pieces(self) -> Iterator[Array]:
        """Yield the spectra of all samples piece by piece."""
        step = max(1, PIECE // max(1, self.width))
        for start in range(0, len(self.samples), step):
            piece = self.read(self.samples[start : start + step])
            yield from piece if isinstance(piece, list) else [piece]


def with_choice(filter: Filter, processing: Any, source: Any) -> Filter:
    """Return a filter that selects processings and sources as well.

    Raises
    ------
    ValueError
        If it names one of them already, or is an expression and a source is to be named.
    """
    chosen = {key: value for key, value in (("processing", processing), ("source", source)) if value is not None}
    if not chosen:
        return filter
    if isinstance(filter, pl.Expr):
        if source is not None:
            raise ValueError("source= goes with a filter that is a dict, which may hold expressions as its values.")
        names = [processing] if isinstance(processing, str) else list(processing)
        return filter & pl.col("processing").is_in(names)
    twice = set(chosen) & set(filter or {})
    if twice:
        raise ValueError(f"{min(twice)!r} is named twice: in the filter and by {min(twice)}=.")
    return {**(filter or {}), **chosen}


def selection_of(ds: SpectroDataset, samples: Array, filter: Filter) -> Selection:
    """Return the rectangular selection of a filter among samples, all of which must be in it.

    Raises
    ------
    ValueError
        If some are not.
    """
    whole = ds.features.resolver.resolve_within(samples, filter)
    if len(whole.samples) < len(samples):
        lost = np.setdiff1d(samples, whole.samples)
        raise ValueError(
            f"{len(lost)} of {len(samples)} samples, such as {lost[0]}, have no spectra in {list(whole.processings)}."
        )
    return whole


def plain_spectra(
    ds: SpectroDataset, samples: Array, filter: Filter, layout: str, src_concat: bool | str
) -> FoldSpectra:
    """Return what estimators are given, as `x` selects it.

    Parameters
    ----------
    ds : SpectroDataset
    samples : ndarray of uint32, ascending
    filter : None, dict or polars.Expr
    layout : {"2d", "2d_interlaced", "3d", "3d_transpose"}
    src_concat : bool or "block"

    Raises
    ------
    NotRectangularError, ValueError
        If a sample lacks some spectra, or the layout has no columns to scale.
    """
    kind = check_layout(layout)
    features, resolver = ds.features, ds.features.resolver
    whole = selection_of(ds, samples, filter)
    together = bool(src_concat)

    def read(some: Array) -> Any:
        part = resolver.select(some, whole.processings, whole.sources, whole.bands)
        arrays = [np.asarray(array) for array in features.read(part, kind, together)]
        return arrays[0] if together or len(arrays) == 1 else arrays

    lengths = [picks_len(whole.bands[name], len(features.cells.sources[name].axis)) for name in whole.sources]
    widths = tuple(len(whole.processings) * length for length in lengths)
    bytes_of = sum(w * features.cells.sources[n].dtype.itemsize for w, n in zip(widths, whole.sources, strict=True))
    ahead = None
    if src_concat == "block":
        from spectroxr.fusion import BlockScaler

        if not kind.startswith("2d"):
            raise ValueError(f"src_concat='block' scales columns, so the layout is 2d or 2d_interlaced, not {layout}.")
        ahead = BlockScaler(list(widths))
    return FoldSpectra(read, samples, whole.processings, whole.sources, widths, bytes_of, ahead)
