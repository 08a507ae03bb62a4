import multiprocessing
import os
import pickle
import re
import signal
import sys
import threading
import time

import cloud as fixtures
import numpy as np
import obstore
import pytest
import xarray as xr
from zarr.storage import MemoryStore, ObjectStore

from spectroxr import ConflictError, SpectroDataset, UnknownNameError, storage
from spectroxr.errors import StoreError
from spectroxr.place import open_place

DELAY = 0.03
CHUNKS = {"row": 128}
CUT = "error sending request|connection"
FIELDS = {"nir": 40, "mir": 30, "raman": 20}

#: Servers, processes and waits, which depend little on versions.
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def bucket():
    cloud = fixtures.Cloud()
    yield cloud
    cloud.close()


@pytest.fixture
def cloud(bucket, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))]:
        monkeypatch.delenv(name)
    # without credentials obstore asks the machine's metadata service, which is not 127.0.0.1
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    bucket.proxy.delay = 0.0
    bucket.proxy.reset()
    yield bucket
    bucket.proxy.delay = 0.0
    bucket.proxy.reset()


@pytest.fixture
def name(request):
    return "".join(c if c.isalnum() else "-" for c in request.node.name)


@pytest.fixture
def url(cloud, name):
    return f"s3://{fixtures.BUCKET}/{name}"


@pytest.fixture
def save(cloud, url):
    """Save to the bucket through the proxy."""

    def call(ds, **more):
        return ds.save(url, **{"storage_options": cloud.options(), **more})

    return call


@pytest.fixture
def load(cloud, url):
    def call(**more):
        return SpectroDataset.load(url, **{"storage_options": cloud.options(), **more})

    return call


@pytest.fixture
def verify(cloud, url):
    def call(**more):
        SpectroDataset.verify(url, storage_options=cloud.options(), **more)

    return call


@pytest.fixture
def numbers(cloud, url):
    """The versions that a reader sees."""
    return lambda: SpectroDataset.versions(url, storage_options=cloud.options())["version"].to_list()


def dataset(rows=400, seed=0, **more):
    return fixtures.dataset(rows, seed, **more)


def spectra_of(ds, processings=("raw", "snv")):
    return {n: ds.x({"source": n, "processing": list(processings)}, layout="3d")[0] for n in FIELDS if n in ds}


def assert_same(a, b):
    """Everything of two datasets is equal."""
    assert a.features.index_df.equals(b.features.index_df)
    for (name, x), (other, y) in zip(spectra_of(a).items(), spectra_of(b).items(), strict=True):
        assert name == other
        np.testing.assert_array_equal(x, y)
        assert a.sel(source=name).coords.to_dataset().equals(b.sel(source=name).coords.to_dataset())
    np.testing.assert_array_equal(a.y(), b.y())
    assert a.meta().equals(b.meta())
    assert a.folds.folds == b.folds.folds
    assert a.predictions.table.equals(b.predictions.table)


def predicted(ds, model):
    """Add predictions of a model; the spectra stay."""
    ds.add_prediction(np.arange(float(len(ds))), {"model": model})
    return ds


def models(ds):
    return sorted(set(ds.predictions.table["model"]))


def only_on(what, *fates):
    """A rule by which the first requests of a kind suffer these fates, one after the other."""
    left = list(fates)

    def rule(number, request):
        return left.pop(0) if left and request.what == what else None

    return rule


def chunk(source, row, processing, generation=1):
    return f"{generation:06d}/features.zarr/{source}/spectra/c/{row}/{processing}/0"


# -- what is saved is what is loaded -----------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["zstd", "lz4", None])
@pytest.mark.parametrize("where", ["s3", "memory"])
def test_round_trip(cloud, name, where, compression):
    url = f"s3://{fixtures.BUCKET}/{name}" if where == "s3" else f"memory://{name}/below"
    options = cloud.options() if where == "s3" else None
    ds = dataset()
    assert ds.save(url, compression=compression, message="first", storage_options=options) == 1
    for found in (
        SpectroDataset.load(url, storage_options=options),
        SpectroDataset.load(url, verify=True, lazy=False, storage_options=options),
        pickle.loads(pickle.dumps(SpectroDataset.load(url, storage_options=options))),
    ):
        assert_same(found, ds)
        assert found.sel(source="nir").attrs["quantity"] == "absorbance"
    predicted(found, "svm").save(url, compression=compression, storage_options=options, message="second")
    assert SpectroDataset.versions(url, storage_options=options)["message"].to_list() == ["first", "second"]
    assert models(SpectroDataset.load(url, version=1, storage_options=options)) == ["pls"]
    assert models(SpectroDataset.load(url, storage_options=options)) == ["pls", "svm"]
    with pytest.raises(UnknownNameError, match="no version 7"):
        SpectroDataset.load(url, version=7, storage_options=options)
    SpectroDataset.verify(url, storage_options=options)


def test_names_with_spaces_and_accents(cloud):
    url, options = f"s3://{fixtures.BUCKET}/my data/née 100%", cloud.options()
    ds = dataset(20)
    ds.save(url, storage_options=options)
    assert_same(SpectroDataset.load(url + "/", storage_options=options), ds)
    assert "manifest.json" in cloud.sizes("my data/née 100%")
    assert storage.vacuum(url, storage_options=options) == 0


def test_dask_reads_and_writes_a_bucket(save, load):
    pytest.importorskip("dask.array")
    save(dataset(), chunks=CHUNKS)
    ds = load(chunks={})
    (x,) = ds.x({"source": "nir", "processing": "raw"})
    ds.update_x({"nir": x * 2}, range(400), "twice")
    assert save(ds, chunks=CHUNKS) == 2
    again = load()
    nir = {"source": "nir", "processing": "twice"}
    np.testing.assert_array_equal(again.x(nir)[0], 2 * again.x({**nir, "processing": "raw"})[0])


def test_environment_variables(cloud, url, monkeypatch):
    for name, value in fixtures.KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.proxy.url)
    ds = dataset(20)
    ds.save(url)
    assert_same(SpectroDataset.load(url), ds)
    assert len(SpectroDataset.versions(url)) == 1
    assert SpectroDataset.vacuum(url) == 0
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert_same(SpectroDataset.load(url, storage_options={"endpoint": cloud.proxy.url}), ds)  # options come first


# -- what is read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["zstd", None])
def test_open_reads_no_spectra_and_needs_few_round_trips(cloud, save, load, compression):
    save(dataset(), compression=compression)
    cloud.proxy.delay = DELAY
    cloud.proxy.reset()
    load()
    keys = cloud.proxy.paths()
    assert not [key for key in keys if "/spectra/" in key]
    assert len(keys) <= 12 and cloud.proxy.trips <= 8, keys


def test_open_takes_no_longer_after_many_versions(cloud, save, load):
    ds = dataset(30)
    for number in range(8):
        save(predicted(ds, f"m{number}"))
    cloud.proxy.delay = DELAY
    cloud.proxy.reset()
    load()
    assert len(cloud.proxy.requests()) <= 12 and cloud.proxy.trips <= 8


@pytest.mark.parametrize("compression", ["zstd", None])
@pytest.mark.parametrize("first", [0, 60, 200, 300])
def test_a_hundred_rows_of_a_source_are_two_requests(cloud, save, load, compression, first):
    ds = dataset(processings=("raw",))
    save(ds, compression=compression, chunks=CHUNKS if compression else None)
    found = load()
    cloud.proxy.reset()
    asked = {"sample": list(range(first, first + 100)), "source": "nir"}
    (x,) = found.x(asked)
    assert len(cloud.proxy.requests()) <= 2
    assert all("/nir/spectra/" in key for key in cloud.proxy.paths())
    np.testing.assert_array_equal(x, ds.x(asked)[0])


def test_x_and_sel_read_the_chunks_they_need(cloud, name, save, load):
    ds = dataset()
    save(ds, chunks=CHUNKS)
    found = load()
    cloud.proxy.reset()
    asked = {"sample": [3, 390], "source": "mir", "processing": "snv"}
    (x,) = found.x(asked)
    assert sorted(cloud.proxy.paths()) == [f"{name}/{chunk('mir', i, 1)}" for i in (0, 3)]
    np.testing.assert_array_equal(x, ds.x(asked)[0])
    cloud.proxy.reset()
    array = found.sel({"processing": "raw"}, source="nir")
    assert cloud.proxy.paths() == []
    values = array[130:140, 0, 5:9].values
    assert cloud.proxy.paths() == [f"{name}/{chunk('nir', 1, 0)}"]
    np.testing.assert_array_equal(values, spectra_of(ds)["nir"][130:140, 0, 5:9])


def test_uncompressed_spectra_are_read_by_ranges(cloud, name, save, load):
    ds = SpectroDataset()
    spectra = np.random.default_rng(3).random((3000, 4, 200), "f4")
    ds.add_features({"nir": spectra}, processing=["a", "b", "c", "d"])
    save(ds, compression=None)
    found = load()
    cloud.proxy.reset()
    asked = {"sample": list(range(2000, 2010)), "processing": "b"}
    (x,) = found.x(asked)
    (request,) = cloud.proxy.requests()
    assert request.key == f"{name}/{chunk('nir', 0, 0)}"
    assert request.received <= 10 * 4 * 200 * 4
    np.testing.assert_array_equal(x, ds.x(asked)[0])


@pytest.mark.parametrize("compression", ["zstd", None])
def test_reading_all_processings_transfers_the_bytes_once(cloud, save, load, compression):
    spectra = np.random.default_rng(3).random((2000, 4, 200), "f4")
    ds = SpectroDataset()
    ds.add_features({"nir": spectra}, processing=["a", "b", "c", "d"])
    save(ds, compression=compression)
    found = load()
    cloud.proxy.reset()
    np.testing.assert_array_equal(found.x(None, layout="3d")[0], spectra)
    assert sum(one.received for one in cloud.proxy.requests()) <= 1.05 * spectra.nbytes


# -- what is written ---------------------------------------------------------------------------------------------------


def more_spectra(ds, rng):
    ds.update_x({"nir": rng.random((len(ds), 40), "f4")}, range(len(ds)), "d1")
    return len(ds) * 40 * 4


def more_rows(ds, rng):
    ds.add_features({name: rng.random((10, 2, width), "f4") for name, width in FIELDS.items()})
    return 128 * 2 * sum(FIELDS.values()) * 4  # the last chunk of rows is written anew


def more_predictions(ds, rng):
    predicted(ds, "svm")
    return 0


def other_folds(ds, rng):
    ds.set_folds([(list(range(50)), list(range(50, 100)))])
    return 0


@pytest.mark.parametrize("change", [more_spectra, more_rows, more_predictions, other_folds])
def test_only_what_is_new_is_written(cloud, name, save, load, verify, change):
    first = dataset()
    save(first, chunks=CHUNKS)
    before = cloud.sizes(name)
    whole, spectra = sum(before.values()), sum(size for key, size in before.items() if "/spectra/c/" in key)
    ds = load()
    new = change(ds, np.random.default_rng(9))
    cloud.proxy.reset()
    save(ds, chunks=CHUNKS)
    assert cloud.proxy.sent() <= 1.05 * new + (whole - spectra) + 6000
    assert not [key for key in cloud.proxy.paths("GET") if "/spectra/c/" in key]  # nor is anything read again
    after = cloud.sizes(name)
    assert {key: after[key] for key in before if key != "manifest.json"} == {
        key: size for key, size in before.items() if key != "manifest.json"
    }
    assert_same(load(version=1), first)
    assert_same(load(), ds)
    verify()


def test_saving_again_without_changes_writes_next_to_nothing(cloud, save, load):
    save(dataset(), chunks=CHUNKS)
    ds = load()
    cloud.proxy.reset()
    save(ds, chunks=CHUNKS)
    written = [key.rpartition("/")[2] for key in cloud.proxy.paths("PUT")]
    assert sorted(written) == ["claim", "features.refs.json", "manifest.json", "version.json"]


def test_new_credentials_share_and_conflict_as_before(cloud, name, url, save, load):
    save(dataset(), chunks=CHUNKS)
    one, two = load(), load()
    cloud.proxy.reset()
    renewed = cloud.options(session_token="renewed")
    predicted(one, "one").save(url, chunks=CHUNKS, storage_options=renewed)
    assert not [key for key in cloud.proxy.paths() if "/spectra/c/" in key]
    with pytest.raises(ConflictError, match="comes from version 1"):
        predicted(two, "two").save(url, chunks=CHUNKS, storage_options=cloud.options(session_token="newer"))


# -- plain readers -----------------------------------------------------------------------------------------------------


def plain(cloud, path, generation):
    return ObjectStore(cloud.store(f"{path}/{generation:06d}/features.zarr"), read_only=True)


@pytest.mark.parametrize("compression", ["zstd", None])
def test_xarray_opens_a_version_that_shares_nothing(cloud, name, save, compression):
    ds = dataset()
    save(ds, compression=compression)
    with xr.open_datatree(plain(cloud, name, 1), engine="zarr") as tree:
        for source, values in spectra_of(ds).items():
            np.testing.assert_array_equal(tree[source]["spectra"].values, values)
            assert tree[source]["partition"].values.tolist()[:3] == ["train", "train", "test"]


@pytest.mark.parametrize("compression", ["zstd", None])
def test_xarray_never_takes_shared_chunks_for_empty_ones(cloud, name, url, save, load, compression):
    save(dataset(), compression=compression)
    ds = load()
    more_spectra(ds, np.random.default_rng(9))
    save(ds, compression=compression)
    for path in ("", "nir", "nir/spectra"):
        with pytest.raises((FileNotFoundError, KeyError)):
            xr.open_zarr(plain(cloud, name, 2), group=path)
    storage.vacuum(url, keep=1, storage_options=cloud.options())
    with pytest.raises(FileNotFoundError):  # its chunks are there, as version 2 needs them
        xr.open_datatree(plain(cloud, name, 1), engine="zarr")


@pytest.mark.parametrize("compression", ["zstd", None])
def test_references_lead_plain_readers_to_everything(cloud, name, url, save, load, compression):
    from spectroxr.manifest import decode_json

    save(dataset(), compression=compression)
    ds = load()
    more_spectra(ds, np.random.default_rng(9))
    save(ds, compression=compression)
    about = decode_json(bytes(obstore.get(cloud.store(name), "000002/features.refs.json").bytes()), "references")
    assert about["templates"] == {"store": url}
    kept = {}
    from zarr.core.buffer import default_buffer_prototype

    whole = default_buffer_prototype().buffer
    for key, value in about["refs"].items():
        if isinstance(value, list):
            data = obstore.get(cloud.store(name), value[0].removeprefix("{{store}}/")).bytes()
        else:
            data = value.encode()
        kept[key] = whole.from_bytes(bytes(data))
    with xr.open_datatree(MemoryStore(kept), engine="zarr") as tree:
        assert tree["nir"]["processing"].values.tolist() == ["raw", "snv", "d1"]
        for source, values in spectra_of(ds).items():
            np.testing.assert_array_equal(tree[source]["spectra"].values[:, :2], values)
        np.testing.assert_array_equal(
            tree["nir"]["spectra"].values[:, 2], ds.x({"source": "nir", "processing": "d1"})[0]
        )


def test_a_vacuum_that_is_cut_off_leaves_no_group_with_holes(name, monkeypatch):
    url = f"memory://{name}"
    ds = dataset(1100, sources=1, processings=("raw",))
    ds.save(url, chunks={"row": 1})
    dataset(30, seed=1, sources=1).save(url, overwrite=True)
    real, calls = obstore.delete, []

    def once(store, keys):
        calls.append(keys)
        if len(calls) > 1:
            raise obstore.exceptions.GenericError("cut")
        return real(store, keys)

    monkeypatch.setattr(obstore, "delete", once)
    with pytest.raises(StoreError, match="cut"):
        SpectroDataset.vacuum(url)
    left = [about["path"] for batch in obstore.list(open_place(url)._store, "000001") for about in batch]
    assert left
    assert not [key for key in left if key.endswith("zarr.json")]


# -- vacuum and verify -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["zstd", None])
def test_vacuum_keeps_what_kept_versions_share(cloud, name, url, save, load, verify, numbers, compression):
    ds = dataset()
    save(ds, compression=compression)
    ds.update_x({"nir": np.ones((400, 40), "f4")}, range(400), "snv")
    save(ds, compression=compression)
    save(predicted(ds, "svm"), compression=compression)
    before = cloud.sizes(name)
    freed = storage.vacuum(url, keep=1, storage_options=cloud.options())
    after = cloud.sizes(name)
    assert freed == sum(size for key, size in before.items() if key not in after) > 0
    assert numbers() == [3]
    assert any(key.startswith("000001/features.zarr/mir/spectra") for key in after)
    assert not any(key.startswith("000001/features.zarr/nir/spectra/c/0/1") for key in after)
    verify()
    assert_same(load(), ds)
    assert save(predicted(load(), "next"), compression=compression) == 4
    verify()


def test_vacuum_leaves_young_leftovers(cloud, name, url, save, verify):
    ds = dataset(20)
    save(ds)
    obstore.put(cloud.store(name), "000002/tables/index.parquet", b"of a save under way")
    assert SpectroDataset.vacuum(url, storage_options=cloud.options()) == 0
    assert "000002/tables/index.parquet" in cloud.sizes(name)
    time.sleep(0.01)
    assert storage.vacuum(url, older_than=-60.0, storage_options=cloud.options()) == len(b"of a save under way")
    assert "000002/tables/index.parquet" not in cloud.sizes(name)
    verify()


def test_vacuum_and_a_save_at_once_lose_nothing(cloud, url, save, load, verify, numbers):
    save(dataset())
    save(dataset(seed=1), overwrite=True)
    ds = load()

    def vacuum_first(request):
        if request.what.endswith("manifest.json") and request.method == "PUT":
            cloud.proxy.before = None
            storage.vacuum(url, keep=1, older_than=-60.0, storage_options=cloud.options(endpoint=cloud.direct))

    cloud.proxy.reset(before=vacuum_first)
    with pytest.raises(ConflictError):
        save(predicted(ds, "late"))
    assert numbers() == [2]
    verify()
    assert models(load()) == ["pls"]


def test_verify_names_what_is_damaged_or_missing(cloud, name, url, save, load, verify):
    save(dataset())
    obstore.put(cloud.store(name), chunk("nir", 0, 0), b"x" * 100)
    obstore.delete(cloud.store(name), chunk("raman", 0, 1))
    with pytest.raises(StoreError) as error:
        verify()
    assert f"{url}/{chunk('nir', 0, 0)} has 100 bytes" in str(error.value)
    assert f"{url}/{chunk('raman', 0, 1)} is missing" in str(error.value)
    with pytest.raises(StoreError, match="damaged"):
        load(verify=True)
    ds = load()
    with pytest.raises(StoreError, match="100 bytes"):
        ds.x({"source": "nir"})
    with pytest.raises(StoreError, match="is missing"):
        ds.x({"source": "raman"})


# -- several writers ---------------------------------------------------------------------------------------------------


def test_a_dataset_that_missed_a_version_does_not_cover_it(save, load, verify, numbers):
    save(dataset())
    one, two = load(), load()
    save(predicted(one, "one"))
    with pytest.raises(ConflictError, match="version 2 now"):
        save(predicted(two, "two"))
    assert numbers() == [1, 2]
    assert models(load()) == ["one", "pls"]
    assert save(two, overwrite=True) == 3
    assert models(load(version=2)) == ["one", "pls"] and models(load()) == ["pls", "two"]
    verify()


def together(cloud, path, count):
    """Let writers meet just before they commit."""
    barrier = threading.Barrier(count)

    def before(request):
        if request.what == f"PUT {path}/manifest.json":
            barrier.wait(30)

    return before


@pytest.mark.parametrize("fresh", [True, False])
def test_of_threads_that_save_at_once_one_commits(cloud, name, save, load, verify, numbers, fresh):
    if not fresh:
        save(dataset())
    given = [dataset(seed=k) if fresh else predicted(load(), f"m{k}") for k in range(3)]
    outcomes = [None] * 3

    def work(k):
        try:
            outcomes[k] = save(given[k])
        except ConflictError as error:
            outcomes[k] = error

    cloud.proxy.reset(before=together(cloud, name, 3))
    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    cloud.proxy.reset()
    (winner,) = [k for k in range(3) if isinstance(outcomes[k], int)]
    assert all(isinstance(one, int | ConflictError) for one in outcomes)
    assert numbers() == ([] if fresh else [1]) + [outcomes[winner]]
    assert_same(load(), given[winner])
    verify()
    generations = {key.partition("/")[0] for key in cloud.sizes(name) if not key.endswith(("claim", "manifest.json"))}
    assert generations == {f"{number:06d}" for number in numbers()}  # the others took theirs away


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cloud", "spectroxr.dataset", "spectroxr.zarrstore", "zarr", "obstore"])
    return context


def run(results, number, *args):
    try:
        results.put((number, fixtures.save_again(*args)))
    except StoreError as error:
        results.put((number, f"error: {error}"))


def test_of_processes_that_save_at_once_one_commits(cloud, name, url, processes, save, load, verify, numbers):
    save(dataset())
    cloud.proxy.reset(before=together(cloud, name, 2))
    results = processes.Queue()
    workers = [processes.Process(target=run, args=(results, k, url, cloud.options(), k)) for k in range(2)]
    for worker in workers:
        worker.start()
    said = dict(results.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(60)
        worker.close()
    results.close()
    cloud.proxy.reset()
    assert sorted(text.partition(":")[0] for text in said.values()) == ["conflict", "saved"]
    winner = next(k for k, text in said.items() if text == "saved")
    assert len(numbers()) == 2
    expected = np.random.default_rng(winner).random((400, 40), "f4")
    np.testing.assert_array_equal(load().x({"source": "nir", "processing": f"new {winner}.0"})[0], expected)
    verify()


def test_a_killed_process_leaves_a_whole_version(cloud, url, processes, save, load, verify, numbers):
    save(dataset(100))
    rng = np.random.default_rng(11)
    for number in range(8):
        at, applied = int(rng.integers(16, 70)), bool(rng.integers(2))
        worker = processes.Process(target=fixtures.save_again, args=(url, cloud.options(), number, 50))

        def kill(count, request, at=at, applied=applied, worker=worker):
            if count == at:
                os.kill(worker.pid, signal.SIGKILL)
            return "cut" if count >= at and not applied else None

        cloud.proxy.reset(rule=None if number % 3 == 2 else kill)
        worker.start()
        if number % 3 == 2:  # at a moment that nothing chose
            while len(cloud.proxy.requests()) < 13 and worker.is_alive():
                time.sleep(0.005)
            time.sleep(float(rng.uniform(0, 0.2)))
            os.kill(worker.pid, signal.SIGKILL)
        worker.join(60)
        assert worker.exitcode == -signal.SIGKILL
        worker.close()
        cloud.proxy.settle()
        cloud.proxy.reset()
        seen = numbers()
        verify(version=-1)
    verify()
    ds = load()
    assert save(predicted(ds, "after")) > max(seen)
    storage.vacuum(url, older_than=-60.0, storage_options=cloud.options())
    verify()
    assert "after" in models(load())


def test_a_place_that_was_emptied_is_not_referred_to(cloud, name, save, load, numbers):
    for compression in ("zstd", None):
        save(dataset(), compression=compression)
        ds = load()
        obstore.delete(cloud.store(name), list(cloud.sizes(name)))
        with pytest.raises(StoreError, match="missing"):
            save(ds, compression=compression)
        assert "manifest.json" not in cloud.sizes(name)


@pytest.mark.parametrize("compression", ["zstd", None])
def test_chunks_that_vacuum_removed_are_not_referred_to(cloud, url, save, load, verify, numbers, compression):
    save(dataset(), compression=compression)
    old = load()
    save(dataset(seed=1), compression=compression, overwrite=True)
    storage.vacuum(url, keep=1, storage_options=cloud.options())
    with pytest.raises(StoreError, match="missing"):
        save(old, compression=compression, overwrite=True)
    assert numbers() == [2]
    verify()


# -- what breaks -------------------------------------------------------------------------------------------------------


def test_an_answer_lost_after_the_commit_is_no_conflict(cloud, name, save, load, numbers):
    ds = dataset(20)
    for fates in (["lost"], ["lost", "lost"]):
        cloud.proxy.reset(only_on(f"PUT {name}/manifest.json", *fates))
        number = save(predicted(ds, f"m{len(fates)}"))
        assert numbers()[-1] == number
        assert_same(load(), ds)


def test_an_answer_lost_and_another_writer_before_the_next_try(cloud, name, url, save, load, verify, numbers):
    save(dataset(20))
    ds, direct = load(), cloud.options(endpoint=cloud.direct)
    put, seen = f"PUT {name}/manifest.json", []

    def other_saves(request):
        seen.extend([request.what] * (request.what == put))
        if seen == [put, put]:
            cloud.proxy.before = None
            other = SpectroDataset.load(url, storage_options=direct)
            predicted(other, "other").save(url, storage_options=direct)

    cloud.proxy.reset(only_on(put, "lost"), other_saves)
    assert save(predicted(ds, "mine")) == 2
    assert numbers() == [1, 2, 3]
    assert models(load(version=2)) == ["mine", "pls"]
    assert models(load()) == ["mine", "other", "pls"]
    verify()


def late(cloud, end, fated):
    """Let a put be applied after its sender has given up."""

    def before(request):
        if request.method == "PUT" and request.key.endswith(end) and not fated:
            fated.append(request)
            time.sleep(1.2)

    return before


def hurried(cloud):
    options = cloud.options()
    options["client_options"] = {"timeout": "500ms"}
    options["retry_config"] = {**options["retry_config"], "max_retries": 0}
    return options


def test_a_commit_that_arrives_late_is_whole(cloud, save, load, verify, numbers):
    save(dataset(20))
    ds, fated = predicted(load(), "late"), []
    cloud.proxy.reset(before=late(cloud, "manifest.json", fated))
    with pytest.raises(StoreError, match="committed"):
        save(ds, storage_options=hurried(cloud))
    cloud.proxy.settle()
    assert numbers() == [1, 2]
    verify()
    assert models(load()) == ["late", "pls"]


def test_a_chunk_that_arrives_late_hits_no_other_version(cloud, save, load, verify):
    fated = []
    cloud.proxy.reset(before=late(cloud, chunk("nir", 0, 0)[6:], fated))
    with pytest.raises(StoreError, match="spectra/c/0/0/0"):
        save(dataset(seed=1), storage_options=hurried(cloud))
    ds = dataset(seed=2)
    save(ds)
    cloud.proxy.settle()
    verify()
    assert_same(load(), ds)


@pytest.mark.parametrize("fate", ["cut", "lost"])
def test_a_connection_cut_at_any_request_leaves_a_whole_version(cloud, name, url, save, load, verify, numbers, fate):
    save(dataset(20, sources=1))
    errors = []
    steps = range(1, 100, 1 if fate == "cut" else 2)  # each costs a wait for the answer that is lost
    for at in steps:
        seen, ds = numbers(), load()
        more_spectra(ds, np.random.default_rng(at))
        cloud.proxy.reset(lambda number, request, at=at: fate if number >= at else None)
        try:
            save(ds)
        except StoreError as error:
            errors.append(str(error))
        broken = any(one.fate for one in cloud.proxy.requests())
        cloud.proxy.reset()
        now = numbers()
        if not broken:
            assert len(now) == len(seen) + 1
            break
        committed = fate == "lost" and now != seen
        assert committed or now == seen
        verify(version=now[-1])
        assert_same(load(), ds if committed else load(version=seen[-1]))
        storage.vacuum(url, keep=100, older_than=-60.0, storage_options=cloud.options())
    assert len(errors) == steps.index(at) >= 5
    assert all(f"s3://{fixtures.BUCKET}/{name}" in text and re.search(CUT, text) for text in errors)
    verify()


def test_a_first_save_that_fails_leaves_nothing_to_be_seen(cloud, name, save, load, numbers):
    for at in (1, 3, 20, 40):
        cloud.proxy.reset(lambda number, request, at=at: "cut" if number >= at else None)
        with pytest.raises(StoreError, match=CUT):
            save(dataset(20))
        cloud.proxy.reset()
        with pytest.raises(FileNotFoundError, match="nothing at"):
            load()
    save(dataset(20))
    assert_same(load(), dataset(20))


def test_leftovers_do_not_slow_down_later_saves(cloud, save, load):
    save(dataset(20, sources=1))
    ds = predicted(load(), "new")
    for _ in range(8):
        cloud.proxy.reset(lambda number, request: "cut" if "/tables/" in request.key or request.query else None)
        with pytest.raises(StoreError):
            save(ds)
    cloud.proxy.reset()
    save(ds)
    assert len([key for key in cloud.proxy.paths() if key.endswith("/claim")]) <= 2


@pytest.mark.parametrize("part", ["POST", "PUT"])
def test_a_large_upload_that_is_cut_leaves_no_parts(cloud, save, load, part):
    ds = SpectroDataset()
    ds.add_features({"nir": np.random.default_rng(0).random((5000, 1, 1000), "f4")})

    def rule(number, request):
        return "cut" if request.method == part and "uploadId" in request.query and number > 5 else None

    cloud.proxy.reset(rule)
    with pytest.raises(StoreError, match=CUT):
        save(ds, compression=None)
    cloud.proxy.reset()
    assert b"<Upload>" not in cloud.ask("GET", f"/{fixtures.BUCKET}?uploads")
    with pytest.raises(FileNotFoundError):
        load()
    save(ds, compression=None)
    assert np.array_equal(load().x(None)[0], ds.x(None)[0])


def test_a_read_that_is_cut_says_so_and_works_again(cloud, name, save, load):
    ds = dataset()
    save(ds)
    found = load()
    for fate in ("cut", "half"):
        cloud.proxy.reset(lambda number, request, fate=fate: fate)
        with pytest.raises(StoreError, match=f"cannot read .*{name}"):
            load()
        with pytest.raises(StoreError, match=f"cannot read .*{name}/{chunk('nir', 0, 0)}"):
            found.x({"source": "nir", "processing": "raw"})
    met = set()
    cloud.proxy.reset(lambda number, request: None if request.key in met or met.add(request.key) else "cut")
    assert_same(load(), ds)  # each request is tried again behind the scenes
    cloud.proxy.reset()
    assert_same(found, ds)


@pytest.mark.parametrize("fate", ["expired", "expired400"])
def test_expired_credentials(cloud, save, load, numbers, fate):
    save(dataset(20))
    ds = predicted(load(), "new")
    for start in (1, 4, 7):
        cloud.proxy.reset(lambda number, request, start=start: fate if number >= start else None)
        with pytest.raises(StoreError, match="expired"):
            save(ds)
        cloud.proxy.reset(lambda number, request, start=start: fate if number >= start else None)
        with pytest.raises(StoreError, match="expired"):
            load()
    cloud.proxy.reset()
    assert numbers() == [1]
    assert save(ds) > 1


def test_no_access(cloud, save, load):
    save(dataset(20))
    cloud.proxy.reset(lambda number, request: "denied" if request.method == "PUT" else None)
    with pytest.raises(StoreError, match="cannot write .*access was refused"):
        save(load())


def test_a_busy_service_is_asked_again(cloud, save, load):
    asked = set()

    def first_time(number, request):
        """Refuse the first request for each object, whatever order several at once come in."""
        what = (request.method, request.key)
        fate = None if what in asked else "busy"
        asked.add(what)
        return fate

    cloud.proxy.reset(first_time)
    options = cloud.options()
    options["retry_config"] = {**options["retry_config"], "max_retries": 4}
    save(dataset(20), storage_options=options)
    assert_same(load(storage_options=options), dataset(20))


@pytest.mark.parametrize("compression", ["zstd", None])
def test_missing_bucket(cloud, compression):
    options = cloud.options()
    with pytest.raises(StoreError, match="s3://nowhere/a.*the bucket does not exist"):
        dataset(20).save("s3://nowhere/a", compression=compression, storage_options=options)
    for call in (SpectroDataset.load, SpectroDataset.versions, SpectroDataset.verify, SpectroDataset.vacuum):
        with pytest.raises(StoreError, match="the bucket does not exist"):
            call("s3://nowhere/a", storage_options=options)


def test_nothing_there(cloud, url):
    for call in (SpectroDataset.load, SpectroDataset.versions, SpectroDataset.verify, SpectroDataset.vacuum):
        with pytest.raises(FileNotFoundError, match=f"nothing at {url}"):
            call(url, storage_options=cloud.options())


def test_no_service_there(cloud, url):
    with pytest.raises(StoreError, match="cannot read"):
        SpectroDataset.load(url, storage_options=cloud.options(endpoint="http://127.0.0.1:9"))


# -- what is asked for -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"acess_key": "s3cret"}, "acess_key"),
        ({"secret_access_key": 5}, "int"),
        ({"client_options": {"tim": 3}}, "tim"),
        ({"key": "me", "secret": "s3cret"}, "key"),
    ],
)
def test_an_option_that_makes_no_sense(cloud, url, options, match):
    with pytest.raises(ValueError, match=f"storage_options.*{match}") as error:
        SpectroDataset.load(url, storage_options=cloud.options(**options))
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("option", [{"timeout": "20s"}, {"connect_timeout": "5s"}, {"proxy_url": "http://127.0.0.1:9"}])
def test_an_option_of_the_client_among_the_others(cloud, url, option):
    """obstore itself panics at these, which is no Exception."""
    with pytest.raises((ValueError, StoreError, FileNotFoundError)):
        SpectroDataset.load(url, storage_options=cloud.options(**option))


@pytest.mark.parametrize("url", ["s3://", "s3:///name", "gs://", "ftp://host/name", "nonsense://bucket/name"])
def test_a_url_that_makes_no_sense(cloud, url):
    with pytest.raises(ValueError, match=url):
        open_place(url)


def test_options_are_for_urls(tmp_path, url):
    with pytest.raises(ValueError, match="local path"):
        dataset(20).save(tmp_path / "a", storage_options={"region": "eu-west-1"})
    with pytest.raises(ValueError, match="format='npy' is for local folders"):
        dataset(20).save(url, format="npy")
    ds = dataset(20)
    ds.save(f"file://{tmp_path}/b%20c")
    assert_same(SpectroDataset.load(tmp_path / "b c"), ds)


def test_other_clouds_are_the_same_code(cloud):
    google = open_place("gs://bucket/name", {"skip_signature": "true"})
    azure = open_place("az://container/name", {"account_name": "me", "skip_signature": "true"})
    assert (type(google._store).__name__, type(azure._store).__name__) == ("GCSStore", "AzureStore")
    assert google.name_of("a") == "gs://bucket/name/a"
    assert pickle.loads(pickle.dumps(azure)) == azure != google
    with pytest.raises(ValueError, match="Account must be specified"):
        open_place("az://container/name")


def test_memory_is_shared_within_the_process(name):
    ds = dataset(20)
    ds.save(f"memory://{name}/a")
    other = dataset(20, seed=1)
    other.save(f"memory://{name}/a/b")
    assert_same(SpectroDataset.load(f"memory://{name}/a/"), ds)
    assert_same(SpectroDataset.load(f"memory://{name}/a/b"), other)
    SpectroDataset.vacuum(f"memory://{name}/a")
    SpectroDataset.verify(f"memory://{name}/a/b")


def test_without_obstore(monkeypatch, url):
    monkeypatch.setitem(sys.modules, "obstore", None)
    for call in (dataset(20).save, SpectroDataset.load, SpectroDataset.versions):
        with pytest.raises(ImportError, match=r"pip install 'spectroxr\[cloud\]'"):
            call(url)


def test_secrets_are_not_shown(cloud, save, load, url):
    save(dataset(20))
    place = open_place(url, cloud.options(secret_access_key="s3cret"))
    assert "s3cret" not in repr(place)
    cloud.proxy.reset(lambda number, request: "expired")
    with pytest.raises(StoreError) as error:
        load(storage_options=cloud.options(secret_access_key="s3cret", session_token="s3cret"))
    assert "s3cret" not in str(error.value)


def test_a_dataset_moves_between_disk_and_bucket(cloud, save, load, tmp_path):
    ds = dataset()
    ds.save(tmp_path / "a")
    save(SpectroDataset.load(tmp_path / "a"))
    assert_same(load(), ds)
    load().save(tmp_path / "b", compression=None)
    assert_same(SpectroDataset.load(tmp_path / "b"), ds)
