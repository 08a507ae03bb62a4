"""One source in memory: blocks of ``(row, processing, wavelength)`` and the processings they hold.

A block is one buffer. Spectra that arrive together share a block; a variant added later gets a block of its
own, and the blocks become one at the first read that needs them together (`FeatureSource.consolidate`).
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from spectroxr.axis import Axis
from spectroxr.gather import Picks, copy_all, run_of
from spectroxr.layouts import readonly
from spectroxr.lazyplane import DaskPlane, padded
from spectroxr.schema import Array

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Block", "FeatureSource", "LazyBlock", "allocate"]


def allocate(rows: int, processings: int, width: int, dtype: Any, interlaced: bool = False) -> Array:
    """Return an uninitialised ``(row, processing, wavelength)`` array.

    Rows that are never written take no memory. With `interlaced` the wavelength axis is the slow one of the
    last two, so that ``2d_interlaced`` is a view.
    """
    if interlaced:
        return np.empty((rows, width, processings), dtype=dtype).transpose(0, 2, 1)
    return np.empty((rows, processings, width), dtype=dtype)


def _one(buffer: Array, k: int) -> Array:
    """Return one processing of a buffer, its dimension kept."""
    return buffer[:, k : k + 1, :]


class Owner(Protocol):
    """What a source asks of the block it belongs to."""

    def physical(self, name: str) -> Array:
        """All rows of a source."""

    def sel(self, filter: None, source: str) -> xr.DataArray:
        """All samples of a source, labelled."""


class Block:
    """A buffer and the processings along its second axis.

    Parameters
    ----------
    buffer : ndarray, shape (capacity, processing, wavelength)
    processings : list of str
    arena : object, optional
        The larger buffer that this one is a part of, shared with other sources.
    filled : list of int, optional
        Per processing, how many rows hold spectra or NaN; memory beyond was never written (default: all do).
    stored : sequence of StoredPlane, optional
        Per processing, where a mapped buffer lies in a store.
    """

    lazy = False

    def __init__(
        self,
        buffer: Array,
        processings: list[str],
        arena: Array | None = None,
        filled: list[int] | None = None,
        stored: Sequence[Any] | None = None,
    ) -> None:
        self.buffer = buffer
        self.view = readonly(buffer)
        self.processings = processings
        self.arena = arena
        self.filled = [buffer.shape[0]] * len(processings) if filled is None else filled
        self.stored = stored

    @property
    def memory(self) -> Array | None:
        """The memory that views of this block share."""
        return self.buffer

    @property
    def state(self) -> str:
        """Where the spectra are: ``in memory`` or ``mapped``."""
        return "mapped" if self.mapped else "in memory"

    @property
    def nbytes(self) -> int:
        """Bytes of the buffer."""
        return int(self.buffer.nbytes)

    def copy_into(self, rows: Picks, positions: Sequence[int], bands: Picks, out: Array) -> None:
        """Copy cells into `out`, shape ``(n, processing, wavelength)`` of any strides."""
        copy_all(self.view, rows, positions, bands, out)

    def settle(self, position: int, rows: int, but: Array | None = None) -> None:
        """Make rows below `rows` that were never written NaN, but those that are about to be."""
        start = self.filled[position]
        if rows <= start:
            return
        blank = np.ones(rows - start, dtype=bool)
        if but is not None:
            blank[but[but >= start] - start] = False
        self.buffer[start:rows, position, :][blank] = np.nan
        self.filled[position] = rows

    @property
    def capacity(self) -> int:
        """Rows that fit."""
        return int(self.buffer.shape[0])

    @property
    def mapped(self) -> bool:
        """Whether the buffer cannot be written because it is a map of a file."""
        return not self.buffer.flags.writeable

    @property
    def interlaced(self) -> bool:
        """Whether the processings of one wavelength lie next to each other."""
        return self.buffer.shape[1] > 1 and self.buffer.strides[1] < self.buffer.strides[2]


class LazyBlock:
    """One processing whose spectra are not in memory: they lie in a store, or Dask computes them.

    Parameters
    ----------
    plane : StoredPlane or DaskPlane
    processing : str
    chunks : mapping, optional
        Sizes of the Dask chunks that this block is handed out in; None: as numpy arrays.
    """

    lazy = True
    mapped = True
    interlaced = False
    arena = None

    def __init__(self, plane: Any, processing: str, chunks: Mapping[str, Any] | None = None) -> None:
        self.plane = plane
        self.processings = [processing]
        self.chunks = chunks
        self.filled = [len(plane)]

    @property
    def memory(self) -> None:
        """None: no view shares it."""
        return

    @property
    def state(self) -> str:
        """Where the spectra are."""
        return "computed by Dask" if hasattr(self.plane, "dask") else "in the store"

    @property
    def nbytes(self) -> int:
        """Bytes the spectra would take in memory."""
        return int(np.prod(self.plane.shape)) * int(self.plane.dtype.itemsize)

    @property
    def capacity(self) -> int:
        """Rows there are."""
        return len(self.plane)

    def copy_into(self, rows: Picks, positions: Sequence[int], bands: Picks, out: Array) -> None:
        """Read cells into `out`, shape ``(n, 1, wavelength)``: only the chunks that hold them."""
        self.plane.read(rows, bands, out[:, 0, :])

    def settle(self, position: int, rows: int, but: Array | None = None) -> None:
        """Nothing to do: all rows are there."""


class FeatureSource:
    """One instrument or modality: its axis, and its spectra by row and processing.

    Attributes
    ----------
    name : str
    axis : Axis
    dtype : numpy.dtype
        float32 or float64, of all processings.
    """

    def __init__(self, name: str, axis: Axis, dtype: Any, owner: Owner) -> None:
        self.name = name
        self.axis = axis
        self.dtype = np.dtype(dtype)
        self.blocks: list[Block | LazyBlock] = []
        self._owner: Owner = weakref.proxy(owner)
        self._retired: list[tuple[weakref.ref[Array], dict[str, int]]] = []

    def __repr__(self) -> str:
        unit = self.axis.attrs.get("units", "")
        return (
            f"<FeatureSource {self.name!r}: {len(self.axis)} wavelengths {unit}, "
            f"{len(self.processings)} processings, {self.dtype}>"
        )

    @property
    def processings(self) -> tuple[str, ...]:
        """Processings this source has a buffer for."""
        return tuple(name for block in self.blocks for name in block.processings)

    @property
    def array(self) -> Array:
        """All physical rows, shape ``(row, processing, wavelength)``: a read-only view of the store.

        Processings are in the order of the dataset; a cell that the index does not know (a hole) is NaN, or what was
        there before its sample moved. Variants that were stored apart are brought together first, once.
        """
        return self._owner.physical(self.name)

    @property
    def data(self) -> xr.DataArray:
        """All samples as a DataArray with dims ``(row, processing, wavelength)``; see ``ds[name]``."""
        return self._owner.sel(None, source=self.name)

    def where(self, processing: str) -> tuple[Block | LazyBlock, int] | None:
        """Return the block that holds a processing and its position there, or None."""
        for block in self.blocks:
            if processing in block.processings:
                return block, block.processings.index(processing)
        return None

    def together(self, processings: Sequence[str]) -> Block | LazyBlock | None:
        """Return the one block that holds all of `processings`, or None."""
        for block in self.blocks:
            if all(name in block.processings for name in processings):
                return block
        return None

    def reserve(self, processing: str, rows: int, used: int, *, writing: bool = True) -> None:
        """Make room for `rows` rows of a processing, of which the first `used` are in use.

        A buffer that is too small, or is a map of a file and to be written, is replaced by one in memory; one that
        is too small by one of at least twice its rows.
        """
        place = self.where(processing)
        if place is None:
            fresh = Block(allocate(max(rows, used), 1, len(self.axis), self.dtype), [processing], filled=[0])
            self.blocks = [*self.blocks, fresh]
            return
        block = place[0]
        if rows <= block.capacity and not (writing and block.mapped):
            return
        capacity = block.capacity if rows <= block.capacity else max(rows, 2 * block.capacity)
        buffer = allocate(capacity, len(block.processings), len(self.axis), self.dtype, block.interlaced)
        n = min(used, block.capacity)
        block.copy_into(slice(0, n, 1), range(len(block.processings)), slice(0, len(self.axis), 1), buffer[:n])
        self._retire(block)
        grown = Block(buffer, block.processings, filled=[min(n, k) for k in block.filled])
        self.blocks = [grown if one is block else one for one in self.blocks]

    def _retire(self, block: Block | LazyBlock) -> None:
        if isinstance(block, Block) and block.buffer.flags.writeable:
            places = {name: k for k, name in enumerate(block.processings)}
            self._retired.append((weakref.ref(block.buffer), places))

    def put(self, processing: str, rows: Array, data: Any) -> None:
        """Write `data`, shape ``(len(rows), wavelength)``, into reserved rows of a processing.

        Views of the same cells handed out before a buffer grew show it too, as long as they live.
        """
        place = self.where(processing)
        assert place is not None
        run = run_of(rows)
        picks: Picks = rows if run is None else run
        block, k = place
        assert isinstance(block, Block)
        block.settle(k, int(rows.max(initial=-1)) + 1, rows)
        block.buffer[picks, k, :] = data
        living = []
        for ref, places in self._retired:
            old = ref()
            if old is None:
                continue
            living.append((ref, places))
            if processing in places:
                inside = rows < old.shape[0]
                old[rows[inside], places[processing], :] = data[inside]
        self._retired = living

    def put_lazy(self, processing: str, rows: Array, data: Any, total: int) -> None:
        """Take a Dask array, shape ``(len(rows), wavelength)``, as a new processing; it is computed when it is read."""
        order = np.argsort(rows)
        if len(rows) < total or not np.array_equal(order, np.arange(total)):
            lines = np.full(total, len(rows))
            lines[rows] = np.arange(len(rows))
            data = padded(data, len(rows) + 1)[lines]
        self.blocks = [*self.blocks, LazyBlock(DaskPlane(data), processing, {})]

    def copy_rows(self, processing: str, old: Array, new: Array) -> None:
        """Copy rows of a processing to other (reserved) rows of it."""
        place = self.where(processing)
        assert place is not None
        block, k = place
        assert isinstance(block, Block)
        block.settle(k, int(new.max(initial=-1)) + 1, new)
        block.buffer[new, k, :] = block.buffer[old, k, :]

    def settle(self, rows: int) -> None:
        """Make every cell below `rows` that was never written NaN, as far as buffers reach."""
        for block in self.blocks:
            if not block.mapped:
                for k in range(len(block.processings)):
                    block.settle(k, min(rows, block.capacity))

    def consolidate(self, processings: Sequence[str], rows: int) -> None:
        """Bring `processings`, in this order, into one block, C-ordered by row.

        The blocks they came from stay alive for as long as views of them do.
        """
        touched = [block for block in self.blocks if any(name in processings for name in block.processings)]
        names = [*processings, *(n for b in touched for n in b.processings if n not in processings)]
        buffer = allocate(rows, len(names), len(self.axis), self.dtype)
        filled = [0] * len(names)
        lazy = [b.processings[0] for b in touched if isinstance(b, LazyBlock) and b.capacity >= rows]
        run = run_of(np.array([names.index(name) for name in lazy]))
        together = lazy if run is not None and len(lazy) > 1 else []
        if together:
            self.copy_out(slice(0, rows, 1), together, slice(0, len(self.axis), 1), buffer[:, run])
            filled = [rows if name in together else 0 for name in names]
        for block in touched:
            if block.processings[0] in together:
                continue
            for k, name in enumerate(block.processings):
                n = filled[names.index(name)] = min(rows, block.filled[k])
                block.copy_into(slice(0, n, 1), [k], slice(0, len(self.axis), 1), _one(buffer[:n], names.index(name)))
        for block in touched:
            self._retire(block)
        self.adopt([Block(buffer, names, filled=filled), *(b for b in self.blocks if b not in touched)])

    def adopt(self, blocks: Sequence[Block | LazyBlock]) -> None:
        """Replace the blocks in one step."""
        self.blocks = list(blocks)

    def holds(self, array: Array) -> bool:
        """Tell whether an array may be memory of this source, or of what earlier views of it show."""
        earlier = [old for ref, _ in self._retired if (old := ref()) is not None]
        buffers = [*(block.memory for block in self.blocks if block.memory is not None), *earlier]
        return any(np.may_share_memory(array, buffer) for buffer in buffers)

    def forget_views(self) -> None:
        """Stop following earlier views: rows are about to be numbered anew."""
        self._retired = []

    def copy_out(self, rows: Picks, processings: Sequence[str], bands: Picks, out: Array) -> None:
        """Copy cells into `out`, shape ``(n, processing, wavelength)`` of any strides.

        Parameters
        ----------
        rows, bands : slice or ndarray of intp
        processings : sequence of str
        out : ndarray
        """
        kept = list(range(len(processings)))
        if any(block.lazy for block in self.blocks):
            kept = self._read_together(rows, processings, bands, out)
        groups: list[tuple[Block | LazyBlock, list[int], list[int]]] = []
        for k in kept:
            place = self.where(processings[k])
            assert place is not None
            for block, inside, outside in groups:
                if block is place[0]:
                    inside.append(place[1])
                    outside.append(k)
                    break
            else:
                groups.append((place[0], [place[1]], [k]))
        for block, inside, outside in groups:
            run = run_of(np.asarray(outside))
            if run is not None:
                block.copy_into(rows, inside, bands, out[:, run])
                continue
            for position, k in zip(inside, outside, strict=True):
                block.copy_into(rows, [position], bands, out[:, k : k + 1])

    def _read_together(self, rows: Picks, processings: Sequence[str], bands: Picks, out: Array) -> list[int]:
        """Read what lies in one stored array in one go; return which processings are not read yet."""
        stored: dict[int, tuple[Any, list[int], list[int]]] = {}
        for k, name in enumerate(processings):
            place = self.where(name)
            plane = place[0].plane if place is not None and isinstance(place[0], LazyBlock) else None
            if plane is not None and hasattr(plane, "array"):
                _, inside, outside = stored.setdefault(id(plane.array), (plane.array, [], []))
                inside.append(plane.position)
                outside.append(k)
        done: set[int] = set()
        for array, inside, outside in stored.values():
            run = run_of(np.asarray(outside))
            if run is not None and len(outside) > 1:
                array.read(rows, inside, bands, out[:, run])
                done |= {*outside}
        return [k for k in range(len(processings)) if k not in done]

    def rename(self, processing: str, to: str) -> None:
        """Give a processing another name."""
        for block in self.blocks:
            block.processings = [to if name == processing else name for name in block.processings]
        self._retired = [
            (ref, {to if name == processing else name: k for name, k in places.items()})
            for ref, places in self._retired
        ]
