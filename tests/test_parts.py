"""Tables in parts: what is appended is written alone, what is large is read when it is asked for."""

import pickle

import numpy as np
import polars as pl
import pytest

from spectroxr import SpectroDataset, StoreError, UnknownNameError
from spectroxr import storedtables as tables
from spectroxr.later import Late, Later
from spectroxr.parts import MOST, Part, joined, split, split_lines


def made(samples=6, processings=("raw",)):
    ds = SpectroDataset()
    ds.add_features({"nir": np.random.default_rng(0).random((samples, 5)).astype("f4")})
    for name in processings[1:]:
        ds.update_x({"nir": np.zeros((samples, 5), "f4")}, range(samples), name)
    return ds


def test_split_keeps_what_was_there():
    table = pl.DataFrame({"sample": np.arange(10)})
    parts = [part for part, _ in split(table.head(4), [])]
    assert [part.lines for part in parts] == [4]
    grown = split(table, parts)
    assert [(part.number, part.lines) for part, _ in grown] == [(0, 4), (1, 6)]
    assert joined([lines for _, lines in grown], [part for part, _ in grown], None).equals(table)
    assert [part.lines for part, _ in split(table.head(3), parts)] == [3]


def test_parts_do_not_become_many():
    parts, table = [], pl.DataFrame({"sample": np.arange(500)})
    for count in range(1, 500):
        parts = [part for part, _ in split(table.head(count), parts)]
        assert len(parts) <= MOST
        assert sum(part.lines for part in parts) == count
        numbers = [part.number for part in parts]
        assert numbers == sorted(set(numbers))


def test_categories_stay_in_one_file():
    table = pl.DataFrame({"variety": pl.Series(["a", "b", "c"], dtype=pl.Enum(["a", "b", "c"]))})
    assert len(split(table, [Part(0, 2)])) == 1


STEPS = {
    "rows": lambda ds: ds.add_features({"nir": np.ones((2, 5), "f4")}),
    "processing": lambda ds: ds.update_x({"nir": np.ones((len(ds), 5), "f4")}, range(len(ds)), "snv"),
    "some": lambda ds: ds.update_x({"nir": np.ones((2, 5), "f4")}, [1, 3], "msc"),
    "the rest": lambda ds: ds.update_x({"nir": np.ones((1, 5), "f4")}, [0], "msc"),
    "both": lambda ds: (STEPS["rows"](ds), ds.update_x({"nir": np.ones((len(ds), 5), "f4")}, range(len(ds)), "d1")),
    "labels": lambda ds: ds.update_indexes([0], {"partition": "test"}),
}


@pytest.mark.parametrize("steps", [["rows"], ["processing"], ["processing", "rows"], ["rows", "processing", "rows"],
    ["some", "rows", "the rest"], ["both", "both"], ["processing", "labels", "rows"], ["rows"] * 6])  # fmt: skip
def test_an_index_in_parts_is_the_index(steps):
    ds = made()
    parts = [part for part, _ in split_lines(ds.features.index_df, [])]
    for step in steps:
        before = parts
        STEPS[step](ds)
        table = ds.features.index.table
        found = split_lines(table, before)
        parts = [part for part, _ in found]
        assert joined([lines for _, lines in found], parts, ds.features.index.processings).equals(table)
        if step in ("rows", "processing") and len(found) > 1:
            assert [part for part in parts if part in before] == before


@pytest.fixture
def small(monkeypatch):
    """Part and postpone tables of any size."""
    monkeypatch.setattr(tables, "WHOLE_BYTES", 0)
    monkeypatch.setattr(tables, "LATE_BYTES", 0)


def stores(tmp_path):
    pytest.importorskip("obstore")
    return [tmp_path / "a", f"memory://{tmp_path.name}/a"]


def test_what_is_appended_is_written_alone(tmp_path, small):
    for path in stores(tmp_path):
        ds = made()
        for k in range(5):
            ds.add_prediction(np.arange(6.0) + k, {"model": f"m{k}"})
            ds.save(path)
        files = [name for name in ds.origins.popitem()[1].files if "predictions" in name]
        assert len(files) == 5
        loaded = SpectroDataset.load(path)
        assert loaded.predictions.table.equals(ds.predictions.table)
        SpectroDataset.verify(path)


@pytest.mark.parametrize("steps", [["rows"], ["processing", "rows"], ["some", "rows", "the rest"], ["rows"] * 6])
def test_a_store_in_parts_loads_the_same(tmp_path, small, steps):
    for path in stores(tmp_path):
        ds = made()
        ds.add_targets(pl.DataFrame({"protein": np.arange(6.0)}))
        ds.save(path)
        for step in steps:
            STEPS[step](ds)
            ds.update_y(np.arange(float(len(ds))), range(len(ds)), f"v{len(ds)}")
            ds.save(path)
            loaded = SpectroDataset.load(path)
            assert loaded.features.index_df.equals(ds.features.index_df)
            assert loaded.targets.table.equals(ds.targets.table)
            for name in ds.features.index.processings:
                np.testing.assert_array_equal(loaded.x({"processing": name})[0], ds.x({"processing": name})[0])
        SpectroDataset.verify(path)


def full():
    ds = made()
    ds.add_targets(pl.DataFrame({"protein": np.arange(6.0)}), pl.DataFrame({"variety": list("aabbcc")}))
    ds.add_prediction(np.arange(6.0), {"model": "m"})
    ds.set_folds([([0, 1], [2, 3])])
    return ds


def same(one, other):
    assert one.features.index_df.equals(other.features.index_df)
    assert one.targets.table.equals(other.targets.table)
    assert one.metadata.table.equals(other.metadata.table)
    assert one.predictions.table.equals(other.predictions.table)
    assert one.folds.folds == other.folds.folds


def unread(ds):
    return [block.unread is not None for block in (ds.targets, ds.metadata, ds.predictions, ds.folds)]


def test_large_tables_are_read_when_asked_for(tmp_path, small):
    for path in stores(tmp_path):
        full().save(path)
        ds = SpectroDataset.load(path)
        assert unread(ds) == [True] * 4
        ds.y(target="protein")
        assert not unread(ds)[0]
        assert unread(ds)[2:] == [True, True]
        same(ds, full())
        assert unread(ds) == [False] * 4


def test_what_nobody_read_is_saved_unread(tmp_path, small):
    for path in stores(tmp_path):
        full().save(path)
        ds = SpectroDataset.load(path)
        ds.update_x({"nir": np.ones((6, 5), "f4")}, range(6), "snv")
        ds.save(path)
        assert unread(ds) == [True] * 4
        SpectroDataset.vacuum(path)
        SpectroDataset.verify(path)
        want = full()
        want.update_x({"nir": np.ones((6, 5), "f4")}, range(6), "snv")
        same(SpectroDataset.load(path), want)
        same(ds, want)


def test_what_nobody_read_is_saved_elsewhere(tmp_path, small):
    for path in stores(tmp_path):
        full().save(path)
        ds = SpectroDataset.load(path)
        ds.save(tmp_path / "b")
        same(SpectroDataset.load(tmp_path / "b"), full())
        ds = SpectroDataset.load(path)
        ds.save(tmp_path / "c", format="npy")
        same(SpectroDataset.load(tmp_path / "c"), full())
        same(pickle.loads(pickle.dumps(SpectroDataset.load(path))), full())


def test_an_old_version_that_nobody_read_is_saved(tmp_path, small):
    for path in stores(tmp_path):
        full().save(path)
        other = full()
        other.add_prediction(np.arange(6.0), {"model": "n"})
        other.set_folds([([0], [1])])
        other.save(path, overwrite=True)
        SpectroDataset.load(path, version=1).save(path, overwrite=True)
        SpectroDataset.vacuum(path)
        SpectroDataset.verify(path)
        same(SpectroDataset.load(path), full())


@pytest.mark.parametrize("name", ["index", "targets", "metadata", "predictions", "holes"])
def test_a_damaged_table_is_named_when_it_is_read(tmp_path, small, name):
    full().save(tmp_path / "a")
    file = tmp_path / f"a/000001/tables/{name}.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 255
    file.write_bytes(data)
    ds = SpectroDataset.load(tmp_path / "a")
    for _ in range(2):
        with pytest.raises(StoreError, match=f"{name}.parquet is damaged"):
            same(ds, full())
    file.write_bytes(data[:-1])
    with pytest.raises(StoreError, match=f"{name}.parquet has"):
        SpectroDataset.load(tmp_path / "a")
    file.unlink()
    with pytest.raises(StoreError, match=f"{name}.parquet is missing"):
        SpectroDataset.load(tmp_path / "a")


def test_a_value_is_read_once_and_tried_again():
    read = []

    def value():
        read.append(1)
        if len(read) < 2:
            raise OSError("not now")
        return 7

    class Owner:
        kept: Late[int] = Late()

    owner = Owner()
    owner.kept = Later(value).then(lambda number: number + 1)
    with pytest.raises(OSError, match="not now"):
        owner.kept  # noqa: B018
    assert (owner.kept, owner.kept) == (8, 8)
    assert len(read) == 2
    owner.kept = 1
    assert owner.kept == 1


def test_spectra_are_read_without_tables_that_they_do_not_need(tmp_path, small):
    for path in stores(tmp_path):
        full().save(path)
        ds = SpectroDataset.load(path)
        assert repr(ds).count("in the store, not read yet") == 4
        for filter in (None, {"sample": [0, 1], "wavelength": slice(0, 2)}, pl.col("sample") < 3, {"source": "nir"}):
            ds.x(filter)
        assert unread(ds) == [True] * 4
        ds.x({"variety": "a"})
        assert unread(ds)[1] is False
        with pytest.raises(UnknownNameError, match="variety"):
            ds.x({"varietty": "a"})
        assert "Predictions" in repr(ds)


def test_appended_targets_are_written_alone(tmp_path, small):
    path = tmp_path / "a"
    ds = made(40)
    ds.add_targets(pl.DataFrame({"protein": np.arange(30.0), "sample": np.arange(30, dtype="u4")}))
    ds.update_y(np.arange(30.0), range(30), "scaled")
    ds.save(path)
    ds.add_targets(pl.DataFrame({"protein": np.arange(10.0), "sample": np.arange(30, 40, dtype="u4")}))
    ds.save(path)
    one, two = (path / f"00000{k}/tables/targets.parquet" for k in (1, 2))
    assert one.samefile(two)
    assert pl.read_parquet(path / "000002/tables/targets.1.parquet").height == 10
    assert SpectroDataset.load(path).targets.table.equals(ds.targets.table)
    ds.update_y(np.arange(30.0), range(30), "other")
    ds.update_y(np.zeros(1), [3], "scaled")
    ds.save(path)
    assert SpectroDataset.load(path).targets.table.equals(ds.targets.table)
    assert SpectroDataset.load(path).targets.versions == ds.targets.versions


def test_rows_of_one_processing_leave_the_chunks_of_others(tmp_path):
    path = tmp_path / "a"
    ds = made(6, ("raw", "snv"))
    ds.save(path, chunks={"row": 4})
    ds.add_features({"nir": np.ones((2, 5), "f4")})
    ds.save(path)
    chunk = "features.zarr/nir/spectra/c/1/{}/0"
    assert not (path / "000001" / chunk.format(0)).samefile(path / "000002" / chunk.format(0))
    assert (path / "000001" / chunk.format(1)).samefile(path / "000002" / chunk.format(1))


def test_an_index_in_a_bucket_is_one_object(tmp_path, small):
    pytest.importorskip("obstore")
    path = f"memory://{tmp_path.name}/b"
    ds = made()
    for step in ("rows", "processing", "rows"):
        STEPS[step](ds)
        ds.save(path)
    files = ds.origins.popitem()[1].files
    assert [name for name in files if "index" in name] == ["tables/index.parquet"]
    assert SpectroDataset.load(path).features.index_df.equals(ds.features.index_df)
