import matplotlib
import numpy as np
import polars as pl
import pytest
import xarray as xr
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from spectroxr import SpectroDataset, UnknownNameError, plot


@pytest.fixture
def ax():
    return Figure(layout="constrained").subplots()


def spectra_in(units, quantity="absorbance", rows=5, **attrs):
    rng = np.random.default_rng(1)
    ds = SpectroDataset()
    ds.add_features(
        {"one": rng.random((rows, 3, 40))},
        processing=["raw", "snv", "detrended"],
        wavelength=np.linspace(900, 1290, 40),
        units=units,
        quantity=quantity,
        attrs=attrs,
        partition=["train"] * (rows - 2) + ["test"] * 2,
    )
    return ds


def lines(ax):
    (collection,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    return collection


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize(
    ("units", "attrs", "label", "falls"),
    [
        ("cm-1", {}, "Wavenumber (cm$^{-1}$)", True),
        ("cm-1", {"laser_nm": 785}, "Raman shift (cm$^{-1}$)", False),
        ("nm", {}, "Wavelength (nm)", False),
        ("um", {}, "Wavelength (µm)", False),
        ("eV", {}, "Photon energy (eV)", False),
        (None, {}, "Wavelength", False),
        ("THz", {}, "Wavelength (THz)", False),
    ],
)
def test_direction_and_label_follow_the_unit(ax, units, attrs, label, falls):
    ds = spectra_in(units, **attrs)
    assert plot.spectra(ds.sel({"processing": "raw"}), ax=ax) is ax
    assert bool(ax.xaxis_inverted()) is falls
    assert ax.get_xlabel() == label
    assert ax.get_ylabel() == "Absorbance"
    assert sorted(ax.get_xlim()) == [900, 1290]


def test_lines_are_the_spectra(ax):
    ds = spectra_in("nm")
    array = ds.sel({"processing": "snv"})
    plot.spectra(array, ax=ax, title="Five")
    segments = lines(ax).get_segments()
    assert len(segments) == 5
    for segment, spectrum in zip(segments, array.values[:, 0], strict=True):
        np.testing.assert_array_equal(segment[:, 0], array["wavelength"].values)
        np.testing.assert_array_equal(segment[:, 1], spectrum)
    low, high = ax.get_ylim()
    assert low < array.values.min() < array.values.max() < high
    assert ax.get_ylabel() == "Absorbance, snv"
    assert ax.get_title(loc="left") == "Five"


def test_a_falling_axis_and_one_spectrum(ax):
    values = np.linspace(0.0, 1.0, 6)
    array = xr.DataArray(values, dims="wavelength", coords={"wavelength": np.linspace(2000, 1500, 6)}, name="x")
    array.attrs["units"] = "cm-1"
    plot.spectra(array, ax=ax)
    assert ax.get_xlim() == (2000, 1500)
    assert ax.get_ylabel() == "Intensity"
    assert len(lines(ax).get_segments()) == 1


def test_numbers_get_a_colour_bar(ax):
    ds = spectra_in("cm-1")
    color = np.array([4.0, 1.0, 3.0, 2.0, 8.0])
    plot.spectra(ds.sel({"processing": "raw"}), color, ax=ax, label="Glucose (g/L)")
    collection = lines(ax)
    np.testing.assert_array_equal(collection.get_array(), color)
    assert collection.get_clim() == (1.0, 8.0)
    assert collection.colorbar.ax.get_ylabel() == "Glucose (g/L)"
    assert ax.get_legend() is None


@pytest.mark.parametrize("kind", [pl.Series, lambda v: np.array(v, dtype=float)[:, None]])
def test_missing_values_are_grey_and_below(ax, kind):
    ds = spectra_in("cm-1")
    array = ds.sel({"processing": "raw"})
    plot.spectra(array, kind([4.0, None, 3.0, None, 8.0]), ax=ax)
    collection = lines(ax)
    collection.update_scalarmappable()
    shown = [to_hex(c) for c in collection.get_colors()]
    assert shown[:2] == [to_hex(plot.MISSING)] * 2
    assert to_hex(plot.MISSING) not in shown[2:]
    np.testing.assert_array_equal(collection.get_segments()[0][:, 1], array.values[1, 0])
    assert legend_texts(ax) == ["no value"]


def test_all_values_missing(ax):
    plot.spectra(spectra_in("nm").sel({"processing": "raw"}), [np.nan] * 5, ax=ax)
    assert lines(ax).colorbar is None
    assert legend_texts(ax) == ["no value"]


def test_a_coordinate_colours_categories(ax):
    ds = spectra_in("cm-1")
    plot.spectra(ds.sel({"processing": "raw"}), "partition", ax=ax)
    assert legend_texts(ax) == ["train", "test"]
    assert ax.get_legend().get_title().get_text() == "Partition"
    shown = [to_hex(c) for c in lines(ax).get_colors()]
    assert len(set(shown)) == 2
    assert shown[:3] == [shown[0]] * 3


def test_processings_are_lines_of_their_own(ax):
    ds = spectra_in("cm-1")
    array = ds.sel()
    plot.spectra(array, "processing", ax=ax)
    assert len(lines(ax).get_segments()) == 15
    assert legend_texts(ax) == ["raw", "snv", "detrended"]
    assert ax.get_ylabel() == "Absorbance"


def test_one_value_per_row_colours_all_its_processings(ax):
    ds = spectra_in("cm-1")
    plot.spectra(ds.sel(), [1.0, 2.0, 3.0, 4.0, 5.0], ax=ax)
    np.testing.assert_array_equal(lines(ax).get_array(), np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], 3))


def test_many_categories_and_booleans(ax):
    ds = spectra_in("nm", rows=24)
    array = ds.sel({"processing": "raw"})
    plot.spectra(array, [f"batch {k}" for k in range(24)], ax=ax)
    assert len({to_hex(c) for c in lines(ax).get_colors()}) == 24
    other = Figure().subplots()
    plot.spectra(array, np.arange(24) < 3, ax=other)
    assert legend_texts(other) == ["True", "False"]


def test_key_can_be_left_out(ax):
    ds = spectra_in("cm-1")
    plot.spectra(ds.sel({"processing": "raw"}), [1.0, np.nan, 2.0, 3.0, 4.0], ax=ax, key=False)
    assert lines(ax).colorbar is None
    assert ax.get_legend() is None


def test_spectra_share_axes_with_what_is_there(ax):
    ds = spectra_in("cm-1")
    plot.spectra(ds.sel({"processing": "raw"}), ax=ax)
    plot.spectra(ds.sel({"processing": "raw"}) + 5, ax=ax)
    assert ax.get_ylim()[0] < 1
    assert ax.get_ylim()[1] > 5


def test_holes_do_not_spoil_the_limits(ax):
    array = spectra_in("nm").sel({"processing": "raw"}).copy()
    array[0, 0, 3] = np.nan
    array[1, 0, 3] = np.inf
    plot.spectra(array, ax=ax)
    assert np.isfinite(ax.get_ylim()).all()
    assert ax.get_ylim()[1] < 2


def test_errors_say_what_is_wrong(ax):
    ds = spectra_in("cm-1")
    array = ds.sel({"processing": "raw"})
    with pytest.raises(UnknownNameError, match="Did you mean 'partition'"):
        plot.spectra(array, "partiton", ax=ax)
    with pytest.raises(ValueError, match=r"one per row would be \(5,\)"):
        plot.spectra(array, [1.0, 2.0], ax=ax)
    with pytest.raises(ValueError, match="'wavelength' must be one"):
        plot.spectra(array.rename(wavelength="band"), ax=ax)
    with pytest.raises(ValueError, match="nothing to draw"):
        plot.spectra(array.isel(row=slice(0, 0)), ax=ax)
    with pytest.raises(ValueError, match="belongs to the wavelengths"):
        plot.spectra(array, "wavelength", ax=ax)
    assert not ax.collections


def test_merged_sources_are_drawn_one_by_one(ax):
    ds = SpectroDataset()
    ds.add_features(
        {"nir": np.random.default_rng(0).random((3, 8)), "mir": np.random.default_rng(1).random((3, 6))},
        wavelength={"nir": np.arange(8.0) + 1000, "mir": np.arange(6.0) + 2000},
    )
    ds.merge([0, 1])
    array = ds.sel()
    with pytest.raises(ValueError, match="merged sources"):
        plot.spectra(array, ax=ax)
    plot.spectra(array[..., (array["source"] == "nir").values], ax=ax)
    assert len(lines(ax).get_segments()[0]) == 8


def test_over_time(ax):
    time = np.arange(10) / 6
    plot.over_time(
        time,
        np.linspace(9, 0, 10)[:, None],
        pl.Series([0.0, 1.0]),
        pl.Series([8.5, 2.0]),
        ax=ax,
        name="Glucose",
        units="g/L",
        labels=("PLS", "HPLC"),
        title="Run 1",
    )
    predicted, measured = ax.lines
    np.testing.assert_array_equal(predicted.get_xdata(), time)
    np.testing.assert_array_equal(predicted.get_ydata(), np.linspace(9, 0, 10))
    np.testing.assert_array_equal(measured.get_xydata(), [[0.0, 8.5], [1.0, 2.0]])
    assert ax.get_xlabel() == "Time (h)"
    assert ax.get_ylabel() == "Glucose (g/L)"
    assert legend_texts(ax) == ["PLS", "HPLC"]
    assert ax.get_title(loc="left") == "Run 1"


def test_over_time_without_reference(ax):
    plot.over_time([0.0, 1.0], [2.0, 3.0], ax=ax, time_units="min")
    assert len(ax.lines) == 1
    assert ax.get_legend() is None
    assert ax.get_xlabel() == "Time (min)"
    assert ax.get_ylabel() == "Prediction"


def test_over_time_checks_shapes(ax):
    with pytest.raises(ValueError, match="one value per time"):
        plot.over_time([0.0, 1.0], [2.0], ax=ax)
    with pytest.raises(ValueError, match="go together"):
        plot.over_time([0.0], [2.0], reference=[1.0], ax=ax)
    assert not ax.lines


def test_new_axes_are_of_the_users_backend():
    from matplotlib import pyplot

    with matplotlib.rc_context():
        matplotlib.use("agg")
        ax = plot.spectra(spectra_in("cm-1").sel({"processing": "raw"}))
        assert ax.figure.number in pyplot.get_fignums()
        assert matplotlib.get_backend().lower() == "agg"
        pyplot.close(ax.figure)


def test_drawing_on_given_axes_leaves_the_backend_alone(script):
    script(
        "import sys; import numpy as np; from matplotlib.figure import Figure; import matplotlib",
        "import xarray as xr; from spectroxr import plot",
        "array = xr.DataArray(np.ones((2, 3)), dims=('row', 'wavelength'), coords={'wavelength': [1.0, 2.0, 3.0]})",
        "before = dict.__getitem__(matplotlib.rcParams, 'backend')",
        "figure = Figure(); plot.spectra(array, [1.0, 2.0], ax=figure.subplots()); figure.savefig('one.png')",
        "assert 'matplotlib.pyplot' not in sys.modules",
        "assert dict.__getitem__(matplotlib.rcParams, 'backend') is before",
    )


def test_without_matplotlib_the_extra_is_named(script):
    script(
        "import sys; sys.modules['matplotlib'] = None",
        "import numpy as np; import xarray as xr; from spectroxr import plot",
        "array = xr.DataArray(np.ones((2, 3)), dims=('row', 'wavelength'), coords={'wavelength': [1.0, 2.0, 3.0]})",
        "try:",
        "    plot.spectra(array)",
        "except ImportError as error:",
        "    assert 'pip install \"spectroxr[plot]\"' in str(error), error",
        "else:",
        "    raise AssertionError('drew without matplotlib')",
    )


def test_matplotlib_is_imported_only_to_draw(script):
    script("import sys; import spectroxr, spectroxr.plot", "assert 'matplotlib' not in sys.modules")


@pytest.fixture
def script(tmp_path):
    """Run lines of Python in a process of their own, without MPLBACKEND, warnings as errors."""
    import os
    import subprocess
    import sys

    def run(*lines):
        environment = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", "\n".join(lines)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr

    return run
