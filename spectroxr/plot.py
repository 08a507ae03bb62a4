"""Figures of spectra and predictions, with matplotlib (``pip install "spectroxr[plot]"``).

Matplotlib is imported when a figure is drawn. A figure is made with pyplot, and so by the backend the user has chosen,
only where no axes are given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import polars as pl

from spectroxr.errors import UnknownNameError, nearest
from spectroxr.lineagefigure import lineage
from spectroxr.schema import Array

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection

__all__ = ["lineage", "over_time", "spectra"]

#: What an axis in a unit is called, and how the unit is printed.
AXES = {
    "nm": ("Wavelength", "nm"),
    "um": ("Wavelength", "µm"),
    "µm": ("Wavelength", "µm"),
    "cm-1": ("Wavenumber", "cm$^{-1}$"),
    "eV": ("Photon energy", "eV"),
}

#: The grey of a line without a value.
MISSING = "0.75"

Corner: TypeAlias = Literal["upper left", "lower right"]


def spectra(
    array: xr.DataArray,
    color: Any = None,
    *,
    ax: Axes | None = None,
    label: str | None = None,
    cmap: str = "viridis",
    key: bool = True,
    linewidth: float = 1.0,
    title: str | None = None,
) -> Axes:
    """Draw spectra over their axis, one line each, as a single `matplotlib.collections.LineCollection`.

    Parameters
    ----------
    array : xarray.DataArray
        With a dimension ``wavelength``, as `SpectroDataset.sel` returns it. ``units``, ``quantity`` and ``laser_nm`` in
        its attributes give the labels and the direction: wavenumbers fall from left to right, Raman shifts and all
        else rise.
    color : str or array_like, optional
        What colours the lines: a coordinate of `array` (``"partition"``, ``"processing"``, ``"sample"``, ...) or one
        value per row. Numbers get a colour scale, text and booleans one colour per category. A line whose value is
        missing (NaN, null, ``""``) is grey and lies below the others.
    ax : matplotlib.axes.Axes, optional
        Where to draw (default: a new figure).
    label : str, optional
        Name of the colours, with their unit (default: the name of the coordinate).
    cmap : str, default "viridis"
        Colour map for numbers.
    key : bool, default True
        Add the colour bar or the legend.
    linewidth : float, default 1.0
        In points.
    title : str, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If there is no dimension ``wavelength``, the axis is one of several merged sources, there is no line, or the
        colours are not one per row.
    UnknownNameError
        If `color` is no coordinate.
    """
    _require_matplotlib()
    from matplotlib.collections import LineCollection

    if "wavelength" not in array.dims:
        raise ValueError(f"the array has dims {array.dims}; 'wavelength' must be one.")
    _check_one_axis(array)
    lines = [str(dim) for dim in array.dims if dim != "wavelength"]
    turned = array.transpose(*lines, "wavelength")
    axis = np.asarray(turned["wavelength"].values, dtype=np.float64)
    values = np.asarray(turned.values, dtype=np.float64).reshape(-1, len(axis))
    if not values.size:
        raise ValueError(f"there is nothing to draw in an array of shape {array.shape}.")
    colors = None if color is None else _colors(turned, color, lines)
    if isinstance(color, str) and label is None:
        label = color.capitalize()

    ax = _new_axes() if ax is None else ax
    collection = LineCollection([], linewidths=linewidth)
    order = np.arange(len(values)) if colors is None else np.argsort(~_missing(colors), kind="stable")
    collection.set_segments([np.column_stack([axis, values[k]]) for k in order])
    if colors is None:
        collection.set_color("C0")
    elif colors.dtype == object:
        _paint_categories(ax, collection, colors[order], label, key)
    else:
        _paint_numbers(ax, collection, colors[order], label, key, cmap)
    ax.add_collection(collection, autolim=False)
    drawn = np.isfinite(values)
    if drawn.any():
        ends = np.array([axis.min(), axis.max()])
        ax.update_datalim(np.column_stack([ends, [values[drawn].min(), values[drawn].max()]]))
    ax.margins(x=0)
    ax.autoscale_view()
    name, unit, falling = _axis_name(array)
    ax.xaxis.set_inverted(falling)
    ax.set_xlabel(_labelled(name, unit))
    ax.set_ylabel(_value_name(array))
    if title is not None:
        ax.set_title(title, loc="left")
    return ax


def over_time(
    time: Any,
    predicted: Any,
    reference_time: Any = None,
    reference: Any = None,
    *,
    ax: Axes | None = None,
    name: str = "Prediction",
    units: str | None = None,
    time_units: str = "h",
    labels: tuple[str, str] = ("predicted", "measured"),
    title: str | None = None,
) -> Axes:
    """Draw predictions over time, and reference values where there are any.

    Parameters
    ----------
    time, predicted : array_like, shape (n,)
        When each spectrum was recorded, and what was predicted from it; ``(n, 1)`` will do.
    reference_time, reference : array_like, shape (m,), optional
        When each reference sample was taken, and its value.
    ax : matplotlib.axes.Axes, optional
        Where to draw (default: a new figure).
    name : str, default "Prediction"
        What is predicted, such as ``"Glucose"``.
    units, time_units : str, optional
        Units of the values and of the time.
    labels : tuple of str
        Names of the predictions and of the reference values.
    title : str, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If times and values are not as many.
    """
    _require_matplotlib()
    when, values = _pairs(time, predicted, "predictions")
    both = None
    if reference is not None or reference_time is not None:
        if reference is None or reference_time is None:
            raise ValueError("reference and reference_time go together.")
        both = _pairs(reference_time, reference, "reference values")
    ax = _new_axes() if ax is None else ax
    ax.plot(when, values, ".", color="C0", markersize=3, alpha=0.6, label=labels[0])
    if both is not None:
        ax.plot(*both, "o", color="C3", markersize=6, markeredgecolor="white", markeredgewidth=0.8, label=labels[1])
        ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, borderaxespad=0.2)
    ax.set_xlabel(_labelled("Time", time_units))
    ax.set_ylabel(_labelled(name, units))
    ax.grid(alpha=0.25)
    if title is not None:
        ax.set_title(title, loc="left")
    return ax


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError('figures need matplotlib: pip install "spectroxr[plot]"', name=error.name) from error


def _new_axes() -> Axes:
    from matplotlib import pyplot

    _, ax = pyplot.subplots(figsize=(8, 4), layout="constrained")
    return ax


def _check_one_axis(array: xr.DataArray) -> None:
    if "source" in array.coords and array.coords["source"].dims == ("wavelength",):
        names = list(dict.fromkeys(array.coords["source"].values.tolist()))
        if len(names) > 1:
            raise ValueError(
                f"this axis is one of the merged sources {names}, which overlap or differ in unit; draw one of them: "
                f"array[..., (array['source'] == {names[0]!r}).values]."
            )


def _colors(array: xr.DataArray, color: Any, lines: list[str]) -> Array:
    """Return one value per line: floats, or text as objects (``None`` where there is none)."""
    import xarray as xr

    if isinstance(color, str):
        if color not in array.coords:
            raise UnknownNameError(nearest(color, [str(c) for c in array.coords], "coordinate"))
        given = array.coords[color]
        if "wavelength" in given.dims:
            raise ValueError(f"the coordinate {color!r} belongs to the wavelengths and cannot colour the lines.")
    else:
        values = color.to_numpy() if isinstance(color, pl.Series) else np.asarray(color)
        values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
        row = "row" if "row" in lines else lines[0] if lines else None
        wanted = () if row is None else (array.sizes[row],)
        if values.shape != wanted and not (row is None and values.shape == (1,)):
            raise ValueError(f"the colours have shape {values.shape}; one per row would be {wanted}.")
        given = xr.DataArray(values.reshape(wanted), dims=() if row is None else (row,))
    sizes = {dim: array.sizes[dim] for dim in lines}
    flat = np.atleast_1d(given.variable.set_dims(sizes).transpose(*lines).values.reshape(-1) if lines else given.values)
    if flat.dtype.kind in "iuf":
        return flat.astype(np.float64)
    absent = [value is None or value == "" or value != value for value in flat.tolist()]
    named = np.empty(len(flat), dtype=object)
    named[:] = [None if gone else str(value) for gone, value in zip(absent, flat.tolist(), strict=True)]
    return named


def _missing(colors: Array) -> Array:
    if colors.dtype == object:
        return np.array([value is None for value in colors], dtype=bool)
    return np.isnan(colors)


def _paint_numbers(
    ax: Axes, collection: LineCollection, colors: Array, label: str | None, key: bool, cmap: str
) -> None:
    from matplotlib import colormaps

    collection.set_cmap(colormaps[cmap].with_extremes(bad=MISSING))
    collection.set_array(np.ma.masked_invalid(colors))
    known = colors[np.isfinite(colors)]
    if len(known):
        collection.set_clim(float(known.min()), float(known.max()))
        if key:
            ax.figure.colorbar(collection, ax=ax, label=label or "")
    if key and len(known) < len(colors):
        _legend(ax, {"no value": MISSING}, None, "lower right")


def _paint_categories(ax: Axes, collection: LineCollection, colors: Array, label: str | None, key: bool) -> None:
    from matplotlib import colormaps

    names = list(dict.fromkeys(name for name in colors if name is not None))
    steps = colormaps["tab10" if len(names) <= 10 else "turbo"]
    shade = {name: steps(k) if len(names) <= 10 else steps(k / (len(names) - 1)) for k, name in enumerate(names)}
    collection.set_color([MISSING if name is None else shade[name] for name in colors])
    if key:
        shown: dict[str, Any] = dict(shade)
        if _missing(colors).any():
            shown["no value"] = MISSING
        _legend(ax, shown, label)


def _legend(ax: Axes, shown: dict[str, Any], label: str | None, loc: Corner = "upper left") -> None:
    """Add a legend outside the axes, where it covers no line: its corner `loc` at the upper right one of the axes."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=color, label=name) for name, color in shown.items()]
    ax.legend(handles=handles, title=label, frameon=False, borderaxespad=0.4, loc=loc, bbox_to_anchor=(1.0, 1.0))


def _axis_name(array: xr.DataArray) -> tuple[str, str | None, bool]:
    """Return what the axis is called, its unit, and whether it falls from left to right."""
    units = array.attrs.get("units", array["wavelength"].attrs.get("units"))
    if units is None:
        return "Wavelength", None, False
    name, printed = AXES.get(str(units), ("Wavelength", str(units)))
    raman = array.attrs.get("laser_nm") is not None or "raman" in str(array.attrs.get("quantity", "")).lower()
    if units == "cm-1" and raman:
        return "Raman shift", printed, False
    return name, printed, units == "cm-1"


def _value_name(array: xr.DataArray) -> str:
    quantity = str(array.attrs.get("quantity", "intensity"))
    name = quantity[:1].upper() + quantity[1:]
    if "processing" in array.coords:
        kinds = np.atleast_1d(array.coords["processing"].values).tolist()
        if len(kinds) == 1 and kinds[0] != "raw":
            return f"{name}, {kinds[0]}"
    return name


def _labelled(name: str, unit: str | None) -> str:
    return name if unit is None else f"{name} ({unit})"


def _pairs(time: Any, values: Any, what: str) -> tuple[Array, Array]:
    when, given = np.asarray(time), np.asarray(values)
    given = given[:, 0] if given.ndim == 2 and given.shape[1] == 1 else given
    if when.ndim != 1 or given.shape != when.shape:
        raise ValueError(f"the {what} have shape {given.shape}, their times {when.shape}; one value per time.")
    return when, given
