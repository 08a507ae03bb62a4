"""What independent readers found by attacking the dataset; each stays mended."""

import copy
import logging
import re
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import xarray as xr
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from spectroxr import NotRectangularError, SpectroDataset, StoreError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def ds():
    ds = SpectroDataset()
    ds.add_features(
        {"nir": np.arange(30, dtype="f4").reshape(6, 5), "mir": 100 + np.arange(24.0).reshape(6, 4)},
        wavelength={"nir": np.arange(1000.0, 1050, 10), "mir": [4000.0, 3000, 2000, 1000]},
        units={"nir": "nm", "mir": "cm-1"},
        partition=["train"] * 4 + ["test"] * 2,
    )
    return ds


@pytest.mark.parametrize("options", [{"compression": None}, {}, {"format": "npy"}])
def test_cells_that_do_not_exist_are_nan_in_a_store_and_never_old_memory(tmp_path, options):
    ds = SpectroDataset()
    ds.add_features({"nir": np.arange(20.0).reshape(4, 5), "mir": np.ones((4, 300))})
    for _ in range(3):
        spare = ds.x({"sample": [0, 2]}, copy=True)
        del spare
    ds.update_x({"nir": np.full((1, 5), -1.0)}, [0], "sg")
    ds.add_features({"nir": np.ones((2, 5)), "mir": None})
    ds.save(tmp_path / "s", **options)
    again = SpectroDataset.load(tmp_path / "s")
    nir, mir = (source.array for source in again.features.sources)
    assert np.isnan(nir[1:, 1]).all()
    assert (nir[0, 1] == -1).all()
    assert np.isnan(mir[4:]).all()
    if not options.get("format"):
        tree = xr.open_datatree(tmp_path / "s" / "000001" / "features.zarr", engine="zarr")
        assert np.isnan(tree["nir"].spectra.values[1:, 1]).all()
    assert np.isnan(ds.features.sources[0].array[1:, 1]).all()


def test_raw_targets_are_what_raw_asks_for(ds):
    ds.add_targets(pl.DataFrame({"a": [10.0, 12, 13, 14, 11, 9]}))
    ds.update_y(ds.y(target="a") / 100, range(6), "regression")
    assert ds.y({"processing": "raw"}).ravel().tolist() == [10.0, 12, 13, 14, 11, 9]
    assert ds.y({"processing": "regression"})[0, 0] == 0.1
    ds.update_x(list(ds.x({"sample": [0, 1]})), [0, 1], "regression")
    assert ds.y({"processing": "regression"}).ravel().tolist() == [0.1, 0.12]
    assert ds.y().ravel()[0] == 0.1


def test_a_version_of_one_target_does_not_hide_another(ds):
    ds.add_targets(pl.DataFrame({"protein": [10.0, 12, 13, 14, 11, 9], "variety": list("xyxyxy")}))
    ds.update_y(np.eye(2)[[0, 1] * 3], range(6), "ohe", target="variety")
    assert ds.y(target="protein").tolist() == [10.0, 12, 13, 14, 11, 9]
    assert ds.y().tolist()[0] == [10.0, 1.0, 0.0]
    ds.update_y(np.zeros(6), range(6), "regression", target="protein")
    ds.set_folds([([0, 1, 2, 3], [4, 5])])
    _, y, _, _ = next(ds.get_data(target=["protein", "variety"]))
    assert y.tolist()[0] == [0.0, 1.0, 0.0]


def test_labels_of_a_dataarray_are_obeyed_by_update_x(ds):
    raw = ds.sel(source="nir").sel(processing="raw")
    with pytest.raises(ValueError, match="another axis"):
        ds.update_x({"nir": raw[:, ::-1]}, range(6), "v")
    with pytest.raises(ValueError, match="another axis"):
        ds.update_x({"nir": raw.assign_coords(wavelength=raw.wavelength.values + 0.5)}, range(6), "v")
    with pytest.raises(ValueError, match="are of samples"):
        ds.update_x({"nir": raw.isel(row=[5, 4, 3, 2, 1, 0])}, range(6), "v")
    assert ds.features.processings == ("raw",)
    ds.update_x({"nir": raw.isel(row=slice(0, 5)).transpose("wavelength", "row")}, range(5), "turned")
    np.testing.assert_array_equal(
        ds.x({"source": "nir", "processing": "turned"})[0], np.arange(25, dtype="f4").reshape(5, 5)
    )


def test_names_that_are_no_text_are_refused(ds):
    for call in (
        lambda: ds.update_x([np.ones((6, 5), "f4"), None], range(6), "\ud800"),
        lambda: ds.add_source("\ud800", np.ones((6, 2))),
    ):
        with pytest.raises(ValueError, match="not valid Unicode"):
            call()
    assert ds.features.index_df.height == 6


def test_a_target_named_like_a_version_of_another_is_saved(ds, tmp_path):
    ds.add_targets(pl.DataFrame({"a": np.arange(6.0), "a@regression": np.arange(6)}))
    ds.update_y(np.arange(6, dtype="f4"), range(6), "regression", target="a")
    ds.save(tmp_path / "s")
    again = SpectroDataset.load(tmp_path / "s")
    assert again.y(target="a").dtype == np.float32
    assert again.y(target="a@regression").tolist() == list(range(6))


def test_a_folder_of_the_seed_with_predictions_can_be_used(tmp_path):
    np.save(tmp_path / "features_src0.npy", np.zeros((2, 3), "f4"))
    index = {"row": [0, 1], "sample": [0, 1], "origin": [0, 1], "partition": ["train"] * 2, "group": [0] * 2}
    pl.DataFrame({**index, "branch": [0] * 2, "processing": ["raw"] * 2}).write_parquet(tmp_path / "index.parquet")
    fields = {"sample": [0], "model": ["m"], "fold": [0], "repeat": [0], "partition": ["val"], "processing": ["raw"]}
    pl.DataFrame({**fields, "seed": [1], "preds": [[0.5]]}).write_parquet(tmp_path / "predictions.parquet")
    ds = SpectroDataset.load(tmp_path)
    assert ds.prediction().tolist() == [[0.5]]
    ds.add_prediction([1.0, 2.0], {"model": "q"})
    assert ds.prediction({"model": "q"}).tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize(
    "column", [pl.lit(1.7).alias("group"), (pl.col("sample") > 2).alias("partition"), pl.lit("7").alias("group")]
)
def test_the_index_is_never_cast(ds, column):
    with pytest.raises(TypeError, match="of an index holds"):
        ds.features.index_df = ds.features.index_df.with_columns(column)
    assert ds.features.index_df["partition"].unique().sort().to_list() == ["test", "train"]


def test_masked_arrays_are_refused(ds):
    masked = np.ma.masked_array(np.ones((6, 5), "f4"), mask=np.eye(6, 5, dtype=bool))
    ds.add_targets(pl.DataFrame({"a": np.arange(6.0)}))
    for call in (
        lambda: ds.update_x({"nir": masked}, range(6), "m"),
        lambda: ds.add_features([masked, np.ones((6, 4))]),
        lambda: ds.update_y(masked[:, 0], range(6), "m"),
        lambda: ds.add_prediction(masked[:, 0], {}),
    ):
        with pytest.raises(TypeError, match="masked"):
            call()


def test_a_remedy_selects_something(ds):
    ds.update_x({"nir": np.ones((2, 5), "f4")}, [1, 3], "sg")
    with pytest.raises(NotRectangularError, match=r"No sample has 'sg' in 'mir'"):
        ds.x({"source": "mir", "processing": "sg"})


def test_ambiguous_columns_raise_everywhere(ds):
    ds.add_targets(pl.DataFrame({"a": np.arange(6.0)}))
    ds.add_meta(pl.DataFrame({"a": np.arange(6)}))
    with pytest.raises(ValueError, match="ambiguous"):
        ds.pack(by="a")
    with pytest.raises(ValueError, match="ambiguous"):
        ds.set_folds(GroupKFold, n_splits=2, groups="a")


CALLS = {
    "add_features": lambda d, p: d.add_features([np.ones((1, 5), "f4"), np.ones((1, 4))]),
    "add_source": lambda d, p: d.add_source("uv", np.ones((6, 2))),
    "add_data": lambda d, p: d.add_data(
        [np.ones((1, 5), "f4"), np.ones((1, 4))], pl.DataFrame({"a": [1.0]}), pl.DataFrame({"site": ["x"]})
    ),
    "x": lambda d, p: d.x(),
    "get_indexed_features": lambda d, p: d.get_indexed_features(),
    "x_exists": lambda d, p: d.x_exists(),
    "update_x": lambda d, p: d.update_x([np.ones((6, 5), "f4"), None], range(6), "v"),
    "augment_samples_x": lambda d, p: d.augment_samples_x([(0, 1)]),
    "augment_features_x": lambda d, p: d.augment_features_x(1),
    "update_indexes": lambda d, p: d.update_indexes([0], {"group": 3}),
    "merge": lambda d, p: d.merge([0, 1]),
    "split": lambda d, p: d.split([(0, 2), (2, 5)], "nir"),
    "pack": lambda d, p: d.pack(),
    "sel": lambda d, p: d.sel(source="nir"),
    "tree": lambda d, p: d.tree,
    "add_targets": lambda d, p: d.add_targets(pl.DataFrame({"b": np.arange(6.0)}), pl.DataFrame({"note": ["n"] * 6})),
    "y": lambda d, p: d.y(),
    "get_indexed_targets": lambda d, p: d.get_indexed_targets(),
    "update_y": lambda d, p: d.update_y(np.ones(6), range(6), "regression"),
    "encode_targets": lambda d, p: d.encode_targets(StandardScaler()),
    "cross_validate": lambda d, p: d.cross_validate(LinearRegression(), cv=2),
    "fit_predict": lambda d, p: d.fit_predict(
        LinearRegression(), train={"sample": slice(0, 3)}, test={"sample": slice(4, 5)}
    ),
    "add_meta": lambda d, p: d.add_meta(pl.DataFrame({"note": ["n"] * 6})),
    "meta": lambda d, p: d.meta(),
    "set_folds": lambda d, p: d.set_folds([([0], [1])]),
    "fold_generator": lambda d, p: list(d.fold_generator()),
    "get_data": lambda d, p: list(d.get_data()),
    "add_prediction": lambda d, p: d.add_prediction(np.ones(6), {}),
    "prediction": lambda d, p: d.prediction(),
    "inverse_transform_prediction": lambda d, p: d.inverse_transform_prediction([np.exp]),
    "save": lambda d, p: d.save(p / "s"),
    "load": lambda d, p: d.load(p / "t"),
    "versions": lambda d, p: d.versions(p / "t"),
    "verify": lambda d, p: d.verify(p / "t"),
    "vacuum": lambda d, p: d.vacuum(p / "t"),
    "assign_partition": lambda d, p: d.assign_partition("random", test=2),
    "flag_outliers": lambda d, p: d.flag_outliers(1, source="mir", method="t2"),
    "check_spectra": lambda d, p: d.check_spectra(),
    "average": lambda d, p: d.average("partition"),
    "log": lambda d, p: d.log("one"),
    "print_summary": lambda d, p: d.print_summary(),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_public_method_logs_one_line(ds, name, tmp_path, caplog, capsys):
    ds.add_targets(pl.DataFrame({"a": np.arange(6.0)}))
    ds.set_folds([([0, 1], [2])])
    ds.add_prediction(np.ones(6), {"model": "first"})
    ds.save(tmp_path / "t")
    assert not caplog.records
    with caplog.at_level(logging.INFO, logger="spectroxr"):
        CALLS[name](ds, tmp_path)
    (record,) = caplog.records
    assert name in record.message or name == "log"


def test_every_public_method_is_in_that_list():
    public = {n for n in vars(SpectroDataset) if not n.startswith("_")}
    assert public == set(CALLS)


def test_what_is_undone_is_not_logged(ds, caplog):
    with caplog.at_level(logging.INFO, logger="spectroxr"), pytest.raises(ValueError):
        ds.add_data([np.ones((1, 5), "f4"), np.ones((1, 4))], pl.DataFrame({"a": [1.0]}), pl.DataFrame({"row": [1]}))
    assert not caplog.records
    assert len(ds) == 6


def test_copies_membership_and_iteration(ds):
    twin = copy.copy(ds)
    ds.update_x({"nir": np.full((6, 5), -1, "f4")}, range(6), "raw")
    assert (twin.x()[0] >= 0).all()
    assert "nir" in ds
    assert "raman" not in ds
    with pytest.raises(TypeError):
        list(ds)


def test_attributes_are_json_from_the_start(ds, tmp_path):
    one = SpectroDataset()
    one.add_features([np.ones((2, 2))], attrs={"laser_nm": np.float32(785)})
    one.save(tmp_path / "s")
    assert SpectroDataset.load(tmp_path / "s").features.sources[0].axis.attrs == {"laser_nm": 785.0}
    with pytest.raises(TypeError, match="'when'"):
        one.add_source("b", np.ones((2, 2)), attrs={"when": object()})
    assert len(one.features.sources) == 1


def test_a_derived_version_never_contradicts_an_own_raw_value(ds):
    ds.add_targets(pl.DataFrame({"a": np.arange(6.0)}))
    ds.update_y(np.arange(6.0) / 10, range(6), "regression")
    ds.augment_samples_x([(3, 1)])
    assert ds.y({"sample": 6}).ravel().tolist() == [0.3]
    ds.update_y([99.0], [6], "raw")
    assert ds.y({"sample": 6}, False).ravel().tolist() == [99.0]
    with pytest.raises(ValueError, match="not in version 'regression'"):
        ds.y({"sample": 6})


def test_errors_are_worded(ds, tmp_path):
    ds.add_targets(pl.DataFrame({"sample": range(6), "t": [[1.0, 2.0]] * 6}))
    with pytest.raises(ValueError, match=r"'zlib' or None\.$"):
        ds.save(tmp_path / "s", compression="None")
    with pytest.raises(TypeError, match="KFold"):
        ds.set_folds("kfold")
    with pytest.raises(TypeError, match="generator"):
        ds.meta({"sample": (k for k in [1])})
    with pytest.raises(TypeError, match="expression"):
        ds.meta({"t": [2.0]})
    assert "Did you mean 'nir'" in str(pytest.raises(KeyError, ds.x, {"source": "NIR"}).value)


def test_a_home_folder_is_expanded(ds, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    ds.save("~/x.spectro")
    assert (tmp_path / "x.spectro" / "manifest.json").exists()
    assert len(SpectroDataset.load("~/x.spectro")) == 6


def test_lean_plan_dump_and_load(ds, tmp_path):
    files = ds.features.dump_numpy(tmp_path / "np")
    assert [file.name for file in files] == ["features_src0.npy", "features_src1.npy"]
    other = SpectroDataset()
    other.features.load_numpy(tmp_path / "np", names=["nir", "mir"])
    np.testing.assert_array_equal(other.x()[1], ds.x()[1])
    assert isinstance(other.features.sources[0].blocks[0].buffer.base, np.memmap)
    with pytest.raises(FileNotFoundError):
        other.features.load_numpy(tmp_path)


def test_metadata_can_be_set_to_null_and_removed(ds):
    ds.add_meta(pl.DataFrame({"site": list("abcdef"), "depth": range(6)}))
    ds.metadata.update_meta(pl.DataFrame({"sample": [1, 2], "site": [None, "z"]}))
    assert ds.meta()["site"].to_list() == ["a", None, "z", "d", "e", "f"]
    ds.metadata.drop_meta("depth")
    assert ds.metadata.columns == ["site"]
    with pytest.raises(KeyError, match="'site'"):
        ds.metadata.drop_meta(["site", "sit"])
    assert ds.metadata.columns == ["site"]


def test_scattered_reads_of_variants_added_later_bring_them_together_once():
    ds = SpectroDataset()
    ds.add_features([np.ones((80, 5))])
    ds.update_x([np.zeros((80, 5))], range(80), "zero")
    ds.x({"sample": [3, 9, 11]})
    assert len(ds.features.sources[0].blocks) == 2
    rng = np.random.default_rng(0)
    (got,) = ds.x({"sample": rng.permutation(80)[:40]}, "3d")
    assert len(ds.features.sources[0].blocks) == 1
    assert got.sum() == 200


def test_damage_in_a_mapped_store_is_found_when_asked(ds, tmp_path):
    ds.save(tmp_path / "s", compression=None)
    folder = tmp_path / "s" / "000001" / "features.zarr" / "nir" / "spectra" / "c"
    (chunk,) = (path for path in folder.rglob("*") if path.is_file())
    raw = bytearray(chunk.read_bytes())
    raw[8] ^= 1
    chunk.write_bytes(raw)
    with pytest.raises(StoreError, match="nir"):
        SpectroDataset.load(tmp_path / "s", verify=True)


def test_lowest_versions_are_the_lower_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["demo"], *extras["cloud"], *extras["dask"], *extras["learn"]]
    bounds = dict(re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", line).groups() for line in wanted)
    pinned = dict(line.split("==") for line in (ROOT / ".ci" / "lowest.txt").read_text().split() if "==" in line)
    numbers = {name: [int(k) for k in (text + ".0.0").split(".")[:3]] for name, text in bounds.items()}
    assert {name: [int(k) for k in text.split(".")] for name, text in pinned.items()} == numbers


def test_sources_that_name_other_samples_are_refused():
    a = xr.DataArray(
        [[1.0, 1], [2, 2], [3, 3]], dims=("row", "wavelength"), coords={"sample": ("row", [0, 1, 2])}, name="a"
    )
    b = a.isel(row=[2, 1, 0]).rename("b")
    with pytest.raises(ValueError, match="contradict each other in the coordinate 'sample'"):
        SpectroDataset().add_features([a, b])
    ds = SpectroDataset()
    ds.add_features(a)
    for call in (lambda: ds.add_source("c", b, indexes=[0, 1, 2]), lambda: ds.add_features({"d": b})):
        with pytest.raises(ValueError, match="are of samples"):
            call()
    ds.add_source("c", b, indexes=[2, 1, 0])
    np.testing.assert_array_equal(ds.x()[0], ds.x()[1])


def test_sources_that_contradict_each_other_in_labels_are_refused():
    def part(name, labels):
        return xr.DataArray(
            np.ones((3, 4)), dims=("row", "wavelength"), coords={"partition": ("row", labels)}, name=name
        )

    arrays = [part("a", ["train", "train", "test"]), part("b", ["test", "train", "train"])]
    ds = SpectroDataset()
    with pytest.raises(ValueError, match="'partition'"):
        ds.add_features(arrays)
    ds.add_features(arrays, partition="train")
    assert ds.features.index_df["partition"].unique().to_list() == ["train"]


def test_another_unit_or_quantity_is_refused_by_update_x(ds):
    other = SpectroDataset()
    other.add_features({"nir": np.ones((6, 5), "f4")}, wavelength=np.arange(1000.0, 1050, 10), units="cm-1")
    with pytest.raises(ValueError, match="'nm'"):
        ds.update_x({"nir": other["nir"]}, range(6), "v")
    assert ds.features.processings == ("raw",)


def test_inverted_predictions_never_mix_with_those_of_models():
    ds = SpectroDataset()
    ds.add_features({"a": np.zeros((3, 2))})
    ds.add_prediction([0.1, 0.2, 0.3], {"model": "m", "processing": "regression"})
    ds.inverse_transform_prediction([lambda v: v * 100], {"model": "m"}, store="regression")
    assert ds.prediction({"processing": "regression"}).ravel().tolist() == [0.1, 0.2, 0.3]
    again = ds.inverse_transform_prediction([lambda v: v * 100], {"processing": "regression"})
    np.testing.assert_allclose(again.ravel(), [10, 20, 30])
    np.testing.assert_allclose(ds.prediction(processed=False).ravel(), [10, 20, 30])


def test_inverting_one_model_does_not_hide_another():
    ds = SpectroDataset()
    ds.add_features({"a": np.zeros((2, 2))})
    ds.add_prediction([0.0, 1.0], {"model": "A", "processing": "raw"})
    ds.add_prediction([10.0, 11.0], {"model": "B", "processing": "scaled"})
    assert ds.prediction(processed=False).ravel().tolist() == [0.0, 1.0]
    ds.inverse_transform_prediction([lambda v: v * 2], {"model": "B"}, store="regression")
    assert ds.prediction(processed=False).ravel().tolist() == [0.0, 1.0, 20.0, 22.0]


def test_added_targets_are_of_the_added_samples(ds):
    spectra = [np.ones((2, 5), "f4"), np.ones((2, 4))]
    with pytest.raises(ValueError, match="6 to 7"):
        ds.add_data(spectra, pl.DataFrame({"sample": [0, 1], "y": [7.0, 8.0]}))
    assert len(ds) == 6
    ds.add_data(spectra, pl.DataFrame({"sample": [7, 6], "y": [7.0, 8.0]}))
    assert ds.y({"sample": [6, 7]}).ravel().tolist() == [8.0, 7.0]


def test_a_merged_source_comes_back_as_it_was_handed_out():
    ds = SpectroDataset()
    ds.add_features({"a": np.zeros((3, 2)), "b": np.ones((3, 2))}, wavelength={"a": [1, 2], "b": [1, 2]}, units="nm")
    ds.merge([0, 1])
    other = SpectroDataset()
    other.add_features(ds["a+b"])
    other.split([(0, 2), (2, 4)])
    assert [source.name for source in other.features.sources] == ["a", "b"]
    assert other["b"].wavelength.attrs == {"units": "nm"}


def test_any_column_name_can_be_packed_by():
    ds = SpectroDataset()
    ds.add_features(np.ones((6, 2)))
    ds.add_meta(pl.DataFrame({"__sample": list("cabdfe")}))
    ds.pack(by="__sample")
    assert ds.features.index_df["row"].to_list() == [2, 0, 1, 3, 5, 4]


def test_older_views_can_be_written_back_across_sources():
    rng = np.random.default_rng(0)
    ds = SpectroDataset()
    ds.add_features({"a": rng.random((3, 5)), "b": rng.random((3, 5))})
    a, b = ds.x()
    ds.add_features([np.zeros((1, 5))] * 2)
    old_a, old_b = a.copy(), b.copy()
    ds.update_x([b, a], [0, 1, 2], "raw")
    new_a, new_b = ds.x({"sample": [0, 1, 2]})
    np.testing.assert_array_equal(new_a, old_b)
    np.testing.assert_array_equal(new_b, old_a)


def test_writing_one_target_leaves_the_version_of_another(ds, tmp_path):
    ds.add_targets(pl.DataFrame({"p": np.arange(6.0), "q": np.arange(6.0)}))
    ds.update_y(np.full((6, 2), 10.0), range(6), "scaled")
    ds.update_y(np.full(6, 100.0), range(6), "log", target="p")
    ds.update_y(np.full(6, 44.0), range(6), "scaled", target="q")
    assert ds.y()[0].tolist() == [100.0, 44.0]
    ds.save(tmp_path / "s")
    assert SpectroDataset.load(tmp_path / "s").y()[0].tolist() == [100.0, 44.0]


def test_an_inversion_stands_for_the_lines_it_was_made_of_and_no_others():
    ds = SpectroDataset()
    ds.add_features({"a": np.zeros((2, 2))})
    ds.add_prediction([1.0, 2], {"model": "pls", "processing": "raw"})
    ds.add_prediction([0.1, 0.2], {"model": "pls", "processing": "scaled"})
    for _ in range(2):
        ds.inverse_transform_prediction([lambda v: v * 100], {"processing": "scaled"}, store="regression")
        np.testing.assert_allclose(ds.prediction(processed=False).ravel(), [1, 2, 10, 20])
    assert ds.prediction({"processing": "raw"}, processed=False).ravel().tolist() == [1.0, 2.0]
    assert len(ds.predictions) == 6


def test_a_null_group_comes_back_through_dataarrays(ds):
    ds.update_indexes([1], {"group": None})
    other = SpectroDataset()
    other.add_features([ds["nir"], ds["mir"]])
    assert other.features.index_df["group"].to_list() == [0, None, 0, 0, 0, 0]


def test_what_was_undone_does_not_stay_in_cells(ds):
    ds.add_features([np.ones((1, 5), "f4"), np.ones((1, 4))])
    with pytest.raises(ValueError):
        ds.add_data([np.full((2, 5), 7, "f4"), np.full((2, 4), 7.0)], pl.DataFrame({"p": [1.0]}))
    ds.add_features({"nir": np.ones((2, 5), "f4"), "mir": None})
    assert np.isnan(ds.features.sources[1].array[7:]).all()


def test_indexed_targets_never_mix_an_own_value_with_the_origins(ds):
    ds.add_targets(pl.DataFrame({"p": np.arange(6.0)}))
    ds.augment_samples_x([(0, 1)])
    ds.add_targets(pl.DataFrame({"sample": [6], "p": [9.0]}))
    ds.update_y(np.arange(6.0) * 10, range(6), "scaled")
    found = {index["processing"][0]: index["sample"].to_list() for _, index in ds.get_indexed_targets()}
    assert found == {"raw": list(range(7)), "scaled": list(range(6))}
    assert ds.y({"processing": ["raw"], "sample": [1]}).ravel().tolist() == [1.0]
