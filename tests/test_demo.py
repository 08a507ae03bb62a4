import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import xarray as xr
from matplotlib.image import imread

import spectroxr
from spectroxr import SpectroDataset, demo
from spectroxr.__main__ import main

pytest.importorskip("chemotools")

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
PUBLISHED = 0.92294


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """One run of the demo as a function: its outcome."""
    return demo.run(tmp_path_factory.mktemp("demo") / "new" / "folder")


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """One run of the demo from the command line: what it printed, and where."""
    folder = tmp_path_factory.mktemp("command")
    done = spectro("demo", "--out", "made", cwd=folder)
    assert done.returncode == 0, done.stderr
    return done, folder / "made"


def spectro(*args, cwd):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "spectroxr", *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "COLUMNS": "100"},
    )


@pytest.fixture(scope="module")
def reference():
    """The published model by scikit-learn and chemotools alone, and its predictions of the process."""
    from chemotools.baseline import LinearCorrection
    from chemotools.datasets import load_fermentation_test, load_fermentation_train
    from chemotools.derivative import SavitzkyGolay
    from chemotools.feature_selection import RangeCut
    from sklearn.cross_decomposition import PLSRegression
    from sklearn.model_selection import cross_val_predict, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, train_hplc = load_fermentation_train(set_output="polars")
    process, hplc = load_fermentation_test(set_output="polars")
    axis = np.array(train.columns, dtype=float)
    y = train_hplc["glucose"].to_numpy()
    model = make_pipeline(
        RangeCut(start=950, end=1500, x_axis=axis),
        LinearCorrection(),
        SavitzkyGolay(window_length=15, polyorder=2, deriv=1),
        StandardScaler(with_std=False),
        PLSRegression(6, scale=False),
    )
    x = train.cast(pl.Float64).to_numpy()
    return {
        "axis": axis,
        "x": x,
        "y": y,
        "process": process.cast(pl.Float64).to_numpy(),
        "hplc": hplc,
        "mae": -cross_val_score(model, x, y, cv=10, scoring="neg_mean_absolute_error").mean(),
        "out_of_fold": cross_val_predict(model, x, y, cv=10).ravel(),
        "predicted": model.fit(x, y).predict(process.cast(pl.Float64).to_numpy()).ravel(),
    }


def test_the_published_error_is_reached(ran, reference):
    assert ran.cv_mae == pytest.approx(reference["mae"], rel=1e-9)
    assert round(ran.cv_mae, 5) == PUBLISHED
    rmsecv = np.sqrt(np.mean((reference["out_of_fold"] - reference["y"]) ** 2))
    assert ran.cv_rmse == pytest.approx(rmsecv, rel=1e-9)


def test_out_of_fold_and_process_predictions_are_stored(ran, reference):
    ds = ran.dataset
    lines = ds.predictions.table.filter(pl.col("partition") == "val").sort("sample")
    assert lines["sample"].to_list() == list(range(21))
    assert sorted(set(lines["fold"])) == list(range(10))
    np.testing.assert_allclose(lines["preds"], reference["out_of_fold"], rtol=0, atol=1e-8)
    np.testing.assert_allclose(ds.prediction({"partition": "process"}).ravel(), reference["predicted"], atol=1e-8)


def test_spectra_axis_and_partitions_are_those_of_chemotools(ran, reference):
    ds = ran.dataset
    train, process = ({"source": "mir", "processing": "raw", "partition": name} for name in ("train", "process"))
    (x,) = ds.x(train)
    assert x.dtype == np.float64
    np.testing.assert_array_equal(x, reference["x"])
    np.testing.assert_array_equal(ds.x(process)[0], reference["process"])
    np.testing.assert_array_equal(ds.y(train, target="glucose"), reference["y"])
    np.testing.assert_array_equal(ds["mir"]["wavelength"].values, reference["axis"])
    assert ds["mir"].attrs["quantity"] == "absorbance"
    assert ds["mir"].wavelength.attrs == {"units": "cm-1"}
    np.testing.assert_allclose(ds.meta(process)["time"], np.arange(1629) * 1.25 / 60, rtol=1e-15)
    assert ds.meta(train)["time"].null_count() == 21


def test_each_hplc_sample_belongs_to_the_nearest_spectrum(ran, reference):
    hplc, table = reference["hplc"], ran.process
    assert table.height == hplc.height == 34
    assert table["hplc_time"].to_list() == hplc["time"].to_list()
    assert table["glucose"].to_list() == hplc["glucose"].to_list()
    assert (table["time"] - table["hplc_time"]).abs().max() <= 1.25 / 60 / 2 + 1e-12
    meta = ran.dataset.meta({"glucose": pl.col("glucose").is_not_null(), "partition": "process"})
    for name in ("xylose", "acetic_acid", "ethanol", "furfural"):
        assert meta[name].to_list() == hplc[name].to_list()
    nearest = np.abs(np.arange(1629)[:, None] * 1.25 / 60 - hplc["time"].to_numpy()).argmin(axis=0)
    np.testing.assert_array_equal(table["sample"], 21 + nearest)
    np.testing.assert_allclose(table["error"], reference["predicted"][nearest] - hplc["glucose"], atol=1e-8)
    assert table["flat"].to_list() == [bool(np.ptp(reference["process"][k]) == 0) for k in nearest]


def test_two_hplc_samples_of_one_spectrum_are_refused():
    recorded = pl.Series("time", [0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="same nearest spectrum"):
        demo.match_times(recorded, pl.DataFrame({"time": [0.9, 1.1], "glucose": [1.0, 2.0]}))


def test_the_mean_is_that_of_the_training_rows(ran):
    ds = ran.dataset
    assert ds.features.processings == ("raw", "derivative", "centred")
    (train,) = ds.x(demo.model_input("train"))
    (process,) = ds.x(demo.model_input("process"))
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-17)
    assert np.abs(process.mean(axis=0)).max() > 1e-4
    cut = ds.sel(demo.model_input("train"))
    assert (cut["wavelength"].values.min(), cut["wavelength"].values.max()) == (950.0, 1498.0)


def test_the_reopened_store_equals(ran):
    again = SpectroDataset.load(ran.store)
    for source in ("mir", demo.CUT):
        for name in ("raw", "derivative", "centred"):
            wanted = {"source": source, "processing": name}
            assert again.x_exists(wanted) == ran.dataset.x_exists(wanted) == (source == demo.CUT or name == "raw")
            if again.x_exists(wanted):
                xr.testing.assert_identical(again.sel(wanted), ran.dataset.sel(wanted))
    for block in ("targets", "metadata", "predictions"):
        assert getattr(again, block).table.equals(getattr(ran.dataset, block).table)
    assert again.features.index_df.equals(ran.dataset.features.index_df)
    assert again.folds.folds == ran.dataset.folds.folds
    assert len(again.folds) == 10


def test_a_difference_after_reopening_would_be_noticed(ran):
    again = SpectroDataset.load(ran.store)
    demo._check_equal(ran.dataset, again)
    (x,), index = again.get_indexed_features({"source": demo.CUT, "processing": "raw", "sample": [3]}, copy=True)
    again.update_x({demo.CUT: np.nextafter(x, 2)}, index, "raw")
    with pytest.raises(ValueError, match="differs in mir_950_1500, raw"):
        demo._check_equal(ran.dataset, again)


def test_figures_are_drawn(ran):
    assert [path.name for path in ran.figures] == ["spectra.png", "glucose.png"]
    for path in ran.figures:
        image = imread(path)
        assert image.shape[0] > 600
        assert image.shape[1] > 1000
        assert len(np.unique(image[..., :3].reshape(-1, 3), axis=0)) > 100
        shown = image[..., :3].min(axis=2) < 0.9
        for edge in (shown[0], shown[-1], shown[:, 0], shown[:, -1]):
            assert not edge.any(), "something is cut at the edge of the figure"


def test_what_the_figures_show(ran, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    kept = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path: kept.append(self))
    demo.draw_spectra(ran.dataset, demo.CUT, tmp_path / "a.png")
    demo.draw_prediction(ran.dataset, demo.MODEL, demo.compared(ran.dataset), tmp_path / "b.png")
    first, second = kept
    raw, derivative, bar = first.axes
    for ax, kind in ((raw, "raw"), (derivative, "derivative")):
        (collection,) = ax.collections
        assert len(collection.get_segments()) == 21
        np.testing.assert_array_equal(collection.get_array(), ran.dataset.y({"partition": "train"}, target="glucose"))
        assert ax.get_xlim() == (1498.0, 950.0)
        array = ran.dataset.sel({"partition": "train", "processing": kind}, source=demo.CUT).values
        low, high = ax.get_ylim()
        assert low < array.min() < array.max() < high
    assert derivative.get_xlabel() == "Wavenumber (cm$^{-1}$)"
    assert bar.get_ylabel() == "Glucose by HPLC (g/L)"
    (ax,) = second.axes
    predicted, measured = ax.lines
    assert len(predicted.get_xdata()) == 1629
    assert len(measured.get_xdata()) == 34
    assert measured.get_ydata()[0] == pytest.approx(44.41567094)
    low, high = ax.get_ylim()
    assert low < predicted.get_ydata().min() < predicted.get_ydata().max() < high
    assert ax.get_ylabel() == "Glucose (g/L)"
    assert ax.get_xlabel() == "Time (h)"


def test_the_command_prints_the_errors(command, reference):
    done, _ = command
    assert done.stderr == ""
    here = float(re.search(r"here\s+([\d.]+) g/L", done.stdout)[1])
    published = float(re.search(r"published\s+([\d.]+) g/L", done.stdout)[1])
    assert here == round(reference["mae"], 5) == published == PUBLISHED
    table = reference["hplc"]
    nearest = np.abs(np.arange(1629)[:, None] * 1.25 / 60 - table["time"].to_numpy()).argmin(axis=0)
    errors = reference["predicted"][nearest] - table["glucose"].to_numpy()
    shown = re.findall(
        r"mean absolute error ([\d.]+) g/L, median ([\d.]+), RMSEP ([\d.]+), bias ([+-][\d.]+)", done.stdout
    )
    for line, some in zip(shown, (errors, errors[:-1]), strict=True):
        figures = np.abs(some).mean(), np.median(np.abs(some)), np.sqrt((some**2).mean()), some.mean()
        assert [float(number) for number in line] == pytest.approx(figures, abs=0.00501)


def test_the_command_shows_summary_slice_and_places(command):
    done, folder = command
    for text in ("[1/8]", "[8/8]", "1650 samples", "Predictions  1650", "<xarray.DataArray", "wavelength in cm-1"):
        assert text in done.stdout
    assert "scale=False" in done.stdout
    for path in (folder / "fermentation.spectro", folder / "spectra.png", folder / "glucose.png"):
        assert path.exists()
        assert str(path.resolve()) in done.stdout
    features = Path(re.search(r"Spectra  (.*?)   ", done.stdout)[1])
    with xr.open_datatree(features, engine="zarr") as tree:
        assert tree[demo.CUT]["spectra"].sizes == {"row": 1650, "processing": 3, "wavelength": 409}
    tables = Path(re.search(r"Tables   (.*?)   ", done.stdout)[1])
    assert pl.read_parquet(tables / "predictions.parquet").height == 1650


def test_running_again_replaces(command, capsys):
    _, folder = command
    assert main(["demo", "--out", str(folder)]) == 0
    assert "0.92294" in capsys.readouterr().out
    assert len(SpectroDataset.load(folder / "fermentation.spectro").predictions) == 1650


def test_help_version_and_mistakes(capsys):
    assert main(["--help"]) == 0
    assert "demo" in capsys.readouterr().out
    assert main(["demo", "--help"]) == 0
    assert "--out FOLDER" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"spectroxr {spectroxr.__version__}"
    for wrong in ([], ["demmo"], ["demo", "--uot", "x"], ["demo", "--out"]):
        assert main(wrong) == 2
        assert "usage: spectroxr" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["taken", "taken/below"])
def test_a_folder_that_cannot_be_is_an_error_in_one_line(tmp_path, name, capsys):
    (tmp_path / "taken").write_text("a file")
    assert main(["demo", "--out", str(tmp_path / name)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"spectroxr: cannot use .*taken.*: .* --out\.\n", err)
    assert (tmp_path / "taken").read_text() == "a file"


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="permissions as on POSIX")
@pytest.mark.parametrize("name", ["", "new"])
def test_an_unwritable_folder_is_an_error_in_one_line(tmp_path, name, capsys):
    me = os.geteuid()
    tmp_path.chmod(0o500)
    try:
        if me == 0:
            os.seteuid(65534)  # root may write everywhere
        assert main(["demo", "--out", str(tmp_path / name)]) == 1
    finally:
        os.seteuid(me)
        tmp_path.chmod(0o700)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"spectroxr: cannot use .*: Permission denied\..*\n", err)


def test_a_store_that_is_not_ours_is_left_alone(tmp_path, capsys):
    (tmp_path / "fermentation.spectro").mkdir()
    (tmp_path / "fermentation.spectro" / "thesis.txt").write_text("years of work")
    assert main(["demo", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("spectroxr: ")
    assert [path.name for path in (tmp_path / "fermentation.spectro").iterdir()] == ["thesis.txt"]
    assert (tmp_path / "fermentation.spectro" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("package", ["chemotools", "matplotlib", "tqdm"])
def test_a_missing_extra_is_named(tmp_path, package, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["demo", "--out", str(tmp_path / "new")]) == 1
    err = capsys.readouterr().err
    assert package in err
    assert 'pip install "spectroxr[demo]"' in err
    assert err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_interrupted(monkeypatch, capsys):
    def stop(out):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", stop)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "spectroxr: interrupted\n"


def test_a_reader_that_goes_away_is_no_traceback(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "spectroxr", "demo"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline().startswith("[1/8]")
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=300) == 1


def test_the_notebook_runs_without_a_warning(tmp_path):
    notebook = json.loads((ROOT / "notebooks" / "first_look.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    code = "\n".join("".join(cell["source"]) for cell in cells)
    (tmp_path / "first_look.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "first_look.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "MPLBACKEND": "agg", "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert f"absolute errors: {PUBLISHED} g/L" in done.stdout
