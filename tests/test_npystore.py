"""The plain folder of format="npy" with others about: savers of both formats, readers, and programs that do not ask."""

import errno
import os
import pickle
import shutil
import signal
import threading
import time

import numpy as np
import polars as pl
import pytest
from children import SECONDS, child, forkserver, received

from spectroxr import ConflictError, SpectroDataset, StoreError, localplace, npystore
from spectroxr.npystore import NEXT


def made(number, rows=6, width=4):
    """Return a dataset of which every part carries a number."""
    ds = SpectroDataset()
    ds.add_features({"nir": np.full((rows, width), number, "f4"), "mir": np.full((rows, 3), number, "f4")})
    ds.add_meta(pl.DataFrame({"number": [number] * rows}))
    return ds


def number_of(ds):
    (number,) = {float(value) for x in ds.x() for value in np.unique(x)} | {*ds.meta()["number"].to_list()}
    return int(number)


def load_number(path, **options):
    return number_of(SpectroDataset.load(path, **options))


def tree(path):
    return {str(p.relative_to(path)): None if p.is_dir() else p.read_bytes() for p in sorted(path.rglob("*"))}


def outcome(call):
    """Return the name of the error of a call, None if it has none."""
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return None


@pytest.fixture(scope="module")
def processes():
    return forkserver()


# Savers of either format


def save_slowly(connection, path, number):
    """Save a plain folder; when it writes, say so and wait for a word."""
    original = npystore.write_side

    def slow(*args):
        connection.send("writing")
        connection.recv()
        return original(*args)

    npystore.write_side = slow
    connection.send(outcome(lambda: made(number).save(path, format="npy")))


@pytest.mark.parametrize("first", [True, False], ids=["first save", "next save"])
def test_a_save_of_the_other_format_meanwhile_is_a_conflict(tmp_path, processes, first):
    path = tmp_path / "a"
    if not first:
        made(1).save(path, format="npy")
    with child(processes, save_slowly, path, 2) as (_, connection):
        assert received(connection) == "writing"
        for options in ({}, {"compression": None}, {"format": "npy"}):
            with pytest.raises(ConflictError, match="another writer"):
                made(3).save(path, **options)
        connection.send("go on")
        assert received(connection) is None
    assert load_number(path, verify=True) == 2 and os.listdir(tmp_path) == ["a"]
    with pytest.raises(StoreError, match="is a store of format 'npy'"):
        made(3).save(path)


def test_a_plain_folder_waits_for_no_zarr_store(tmp_path, monkeypatch):
    path, results, prepare = tmp_path / "a", [], localplace.LocalPlace.prepare

    def late(place):
        results.append(outcome(lambda: made(2).save(path, format="npy")))
        prepare(place)

    monkeypatch.setattr(localplace.LocalPlace, "prepare", late)
    made(1).save(path)
    assert results == ["ConflictError"] and load_number(path, verify=True) == 1


@pytest.mark.parametrize(("mine", "other"), [("zarr", "npy"), ("npy", "zarr")])
def test_a_store_that_comes_just_before_the_lock_stays(tmp_path, monkeypatch, mine, other):
    path, lock, saved = tmp_path / "a", localplace.only_writer, []

    def late(root):
        if not saved:
            saved.append(True)
            made(1).save(path, format=other)
        return lock(root)

    monkeypatch.setattr(localplace, "only_writer", late)
    with pytest.raises(StoreError, match=f"format '{other}'"):
        made(2).save(path, format=mine)
    assert load_number(path, verify=True) == 1


def test_what_others_put_there_meanwhile_stays(tmp_path, processes):
    path = tmp_path / "a"
    made(1).save(path, format="npy")
    before = tree(path)
    with child(processes, save_slowly, path, 2) as (_, connection):
        assert received(connection) == "writing"
        (path / "notes.txt").write_text("mine")
        connection.send("go on")
        assert received(connection) == "ConflictError"
    assert tree(path) == {**before, "notes.txt": b"mine"}


def test_a_folder_that_was_replaced_meanwhile_stays(tmp_path, processes):
    path = tmp_path / "a"
    made(1).save(path, format="npy")
    made(3).save(tmp_path / "b", format="npy")
    with child(processes, save_slowly, path, 2) as (_, connection):
        assert received(connection) == "writing"
        for file in (tmp_path / "b").iterdir():
            shutil.copy(file, path)
        connection.send("go on")
        assert received(connection) == "ConflictError"
    assert load_number(path, verify=True) == 3 and tree(path) == tree(tmp_path / "b")


def save_and_die(_, path, number, name, count):
    """Save a plain folder and be killed at one of the calls of the operating system after the first on a new file."""
    original, calls = getattr(os, name), []

    def deadly(source, *args, **options):
        if NEXT in str(source) or calls:
            calls.append(source)
        if len(calls) > count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(source, *args, **options)

    ds = made(number)
    setattr(os, name, deadly)
    ds.save(path, format="npy")


@pytest.mark.parametrize(
    ("name", "count", "number"), [("replace", 0, 1), ("link", 0, 2), ("link", 3, 2), ("unlink", 2, 2)]
)
def test_savers_that_are_killed_leave_the_last_whole_dataset(tmp_path, processes, name, count, number):
    path = tmp_path / "a"
    made(1).save(path, format="npy")
    found = []
    for saved in (2, 3):
        with child(processes, save_and_die, path, saved, name, count) as (process, _):
            process.join(SECONDS)
            assert process.exitcode == -signal.SIGKILL
        SpectroDataset.verify(path)
        found.append(load_number(path, verify=True))
    assert found[0] == number and found[1] in (number, 3)
    made(4).save(path, format="npy")
    assert load_number(path, verify=True) == 4 and os.listdir(tmp_path) == ["a"] and NEXT not in os.listdir(path)


def test_savers_at_once_get_no_other_error_than_a_conflict(tmp_path):
    path, results = tmp_path / "a", []
    for _ in range(5):
        barrier = threading.Barrier(4)

        def save(number, barrier=barrier):
            ds = made(number)
            barrier.wait()
            results.append(outcome(lambda: ds.save(path, format="npy")))

        threads = [threading.Thread(target=save, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert load_number(path, verify=True) in range(4)
    assert {*results} <= {None, "ConflictError"} and results.count(None) >= 5
    assert os.listdir(tmp_path) == ["a"] and NEXT not in os.listdir(path)


# Readers


@pytest.mark.parametrize("call", [SpectroDataset.load, lambda path: SpectroDataset.load(path, verify=True)])
@pytest.mark.parametrize("name", ["read_table", "_map"])
def test_a_reader_follows_a_folder_that_is_replaced_under_it(tmp_path, monkeypatch, call, name):
    path, original, calls = tmp_path / "a", getattr(npystore, name), []
    made(1).save(path, format="npy")

    def late(*args):
        calls.append(1)
        if len(calls) == 2:
            made(2).save(path, format="npy")
        return original(*args)

    monkeypatch.setattr(npystore, name, late)
    assert number_of(call(path)) == 2


def test_verifying_follows_a_folder_that_is_replaced_under_it(tmp_path, monkeypatch):
    path, original, calls = tmp_path / "a", npystore.read_table, []
    made(1).save(path, format="npy")

    def late(*args):
        if not calls:
            calls.append(1)
            made(2, rows=7).save(path, format="npy")
        return original(*args)

    monkeypatch.setattr(npystore, "read_table", late)
    SpectroDataset.verify(path)


def test_damage_is_named_at_once(tmp_path):
    made(1).save(tmp_path / "a", format="npy")
    (tmp_path / "a" / "index.parquet").unlink()
    with pytest.raises(StoreError, match=r"index\.parquet is missing"):
        SpectroDataset.load(tmp_path / "a")


def save_forever(connection, path):
    one, two = made(1), made(2)
    while True:
        for ds in (one, two):
            ds.save(path, format="npy", overwrite=True)
        connection.send("saved")


@pytest.mark.long
def test_readers_beside_a_saver_see_whole_datasets(tmp_path, processes):
    path, seen = tmp_path / "a", []
    made(1).save(path, format="npy")
    with child(processes, save_forever, path) as (process, connection):
        assert received(connection) == "saved"
        end = time.monotonic() + 2
        while time.monotonic() < end:
            seen.append(load_number(path, verify=len(seen) % 2 == 0))
        assert process.is_alive()
        process.kill()
        process.join(SECONDS)
    assert {*seen} == {1, 2}
    assert load_number(path, verify=True) in (1, 2)


# Lost updates


def test_who_saves_last_what_was_loaded_before_is_told(tmp_path):
    path = tmp_path / "a"
    made(1).save(path, format="npy")
    mine, other = SpectroDataset.load(path), SpectroDataset.load(path)
    copy = pickle.loads(pickle.dumps(other))
    mine.add_meta(pl.DataFrame({"mine": [1] * 6}))
    for _ in range(2):
        assert mine.save(path, format="npy") is None
    before = tree(path)
    for stale in (other, copy):
        with pytest.raises(ConflictError, match=r"saved by others since.*overwrite=True"):
            stale.save(path, format="npy")
        assert tree(path) == before
    other.save(path, format="npy", overwrite=True)
    assert "mine" not in SpectroDataset.load(path).meta().columns
    with pytest.raises(ConflictError):
        mine.save(path, format="npy")
    other.save(path, format="npy")
    mine.save(tmp_path / "elsewhere", format="npy")


def test_who_loaded_a_folder_of_the_seed_is_told(tmp_path):
    path = tmp_path / "a"
    made(1).save(path, format="npy")
    for name in os.listdir(path):
        if not name.endswith(".npy") and name != "index.parquet":
            (path / name).unlink()
    mine, other = SpectroDataset.load(path), SpectroDataset.load(path)
    mine.save(path, format="npy")
    with pytest.raises(ConflictError):
        other.save(path, format="npy")


def test_a_store_of_the_other_format_since_is_a_conflict(tmp_path):
    path = tmp_path / "a"
    for first, second in (("npy", "zarr"), ("zarr", "npy")):
        ds = made(1)
        ds.save(path, format=first)
        shutil.rmtree(path)
        made(2).save(path, format=second)
        before = tree(path)
        with pytest.raises(ConflictError, match="plain folder" if first == "npy" else "saved by others"):
            ds.save(path, format=second)
        assert tree(path) == before
        shutil.rmtree(path)
        ds.save(path, format=second)


def test_an_error_after_all_was_saved_is_no_conflict_later(tmp_path, monkeypatch):
    path, ds = tmp_path / "a", made(1)
    ds.save(path, format="npy")
    ds.update_x({"nir": np.full((6, 4), 2, "f4")}, range(6), "raw")

    def broken(place):
        raise OSError(errno.EIO, "gone")

    with monkeypatch.context() as patch:
        patch.setattr(localplace.LocalPlace, "share", lambda *_: broken(path))
        with pytest.raises(OSError, match="gone") as caught:
            ds.save(path, format="npy")
    assert "The dataset was saved" in caught.value.__notes__[0]
    assert SpectroDataset.load(path, verify=True).x()[0][0, 0] == 2
    ds.save(path, format="npy")
    assert NEXT not in os.listdir(path)


# The folder itself


def test_the_folder_keeps_what_it_is(tmp_path):
    path = tmp_path / "a"
    made(1).save(path, format="npy")
    path.chmod(0o2775)
    before = path.stat()
    made(2).save(path, format="npy")
    assert (path.stat().st_ino, path.stat().st_mode) == (before.st_ino, before.st_mode)
    assert load_number(path) == 2


def test_spectra_that_are_mapped_outlast_a_save(tmp_path):
    path = tmp_path / "a"
    made(1).save(path, format="npy")
    ds = SpectroDataset.load(path)
    made(2).save(path, format="npy")
    assert number_of(ds) == 1
    ds.save(path, format="npy", overwrite=True)
    assert load_number(path) == 1


def test_a_disk_without_links(tmp_path, monkeypatch):
    def no_link(*_, **__):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_link)
    for number in (1, 2):
        made(number).save(tmp_path / "a", format="npy")
        assert load_number(tmp_path / "a", verify=True) == number


@pytest.mark.parametrize("format", ["zarr", "npy"])
def test_leftovers_of_a_killed_save_are_cleared(tmp_path, format):
    path = tmp_path / "a" / NEXT
    path.mkdir(parents=True)
    (path / "features_src9.npy").write_bytes(b"half")
    made(1).save(path.parent, format=format)
    assert load_number(path.parent, verify=True) == 1 and not path.exists()


def test_a_message_is_refused(tmp_path):
    with pytest.raises(ValueError, match="message is kept with a version"):
        made(1).save(tmp_path / "a", format="npy", message="the first")
    assert not os.listdir(tmp_path)


def test_a_folder_under_the_name_of_a_file_is_not_ours(tmp_path):
    made(1).save(tmp_path / "a", format="npy")
    (tmp_path / "a" / "features_src7.npy").mkdir()
    before = tree(tmp_path)
    with pytest.raises(StoreError, match=r"features_src7\.npy is not the dataset's"):
        made(2).save(tmp_path / "a", format="npy")
    assert tree(tmp_path) == before
