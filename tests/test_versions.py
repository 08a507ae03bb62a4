"""Versions of a store: what is shared, what is written, and what is read."""

import cProfile
import os
import pstats
import re
import shutil
import sys
import tarfile
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import xarray as xr

from spectroxr import ConflictError, NoViewError, SpectroDataset, StoreError, UnknownNameError, localplace, place
from spectroxr.manifest import checksum

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "stores"))
import make

#: What a summary says of where spectra are.
SIZE = re.compile(r"\d+ bytes (in memory|mapped|in the store)( and \w+)*")


def built(rows=3000, width=500):
    rng = np.random.default_rng(0)
    ds = SpectroDataset()
    ds.add_features(
        {"nir": rng.random((rows, width), dtype="f4"), "mir": rng.random((rows, 40))},
        wavelength={"nir": np.linspace(1100, 2500, width), "mir": np.linspace(1800, 900, 40)},
        units={"nir": "nm", "mir": "cm-1"},
        partition=["train", "test"] * (rows // 2),
    )
    ds.add_targets(pl.DataFrame({"protein": rng.random(rows)}))
    return ds


def on_disk(path):
    """Bytes of a store, files that several versions link counted once."""
    return sum({(s.st_ino): s.st_size for p in path.rglob("*") if p.is_file() and (s := p.stat())}.values())


@pytest.fixture
def written(monkeypatch):
    """The names of the files that are written, and their bytes."""
    sizes = {}
    original = localplace.LocalPlace.write

    def write(self, key, parts):
        original(self, key, parts)
        sizes[key.partition("/")[2]] = (self.root / key).stat().st_size

    monkeypatch.setattr(localplace.LocalPlace, "write", write)
    return sizes


@pytest.fixture
def read(monkeypatch):
    """The names of the files that are read."""
    keys = []
    original = localplace.LocalPlace.read
    monkeypatch.setattr(
        localplace.LocalPlace, "read", lambda self, key: (keys.append(key.partition("/")[2]), original(self, key))[1]
    )
    return keys


def spectra_of(names):
    return sorted(name for name in names if "/spectra/c/" in name)


# What a save writes


@pytest.mark.parametrize("compression", ["zstd", None])
@pytest.mark.parametrize("reload", [False, True])
def test_a_new_processing_writes_that_processing(tmp_path, written, compression, reload):
    ds = built()
    ds.save(tmp_path / "a", compression=compression)
    before = on_disk(tmp_path / "a")
    if reload:
        ds = SpectroDataset.load(tmp_path / "a")
    written.clear()
    (x,) = ds.x({"source": "nir", "processing": "raw"})
    ds.update_x({"nir": x * 2}, range(3000), "double")
    ds.save(tmp_path / "a", compression=compression)
    new = spectra_of(written)
    assert new and all(name.startswith("features.zarr/nir/spectra/c/") and name.split("/")[5] == "1" for name in new)
    extra = on_disk(tmp_path / "a") - before
    assert extra < sum(written[name] for name in new) + 150_000
    assert SpectroDataset.versions(tmp_path / "a")["written"][1] == sum(written.values())
    SpectroDataset.verify(tmp_path / "a")


@pytest.mark.parametrize("compression", ["zstd", None])
def test_predictions_folds_and_labels_write_no_spectra(tmp_path, written, compression):
    ds = built()
    ds.save(tmp_path / "a", compression=compression)
    for change in (
        lambda: ds.add_prediction(np.arange(3000.0), {"model": "PLS"}),
        lambda: ds.set_folds([([0, 1], [2])]),
        lambda: ds.add_meta(pl.DataFrame({"site": ["N"] * 3000})),
        lambda: ds.augment_features_x(1),
        lambda: None,
    ):
        change()
        written.clear()
        ds.save(tmp_path / "a", compression=compression)
        assert not spectra_of(written), written
        assert sum(written.values()) < 200_000
    assert set(written) <= {"version.json", "tables/chunks.parquet"}


def test_more_rows_write_the_chunks_they_are_in(tmp_path, written):
    ds = built(5000)
    ds.save(tmp_path / "a")
    written.clear()
    ds.add_features({"nir": np.ones((10, 500), "f4"), "mir": np.ones((10, 40))})
    ds.save(tmp_path / "a")
    last = -(-5010 // 1048) - 1
    assert spectra_of(written) == ["features.zarr/mir/spectra/c/0/0/0", f"features.zarr/nir/spectra/c/{last}/0/0"]
    written.clear()
    ds.update_x({"nir": np.zeros((1, 500), "f4")}, [2000], "raw")
    ds.save(tmp_path / "a")
    assert spectra_of(written) == ["features.zarr/nir/spectra/c/1/0/0"]


def test_uncompressed_processings_saved_together_are_one_block_and_later_ones_beside_it(tmp_path, written):
    ds = built(300)
    ds.update_x({"nir": np.ones((300, 500), "f4")}, range(300), "ones")
    ds.save(tmp_path / "a", compression=None)
    assert spectra_of(written) == [f"features.zarr/{s}/spectra/c/0/0/0" for s in ("mir", "nir")]
    mapped = SpectroDataset.load(tmp_path / "a")
    assert mapped.x({"source": "nir"}, "2d", copy=False)[0].shape == (300, 1000)
    written.clear()
    for name in ("a", "b"):
        mapped.update_x({"nir": np.full((300, 500), ord(name), "f4")}, range(300), name)
    mapped.save(tmp_path / "a", compression=None)
    assert spectra_of(written) == ["features.zarr/nir/spectra/c/0/1/0"]
    again = SpectroDataset.load(tmp_path / "a")
    np.testing.assert_array_equal(again.x({"source": "nir"}, "3d")[0], mapped.x({"source": "nir"}, "3d")[0])
    SpectroDataset.verify(tmp_path / "a")


def test_an_uncompressed_source_that_grows_is_written_anew_once(tmp_path, written):
    ds = built(300)
    for name in ("ones", "twos"):
        ds.update_x({"nir": np.full((300, 500), len(name), "f4")}, range(300), name)
    ds.save(tmp_path / "a", compression=None)
    for count, name in enumerate("abcd", 4):
        ds = SpectroDataset.load(tmp_path / "a") if count % 2 else ds
        ds.update_x({"nir": np.full((300, 500), ord(name), "f4")}, range(300), name)
        written.clear()
        ds.save(tmp_path / "a", compression=None)
        files = [f"features.zarr/nir/spectra/c/0/{k}/0" for k in range(count)]
        assert spectra_of(written) == (files if count == 4 else files[-1:])
    SpectroDataset.verify(tmp_path / "a")
    again = SpectroDataset.load(tmp_path / "a")
    np.testing.assert_array_equal(again.x({"source": "nir"}, "3d")[0], ds.x({"source": "nir"}, "3d")[0])
    assert again.x({"source": "nir", "processing": "twos"}, copy=False)[0].shape == (300, 500)


def test_a_new_source_and_merged_ones_write_only_themselves(tmp_path, written):
    ds = built()
    ds.save(tmp_path / "a")
    written.clear()
    ds.add_source("raman", np.ones((3000, 7)))
    ds.save(tmp_path / "a")
    assert spectra_of(written) == ["features.zarr/raman/spectra/c/0/0/0"]
    before = ds.x({"source": "mir"})[0].copy()
    ds.merge(["nir", "raman"])
    written.clear()
    ds.save(tmp_path / "a")
    assert {name.split("/")[1] for name in spectra_of(written)} == {"nir_raman"}
    np.testing.assert_array_equal(SpectroDataset.load(tmp_path / "a").x({"source": "mir"})[0], before)
    assert SpectroDataset.load(tmp_path / "a", version=2)["raman"].shape == (3000, 1, 7)


# Versions


def test_versions_are_listed_opened_and_vacuumed(tmp_path):
    path = tmp_path / "a"
    ds = built(200)
    assert ds.save(path, message="as measured") == 1
    right = {1: ds.x()[0].copy()}
    for number in (2, 3, 4):
        ds.update_x({"nir": np.full((200, 500), number, "f4")}, range(200), "raw")
        assert ds.save(path, message=f"all {number}") == number
        right[number] = ds.x()[0].copy()
    table = SpectroDataset.versions(path)
    assert table["version"].to_list() == [1, 2, 3, 4]
    assert table["message"].to_list() == ["as measured", "all 2", "all 3", "all 4"]
    assert table["time"].is_sorted() and table["samples"].to_list() == [200] * 4
    for number in (1, 2, 3, 4):
        np.testing.assert_array_equal(SpectroDataset.load(path, version=number).x()[0], right[number])
        tree = xr.open_datatree(path / f"00000{number}" / "features.zarr", engine="zarr")
        np.testing.assert_array_equal(tree["nir"]["spectra"][:, 0], right[number])
    np.testing.assert_array_equal(SpectroDataset.load(path, version=-2).x()[0], right[3])
    for wrong in (0, 9, -5):
        with pytest.raises(UnknownNameError, match="nearest is"):
            SpectroDataset.load(path, version=wrong)
    with pytest.raises(TypeError, match="whole number"):
        SpectroDataset.load(path, version="2")
    lazy = SpectroDataset.load(path, version=1)
    assert SpectroDataset.vacuum(path, keep=2) > 0
    assert SpectroDataset.versions(path)["version"].to_list() == [3, 4]
    with pytest.raises(StoreError, match="missing from the store"):
        lazy.x({"source": "nir"})
    with pytest.raises(UnknownNameError, match="nearest is 3"):
        SpectroDataset.load(path, version=1)
    for number in (3, 4):
        np.testing.assert_array_equal(SpectroDataset.load(path, version=number).x()[0], right[number])
    SpectroDataset.verify(path)
    assert SpectroDataset.vacuum(path) > 0 and SpectroDataset.vacuum(path) == 0
    assert sorted(os.listdir(path)) == ["000004", "manifest.json"]
    for wrong in (0, -1, True, 1.5):
        with pytest.raises((ValueError, TypeError), match="keep is"):
            SpectroDataset.vacuum(path, keep=wrong)


def test_who_saves_on_what_others_saved_is_told(tmp_path):
    built(20).save(tmp_path / "a")
    one, other = (SpectroDataset.load(tmp_path / "a") for _ in range(2))
    one.add_prediction(np.ones(20), {"model": "one"})
    assert one.save(tmp_path / "a") == 2
    other.add_prediction(np.zeros(20), {"model": "other"})
    before = sorted(os.listdir(tmp_path / "a"))
    with pytest.raises(ConflictError, match=r"has version 2 now; this dataset comes from version 1.*overwrite=True"):
        other.save(tmp_path / "a")
    assert sorted(os.listdir(tmp_path / "a")) == before
    assert SpectroDataset.load(tmp_path / "a").predictions.table["model"].unique().to_list() == ["one"]
    assert other.save(tmp_path / "a", overwrite=True) == 3
    assert other.save(tmp_path / "a") == 4
    with pytest.raises(ConflictError):
        one.save(tmp_path / "a")
    assert one.save(tmp_path / "b") == 1
    assert one.save(tmp_path / "b") == 2


def test_stores_of_earlier_formats_are_read_and_continued(tmp_path):
    right = make.archived()
    names = sorted(name for name in os.listdir(make.HERE) if name.endswith(".tar.gz"))
    assert {name[:9] for name in names} == {"format-1-", "format-2-", "format-3-"} and len(names) == 7
    for name in names:
        with tarfile.open(make.HERE / name) as tar:
            tar.extractall(tmp_path / name, filter="data")
        path = tmp_path / name / "store"
        kind = {"zstd": {}, "raw": {"compression": None}, "npy": {"format": "npy"}}[name[9:].partition(".")[0]]
        for step in ("as archived", "saved again"):
            SpectroDataset.verify(path)
            for lazy in (True, False):
                ds = SpectroDataset.load(path, verify=True, lazy=lazy)
                assert SIZE.sub("", repr(ds)) == SIZE.sub("", repr(right)), (name, step)
                for a, b in zip(ds.features.sources, right.features.sources, strict=True):
                    np.testing.assert_array_equal(a.array, b.array)
                    np.testing.assert_array_equal(a.axis.values, b.axis.values)
                    assert a.axis.attrs == b.axis.attrs
                assert ds.features.index_df.equals(right.features.index_df)
                assert ds.metadata.table.equals(right.metadata.table)
                assert ds.targets.table.equals(right.targets.table)
                assert ds.predictions.table.equals(right.predictions.table)
                assert ds.folds.folds == right.folds.folds
            ds.save(path, **kind)
        if "npy" not in name:
            had = 3 if name.startswith("format-3") else 1
            assert SpectroDataset.versions(path)["version"].to_list() == [*range(1, had + 3)]
            assert SpectroDataset.vacuum(path) > 0
            SpectroDataset.verify(path)


# What is read


def test_load_reads_no_spectra_and_a_selection_its_chunks(tmp_path, read):
    ds = built(5000)
    ds.update_x({"nir": ds.x({"source": "nir"})[0] + 1}, range(5000), "more")
    ds.save(tmp_path / "a")
    read.clear()
    lazy = SpectroDataset.load(tmp_path / "a")
    assert not spectra_of(read) and len(read) < 15
    read.clear()
    wanted = {"source": "nir", "processing": "raw", "sample": slice(1040, 1060), "wavelength": slice(1200, 1300)}
    (x,) = lazy.x(wanted)
    assert read == ["features.zarr/nir/spectra/c/0/0/0", "features.zarr/nir/spectra/c/1/0/0"] or sorted(read) == [
        "features.zarr/nir/spectra/c/0/0/0",
        "features.zarr/nir/spectra/c/1/0/0",
    ]
    np.testing.assert_array_equal(x, ds.x(wanted)[0])
    with pytest.raises(NoViewError, match=r"in the store, not in memory.*pack\(\) would make one"):
        lazy.x(wanted, copy=False)
    read.clear()
    array = lazy.sel({"source": "nir"})
    some = array.sel(processing="more", wavelength=slice(1500, 1600))[4900:]
    assert "values with dtype" in repr(array) and not read
    np.testing.assert_array_equal(
        some, ds.sel({"source": "nir"}).sel(processing="more", wavelength=slice(1500, 1600))[4900:]
    )
    assert sorted(read) == ["features.zarr/nir/spectra/c/4/1/0"]
    read.clear()
    (whole,) = lazy.x({"source": "nir", "processing": "raw"})
    assert len(read) == 5
    (again,) = lazy.x({"source": "nir", "processing": "raw", "partition": "train"}, copy=False)
    assert len(read) == 5 and np.shares_memory(whole, again)
    read.clear()
    lazy.pack()
    assert sorted({name.split("/")[1] for name in spectra_of(read)}) == ["mir", "nir"]
    lazy.x(wanted, copy=False)


def test_bands_of_wavelengths_can_be_chunks_of_their_own(tmp_path, read):
    ds = built(2000)
    ds.save(tmp_path / "a", chunks={"row": 1500, "wavelength": 64})
    lazy = SpectroDataset.load(tmp_path / "a")
    read.clear()
    wanted = {"source": "nir", "wavelength": slice(1150, 1200)}
    (x,) = lazy.x(wanted)
    assert sorted(read) == ["features.zarr/nir/spectra/c/0/0/0", "features.zarr/nir/spectra/c/1/0/0"]
    np.testing.assert_array_equal(x, ds.x(wanted)[0])
    for wrong in ({"wavelength": 0}, {"rows": 5}, {"row": "x"}):
        with pytest.raises((ValueError, TypeError)):
            ds.save(tmp_path / "b", chunks=wrong)
    with pytest.raises(ValueError, match="uncompressed"):
        ds.save(tmp_path / "b", compression=None, chunks={"row": 5})
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("seed", [0, *(pytest.param(k, marks=pytest.mark.long) for k in range(1, 4))])
@pytest.mark.parametrize("options", [{}, {"compression": None}, {"chunks": {"row": 7, "wavelength": 9}}])
def test_any_selection_of_a_store_is_what_memory_has(tmp_path, seed, options):
    rng = np.random.default_rng(seed)
    ds = built(60, 30)
    ds.update_x({"nir": rng.random((60, 30), dtype="f4")}, range(60), "snv")
    ds.augment_samples_x([(3, 2), (9, 1)])
    ds.save(tmp_path / "a", **options)
    stores = [SpectroDataset.load(tmp_path / "a"), SpectroDataset.load(tmp_path / "a", chunks={"row": 11})]
    nm = ds.features.sources[0].axis.values
    for _ in range(25):
        wanted = {"source": "nir", "processing": [["raw"], ["snv"], ["raw", "snv"]][rng.integers(3)]}
        kind = rng.integers(4)
        if kind == 1:
            wanted["sample"] = np.unique(rng.integers(0, 63, rng.integers(1, 30))).tolist()
        if kind == 2:
            wanted["sample"] = slice(int(rng.integers(30)), int(rng.integers(30, 63)))
        if kind == 3:
            wanted["partition"] = "test"
        if rng.random() < 0.6:
            wanted["wavelength"] = np.sort(rng.choice(nm, rng.integers(1, 20), replace=False)).tolist()
        layout = ["2d", "2d_interlaced", "3d", "3d_transpose"][rng.integers(4)]
        (right,) = ds.x(wanted, layout)
        for store in stores:
            np.testing.assert_array_equal(np.asarray(store.x(wanted, layout)[0]), right)
            np.testing.assert_array_equal(store.x(wanted, layout, copy=True)[0], right)
            np.testing.assert_array_equal(store.sel(wanted).values, ds.sel(wanted).values)


def test_changes_of_a_lazy_dataset_do_not_touch_the_store(tmp_path):
    ds = built(50)
    ds.save(tmp_path / "a")
    for chunks in (None, {}):
        lazy = SpectroDataset.load(tmp_path / "a", chunks=chunks)
        lazy.update_x({"nir": np.zeros((3, 500), "f4")}, [4, 5, 6], "raw")
        right = ds.x({"source": "nir"})[0].copy()
        right[4:7] = 0
        np.testing.assert_array_equal(np.asarray(lazy.x({"source": "nir"})[0]), right)
        lazy.add_features({"nir": np.ones((2, 500), "f4"), "mir": np.ones((2, 40))})
        lazy.augment_samples_x([(0, 1)])
        lazy.update_x({"mir": np.zeros((1, 40))}, [52], "raw")
        assert np.asarray(lazy.x({"source": "mir"})[0]).shape == (53, 40)
        lazy.save(tmp_path / "b", overwrite=True)
        SpectroDataset.verify(tmp_path / "b")
        again = SpectroDataset.load(tmp_path / "b")
        for source in ("nir", "mir"):
            np.testing.assert_array_equal(again.x({"source": source})[0], np.asarray(lazy.x({"source": source})[0]))
        np.testing.assert_array_equal(SpectroDataset.load(tmp_path / "a").x()[0], ds.x()[0])


def test_a_lazy_store_saved_elsewhere_is_copied_chunk_by_chunk(tmp_path, monkeypatch):
    ds = built(4000)
    ds.save(tmp_path / "a")
    lazy = SpectroDataset.load(tmp_path / "a")
    from spectroxr import generation

    monkeypatch.setattr(generation, "encode", None)  # chunks of the same shape are not even decoded
    lazy.save(tmp_path / "b")
    SpectroDataset.verify(tmp_path / "b")
    np.testing.assert_array_equal(SpectroDataset.load(tmp_path / "b").x()[0], ds.x()[0])


def test_links_that_a_file_system_lacks_are_copies(tmp_path, monkeypatch):
    def refused(*args):
        raise PermissionError(1, "Operation not permitted")

    ds = built(50)
    ds.save(tmp_path / "a")
    monkeypatch.setattr(os, "link", refused)
    ds.set_folds([([0], [1])])
    ds.save(tmp_path / "a")
    SpectroDataset.vacuum(tmp_path / "a")
    SpectroDataset.verify(tmp_path / "a")
    np.testing.assert_array_equal(SpectroDataset.load(tmp_path / "a").x()[0], ds.x()[0])


@pytest.mark.parametrize("compression", ["zstd", None])
@pytest.mark.parametrize("fresh", [False, True])
def test_what_was_damaged_since_is_not_shared_but_written_again(tmp_path, written, compression, fresh):
    path, ds = tmp_path / "store", built()
    ds.save(path, compression=compression)
    chunk = "features.zarr/nir/spectra/c/0/0/0"
    data = bytearray((path / "000001" / chunk).read_bytes())
    data[1000] ^= 1  # the size stays
    with open(path / "000001" / chunk, "r+b") as file:
        file.write(data)
    written.clear()
    (built() if fresh else ds).save(path, compression=compression, overwrite=True)
    assert {name for name in written if "/spectra/" in name} == {chunk}
    SpectroDataset.verify(path, version=2)
    np.testing.assert_array_equal(SpectroDataset.load(path).x({"source": "nir"})[0], ds.x({"source": "nir"})[0])
    with pytest.raises(StoreError, match="000001"):
        SpectroDataset.verify(path, version=1)


def test_large_files_are_checked_piece_by_piece(tmp_path, monkeypatch):
    monkeypatch.setattr("spectroxr.place._PIECE", 7)
    where = place.open_place(tmp_path)
    data = bytes(range(20))
    where.write("whole", [data])
    record = place.Record("whole", 20, checksum(data))
    assert place.intact(where, record)
    for crc in (0, checksum(data) ^ 1):
        assert not place.intact(where, replace(record, crc32c=crc))
    for size in (19, 21):
        assert not place.intact(where, replace(record, size=size))
    assert not place.intact(where, replace(record, key="gone"))
    for end in range(1, 15):  # one that ends with the checksum of the rest, as compressed chunks do
        body = bytes(range(end))
        where.write("closed", [body, checksum(body).to_bytes(4, "little")])
        assert place.intact(where, place.Record("closed", end + 4, checksum(body)))
        assert not place.intact(where, place.Record("closed", end + 4, checksum(body) ^ 1))


def test_spectra_that_are_not_in_memory_are_shared_unread(tmp_path, read):
    path, ds = tmp_path / "store", built()
    ds.save(path)
    lazy = SpectroDataset.load(path)
    read.clear()
    lazy.save(path)
    assert not [name for name in read if "/spectra/c" in name]


def test_folders_that_are_called_like_versions_stay_and_count_for_nothing(tmp_path):
    path, ds = tmp_path / "store", built(20, 10)
    ds.save(path)
    mine = [path / name for name in ("20261124/measured.csv", "20261125/tables/measured.parquet", "000007/notes.txt")]
    for file in mine:
        file.parent.mkdir(parents=True)
        file.write_text("kept")
    left = path / "000002"  # of a save that was killed
    (left / "tables").mkdir(parents=True)
    (left / "tables/index.1.parquet").write_text("half")
    (left / "features.zarr/nir/spectra/c/0/0").mkdir(parents=True)
    (path / "000005").mkdir()  # killed at once
    assert ds.save(path) == 3
    assert SpectroDataset.vacuum(path) > 0
    assert all(file.read_text() == "kept" for file in mine)
    assert not left.exists() and not (path / "000005").exists() and not (path / "000001").exists()
    assert [ds.save(path) for _ in range(4)] == [4, 5, 6, 8]
    SpectroDataset.verify(path)


@pytest.mark.parametrize("format", ["zarr", "npy"])
def test_no_store_is_saved_inside_another(tmp_path, format):
    ds = built(20, 10)
    ds.save(tmp_path / "store", format=format)
    before = sorted(tmp_path.rglob("*"))
    for inside in ("000001", "000001/mine", "notes/mine"):
        with pytest.raises(StoreError, match="is inside the store"):
            ds.save(tmp_path / "store" / inside)
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "manifest.json").write_text('{"name": "of something else"}')
    ds.save(tmp_path / "beside")


def grown(path, count):
    """Save a source that has grown to `count` processings, each in a file of its own."""
    ds = built(20, 10)
    ds.save(path, compression=None)
    for k in range(1, count):
        ds.update_x({"nir": ds.x({"source": "nir", "processing": "raw"})[0] + k}, range(20), f"p{k}")
        if k < 3 or k == count - 1:
            ds.save(path, compression=None)
    return ds


def test_every_file_of_a_grown_source_is_mapped_and_looked_at(tmp_path):
    path = tmp_path / "store"
    ds = grown(path, 8)
    one = SpectroDataset.load(path)
    for k in range(1, 8):
        (x,) = one.x({"source": "nir", "processing": f"p{k}"}, copy=False)
        np.testing.assert_array_equal(x, ds.x({"source": "nir", "processing": f"p{k}"})[0])
        assert not x.flags.writeable
    last = sorted(path.iterdir())[-2] / "features.zarr/nir/spectra/c/0"
    assert len(list(last.iterdir())) == 8
    for file in sorted(last.rglob("*")):
        if file.is_file():
            whole = file.read_bytes()
            for damaged, said in ((whole[:-1], "bytes instead of"), (whole[:-1] + b"?", "damaged"), (None, "missing")):
                file.unlink()
                if damaged is not None:
                    file.write_bytes(damaged)
                with pytest.raises(StoreError, match=f"{re.escape(str(file))}.*{said}"):
                    SpectroDataset.load(path)
                file.write_bytes(whole)
    SpectroDataset.verify(path, version=-1)


def test_a_file_more_costs_few_calls_to_open(tmp_path):
    calls = []
    for count in (10, 40):
        grown(tmp_path / str(count), count)
        SpectroDataset.load(tmp_path / str(count))
        profile = cProfile.Profile()
        profile.runcall(SpectroDataset.load, tmp_path / str(count))
        calls.append(pstats.Stats(profile).total_calls)
    assert (calls[1] - calls[0]) / 30 < 170  # numpy.memmap and the index of each file by itself took 210


@pytest.mark.parametrize(
    ("path", "options", "error", "said"),
    [
        ("s", {"chunks": 5}, TypeError, "chunks is a dict of sizes"),
        ("s", {"compression": ["zstd"]}, TypeError, "compression is one of 'zstd'"),
        ("s", {"compression": False}, TypeError, "or None, not False"),
        ("", {}, ValueError, "the path is empty"),
        (b"s", {}, TypeError, "a path is text"),
        ("s4://b/x", {}, ValueError, "unknown kind of URL in 's4://b/x': 's4'. Did you mean 's3'"),
    ],
)
def test_options_that_make_no_sense_are_named(tmp_path, monkeypatch, path, options, error, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=re.escape(said)):
        built(20, 10).save(path, **options)
    assert not [*tmp_path.iterdir()]


def test_a_copied_store_knows_the_versions_it_was_copied_with(tmp_path):
    ds = built(20, 10)
    assert [ds.save(tmp_path / "a") for _ in range(2)] == [1, 2]
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    mine, theirs = SpectroDataset.load(tmp_path / "a"), SpectroDataset.load(tmp_path / "b")
    old = SpectroDataset.load(tmp_path / "a", version=1)
    assert theirs.save(tmp_path / "b") == 3
    for late, number in ((mine, 2), (old, 1)):
        with pytest.raises(ConflictError, match=f"has version 3 now; this dataset comes from version {number}"):
            late.save(tmp_path / "b")
    assert mine.save(tmp_path / "b", overwrite=True) == 4
    assert SpectroDataset.load(tmp_path / "a").save(tmp_path / "c") == 1  # nothing there to come from
    SpectroDataset.verify(tmp_path / "b")


def test_a_dataset_from_elsewhere_becomes_the_next_version_and_nothing_is_lost(tmp_path):
    first, second = built(20, 10), built(30, 10)
    first.save(tmp_path / "a")
    second.save("memory://elsewhere")
    assert SpectroDataset.load("memory://elsewhere").save(tmp_path / "a") == 2
    assert [len(SpectroDataset.load(tmp_path / "a", version=k)) for k in (1, 2)] == [20, 30]
