import copy
import logging
import pickle

import numpy as np
import polars as pl
import pytest
import xarray as xr

from spectroxr import NotRectangularError, NoViewError, SpectroDataset, UnknownNameError


@pytest.fixture
def ds():
    rng = np.random.default_rng(0)
    ds = SpectroDataset()
    ds.add_features(
        {"nir": rng.random((6, 4)).astype("f4"), "mir": rng.random((6, 3))},
        wavelength={"nir": [1000.0, 1100.0, 1200.0, 1300.0], "mir": [1500.0, 1000.0, 500.0]},
        units={"nir": "nm", "mir": "cm-1"},
        quantity="absorbance",
        partition=["train"] * 4 + ["test"] * 2,
    )
    return ds


def test_types_and_labels(ds):
    index = ds.features.index_df
    assert index.schema == {
        "row": pl.UInt32,
        "sample": pl.UInt32,
        "origin": pl.UInt32,
        "partition": pl.String,
        "group": pl.UInt32,
        "branch": pl.UInt32,
        "processing": pl.String,
    }
    assert [s.dtype for s in ds.features.sources] == [np.float32, np.float64]
    assert len(ds) == 6


def test_dataarrays_bring_axis_units_and_labels():
    array = xr.DataArray(
        np.ones((2, 3), "f4"),
        dims=("sample", "wavelength"),
        coords={"wavelength": ("wavelength", [3.0, 2.0, 1.0], {"units": "um"}), "partition": ("sample", ["a", "b"])},
        name="mir",
        attrs={"quantity": "reflectance"},
    )
    ds = SpectroDataset()
    ds.add_features([array])
    got = ds["mir"]
    assert got.wavelength.values.tolist() == [3.0, 2.0, 1.0]
    assert got.wavelength.attrs == {"units": "um"}
    assert got.attrs["quantity"] == "reflectance"
    assert got.partition.values.tolist() == ["a", "b"]
    ds.add_features([ds.sel(source="mir").squeeze("processing", drop=True)])
    assert len(ds) == 4


def test_wavelength_ranges_follow_the_direction_of_the_axis(ds):
    assert ds.x({"wavelength": slice(1050, 1250), "source": "nir"})[0].shape == (6, 2)
    assert ds.sel({"wavelength": slice(500, 1000)}, source="mir").wavelength.values.tolist() == [1000.0, 500.0]
    assert ds.sel({"wavelength": slice(1000, 500)}, source="mir").wavelength.values.tolist() == [1000.0, 500.0]
    with pytest.raises(UnknownNameError, match=r"nearest is 1100\.0"):
        ds.x({"wavelength": 1110, "source": "nir"})


def test_adopting_shares_the_callers_memory():
    big = np.zeros((4, 5))
    ds = SpectroDataset()
    ds.add_features([big], copy=False)
    assert np.shares_memory(ds.x()[0], big)
    ds = SpectroDataset()
    ds.add_features([big])
    assert not np.shares_memory(ds.x()[0], big)


def test_new_source_on_existing_samples_and_its_holes(ds):
    ds.add_source("pca", np.ones((4, 2)), ds.get_indexed_features({"partition": "train"})[1])
    assert ds.x({"partition": "train"})[2].shape == (4, 2)
    with pytest.raises(NotRectangularError, match="2 samples lack 'raw' in source 'pca'"):
        ds.x()
    assert not ds.x_exists({"partition": "test", "source": "pca"})
    ds.update_x({"pca": np.full((2, 2), 7.0)}, [4, 5], "raw")
    assert ds.x()[2][4:].tolist() == [[7.0, 7.0], [7.0, 7.0]]


def test_augmenting_moves_nothing_and_writing_copies(ds):
    before = ds.x()[0].copy()
    new = ds.augment_samples_x([(1, 2), (4, 1)])
    assert new["sample"].to_list() == [6, 7, 8]
    assert new["origin"].to_list() == [1, 1, 4]
    assert new["partition"].to_list() == ["train", "train", "test"]
    assert np.shares_memory(ds.x({"sample": 6})[0], ds.x({"sample": 1})[0])
    ds.update_x([np.full((1, 4), 9, "f4"), None], [6], "raw")
    np.testing.assert_array_equal(ds.x({"sample": slice(0, 5)})[0], before)
    np.testing.assert_array_equal(ds.x({"sample": 7})[0], before[[1]])
    assert ds.x({"sample": 6})[0].tolist() == [[9.0] * 4]
    np.testing.assert_array_equal(ds.x({"sample": 6})[1], ds.x({"sample": 1})[1])


def test_origin_written_leaves_children_alone(ds):
    ds.augment_samples_x([(1, 1)])
    old = ds.x({"sample": 6})[0].copy()
    ds.update_x([np.zeros((1, 4), "f4"), None], [1], "raw")
    np.testing.assert_array_equal(ds.x({"sample": 6})[0], old)
    assert ds.x({"sample": 1})[0].sum() == 0


def test_updates_show_in_views_and_growth_does_not_break_them(ds):
    view = ds.x({"partition": "train"})[0]
    first = view.copy()
    ds.add_features([np.ones((50, 4), "f4"), np.ones((50, 3))])
    ds.augment_features_x(1)
    np.testing.assert_array_equal(view, first)
    ds.update_x([np.full((1, 4), 5, "f4"), None], [2], "snv")
    np.testing.assert_array_equal(view, first)


def test_update_in_place_shows_in_earlier_views_even_after_growth(ds):
    view = ds.x()[0]
    ds.add_features([np.ones((50, 4), "f4"), np.ones((50, 3))])
    ds.update_x([np.full((1, 4), 5, "f4"), None], [2], "raw")
    assert view[2].tolist() == [5.0] * 4


def test_variants_stored_apart_become_one_view_at_the_first_read(ds):
    ds.update_x([x * 2 for x in ds.x()], ds.features.index_df, "double")
    (nir, _mir) = ds.x(layout="3d", copy=False)
    assert np.shares_memory(nir, ds.features.sources[0].array)
    np.testing.assert_array_equal(nir[:, 1], nir[:, 0] * 2)


def test_merge_and_split_are_physical_and_undo_each_other(ds):
    ds.pack()
    nir, mir = (x.copy() for x in ds.x())
    with pytest.raises(ValueError, match="at least two"):
        ds.merge([0])
    ds.merge([0, 1])
    (both,) = ds.x(copy=False)
    np.testing.assert_array_equal(both, np.hstack([nir, mir]))
    assert both.dtype == np.float64
    assert ds["nir+mir"].source.values.tolist() == ["nir"] * 4 + ["mir"] * 3
    np.testing.assert_array_equal(ds.x(src_concat=True)[0], both)
    ds.split([(0, 4), (4, 7)])
    assert [s.name for s in ds.features.sources] == ["nir", "mir"]
    assert ds["mir"].wavelength.attrs == {"units": "cm-1"}
    np.testing.assert_array_equal(ds.x()[1], mir)


@pytest.mark.parametrize(
    "ranges", [[(0, 2)], [(0, 2), (3, 4)], [(0, 3), (2, 4)], [(0, 9)], [(2, 4), (0, 2)], [], [(0,)]]
)
def test_ranges_that_lose_or_double_a_wavelength_are_refused(ds, ranges):
    with pytest.raises((ValueError, TypeError)):
        ds.split(ranges, source="nir")
    assert len(ds.features.sources) == 2


def test_update_indexes(ds):
    ds.update_x([x * 2 for x in ds.x()], ds.features.index_df, "double")
    lines = ds.features.index_df
    ds.update_indexes(lines.filter(pl.col("processing") == "double"), {"branch": 7})
    assert ds.get_indexed_features({"branch": 7})[1]["processing"].unique().to_list() == ["double"]
    ds.update_indexes(lines.filter(pl.col("sample") < 2), {"partition": "val", "group": [3, 4, 3, 4]})
    assert ds.get_indexed_features({"partition": "val"})[1]["group"].to_list() == [3, 4]
    ds.update_indexes(lines.filter(pl.col("processing") == "double"), {"processing": "twice"})
    assert ds.features.processings == ("raw", "twice")
    assert ds.x({"processing": "twice"})[0].shape == (6, 4)


@pytest.mark.parametrize(
    ("updates", "error"),
    [
        ({"partiton": "x"}, UnknownNameError),
        ({"sample": 3}, ValueError),
        ({"row": 3}, ValueError),
        ({"group": -1}, ValueError),
        ({"group": 2**32}, ValueError),
        ({"group": 1.5}, TypeError),
        ({"branch": None}, ValueError),
        ({"partition": 3}, TypeError),
        ({"group": [1, 2]}, ValueError),
        ({"partition": "x", "branch": "y"}, TypeError),
        ({"processing": "a"}, ValueError),
    ],
)
def test_bad_labels_change_nothing(ds, updates, error):
    before = ds.features.index_df
    with pytest.raises(error):
        ds.update_indexes(before.head(3), updates)
    assert ds.features.index_df.equals(before)


def test_adding_together_is_all_or_nothing(ds):
    spectra = [np.ones((2, 4), "f4"), np.ones((2, 3))]
    for targets, meta in (
        (pl.DataFrame({"y": [1.0]}), None),
        (pl.DataFrame({"y": [1.0, 2.0]}), pl.DataFrame({"wavelength": [1, 2]})),
    ):
        with pytest.raises(ValueError):
            ds.add_data(spectra, targets, meta)
        assert len(ds) == 6
        assert ds.targets.columns == []
    ds.add_data(spectra, pl.DataFrame({"y": [1.0, 2.0]}), pl.DataFrame({"site": ["a", "b"]}), partition="new")
    assert ds.y({"partition": "new"}).ravel().tolist() == [1.0, 2.0]
    assert ds.meta({"site": "b"})["sample"].to_list() == [7]


def test_one_line_is_logged_per_call_and_none_when_off(ds, caplog):
    ds.x()
    assert not caplog.records
    with caplog.at_level(logging.INFO, logger="spectroxr"):
        ds.x({"partition": "train"})
        ds.augment_samples_x([(0, 1)])
        ds.log("mine", "warning")
    assert [r.levelname for r in caplog.records] == ["INFO", "INFO", "WARNING"]
    assert "4 samples" in caplog.records[0].message
    assert all(r.name == "spectroxr" for r in caplog.records)
    with pytest.raises(ValueError, match="WARNING"):
        ds.log("mine", "warn")


def test_copies_and_pickles_share_nothing(ds):
    ds.add_targets(pl.DataFrame({"y": np.arange(6.0)}))
    for twin in (copy.deepcopy(ds), pickle.loads(pickle.dumps(ds))):
        np.testing.assert_array_equal(twin.x()[1], ds.x()[1])
        assert twin.features.index_df.equals(ds.features.index_df)
        assert not np.shares_memory(twin.x()[0], ds.x()[0])
        twin.update_x([np.zeros((1, 4), "f4"), None], [0], "raw")
        assert ds.x()[0][0].sum() > 0


def test_an_empty_dataset_says_what_to_do():
    ds = SpectroDataset()
    assert len(ds) == 0
    assert "0 samples" in repr(ds)
    assert not ds.x_exists()
    for call in (ds.x, ds.pack, lambda: ds.tree):
        with pytest.raises(ValueError, match="add_features"):
            call()


def test_no_view_names_reason_and_remedy(ds):
    ds.update_indexes([0, 2, 3], {"partition": "odd"})
    with pytest.raises(NoViewError, match=r"scattered.*pack\(by=") as error:
        ds.x({"partition": "odd"}, copy=False)
    assert "partition" in str(error.value)
    ds.pack(by="partition")
    assert ds.x({"partition": "odd"}, copy=False)[0].shape == (3, 4)


def test_a_variant_of_one_source_does_not_hide_the_other(ds):
    ds.update_x({"nir": ds.x()[0] * 2}, ds.features.index_df, "double")
    assert ds["nir"].processing.values.tolist() == ["raw", "double"]
    assert ds["mir"].processing.values.tolist() == ["raw"]
    assert ds.x({"source": "mir"})[0].shape == (6, 3)
    assert {name: child.sizes["processing"] for name, child in ds.tree.children.items()} == {"nir": 2, "mir": 1}
    with pytest.raises(NotRectangularError, match="6 samples lack 'double' in source 'mir'"):
        ds.x()
    with pytest.raises(NotRectangularError, match="6 samples lack 'double' in source 'mir'"):
        ds.x({"source": "mir", "processing": ["raw", "double"]})
