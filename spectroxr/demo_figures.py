"""The two figures of the demo."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from spectroxr.dataset import SpectroDataset

__all__ = ["draw_prediction", "draw_spectra"]


def draw_spectra(ds: SpectroDataset, source: str, path: Path) -> Path:
    """Draw the training spectra and their derivatives by wavenumber, coloured by glucose."""
    from matplotlib.figure import Figure

    from spectroxr import plot

    figure = Figure(figsize=(9, 7), dpi=150, layout="constrained")
    axes = figure.subplots(2, 1, sharex=True)
    glucose = ds.y({"partition": "train"}, target="glucose")
    for ax, kind, title in zip(
        axes,
        ("raw", "derivative"),
        (f"{len(glucose)} training spectra, as measured", "Linear baseline removed, first derivative"),
        strict=True,
    ):
        array = ds.sel({"partition": "train", "processing": kind}, source=source)
        plot.spectra(array, glucose, ax=ax, key=False, title=title)
    axes[0].set_xlabel("")
    axes[1].set_ylabel("Change of absorbance per point")
    figure.align_ylabels(axes)
    figure.colorbar(axes[0].collections[0], ax=axes, label="Glucose by HPLC (g/L)")
    figure.savefig(path)
    return path


def draw_prediction(ds: SpectroDataset, model: str, table: pl.DataFrame, path: Path) -> Path:
    """Draw predicted glucose over time with the HPLC values."""
    from matplotlib.figure import Figure

    from spectroxr import plot

    figure = Figure(figsize=(9, 4.5), dpi=150, layout="constrained")
    plot.over_time(
        ds.meta({"partition": "process"})["time"],
        ds.prediction({"partition": "process", "model": model}),
        table["hplc_time"],
        table["glucose"],
        ax=figure.subplots(),
        name="Glucose",
        units="g/L",
        labels=("PLS, from the spectra", "HPLC, off-line"),
        title="Fermentation: glucose predicted and measured",
    )
    figure.savefig(path)
    return path
