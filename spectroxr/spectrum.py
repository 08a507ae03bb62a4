"""Spectra that come as labelled arrays: their matrix, their axis, and their coordinates given back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spectroxr.axis import Axis
from spectroxr.schema import Array

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["axis_of_spectra", "check_axis", "described", "matrix_of", "wavelength_coords", "wavelength_names"]


def is_labelled(spectra: Any) -> bool:
    """Tell whether something is a DataArray with a wavelength dimension."""
    return hasattr(spectra, "coords") and "wavelength" in getattr(spectra, "dims", ())


def matrix_of(spectra: Any) -> Array:
    """Return the numbers of spectra as a matrix, a view where they are in memory.

    Parameters
    ----------
    spectra : DataArray or array_like, shape (row, wavelength) or (row, 1, wavelength)

    Returns
    -------
    ndarray, shape (row, wavelength)

    Raises
    ------
    ValueError
        If they have another shape.
    """
    if is_labelled(spectra) and spectra.dims[-1] != "wavelength":
        raise ValueError(f"spectra have the wavelengths last, not dimensions {spectra.dims}.")
    x = np.asarray(spectra.values if is_labelled(spectra) else spectra)
    if x.ndim == 3 and x.shape[1] == 1:
        return x[:, 0, :]
    if x.ndim == 3:
        raise ValueError(f"there are {x.shape[1]} processings; take one, such as sel({{'processing': 'raw'}}).")
    if x.ndim != 2:
        raise ValueError(f"spectra have shape (row, wavelength), not {x.shape}.")
    return x


def axis_of_spectra(spectra: Any, given: Any, width: int) -> Axis:
    """Return the axis that spectra bring, or that was given for them.

    Parameters
    ----------
    spectra : DataArray, ndarray or None
    given : array_like, DataArray, Axis or None
    width : int
        Number of wavelengths.

    Raises
    ------
    ValueError
        If nothing says it, both do and differ, or it has another length.
    """
    stated = None if given is None else _built(given, width)
    if not is_labelled(spectra):
        if stated is None:
            raise ValueError(
                "nothing says what wavelengths these spectra have; give a DataArray, such as ds['nir'], or wavelength=."
            )
        return stated
    own = _built(spectra, width)
    if stated is not None and not stated.same_as(own.values):
        raise ValueError(f"wavelength= is another axis than that of the spectra: {_differs(stated, own)}.")
    return own


def _built(given: Any, width: int) -> Axis:
    if isinstance(given, Axis):
        axis = given
    elif is_labelled(given):
        held = given.coords
        if "wavelength" not in held:
            raise ValueError("the array has a dimension wavelength, but no values of it.")
        along = held.get("source")
        names = None if along is None or along.dims != ("wavelength",) else tuple(str(name) for name in along.values)
        axis = Axis.build(held["wavelength"].values, given.sizes["wavelength"], dict(held["wavelength"].attrs), names)
    else:
        axis = Axis.build(given, width)
    if len(axis) != width:
        raise ValueError(f"there are {len(axis)} wavelengths for spectra with {width}.")
    return axis


def check_axis(spectra: Any, axis: Axis) -> None:
    """Raise if spectra that bring their axis have another one.

    Raises
    ------
    ValueError
        If so; the message names where they differ.
    """
    if is_labelled(spectra):
        own = _built(spectra, spectra.sizes["wavelength"])
        if not axis.same_as(own.values):
            raise ValueError(f"these spectra have another axis than those it was fitted on: {_differs(axis, own)}.")


def _differs(one: Axis, other: Axis) -> str:
    if len(one) != len(other):
        return f"{len(other)} wavelengths, not {len(one)}"
    k = int(np.flatnonzero(np.abs(one.values - other.values) > one.tolerance)[0])
    return f"wavelength {k} is {other.values[k]!s}, not {one.values[k]!s}"


def wavelength_names(axis: Axis) -> Array:
    """Return the wavelengths as text, shape (wavelength,), dtype object: the shortest that tells each apart."""
    texts = [np.format_float_positional(value, trim="-") for value in axis.values]
    if axis.segments is not None:
        texts = [f"{source} {text}" for source, text in zip(axis.segments, texts, strict=True)]
    return np.array(texts, dtype=object)


def wavelength_coords(axis: Axis) -> dict[str, Any]:
    """Return the coordinates of a wavelength dimension."""
    coords: dict[str, Any] = {"wavelength": ("wavelength", axis.values, _on_axis(axis))}
    if axis.segments is not None:
        coords["source"] = ("wavelength", np.array(axis.segments, dtype=object))
    return coords


def _on_axis(axis: Axis) -> dict[str, Any]:
    return {key: axis.attrs[key] for key in ("units", "laser_nm") if key in axis.attrs}


def described(values: Any, spectra: Any, axis: Axis | None) -> Any:
    """Return what was made of labelled spectra with their row coordinates; of an array, as it is.

    Parameters
    ----------
    values : ndarray, shape (row, column)
    spectra : DataArray or array_like
        What it was made of.
    axis : Axis or None
        Of the columns; None, or one of quantity "score", if they are no wavelengths.

    Returns
    -------
    DataArray or ndarray
    """
    if not is_labelled(spectra):
        return values
    import xarray as xr

    made = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    row = spectra.dims[0]
    coords: dict[str, Any] = {name: one for name, one in spectra.coords.items() if set(one.dims) <= {row}}
    kept = axis is not None and axis.attrs.get("quantity") != "score"
    if axis is not None and kept:
        coords |= wavelength_coords(axis)
    else:
        coords["latent_variable"] = ("latent_variable", np.arange(1, made.shape[1] + 1))
    array: xr.DataArray = xr.DataArray(
        made, coords, (row, "wavelength" if kept else "latent_variable"), name=spectra.name
    )
    return array
