"""Whatever happens to a save, the store loads as the old or the new dataset: real files, processes and signals."""

import contextlib
import errno
import itertools
import json
import os
import queue
import random
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import replace
from io import RawIOBase as RawIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from children import SECONDS, child, forkserver, received

from spectroxr import (
    ConflictError,
    SpectroDataset,
    localplace,
    manifest,
    npystore,
    sidetables,
    storage,
    writerlock,
    zarrstore,
)
from spectroxr import generation as writing
from spectroxr.threads import Work

KINDS = pytest.mark.parametrize("compression", ["zstd", None], ids=["zstd", "raw"])
LISTED = ["000001", "manifest.json"]

#: Much of it waits for processes and disks, which depends little on versions.
pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """No test switches the machine off, so none has to wait for the disk; children do, as they are."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def made(number, rows=6, width=4, seed=None, sources=2):
    """Return a dataset whose every part but the processing ``raw`` carries a number."""
    raw = np.zeros((rows, width)) if seed is None else np.random.default_rng(seed).random((rows, width))
    cells = np.stack([raw, np.full((rows, width), number)], axis=1)
    ds = SpectroDataset()
    spectra = {"nir": cells.astype("f4"), "raman": cells[:, :, :3]}
    ds.add_features(dict([*spectra.items()][:sources]), processing=["raw", "number"])
    ds.add_targets(pl.DataFrame({"y": [float(number)] * rows}))
    ds.add_meta(pl.DataFrame({"number": [number] * rows}))
    ds.add_prediction([float(number)] * rows, {"model": "m"})
    ds.set_folds([([0, 1], [2 + number % 4])])
    return ds


def number_of(ds):
    """Return the number of a dataset, which all of its parts carry."""
    assert len(ds) and not any(np.any(x[:, :3]) for x in ds.x({"processing": "raw"}))
    (fold,) = ds.folds.snapshot()
    (number,) = {
        *(float(value) for x in ds.x({"processing": "number"}) for value in np.unique(x)),
        *ds.y().ravel().tolist(),
        *ds.meta()["number"].to_list(),
        *ds.prediction().ravel().tolist(),
    }
    assert fold["val"] == [2 + int(number) % 4]
    return int(number)


def load_number(path, **options):
    return number_of(SpectroDataset.load(path, **options))


def numbers(path):
    """Return the numbers of all versions of a store, after verifying them."""
    SpectroDataset.verify(path)
    return [load_number(path, version=version) for version in SpectroDataset.versions(path)["version"]]


def tree(path):
    """Return all that is in a folder: the content of files, None for folders."""
    return {str(p.relative_to(path)): None if p.is_dir() else p.read_bytes() for p in sorted(path.rglob("*"))}


def copied(source, target):
    """Copy a store with its hard links."""
    known = {}
    target.mkdir()
    for path in sorted(source.rglob("*")):
        new = target / path.relative_to(source)
        if path.is_dir():
            new.mkdir()
        elif path.stat().st_ino in known:
            os.link(known[path.stat().st_ino], new)
        else:
            known[path.stat().st_ino] = new
            new.write_bytes(path.read_bytes())
    return target


def assert_clean(path):
    """Check that vacuum leaves one whole generation and nothing else."""
    number = load_number(path)
    SpectroDataset.vacuum(path)
    (version,) = SpectroDataset.versions(path)["version"]
    assert sorted(os.listdir(path)) == [f"{version:06d}", "manifest.json"]
    described = json.loads((path / f"{version:06d}" / "version.json").read_text())
    spectra = {name for name in tree(path / f"{version:06d}") if "/spectra/c/" in name}
    files = {name for name, data in tree(path / f"{version:06d}").items() if data is not None}
    assert files - spectra == {"version.json", *described["files"]}
    assert numbers(path) == [number]


@pytest.fixture(scope="module")
def processes():
    return forkserver()


# 1. Kill


def save_forever(connection, path, compression, first):
    for number in itertools.count(first):
        made(number).save(path, compression=compression, chunks={"row": 3} if compression else None)
        connection.send(number)
        if number % 2 == 0:
            SpectroDataset.vacuum(path, keep=2)


def kill_after(context, delay, work, path, *args):
    """Kill a process some time after its first word, and return its last one."""
    with child(context, work, path, *args) as (process, connection):
        last = received(connection)
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.join(SECONDS)
        with contextlib.suppress(EOFError):
            while connection.poll(SECONDS):
                last = connection.recv()
    return last


@KINDS
def test_kill_while_saving(tmp_path, processes, compression):
    path, rng, number = tmp_path / "a", random.Random(5), 0
    made(number).save(path, compression=compression)
    for _ in range(9):
        last = kill_after(processes, rng.uniform(0, 0.15), save_forever, path, compression, number + 1)
        found = load_number(path, verify=True)
        assert found in (last, last + 1), "a save that returned is there"
        kept = numbers(path)
        assert kept == [*range(kept[0], found + 1)] and len(kept) >= min(2, found)
        number = found + 1
        made(number).save(path, compression=compression)
        assert load_number(path, verify=True) == number
    assert_clean(path)


def save_once(connection, path):
    ds = made(7)
    connection.send("begins")
    ds.save(path)


def vacuum_once(connection, path):
    connection.send("begins")
    SpectroDataset.vacuum(path)


def test_kill_while_saving_for_the_first_time(tmp_path, processes):
    rng = random.Random(6)
    for k in range(6):
        path = tmp_path / str(k) / "a"
        kill_after(processes, rng.uniform(0, 0.08), save_once, path)
        if path.exists() and any(path.glob("*/version.json")):
            with contextlib.suppress(storage.StoreError):
                assert load_number(path, verify=True) == 7
        made(8).save(path)
        assert load_number(path, verify=True) == 8
        assert_clean(path)


def test_kill_while_vacuuming(tmp_path, processes):
    base, rng = tmp_path / "base", random.Random(7)
    for number in range(5):
        made(number).save(base, compression=None if number % 2 else "zstd")
    for k in range(6):
        path = copied(base, tmp_path / str(k))
        kill_after(processes, rng.uniform(0, 0.04), vacuum_once, path)
        assert numbers(path) in ([0, 1, 2, 3, 4], [4])
        made(5).save(path)
        assert load_number(path, verify=True) == 5
        assert_clean(path)


# 2. Every call that reaches the disk fails in turn


class Disk:
    """While it is active, every call that changes the disk comes by `before(name, args)`, one at a time."""

    def __init__(self, before, threads=True):
        self.before, self.threads, self.lock, self.busy = before, threads, threading.RLock(), False
        self.names = ("open", "write", "fsync", "replace", "link", "mkdir", "copyfile")

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        for name in ("open", "replace", "link", "mkdir", "unlink", "rmdir"):
            self.patch.setattr(os, name, self.wrapped(name, getattr(os, name)))
        self.patch.setattr(os, "fsync", self.wrapped("fsync", lambda descriptor: None))
        self.patch.setattr(shutil, "copyfile", self.wrapped("copyfile", shutil.copyfile))
        if not self.threads:
            self.patch.setattr(zarrstore, "Work", lambda workers: Work(1))
        for module in (localplace, manifest, npystore, sidetables):
            self.patch.setattr(module, "open", self.opened, raising=False)
        return self

    def __exit__(self, *_):
        self.patch.undo()

    def call(self, name, args):
        if name in self.names and not self.busy:
            self.busy = True
            try:
                self.before(name, args)
            finally:
                self.busy = False

    def wrapped(self, name, call):
        def called(*args, **options):
            with self.lock:
                self.call(name, args)
                return call(*args, **options)

        return called

    def opened(self, path, mode="r", **options):
        if "r" in mode:
            return open(path, mode, **options)
        file = self.wrapped("open", open)(path, mode, **options)
        return Writer(self, path, file)


class Writer:
    """A file that is written by halves; the second half can fail."""

    def __init__(self, disk, path, file):
        self.disk, self.path, self.file = disk, path, file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        view = memoryview(data).cast("B")
        half = len(view) // 2
        with self.disk.lock:
            self.file.write(view[:half])
            self.file.flush()
            self.disk.call("write", (self.path,))
            if isinstance(self.file, RawIO):
                return half or self.file.write(view)  # as an operating system may do
            return half + self.file.write(view[half:])


def failing(call, error, threads=False):
    """Return a `Disk` whose call of this number raises an error, and a list that gets its name."""
    count, failed = itertools.count(), []

    def before(name, args):
        if name == "mkdir" and os.path.isdir(args[0]):
            return  # which pathlib takes for a folder that exists, whatever the error
        if next(count) == call:
            failed.append(name)
            raise error

    return Disk(before, threads), failed


def full():
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


FAULTS = [(full, "zstd", 1), (full, None, 1), (KeyboardInterrupt, "zstd", 3)]


@pytest.fixture
def same_group(monkeypatch):
    """Describe the Zarr group once: it takes most of the time of a small save, and is the same for all numbers."""
    original, found = zarrstore.group_files, []

    def group_files(*args):
        if not found:
            found.append(original(*args))
        return found[0]

    monkeypatch.setattr(zarrstore, "group_files", group_files)


@pytest.mark.usefixtures("same_group")
@pytest.mark.parametrize(("error", "compression", "step"), FAULTS)
def test_every_call_of_a_save_fails_in_turn(tmp_path, error, compression, step):
    path, names = tmp_path / "a", set()
    made(1, sources=1).save(path, compression=compression)
    assert numbers(path) == [1]
    first, ds = tree(path), made(2, sources=1)
    for call in itertools.count(0, step):
        disk, failed = failing(call, error(), threads=step > 1)
        with disk, contextlib.suppress(OSError, KeyboardInterrupt):
            ds.save(path, compression=compression, overwrite=True)
        if not failed:
            break
        names |= {*failed}
        if (path / "manifest.json").read_bytes() == first["manifest.json"]:
            assert tree(path) == first, (call, failed)
        else:  # only syncing the folder failed after the manifest was replaced
            assert failed[0] in ("open", "fsync")
            assert sorted(os.listdir(path)) == ["000001", "000002", "manifest.json"] and numbers(path) == [1, 2]
            SpectroDataset.verify(path)
            shutil.rmtree(path / "000002")
            (path / "manifest.json").write_bytes(first["manifest.json"])
    assert numbers(path) == [1, 2] and call > 40
    assert step > 1 or names == {"open", "write", "fsync", "replace", "mkdir", "link"}


def test_every_call_of_a_save_fails_in_turn_where_there_are_no_links(tmp_path, monkeypatch):
    path, names = tmp_path / "a", set()
    made(1, sources=1).save(path)
    first, ds = tree(path), made(2, sources=1)

    def no_link(*_, **__):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_link)
    for call in itertools.count():
        disk, failed = failing(call, full())
        disk.names = ("copyfile", "fsync")
        with disk, contextlib.suppress(OSError):
            ds.save(path, overwrite=True)
        if not failed:
            break
        names |= {*failed}
        if tree(path) != first:
            assert numbers(path) == [1, 2]
            break
    ds.save(path, overwrite=True)
    assert {*numbers(path)} == {1, 2} and "copyfile" in names


@pytest.mark.usefixtures("same_group")
@pytest.mark.parametrize(("error", "compression", "step"), FAULTS)
def test_every_call_of_a_first_save_fails_in_turn(tmp_path, error, compression, step):
    ds, path = made(1, sources=1), tmp_path / "b" / "a"
    for call in itertools.count(0, step):
        disk, failed = failing(call, error(), threads=step > 1)
        with disk, contextlib.suppress(OSError, KeyboardInterrupt):
            ds.save(path, compression=compression, overwrite=True)
        if not failed:
            break
        if path.exists():
            assert numbers(path) == [1], (call, failed)
            shutil.rmtree(path.parent)
        assert not os.listdir(tmp_path), (call, failed)
    assert numbers(path) == [1] and sorted(os.listdir(path)) == LISTED


@pytest.mark.parametrize("error", [full, KeyboardInterrupt])
def test_every_call_of_an_npy_save_fails_in_turn(tmp_path, error):
    path, names, found = tmp_path / "a", set(), []
    made(1, sources=1).save(path, format="npy")
    first, ds = tree(path), made(2, sources=1)
    for call in itertools.count():
        disk, failed = failing(call, error())
        disk.names += ("unlink", "rmdir")
        with disk, contextlib.suppress(OSError, KeyboardInterrupt):
            ds.save(path, format="npy", overwrite=True)
        if not failed:
            break
        names |= {*failed}
        found.append(load_number(path, verify=True))
        if found[-1] == 1:
            assert tree(path) == first, (call, failed)
        else:  # it counts, but not all is in its place yet
            made(1, sources=1).save(path, format="npy")
            assert load_number(path, verify=True) == 1 and tree(path).keys() == first.keys(), (call, failed)
            first = tree(path)
    assert found == sorted(found) and {*found} == {1, 2}
    assert names == {"open", "write", "fsync", "replace", "mkdir", "link", "unlink", "rmdir"}
    assert load_number(path, verify=True) == 2 and tree(path).keys() == first.keys() and os.listdir(tmp_path) == ["a"]


def test_every_call_of_a_first_npy_save_fails_in_turn(tmp_path):
    ds, path = made(1), tmp_path / "b" / "a"
    for call in itertools.count():
        disk, failed = failing(call, full())
        with disk, contextlib.suppress(OSError):
            ds.save(path, format="npy", overwrite=True)
        if not failed:
            break
        if path.exists():
            assert load_number(path, verify=True) == 1, (call, failed)
            shutil.rmtree(path.parent)
        assert not os.listdir(tmp_path), (call, failed)
    assert load_number(path, verify=True) == 1 and call > 20


def test_every_call_of_a_vacuum_fails_in_turn(tmp_path):
    path = tmp_path / "a"
    for number in range(2):
        made(number, sources=1).save(path, compression=None)
    base = copied(path, tmp_path / "base")
    for call in itertools.chain(range(9), itertools.count(9, 4)):
        disk, failed = failing(call, full())
        disk.names += ("unlink", "rmdir")
        with disk, contextlib.suppress(OSError):
            SpectroDataset.vacuum(path)
        if not failed:
            break
        if tree(path) != tree(base):
            assert numbers(path) == [1]
            assert_clean(path)
            shutil.rmtree(path)
            copied(base, path)
    assert numbers(path) == [1] and sorted(os.listdir(path)) == ["000002", "manifest.json"]


def test_the_same_dataset_can_be_saved_again_after_an_error(tmp_path):
    path, ds, replaced = tmp_path / "a", made(1), []
    ds.save(path)

    def before(name, args):
        replaced.extend([name] if name == "replace" else [])
        if replaced and name == "fsync":
            raise OSError(errno.EIO, "the disk is gone")

    with Disk(before), pytest.raises(OSError, match="gone"):
        ds.save(path)
    ds.save(path)
    assert {*numbers(path)} == {1}


# The same for a process that ends at every such call: what others see of the folder then is copied


def moments(tmp_path, path, work, every):
    """Return copies of a store as it is at calls of `work`: all that touch the manifest, and one of some others."""
    copies, seen, states = [], itertools.count(), []
    before_all = tree(path)

    def before(name, args):
        now = tree(path)
        old = {key: data for key, data in now.items() if key in before_all}
        if now.get("manifest.json") == before_all.get("manifest.json"):
            assert old == before_all, "as long as the manifest is as it was, so is all that it names"
        state = now.get("manifest.json"), now.get("manifest.json.tmp"), path.exists()
        if state not in states or next(seen) % every == 0:
            states.append(state)
            copies.append(tmp_path / "moments" / f"{len(copies)}-{name}" / path.name)
            shutil.copytree(path, copies[-1]) if path.exists() else copies[-1].parent.mkdir(parents=True)

    with Disk(before) as disk:
        disk.names += ("unlink", "rmdir")
        work()
    return copies


@KINDS
def test_end_at_every_call_of_a_save(tmp_path, compression):
    path, found = tmp_path / "a", []
    made(1, sources=1).save(path, compression=compression)
    for copy in moments(tmp_path, path, lambda: made(2, sources=1).save(path, compression=compression), 12):
        found.append(load_number(copy, verify=True))
        made(3, sources=1).save(copy, compression=compression)
        assert load_number(copy) == 3
        assert_clean(copy)
    assert found == sorted(found) and {*found} == {1, 2} and len(found) > 10


def test_end_at_every_call_of_a_first_save(tmp_path):
    path = tmp_path / "a"
    copies = moments(tmp_path, path, lambda: made(1, sources=1).save(path), 12)
    for copy in copies:
        if not (copy / "manifest.json").exists() or b'"generation": null' in (copy / "manifest.json").read_bytes():
            with pytest.raises((FileNotFoundError, storage.StoreError), match=re.escape(str(copy))):
                SpectroDataset.load(copy)
        else:
            assert load_number(copy, verify=True) == 1
        made(3, sources=1).save(copy)
        assert load_number(copy, verify=True) == 3
        assert_clean(copy)
    assert len(copies) > 10


def test_end_at_every_call_of_an_npy_save(tmp_path):
    """Also programs that know nothing of this package never find files of two datasets side by side."""
    path, found, copies, states = tmp_path / "a", [], [], []

    def before(name, args):
        states.append({**tree(path)})
        if states[-1] != states[-2]:
            copies.append(tmp_path / "moments" / f"{len(copies)}-{name}" / "a")
            shutil.copytree(path, copies[-1])

    made(1, sources=1).save(path, format="npy")
    states.append(old := tree(path))
    with Disk(before) as disk:
        disk.names += ("unlink", "rmdir")
        made(2, sources=1).save(path, format="npy")
    new = tree(path)
    for copy in copies:
        files = {name: data for name, data in tree(copy).items() if not name.startswith(npystore.NEXT)}
        assert files.items() <= old.items() or files.items() <= new.items()
        assert "features.json" not in files or len(files) == len(old)
        found.append(load_number(copy, verify=True))
        made(3, sources=1).save(copy, format="npy")
        assert load_number(copy, verify=True) == 3 and tree(copy).keys() == old.keys()
    assert found == sorted(found) and {*found} == {1, 2} and len(found) > 40


def test_end_at_every_call_of_a_vacuum(tmp_path):
    path = tmp_path / "a"
    for number in range(3):
        made(number, sources=1).save(path)
    copies = moments(tmp_path, path, lambda: SpectroDataset.vacuum(path), 6)
    for copy in copies:
        assert numbers(copy) in ([0, 1, 2], [2])
        assert_clean(copy)
    assert len(copies) > 10


def test_a_leftover_of_a_killed_save_goes_with_vacuum(tmp_path):
    made(1).save(tmp_path / "a")
    (tmp_path / "a" / "manifest.json.tmp").write_bytes(b"half")
    assert_clean(tmp_path / "a")


@KINDS
def test_all_is_on_the_disk_before_it_counts(tmp_path, compression):
    path, synced, checked = tmp_path / "c" / "b" / "a", set(), []

    def inode(place):
        about = os.fstat(place) if isinstance(place, int) else os.stat(place)
        return about.st_dev, about.st_ino

    def before(name, args):
        if name == "fsync":
            synced.add(inode(args[0]))
        elif name in ("open", "mkdir", "replace", "link", "copyfile"):
            new = Path(args[0] if name in ("open", "mkdir") else args[1])
            if not new.exists() and new.parent.exists():
                synced.discard(inode(new.parent))
        if name == "replace" and (generations := sorted(path.glob("0*"))):
            checked.append(generations[-1].name)
            missing = [p for p in (path, *generations[-1].rglob("*")) if inode(p) not in synced]
            assert not [p for p in missing if p.name != "manifest.json.tmp" and p != path]
            assert inode(path / "manifest.json.tmp") in synced

    with Disk(before):
        made(1).save(path, compression=compression)
        made(2).save(path, compression=compression)
    assert checked == ["000001", "000002"]
    assert [p for p in (path, path.parent, path.parent.parent, tmp_path) if inode(p) not in synced] == []


def test_all_of_an_npy_save_is_on_the_disk_before_it_counts(tmp_path):
    path, synced, checked = tmp_path / "b" / "a", set(), []

    def inode(place):
        about = os.fstat(place) if isinstance(place, int) else os.stat(place)
        return about.st_dev, about.st_ino

    def before(name, args):
        if name == "fsync":
            synced.add(inode(args[0]))
        elif name in ("open", "mkdir", "replace", "link") and "dir_fd" not in args:
            new = Path(args[0] if name in ("open", "mkdir") else args[1])
            if not new.exists() and new.parent.exists():
                synced.discard(inode(new.parent))
        elif name == "unlink" and path.joinpath(npystore.NEXT, "features.json").exists():
            checked.append(name)
            if Path(args[0]).parent.name == npystore.NEXT:
                assert [p for p in (path, *path.iterdir()) if inode(p) not in synced and p.name != npystore.NEXT] == []
        if name == "replace":
            checked.append(name)
            folder = path / npystore.NEXT
            missing = [p.name for p in (path, *folder.iterdir()) if inode(p) not in synced]
            assert missing == [] and inode(folder) not in synced, "its name is yet to come"

    with Disk(before) as disk:
        disk.names += ("unlink",)
        made(1).save(path, format="npy")
        made(2).save(path, format="npy")
    assert checked.count("replace") == 2 and checked.count("unlink") > 5
    assert [p for p in (path, path.parent, tmp_path) if inode(p) not in synced] == []


# 3. Two at once


def outcome(path, number, compression="zstd"):
    """Save, and return the version and its number, or the kind of error."""
    try:
        return made(number).save(path, compression=compression), number
    except Exception as error:
        return type(error).__name__, str(error)


def save_in_rounds(connection, barrier, paths, number):
    for path in paths:
        barrier.wait(SECONDS)
        connection.send(outcome(path, number))


def check_round(path, results, before):
    """Check that every save that returned is there, and that every other one raised ConflictError."""
    lost = [result for result in results if isinstance(result[0], str)]
    assert {name for name, _ in lost} <= {"ConflictError"}, lost
    won = dict(result for result in results if not isinstance(result[0], str))
    assert won and len(won) + len(lost) == len(results)
    assert SpectroDataset.versions(path)["version"].to_list() == sorted([*before, *won])
    assert numbers(path) == [number for _, number in sorted({**before, **won}.items())]
    assert sorted(os.listdir(path)) == [*(f"{version:06d}" for version in sorted({**before, **won})), "manifest.json"]


@pytest.mark.parametrize("first", [True, False], ids=["first save", "next save"])
def test_two_processes_at_once(tmp_path, processes, first):
    paths = [tmp_path / str(k) / "a" for k in range(8)]
    for path in [] if first else paths:
        made(0).save(path)
    barrier = processes.Barrier(2)
    with (
        child(processes, save_in_rounds, barrier, paths, 1) as (_, one),
        child(processes, save_in_rounds, barrier, paths, 2) as (_, two),
    ):
        for path in paths:
            check_round(path, [received(one), received(two)], {} if first else {1: 0})


@KINDS
def test_threads_at_once(tmp_path, compression):
    for k in range(4):
        path, results, barrier = tmp_path / str(k), queue.SimpleQueue(), threading.Barrier(4)
        made(0).save(path)

        def work(number, path=path, results=results, barrier=barrier):
            barrier.wait(SECONDS)
            results.put(outcome(path, number, compression))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        check_round(path, [results.get() for _ in threads], {1: 0})


def test_who_comes_too_late_for_a_first_save_takes_nothing_from_the_first(tmp_path, monkeypatch):
    """The second has seen that there is no folder when the first makes it, and gives up before anything is in it."""
    path, results = tmp_path / "a", {}
    empty, refused = threading.Event(), threading.Event()
    lock, prepare = localplace.only_writer, localplace.LocalPlace.prepare
    first = threading.Thread(target=lambda: results.update(first=outcome(path, 1)), name="first")

    def late(root):
        if threading.current_thread().name == "second":
            first.start()
            assert empty.wait(SECONDS)
        return lock(root)

    def slow(place):
        empty.set()
        assert refused.wait(SECONDS)
        prepare(place)

    monkeypatch.setattr(localplace, "only_writer", late)
    monkeypatch.setattr(localplace.LocalPlace, "prepare", slow)

    def save_second():
        results["second"] = outcome(path, 2)
        refused.set()

    second = threading.Thread(target=save_second, name="second")
    second.start()
    second.join()
    first.join()
    assert results["second"][0] == "ConflictError" and results["first"] == (1, 1)
    assert numbers(path) == [1]


@pytest.mark.parametrize("at", ["open", "lock"])
def test_who_comes_while_a_first_save_fails(tmp_path, monkeypatch, at):
    """The first gives up, and removes its folder, when the second is about to open or to lock it."""
    path, results = tmp_path / "a", {}
    inside, opening, gone = threading.Event(), threading.Event(), threading.Event()
    flock, opened = writerlock.fcntl.flock, os.open

    def is_second():
        return threading.current_thread().name == "second" and not gone.is_set()

    def late():
        opening.set()
        first.join(SECONDS)
        gone.set()

    def late_open(name, *args, **options):
        if is_second() and at == "open" and str(name) == str(path):
            late()
        return opened(name, *args, **options)

    def late_flock(*args):
        if is_second() and at == "lock":
            late()
        return flock(*args)

    def broken(place):
        inside.set()
        assert opening.wait(SECONDS)
        raise OSError(errno.ENOSPC, "full")

    prepare = localplace.LocalPlace.prepare
    monkeypatch.setattr(os, "open", late_open)
    monkeypatch.setattr(writerlock.fcntl, "flock", late_flock)
    monkeypatch.setattr(
        localplace.LocalPlace, "prepare", lambda place: prepare(place) if gone.is_set() else broken(place)
    )
    first = threading.Thread(target=lambda: results.update(first=outcome(path, 1)), name="first")
    second = threading.Thread(target=lambda: results.update(second=outcome(path, 2)), name="second")
    first.start()
    assert inside.wait(SECONDS)
    second.start()
    first.join()
    second.join()
    assert results["first"][0] == "OSError"
    assert results["second"] == (1, 2) or results["second"][0] == "ConflictError", results
    if path.exists():
        assert numbers(path) == [2]


def test_a_second_first_save_meets_the_first_before_its_manifest(tmp_path):
    path, results = tmp_path / "a", []

    def before(name, args):
        if name == "replace" and not results:
            results.append(None)
            thread = threading.Thread(target=lambda: results.append(outcome(path, 2)))
            thread.start()
            disk.lock.release()
            thread.join()
            disk.lock.acquire()

    with Disk(before) as disk:
        made(1).save(path)
    assert results[1][0] == "ConflictError", results[1]
    assert numbers(path) == [1]


def test_a_process_that_was_forked_during_a_save_does_not_keep_the_lock(tmp_path, monkeypatch):
    """As pools of workers that another thread starts do; the child must not outlive the test, so it is a descriptor."""
    made(1).save(tmp_path / "a")
    opened, copies, real = os.open, [], os.dup

    def and_forked(path, *args, **options):
        descriptor = opened(path, *args, **options)
        copies.append(real(descriptor))  # what a forked process would hold: the same open file
        return descriptor

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", and_forked)
        made(2).save(tmp_path / "a")
    try:
        made(3).save(tmp_path / "a")
    finally:
        for descriptor in copies:
            os.close(descriptor)
    assert numbers(tmp_path / "a") == [1, 2, 3]


def load_then_save(connection, path):
    ds = SpectroDataset.load(path)
    connection.send("loaded")
    while True:
        overwrite = connection.recv()
        try:
            connection.send(ds.save(path, overwrite=overwrite))
        except ConflictError as error:
            connection.send(str(error))


def test_who_saves_last_what_was_loaded_before_is_told(tmp_path, processes):
    path = tmp_path / "a"
    made(1).save(path)
    with child(processes, load_then_save, path) as (_, other):
        assert received(other) == "loaded"
        mine = SpectroDataset.load(path)
        mine.add_meta(pl.DataFrame({"mine": [1] * 6}))
        assert mine.save(path) == 2
        before = tree(path)
        for _ in range(2):
            other.send(False)
            assert re.search(r"has version 2 now.*comes from version 1", received(other))
            assert tree(path) == before
        other.send(True)
        assert received(other) == 3
    assert numbers(path) == [1, 1, 1]
    assert "mine" in SpectroDataset.load(path, version=2).meta().columns
    assert [saved.version.number for saved in mine.origins.values()] == [2]
    with pytest.raises(ConflictError, match="has version 3 now"):
        mine.save(path)


def save_and_vacuum(connection, path, compression):
    for number in itertools.count(1):
        made(number, rows=40).save(path, compression=compression, chunks={"row": 8} if compression else None)
        if number == 1:
            connection.send("begins")
        if number % 2:
            SpectroDataset.vacuum(path)


@KINDS
def test_readers_beside_a_writer_see_whole_versions(tmp_path, processes, compression):
    path, seen, gone, wrong = tmp_path / "a", [], [], []
    end = []

    def read():
        try:
            last = 0
            while time.monotonic() < end[0] or (len({*seen}) < 4 and time.monotonic() < end[0] + 60):
                ds = SpectroDataset.load(path)
                try:
                    number = number_of(ds)
                except storage.StoreError as error:
                    gone.append(str(error))
                    continue
                assert number >= last
                last = number
                seen.append(number)
        except BaseException as error:
            wrong.append(error)

    with child(processes, save_and_vacuum, path, compression) as (process, connection):
        received(connection)
        end.append(time.monotonic() + 2.5)
        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert process.is_alive()
    assert not wrong, wrong
    assert all(re.match(rf"{re.escape(str(path))}/\d{{6}}/\S+ is missing", text) for text in gone)
    assert len({*seen}) > 3 and (compression or not gone)
    assert load_number(path, verify=True) >= seen[-1]


@pytest.mark.parametrize("call", [lambda path: SpectroDataset.load(path, verify=True), SpectroDataset.verify])
def test_verifying_follows_a_version_that_is_vacuumed_meanwhile(tmp_path, monkeypatch, call):
    made(1).save(tmp_path / "a")
    verify, calls = storage.verify_version, []

    def late(*args):
        calls.append(1)
        if len(calls) == 1:
            made(2).save(tmp_path / "a")
            SpectroDataset.vacuum(tmp_path / "a")
        return verify(*args)

    monkeypatch.setattr(storage, "verify_version", late)
    ds = call(tmp_path / "a")
    assert ds is None or number_of(ds) == 2


# 4. Disk full, read-only, no permission


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a few hundred kilobytes."""
    place = tmp_path / "disk"
    place.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        done = subprocess.run(options, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"a small disk cannot be mounted: {error}")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@KINDS
def test_disk_full(small_disk, compression):
    path, big = small_disk / "b" / "a", made(2, 1000, 400, seed=0)
    with pytest.raises(OSError, match=re.escape(str(path))) as caught:
        big.save(path, compression=compression)
    assert caught.value.errno == errno.ENOSPC and not os.listdir(small_disk)
    made(1).save(path, compression=compression)
    before = tree(path)
    for _ in range(2):
        with pytest.raises(OSError, match=re.escape(str(path))) as caught:
            big.save(path, compression=compression)
        assert caught.value.errno == errno.ENOSPC
        assert tree(path) == before
    made(3).save(path, compression=compression)
    assert numbers(path) == [1, 3]
    assert_clean(path)


def test_disk_full_of_a_plain_folder(small_disk):
    made(1).save(small_disk / "a", format="npy")
    with pytest.raises(OSError, match=r"features_src\d\.npy") as caught:
        made(2, 1000, 400, seed=0).save(small_disk / "a", format="npy")
    assert caught.value.errno == errno.ENOSPC
    assert number_of(SpectroDataset.load(small_disk / "a")) == 1


def test_read_only_disk(small_disk):
    path = small_disk / "a"
    made(1).save(path)
    made(2).save(path)
    before = tree(path)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for call in (made(3).save, SpectroDataset.vacuum):
        with pytest.raises(OSError, match=re.escape(str(path))) as caught:
            call(path)
        assert caught.value.errno == errno.EROFS and tree(path) == before
    with pytest.raises(OSError, match=re.escape(str(small_disk / "new"))):
        made(3).save(small_disk / "new")
    assert numbers(path) == [1, 2]


def save_with_a_limit(connection, path, compression):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
    for place in (path, path.with_name("new")):
        try:
            made(2, 400, 40, seed=0).save(place, compression=compression)
        except OSError as error:
            connection.send((error.errno, str(error)))


@KINDS
def test_file_too_large(tmp_path, processes, compression):
    path = tmp_path / "a"
    made(1).save(path, compression=compression)
    before = tree(path)
    with child(processes, save_with_a_limit, path, compression) as (_, connection):
        answers = [received(connection), received(connection)]
    for place, (code, text) in zip((path, tmp_path / "new"), answers, strict=True):
        assert code == errno.EFBIG and f"{place}/" in text
    assert tree(path) == before and os.listdir(tmp_path) == ["a"]
    assert numbers(path) == [1]


@pytest.fixture
def public():
    """A folder that everybody may look into, which that of pytest is not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)
        subprocess.run(["chmod", "-R", "u+rwX", folder], check=True)


def as_nobody(connection, public):
    made(0).save(public / "warm")
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    os.umask(0)
    connection.send("ready")
    while True:
        call, name = connection.recv()
        try:
            if call == "load":
                connection.send(load_number(public / name, verify=True))
            elif call == "vacuum":
                connection.send(SpectroDataset.vacuum(public / name))
            else:
                connection.send(made(3).save(public / name))
        except (OSError, storage.StoreError) as error:
            connection.send((type(error).__name__, str(error)))


def chmod(path, folders, files):
    for p in (path, *path.rglob("*")):
        os.chmod(p, folders if p.is_dir() else files)


def test_no_permission(public, processes):
    path = public / "a"
    made(1).save(path)
    made(2).save(path)
    before = tree(path)
    with child(processes, as_nobody, public) as (_, connection):

        def ask(call, name):
            connection.send((call, name))
            return received(connection)

        assert received(connection) == "ready"
        os.chmod(public, 0o555)
        chmod(path, 0o555, 0o444)
        assert ask("load", "a") == 2
        for call, name in itertools.product(("save", "vacuum"), ("a", "new")):
            if (call, name) != ("vacuum", "new"):
                kind, text = ask(call, name)
                assert kind == "PermissionError" and str(public / name) in text
        assert tree(path) == before and sorted(os.listdir(public)) == ["a", "warm"]
        os.chmod(path, 0o777)  # the folder may be written, the generations are another's
        assert ask("save", "a") == 3 and ask("load", "a") == 3
        assert not list(path.glob("*.tmp"))
        kind, text = ask("vacuum", "a")
        assert kind == "PermissionError" and str(path) in text
        assert ask("load", "a") == 3
        chmod(path, 0o000, 0o000)
        for call in ("load", "save", "vacuum"):
            kind, text = ask(call, "a")
            assert kind in ("PermissionError", "StoreError") and str(path) in text
    chmod(path, 0o755, 0o644) if os.geteuid() == 0 else subprocess.run(["chmod", "-R", "u+rwX", path], check=True)
    assert load_number(path, verify=True) == 3
    assert_clean(path)


def test_a_parent_folder_that_may_not_be_listed(public, processes):
    parent = public / "parent"
    parent.mkdir()
    with child(processes, as_nobody, public) as (_, connection):
        assert received(connection) == "ready"
        os.chmod(parent, 0o333)
        connection.send(("save", "parent/a"))
        assert received(connection) == 1
        connection.send(("load", "parent/a"))
        assert received(connection) == 3
    os.chmod(parent, 0o755)


# 5. Verify


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@KINDS
@pytest.mark.parametrize("damage", [flip, cut, os.unlink], ids=["flip", "cut", "delete"])
def test_damage_of_every_file_is_named(tmp_path, compression, damage):
    path = tmp_path / "a"
    made(1, sources=1).save(path, compression=compression, chunks={"row": 4} if compression else None)
    made(2, sources=1).save(path, compression=compression)
    assert numbers(path) == [1, 2]
    files = [p for p in path.rglob("*") if p.is_file()]
    assert len(files) > 30 and any(p.stat().st_nlink > 1 for p in files)
    for file in files:
        same = {p for p in files if p.samefile(file)} if damage is not os.unlink else {file}
        data = file.read_bytes()
        twin = next((p for p in files if p != file and p.samefile(file)), None)
        damage(file)
        with pytest.raises(storage.StoreError) as caught:
            SpectroDataset.verify(path)
        named = {p for p in files for line in str(caught.value).splitlines() if line.startswith(f"{p} ")}
        if file.name == "manifest.json" and damage is os.unlink:
            assert "has no manifest.json" in str(caught.value)
        else:
            assert named == same and len(str(caught.value).splitlines()) == len(same)
        for version in {1, 2} - {int(p.parts[len(path.parts)]) for p in same if p.name != "manifest.json"}:
            if file.name != "manifest.json":
                SpectroDataset.verify(path, version=version)
        if twin is not None and damage is os.unlink:
            os.link(twin, file)
        else:
            file.write_bytes(data)
    assert numbers(path) == [1, 2]


def test_all_damage_is_named_at_once(tmp_path):
    path = tmp_path / "a"
    made(1).save(path)
    some = [path / "000001" / name for name in ("tables/metadata.parquet", "folds.json", "features.zarr/zarr.json")]
    some.append(next(path.rglob("raman/spectra/c/0/1/0")))
    for damage, file in zip((flip, cut, os.unlink, flip), some, strict=True):
        damage(file)
    with pytest.raises(storage.StoreError) as caught:
        SpectroDataset.verify(path)
    assert {line.partition(" ")[0] for line in str(caught.value).splitlines()} == {*map(str, some)}


@pytest.mark.parametrize("name", ["tables/targets.parquet", "version.json", "tables/chunks.parquet"])
@pytest.mark.parametrize("replacement", ["folder", "unreadable"])
def test_what_cannot_be_read_is_named_with_the_other_damage(tmp_path, monkeypatch, replacement, name):
    path = tmp_path / "a"
    made(1).save(path)
    made(2).save(path)
    bad, other = path / "000001" / name, path / "000002" / "folds.json"
    flip(other)
    if replacement == "folder":
        bad.unlink()
        bad.mkdir()
    else:
        read = localplace.LocalPlace.read

        def broken(place, key):
            if key == f"000001/{name}":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return read(place, key)

        monkeypatch.setattr(localplace.LocalPlace, "read", broken)
    with pytest.raises(storage.StoreError) as caught:
        SpectroDataset.verify(path)
    assert str(bad) in str(caught.value) and str(other) in str(caught.value)


@pytest.mark.parametrize("file", ["tables/metadata.parquet", "features.zarr/zarr.json", "spectra"])
@KINDS
def test_what_is_damaged_is_not_shared_with_a_new_version(tmp_path, compression, file):
    path, ds = tmp_path / "a", made(1)
    ds.save(path, compression=compression)
    for damaged in path.rglob("nir/spectra/c/0/*/0") if file == "spectra" else [path / "000001" / file]:
        cut(damaged)
    ds.save(path, compression=compression)
    assert load_number(path, verify=True) == 1


def table(name, change):
    """Return a change of a snapshot: of one of its tables."""

    def changed(parts):
        if name in ("index", "holes"):
            return replace(parts, **{name: change(getattr(parts, name))})
        return replace(parts, tables={**parts.tables, name: change(parts.tables[name])})

    return changed


def last(lines=1, **values):
    """Return a change of a table: its last lines have other values."""

    def change(frame):
        late = pl.int_range(pl.len()) >= pl.len() - lines
        columns = [pl.when(late).then(pl.lit(v)).otherwise(pl.col(c)).alias(c) for c, v in values.items()]
        return frame.with_columns(columns).cast(frame.schema)

    return change


def document(name, value):
    return lambda parts: replace(parts, documents={**parts.documents, name: value})


def state(**values):
    return lambda parts: document("state", {**parts.documents["state"], **values})(parts)


def hole(**values):
    given = {"sample": 1, "processing": "raw", "source": "nir", **values}
    return lambda frame: pl.DataFrame([given], schema=frame.schema)


def twice(frame):
    return pl.concat([frame, frame[-1:]])


NAMED = {
    "targets": (table("targets", last(sample=99)), "table 'targets' names sample 99; there are 6"),
    "metadata": (table("metadata", last(sample=99)), "table 'metadata' names sample 99; there are 6"),
    "predictions": (table("predictions", last(sample=99)), "table 'predictions' names sample 99; there are 6"),
    "folds": (document("folds", [{"train": [0], "val": [99]}]), "fold 0 names sample 99; there are 6"),
    "row": (table("index", last(12, row=77)), "refers to row 77"),
    "row of one line": (table("index", last(row=77)), "sample 5 has several values of 'row'"),
    "sample": (table("index", last(sample=50)), None),
    "line twice": (table("index", twice), "come twice"),
    "columns": (table("index", lambda frame: frame.drop("branch")), "columns"),
    "holes without a column": (table("holes", lambda frame: frame.drop("source")), "source"),
}

#: What `load` refuses or would show wrongly.
MORE = {
    "index, dtype": table("index", lambda frame: frame.cast({"sample": pl.Int64})),
    "index, processing that the state does not have": table("index", last(processing="other")),
    "state, processing that the index has is missing": state(processings=["raw"]),
    "targets without samples": table("targets", lambda frame: frame.drop("sample")),
    "targets of no sample": table("targets", last(sample=None)),
    "targets twice": table("targets", twice),
    "metadata without samples": table("metadata", lambda frame: frame.drop("sample")),
    "metadata twice": table("metadata", twice),
    "metadata, negative": table("metadata", lambda frame: frame.with_columns(sample=pl.lit(-1))),
    "folds without train": document("folds", [{"val": [0]}]),
    "folds, negative": document("folds", [{"train": [-1], "val": [0]}]),
    "folds of text": document("folds", [{"train": ["a"], "val": [0]}]),
    "fold, sample twice": document("folds", [{"train": [0, 0], "val": [1]}]),
    "fold, train and val overlap": document("folds", [{"train": [0, 1], "val": [0]}]),
    "holes, sample": table("holes", hole(sample=99)),
    "holes, source": table("holes", hole(source="other")),
    "holes, processing": table("holes", hole(processing="other")),
}
CONTRADICTIONS = {**NAMED, **{name: (change, None) for name, change in MORE.items()}}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions_are_named(tmp_path, monkeypatch, name):
    path = tmp_path / "a"
    change, message = CONTRADICTIONS[name]
    original = zarrstore.write_tables
    with monkeypatch.context() as patch:
        patch.setattr(zarrstore, "write_tables", lambda out, parts, known: original(out, change(parts), known))
        made(1).save(path)
    made(2).save(path)
    with pytest.raises(storage.StoreError, match=message) as caught:
        SpectroDataset.verify(path)
    assert re.search(r"version 1 of|000001/", str(caught.value))
    assert not re.search(r"version 2 of|000002/", str(caught.value))
    SpectroDataset.verify(path, version=2)


@pytest.mark.parametrize(
    "values",
    [
        {"wavelength": [0, 1]},
        {"wavelength": [0, 1, 2, 9]},
        {"segments": [["nir", 2]]},
        {"processings": ["raw"]},
        {"shape": [5, 2, 4]},
        {"dtype": "<f8"},
    ],
    ids=str,
)
def test_a_description_that_does_not_fit_the_spectra_is_named(tmp_path, monkeypatch, values):
    original = zarrstore.Contents.described

    def described(contents):
        about = original(contents)
        about["sources"][0].update(values)
        return about

    monkeypatch.setattr(zarrstore.Contents, "described", described)
    made(1).save(tmp_path / "a")
    with pytest.raises(storage.StoreError, match=r"version 1 of|000001/"):
        SpectroDataset.verify(tmp_path / "a")


@pytest.mark.parametrize("name", ["tables/chunks.parquet", "tables/targets.parquet", "features.zarr/zarr.json"])
def test_a_description_that_lacks_a_file_is_named(tmp_path, monkeypatch, name):
    original = zarrstore.Contents.described

    def described(contents):
        about = original(contents)
        del about["files"][name]
        return about

    monkeypatch.setattr(zarrstore.Contents, "described", described)
    made(1).save(tmp_path / "a")
    with pytest.raises(storage.StoreError, match=name):
        SpectroDataset.verify(tmp_path / "a")


def test_a_table_of_chunks_with_too_few_lines_is_named(tmp_path, monkeypatch):
    original = zarrstore.chunk_table
    monkeypatch.setattr(zarrstore, "chunk_table", lambda stored: original(stored)[1:])
    made(1).save(tmp_path / "a")
    with pytest.raises(storage.StoreError, match=r"000001/\S+ has 1 chunks of source 'nir' instead of 2"):
        SpectroDataset.verify(tmp_path / "a")


def test_a_chunk_that_holds_something_else_is_named(tmp_path, monkeypatch):
    original = writing.encode
    monkeypatch.setattr(writing, "encode", lambda block, compression: original(block + 1, compression))
    made(1).save(tmp_path / "a")
    with pytest.raises(storage.StoreError, match=r"000001/features.zarr/nir/spectra/c/0/0/0 does not decode to what"):
        SpectroDataset.verify(tmp_path / "a")
