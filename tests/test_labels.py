"""Labelled reads: real DataArrays and DataTrees, on which plain xarray works."""

import numpy as np
import polars as pl
import pytest
import xarray as xr

from spectroxr import NotRectangularError, SpectroDataset, UnknownNameError

N = 8
#: numpy's words, and xarray's where it looks first.
REFUSED = "read-only|destination is a view"
PARTITION = ["train", "train", "test", "train", "test", "train", "train", "test"]
NIR = np.linspace(1000, 1900, 10)
MIR = np.linspace(4000, 3000, 6)
RNG = np.random.default_rng(11)
SPECTRA = {
    "nir": RNG.normal(size=(N, 3, 10)).astype("float32"),
    "mir": RNG.normal(size=(N, 3, 6)),
}


@pytest.fixture
def ds():
    ds = SpectroDataset()
    ds.add_features(
        SPECTRA,
        processing=["raw", "snv", "d1"],
        wavelength={"nir": NIR, "mir": MIR},
        units={"nir": "nm", "mir": "cm-1"},
        quantity=["reflectance", "absorbance"],
        attrs={"instrument": {"nir": "A-1", "mir": "B-2"}},
        partition=PARTITION,
        group=[k % 2 for k in range(N)],
        branch=[k // 4 for k in range(N)],
    )
    return ds


def test_dims_coords_and_attrs(ds):
    nir = ds["nir"]
    assert isinstance(nir, xr.DataArray)
    assert nir.dims == ("row", "processing", "wavelength")
    assert nir.name == "nir"
    assert nir.dtype == np.float32
    assert set(nir.coords) == {
        "row", "processing", "wavelength", "sample", "origin", "partition", "group", "branch",
    }  # fmt: skip
    for name in ("row", "sample", "origin", "group", "branch"):
        assert nir[name].dtype == np.uint32, name
        assert nir[name].dims == ("row",)
    assert nir["sample"].values.tolist() == list(range(N))
    assert nir["partition"].values.tolist() == PARTITION
    assert nir["group"].values.tolist() == [0, 1] * 4
    assert nir["branch"].values.tolist() == [0] * 4 + [1] * 4
    assert nir["processing"].values.tolist() == ["raw", "snv", "d1"]
    np.testing.assert_array_equal(nir["wavelength"].values, NIR)
    assert nir.attrs == {"quantity": "reflectance", "long_name": "reflectance", "instrument": "A-1"}
    assert nir["wavelength"].attrs == {"units": "nm"}
    assert ds["mir"]["wavelength"].attrs == {"units": "cm-1"}
    np.testing.assert_array_equal(ds["mir"]["wavelength"].values, MIR)
    np.testing.assert_array_equal(nir.values, SPECTRA["nir"])


def test_data_of_a_source_is_the_same(ds):
    for k, name in enumerate(("nir", "mir")):
        source = ds.features.sources[k]
        assert source.name == name
        assert source.data.identical(ds[name])
        assert source.data.identical(ds.sel(source=name))
        assert source.data.identical(ds.sel(source=k))
        assert np.shares_memory(source.data.values, source.array)


def test_sel_filters(ds):
    part = ds.sel({"partition": "test", "wavelength": slice(1200, 1400), "processing": "d1"}, source="nir")
    np.testing.assert_array_equal(part.values, SPECTRA["nir"][[2, 4, 7]][:, [2]][:, :, 2:5])
    assert part["sample"].values.tolist() == [2, 4, 7]
    assert part["wavelength"].values.tolist() == [1200, 1300, 1400]
    assert part["processing"].values.tolist() == ["d1"]
    only = ds.sel({"source": "mir"})
    assert only.name == "mir"


def test_sel_of_several_sources_or_an_unknown_one(ds):
    with pytest.raises(ValueError, match="source="):
        ds.sel()
    with pytest.raises(UnknownNameError, match="nir"):
        ds["nri"]
    with pytest.raises(UnknownNameError):
        ds.sel(source=5)
    with pytest.raises(ValueError, match="nothing matches"):
        ds.sel({"source": "mir"}, source="nir")


# Plain xarray -----------------------------------------------------------------------------------------------


def test_sel_by_label_and_position(ds):
    nir = ds["nir"]
    np.testing.assert_array_equal(nir.sel(wavelength=slice(1200, 1500)).values, SPECTRA["nir"][:, :, 2:6])
    np.testing.assert_array_equal(nir.sel(wavelength=1333, method="nearest").values, SPECTRA["nir"][:, :, 3])
    np.testing.assert_array_equal(nir.sel(processing="snv").values, SPECTRA["nir"][:, 1])
    np.testing.assert_array_equal(nir.sel(processing=["d1", "raw"]).values, SPECTRA["nir"][:, [2, 0]])
    np.testing.assert_array_equal(nir.sel(row=3).values, SPECTRA["nir"][3])
    np.testing.assert_array_equal(ds["mir"].sel(wavelength=slice(3800, 3200)).values, SPECTRA["mir"][:, :, 1:5])
    np.testing.assert_array_equal(nir.isel(row=[5, 1], wavelength=-1).values, SPECTRA["nir"][[5, 1], :, -1])
    assert np.shares_memory(nir.isel(row=slice(2, 6)).values, ds.features.sources[0].array)
    assert np.shares_memory(nir.sel(wavelength=slice(1200, 1500)).values, ds.features.sources[0].array)


def test_boolean_selection_by_coordinates(ds):
    nir = ds["nir"]
    train = [k for k in range(N) if PARTITION[k] == "train"]
    np.testing.assert_array_equal(nir[nir.partition == "train"].values, SPECTRA["nir"][train])
    np.testing.assert_array_equal(nir.isel(row=(nir.group == 1).values).values, SPECTRA["nir"][1::2])
    masked = nir.where(nir.partition == "train")
    assert np.isnan(masked.values[2]).all()
    np.testing.assert_array_equal(masked.values[train], SPECTRA["nir"][train])
    dropped = nir.where(nir.partition == "train", drop=True)
    np.testing.assert_array_equal(dropped.values, SPECTRA["nir"][train])
    assert dropped.sample.values.tolist() == train


@pytest.mark.parametrize("by", ["partition", "group", "branch"])
def test_groupby_mean(ds, by):
    means = ds["nir"].groupby(by).mean()
    labels = {"partition": PARTITION, "group": [0, 1] * 4, "branch": [0] * 4 + [1] * 4}[by]
    for label in sorted(set(labels)):
        rows = [k for k in range(N) if labels[k] == label]
        got = means.sel({by: label}).transpose("processing", "wavelength").values
        np.testing.assert_allclose(got, SPECTRA["nir"][rows].mean(axis=0), rtol=1e-5)


def test_arithmetic_reductions_and_interpolation(ds):
    nir = ds["nir"]
    centred = nir - nir.mean("row")
    np.testing.assert_allclose(centred.values, SPECTRA["nir"] - SPECTRA["nir"].mean(axis=0), atol=1e-5)
    assert centred.partition.values.tolist() == PARTITION
    halfway = nir.interp(wavelength=[1050.0])
    np.testing.assert_allclose(
        halfway.values[..., 0], (SPECTRA["nir"][:, :, 0] + SPECTRA["nir"][:, :, 1]) / 2, rtol=1e-4, atol=1e-5
    )
    mir = ds["mir"].interp(wavelength=[3900.0])
    np.testing.assert_allclose(mir.values[..., 0], (SPECTRA["mir"][:, :, 0] + SPECTRA["mir"][:, :, 1]) / 2)
    np.testing.assert_allclose(nir.std("wavelength").values, SPECTRA["nir"].std(axis=2), rtol=1e-4)
    diff = nir.diff("wavelength")
    np.testing.assert_allclose(diff.values, np.diff(SPECTRA["nir"], axis=2), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(nir.sortby("wavelength", ascending=False).values, SPECTRA["nir"][:, :, ::-1])
    np.testing.assert_array_equal(ds["mir"].sortby("wavelength").values, SPECTRA["mir"][:, :, ::-1])
    np.testing.assert_allclose(
        nir.integrate("wavelength").values, np.trapezoid(SPECTRA["nir"], NIR, axis=2), rtol=1e-3, atol=1e-2
    )


def test_reshaping_and_frames(ds):
    nir = ds["nir"]
    stacked = nir.stack(feature=("processing", "wavelength"))
    np.testing.assert_array_equal(stacked.values, ds.x({"source": "nir"}, "2d")[0])
    np.testing.assert_array_equal(
        nir.transpose("row", "wavelength", "processing").values, ds.x(None, "3d_transpose")[0]
    )
    by_sample = nir.swap_dims(row="sample").sel(sample=[6, 2])
    np.testing.assert_array_equal(by_sample.values, SPECTRA["nir"][[6, 2]])
    frame = nir.sel(processing="raw", wavelength=slice(1000, 1100)).to_dataframe("value").reset_index()
    assert len(frame) == 2 * N
    assert frame.loc[frame["sample"] == 4, "value"].tolist() == SPECTRA["nir"][4, 0, :2].tolist()
    both = xr.concat([nir.isel(row=slice(0, 2)), nir.isel(row=slice(5, 8))], "row")
    assert both.sample.values.tolist() == [0, 1, 5, 6, 7]
    assert nir.copy(deep=True).values.flags.writeable
    assert nir.load().identical(nir)
    back = SpectroDataset()
    back.add_features(nir)
    assert back["nir"].identical(nir)


def test_writing_through_a_dataarray_is_refused(ds):
    nir = ds["nir"]
    with pytest.raises(ValueError, match=REFUSED):
        nir[0, 0, 0] = 1
    with pytest.raises(ValueError, match=REFUSED):
        nir.loc[{"processing": "raw"}] = 0
    with pytest.raises(ValueError, match=REFUSED):
        nir.values[...] = 0
    with pytest.raises(ValueError, match=REFUSED):
        nir += 1
    for coordinate in ("sample", "partition", "origin", "group", "branch"):
        with pytest.raises(ValueError, match=REFUSED):
            nir[coordinate].values[0] = nir[coordinate].values[1]
        with pytest.raises(ValueError, match=REFUSED):
            nir[coordinate][0] = nir[coordinate].values[1]
    np.testing.assert_array_equal(ds.x(None, "3d")[0], SPECTRA["nir"])


def test_rebinding_on_a_dataarray_stays_there(ds):
    nir = ds["nir"]
    nir.values = np.zeros(nir.shape, "float32")
    nir["sample"] = ("row", np.zeros(N, int))
    nir.attrs["quantity"] = "colour"
    nir.attrs["more"] = 1
    nir["wavelength"].attrs["units"] = "furlong"
    nir.name = "other"
    again = ds["nir"]
    np.testing.assert_array_equal(again.values, SPECTRA["nir"])
    assert again["sample"].values.tolist() == list(range(N))
    assert again.attrs["quantity"] == "reflectance"
    assert "more" not in again.attrs
    assert again["wavelength"].attrs["units"] == "nm"
    assert again.name == "nir"


def test_nested_attrs_are_not_the_stores(ds):
    fresh = SpectroDataset()
    laser = {"nm": 785, "lines": [1, 2]}
    fresh.add_features({"raman": np.zeros((2, 3))}, attrs={"laser": {"raman": laser}})
    laser["nm"] = 532
    shown = fresh["raman"].attrs["laser"]
    assert shown == {"nm": 785, "lines": [1, 2]}
    shown["nm"] = 1064
    shown["lines"].append(3)
    assert fresh["raman"].attrs["laser"] == {"nm": 785, "lines": [1, 2]}
    ds.merge(["nir", "mir"])
    ds["nir+mir"].attrs["merged"]["nir"]["units"] = "furlong"
    assert ds["nir+mir"].attrs["merged"]["nir"]["units"] == "nm"


# Coordinates mirror the index -------------------------------------------------------------------------------


def test_coordinates_follow_the_index(ds):
    ds.augment_samples_x([(2, 2), (5, 1)])
    ds.update_indexes([8], {"partition": "aug", "group": 7})
    nir = ds["nir"]
    assert nir.sizes["row"] == N + 3
    assert nir["sample"].values.tolist() == list(range(N + 3))
    assert nir["origin"].values.tolist() == [*range(N), 2, 2, 5]
    assert nir["row"].values.tolist() == [*range(N), 2, 2, 5]
    assert nir["partition"].values.tolist() == [*PARTITION, "aug", "test", "train"]
    assert nir["group"].values.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 7, 0, 1]
    np.testing.assert_array_equal(nir.values, SPECTRA["nir"][[*range(N), 2, 2, 5]])
    means = nir.groupby("origin").mean()
    np.testing.assert_allclose(means.sel(origin=2).values, SPECTRA["nir"][2], rtol=1e-5)


def test_nulls_in_labels():
    ds = SpectroDataset()
    ds.add_features([np.zeros((3, 2))], partition=["a", None, "b"], group=[4, None, 2**32 - 1])
    array = ds["source0"]
    assert array["partition"].values.tolist() == ["a", "", "b"]
    np.testing.assert_array_equal(array["group"].values, [4, np.nan, 2**32 - 1])


def test_branch_has_a_processing_dimension_where_it_differs(ds):
    table = ds.features.index_df.filter((pl.col("processing") == "snv") & (pl.col("sample") < 3))
    ds.update_indexes(table, {"branch": 9})
    nir = ds["nir"]
    assert nir["branch"].dims == ("row", "processing")
    assert nir["branch"].sel(processing="snv").values.tolist() == [9, 9, 9, 0, 1, 1, 1, 1]
    assert nir["branch"].sel(processing="raw").values.tolist() == [0] * 4 + [1] * 4
    assert ds.sel({"processing": "snv"}, source="nir")["branch"].dims == ("row",)


def test_many_branches():
    ds = SpectroDataset()
    ds.add_features([np.zeros((300, 2))], branch=range(300))
    assert ds["source0"]["branch"].values.tolist() == list(range(300))


def test_rows_after_pack(ds):
    before = ds["nir"]
    ds.pack(by="partition")
    after = ds["nir"]
    assert after["sample"].values.tolist() == list(range(N))
    assert sorted(after["row"].values.tolist()) == list(range(N))
    np.testing.assert_array_equal(after.values, before.values)
    stored = ds.features.sources[0].array
    np.testing.assert_array_equal(stored[after["row"].values], SPECTRA["nir"])
    test = ds.sel({"partition": "test"}, source="nir")
    assert test["row"].values.tolist() == [0, 1, 2]
    assert np.shares_memory(test.values, stored)


def test_merged_axis_carries_its_sources(ds):
    ds.merge(["mir", "nir"])
    both = ds["mir+nir"]
    assert both["source"].dims == ("wavelength",)
    assert both["source"].values.tolist() == ["mir"] * 6 + ["nir"] * 10
    np.testing.assert_array_equal(both["wavelength"].values, [*MIR, *NIR])
    np.testing.assert_array_equal(both.values, np.concatenate([SPECTRA["mir"], SPECTRA["nir"]], axis=2))
    assert both.attrs["merged"]["mir"]["units"] == "cm-1"
    assert both.attrs["merged"]["nir"]["units"] == "nm"
    assert "units" not in both["wavelength"].attrs
    np.testing.assert_array_equal(both[:, :, both.source == "nir"].values, SPECTRA["nir"])
    means = both.groupby("source").mean()
    np.testing.assert_allclose(means.sel(source="nir").values, SPECTRA["nir"].mean(axis=2), rtol=1e-4, atol=1e-6)
    part = ds.sel({"wavelength": slice(1500, 3400)})
    assert part["source"].values.tolist() == ["mir"] * 3 + ["nir"] * 5
    ds.split([(0, 6), (6, 16)])
    assert ds["nir"].identical(ds["nir"])
    np.testing.assert_array_equal(ds["nir"].values, SPECTRA["nir"])
    assert ds["nir"]["wavelength"].attrs["units"] == "nm"
    assert ds["mir"]["wavelength"].attrs["units"] == "cm-1"
    assert ds["mir"].attrs["quantity"] == "absorbance"
    assert "source" not in ds["nir"].coords


# Trees ------------------------------------------------------------------------------------------------------


def test_tree_has_a_child_per_source(ds):
    tree = ds.tree
    assert isinstance(tree, xr.DataTree)
    assert list(tree.children) == ["nir", "mir"]
    for k, name in enumerate(("nir", "mir")):
        assert list(tree[name].data_vars) == ["spectra"]
        spectra = tree[name]["spectra"]
        assert spectra.dims == ("row", "processing", "wavelength")
        assert np.shares_memory(spectra.values, ds.features.sources[k].array)
        np.testing.assert_array_equal(spectra.values, SPECTRA[name])
        assert set(spectra.coords) == set(ds[name].coords)
        assert spectra.attrs == ds[name].attrs
        with pytest.raises(ValueError, match=REFUSED):
            spectra.values[...] = 0


def test_operations_map_over_a_tree(ds):
    tree = ds.tree
    train = tree.isel(row=[k for k in range(N) if PARTITION[k] == "train"])
    for name in ("nir", "mir"):
        np.testing.assert_array_equal(
            train[name]["spectra"].values, SPECTRA[name][[k for k in range(N) if PARTITION[k] == "train"]]
        )
    means = tree.mean("row")
    np.testing.assert_allclose(means["mir"]["spectra"].values, SPECTRA["mir"].mean(axis=0))
    snv = tree.sel(processing="snv")
    np.testing.assert_array_equal(snv["nir"]["spectra"].values, SPECTRA["nir"][:, 1])


def test_tree_of_sources_with_different_processings(ds):
    ds.update_x([SPECTRA["nir"][:, 0] * 2, None], range(N), "doubled")
    np.testing.assert_array_equal(
        ds.sel({"processing": "doubled"}, source="nir").values[:, 0], SPECTRA["nir"][:, 0] * 2
    )
    with pytest.raises(NotRectangularError, match="doubled"):
        ds.sel({"processing": "doubled"}, source="mir")
    known = ds.sel({"processing": ["raw", "snv", "d1"]}, source="mir")
    np.testing.assert_array_equal(known.values, SPECTRA["mir"])


def test_a_laser_line_is_kept_with_a_raman_shift():
    ds = SpectroDataset()
    shift = np.arange(200.0, 1800.0, 400.0)
    ds.add_features({"raman": np.zeros((2, 4))}, wavelength=shift, units="cm-1", attrs={"laser_nm": 785})
    raman = ds["raman"]
    assert raman["wavelength"].attrs == {"units": "cm-1", "laser_nm": 785}
    assert raman.attrs == {"laser_nm": 785}
    assert ds.tree["raman"]["spectra"].attrs == {"laser_nm": 785}


def test_empty_dataset():
    with pytest.raises(UnknownNameError):
        SpectroDataset()["nir"]
    with pytest.raises(ValueError):
        SpectroDataset().sel()
