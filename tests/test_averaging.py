"""Replicates averaged, against numpy group by group, and on olive oils that were measured twice."""

import warnings

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realsets import olive_oils

from spectroxr import SpectroDataset, UnknownNameError, blockwise

HOW = {
    "mean": lambda x: x.mean(axis=0),
    "median": lambda x: np.median(x, axis=0),
    "std": lambda x: x.std(axis=0, ddof=1),
}


@st.composite
def scenes(draw):
    """Two sources of several dtypes, the second with holes, a processing that some have, groups, augmented samples."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, more = draw(st.integers(1, 8)), draw(st.integers(0, 4))
    ds = SpectroDataset()
    ds.add_features({"nir": rng.normal(size=(n, 3)), "mir": rng.normal(size=(n, 2)).astype("f4")}, branch=3)
    if more:
        ds.add_features({"nir": rng.normal(size=(more, 3)), "mir": None}, partition="train", branch=4)
    some = np.flatnonzero(rng.random(n + more) < 0.5)
    if len(some):
        ds.update_x({"nir": rng.normal(size=(len(some), 3))}, some, "snv")
    groups = rng.integers(0, draw(st.integers(1, 5)), n + more)
    ds.add_targets(pl.DataFrame({"y": rng.normal(size=n + more), "kind": [f"kind {g % 2}" for g in groups]}))
    ds.add_meta(pl.DataFrame({"specimen": groups, "rep": rng.integers(0, 3, n + more)}))
    for _ in range(draw(st.integers(0, 2))):
        ds.augment_samples_x([(int(rng.integers(len(ds))), 2)])
    return ds, groups


@settings(max_examples=50, deadline=None)
@given(scenes(), st.sampled_from(list(HOW)), st.sampled_from([40, 1 << 24]))
def test_every_cell_is_that_of_numpy(scene, how, block_bytes):
    ds, groups = scene
    order = list(dict.fromkeys(groups.tolist()))
    least = 2 if how == "std" else 1
    cells = {}
    for group in order:
        members = np.flatnonzero(groups == group)
        for source in ("nir", "mir"):
            for processing in ds.features.processings:
                asked = [{"sample": int(m), "source": source, "processing": processing} for m in members]
                held = [ds.x(what)[0][0] for what in asked if ds.x_exists(what)]
                if len(held) >= least:
                    cells[group, source, processing] = HOW[how](np.array(held, dtype=float))
    before, bytes_before = (ds.features.index_df, ds.meta()), blockwise._BLOCK_BYTES
    blockwise._BLOCK_BYTES = block_bytes
    try:
        if not cells:
            with pytest.raises(ValueError, match="no standard deviation"):
                ds.average("specimen", how)
            return
        new = ds.average("specimen", how)
    finally:
        blockwise._BLOCK_BYTES = bytes_before
    assert ds.features.index_df.equals(before[0]) and ds.meta().equals(before[1])
    order = [group for group in order if any(key[0] == group for key in cells)]
    assert new.meta()["specimen"].to_list() == order
    assert new.meta()["replicates"].to_list() == [(groups == group).sum() for group in order]
    for k, group in enumerate(order):
        for source in {key[1] for key in cells}:
            for processing in {key[2] for key in cells}:
                what = {"sample": k, "source": source, "processing": processing}
                expected = cells.get((group, source, processing))
                assert new.x_exists(what) == (expected is not None)
                if expected is not None:
                    (got,) = new.x(what)
                    assert got.dtype == ds.features.cells.sources[source].dtype
                    np.testing.assert_allclose(got[0], expected, rtol=1e-6, atol=1e-7 if source == "mir" else 1e-12)
        members = np.flatnonzero(groups == group)
        y = ds.targets.column("y").to_numpy()[members]
        value = new.targets.column("y")[k]
        assert value is None if len(y) < least else value == pytest.approx(HOW[how](y))
        assert new.targets.column("kind")[k] == f"kind {group % 2}"
        rep = {ds.metadata.column("rep").to_list()[m] for m in members}
        assert new.metadata.column("rep")[k] == (rep.pop() if len(rep) == 1 else None)
        branches = {ds.features.column("branch").to_list()[m] for m in members}
        assert new.features.column("branch")[k] == (branches.pop() if len(branches) == 1 else 0)
    assert set(new.features.index_df["partition"]) == {"train"}


def test_olive_oils():
    ds = olive_oils()
    twice = ds.x()[0].reshape(60, 2, -1)  # the two spectra of an oil follow each other
    mean, std = ds.average("oil"), ds.average("oil", "std")
    assert (ds.meta()["oil"].to_numpy().reshape(60, 2) == np.arange(1, 61)[:, None]).all()
    np.testing.assert_allclose(mean.x()[0], twice.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(std.x()[0], np.abs(twice[:, 0] - twice[:, 1]) / np.sqrt(2), rtol=1e-6, atol=1e-12)
    assert mean.meta().equals(std.meta())
    assert mean.meta()["replicates"].to_list() == [2] * 60
    assert mean.y().ravel().tolist() == ds.y().ravel()[::2].tolist() == std.y().ravel().tolist()
    assert mean["mir"].attrs["long_name"] == "absorbance"
    assert mean["mir"].wavelength.attrs["units"] == "cm-1"
    np.testing.assert_array_equal(mean["mir"].wavelength.values, ds["mir"].wavelength.values)
    ds.assign_partition("stratified", 0.25, groups="oil")
    parted = ds.average("oil", filter={"wavelength": slice(1000, 1200)})
    assert parted.features.index.samples["partition"].value_counts().sort("count")["count"].to_list() == [15, 45]
    assert parted["mir"].wavelength.values.min() >= 1000 and parted["mir"].sizes["wavelength"] < 570
    ds.assign_partition("random", 0.5)
    with pytest.raises(ValueError, match="of one group, but in several partitions; assign_partition"):
        ds.average("oil")
    assert len(ds.average("oil", filter={"partition": "train"})) < 60


@pytest.mark.parametrize("options", [{}, {"compression": None}])
def test_the_result_is_a_dataset_that_is_saved_and_changed(tmp_path, options):
    ds = SpectroDataset()
    rng = np.random.default_rng(1)
    ds.add_features({"nir": rng.normal(size=(6, 3)), "mir": rng.normal(size=(6, 2))}, group=[0, 0, 1, 2, 3, 3])
    ds.add_features({"nir": rng.normal(size=(2, 3)), "mir": None}, group=4)
    ds.update_x({"nir": rng.normal(size=(4, 3))}, range(4), "snv")
    ds.add_targets(pl.DataFrame({"y": np.arange(8.0)}))
    new = ds.average("group")
    assert new.features.index.samples["group"].to_list() == [0, 1, 2, 3, 4]
    new.save(tmp_path / "s", **options)
    SpectroDataset.verify(tmp_path / "s")
    again = SpectroDataset.load(tmp_path / "s")
    assert again.features.index_df.equals(new.features.index_df)
    assert again.features.index.holes_table().equals(new.features.index.holes_table())
    snv = {"processing": "snv", "source": "nir"}
    np.testing.assert_array_equal(again.x(snv)[0], new.x(snv)[0])
    new.add_features({"nir": np.ones((1, 3)), "mir": np.ones((1, 2))})
    new.update_x({"nir": np.zeros((6, 3))}, range(6), "zero")
    new.augment_samples_x([(0, 2)])
    new.update_x({"nir": np.ones((1, 3))}, [6], "raw")
    kept = new.x({"sample": 0, "processing": "raw", "source": "nir"})[0][0]
    mean = ds.x({"group": 0, "processing": "raw", "source": "nir"})[0].mean(axis=0)
    np.testing.assert_allclose(kept, mean, rtol=1e-12)
    assert new.features.processings == ("raw", "snv", "zero")


def test_a_dataset_that_is_not_in_memory(tmp_path):
    rng = np.random.default_rng(1)
    ds = SpectroDataset()
    ds.add_features({"nir": rng.normal(size=(50, 30))}, group=np.repeat(np.arange(25), 2))
    ds.save(tmp_path / "s", chunks={"row": 8})
    for chunks in (None, {"row": 8}):
        lazy = SpectroDataset.load(tmp_path / "s", chunks=chunks)
        np.testing.assert_allclose(lazy.average("group").x()[0], ds.average("group").x()[0], rtol=1e-15)


def small(**targets):
    ds = SpectroDataset()
    ds.add_features([np.arange(8.0).reshape(4, 2)], partition="train")
    ds.add_meta(pl.DataFrame({"sample_id": ["b", "b", "a", "a"]}))
    if targets:
        ds.add_targets(pl.DataFrame(targets))
    return ds


def test_targets_by_their_kind():
    ds = small(
        whole=[1, 1, 2, 2],
        count=[1, 2, 4, 4],
        real=[1.0, np.nan, None, None],
        single=pl.Series([1.0, 2, 3, 5], dtype=pl.Float32),
        text=["x", None, "y", "y"],
        flag=[True, True, None, None],
        vector=[[1, 2], [1, 2], [3, 4], [3, 4]],
    )
    ds.update_y([0, 0, 1, 1], range(4), "category", target="text")
    ds.update_y([0.1, 0.2, 0.3, 0.3], range(4), "regression", target="single")
    new = ds.average()
    assert new.targets.versions == ("raw", "category")
    assert new.targets.table.filter(processing="raw").drop("processing", "text@category").rows() == [
        (0, 1, 1.5, 1.0, 1.5, "x", True, [1, 2]),
        (1, 2, 4.0, None, 4.0, "y", None, [3, 4]),
    ]
    kinds = new.targets.schema
    assert kinds["whole"] == pl.Int64 and kinds["count"] == pl.Float64 and kinds["single"] == pl.Float32
    assert new.y({"processing": "category"}, target="text").tolist() == [0, 1]
    assert ds.average(how="median").y(target="count").tolist() == [1.5, 4]
    std = ds.average(how="std")
    assert std.targets.versions == ("raw",)
    assert std.y(processed=False, target="count").tolist() == [pytest.approx(0.5**0.5), 0]
    assert std.y(processed=False, target="text").tolist() == ["x", "y"]


def test_nan_in_spectra_counts_as_in_numpy():
    ds = small()
    ds.update_x([np.array([[np.nan, np.inf], [1, 1], [np.inf, 1], [-np.inf, 3]])], range(4), "raw")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for how in HOW:
            (got,) = ds.average(how=how).x()
            assert np.isnan(got[0, 0]) and np.isnan(got[1, 0])
            assert got[1, 1] == HOW[how](np.array([1.0, 3.0]))


@pytest.mark.parametrize(
    ("args", "options", "error", "match"),
    [
        (("sample_idd",), {}, UnknownNameError, "Did you mean 'sample_id'"),
        (("sample_id", "mode"), {}, ValueError, "unknown way to average 'mode'"),
        (("gap",), {}, ValueError, "no value in 'gap', the first is sample 2"),
        (("sample",), {"how": "std"}, ValueError, "no standard deviation"),
        (("site",), {}, ValueError, r"samples \[0, 1, 2, 3\] are of one group, but differ in target 'text'.*'x', 'y'"),
        ((), {"filter": {"sample": 4}}, ValueError, "no original sample"),
        ((), {"filter": {"partition": "test"}}, ValueError, "nothing matches"),
        ((), {"filter": {"processing": "ra"}}, UnknownNameError, "unknown processing 'ra'"),
    ],
)
def test_bad_input(args, options, error, match):
    ds = small(text=["x", "x", "y", "y"])
    ds.add_meta(pl.DataFrame({"gap": [1, 1, None, 2], "site": ["s"] * 4}))
    ds.augment_samples_x([(0, 1)])
    with pytest.raises(error, match=match):
        ds.average(*args, **options)


def test_averages_are_averaged_again_once_their_count_is_renamed():
    new = small().average()
    with pytest.raises(ValueError, match="a column 'replicates' already"):
        new.average("partition")
    new.metadata.drop_meta("replicates")
    assert new.average("partition").x()[0].tolist() == [[3.0, 4.0]]
