"""The numbers and figures of the page on published results: ``python docs/published.py [FOLDER]``.

The real sets lie in ``../shared/data`` beside the repository. What is printed stands on the page, the figures in
``docs/figures``.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from chemotools.derivative import SavitzkyGolay
from chemotools.scatter import StandardNormalVariate
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cross_decomposition import PLSRegression
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelBinarizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from realsets import SPECTROMETERS, nir_soils, olive_oils, sugarcane

from spectroxr import SpectroDataset, SpectroWarning
from spectroxr.components import LatentVariableCurve, latent_variables
from spectroxr.fusion import BlockScaler
from spectroxr.labelled import vip

FIGURES = Path(__file__).parent / "figures"
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#888888"
TEN = KFold(10, shuffle=True, random_state=0)


class PLSScores(TransformerMixin, BaseEstimator):
    """Scores of a PLS of the classes, one-hot: what an LDA takes after it."""

    def __init__(self, n_components: int = 2) -> None:
        self.n_components = n_components

    def fit(self, X: np.ndarray, y: np.ndarray) -> PLSScores:
        """Fit to spectra and classes."""
        self.pls_ = PLSRegression(self.n_components, scale=False).fit(X, LabelBinarizer().fit_transform(y))
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return scores."""
        return self.pls_.transform(X)


def main(folder: Path) -> None:
    """Print the tables and draw the figures."""
    folder.mkdir(exist_ok=True)
    warnings.simplefilter("ignore", SpectroWarning)  # samples without a target are counted on the page
    pl.Config.set_tbl_hide_dataframe_shape(True)
    pl.Config.set_tbl_hide_column_data_types(True)
    pl.Config.set_tbl_rows(20)
    pl.Config.set_tbl_cols(12)
    pl.Config.set_tbl_width_chars(120)
    pl.Config.set_float_precision(3)
    mpl.rcParams.update(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 9, "figure.dpi": 110}
    )
    soils(folder)
    oils(folder)
    cane(folder)


def save(figure: plt.Figure, path: Path) -> None:
    """Write a figure, without what differs from run to run."""
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def soils(folder: Path) -> None:
    """NIR soils: PLS for three targets, by the published split."""
    ds = nir_soils()
    ds.apply(SavitzkyGolay(window_length=11, polyorder=2, deriv=1), name="derivative")
    units = {"Nt": "g/kg", "Ciso": "g/100 g", "CEC": "meq/100 g"}
    curves, tables, models = {}, [], {}
    for target in units:
        known = {"processing": "derivative", "partition": "train", target: pl.col(target).is_not_null()}
        for scale in (False, True):
            curve = latent_variables(ds.x(known)[0], ds.y(known, target=target), TEN, most=25, scale=scale)
            count = curve.minimum()
            name = f"{target}, {count} LV" + ", scaled" * scale
            ds.fit_predict(PLSRegression(count, scale=scale), target=target, processing="derivative", model=name)
            line = ds.predictions.metrics(by=["scale"], target=target, filter={"partition": "test", "model": name})
            tables.append(line.with_columns(LV=pl.lit(count), RMSECV=pl.lit(curve.table["RMSECV"].min())))
            if not scale:
                curves[target], models[target] = curve, name
    print(pl.concat(tables).select("target", "scale", "LV", "n", "missing", "RMSECV", "RMSEP", "bias", "R2", "RPD"))

    figure, axes = plt.subplots(1, 3, figsize=(7.6, 2.6), layout="constrained")
    for ax, (target, curve) in zip(axes, curves.items(), strict=True):
        draw_curve(ax, curve)
        ax.set(title=target, ylabel=f"error, {units[target]}")
    save(figure, folder / "soils_latent_variables.png")

    figure, axes = plt.subplots(1, 3, figsize=(7.6, 2.8), layout="constrained")
    for ax, target in zip(axes, units, strict=True):
        draw_compared(ax, ds, models[target], target)
        ax.set(title=models[target], xlabel=f"measured, {units[target]}", ylabel=f"predicted, {units[target]}")
    save(figure, folder / "soils_predicted.png")


def oils(folder: Path) -> None:
    """Olive oils: PLS-LDA by country, replicates together and apart."""
    ds = olive_oils()
    counts = (4, 8, 12, 16, 20)
    ways = {
        "grouped by oil": ([StratifiedGroupKFold(10, shuffle=True, random_state=k) for k in range(5)], "oil"),
        "not grouped": ([StratifiedKFold(10, shuffle=True, random_state=k) for k in range(5)], None),
    }
    for count in counts:
        for way, (splitters, groups) in ways.items():
            for k, cv in enumerate(splitters):
                model = make_pipeline(PLSScores(count), LinearDiscriminantAnalysis())
                ds.cross_validate(model, target="country", cv=cv, groups=groups, model=f"{count}|{way}|{k}")
    parts = pl.col("model").str.split("|").list
    found = (
        ds.predictions.metrics()
        .with_columns(LV=parts.get(0).cast(pl.Int64), folds=parts.get(1))
        .group_by("LV", "folds")
        .agg(pl.col("accuracy").mean(), lowest=pl.col("accuracy").min(), highest=pl.col("accuracy").max())
        .sort("LV", "folds")
    )
    print(found)
    print(ds.predictions.confusion(filter={"model": "12|grouped by oil|0"}).select("measured", "predicted", "n"))
    figure, ax = plt.subplots(figsize=(4.6, 3), layout="constrained")
    for way, colour in zip(ways, (BLUE, ORANGE), strict=True):
        lines = found.filter(pl.col("folds") == way)
        y = 100 * lines["accuracy"].to_numpy()
        spread = np.abs(100 * lines.select("lowest", "highest").to_numpy().T - y)
        ax.errorbar(lines["LV"], y, spread, color=colour, marker="o", markersize=4, capsize=3, label=way)
    ax.axhline(96, color=GREY, linestyle=":", linewidth=1)
    ax.text(counts[0], 96.15, "published, 96 %", color=GREY, fontsize=8)
    ax.set(xlabel="latent variables", ylabel="spectra assigned to their country, %", xticks=counts)
    ax.legend(frameon=False, loc="lower right")
    save(figure, folder / "oils_grouped.png")


def cane(folder: Path) -> None:
    """Sugarcane: total sugar and crude protein from each spectrometer and from all."""
    ds = sugarcane()
    ds.apply(StandardNormalVariate(), name="snv")
    figure, axes = plt.subplots(1, 2, figsize=(7.6, 3), layout="constrained", sharey=True)
    names = [*SPECTROMETERS, "all, block-scaled"]
    compared, fused = {}, {}
    for ax, target in zip(axes, ("TS", "CP"), strict=True):
        errors = []
        for name in names:
            alone = name in SPECTROMETERS
            known = {"processing": "snv", target: pl.col(target).is_not_null()}
            if alone:
                known["source"] = name
            x = ds.x(known)
            widths = [one.shape[1] for one in x]
            spectra = x[0] if alone else BlockScaler(widths).fit_transform(np.hstack(x))
            count = latent_variables(spectra, ds.y(known, target=target), TEN, most=15).one_se()
            ds.cross_validate(
                PLSRegression(count, scale=False),
                target=target,
                filter=known,
                src_concat=True if alone else "block",
                cv=TEN,
                model=f"{target}|{name}|{count}",
            )
            line = ds.predictions.metrics(filter={"model": f"{target}|{name}|{count}"})
            errors.append(line["RMSECV"].item())
            compared[target, name] = line.with_columns(LV=pl.lit(count), spectrometer=pl.lit(name))
            if not alone:
                fused[target] = f"{target}|{name}|{count}"
        colours = [BLUE if name in SPECTROMETERS else ORANGE for name in names]
        bars = ax.barh(names, errors, color=colours)
        ax.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
        ax.set(title={"TS": "total sugar", "CP": "crude protein"}[target], xlabel="RMSECV, %")
        ax.margins(x=0.12)
    axes[0].invert_yaxis()
    save(figure, folder / "cane_spectrometers.png")
    print(
        pl.concat(compared.values()).select(
            "target", "spectrometer", "LV", "n", "missing", "RMSECV", "bias", "R2", "RPD"
        )
    )

    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 2.9), layout="constrained", width_ratios=[1, 1.7])
    draw_compared(left, ds, fused["TS"], "TS")
    left.set(title="TS from all, ten folds", xlabel="measured, %", ylabel="predicted, %")
    known = {"processing": "snv", "source": "MicroNIR2200", "TS": pl.col("TS").is_not_null()}
    pls = PLSRegression(6, scale=False).fit(ds.x(known)[0], ds.y(known, target="TS"))
    found = vip(pls, ds["MicroNIR2200"])
    right.plot(found["wavelength"], found, color=BLUE)
    right.axhline(1, color=GREY, linestyle=":", linewidth=1)
    right.set(title="TS, MicroNIR2200, 6 LV", xlabel="wavelength, nm", ylabel="VIP")
    save(figure, folder / "cane_fusion.png")


def draw_curve(ax: plt.Axes, curve: LatentVariableCurve) -> None:
    """Draw RMSEC and RMSECV over latent variables, and the number that was chosen."""
    table = curve.table
    ax.plot(table["latent_variables"], table["RMSEC"], color=GREY, label="RMSEC")
    ax.plot(table["latent_variables"], table["RMSECV"], color=BLUE, marker="o", markersize=3, label="RMSECV")
    chosen = curve.minimum()
    ax.plot(chosen, table["RMSECV"][chosen - 1], "o", color=ORANGE, markersize=8, fillstyle="none", markeredgewidth=1.6)
    ax.annotate(
        f"{chosen}",
        (chosen, table["RMSECV"][chosen - 1]),
        (0, 9),
        textcoords="offset points",
        ha="center",
        color=ORANGE,
    )
    ax.set(xlabel="latent variables")
    ax.legend(frameon=False, fontsize=8)


def draw_compared(ax: plt.Axes, ds: SpectroDataset, model: str, target: str) -> None:
    """Draw predicted against measured values, calibration in grey, and the line of equality."""
    lines = ds.predictions.table.filter(pl.col("model") == model)
    for partition, colour in (("train", "#CCCCCC"), ("val", BLUE), ("test", BLUE)):
        some = lines.filter(pl.col("partition") == partition).sort("sample")
        if some.height:
            measured = ds.y({"sample": some["sample"].to_numpy()}, target=target).ravel().astype(float)
            ax.plot(measured, some["preds"], ".", color=colour, markersize=4, label=partition)
    low, high = min(*ax.get_xlim(), *ax.get_ylim()), max(*ax.get_xlim(), *ax.get_ylim())
    ax.plot([low, high], [low, high], color="black", linewidth=0.8)
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    if lines["partition"].n_unique() > 1:
        ax.legend(frameon=False, fontsize=8, loc="upper left", handletextpad=0.1)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FIGURES)
