"""Reading features: from filters to arrays and labelled arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from spectroxr.axis import Axis
from spectroxr.cells import Cells
from spectroxr.errors import NoViewError, UnknownNameError, nearest
from spectroxr.index import Index
from spectroxr.labels import labelled, tree_of
from spectroxr.layouts import readonly
from spectroxr.lazyread import any_dask, dask_arrays, is_lazy, lazy_selection
from spectroxr.log import enabled, log
from spectroxr.matching import SideTable
from spectroxr.remedy import remedy
from spectroxr.schema import Array, Filter, check_layout
from spectroxr.selection import Resolver, Selection
from spectroxr.source import Block, FeatureSource
from spectroxr.views import copied, view_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FeatureReader"]


class FeatureReader:
    """What can be asked of the features without changing them; `FeatureBlock` adds the writes."""

    def __init__(self, side: dict[str, SideTable] | None = None) -> None:
        self._cells = Cells()
        self._resolver = Resolver(self._cells.index, side if side is not None else {}, self._axes)

    @property
    def sources(self) -> list[FeatureSource]:
        """The sources, in order; each has ``.name``, ``.array`` (ndarray) and ``.data`` (DataArray)."""
        return list(self._cells.sources.values())

    @property
    def index(self) -> Index:
        """The index behind `index_df`."""
        return self._cells.index

    @property
    def resolver(self) -> Resolver:
        """What turns filters into samples."""
        return self._resolver

    @property
    def cells(self) -> Cells:
        """The state behind this block, for storage."""
        return self._cells

    @property
    def processings(self) -> tuple[str, ...]:
        """Names of the processings, oldest first."""
        return self._cells.index.processings

    def n_samples(self) -> int:
        """Return the number of samples, augmented ones included."""
        return len(self._cells.index)

    def _select(self, filter: Filter, only: str | None = None) -> Selection:
        cells = self._cells
        if not cells.sources:
            raise ValueError("there are no features yet; add_features comes first.")
        return self._resolver.resolve(filter, cells.epoch, only)

    def _axes(self) -> dict[str, Axis]:
        return {name: source.axis for name, source in self._cells.sources.items()}

    def read(
        self,
        selection: Selection,
        layout: str = "2d",
        src_concat: bool = False,
        copy: bool | None = None,
        out: Any = None,
    ) -> tuple[Array, ...]:
        """Return a selection as arrays; see `x`."""
        kind = check_layout(layout)
        if copy not in (None, True, False):
            raise TypeError(f"copy is None, False or True, not {copy!r}.")
        sources = self._cells.sources
        if out is not None and copy is False:
            raise ValueError("out= copies, so it cannot go with copy=False.")
        if copy is None and out is None and any_dask(sources, selection):
            return dask_arrays(sources, selection, kind, src_concat, self._cells.rows)
        if out is None and copy is not True:
            self._keep_whole(selection)
        self._bring_together(selection)
        if out is not None or copy is True:
            return copied(sources, selection, kind, src_concat, out)
        views = view_of(sources, selection, kind, src_concat, explain=copy is False)
        if isinstance(views, tuple):
            return views
        if copy is False:
            raise NoViewError(f"{views}. {remedy(self._cells, selection, kind, src_concat, self.column)}")
        arrays = copied(sources, selection, kind, src_concat)
        return tuple(readonly(array) for array in arrays)

    def _keep_whole(self, selection: Selection) -> None:
        """Read into memory, once, what lies in a store and is asked for as a whole: all samples, all wavelengths."""
        cells = self._cells
        lines = cells.index.lines
        if any(len(lines[name].samples) != len(selection.samples) for name in selection.processings):
            return
        for name in selection.sources:
            source = cells.sources[name]
            bands = selection.bands[name]
            whole = isinstance(bands, slice) and bands == slice(0, len(source.axis), 1)
            if not whole or not is_lazy(source, selection.processings):
                continue
            with cells.lock:
                if is_lazy(source, selection.processings):
                    source.consolidate(selection.processings, cells.rows)

    def _bring_together(self, selection: Selection) -> None:
        """Make one block of variants stored apart, where several are read of a range or of an eighth of all rows."""
        cells = self._cells
        some = not isinstance(selection.rows, slice) and 8 * len(selection.samples) < cells.rows
        if len(selection.processings) == 1 or some:
            return
        for name in selection.sources:
            source = cells.sources[name]
            if source.together(selection.processings) or not isinstance(selection.bands[name], slice):
                continue
            with cells.lock:
                if source.together(selection.processings) is None and not any(b.mapped for b in source.blocks):
                    source.consolidate([p for p in cells.index.processings if source.where(p)], cells.rows)

    def physical(self, name: str) -> Array:
        """Return all rows of a source, ``(row, processing, wavelength)``, read-only."""
        cells = self._cells
        source = cells.source(name)
        names = [p for p in cells.index.processings if source.where(p)]
        with cells.lock:
            if source.together(names) is None or is_lazy(source, names):
                source.consolidate(names, cells.rows)
            for processing in names:
                source.reserve(processing, cells.rows, cells.rows, writing=False)
            source.settle(cells.rows)
        block = source.together(names)
        assert isinstance(block, Block)
        order = [block.processings.index(p) for p in names]
        view = block.view[: cells.rows]
        return view if order == list(range(len(order))) else view[:, order]

    def x(
        self,
        filter: Filter = None,
        layout: str = "2d",
        src_concat: bool = False,
        *,
        copy: bool | None = None,
        out: Any = None,
    ) -> tuple[Array, ...]:
        """Return the spectra that a filter selects, samples in ascending order of their ids.

        Parameters
        ----------
        filter : None, dict or polars.Expr
            ``{"partition": "train"}``; see `SpectroDataset`. Where it leaves a single source and names no processing,
            all processings that this source has are selected.
        layout : {"2d", "2d_interlaced", "3d", "3d_transpose"}
            ``2d``: (sample, feature), features ordered p0w0 p0w1 ... p1w0 ...; ``2d_interlaced``: w0p0 w0p1 ...;
            ``3d``: (sample, processing, wavelength); ``3d_transpose``: (sample, wavelength, processing).
        src_concat : bool
            Put the sources side by side on the feature axis, in one array.
        copy : bool, optional
            None: a view where one exists, else a copy, read-only either way. False: a view or a `NoViewError` that
            names the reason and the remedy. True: a private writable copy.
        out : ndarray or sequence of ndarray, optional
            Write the result there instead, with no temporary of its size.

        Returns
        -------
        tuple of ndarray
            One per selected source, of its dtype (float32 or float64), or one in all with `src_concat`, of the dtype
            that holds them all; processings and sources are in the order of
            the dataset, whatever order the filter lists them in.

        Raises
        ------
        UnknownNameError
            If the filter names a key, source or processing that does not exist.
        NotRectangularError
            If a selected sample lacks a selected processing in a selected source.
        NoViewError
            If `copy` is False and no view exists.
        ValueError
            If nothing matches.
        """
        selection = self._select(filter)
        arrays = self.read(selection, layout, src_concat, copy, out)
        if enabled():
            kind = "view" if self._shares(arrays, selection) else "copy"
            log(f"x: {len(selection.samples)} samples, {list(selection.sources)}, layout {layout}, {kind}")
        return arrays

    def _shares(self, arrays: tuple[Array, ...], selection: Selection) -> bool:
        blocks = [block for name in selection.sources for block in self._cells.sources[name].blocks]
        return any(np.may_share_memory(arrays[0], b.memory) for b in blocks if b.memory is not None)

    def x_of(
        self, sides: Sequence[Array], filter: Filter, layout: str, src_concat: bool
    ) -> list[tuple[Array, tuple[Array, ...]]]:
        """Return of each set of samples (ascending, disjoint) those a filter selects, and their spectra as `x`.

        The sets together must be rectangular, so that they have the same columns.
        """
        everyone = np.sort(np.concatenate(sides))
        whole = self._resolver.resolve_within(everyone, filter)
        kept_all = len(whole.samples) == len(everyone)
        found = []
        for samples in sides:
            some = samples if kept_all else np.intersect1d(whole.samples, samples, assume_unique=True)
            if not len(some):
                raise ValueError(f"the filter {filter!s} leaves no sample of one side of a fold.")
            part = self._resolver.select(some, whole.processings, whole.sources, whole.bands)
            found.append((part.samples, self.read(part, layout, src_concat)))
        return found

    def get_indexed_features(
        self,
        filter: Filter = None,
        layout: str = "2d",
        src_concat: bool = False,
        *,
        copy: bool | None = None,
        out: Any = None,
    ) -> tuple[tuple[Array, ...], pl.DataFrame]:
        """Return the spectra that a filter selects, and their index line by line.

        Parameters
        ----------
        filter, layout, src_concat, copy, out
            As in `x`.

        Returns
        -------
        arrays : tuple of ndarray
        index : polars.DataFrame
            The columns of `index_df`, one line per sample, in the order of the arrays. ``processing`` is null if
            several are selected, and so is ``branch`` where they differ in it.

        Raises
        ------
        UnknownNameError, NotRectangularError, NoViewError, ValueError, TypeError
            As `x`.
        """
        selection = self._select(filter)
        arrays = self.read(selection, layout, src_concat, copy, out)
        if enabled():
            log(f"get_indexed_features: {len(selection.samples)} samples, layout {layout}")
        return arrays, selection.index(self._cells.index)

    def x_exists(self, filter: Filter = None) -> bool:
        """Tell whether a filter matches any spectrum; a value that does not exist is no match.

        Raises
        ------
        UnknownNameError
            If a key of the filter names nothing: that is a mistake, not an absence.
        """
        found = self._resolver.any_cell(filter)
        if enabled():
            log(f"x_exists: {found}")
        return found

    def column(self, name: str) -> pl.Series:
        """Return a column of the index, the metadata or the targets, one value per sample, ids ascending.

        Raises
        ------
        UnknownNameError
            If there is none of that name.
        ValueError
            If two tables have one.
        """
        index = self._cells.index
        if name == "branch":
            return pl.Series(name, index.first_branch(np.arange(len(index), dtype=np.uint32)))
        if name in index.samples.columns:
            return index.samples[name]
        homes = {kind: table for kind, table in self._resolver.side.items() if name in table.columns}
        if len(homes) > 1:
            raise ValueError(f"column {name!r} is ambiguous: it is one of {' and '.join(homes)}. Rename one of them.")
        for table in homes.values():
            return table.column(name).alias(name)
        valid = [
            *index.samples.columns,
            "branch",
            *(c for t in self._resolver.side.values() for c in t.columns),
        ]
        raise UnknownNameError(nearest(name, valid, "column"))

    def sel(self, filter: Filter = None, source: str | int | None = None) -> xr.DataArray:
        """Return the spectra of one source that a filter selects, labelled.

        Parameters
        ----------
        filter : None, dict or polars.Expr
        source : str or int, optional
            Which one (default: the only one selected).

        Returns
        -------
        xarray.DataArray
            Dims ``(row, processing, wavelength)``; read-only, and a view where one exists. Coordinates ``sample,
            origin, partition, group, branch`` mirror the index and cannot be written either.

        Raises
        ------
        ValueError
            If several sources are selected and none is named, or nothing matches.
        UnknownNameError, NotRectangularError, TypeError
            As `x`.
        """
        only = None if source is None else self._cells.source(source).name
        selection = self._select(filter, only)
        if len(selection.sources) != 1:
            raise ValueError(
                f"sel returns one source, {list(selection.sources)} are selected; name one with source=..., or take "
                "ds.tree for all."
            )
        (array,) = self._labelled(selection).values()
        if enabled():
            log(f"sel: {dict(array.sizes)}, source {array.name!r}")
        return array

    def _labelled(self, selection: Selection) -> dict[str, xr.DataArray]:
        cells = self._cells
        sources = cells.sources
        some = [name for name in selection.sources if is_lazy(sources[name], selection.processings)]
        arrays: Sequence[Any]
        if some and not any_dask(sources, selection):
            arrays = [lazy_selection(sources[name], selection) for name in selection.sources]
        else:
            arrays = self.read(selection, "3d")
        return {
            name: labelled(array, selection, cells.index, name, cells.sources[name].axis, selection.bands[name])
            for name, array in zip(selection.sources, arrays, strict=True)
        }

    @property
    def tree(self) -> xr.DataTree:
        """All samples as an `xarray.DataTree`: one child per source, its variable named ``spectra``.

        Each child has the processings of its source.
        """
        if not self._cells.sources:
            raise ValueError("there are no features yet; add_features comes first.")
        arrays: dict[str, xr.DataArray] = {}
        for name in self._cells.sources:
            arrays |= self._labelled(self._select(None, name))
        tree = tree_of(arrays)
        if enabled():
            log(f"tree: {len(self._cells.sources)} sources")
        return tree
