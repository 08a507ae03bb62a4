"""What users hand in as spectra, brought to one form: names, ``(n, processing, wavelength)`` arrays, axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spectroxr.axis import Axis
from spectroxr.casting import as_declared
from spectroxr.errors import UnknownNameError, nearest
from spectroxr.lazyplane import is_dask
from spectroxr.schema import FLOATS, Array

__all__ = ["Incoming", "axis_of", "check_samples_named", "check_spectra", "per_source", "take_in", "unlabelled"]


@dataclass(frozen=True)
class Incoming:
    """One source's spectra as handed in.

    Attributes
    ----------
    name : str or None
        None where the caller gave none.
    data : ndarray or None
        ``(n, processing, wavelength)``, float; None for a hole.
    processings : tuple of str or None
        As named by the caller or a coordinate.
    axis : ndarray or None
    attrs : dict
    labels : dict
        ``sample``, ``partition``, ``group``, ``branch`` found as row coordinates.
    segments : tuple of str or None
        The source each wavelength of a merged axis came from.
    """

    name: str | None
    data: Array | None
    processings: tuple[str, ...] | None = None
    axis: Array | None = None
    attrs: dict[str, Any] | None = None
    labels: dict[str, Array] | None = None
    segments: tuple[str, ...] | None = None


def check_spectra(array: Any, what: str) -> Array:
    """Return `array` as it is if it is numeric spectra in float32 or float64.

    Raises
    ------
    TypeError
        If it is of another type; integers are never cast silently.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{what} are a masked array; say what masked values are, for instance with .filled(np.nan).")
    array = array if is_dask(array) else np.asarray(array)
    checked: Array = array
    if array.dtype not in FLOATS:
        raise TypeError(
            f"{what} are {array.dtype}; spectra are float32 or float64. Cast them yourself, for instance with "
            ".astype('float32')."
        )
    if not array.dtype.isnative:
        raise TypeError(f"{what} are in foreign byte order; cast them with .astype('{array.dtype.name}').")
    return checked


def per_source(value: Any, names: Sequence[str], what: str) -> list[Any]:
    """Spread an option over sources: a mapping by name, a sequence by position, or one value for all.

    Raises
    ------
    UnknownNameError
        If a mapping names no source.
    ValueError
        If a sequence is not as long as the sources.
    """
    if isinstance(value, Mapping):
        for key in value:
            if key not in names:
                raise UnknownNameError(nearest(key, names, f"source in {what}"))
        return [value.get(name) for name in names]
    if isinstance(value, list | tuple) and (len(names) > 1 or (len(value) == 1 and not np.isscalar(value[0]))):
        if len(value) != len(names):
            raise ValueError(f"{what} has {len(value)} entries for {len(names)} sources.")
        return list(value)
    return [value] * len(names)


def take_in(spectra: Any) -> list[Incoming]:
    """Bring spectra to one form, copying nothing.

    Parameters
    ----------
    spectra : sequence or mapping of arrays or DataArrays, or one of them
        A mapping gives the sources their names; None stands for a source that was not measured.

    Raises
    ------
    TypeError, ValueError
        If an array has not two or three dimensions or is not float.
    """
    if isinstance(spectra, Mapping):
        for name in spectra:
            if not isinstance(name, str):
                raise TypeError(f"the name of a source is text, not {type(name).__name__} ({name!r}).")
        return [_one(value, str(name)) for name, value in spectra.items()]
    if hasattr(spectra, "dims") or (isinstance(spectra, np.ndarray) and spectra.dtype != object):
        return [_one(spectra, None)]
    if not isinstance(spectra, Sequence) or isinstance(spectra, str):
        raise TypeError(
            "spectra come as a list of arrays, one per source, or a dict of them by name, "
            f"not as {type(spectra).__name__}."
        )
    if not spectra:
        raise ValueError("there is no source in an empty list.")
    return [_one(value, None) for value in spectra]


def _one(value: Any, name: str | None) -> Incoming:
    what = f"the spectra of source {name!r}" if name else "the spectra"
    if value is None:
        return Incoming(name, None)
    if hasattr(value, "dims") and hasattr(value, "coords"):
        given = _labelled(value, name, what)
    else:
        given = Incoming(name, _three(check_spectra(value, what), what))
    return replace(given, data=as_declared(given.data)) if is_dask(given.data) else given


def _three(array: Array, what: str) -> Array:
    if array.ndim == 2:
        array = array[:, None, :]
    if array.ndim != 3:
        raise ValueError(f"{what} have shape {array.shape}; give (row, wavelength) or (row, processing, wavelength).")
    if array.shape[1] == 0 or array.shape[2] == 0:
        raise ValueError(f"{what} have shape {array.shape}: no processing or no wavelength.")
    return array


def _labelled(value: Any, name: str | None, what: str) -> Incoming:
    dims = list(value.dims)
    if "wavelength" not in dims:
        raise ValueError(f"{what} have dims {dims}; one must be 'wavelength'.")
    rest = [dim for dim in dims if dim not in ("wavelength", "processing")]
    if len(rest) != 1:
        raise ValueError(f"{what} have dims {dims}; besides 'wavelength' and 'processing' there is one for rows.")
    order = [rest[0], *(["processing"] if "processing" in dims else []), "wavelength"]
    turned = value.transpose(*order)
    array = _three(check_spectra(turned.data, what), what)
    coords = value.coords
    processings = None
    if "processing" in coords and coords["processing"].ndim <= 1:
        processings = tuple(str(p) for p in np.atleast_1d(coords["processing"].values))
    axis = coords["wavelength"].values if "wavelength" in coords else None
    attrs = dict(value.attrs)
    if attrs.get("long_name") == attrs.get("quantity"):
        attrs.pop("long_name", None)
    if "wavelength" in coords:
        attrs = {**{k: v for k, v in coords["wavelength"].attrs.items() if k == "units"}, **attrs}
    labels = {
        key: coords[key].values
        for key in ("sample", "partition", "group", "branch")
        if key in coords and coords[key].dims == (rest[0],)
    }
    segments = None
    if "source" in coords and coords["source"].dims == ("wavelength",):
        segments = tuple(str(part) for part in coords["source"].values)
    own = str(value.name) if name is None and value.name is not None else name
    return Incoming(own, array, processings, axis, attrs, labels, segments)


def axis_of(given: Incoming, values: Any, attrs: Mapping[str, Any], previous: Axis | None = None) -> Axis:
    """Return the axis of incoming spectra, or that of their source if they do not contradict it.

    Raises
    ------
    ValueError
        If the number of wavelengths, the axis, the unit or the quantity differ from the source's.
    """
    assert given.data is not None
    width = given.data.shape[2]
    stated = values if values is not None else given.axis
    known = {**(given.attrs or {}), **{k: v for k, v in attrs.items() if v is not None}}
    if previous is None:
        return Axis.build(stated, width, known, given.segments)
    what = f"source {given.name!r}"
    if width != len(previous):
        raise ValueError(f"{what} has {len(previous)} wavelengths, the new rows have {width}.")
    if stated is not None and not previous.same_as(stated):
        worst = np.abs(np.asarray(stated, dtype=np.float64) - previous.values).max()
        raise ValueError(
            f"the axis of the new rows differs from that of {what} by up to {worst:g}; resample them, or add them "
            "as a source of their own."
        )
    check_kind(known, previous, what)
    return previous


def check_kind(attrs: Mapping[str, Any], axis: Axis, what: str) -> None:
    """Raise if spectra say to be in another unit or of another quantity than their source.

    Raises
    ------
    ValueError
        If so.
    """
    for key in ("units", "quantity"):
        if key in attrs and key in axis.attrs and attrs[key] != axis.attrs[key]:
            raise ValueError(
                f"{what} has {key} {axis.attrs[key]!r}, the new spectra {attrs[key]!r}; convert them first."
            )


def check_samples_named(labels: Mapping[str, Array] | None, ids: Array, what: str) -> None:
    """Raise if spectra are labelled with other samples than they are given for.

    Raises
    ------
    ValueError
        If so.
    """
    named = (labels or {}).get("sample")
    if named is not None and not np.array_equal(named, ids):
        raise ValueError(
            f"{what} are of samples {named.tolist()[:10]}, but given for {ids.tolist()[:10]}; pass .values to write "
            "them to other samples."
        )


def unlabelled(value: Any, axis: Axis, ids: Array, what: str) -> Array:
    """Return a DataArray of one processing as ``(sample, wavelength)``, its labels checked against axis and samples.

    Raises
    ------
    ValueError
        If its dims, its axis or its ``sample`` coordinate do not fit.
    """
    given = _labelled(value, None, what)
    assert given.data is not None
    if given.data.shape[1] != 1:
        raise ValueError(f"{what} have {given.data.shape[1]} processings; write them one at a time.")
    if given.axis is not None and not axis.same_as(given.axis):
        raise ValueError(
            f"{what} are on another axis than the source; add_source takes spectra on an axis of their own."
        )
    check_kind(given.attrs or {}, axis, "the source")
    check_samples_named(given.labels, ids, what)
    return given.data[:, 0, :]
