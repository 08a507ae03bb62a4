"""What a function or a Dask graph computes, brought to what was declared of it, or refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from spectroxr.schema import Array

__all__ = ["Checked", "as_declared", "fitting"]


def fitting(made: Any, shape: tuple[int, ...], dtype: Any, what: str) -> Array:
    """Return computed spectra in the dtype that is stored; float64 is rounded to float32.

    Parameters
    ----------
    made : array_like
        Numbers without an imaginary part.
    shape : tuple of int
        What it must have.
    dtype : dtype
        float32 or float64.
    what : str
        Names it in messages.

    Returns
    -------
    ndarray
        `made` itself where nothing is to be done.

    Raises
    ------
    ValueError
        If it has another shape, or a finite value that `dtype` cannot hold.
    TypeError
        If it is masked, complex, text or anything else but real numbers.
    """
    if isinstance(made, np.ma.MaskedArray):
        raise TypeError(f"{what} is a masked array; say what masked values are, for instance with .filled(np.nan).")
    values = np.asarray(made)
    if values.shape != shape:
        raise ValueError(f"{what} has shape {values.shape} instead of {shape}.")
    if values.dtype == dtype:
        return values
    if values.dtype.kind not in "fiub":
        raise TypeError(f"{what} is {values.dtype}; spectra are real numbers, stored as {dtype}.")
    with np.errstate(over="ignore"):
        cast = values.astype(dtype)
    lost = np.isinf(cast) & np.isfinite(values)
    if lost.any():
        raise ValueError(f"{what} holds {values[lost][0]:g}, which {dtype} cannot hold; scale it down.")
    return cast


@dataclass(frozen=True)
class Checked:
    """A function whose result is checked and cast."""

    function: Callable[[Array], Any]
    dtype: Any

    def __call__(self, block: Array) -> Array:
        """Return what the function makes of a block."""
        given = block.view()
        given.flags.writeable = False
        made = self.function(given)
        if np.shape(made) != block.shape:
            raise ValueError(
                f"the function made {np.shape(made)} of spectra {block.shape}; a change of the axis makes a new "
                "source, see add_source."
            )
        return fitting(made, block.shape, self.dtype, "what the function made")


def as_declared(array: Any) -> Any:
    """Return a Dask array of which each block, when it is computed, has the shape and dtype that Dask knows of it.

    Dask believes what it is told of a block, so one that is smaller would be read as if its rows were others'.
    """
    return array.map_blocks(_block, array.dtype, dtype=array.dtype, meta=array._meta)


def _block(block: Any, dtype: Any, block_info: Any = None) -> Array:
    where = block_info[None]
    what = f"block {tuple(where['chunk-location'])} of a Dask array, declared as {dtype},"
    return fitting(block, tuple(where["chunk-shape"]), dtype, what)
