import datetime
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import polars as pl
import pytest
from limited import centred
from sklearn.decomposition import IncrementalPCA

from spectroxr import SpectroDataset, StoreError, UnknownNameError, blockwise, bulk
from spectroxr.moments import Moments, joined


def built(rows, width=700, sources=("nir",)):
    rng = np.random.default_rng(3)
    shapes = rng.random((4, width), dtype="f4")
    spectra = rng.random((rows, 4), dtype="f4") @ shapes
    spectra += rng.random((rows, width), dtype="f4") * 1e-3
    ds = SpectroDataset()
    ds.add_features(dict.fromkeys(sources, spectra), partition=["train", "test"] * (rows // 2), copy=False)
    ds.add_targets(pl.DataFrame({"protein": spectra[:, 5].astype("f8") * 3, "fat": spectra[:, 6]}))
    ds.add_meta(pl.DataFrame({"site": ["south", "north", None, "north"] * (rows // 4)}))
    return ds


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    ds = built(2000, 60)
    path = tmp_path_factory.mktemp("bulk") / "small.spectro"
    ds.save(path, chunks={"row": 300})
    return ds, path


def kinds(path):
    return {
        "memory": SpectroDataset.load(path, lazy=False),
        "lazy": SpectroDataset.load(path),
        "dask": SpectroDataset.load(path, chunks={}),
        "dask, odd chunks": SpectroDataset.load(path, chunks={"row": 77, "wavelength": 13}),
    }


def test_statistics_are_those_of_numpy(small):
    ds, path = small
    (x,) = ds.x()
    site = ds.meta()["site"].to_numpy()
    for name, one in kinds(path).items():
        found = bulk.statistics(one, by="site", quantiles=[0, 0.25, 1])
        assert found["site"].values.tolist()[:2] == ["north", "south"] and pd.isna(found["site"].values[2]), name
        for k, label in enumerate(["north", "south", None]):
            part = x[[s == label for s in site]].astype("f8")
            assert found["count"].values[k] == len(part)
            np.testing.assert_allclose(found["mean"].values[k, 0], part.mean(0), rtol=1e-12)
            np.testing.assert_allclose(found["var"].values[k, 0], part.var(0), rtol=1e-10)
            np.testing.assert_array_equal(
                found["quantiles"].values[:, k, 0], np.quantile(part.astype("f4"), [0, 0.25, 1], axis=0)
            )
        whole = bulk.statistics(one, {"partition": "train", "wavelength": slice(3, 8)})
        assert whole["mean"].dims == ("processing", "wavelength") and whole["wavelength"].values.tolist() == [
            *range(3, 9)
        ]
        np.testing.assert_allclose(whole["mean"].values[0], x[::2, 3:9].mean(0, dtype="f8"), rtol=1e-12)


def test_statistics_keep_digits_beside_a_large_mean():
    ds = SpectroDataset()
    x = np.random.default_rng(0).random((5000, 4)) + 1e8
    ds.add_features([x])
    np.testing.assert_allclose(bulk.statistics(ds)["var"].values[0], x.var(0), rtol=1e-6)


def test_cross_products_are_those_of_numpy(small):
    ds, path = small
    (x,) = ds.x({"partition": "train"})
    y = ds.y({"partition": "train"}, target=["protein", "fat"]).astype("f8")
    x = x.astype("f8")
    for one in kinds(path).values():
        found = bulk.cross_products(one, ["protein", "fat"], {"partition": "train"})
        assert found.n == 1000
        xc, yc = x - x.mean(0), y - y.mean(0)
        np.testing.assert_allclose(found.x_mean, x.mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.y_mean, y.mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.xtx, xc.T @ xc, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.xty, xc.T @ yc, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.yty, yc.T @ yc, rtol=1e-9)


def test_batches_are_in_order_and_fit_incrementally(small):
    ds, path = small
    for one in kinds(path).values():
        parts = list(bulk.batches(one, {"partition": "train"}, rows=300, target="protein"))
        assert [len(y) for _, y in parts] == [300, 300, 300, 100]
        np.testing.assert_array_equal(np.concatenate([x for (x,), _ in parts]), ds.x({"partition": "train"})[0])
        np.testing.assert_array_equal(
            np.concatenate([y for _, y in parts]), ds.y({"partition": "train"}, target="protein")
        )
    with pytest.raises(ValueError, match="at least 1"):
        next(bulk.batches(ds, rows=0))


def cut_short(ds):
    bulk.transform(ds, lambda block: block[:, :3], "cut")
    ds.x({"processing": "cut"}, copy=True)


def test_transform_writes_a_variant_of_some_samples(small, tmp_path):
    ds, path = small
    (x,) = ds.x({"partition": "train"})
    for name, one in kinds(path).items():
        bulk.transform(one, centred, "centred", filter={"partition": "train"})
        for step in ("before", "after"):
            arrays = one.x({"processing": "centred"}, copy=True)
            np.testing.assert_allclose(arrays[0], centred(x), rtol=1e-5, atol=1e-6, err_msg=f"{name} {step} saving")
            one.save(tmp_path / f"{name}.spectro")
        SpectroDataset.verify(tmp_path / f"{name}.spectro")
        again = SpectroDataset.load(tmp_path / f"{name}.spectro")
        np.testing.assert_array_equal(again.x({"processing": "centred"})[0], arrays[0])
        with pytest.raises(ValueError, match="add_source"):
            cut_short(one)


def test_several_sources_want_a_name():
    ds = built(4, 7, ("nir", "mir"))
    with pytest.raises(ValueError, match="name one with source="):
        bulk.statistics(ds)
    assert bulk.statistics(ds, source="mir")["mean"].shape == (1, 7)
    ds.update_y([1.0, np.nan, 2, 3], range(4), "regression", target="fat")
    with pytest.raises(ValueError, match="missing"):
        bulk.cross_products(ds, "fat", source="nir")


def odd_spectra(dtype):
    """30 spectra, each of whose wavelengths has something else that is odd."""
    x = np.random.default_rng(1).normal(size=(30, 13)).astype(dtype)
    x[0, 1] = x[14, 2] = x[29, 3] = np.inf
    x[0, 4], x[29, 4] = np.inf, -np.inf
    x[14, 5] = -np.inf
    x[15, 6], x[3, 6] = np.nan, np.inf
    x[:, 7], x[:, 8] = np.nan, np.inf
    x[:, 9] *= dtype(1e30)
    x[:, 10] += dtype(1e6)
    x[::2, 11] = -np.inf
    x[:, 12] = 0.25
    return x


@pytest.fixture(scope="module", params=[np.float32, np.float64])
def odd(request, tmp_path_factory):
    """What is odd, in memory and in a store; groups of one sample, of nulls, and of some blocks only."""
    x = odd_spectra(request.param)
    ds = SpectroDataset()
    ds.add_features([x])
    labels = ["alone", *["first"] * 9, *["second", None] * 8, *["last"] * 3, None]
    ds.add_meta(pl.DataFrame({"site": labels}))
    ds.add_targets(pl.DataFrame({"protein": np.arange(30.0)}))
    path = tmp_path_factory.mktemp("odd") / "odd.spectro"
    ds.save(path, chunks={"row": 7})
    return x, labels, path


def odd_kinds(path, rows, monkeypatch):
    """Datasets that are read in blocks of so many rows."""
    whole = SpectroDataset.load(path, lazy=False)
    monkeypatch.setattr(blockwise, "_BLOCK_BYTES", rows * whole.x()[0][:1].nbytes)
    monkeypatch.setattr(bulk, "_BAND_BYTES", rows * 100)
    computed = SpectroDataset.load(path, chunks={"row": rows})
    computed.update_x({computed.features.sources[0].name: computed.x()[0] * 1}, range(30), "computed")
    return {
        "memory": (whole, "raw"),
        "lazy": (SpectroDataset.load(path), "raw"),
        "dask": (SpectroDataset.load(path, chunks={"row": rows, "wavelength": 4}), "raw"),
        "computed": (computed, "computed"),
    }


BLOCKS = [1, 7, 15, 30]


@pytest.mark.parametrize("rows", BLOCKS)
def test_statistics_of_infinities_are_those_of_numpy(odd, rows, monkeypatch):
    x, labels, path = odd
    groups = {label: x[[one == label for one in labels]] for label in ("alone", "first", "last", "second", None)}
    for name, (one, processing) in odd_kinds(path, rows, monkeypatch).items():
        chosen = {"processing": processing}
        by_site = bulk.statistics(one, chosen, by="site", quantiles=[0, 0.3, 1]).isel(processing=0)
        assert by_site["site"].values[:4].tolist() == ["alone", "first", "last", "second"]
        found = [bulk.statistics(one, chosen, quantiles=[0, 0.3, 1]).isel(processing=0)]
        found += [by_site.isel(site=k) for k in range(len(groups))]
        for part, some in zip([x, *groups.values()], found, strict=True):
            with np.errstate(all="ignore"):
                mean, var = part.astype("f8").mean(0), part.astype("f8").var(0)
                levels = np.quantile(part, [0, 0.3, 1], axis=0)
            assert some["count"] == len(part)
            np.testing.assert_allclose(some["mean"], mean, rtol=1e-11, atol=1e-15, err_msg=name)
            np.testing.assert_allclose(some["var"], var, rtol=1e-8, atol=1e-25, err_msg=name)
            np.testing.assert_array_equal(some["quantiles"], levels, err_msg=name)
        right = [np.inf, np.inf, np.inf, np.nan, -np.inf, np.nan, np.nan, np.inf]
        np.testing.assert_array_equal(found[0]["mean"][1:9], right)
        assert np.isnan(found[0]["var"][1:9]).all() and np.isfinite(found[0]["var"][[0, 9, 10, 12]]).all()


@pytest.mark.parametrize("rows", BLOCKS)
def test_cross_products_of_infinities_are_those_of_numpy(odd, rows, monkeypatch):
    x, _, path = odd
    good = [0, 9, 10, 12]
    xc = x[:, good].astype("f8") - x[:, good].mean(0, dtype="f8")
    bad = np.setdiff1d(np.arange(13), good)
    for one, processing in odd_kinds(path, rows, monkeypatch).values():
        found = bulk.cross_products(one, "protein", {"processing": processing})
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(found.x_mean, x.astype("f8").mean(0), rtol=1e-11, atol=1e-15)
        right = xc.T @ xc
        size = np.sqrt(np.outer(np.diag(right), np.diag(right)))
        assert (np.abs(found.xtx[np.ix_(good, good)] - right) <= 1e-8 * size).all()
        assert np.isnan(found.xtx[bad]).all() and np.isnan(found.xtx[:, bad]).all()
        assert np.isnan(found.xty[bad]).all() and np.isfinite(found.xty[good]).all()
        np.testing.assert_allclose(found.yty, [[np.arange(30).var() * 30]])


def fitted(ds, filter, rows):
    pca = IncrementalPCA(1)
    for (part,), _ in bulk.batches(ds, filter, rows=rows):
        pca.partial_fit(part)
    return pca


@pytest.mark.parametrize("rows", [7, 30])
def test_incremental_pca_says_that_it_takes_no_infinities(odd, rows, monkeypatch):
    for one, processing in odd_kinds(odd[2], rows, monkeypatch).values():
        for place in (1, 2, 3, 5, 6, 7):  # an infinity in the first, in the middle and in the last block, a NaN
            with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
                fitted(one, {"processing": processing, "wavelength": [0, place]}, rows)
        assert fitted(one, {"processing": processing, "wavelength": [0, 12]}, rows).n_samples_seen_ == 30


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_values_whose_sums_or_squares_overflow(rows, tmp_path, monkeypatch):
    ds = SpectroDataset()
    x = np.tile([[1.7e308, 1.7e308, 1e200], [1.7e308, -1.7e308, 3e200]], (4, 1))
    ds.add_features([x])
    ds.add_targets(pl.DataFrame({"protein": np.arange(8.0), "site": np.arange(8) * 1e200}))
    ds.save(tmp_path / "a.spectro")
    monkeypatch.setattr(blockwise, "_BLOCK_BYTES", rows * 24)
    for one in (ds, SpectroDataset.load(tmp_path / "a.spectro", chunks={"row": rows})):
        found = bulk.statistics(one)
        np.testing.assert_allclose(found["mean"].values[0], [1.7e308, 0, 2e200], rtol=1e-14, atol=1e293)
        np.testing.assert_array_equal(found["var"].values[0], [0, np.inf, np.inf])
        with pytest.raises(ValueError, match=r"feature 1 of the spectra overflow float64"):
            bulk.cross_products(one, "protein")
        with pytest.raises(ValueError, match=r"target 'site' overflow float64"):
            bulk.cross_products(one, "site", {"wavelength": 0})
        assert bulk.cross_products(one, "protein", {"wavelength": 0}).xtx == 0


def test_a_block_without_a_group_does_not_change_that_group():
    work = Moments(2)
    for value in (np.inf, np.nan, 1.7e308):
        one, other = work(np.array([[value]]), np.array([0])), work(np.array([[2.0]]), np.array([1]))
        for both in (joined(one, other), joined(other, one)):
            np.testing.assert_array_equal(both[0], [1, 1])
            np.testing.assert_array_equal(both[1], [[value], [2.0]])
            np.testing.assert_array_equal(both[2], [[0.0 if np.isfinite(value) else np.nan], [0.0]])
    empty = work(np.empty((0, 1)), np.empty(0, int))
    assert [part.tolist() for part in joined(empty, one)] == [part.tolist() for part in one]


NAMES = sorted({*bulk._TAKEN} - {"processing", "wavelength"})


@pytest.mark.parametrize("quantiles", [[], [0.5]])
@pytest.mark.parametrize("add", ["add_meta", "add_targets"])
@pytest.mark.parametrize("name", NAMES)
def test_groups_called_like_a_result(name, add, quantiles):
    ds = built(8, 7)
    getattr(ds, add)(pl.DataFrame({name: np.arange(8) % 2}))
    with pytest.raises(ValueError, match=rf"column '{name}' is called like .* add_meta under another name"):
        bulk.statistics(ds, by=name, quantiles=quantiles)
    ds.add_meta(pl.DataFrame({"renamed": np.arange(8) % 2}))
    assert bulk.statistics(ds, by="renamed")["count"].values.tolist() == [4, 4]


def test_every_name_of_the_result_is_known_as_such():
    ds = built(8, 7)
    found = bulk.statistics(ds, by="site", quantiles=[0.5])
    assert {*found.variables, *found.dims} - {"site"} == {*bulk._TAKEN}
    with pytest.raises(UnknownNameError, match="unknown column 'wavelength'"):
        bulk.statistics(ds, by="wavelength")
    with pytest.raises(ValueError, match="by groups samples, which have several processings"):
        bulk.statistics(ds, by="processing")
    for name in ("row", "sample", "origin", "partition", "group", "branch"):
        some = bulk.statistics(ds, by=name, quantiles=[0.5])
        assert some["mean"].dims == (name, "processing", "wavelength") and some["count"].sum() == 8
    for names in (["site"], ["site", "partition"], ("site", "mean"), 1):
        with pytest.raises(TypeError, match="by is the name of one column"):
            bulk.statistics(ds, by=names)


DAY = datetime.datetime(2026, 1, 2)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (pl.Series([1, None, 1, 2]), np.array([1.0, 2.0, np.nan])),
        (pl.Series([0.0, -0.0, None, 1.0]), np.array([0.0, 1.0, np.nan])),
        (pl.Series([float("nan"), None, 1.0, 1.0]), [1.0, np.nan, None]),
        (pl.Series([2**53, 2**53 + 1, None, 2**53]), [2**53, 2**53 + 1, None]),
        (pl.Series([2**53, 2**53 + 1] * 2), np.array([2**53, 2**53 + 1])),
        (pl.Series([True, None, False, True]), [False, True, None]),
        (pl.Series([DAY, None, DAY, DAY]), np.array([DAY, "NaT"], "M8[us]")),
        (pl.Series([3, 1, 2, 1]).cast(pl.Datetime("ns")), np.array([1, 2, 3]).astype("M8[ns]")),
        (pl.Series([None] * 4, dtype=pl.Float64), np.array([np.nan])),
    ],
)
def test_labels_of_groups_keep_their_dtype_and_tell_all_apart(values, labels):
    ds = built(4, 7)
    ds.add_meta(pl.DataFrame({"lot": values}))
    found = bulk.statistics(ds, by="lot")
    assert found["lot"].dtype == (labels.dtype if isinstance(labels, np.ndarray) else object)
    assert [str(label) for label in found["lot"].values] == [str(label) for label in labels]
    assert found["count"].sum() == 4


def test_statistics_refuse_what_makes_no_groups_or_quantiles():
    ds = built(4, 7)
    ds.add_meta(pl.DataFrame({"lots": [[1], [2], [1], None]}))
    with pytest.raises(TypeError, match=r"column 'lots' holds List\(Int64\)"):
        bulk.statistics(ds, by="lots")
    for wrong in (2.0, -0.1, np.nan):
        with pytest.raises(ValueError, match=f"from 0 to 1, not {wrong}"):
            bulk.statistics(ds, quantiles=[0.5, wrong])
    for odd in (0.5, ["a"], [[0.5]]):
        with pytest.raises(TypeError, match="quantiles is a sequence of numbers"):
            bulk.statistics(ds, quantiles=odd)


def halve(block):
    block /= 2
    return block


def halved(ds):
    bulk.transform(ds, halve, "half")
    ds.x({"processing": "half"}, copy=True)


def test_transform_hands_out_nothing_that_can_be_written(small):
    for name, one in kinds(small[1]).items():
        with pytest.raises(ValueError, match="read-only"):
            halved(one)
        np.testing.assert_array_equal(one.x({"processing": "raw"}, copy=True)[0], small[0].x()[0], err_msg=name)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A store of 952 MB, and what numpy and scikit-learn say of its spectra in memory."""
    rows = 85_000
    ds = built(rows, 2800)
    path = tmp_path_factory.mktemp("bulk") / "large.spectro"
    ds.save(path, compression="lz4")
    (x,) = ds.x()
    site, train, some = ds.meta()["site"].to_list(), x[::2], x[:, ::50]
    parts = [some[[s == label for s in site]] for label in ("north", "south", None)]
    pca = IncrementalPCA(3)
    for start in range(0, len(train), 5000):
        pca.partial_fit(train[start : start + 5000, :100])
    y = ds.y({"partition": "train"}, target="protein")
    right = {
        "count": [len(part) for part in parts],
        "mean": [part.mean(0, dtype="f8") for part in parts],
        "var": [part.astype("f8").var(0) for part in parts],
        "quantile": np.stack([np.quantile(part[:, :2], [0.1, 0.5], axis=0) for part in parts], axis=1),
        "pca": pca.explained_variance_,
        "xty": (some[::2, :14].astype("f8") - some[::2, :14].mean(0, dtype="f8")).T @ (y - y.mean())[:, None],
        "variant": centred(x[100:201])[::10, ::50],
        "fold": [4, 1],
    }
    return path, x.nbytes, right


def same(found, right):
    for name, values in right.items():
        np.testing.assert_allclose(found[name], values, rtol=2e-5, atol=1e-6, err_msg=name)


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory by RLIMIT_DATA and reads /proc")
def test_a_store_four_times_the_memory(large):
    path, size, right = large
    script = Path(__file__).with_name("limited.py")
    command = [sys.executable, script, path, str(size // 4)]
    # what is freed goes back to the system at once, and is not kept by the C library for later
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    same(json.loads(done.stdout), right)
    SpectroDataset.verify(path)
    assert SpectroDataset.versions(path)["message"].to_list()[-1] == "centred"


def test_the_same_on_a_local_cluster(small, tmp_path):
    import distributed

    ds, path = small
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster),
    ):
        one = SpectroDataset.load(path, chunks={})
        found = bulk.statistics(one, by="site")
        bulk.transform(one, centred, "centred")
        one.save(tmp_path / "a.spectro")
        (mean,) = one.x()[0].mean(axis=0)[None].compute()
    np.testing.assert_allclose(found["mean"].values, bulk.statistics(ds, by="site")["mean"].values, rtol=1e-12)
    SpectroDataset.verify(tmp_path / "a.spectro")
    again = SpectroDataset.load(tmp_path / "a.spectro")
    np.testing.assert_allclose(again.x({"processing": "centred"})[0], centred(ds.x()[0]), rtol=1e-5, atol=1e-6)
    assert len(mean) == 120


def deadly(block, marker):
    """Kill the worker once, when it comes to the block that is all ones."""
    if (block == 1).all() and not Path(marker).exists():
        Path(marker).touch()
        os._exit(1)
    return block


def test_a_worker_that_dies_while_saving_is_replaced(tmp_path):
    da, distributed = pytest.importorskip("dask.array"), pytest.importorskip("distributed")
    ds = SpectroDataset()
    values = np.repeat(np.arange(4, dtype="f4"), 25).reshape(20, 5)
    ds.add_features({"nir": values})
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster),
    ):
        lazy = da.from_array(values, chunks=(5, 5)).map_blocks(deadly, tmp_path / "died", dtype="f4", meta=values)
        ds.update_x({"nir": lazy}, range(20), "lazy")
        ds.save(tmp_path / "a", chunks={"row": 5})
        assert (tmp_path / "died").exists()
        ds.update_x({"nir": da.from_array(values, chunks=(5, 5)) + 0}, range(20), "other")
        with pytest.raises(StoreError, match="memory:// is in the process"):
            ds.save("memory://of-one-process/a")
        with pytest.raises(FileNotFoundError):
            SpectroDataset.load("memory://of-one-process/a")
    SpectroDataset.verify(tmp_path / "a")
    np.testing.assert_array_equal(SpectroDataset.load(tmp_path / "a").x({"processing": "lazy"})[0], values)


def narrower(block):
    return np.diff(block, axis=1)


def one_wide(block):
    return block[:, :1]


def fewer_rows(block):
    return block[1:] if len(block) > 1 else block


@pytest.mark.parametrize("compression", ["zstd", None])
@pytest.mark.parametrize(("change", "found"), [(narrower, (5, 2)), (one_wide, (5, 1)), (fewer_rows, (4, 3))])
@pytest.mark.parametrize("checked", [True, False], ids=["as it is read", "as it is written"])
def test_dask_blocks_of_another_shape_than_dask_knows_are_refused(
    tmp_path, monkeypatch, compression, change, found, checked
):
    x = np.arange(60, dtype="f4").reshape(20, 3)
    ds = SpectroDataset()
    ds.add_features({"nir": x})
    ds.save(tmp_path / "store", compression=compression)
    if not checked:  # what writes chunks does not rely on it
        monkeypatch.setattr("spectroxr.adding.as_declared", lambda array: array)
    blocks = da.from_array(x, chunks=(5, 3)).map_blocks(change, dtype="f4", meta=np.empty((0, 0), "f4"))
    ds.update_x({"nir": blocks}, range(20), "changed")
    with pytest.raises(ValueError, match=re.escape(f"shape {found} instead of (5, 3)") if checked else "instead of"):
        ds.save(tmp_path / "store", compression=compression)
    assert SpectroDataset.versions(tmp_path / "store").height == 1
    if checked:
        with pytest.raises(ValueError, match="instead of"):
            np.asarray(ds.x({"processing": "changed"})[0])
        with pytest.raises(ValueError, match=re.escape(f"{(found[0], 1, found[1])} instead of (5, 1, 3)")):
            SpectroDataset().add_features({"nir": blocks})


@pytest.mark.parametrize(
    ("made", "error", "said"),
    [
        (lambda x: x.astype("f8") * 1e300, ValueError, "cannot hold"),
        (lambda x: np.full(x.shape, 10**39, "f8"), ValueError, r"1e\+39"),
        (lambda x: x * 1j, TypeError, "complex64"),
        (lambda x: x.astype(str), TypeError, "real numbers"),
        (lambda x: np.ma.masked_less(x, 3), TypeError, "masked"),
        (lambda x: None, ValueError, r"made \(\)"),
    ],
)
@pytest.mark.parametrize("chunks", [None, "auto"])
def test_results_that_cannot_be_stored_as_they_are_are_refused(tmp_path, made, error, said, chunks):
    ds = SpectroDataset()
    ds.add_features({"nir": np.arange(60, dtype="f4").reshape(20, 3)})
    ds.save(tmp_path / "store")
    ds = SpectroDataset.load(tmp_path / "store", chunks=chunks)

    def transform_and_save():
        bulk.transform(ds, made, "made")
        ds.save(tmp_path / "store")

    with pytest.raises(error, match=said):
        transform_and_save()
    assert SpectroDataset.versions(tmp_path / "store").height == 1


def test_dask_blocks_of_another_dtype_are_rounded_or_refused():
    x = np.arange(60, dtype="f4").reshape(20, 3)
    ds = SpectroDataset()
    ds.add_features({"nir": x})
    for factor, fits in ((0.1, True), (1e300, False)):
        wide = da.from_array(x, chunks=(5, 3)).map_blocks(lambda b, k=factor: b.astype("f8") * k, dtype="f4")
        ds.update_x({"nir": wide}, range(20), str(factor))
        if fits:
            np.testing.assert_array_equal(ds.x({"processing": "0.1"})[0], (x.astype("f8") * 0.1).astype("f4"))
            continue
        with pytest.raises(ValueError, match="cannot hold"):
            np.asarray(ds.x({"processing": "1e+300"})[0])


def test_infinities_that_a_function_makes_are_kept_and_whole_numbers_are_cast():
    ds = SpectroDataset()
    ds.add_features({"nir": np.arange(1, 7, dtype="f4").reshape(2, 3)})
    bulk.transform(ds, lambda x: np.where(x > 5, np.inf, x.astype("f8")), "inf")
    bulk.transform(ds, lambda x: (10 * x).astype("i8"), "ten")
    assert ds.x({"processing": "inf"})[0].tolist() == [[1, 2, 3], [4, 5, np.inf]]
    assert ds.x({"processing": "ten"})[0].tolist() == [[10, 20, 30], [40, 50, 60]]


def test_batches_say_what_is_wrong_when_they_are_asked_for():
    ds = built(40, 7)
    for rows in (2.5, "3", True):
        with pytest.raises(TypeError, match="rows is a whole number"):
            bulk.batches(ds, rows=rows)
    with pytest.raises(ValueError, match="rows is at least 1, not -1"):
        bulk.batches(ds, rows=-1)
    with pytest.raises(UnknownNameError, match="protein"):
        bulk.batches(ds, target="protien")
    with pytest.raises(UnknownNameError, match="nir"):
        bulk.batches(ds, {"source": "nri"})
    with pytest.raises(ValueError, match="2d"):
        bulk.batches(ds, layout="2D")
    assert len(list(bulk.batches(ds, rows=np.int64(30), target="fat"))) == 2


def test_what_is_no_function_and_what_makes_no_groups_is_said():
    ds = built(40, 7)
    with pytest.raises(TypeError, match="a function of spectra is wanted"):
        bulk.transform(ds, None, "made")
    with pytest.raises(ValueError, match="by groups samples"):
        bulk.statistics(ds, by="processing")
