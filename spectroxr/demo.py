"""The main job on real spectra: glucose in a fermentation, from mid-infrared spectra (``spectroxr demo``).

The data come with the package chemotools: 21 ATR-MIR spectra with glucose by HPLC to train on, and 1629 spectra
recorded during a fermentation, with off-line HPLC samples. The model is that of the tutorial "Brewing a PLS regressor"
in the documentation of chemotools, so its published cross-validation error can be reached again.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from spectroxr.dataset import SpectroDataset
from spectroxr.demo_figures import draw_prediction, draw_spectra
from spectroxr.schema import Array

__all__ = ["Outcome", "run"]

#: Mean of the mean absolute errors of ten folds, in g/L, as printed in the tutorial.
PUBLISHED = 0.92294
PUBLISHED_IN = 'chemotools documentation, tutorial "Brewing a PLS regressor"'

#: The region the tutorial models, in cm-1, and the source that holds it.
REGION = (950.0, 1500.0)
CUT = "mir_950_1500"

MINUTES_PER_SPECTRUM = 1.25
COMPONENTS = 6
FOLDS = 10
MODEL = f"PLS {COMPONENTS} LV"
STEPS = 8


@dataclass(frozen=True)
class Outcome:
    """What the demo made and measured.

    Attributes
    ----------
    dataset : SpectroDataset
    store : Path
        The saved dataset.
    figures : tuple of Path
    cv_mae : float
        Mean over the folds of their mean absolute errors, the figure that the tutorial publishes; g/L.
    cv_rmse : float
        RMSECV over all out-of-fold predictions, g/L.
    process : polars.DataFrame
        One line per HPLC sample of the process: ``sample``, ``time``, ``hplc_time``, ``glucose``, ``predicted``,
        ``error``, in hours and g/L, and ``flat``: whether the spectrum has one value at every wavenumber.
    seconds : float
    """

    dataset: SpectroDataset
    store: Path
    figures: tuple[Path, ...]
    cv_mae: float
    cv_rmse: float
    process: pl.DataFrame
    seconds: float


def run(out: Path | str = "spectroxr-demo") -> Outcome:
    """Build, model, predict, store and draw the fermentation set; tell each step on standard output.

    Parameters
    ----------
    out : path, default "spectroxr-demo"
        Folder for the store and the figures; made if it is not there. A store and figures of an earlier run are
        replaced.

    Returns
    -------
    Outcome

    Raises
    ------
    ImportError
        If chemotools, matplotlib or tqdm is not installed.
    OSError
        If the folder cannot be written.
    """
    start = time.perf_counter()
    _check_extra()
    folder = _writable(Path(out))
    steps = _Steps()
    with steps("Reading the fermentation spectra and their HPLC values (package chemotools)"):
        ds = build()
    with steps(f"Cutting {REGION[0]:g}-{REGION[1]:g} cm-1, baseline and first derivative, mean centring"):
        add_variants(ds)
    steps.note(
        "a cut changes the axis, so it is a source of its own, aligned by row; the mean is that of the training rows."
    )
    with steps(f"Cross-validating a PLS with {COMPONENTS} latent variables in {FOLDS} folds"):
        cv_mae, cv_rmse = cross_validate(ds)
    steps.note("PLSRegression(scale=False): scikit-learn scales each wavelength by default, chemometrics does not.")
    with steps(f"Predicting the process from all {len(ds.y({'partition': 'train'}))} training spectra"):
        process = predict_process(ds)
    store = folder / "fermentation.spectro"
    with steps(f"Saving the dataset to {store.name}"):
        ds.save(store)
    with steps("Opening it again and comparing"):
        again = SpectroDataset.load(store)
        _check_equal(ds, again)
    steps.note("equal in spectra, index, targets, metadata, folds and predictions.")
    with steps("Drawing the training spectra"):
        first = draw_spectra(again, CUT, folder / "spectra.png")
    with steps("Drawing glucose over time"):
        second = draw_prediction(again, MODEL, compared(again), folder / "glucose.png")

    outcome = Outcome(ds, store, (first, second), cv_mae, cv_rmse, process, time.perf_counter() - start)
    _report(outcome, again)
    return outcome


def build() -> SpectroDataset:
    """Return the fermentation set as a dataset: source ``mir``, partitions ``train`` and ``process``.

    The target ``glucose`` (g/L) of a process spectrum is the HPLC value of the sample taken nearest to it in time, and
    missing for all other spectra. ``time`` and ``hplc_time`` (hours) and the other HPLC values (g/L) are metadata.
    """
    from chemotools.datasets import load_fermentation_test, load_fermentation_train

    train, train_hplc = load_fermentation_train(set_output="polars")
    process, hplc = load_fermentation_test(set_output="polars")
    if train.columns != process.columns:
        raise ValueError("the training and process spectra of chemotools have different axes.")
    options: dict[str, Any] = {
        "wavelength": np.array(train.columns, dtype=np.float64),
        "units": "cm-1",
        "quantity": "absorbance",
    }
    ds = SpectroDataset()
    ds.add_data({"mir": _float64(train)}, train_hplc.select("glucose"), partition="train", **options)
    recorded = pl.DataFrame({"time": np.arange(process.height) * MINUTES_PER_SPECTRUM / 60})
    matched = match_times(recorded["time"], hplc)
    ds.add_data(
        {"mir": _float64(process)},
        matched.select("glucose"),
        pl.concat([recorded, matched.drop("glucose")], how="horizontal"),
        partition="process",
        **options,
    )
    return ds


def match_times(recorded: pl.Series, hplc: pl.DataFrame) -> pl.DataFrame:
    """Return one line per spectrum: the HPLC values of the sample taken nearest to it in time, or nulls.

    Each HPLC sample goes to one spectrum, the nearest. No value is interpolated.

    Parameters
    ----------
    recorded : polars.Series
        Hours, ascending.
    hplc : polars.DataFrame
        ``time`` in hours and the concentrations.

    Raises
    ------
    ValueError
        If two HPLC samples have the same nearest spectrum.
    """
    nearest = np.abs(recorded.to_numpy()[:, None] - hplc["time"].to_numpy()).argmin(axis=0)
    if len(np.unique(nearest)) < len(nearest):
        raise ValueError("two HPLC samples have the same nearest spectrum.")
    lines = hplc.rename({"time": "hplc_time"}).with_columns(pl.Series("spectrum", nearest))
    spectra = pl.DataFrame({"spectrum": np.arange(len(recorded))})
    return spectra.join(lines, on="spectrum", how="left", maintain_order="left").drop("spectrum")


def add_variants(ds: SpectroDataset) -> None:
    """Add the source `CUT` with the processings ``raw``, ``derivative`` and ``centred``."""
    from chemotools.baseline import LinearCorrection
    from chemotools.derivative import SavitzkyGolay
    from chemotools.feature_selection import RangeCut
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    axis = ds["mir"]["wavelength"].values
    (whole,), index = ds.get_indexed_features({"source": "mir"})
    cut = RangeCut(start=REGION[0], end=REGION[1], x_axis=axis).fit(whole)
    ds.add_source(
        CUT, cut.transform(whole), index, wavelength=axis[cut.get_support()], units="cm-1", quantity="absorbance"
    )

    (region,), index = ds.get_indexed_features({"source": CUT, "processing": "raw"})
    derive = make_pipeline(LinearCorrection(), SavitzkyGolay(window_length=15, polyorder=2, deriv=1))
    ds.update_x({CUT: derive.fit_transform(region)}, index, "derivative")

    (training,) = ds.x({"source": CUT, "processing": "derivative", "partition": "train"})
    (derived,), index = ds.get_indexed_features({"source": CUT, "processing": "derivative"})
    centre = StandardScaler(with_std=False).fit(training)
    ds.update_x({CUT: centre.transform(derived)}, index, "centred")


def model_input(partition: str) -> dict[str, Any]:
    """Return the filter for what the model sees of a partition."""
    return {"source": CUT, "processing": "centred", "partition": partition}


def cross_validate(ds: SpectroDataset) -> tuple[float, float]:
    """Set the folds, store the out-of-fold predictions and return the mean MAE of the folds and the RMSECV."""
    from sklearn.cross_decomposition import PLSRegression
    from sklearn.metrics import mean_absolute_error, root_mean_squared_error
    from sklearn.model_selection import KFold
    from tqdm import tqdm

    ds.set_folds(KFold, n_splits=FOLDS, filter={"partition": "train"})
    data = ds.get_data(filter=model_input("train"), target="glucose")
    errors = []
    # disable=None: no bar where standard error is not a terminal.
    for k, ((x_train,), y_train, (x_val,), y_val) in enumerate(
        tqdm(data, total=FOLDS, desc="folds", unit="fold", leave=False, disable=None)
    ):
        predicted = PLSRegression(COMPONENTS, scale=False).fit(x_train, y_train).predict(x_val)
        errors.append(mean_absolute_error(y_val, predicted))
        ds.add_prediction(predicted, _about("val", fold=k), filter={"sample": ds.folds.folds[k]["val"]})

    lines = ds.predictions.table.filter(pl.col("partition") == "val").sort("sample")
    measured = ds.y({"sample": lines["sample"].to_numpy()}, target="glucose")
    return float(np.mean(errors)), float(root_mean_squared_error(measured, lines["preds"].to_numpy()))


def predict_process(ds: SpectroDataset) -> pl.DataFrame:
    """Fit on all training spectra, store the predictions of the process and return those with an HPLC value."""
    from sklearn.cross_decomposition import PLSRegression

    (x_train,) = ds.x(model_input("train"))
    (x_process,) = ds.x(model_input("process"))
    model = PLSRegression(COMPONENTS, scale=False).fit(x_train, ds.y(model_input("train"), target="glucose"))
    ds.add_prediction(model.predict(x_process), _about("process"), filter={"partition": "process"})
    return compared(ds)


def compared(ds: SpectroDataset) -> pl.DataFrame:
    """Return the process spectra that have an HPLC value: times, measured and predicted glucose, error, ``flat``."""
    measured = {"partition": "process", "glucose": pl.col("glucose").is_not_null()}
    (spectra,) = ds.x({**measured, "source": "mir"})
    lines = ds.predictions.table.filter(pl.col("partition") == "process").select("sample", predicted="preds")
    return (
        ds.meta(measured)
        .select("sample", "time", "hplc_time")
        .with_columns(glucose=pl.Series(ds.y(measured, target="glucose")))
        .join(lines, on="sample", how="left", maintain_order="left")
        .with_columns(error=pl.col("predicted") - pl.col("glucose"), flat=pl.Series(np.ptp(spectra, axis=1) == 0))
    )


@dataclass
class _Steps:
    """Announces the steps and how long each took."""

    count: int = field(default=0)

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        self.count += 1
        print(f"[{self.count}/{STEPS}] {what} ...", flush=True)
        start = time.perf_counter()
        yield
        self.note(f"{time.perf_counter() - start:.2f} s")

    def note(self, text: str) -> None:
        print(f"      {text}", flush=True)


def _check_extra() -> None:
    for name in ("chemotools", "matplotlib", "tqdm"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ImportError(
                f'the demo needs {name}, which cannot be imported ({error}): pip install "spectroxr[demo]"', name=name
            ) from error


def _writable(folder: Path) -> Path:
    """Make a folder and try to write there, before anything is computed."""
    folder = folder.expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
    return folder


def _float64(table: pl.DataFrame) -> Array:
    """Return a table of whole and broken numbers as float64, C-ordered."""
    return np.ascontiguousarray(table.cast(pl.Float64).to_numpy())


def _about(partition: str, fold: int | None = None) -> dict[str, Any]:
    return {"model": MODEL, "fold": fold, "repeat": 0, "partition": partition, "processing": "raw", "units": "g/L"} | {
        "source": CUT,
        "features": "centred",
    }


def _check_equal(one: SpectroDataset, other: SpectroDataset) -> None:
    """Raise unless two datasets hold the same.

    Raises
    ------
    ValueError
        If they differ; the message names the part.
    """
    for source in one.features.sources:
        for name in one.features.processings:
            wanted = {"source": source.name, "processing": name}
            if one.x_exists(wanted) != other.x_exists(wanted):
                raise ValueError(f"the reopened store differs in the processings of {source.name}.")
            if one.x_exists(wanted) and not np.array_equal(one.x(wanted), other.x(wanted), equal_nan=True):
                raise ValueError(f"the reopened store differs in {source.name}, {name}.")
    for what, mine, theirs in (
        ("the index", one.features.index_df, other.features.index_df),
        ("the targets", one.targets.table, other.targets.table),
        ("the metadata", one.metadata.table, other.metadata.table),
        ("the predictions", one.predictions.table, other.predictions.table),
    ):
        if not mine.equals(theirs):
            raise ValueError(f"the reopened store differs in {what}.")
    if one.folds.folds != other.folds.folds:
        raise ValueError("the reopened store differs in the folds.")


def _report(outcome: Outcome, again: SpectroDataset) -> None:
    table = outcome.process
    gap = float(np.abs(table["time"].to_numpy() - table["hplc_time"].to_numpy()).max()) * 60
    worst = table.sort(pl.col("error").abs(), descending=True).head(2)
    print("\nThe dataset\n-----------")
    again.print_summary()
    print("\nA labelled slice of the store: the process at hour 20, around 1030 cm-1\n" + "-" * 71)
    labelled = again.sel(
        {"partition": "process", "time": slice(20.0, 20.05), "wavelength": slice(1035, 1030), "processing": "raw"},
        source=CUT,
    )
    print(labelled)
    print(f"wavelength in {labelled.wavelength.attrs['units']}: {labelled.wavelength.values}")
    print("\nErrors in glucose\n-----------------")
    print(f"Cross-validation, {FOLDS} folds of the training spectra, mean of the folds' mean absolute errors:")
    print(f"    here       {outcome.cv_mae:.5f} g/L")
    print(f"    published  {PUBLISHED:.5f} g/L   ({PUBLISHED_IN})")
    print(f"    RMSECV     {outcome.cv_rmse:.5f} g/L   (over all out-of-fold predictions)")
    print(
        f"Process, {table.height} HPLC samples, each compared with the one spectrum nearest in time (at most "
        f"{gap:.1f} min away):"
    )
    print(f"    {_errors(table)}")
    for line in worst.iter_rows(named=True):
        print(
            f"    largest: {line['error']:+.1f} g/L at {line['hplc_time']:.2f} h "
            f"(predicted {line['predicted']:.1f}, HPLC {line['glucose']:.1f})"
        )
    sound = table.filter(~pl.col("flat"))
    if sound.height < table.height:
        flat = table.height - sound.height
        print(f"    flat, one value at every wavenumber, and so no measurement: {flat} of these spectra; without:")
        print(f"    {_errors(sound)}")
    print("    The published figure says nothing of these: it is of the training spectra alone.")
    print("\nWhere everything is\n-------------------")
    current = json.loads((outcome.store / "manifest.json").read_text(encoding="utf-8"))["generation"]
    features = outcome.store / current / "features.zarr"
    print(f"Dataset  {outcome.store}\n         SpectroDataset.load({str(outcome.store)!r})")
    print(
        f"Spectra  {features}   (xarray.open_datatree)\nTables   {features.parent / 'tables'}   (polars.read_parquet)"
    )
    for path in outcome.figures:
        print(f"Figure   {path}")
    print(f"Done in {outcome.seconds:.1f} s.")
    sys.stdout.flush()


def _errors(table: pl.DataFrame) -> str:
    errors = table["error"].to_numpy()
    size = np.abs(errors)
    return (
        f"mean absolute error {size.mean():.2f} g/L, median {np.median(size):.2f}, "
        f"RMSEP {np.sqrt((errors**2).mean()):.2f}, bias {errors.mean():+.2f}"
    )
