"""Reading spectra that are not in memory: as Dask arrays, or as xarray's lazily indexed ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spectroxr.errors import nearest
from spectroxr.gather import picks_len
from spectroxr.layouts import concat_axis
from spectroxr.lazyplane import padded
from spectroxr.schema import Array, Layout
from spectroxr.selection import Selection
from spectroxr.source import FeatureSource, LazyBlock
from spectroxr.stored import StoredPlane

__all__ = ["any_dask", "check_dask_chunks", "dask_arrays", "dask_plane", "is_lazy", "lazy_selection"]

#: About this many bytes make a Dask chunk with ``chunks="auto"``.
_AUTO_BYTES = 1 << 23


def is_lazy(source: FeatureSource, processings: Sequence[str]) -> bool:
    """Tell whether some of the processings are not in memory."""
    return any(block.lazy and name in processings for block in source.blocks for name in block.processings)


def any_dask(sources: Mapping[str, FeatureSource], selection: Selection) -> bool:
    """Tell whether a selection is handed out as Dask arrays."""
    return any(
        isinstance(block, LazyBlock) and block.chunks is not None and block.processings[0] in selection.processings
        for name in selection.sources
        for block in sources[name].blocks
    )


def check_dask_chunks(chunks: Any) -> Any:
    """Return what a caller says of Dask chunks, checked.

    Raises
    ------
    ValueError, TypeError
        If it is not None, ``"auto"``, a positive whole number or a dict of these by ``row`` and ``wavelength``.
    """
    if chunks is None or chunks == "auto":
        return None if chunks is None else {"row": "auto"}
    if isinstance(chunks, int | np.integer) and not isinstance(chunks, bool):
        chunks = {"row": int(chunks)}
    if not isinstance(chunks, Mapping):
        raise TypeError(f"chunks is None, 'auto', a number of rows or a dict, not {chunks!r}.")
    for name, size in chunks.items():
        if name not in ("row", "wavelength"):
            raise ValueError(nearest(name, ("row", "wavelength"), "dimension of chunks"))
        if size != "auto" and (isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1):
            raise ValueError(f"chunks of {name} are 'auto' or a positive whole number, not {size!r}.")
    return dict(chunks)


def _dask() -> Any:
    """Return dask.array.

    Raises
    ------
    ImportError
        If the extra is not installed.
    """
    try:
        import dask.array
    except ImportError as error:
        raise ImportError("Dask arrays need Dask; install it with: python -m pip install 'spectroxr[dask]'") from error
    return dask.array


def dask_plane(block: Any, position: int, rows: int) -> Any:
    """Return one processing of a block as a Dask array, shape (row, wavelength)."""
    da = _dask()
    if not isinstance(block, LazyBlock):
        return padded(da.from_array(block.view[: block.capacity, position, :][:rows], name=False), rows)
    plane = block.plane
    if not isinstance(plane, StoredPlane):
        return padded(plane.dask, rows)
    wanted: Mapping[str, Any] = block.chunks or {}
    step, width = plane.array.grid.chunk[0], plane.array.grid.chunk[2]
    if plane.array.compression is None:
        step = min(len(plane), max(1, (1 << 21) // max(1, plane.shape[1] * plane.dtype.itemsize)))
    rows_each, width_each = wanted.get("row", step), wanted.get("wavelength", width)
    if rows_each == "auto":
        rows_each = step * max(1, _AUTO_BYTES // max(1, step * plane.shape[1] * plane.dtype.itemsize))
    if width_each == "auto":
        width_each = plane.shape[1]
    sizes, meta = (int(rows_each), int(width_each)), np.empty((0, 0), plane.dtype)
    array = da.from_array(plane, chunks=sizes, name=False, fancy=False, meta=meta)
    return padded(array, rows)


def dask_arrays(
    sources: Mapping[str, FeatureSource], selection: Selection, layout: Layout, src_concat: bool, rows: int
) -> tuple[Any, ...]:
    """Return a selection as Dask arrays, in a layout.

    Parameters
    ----------
    sources : mapping of str to FeatureSource
    selection : Selection
    layout : {"2d", "2d_interlaced", "3d", "3d_transpose"}
    src_concat : bool
    rows : int
        Physical rows of the dataset.
    """
    da = _dask()
    arrays = []
    for name in selection.sources:
        planes = []
        for processing in selection.processings:
            place = sources[name].where(processing)
            assert place is not None
            plane = dask_plane(*place, rows)[selection.rows]
            planes.append(plane[:, selection.bands[name]])
        cells = planes[0][:, None, :] if len(planes) == 1 else da.stack(planes, axis=1)
        arrays.append(_laid_out(cells, planes, layout))
    if src_concat and len(arrays) > 1:
        arrays = [da.concatenate(arrays, axis=concat_axis(layout))]
    return tuple(arrays)


def _laid_out(cells: Any, planes: Sequence[Any], layout: Layout) -> Any:
    if layout == "3d":
        return cells
    if layout == "3d_transpose":
        return cells.transpose(0, 2, 1)
    if len(planes) == 1:
        return planes[0]
    if layout == "2d":
        return _dask().concatenate(planes, axis=1)
    turned = cells.transpose(0, 2, 1)
    turned = turned.rechunk({1: -1, 2: -1})
    return turned.reshape(turned.shape[0], -1)


def lazy_selection(source: FeatureSource, selection: Selection) -> Any:
    """Return a selection of one source, shape (row, processing, wavelength), as xarray's lazily indexed array.

    Indexing it reads nothing; asking for its values reads the chunks that hold them, and keeps them with that object.
    """
    from xarray.core import indexing

    kept: Any = indexing.MemoryCachedArray
    return kept(indexing.LazilyIndexedArray(_backend(source, selection)))


def _backend(source: FeatureSource, selection: Selection) -> Any:
    from xarray.backends import BackendArray
    from xarray.core import indexing

    class SelectedSpectra(BackendArray):
        """Cells of a source behind xarray's interface for backends."""

        def __init__(self) -> None:
            bands = selection.bands[source.name]
            self.shape = (
                len(selection.samples),
                len(selection.processings),
                picks_len(bands, len(source.axis)),
            )
            self.dtype = source.dtype

        def __getitem__(self, key: Any) -> Any:
            return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._get)

        def _get(self, key: tuple[Any, ...]) -> Array:
            return _cells(source, selection, key)

    return SelectedSpectra()


def _cells(source: FeatureSource, selection: Selection, key: tuple[Any, ...]) -> Array:
    """Read the cells that an orthogonal index (whole numbers, slices, arrays) picks of a selection."""
    rows, bands = selection.rows, selection.bands[source.name]
    every = (
        np.arange(*rows.indices(1 << 62)) if isinstance(rows, slice) else rows,
        np.arange(len(selection.processings)),
        np.arange(len(source.axis))[bands],
    )
    picked = [np.atleast_1d(axis[one]) for axis, one in zip(every, key, strict=True)]
    names = [selection.processings[k] for k in picked[1]]
    out = np.empty(tuple(len(axis) for axis in picked), source.dtype)
    source.copy_out(picked[0], names, picked[2], out)
    scalars = tuple(0 if isinstance(one, int | np.integer) else slice(None) for one in key)
    return np.asarray(out[scalars])
