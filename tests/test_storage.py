import datetime as dt
import decimal
import json
import math
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import spectroxr
from spectroxr import (
    chunks,
    localplace,
    manifest,
    npystore,
    rawshard,
    sidetables,
    storage,
    storedtables,
    writespectra,
    zarrgroup,
    zarrstore,
)
from spectroxr import generation as writing
from spectroxr.errors import StoreError
from spectroxr.schema import INDEX_SCHEMA
from spectroxr.snapshot import Snapshot, SourceSnapshot
from spectroxr.storage import write_store

HOLES = {"sample": pl.UInt32, "processing": pl.String, "source": pl.String}
KINDS = [("zarr", None), ("zarr", "zstd"), ("zarr", "lz4"), ("zarr", "zlib"), ("npy", "zstd")]
NONE = 4294967295


def read_store(path, **options):
    """Read a store, its spectra too."""
    snapshot, _ = storage.read_store(path, **options)
    sources = []
    for source in snapshot.sources:
        planes = tuple(p if isinstance(p, np.ndarray) else p[:] for p in source.planes)
        sources.append(replace(source, planes=planes))
    return replace(snapshot, sources=tuple(sources))


def index_of(rows, processings=("raw",)):
    n, p = rows, len(processings)
    return pl.DataFrame(
        {
            "row": np.repeat(np.arange(n), p),
            "sample": np.repeat(np.arange(n), p),
            "origin": np.repeat(np.arange(n), p),
            "partition": [("train", None, "tést")[k % 3] for k in range(n) for _ in range(p)],
            "group": [(7, None)[k % 2] for k in range(n) for _ in range(p)],
            "branch": [0] * (n * p),
            "processing": list(processings) * n,
        },
        schema=INDEX_SCHEMA,
    )


def source_of(name, rows, processings=("raw",), width=5, dtype="f4", seed=0, **rest):
    rng = np.random.default_rng(seed)
    planes = tuple(rng.random((rows, width)).astype(dtype) for _ in processings)
    wavelength = np.linspace(2500, 400, width) if width > 1 else np.array([3])
    attrs = {"units": "nm", "quantity": "absorbance"}
    return SourceSnapshot(name, planes, tuple(processings), wavelength, **{"attrs": attrs, **rest})


def snapshot_of(*sources, index=None, **rest):
    index = index_of(len(sources[0].planes[0]), sources[0].processings) if index is None else index
    tables = {"targets": pl.DataFrame(), "metadata": pl.DataFrame(), "predictions": pl.DataFrame()}
    documents = {"folds": [], "lineage": {}, "state": {}}
    parts = {"holes": pl.DataFrame(schema=HOLES), "tables": tables, "documents": documents, **rest}
    return Snapshot(sources, index, **parts)


def full():
    names = ("raw", "snv·é", "d1")
    nir = source_of("nir", 7, names, 11, attrs={"units": "nm", "quantity": "absorbance", "n": [1, {"a": None}]})
    raman = source_of("raman", 7, names, 6, "f8", 1, attrs={"units": "cm-1", "laser_nm": 785.1})
    merged = source_of("both", 7, ("raw",), 4, seed=2, segments=("nir", "nir", "raman", "nir"))
    return snapshot_of(
        nir,
        raman,
        merged,
        holes=pl.DataFrame(
            {"sample": [*range(7)] * 2, "processing": [names[1]] * 7 + ["d1"] * 7, "source": ["both"] * 14},
            schema=HOLES,
        ),
        tables={
            "targets": pl.DataFrame({"sample": [1, 2], "protein": [1.5, None], "processing": ["raw"] * 2}),
            "metadata": pl.DataFrame({"sample": [0], "id": ["x\n☃"]}),
            "predictions": pl.DataFrame(
                {"sample": [0], "model": ["PLS"], "processing": ["raw"], "preds": [[1.0, 2.0]]},
                schema_overrides={"preds": pl.Array(float, 2)},
            ),
        },
        documents={
            "folds": [{"train": [0], "val": [1]}],
            "lineage": {"é": 2**70, "x": 0.1},
            "state": {
                "processings": list(names),
                "rows": 7,
                "targets": {"versions": [["raw", [["protein", "protein"]]]], "written": [["raw", "protein", 1]]},
            },
        },
    )


def other_documents(lineage=2):
    return {**full().documents, "folds": [{"train": [2, 3], "val": [0, 6]}], "lineage": lineage}


def assert_same(a, b):
    assert [s.name for s in a.sources] == [s.name for s in b.sources]
    for s, t in zip(a.sources, b.sources, strict=True):
        assert s.processings == t.processings and s.attrs == t.attrs and s.segments == t.segments
        assert s.wavelength.dtype == t.wavelength.dtype
        np.testing.assert_array_equal(s.wavelength, t.wavelength)
        for p, q in zip(s.planes, t.planes, strict=True):
            assert p.dtype == q.dtype and type(q) is np.ndarray
            np.testing.assert_array_equal(p, q)
    for name in ("index", "holes"):
        assert getattr(a, name).schema == getattr(b, name).schema
        assert getattr(a, name).equals(getattr(b, name))
    assert list(a.tables) == list(b.tables)
    for name, table in a.tables.items():
        assert table.schema == b.tables[name].schema and table.shape == b.tables[name].shape
        assert table.equals(b.tables[name])
    assert json.dumps(a.documents) == json.dumps(b.documents)


def map_of(array):
    while isinstance(array, np.ndarray):
        array = array.base
    return array


def generation(path):
    return path / json.loads((path / "manifest.json").read_text())["generation"]


def tree(path):
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


@pytest.fixture(params=KINDS, ids=str)
def kind(request):
    return {"format": request.param[0], "compression": request.param[1]}


# Round trips


def test_everything_comes_back(tmp_path, kind):
    path = tmp_path / "été [1] x.spectro"
    write_store(path, full(), **kind)
    assert_same(full(), read_store(path))
    assert_same(full(), read_store(str(path), verify=True))
    write_store(path, read_store(path), **kind)
    assert_same(full(), read_store(path, verify=True))


@pytest.mark.parametrize("rows", [0, 1, 3, 1000])
@pytest.mark.parametrize("width", [1, 700])
@pytest.mark.parametrize("processings", [("raw",), ("raw", "a", "b")])
def test_shapes(tmp_path, kind, rows, width, processings):
    snapshot = snapshot_of(source_of("nir", rows, processings, width))
    write_store(tmp_path / "a", snapshot, **kind)
    assert_same(snapshot, read_store(tmp_path / "a", verify=True))


@pytest.mark.parametrize("rows", [1, 7, 11, 64])
@pytest.mark.parametrize("count", [1, 2])
def test_chunks_that_do_not_divide_the_rows(tmp_path, monkeypatch, rows, count):
    import zarr

    monkeypatch.setattr(rawshard, "_INNER_BYTES", 60 * count)
    monkeypatch.setattr(rawshard, "_BLOCK_BYTES", 100)
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 60)
    monkeypatch.setattr(chunks, "LEAST_ROWS", 1)
    snapshot = snapshot_of(source_of("nir", rows, ("raw", "b")[:count]))
    for compression in (None, "zstd"):
        path = tmp_path / str(compression)
        write_store(path, snapshot, compression=compression)
        assert_same(snapshot, read_store(path, verify=True))
        array = zarr.open_array(generation(path) / "features.zarr/nir/spectra", mode="r")
        np.testing.assert_array_equal(array[:], np.stack(snapshot.sources[0].planes, 1))
        np.testing.assert_array_equal(array[rows - 1], np.stack(snapshot.sources[0].planes, 1)[-1])


def test_no_wavelengths_and_no_sources(tmp_path, kind):
    empty = source_of("nir", 3, width=2)
    empty = replace(empty, planes=(empty.planes[0][:, :0],), wavelength=np.empty(0))
    snapshot = snapshot_of(empty)
    write_store(tmp_path / "a", snapshot, **kind)
    assert_same(snapshot, read_store(tmp_path / "a", verify=True))
    snapshot = replace(snapshot_of(empty), sources=(), index=index_of(0))
    if kind["format"] == "zarr":
        write_store(tmp_path / "b", snapshot, **kind)
        assert_same(snapshot, read_store(tmp_path / "b", verify=True))


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "u2", "i1"])
def test_wavelength_types(tmp_path, kind, dtype):
    source = replace(source_of("nir", 2), wavelength=np.array([5, 4, 9, 1, 0], dtype))
    write_store(tmp_path / "a", snapshot_of(source), **kind)
    assert_same(snapshot_of(source), read_store(tmp_path / "a"))


def test_planes_of_any_strides(tmp_path, kind):
    base = np.random.default_rng(0).random((9, 4, 6)).astype("f4")
    planes = (base[::-1, 1], base[:, 3], np.asfortranarray(base[:, 0]), base.astype(">f4")[:, 2].astype("f4"))
    broadcast = np.broadcast_to(base[:1, 0], (9, 6))
    source = replace(source_of("nir", 9, "abcde", 6), planes=(*planes, broadcast))
    write_store(tmp_path / "a", snapshot_of(source), **kind)
    assert_same(snapshot_of(source), read_store(tmp_path / "a"))


def test_values_come_back_bit_by_bit(tmp_path, kind):
    values = np.array([[np.nan, -0.0, np.inf, 1e-45, 0.0]], "f4")
    values = np.concatenate([values, np.zeros((3, 5), "f4")])
    source = replace(source_of("nir", 4), planes=(values,))
    write_store(tmp_path / "a", snapshot_of(source), **kind)
    assert read_store(tmp_path / "a").sources[0].planes[0].tobytes() == values.tobytes()


NAMES = ["nir", "NIR", "Nir", "a b", "é☃", "..", ".", ".hid", "a\\b", "zarr.json", "__x", "%41", "c", "nir%7E2"]
NAMES += ["x" * 250, "y" * 250, "é" * 120, "row", "con:", "a\nb", "spectra"]


def test_source_names(tmp_path, kind):
    import xarray as xr

    snapshot = snapshot_of(*(source_of(name, 2, seed=n) for n, name in enumerate(reversed(NAMES))))
    write_store(tmp_path / "a", snapshot, **kind)
    assert_same(snapshot, read_store(tmp_path / "a", verify=True))
    if kind["format"] == "zarr":
        with xr.open_datatree(generation(tmp_path / "a") / "features.zarr", engine="zarr") as opened:
            assert opened.attrs["sources"] == list(reversed(NAMES))
            assert list(opened) == opened.attrs["groups"]
            for source, folder in zip(snapshot.sources, opened.attrs["groups"], strict=True):
                assert opened[folder].attrs["source"] == source.name
                np.testing.assert_array_equal(opened[folder].spectra[:, 0], source.planes[0])
            assert len({g.casefold() for g in opened.attrs["groups"]}) == len(NAMES)


DTYPES = [
    pl.DataFrame(),
    pl.DataFrame({"a": []}, schema={"a": pl.Null}),
    pl.DataFrame(schema={"a": pl.Array(pl.Float32, 3), "b": pl.Enum(["x"])}),
    pl.DataFrame({"a": [None, None]}),
    pl.DataFrame({"s": [{"a": 1, "b": [1, 2]}, None]}),
    pl.DataFrame({"c": ["a", None, "b", ""]}, schema={"c": pl.Categorical}),
    pl.DataFrame({"c": ["a", None, "b"]}, schema={"c": pl.Enum(["b", "a", "z"])}),
    pl.DataFrame({"c": [[1.0, 2.0], [3, 4], None]}, schema={"c": pl.Array(pl.Float32, 2)}),
    pl.DataFrame({"c": [[[1.0, 2.0]], [[3, 4]]]}, schema={"c": pl.Array(pl.Float32, (1, 2))}),
    pl.DataFrame({"c": [["x"], None, []]}, schema={"c": pl.List(pl.Enum(["x"]))}),
    pl.DataFrame({"c": [{"e": [1, 2]}]}, schema={"c": pl.Struct({"e": pl.Array(pl.UInt8, 2)})}),
    pl.DataFrame({"c": [dt.time(1, 2), None], "d": [dt.timedelta(1, 2), None], "e": [dt.date(2020, 1, 2), None]}),
    pl.DataFrame({"c": [dt.datetime(2020, 1, 2), None]}, schema={"c": pl.Datetime("ms", "Europe/Paris")}),
    pl.DataFrame({"c": [dt.datetime(2020, 1, 2), None]}, schema={"c": pl.Datetime("ns")}),
    pl.DataFrame({"c": [decimal.Decimal("1.23"), None]}, schema={"c": pl.Decimal(38, 2)}),
    pl.DataFrame({"c": [2**100, None]}, schema={"c": pl.Int128}),
    pl.DataFrame({"c": [b"a", None], "d": [True, None], "": [float("nan"), None], "é\n": ["", None]}),
    pl.DataFrame({"c": [2**64 - 1, None]}, schema={"c": pl.UInt64}),
]


@pytest.mark.parametrize("table", DTYPES, ids=lambda t: str(t.schema)[:60])
@pytest.mark.parametrize("format", ["zarr", "npy"])
def test_table_types(tmp_path, table, format):
    tables = {"targets": table, "metadata": pl.DataFrame(), "predictions": table}
    snapshot = snapshot_of(source_of("nir", 2), tables=tables)
    write_store(tmp_path / "a", snapshot, format=format)
    assert_same(snapshot, read_store(tmp_path / "a"))


def test_documents(tmp_path, kind):
    documents = {
        "folds": [[1, 2], [2**80, -1]],
        "lineage": {"nan": math.nan, "inf": -math.inf, "é☃\ud800": "\x00\u2028", "": None, "__float__": "nan"},
        "state": [True, 1.0, 1, 0.1, 5e-324, {"a": []}],
    }
    snapshot = snapshot_of(source_of("nir", 2, attrs={"x": math.nan, "e": math.inf}), documents=documents)
    write_store(tmp_path / "a", snapshot, **kind)
    loaded = read_store(tmp_path / "a")
    assert json.dumps(loaded.documents) == json.dumps(documents)
    assert math.isnan(loaded.sources[0].attrs["x"])
    assert [type(v) for v in loaded.documents["state"]] == [bool, float, int, float, float, dict]


# Other readers


def test_plain_xarray(tmp_path):
    code = """
import sys, json, xarray as xr, numpy as np
for folder in sys.argv[1:]:
    tree = xr.open_datatree(folder, engine="zarr")
    assert "spectroxr" not in sys.modules
    assert tree.attrs["sources"] == ["nir", "raman", "both"] == list(tree)
    nir = tree["nir"]
    assert list(nir.data_vars) == ["spectra"], nir
    expected = {"row", "sample", "origin", "group", "partition", "branch", "processing", "wavelength"}
    assert set(nir.coords) == expected
    assert nir.spectra.dims == ("row", "processing", "wavelength")
    assert nir.spectra.attrs == {"quantity": "absorbance", "long_name": "absorbance", "n": [1, {"a": None}]}
    assert nir.wavelength.attrs == {"units": "nm"}
    assert tree["raman"].wavelength.attrs == {"units": "cm-1", "laser_nm": 785.1}
    assert nir.sample.dtype == np.uint32 and nir.group.values.tolist()[1] == 7
    assert nir.partition.values.tolist()[:3] == ["train"] * 3, nir.partition
    assert nir.spectra.sel(processing="d1", wavelength=slice(2500, 400)).shape == (7, 11)
    assert tree["both"].source.values.tolist() == ["nir", "nir", "raman", "nir"]
    assert tree["both"].source.dims == ("wavelength",)
    assert nir.spectra.dtype == "f4" and not np.isnan(nir.spectra.values).any()
    one = xr.open_zarr(folder, group="nir", chunks=None)
    assert "sample" in one.coords and one.equals(nir.to_dataset())
    direct = xr.open_zarr(folder + "/nir", chunks=None)
    assert direct.equals(one)
    repr(tree); tree.load(); tree._repr_html_()
"""
    folders = []
    for compression in (None, "zstd", "lz4"):
        path = tmp_path / str(compression)
        index = full().index.with_columns(partition=pl.lit("train"), group=pl.lit(7, pl.UInt32))
        write_store(path, replace(full(), index=index), compression=compression)
        folders.append(str(generation(path) / "features.zarr"))
    subprocess.run([sys.executable, "-W", "error", "-c", code, *folders], check=True, timeout=120)


def test_plain_zarr_and_polars(tmp_path):
    import zarr

    for compression in (None, "zstd", "lz4", "zlib"):
        path = tmp_path / str(compression)
        write_store(path, full(), compression=compression)
        group = zarr.open_group(generation(path) / "features.zarr", mode="r")
        for source in full().sources:
            array = group[source.name]["spectra"]
            np.testing.assert_array_equal(array[:], np.stack(source.planes, 1))
            assert array.nchunks_initialized == array.nchunks
            np.testing.assert_array_equal(group[source.name]["wavelength"][:], source.wavelength)
        assert pl.read_parquet(generation(path) / "tables/index.parquet").equals(full().index)
        for name, table in full().tables.items():
            assert pl.read_parquet(generation(path) / f"tables/{name}.parquet").equals(table)
        assert json.loads((generation(path) / "folds.json").read_text()) == full().documents["folds"]


def test_raw_file_is_the_array(tmp_path):
    write_store(tmp_path / "a", full(), compression=None)
    file = generation(tmp_path / "a") / "features.zarr/nir/spectra/c/0/0/0"
    expected = np.stack(full().sources[0].planes, 1)
    np.testing.assert_array_equal(np.fromfile(file, "<f4", expected.size).reshape(expected.shape), expected)


def test_row_coordinates_are_the_owners(tmp_path):
    import xarray as xr

    rows = [
        (2, 5, 1, "val", 9, 3, "raw"),
        (2, 4, 0, None, None, 2, "raw"),
        (2, 4, 0, None, None, 2, "b"),
        (0, 0, 0, "train", 1, 0, "raw"),
        (3, 7, 7, "test", 2, 1, "b"),
        (3, 7, 7, "test", 2, 1, "elsewhere"),
    ]
    index = pl.DataFrame(rows, schema=INDEX_SCHEMA, orient="row")
    source = source_of("nir", 5, ("raw", "b"))

    def opened(index):
        write_store(tmp_path / "a", snapshot_of(source, index=index))
        with xr.open_datatree(generation(tmp_path / "a") / "features.zarr", engine="zarr") as found:
            return found["nir"].to_dataset().load()

    nir = opened(index)
    assert nir.row.values.tolist() == [0, 1, 2, 3, 4] and nir.row.dtype == np.uint32
    assert nir.sample.values.tolist() == [0, NONE, 4, 7, NONE]
    assert nir.origin.values.tolist() == [0, NONE, 0, 7, NONE]
    assert nir.group.values.tolist() == [1, NONE, NONE, 2, NONE]
    assert nir.partition.values.tolist() == ["train", "", "", "test", ""]
    assert nir.branch.dims == ("row",) and nir.branch.values.tolist() == [0, NONE, 2, 1, NONE]
    changed = index.with_columns(branch=pl.Series([3, 2, 6, 0, 1, 1], dtype=pl.UInt32))
    nir = opened(changed)
    assert nir.branch.dims == ("row", "processing")
    assert nir.branch.values.tolist() == [[0, NONE], [NONE, NONE], [2, 6], [NONE, 1], [NONE, NONE]]
    assert read_store(tmp_path / "a").index.equals(changed)


def test_attributes_that_xarray_would_decode(tmp_path):
    import xarray as xr

    attrs = {"units": "days since 2000-01-01", "scale_factor": 2, "_FillValue": 0.5, "coordinates": "x", "dtype": "i1"}
    source = source_of("nir", 3, attrs=attrs)
    write_store(tmp_path / "a", snapshot_of(source))
    assert read_store(tmp_path / "a").sources[0].attrs == attrs
    with xr.open_datatree(generation(tmp_path / "a") / "features.zarr", engine="zarr") as found:
        np.testing.assert_array_equal(found["nir"].spectra[:, 0], source.planes[0])
        np.testing.assert_array_equal(found["nir"].wavelength, source.wavelength)


# Mapping


@pytest.mark.parametrize(("format", "compression"), [("zarr", None), ("npy", None)])
def test_planes_share_one_read_only_map(tmp_path, format, compression):
    import mmap

    write_store(tmp_path / "a", full(), format=format, compression=compression)
    nir, raman, _ = read_store(tmp_path / "a").sources
    maps = {id(map_of(plane)) for plane in nir.planes}
    assert len(maps) == 1 and isinstance(map_of(nir.planes[0]), mmap.mmap)
    assert map_of(raman.planes[0]) is not map_of(nir.planes[0])
    step = nir.planes[1].ctypes.data - nir.planes[0].ctypes.data
    assert step == 11 * 4 and nir.planes[0].strides == (3 * 11 * 4, 4)
    assert not nir.planes[0].flags.writeable
    with pytest.raises(ValueError):
        nir.planes[0].flags.writeable = True


@pytest.mark.parametrize("format", ["zarr", "npy"])
def test_saving_over_the_store_that_is_mapped(tmp_path, format):
    path = tmp_path / "a"
    write_store(path, full(), compression=None, format=format)
    first = read_store(path)
    for _ in range(3):
        mapped = read_store(path)
        doubled = tuple(
            replace(s, planes=tuple(p * 2 for p in s.planes[:1]) + s.planes[1:], stored=()) for s in mapped.sources
        )
        write_store(path, replace(mapped, sources=doubled), compression=None, format=format)
    np.testing.assert_array_equal(first.sources[0].planes[0], full().sources[0].planes[0])
    np.testing.assert_array_equal(read_store(path).sources[0].planes[0], full().sources[0].planes[0] * 8)
    assert_same(first, full())
    assert len(list(tmp_path.iterdir())) == 1
    if format == "zarr":
        assert sorted(os.listdir(path)) == ["000001", "000002", "000003", "000004", "manifest.json"]
        storage.vacuum(path)
        assert sorted(os.listdir(path)) == ["000004", "manifest.json"]
        assert_same(first, full())


def test_reading_needs_neither_zarr_nor_xarray(tmp_path):
    write_store(tmp_path / "a", full(), compression=None)
    code = (
        "import sys; from spectroxr.storage import read_store; read_store(sys.argv[1]);"
        "assert not {'zarr', 'xarray', 'numcodecs'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code, tmp_path / "a"], check=True, timeout=60)


# Damage


def flip(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


@pytest.mark.long
def test_damage_of_every_file_is_named(tmp_path, kind):
    path = tmp_path / "a"
    write_store(path, full(), **kind)
    files = [file for file in path.rglob("*") if file.is_file()]
    assert len(files) > 10
    for file in files:
        whole = file.read_bytes()
        damages = {"flip": flip(whole), "cut": whole[:-1], "empty": b"", "longer": whole + b"x", "gone": None}
        damages |= {"first": flip(whole[:1]) + whole[1:], "last": whole[:-1] + flip(whole[-1:])}
        for name, data in damages.items():
            file.unlink()
            if data is not None:
                file.write_bytes(data)
            spectra = "spectra" in file.parts and file.name == "0"
            mapped = file.suffix == ".npy" or (spectra and kind["compression"] is None)
            mirror = "features.zarr" in file.parts and not spectra  # for other readers, not read by ours
            expected = str(file)
            if name == "gone" and file.name == "manifest.json":
                expected = "not a spectroxr store"
            for verify in (False, True):
                if not verify and mapped and name in ("flip", "first", "last"):
                    continue
                if not verify and mirror:
                    assert_same(full(), read_store(path))
                    continue
                with pytest.raises(StoreError) as caught:
                    read_store(path, verify=verify)
                assert expected in str(caught.value), (file, name)
            file.write_bytes(whole)
    assert_same(full(), read_store(path, verify=True))


def test_damaged_index_of_the_raw_shard_is_seen_at_once(tmp_path):
    write_store(tmp_path / "a", full(), compression=None)
    file = generation(tmp_path / "a") / "features.zarr/raman/spectra/c/0/0/0"
    data = file.read_bytes()
    for position in (-1, -4, -5, -20):
        bad = bytearray(data)
        bad[position] ^= 1
        file.write_bytes(bad)
        with pytest.raises(StoreError, match="index at its end") as caught:
            read_store(tmp_path / "a")
        assert str(file) in str(caught.value)


def rewrite(path, name, **changes):
    file = path / name
    content = manifest.unseal(file)
    for key in ("format", "format_version", "package_version"):
        content.pop(key)
    file.write_bytes(manifest.seal({**content, **changes}))


@pytest.mark.parametrize(("format", "name"), [("zarr", "manifest.json"), ("npy", "features.json")])
def test_newer_version_and_foreign_manifests(tmp_path, format, name):
    path = tmp_path / "a"
    write_store(path, full(), format=format)
    text = (path / name).read_text()
    before = tree(path)

    def refused(content, message):
        (path / name).write_text(content)
        with pytest.raises(StoreError, match=message) as caught:
            read_store(path)
        assert name in str(caught.value)
        with pytest.raises(StoreError, match=message):
            write_store(path, full(), format=format)
        (path / name).write_text(text)
        assert tree(path) == before

    refused(re.sub('"format_version": [123]', '"format_version": 4', text), "newer spectroxr.*update")
    refused('{"format": "other"}', "not the manifest of a spectroxr store")
    refused("[]", "not the manifest of a spectroxr store")
    refused("{", "not readable as JSON")
    refused(text.replace('"package_version": "', '"package_version": "1', 1), "damaged")


def test_index_that_does_not_fit_the_arrays(tmp_path, monkeypatch):
    path = tmp_path / "a"
    other = sidetables.as_parquet(index_of(4).with_columns(pl.col("row") + 1))
    original = storedtables.as_parquet
    with monkeypatch.context() as patch:
        patch.setattr(storedtables, "as_parquet", lambda t, quick=False: other if quick else original(t))
        write_store(path, snapshot_of(source_of("nir", 4)))
    with pytest.raises(StoreError, match=r"index refers to row 4, but the spectra have 4 rows"):
        read_store(path)
    with pytest.raises(StoreError, match=r"version 1 of .*index refers to row 4"):
        storage.verify(path)


def test_nothing_and_not_ours(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        read_store(tmp_path / "missing")
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    for name in ("file", "empty", "other"):
        with pytest.raises(StoreError, match=f"{name} is not a spectroxr store"):
            read_store(tmp_path / name)
    for format in ("zarr", "npy"):
        with pytest.raises(FileExistsError, match="is a file"):
            write_store(tmp_path / "file", full(), format=format)
        with pytest.raises(StoreError, match="other holds something else"):
            write_store(tmp_path / "other", full(), format=format)
    assert tree(tmp_path) == {"file": b"x", "other/notes.txt": b"mine"}
    write_store(tmp_path / "empty", full())
    assert_same(full(), read_store(tmp_path / "empty"))


def test_overwrite_and_formats(tmp_path):
    for format, other in (("zarr", "npy"), ("npy", "zarr")):
        path = tmp_path / format
        write_store(path, full(), format=format)
        before = tree(tmp_path)
        with pytest.raises(StoreError, match=f"is a store of format '{format}'"):
            write_store(path, full(), format=other)
        assert tree(tmp_path) == before


def test_options():
    with pytest.raises(ValueError, match="'zstd', 'lz4', 'zlib' or None"):
        write_store("x", full(), compression="gzip")
    with pytest.raises(ValueError, match="'zarr', 'npy'"):
        write_store("x", full(), format="hdf5")


def str_or_empty(value):
    return value if isinstance(value, str) else ""


def bad_snapshots():
    good = full()
    nir = good.sources[0]
    object_table = pl.DataFrame({"a": [1], "thing": [object()]}, schema_overrides={"thing": pl.Object})
    yield "thing.*Object", replace(good, tables={**good.tables, "metadata": object_table})
    nested = pl.DataFrame({"s": [{}]}, schema={"s": pl.Struct([])})
    yield "no fields", replace(good, tables={**good.tables, "metadata": nested})
    yield "keys must be text", replace(good, documents={**good.documents, "state": [{1: 2}]})
    yield "set", replace(good, documents={**good.documents, "state": {"a": {1}}})
    yield "int64", replace(good, documents={**good.documents, "state": [np.int64(1)]})
    yield "documents must be", replace(good, documents={})
    yield "tables must be", replace(good, tables={**good.tables, "more": pl.DataFrame()})
    yield "same name", replace(good, sources=(nir, nir))
    yield "must have a name", replace(good, sources=(replace(nir, name=""),))
    yield "must have planes", replace(good, sources=(replace(nir, planes=(), processings=()),))
    yield "float32", replace(good, sources=(replace(nir, planes=tuple(p.astype(int) for p in nir.planes)),))
    yield "shapes", replace(good, sources=(replace(nir, planes=(*nir.planes[:2], nir.planes[2][1:])),))
    yield "3 planes", replace(good, sources=(replace(nir, processings=("a", "b", "a")),))
    yield "segments", replace(good, sources=(replace(nir, segments=("a",)),))
    yield "wavelength", replace(good, sources=(replace(nir, wavelength=np.array(list("abcdefghijk"))),))
    yield "numbers of rows", replace(good, sources=(nir, source_of("x", 6)))
    yield "row 6", replace(good, sources=(source_of("x", 6),))
    yield "index must have", replace(good, index=good.index.drop("branch"))


@pytest.mark.parametrize(("message", "snapshot"), list(bad_snapshots()), ids=str_or_empty)
def test_bad_snapshots_are_refused_before_anything_is_written(tmp_path, kind, message, snapshot):
    with pytest.raises(StoreError, match=message):
        write_store(tmp_path / "a" / "b", snapshot, **kind)
    assert not list(tmp_path.iterdir())


# Interruptions


BREAKS = [
    (zarrstore, "write_spectra", None),
    (zarrstore, "write_spectra", "zstd"),
    (zarrstore, "write_tables", "zstd"),
    (zarrstore, "group_files", None),
    (zarrgroup, "_consolidate", "lz4"),
    (writespectra, "checksum", None),
    (writing, "checksum", "zstd"),
    (writing, "encode", "zstd"),
    (storedtables, "encode_json", "zstd"),
    (localplace, "sync", None),
    (os, "replace", "zstd"),
    (os, "fsync", "zstd"),
]


# Zarr replaces files in a thread of its own, which no KeyboardInterrupt ever reaches.
INTERRUPTED = [(*parts, KeyboardInterrupt()) for parts in BREAKS if parts[0] is not os]


@pytest.mark.parametrize(
    ("module", "name", "compression", "error"), [(*parts, OSError("disk full")) for parts in BREAKS] + INTERRUPTED
)
@pytest.mark.long
@pytest.mark.parametrize("after", [False, True])
def test_exception_while_writing_keeps_the_old_version(tmp_path, monkeypatch, module, name, compression, error, after):
    write_store(tmp_path / "old", full(), compression=compression)
    before = tree(tmp_path)
    changed = replace(full(), documents=other_documents())
    changed = replace(changed, sources=tuple(replace(s, planes=tuple(p + 1 for p in s.planes)) for s in full().sources))
    original = getattr(module, name)

    def broken(*args, **kwargs):
        if after and name != "replace":
            original(*args, **kwargs)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(module, name, broken)
        with pytest.raises(type(error)):
            write_store(tmp_path / "old", changed, compression=compression)
        with pytest.raises(type(error)):
            write_store(tmp_path / "new", changed, compression=compression)
    assert not [p for p in (tmp_path / "new").rglob("*") if p.is_file()]
    assert tree(tmp_path) == before
    assert sorted(os.listdir(tmp_path / "old")) == ["000001", "manifest.json"]
    assert_same(full(), read_store(tmp_path / "old"))
    for path in ("old", "new"):
        write_store(tmp_path / path, changed, compression=compression)
        assert_same(changed, read_store(tmp_path / path))


def test_exception_after_the_commit_keeps_the_new_version(tmp_path, monkeypatch):
    write_store(tmp_path / "a", full())
    changed = replace(full(), documents=other_documents({"number": 2}))
    original = localplace.replace_file

    def late(path, data):
        original(path, data)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(localplace, "replace_file", late)
        with pytest.raises(KeyboardInterrupt):
            write_store(tmp_path / "a", changed)
    assert_same(changed, read_store(tmp_path / "a", verify=True))
    write_store(tmp_path / "a", full())
    assert sorted(os.listdir(tmp_path / "a")) == ["000001", "000002", "000003", "manifest.json"]


@pytest.mark.parametrize("name", ["_write_array", "sync_tree", "record_files", "seal", "write_side"])
def test_exception_while_writing_npy(tmp_path, monkeypatch, name):
    write_store(tmp_path / "old", full(), format="npy")
    before = tree(tmp_path)

    def broken(*args):
        raise OSError("disk full")

    monkeypatch.setattr(npystore, name, broken)
    for path in ("old", "new"):
        with pytest.raises(OSError, match="disk full"):
            write_store(tmp_path / path, snapshot_of(source_of("x", 2)), format="npy")
    assert tree(tmp_path) == before and os.listdir(tmp_path) == ["old"]
    assert_same(full(), read_store(tmp_path / "old"))


def save_forever(path, started):
    snapshot = full()
    for number in range(1_000_000):
        nir = tuple(replace(s, planes=tuple(np.full_like(p, number) for p in s.planes)) for s in snapshot.sources)
        write_store(
            path,
            replace(snapshot, sources=nir, documents=other_documents(number)),
            compression=None,
        )
        started.set()


@pytest.mark.long
def test_killed_writers_leave_a_whole_version(tmp_path):
    path = tmp_path / "a"
    context = multiprocessing.get_context("spawn")
    for delay in (0.0, 0.004, 0.009, 0.015):
        started = context.Event()
        process = context.Process(target=save_forever, args=(path, started))
        process.start()
        assert started.wait(60)
        time.sleep(delay)
        process.kill()
        process.join()
        found = read_store(path, verify=True)
        for source in found.sources:
            assert all((plane == found.documents["lineage"]).all() for plane in source.planes)
        for number in storage.list_versions(path)["version"]:
            found = read_store(path, version=number)
            assert all((plane == found.documents["lineage"]).all() for s in found.sources for plane in s.planes)
    write_store(path, full())
    storage.vacuum(path)
    assert len(os.listdir(path)) == 2


def test_first_save_that_was_killed_can_be_repeated(tmp_path):
    path = tmp_path / "a"
    write_store(path, full())
    (path / "manifest.json").write_bytes(manifest.seal({"generation": None, "versions": []}))
    with pytest.raises(StoreError, match="first save did not finish"):
        read_store(path)
    write_store(path, full())
    assert_same(full(), read_store(path))
    storage.vacuum(path)
    assert sorted(os.listdir(path)) == ["000002", "manifest.json"]


@pytest.mark.parametrize(
    ("format", "module", "name"), [("zarr", zarrstore, "write_tables"), ("npy", npystore, "write_side")]
)
def test_two_writers(tmp_path, monkeypatch, format, module, name):
    path = tmp_path / "a"
    write_store(path, full(), format=format)
    inside, leave = threading.Event(), threading.Event()
    original = getattr(module, name)

    def slow(*args):
        inside.set()
        assert leave.wait(30)
        return original(*args)

    monkeypatch.setattr(module, name, slow)
    winner = threading.Thread(
        target=write_store, args=(path, snapshot_of(source_of("x", 2))), kwargs={"format": format}
    )
    winner.start()
    assert inside.wait(30)
    with pytest.raises(StoreError, match="another writer"):
        write_store(path, full(), format=format)
    assert_same(full(), read_store(path))
    leave.set()
    winner.join()
    assert_same(snapshot_of(source_of("x", 2)), read_store(path))
    assert os.listdir(tmp_path) == ["a"]


def test_generation_folder_that_was_deleted_by_hand(tmp_path):
    path = tmp_path / "a"
    write_store(path, full())
    shutil.rmtree(path / "000001")
    with pytest.raises(StoreError, match="missing"):
        read_store(path)
    write_store(path, full())
    assert_same(full(), read_store(path))
    assert sorted(os.listdir(path)) == ["000002", "manifest.json"]
    storage.vacuum(path)
    assert_same(full(), read_store(path, verify=True))


def test_reader_follows_a_version_that_is_replaced_under_it(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_store(path, full())
    changed = snapshot_of(source_of("x", 2))
    original = zarrstore.snapshot_of
    calls = []

    def late(*args):
        if not calls:
            calls.append(1)
            write_store(path, changed)
            storage.vacuum(path)
        return original(*args)

    monkeypatch.setattr(zarrstore, "snapshot_of", late)
    assert_same(changed, read_store(path))


# The seed's folder


def seed_folder(path, *arrays, index=None, **tables):
    path.mkdir()
    for number, array in enumerate(arrays):
        np.save(path / f"features_src{number}.npy", array)
    (index_of(len(arrays[0])) if index is None else index).write_parquet(path / "index.parquet")
    for name, table in tables.items():
        table.write_parquet(path / f"{name}.parquet")


def test_seed_folder(tmp_path):
    a, b = np.random.default_rng(0).random((2, 6, 4)).astype("f4")
    targets = pl.DataFrame({"y": [1.0]})
    seed_folder(tmp_path / "a", a, b[:, None, :], targets=targets, index=index_of(6).cast({"row": pl.Int64}))
    (tmp_path / "a" / "folds.json").write_text("[[0, 1]]")
    found = read_store(tmp_path / "a", verify=True)
    assert [s.name for s in found.sources] == ["source0", "source1"]
    assert found.sources[0].wavelength.tolist() == [0, 1, 2, 3] and found.sources[0].processings == ("raw",)
    np.testing.assert_array_equal(found.sources[0].planes[0], a)
    np.testing.assert_array_equal(found.sources[1].planes[0], b)
    assert found.index.equals(index_of(6)) and found.holes.schema == HOLES
    assert found.tables["targets"].equals(targets) and found.tables["metadata"].shape == (0, 0)
    assert found.documents == {"folds": [[0, 1]], "lineage": None, "state": None}
    write_store(tmp_path / "a", found, format="npy")
    assert_same(found, read_store(tmp_path / "a"))
    write_store(tmp_path / "b", found)
    assert_same(found, read_store(tmp_path / "b"))


def test_seed_folder_processings(tmp_path):
    data = np.zeros((6, 2, 4))
    seed_folder(tmp_path / "a", data, index=index_of(6, ("p", "a")))
    assert read_store(tmp_path / "a").sources[0].processings == ("p", "a")
    seed_folder(tmp_path / "b", data)
    assert read_store(tmp_path / "b").sources[0].processings == ("raw", "processing1")


def test_seed_folder_damage(tmp_path):
    data = np.zeros((6, 4))

    def refused(name, file, change, message):
        path = tmp_path / name
        seed_folder(path, data, data, targets=index_of(1))
        change(path / file)
        with pytest.raises(StoreError, match=message) as caught:
            read_store(path)
        assert file in str(caught.value) or path.name in str(caught.value)

    refused("a", "features_src1.npy", lambda f: f.write_bytes(f.read_bytes()[:-8]), "not readable as .npy")
    refused("b", "features_src1.npy", lambda f: f.write_bytes(b""), "not readable as .npy")
    refused("c", "features_src1.npy", lambda f: np.save(f, np.array([object()]), allow_pickle=True), "not readable")
    refused("d", "features_src1.npy", lambda f: np.save(f, np.zeros(4)), "1 dimensions")
    refused("e", "features_src1.npy", lambda f: np.save(f, np.zeros((6, 4), int)), "float32")
    refused("f", "features_src1.npy", lambda f: np.save(f, np.zeros((5, 4))), "different numbers of rows")
    refused("g", "features_src1.npy", lambda f: f.rename(f.with_name("features_src3.npy")), "not all before it")
    refused("h", "targets.parquet", lambda f: f.write_bytes(f.read_bytes()[:-9]), "not readable as Parquet")
    refused("i", "targets.parquet", lambda f: f.write_bytes(b""), "not readable as Parquet")
    refused("j", "index.parquet", lambda f: pl.DataFrame({"row": [1]}).write_parquet(f), "not an index")
    refused("k", "index.parquet", lambda f: index_of(7).write_parquet(f), "refers to row 6")
    refused("l", "folds.json", lambda f: f.write_text("{"), "not readable as JSON")


def test_npy_does_not_delete_what_is_not_its_own(tmp_path):
    seed_folder(tmp_path / "a", np.zeros((6, 4)))
    (tmp_path / "a" / "notebook.ipynb").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(StoreError, match=r"notebook\.ipynb"):
        write_store(tmp_path / "a", full(), format="npy")
    assert tree(tmp_path) == before


# Cost


@pytest.mark.long
def test_peak_memory_of_saving(tmp_path, kind):
    base = np.random.default_rng(0).random((30_000, 1000), dtype="f4")
    source = replace(source_of("nir", 30_000, ("raw", "b"), 1000), planes=(base, base[::-1]))
    snapshot = snapshot_of(source)
    write_store(tmp_path / "warm", snapshot_of(source_of("nir", 2)), **kind)
    tracemalloc.start()
    write_store(tmp_path / "a", snapshot, **kind)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64e6, f"{peak / 1e6:.0f} MB"


@pytest.mark.parametrize("format", ["zarr", "npy"])
def test_mapped_open_reads_no_spectra(tmp_path, format):
    source = source_of("nir", 20_000, width=1000)
    write_store(tmp_path / "a", snapshot_of(source), compression=None, format=format)
    tracemalloc.start()
    found = read_store(tmp_path / "a")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6 and found.sources[0].planes[0].shape == (20_000, 1000)


@pytest.mark.parametrize("name", ["version.json", "tables/index.parquet", "folds.json"])
def test_a_folder_in_the_place_of_a_file_is_seen(tmp_path, name):
    ds = spectroxr.SpectroDataset()
    ds.add_features({"nir": np.ones((3, 4), "f4")})
    ds.save(tmp_path / "a")
    (tmp_path / "a/000001" / name).unlink()
    (tmp_path / "a/000001" / name).mkdir()
    for call in (spectroxr.SpectroDataset.load, spectroxr.SpectroDataset.verify):
        with pytest.raises(StoreError, match=f"{name} is missing"):
            call(tmp_path / "a")


@pytest.mark.parametrize("compression", ["zstd", "lz4", "zlib"])
def test_a_chunk_in_the_place_of_another_is_seen(tmp_path, compression):
    ds = spectroxr.SpectroDataset()
    ds.add_features({"nir": np.random.default_rng(0).random((2, 32), "f4")})
    ds.save(tmp_path / "a", compression=compression, chunks={"row": 1})
    first, second = (tmp_path / f"a/000001/features.zarr/nir/spectra/c/{row}/0/0" for row in (0, 1))
    assert first.stat().st_size == second.stat().st_size
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    with pytest.raises(StoreError, match=r"c/\d/0/0 is damaged"):
        spectroxr.SpectroDataset.load(tmp_path / "a").x()
    with pytest.raises(StoreError, match=r"c/\d/0/0 is damaged"):
        spectroxr.SpectroDataset.verify(tmp_path / "a")
