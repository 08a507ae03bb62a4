import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from limited import centred
from sklearn.decomposition import IncrementalPCA

from spectroxr import SpectroDataset, bulk


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
