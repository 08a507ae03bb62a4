"""The same selections in other packages, in the same run, for information."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import xarray as xr
from figures import Effort, Figure, duration
from measure import Call, in_turns, per_call
from probe import TRAIN
from spectra import NAMES, SAMPLES, dataset, spectra, split_labels, train_rows


def _data_array(labels: Any) -> xr.DataArray:
    ids = np.arange(SAMPLES, dtype=np.uint32)
    zeros = np.zeros(SAMPLES, dtype=np.uint32)
    return xr.DataArray(
        spectra(),
        dims=("row", "processing", "wavelength"),
        coords={
            "processing": NAMES,
            "wavelength": np.arange(spectra().shape[2], dtype=float),
            "sample": ("row", ids),
            "origin": ("row", ids),
            "partition": ("row", labels.to_numpy().astype(str)),
            "group": ("row", zeros),
            "branch": ("row", zeros),
        },
    ).set_xindex("sample")


def peers(effort: Effort) -> list[Figure]:
    """A view of the first four fifths, and a copy of a random four fifths."""
    rows = train_rows()
    ordered, mixed = _data_array(split_labels(False)), _data_array(split_labels(True))
    ours = dataset(False)
    views = per_call(
        {
            "spectroxr x(filter)": lambda: ours.x(TRAIN),
            "spectroxr sel(filter), labelled": lambda: ours.sel(TRAIN),
            "xarray isel(row=slice)": lambda: ordered.isel(row=slice(0, 8000)),
            "xarray sel(sample=slice)": lambda: ordered.sel(sample=slice(0, 7999)),
        },
        effort.times(9, 3),
        200,
    )
    shuffled = dataset(True)
    copies: dict[str, Call] = {
        "numpy np.take": Call(lambda: np.take(spectra(), rows, axis=0)),
        "spectroxr x(filter)": Call(lambda: shuffled.x(TRAIN)),
        "xarray isel(row=rows)": Call(lambda: mixed.isel(row=rows)),
        "xarray sel(sample=ids)": Call(lambda: mixed.sel(sample=rows.astype(np.uint32))),
        "xarray where partition == 'train'": Call(lambda: mixed[(mixed.partition == "train").values]),
    }
    flat = spectra().reshape(SAMPLES, -1)
    labels = split_labels(True).to_numpy()
    pandas = _optional("pandas")
    if pandas is not None:
        frame = pandas.DataFrame(flat, copy=True)
        column = pandas.Series(labels)
        copies["pandas frame[column == 'train']"] = Call(lambda: frame[column == "train"])
    anndata = _optional("anndata")
    if anndata is not None and pandas is not None:
        obs = pandas.DataFrame({"partition": labels}, index=[str(k) for k in range(SAMPLES)])
        table = anndata.AnnData(flat, obs=obs)
        copies["anndata table[obs == 'train'].X"] = Call(lambda: table[table.obs["partition"] == "train"].X)
        copies["anndata table[obs == 'train'].copy()"] = Call(lambda: table[table.obs["partition"] == "train"].copy())
    taken = in_turns(copies, effort.times(9, 3), warm=2)
    base = taken["numpy np.take"].median
    figures = [
        Figure("peers", f"a range of rows as a view: {what}", "-", duration(times.median), None, {"s": times.seconds})
        for what, times in views.items()
    ]
    figures += [
        Figure(
            "peers",
            f"random 80/20 copy: {what}",
            "-",
            f"{duration(times.median)}, {times.median / base:.2f}x np.take",
            None,
            {"seconds": times.seconds},
        )
        for what, times in taken.items()
    ]
    return figures


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
