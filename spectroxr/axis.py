"""The wavelength axis of a source: its values, unit and direction, and how labels select on it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from spectroxr.errors import UnknownNameError
from spectroxr.gather import Picks, run_of
from spectroxr.layouts import readonly
from spectroxr.schema import Array

__all__ = ["Axis", "split_attrs"]


@dataclass(frozen=True)
class Axis:
    """An axis, in the order it came in.

    Attributes
    ----------
    values : ndarray, shape (wavelength,)
        Read-only; numbers.
    attrs : dict
        ``units`` (nm, um, cm-1, eV, ...), ``quantity`` (absorbance, reflectance, ...), ``laser_nm`` for a
        Raman shift, and whatever else describes the source; JSON values.
    segments : tuple of str or None
        For a merged axis, the source each wavelength came from.
    """

    values: Array
    attrs: dict[str, Any] = field(default_factory=dict)
    segments: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def build(
        cls,
        values: Any,
        length: int,
        attrs: Mapping[str, Any] | None = None,
        segments: tuple[str, ...] | None = None,
    ) -> Axis:
        """Check and keep an axis of `length` values (default: 0, 1, 2, ...).

        Raises
        ------
        ValueError
            If the values are not as many, not one-dimensional, not finite, or not all different.
        TypeError
            If they are not numbers.
        """
        array = np.arange(length, dtype=np.float64) if values is None else np.array(values)
        if array.dtype.kind not in "iuf":
            raise TypeError(f"an axis holds numbers, not {array.dtype}.")
        if array.shape != (length,):
            raise ValueError(f"the axis has shape {array.shape}, the spectra have {length} wavelengths.")
        if not np.all(np.isfinite(array)):
            raise ValueError("the axis holds values that are not finite.")
        if segments is None and len(np.unique(array)) != length:
            raise ValueError("the axis holds the same value twice.")
        kept = {key: as_json(value, key) for key, value in (attrs or {}).items() if value is not None}
        return cls(readonly(array), kept, segments)

    def same_as(self, values: Any) -> bool:
        """Tell whether `values` are this axis but for rounding (a millionth of the finest spacing)."""
        other = np.asarray(values)
        if other.shape != self.values.shape:
            return False
        return bool(np.all(np.abs(other - self.values) <= self.tolerance))

    @property
    def tolerance(self) -> float:
        """How far a label may lie from a value to mean it."""
        if len(self.values) < 2:
            return 1e-9 * (1.0 + float(np.abs(self.values).max(initial=0.0)))
        return max(1e-6 * float(np.abs(np.diff(np.sort(self.values.astype(np.float64)))).min()), 1e-12)

    def take(self, bands: Picks) -> Axis:
        """Return the axis of some of the wavelengths."""
        if isinstance(bands, slice) and bands == slice(0, len(self), 1):
            return self
        segments = None
        if self.segments is not None:
            segments = tuple(np.asarray(self.segments, dtype=object)[bands])
        return Axis(readonly(np.ascontiguousarray(self.values[bands])), self.attrs, segments)

    def select(self, wanted: Any, source: str) -> Picks:
        """Return the positions that a label, labels, a label range or an expression picks, in axis order.

        Parameters
        ----------
        wanted : number, list, array, slice or polars.Expr
            A slice is an inclusive range of labels, its bounds in either order.
        source : str
            Name of the source, for the error.

        Raises
        ------
        UnknownNameError
            If a single label is not on the axis; the message names the nearest that is.
        TypeError
            If `wanted` is not of these kinds, or a range has a step.
        """
        values = self.values
        if isinstance(wanted, pl.Expr):
            mask = pl.DataFrame({"wavelength": values}).select(wanted).to_series()
            if mask.dtype != pl.Boolean or len(mask) != len(values):
                raise TypeError("an expression on wavelength must give one boolean per wavelength.")
            return self._picks(np.flatnonzero(mask.fill_null(False).to_numpy()))
        if isinstance(wanted, slice):
            if wanted.step is not None:
                raise TypeError("a wavelength range takes no step; list the wavelengths, or slice the result.")
            bounds = [b for b in (wanted.start, wanted.stop) if b is not None]
            if not all(isinstance(b, int | float | np.number) for b in bounds):
                raise TypeError(f"a wavelength range takes numbers, not {wanted}.")
            falling = len(values) > 1 and values[-1] < values[0]
            if len(bounds) == 2:
                low, high = min(bounds), max(bounds)
            elif falling:
                low = -np.inf if wanted.stop is None else wanted.stop
                high = np.inf if wanted.start is None else wanted.start
            else:
                low = -np.inf if wanted.start is None else wanted.start
                high = np.inf if wanted.stop is None else wanted.stop
            slack = self.tolerance
            return self._picks(np.flatnonzero((values >= low - slack) & (values <= high + slack)))
        labels = np.atleast_1d(np.asarray(wanted))
        if labels.ndim != 1 or labels.dtype.kind not in "iuf":
            raise TypeError(f"wavelength takes a number, numbers or a range, not {wanted!r}.")
        found = np.abs(values[:, None] - labels[None, :]) <= self.tolerance
        lost = labels[~found.any(axis=0)]
        if len(lost):
            near = values[np.abs(values - lost[0]).argmin()]
            raise UnknownNameError(
                f"source {source!r} has no wavelength {lost[0]!s}; the nearest is {near!s}. "
                "A range is slice(low, high)."
            )
        return self._picks(np.flatnonzero(found.any(axis=1)))

    def _picks(self, positions: Array) -> Picks:
        run = run_of(positions)
        return positions if run is None else run


def split_attrs(attrs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return copies of what describes the axis (its unit) and of what describes the spectra.

    The quantity is the ``long_name`` too, which xarray writes beside the axis of a plot.
    """
    kept = copy.deepcopy(dict(attrs))
    on_axis: dict[str, Any] = {key: kept[key] for key in ("units", "laser_nm") if key in kept}
    kept.pop("units", None)
    if "quantity" in kept:
        kept.setdefault("long_name", kept["quantity"])
    return on_axis, kept


def as_json(value: Any, name: str) -> Any:
    """Return a copy of an attribute as plain JSON: numbers and arrays of numpy as those of Python.

    Raises
    ------
    TypeError
        If JSON has nothing for it.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: as_json(item, name) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item, name) for item in value]
    raise TypeError(f"attribute {name!r} is kept as JSON, which has nothing for a {type(value).__name__}: {value!r}.")
