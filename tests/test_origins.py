"""Copies of stored datasets, and which version of which store a dataset comes from."""

import copy
import os
import pickle
import shutil

import numpy as np
import polars as pl
import pytest

from spectroxr import ConflictError, SpectroDataset, StoreError
from spectroxr.place import Entry, open_place


def pickled(ds):
    return pickle.loads(pickle.dumps(ds))


COPIES = pytest.mark.parametrize("copied", [copy.copy, pickled])
KINDS = pytest.mark.parametrize("compression", [None, "zstd"])


def made(value=1.0, processing="raw", rows=6):
    ds = SpectroDataset()
    ds.add_features({"nir": np.full((rows, 5), value, "f4")}, processing=processing)
    return ds


@COPIES
@KINDS
def test_what_a_copy_changes_is_saved(tmp_path, copied, compression):
    path = tmp_path / "a"
    made().save(path, compression=compression)
    ds = copied(SpectroDataset.load(path))
    ds.update_x({"nir": np.full((6, 5), 7, "f4")}, range(6), "raw")
    ds.save(path, compression=compression)
    assert (SpectroDataset.load(path).x()[0] == 7).all()


@COPIES
def test_a_copy_with_rows_that_a_variant_lacks_is_read(tmp_path, copied):
    ds = made()
    ds.update_x({"nir": np.full((6, 5), 2, "f4")}, range(6), "snv")
    ds.save(tmp_path / "a")
    loaded = SpectroDataset.load(tmp_path / "a")
    loaded.add_features({"nir": np.zeros((1, 5), "f4")})
    (got,) = copied(loaded).x({"processing": "snv"})
    assert got.shape == (6, 5)
    assert (got == 2).all()
    (some,) = copied(loaded).x({"processing": "snv", "sample": [5, 1]})
    assert (some == 2).all()


@COPIES
def test_a_copy_in_memory_with_rows_that_a_variant_lacks_is_read(copied):
    ds = made()
    ds.add_targets(pl.DataFrame({"protein": np.arange(6.0)}))
    ds.update_x({"nir": np.full((6, 5), 2, "f4")}, range(6), "snv")
    ds.add_features({"nir": np.zeros((2, 5), "f4")})
    other = copied(ds)
    for one in (ds, other):
        assert (one.x({"processing": "snv"})[0] == 2).all()
        assert (one.x({"processing": "snv", "sample": [5, 1]})[0] == 2).all()
        one.add_features({"nir": np.zeros((2, 5), "f4")})
        np.testing.assert_array_equal(one.x({"processing": "raw"})[0], ds.x({"processing": "raw"})[0])


@KINDS
@pytest.mark.parametrize("cloud", [False, True], ids=["disk", "bucket"])
@pytest.mark.parametrize("options", [{}, {"chunks": {}}])
def test_a_variant_of_fewer_rows_is_read_after_a_vacuum(tmp_path, compression, cloud, options):
    pytest.importorskip("obstore")
    pytest.importorskip("dask")
    path = f"memory://{tmp_path.name}/v" if cloud else tmp_path / "a"
    ds = made()
    ds.update_x({"nir": np.full((6, 5), 2, "f4")}, range(6), "snv")
    ds.save(path, compression=compression)
    ds = SpectroDataset.load(path, **options)
    ds.add_features({"nir": np.zeros((2, 5), "f4")})
    ds.save(path, compression=compression)
    SpectroDataset.vacuum(path)
    SpectroDataset.verify(path)
    assert (np.asarray(ds.x({"processing": "snv"})[0]) == 2).all()
    ds.save(path, compression=compression)
    ds.save(tmp_path / "b")
    assert (np.asarray(SpectroDataset.load(tmp_path / "b").x({"processing": "snv"})[0]) == 2).all()


@COPIES
def test_a_copy_of_dask_spectra_has_dask_spectra(tmp_path, copied):
    pytest.importorskip("dask")
    made().save(tmp_path / "a")
    (lazy,) = copied(SpectroDataset.load(tmp_path / "a", chunks={})).x()
    assert type(lazy).__module__.startswith("dask")
    np.testing.assert_array_equal(lazy.compute(), np.ones((6, 5), "f4"))


@pytest.mark.parametrize(
    "between",
    [copy.copy, pickled, lambda ds: (ds.save(ds.elsewhere), ds)[1]],
    ids=["copy", "pickle", "saved elsewhere"],
)
def test_the_version_of_a_colleague_is_not_covered(tmp_path, between):
    path = tmp_path / "a"
    made().save(path)
    mine = SpectroDataset.load(path)
    mine.elsewhere = tmp_path / "b"
    mine = between(mine)
    other = SpectroDataset.load(path)
    other.add_prediction(np.arange(6.0), {"model": "theirs"})
    other.save(path)
    with pytest.raises(ConflictError, match="comes from version 1"):
        mine.save(path)
    assert len(SpectroDataset.load(path).predictions) == 6


def test_an_endpoint_may_be_spelled_in_several_ways():
    pytest.importorskip("obstore")
    places = [
        open_place("s3://bucket/a", {name: "http://127.0.0.1:1", "region": "us-east-1"})
        for name in ("endpoint", "endpoint_url", "aws_endpoint", "AWS_ENDPOINT_URL")
    ]
    assert all(one == places[0] and hash(one) == hash(places[0]) for one in places)
    assert open_place("s3://bucket/a", {"endpoint": "http://127.0.0.1:2"}) != places[0]


@pytest.mark.parametrize("url", ["memory://lab/run#1", "memory://lab/a?b=1", "s3://bucket/a%20b"])
def test_urls_that_would_lose_letters_are_refused(url):
    with pytest.raises(ValueError, match="which mean something else in a URL"):
        SpectroDataset.load(url)


def test_file_urls(tmp_path):
    folder = tmp_path / "run#1 ?"
    made().save(f"file://{tmp_path}/run#1%20?")
    assert (SpectroDataset.load(folder).x()[0] == 1).all()
    with pytest.raises(ValueError, match="names no file here"):
        made().save("file://data/x")


def test_a_message_that_is_no_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be stored as UTF-8"):
        made().save(tmp_path / "a", message="\udce9.csv")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{}, {"chunks": {}}])
@KINDS
def test_what_was_just_saved_is_read_after_a_vacuum(tmp_path, options, compression):
    if options:
        pytest.importorskip("dask")
    made(3).save(tmp_path / "a", compression=compression)
    ds = SpectroDataset.load(tmp_path / "a", **options)
    ds.add_prediction(np.arange(6.0), {"model": "m"})
    ds.save(tmp_path / "a", compression=compression)
    assert SpectroDataset.vacuum(tmp_path / "a") > 0
    assert (np.asarray(ds.x()[0]) == 3).all()
    ds.save(tmp_path / "a", compression=compression)
    SpectroDataset.verify(tmp_path / "a")


def test_a_dask_array_stands_for_the_only_source():
    da = pytest.importorskip("dask.array")
    ds = made()
    ds.update_x(da.zeros((6, 5), dtype="f4"), range(6), "zero")
    assert (ds.x({"processing": "zero"})[0].compute() == 0).all()


def test_missing_credentials_are_said_plainly(monkeypatch):
    pytest.importorskip("obstore")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    # where a machine in a cloud would be lent credentials; nothing answers there
    options = {"metadata_endpoint": "http://127.0.0.1:9/169.254.169.254", "region": "eu-west-1"}
    more = {"allow_http": True, "retry_config": {"max_retries": 0}}
    with pytest.raises(StoreError, match=r"no credentials were found.*AWS_ACCESS_KEY_ID.*AWS_PROFILE"):
        SpectroDataset.load("s3://bucket/a", storage_options=options | more)


def test_dask_spectra_that_fail_change_nothing():
    da = pytest.importorskip("dask.array")

    def boom(block):
        raise RuntimeError("boom")

    ds = SpectroDataset()
    ds.add_features({"nir": np.ones((6, 5), "f4"), "mir": np.ones((6, 5), "f4")})
    bad = da.ones((6, 5), dtype="f4").map_blocks(boom, meta=np.empty((0, 0), "f4"))
    with pytest.raises(RuntimeError, match="boom"):
        ds.update_x({"nir": np.zeros((6, 5), "f4"), "mir": bad}, range(6), "raw")
    assert all((x == 1).all() for x in ds.x())


@KINDS
@pytest.mark.parametrize("cloud", [False, True], ids=["disk", "bucket"])
def test_a_store_made_anew_at_the_same_path_lends_no_chunks(tmp_path, compression, cloud):
    if cloud:
        pytest.importorskip("obstore")
    path = f"memory://{tmp_path.name}/a" if cloud else tmp_path / "a"
    made(1.0).save(path, compression=compression)
    mine = SpectroDataset.load(path)
    if cloud:
        place = open_place(path)
        for generation in place.generations():
            place.remove([*place.entries(generation)])
        place.remove([Entry("manifest.json", 0, 0.0)])
    else:
        shutil.rmtree(path)
    made(2.0).save(path, compression=compression)
    if compression is None and not cloud:
        mine.save(path, compression=None, overwrite=True)  # the map outlives the file
        assert (SpectroDataset.load(path).x()[0] == 1).all()
    else:
        with pytest.raises(StoreError, match="damaged|missing"):
            mine.save(path, compression=compression, overwrite=True)
    assert (SpectroDataset.load(path, version=1).x()[0] == 2).all()
    SpectroDataset.verify(path)
