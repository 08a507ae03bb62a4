"""Stores whose files have right checksums and contradict each other: `verify` names what, and `load` survives them."""

import contextlib
import copy
import io
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from spectroxr import SpectroDataset, StoreError, storedtables, zarrstore
from spectroxr.chunks import digest
from spectroxr.history import History, read_history, record_json
from spectroxr.manifest import NPY_VERSION, checksum, seal
from spectroxr.place import Record, open_place


def made():
    """Six originals, two augmented in a row, a variant that one source lacks, and everything else there is."""
    ds = SpectroDataset()
    spectra = {"nir": np.arange(24, dtype="f4").reshape(6, 4), "mir é": np.arange(18.0).reshape(6, 3)}
    ds.add_features(
        spectra,
        wavelength={"nir": [4, 3, 2, 1], "mir é": [1.5, 2, 3]},
        units="nm",
        quantity="absorbance",
        partition=["train", "train", "test", None, "test", "train"],
        group=[1, 1, 2, None, 3, 3],
    )
    ds.augment_samples_x([(0, 1)])
    ds.augment_samples_x([(6, 1)])
    ds.update_x({"nir": np.ones((3, 4), "f4")}, [0, 1, 2], "snv")
    ds.add_targets(pl.DataFrame({"protein": np.arange(8) / 2, "class": list("abcdefgh")}))
    ds.update_y(np.arange(6.0), range(6), "regression", target="protein")
    ds.add_meta(pl.DataFrame({"sample": [0, 3], "site": ["Nord", "Süd"]}))
    ds.set_folds([([0, 1, 2], [3, 4]), ([3, 4, 5], [0, 1])])
    ds.add_prediction(np.arange(6.0), {"model": "PLS", "processing": "raw"}, filter={"sample": list(range(6))})
    return ds


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("saved")
    for compression in ("zstd", None):
        made().save(root / str(compression), compression=compression)
        SpectroDataset.verify(root / str(compression))
    return root


class Store:
    """The current version of a store, to be forged: every file that is written gets a right checksum."""

    def __init__(self, path):
        self.path, self.place = path, open_place(path)
        self.history = read_history(self.place)
        self.folder = path / self.history.current.generation
        self.about = json.loads((self.folder / "version.json").read_bytes())

    def read(self, name):
        return (self.folder / name).read_bytes()

    def put(self, name, data):
        """Replace a file, and its record in version.json, by itself rather than in the files it is linked to."""
        (self.folder / name).unlink(missing_ok=True)
        (self.folder / name).write_bytes(data)
        self.about["files"][name] = record_json(self._record(name, data))

    def _record(self, name, data):
        return Record(f"{self.folder.name}/{name}", len(data), checksum(data), digest(data))

    def json(self, name, change):
        """Change a document; `change` returns the new one, or changes it in place."""
        value = json.loads(self.read(name))
        changed = change(value)
        self.put(name, json.dumps(value if changed is None else changed).encode())

    def table(self, name, change):
        out = io.BytesIO()
        changed = change(pl.read_parquet(self.read(f"tables/{name}.parquet")))
        changed.write_parquet(out)
        if name in self.about["tables"]:
            self.about["tables"][name] = [{"part": 0, "lines": changed.height}]
        self.put(f"tables/{name}.parquet", out.getvalue())

    def meta(self, name, change):
        """Change the metadata of a node of the Zarr group, and what is consolidated of it above."""
        self.json(f"features.zarr/{name}/zarr.json", lambda said: (change(said), None)[1])
        folder, _, node = name.partition("/")
        if node:
            self.json(f"features.zarr/{folder}/zarr.json", lambda m: self._consolidated(m, node, change))
        self.json("features.zarr/zarr.json", lambda m: self._consolidated(m, name, change))

    def _consolidated(self, meta, name, change):
        change(meta["consolidated_metadata"]["metadata"][name])

    def coordinate(self, name, change):
        import zarr

        array = zarr.open_array(self.folder / "features.zarr" / name, mode="r+")
        array[...] = change(array[...])
        for file in sorted((self.folder / "features.zarr" / name / "c").rglob("*")):
            if file.is_file():
                self.put(file.relative_to(self.folder).as_posix(), file.read_bytes())

    def seal(self):
        """Write version.json and the manifest."""
        data = json.dumps(self.about).encode()
        (self.folder / "version.json").write_bytes(data)
        version = replace(self.history.current, record=self._record("version.json", data))
        (self.path / "manifest.json").write_bytes(History((*self.history.versions[:-1], version)).sealed())


def forged(saved, tmp_path, change, kind="zstd"):
    path = tmp_path / "a"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(saved / kind, path)
    store = Store(path)
    change(store)
    store.seal()
    return path


def folds(*given):
    return lambda store: store.json("folds.json", lambda _: [{"train": a, "val": b} for a, b in given])


def document(name, value):
    return lambda store: store.put(f"{name}.json", json.dumps(value).encode())


def state(**values):
    return lambda store: store.json("state.json", lambda said: {**said, **values})


def versions(change):
    return lambda store: store.json("state.json", lambda said: (change(said["targets"]), None)[1])


def table(name, change):
    return lambda store: store.table(name, change)


def origins(**new):
    """Give samples other origins, `s7=3` for sample 7."""
    numbers = {int(name[1:]): origin for name, origin in new.items()}
    column = pl.col("sample").replace_strict(numbers, default=pl.col("origin"), return_dtype=pl.UInt32)
    return table("index", lambda frame: frame.with_columns(origin=column))


def hole(*lines):
    def change(frame):
        more = pl.DataFrame(list(lines), schema=frame.schema, orient="row")
        return pl.concat([frame, more])

    return table("holes", change)


def meta(name, change):
    return lambda store: store.meta(name, change)


def attributes(name, **values):
    return meta(name, lambda said: said["attributes"].update(values))


def root(**values):
    return lambda store: store.json("features.zarr/zarr.json", lambda said: said["attributes"].update(values))


def coordinate(name, change):
    return lambda store: store.coordinate(f"nir/{name}", change)


def about(source=0, **values):
    return lambda store: store.about["sources"][source].update(values)


def without(column):
    return table("predictions", lambda frame: frame.drop(column))


def same_name(store):
    store.about["sources"][1]["name"] = "nir"
    store.meta("mir", lambda said: said["attributes"].update(source="nir"))
    store.json("features.zarr/zarr.json", lambda said: said["attributes"].update(sources=["nir", "nir"]))


def same_row(store):
    row = pl.when(pl.col("sample") == 4).then(3).otherwise(pl.col("row")).cast(pl.UInt32)
    store.table("index", lambda frame: frame.with_columns(row=row))


def swapped(values):
    return values[::-1].copy()


def plus(values):
    return values + np.ones((), values.dtype)


def codec(store):
    store.meta("nir/spectra", lambda said: said["codecs"][1]["configuration"].update(cname="lz4"))


def other_chunk(said):
    said["chunk_grid"]["configuration"]["chunk_shape"] = [3, 1, 4]


def encoding(said):
    said["chunk_key_encoding"]["configuration"]["separator"] = "."


def late(store):
    store.json(
        "features.zarr/zarr.json", lambda m: m["consolidated_metadata"]["metadata"]["nir/spectra"].update(shape=[1])
    )


CASES = {
    "two sources of one name": (same_name, "2 sources have the name 'nir'"),
    "folds, a number": (document("folds", 1), "the folds are 1, not a list"),
    "folds, an object": (document("folds", {"train": [0], "val": [1]}), "the folds are {.*}, not a list"),
    "folds, a null": (document("folds", None), "the folds are None, not a list"),
    "fold, a list": (document("folds", [[[0], [1]]]), r"fold 0 is \[\[0\], \[1\]\], not of the form"),
    "fold, a side is text": (folds(([0], [1]), ("12", [3])), "fold 1: train is '12', not a list"),
    "fold, sample of text": (folds(([0], ["1"])), "fold 0 names sample '1'; there are 8"),
    "fold, true": (folds(([0], [True])), "fold 0 names sample True; there are 8"),
    "fold, train empty": (folds(([0], [1]), ([], [3])), "fold 1: train is empty"),
    "fold, val empty": (
        folds(
            ([0], []),
        ),
        "fold 0: val is empty",
    ),
    "fold, both sides": (folds(([0, 1], [1, 2])), "fold 0: sample 1 trains and validates"),
    "fold, twice": (folds(([0, 0], [1])), "fold 0 names sample 0 twice in train"),
    "fold, augmented validates": (folds(([1], [2]), ([1], [6])), "fold 1: sample 6 is augmented and validates"),
    "fold, leak": (folds(([1, 6], [0])), "fold 0: sample 6 trains while one it was derived from validates"),
    "fold, leak in two steps": (folds(([1, 7], [0])), "fold 0: sample 7 trains while one it was derived"),
    "state, a list": (document("state", []), r"the state is \[\], not an object"),
    "state, a null": (document("state", None), "the state is None, not an object"),
    "state, processings a number": (state(processings=3), "the state has processings 3, not a list of names"),
    "state, processings of numbers": (state(processings=[1, 2]), r"the state has processings \[1, 2\]"),
    "state, processing twice": (state(processings=["raw", "snv", "raw"]), "the state has processing 'raw' twice"),
    "state, processing too many": (state(processings=["raw", "snv", "d1"]), "has processing 'd1', the index does not"),
    "state, processing missing": (state(processings=["raw"]), "the index has processing 'snv', the state does not"),
    "state, rows": (state(rows="8"), "the state has rows '8', not a number"),
    "state, other rows": (state(rows=3), "the state has 3 rows, the sources"),
    "state, targets": (state(targets=[1]), r"the state has targets \[1\], not an object"),
    "state, versions": (state(targets={"versions": {"raw": 1}}), "the state has versions of the targets {'raw': 1}"),
    "state, version unknown": (
        versions(lambda said: said["versions"].pop()),
        "table 'targets' has lines of version 'regression', which the state does not know",
    ),
    "state, column unknown": (
        versions(lambda said: said["versions"][0][1].append(["fat", "fat@raw"])),
        "version 'raw' of the targets has column 'fat@raw', their table does not",
    ),
    "state, target lost": (
        versions(lambda said: said["versions"][0][1].pop()),
        "table 'targets' has values in column 'class' for version 'raw', which does not have it",
    ),
    "state, version twice": (
        versions(lambda said: said["versions"].append(said["versions"][0])),
        "has version 'raw' of the targets twice",
    ),
    "state, written": (versions(lambda said: said.update(written=[1])), r"the state has targets written \[1\]"),
    "state, written of nothing": (
        versions(lambda said: said["written"].append(["ohe", "fat", 9])),
        "the state has target 'fat' written in version 'ohe', which does not have it",
    ),
    "targets of no version": (
        table("targets", lambda frame: frame.with_columns(processing=pl.lit("ohe"))),
        "lines of version 'ohe', which the state does not know",
    ),
    "hole in all sources": (
        hole((1, "snv", "nir")),
        "sample 1 has a line in processing 'snv', and a hole there in every source",
    ),
    "hole of no sample": (hole((99, "raw", "nir")), "holes name sample 99; there are 8"),
    "hole of no processing": (hole((0, "d1", "nir")), "holes name processing 'd1' of source 'nir', which is not there"),
    "hole of no source": (hole((0, "raw", "uv")), "holes name processing 'raw' of source 'uv', which is not there"),
    "hole of no line": (hole((5, "snv", "nir")), "for sample 5, which has no such line"),
    "hole twice": (hole((1, "snv", "mir é")), "of source 'mir é' for a sample twice"),
    "holes, dtype": (table("holes", lambda frame: frame.cast({"sample": pl.Int64})), "columns of the table of holes"),
    "hole, null": (hole((None, "raw", "nir")), "the table of holes has nulls"),
    "origin missing": (origins(s7=8), "sample 7 has origin 8; there are 8"),
    "origin missing, far": (origins(s7=4294967295), "sample 7 has origin 4294967295; there are 8"),
    "origin later": (origins(s1=3), "sample 1 has origin 3, which is later than itself"),
    "origins in a circle": (
        origins(s3=5, s5=3),
        "sample 3 has origin 5, which is later than itself, and their origins go in a circle",
    ),
    "origins that lead to a circle": (origins(s3=5, s5=3, s6=5), "the origins of sample 6 lead to no original"),
    "two originals on one row": (same_row, "samples 3 and 4 are both on row 3"),
    "group, sources": (
        root(sources=["mir é", "nir"]),
        r"the Zarr group has sources \['mir é', 'nir'\], the description",
    ),
    "group, groups": (root(groups=["nir", "uv"]), r"the Zarr group has groups \['nir', 'uv'\], the description"),
    "group, source": (attributes("nir", source="uv"), "source 'nir': the Zarr group has source 'uv'"),
    "group, processings": (
        attributes("nir", processings=["snv", "raw"]),
        r"source 'nir': the Zarr group has processings \['snv', 'raw'\]",
    ),
    "group, attributes of the source": (
        attributes("nir", source_attrs={"units": "cm-1"}),
        "source 'nir': the Zarr group has source_attrs {'units': 'cm-1'}",
    ),
    "group, segments": (attributes("mir", segments=[["a", 3]]), "source 'mir é': the Zarr group has segments"),
    "group, consolidated": (late, "source 'nir': the Zarr group says something else of 'spectra' than itself"),
    "wavelength, units": (
        attributes("nir/wavelength", units="cm-1"),
        "'nir': its Zarr wavelengths have the attributes",
    ),
    "wavelength, values": (coordinate("wavelength", plus), "coordinate 'wavelength' does not mirror the description"),
    "spectra, attributes": (
        attributes("nir/spectra", quantity="reflectance"),
        "source 'nir': its Zarr spectra have attributes {.*'reflectance'",
    ),
    "spectra, shape": (
        meta("nir/spectra", lambda said: said.update(shape=[8, 2, 4])),
        r"source 'nir': its Zarr spectra have shape \[8, 2, 4\], the description \[",
    ),
    "spectra, chunk": (meta("nir/spectra", other_chunk), r"source 'nir': its Zarr spectra have chunk \[3, 1, 4\]"),
    "spectra, dtype": (
        meta("nir/spectra", lambda said: said.update(data_type="float64")),
        "source 'nir': its Zarr spectra have dtype 'float64', the description 'float32'",
    ),
    "spectra, compression": (codec, "source 'nir': its Zarr spectra have compression 'lz4', the description 'zstd'"),
    "spectra, codecs": (
        meta("nir/spectra", lambda said: said["codecs"].pop()),
        r"source 'nir': its Zarr spectra have codecs \['bytes', 'blosc'\]",
    ),
    "spectra, dimensions": (
        meta("nir/spectra", lambda said: said.update(dimension_names=["row", "wavelength", "processing"])),
        "source 'nir': its Zarr spectra have dimensions",
    ),
    "spectra, names of chunks": (meta("nir/spectra", encoding), r"its Zarr spectra have separator '\.'"),
    "description, source renamed": (about(name="uv"), "the Zarr group has source 'nir', the description 'uv'"),
    "description, processings": (
        about(processings=["snv", "raw"]),
        r"group has processings \['raw', 'snv'\], the desc",
    ),
    "description, attributes": (about(attrs={"units": "um"}), "the Zarr group has source_attrs .*, the description"),
    "description, compression": (about(compression="lz4"), "its Zarr spectra have compression 'zstd', the descr"),
    "coordinate, shape": (
        meta("nir/sample", lambda said: said.update(shape=[2])),
        r"source 'nir': its Zarr coordinate 'sample' has shape \[2\]",
    ),
    "coordinate, codec": (
        meta("nir/sample", lambda said: said["codecs"].pop()),
        "source 'nir': its Zarr coordinate 'sample' cannot be read",
    ),
    **{
        f"coordinate, {name}": (
            coordinate(name, change),
            f"source 'nir': its Zarr coordinate '{name}' does not mirror the",
        )
        for name, change in {
            "row": swapped,
            "sample": swapped,
            "origin": swapped,
            "group": plus,
            "branch": plus,
            "processing": swapped,
            "partition": lambda values: np.full(values.shape, "test", np.dtypes.StringDType()),
        }.items()
    },
    "predictions without sample": (without("sample"), "table 'predictions' has no column 'sample'"),
    "predictions without model": (without("model"), "table 'predictions' has no column 'model'"),
    "predictions without processing": (without("processing"), "table 'predictions' has no column 'processing'"),
    "predictions without values": (without("preds"), "table 'predictions' has no column 'preds' or 'labels'"),
    "predictions, sample of text": (
        table("predictions", lambda frame: frame.cast({"sample": pl.String})),
        "table 'predictions' has samples of String",
    ),
    "predictions, model a number": (
        table("predictions", lambda frame: frame.with_columns(model=pl.lit(1))),
        "table 'predictions' has column 'model' of Int32, not String",
    ),
    "predictions, fold of text": (
        table("predictions", lambda frame: frame.with_columns(fold=pl.lit("a"))),
        "table 'predictions' has column 'fold' of String, not Int64",
    ),
    "predictions, values of text": (
        table("predictions", lambda frame: frame.cast({"preds": pl.String})),
        "table 'predictions' has column 'preds' of String",
    ),
    "chunks of no source": (
        table("chunks", lambda frame: pl.concat([frame, frame[:1].with_columns(source=pl.lit("uv"))])),
        "chunks of 'uv', which is no folder of a source",
    ),
    "chunks, order": (table("chunks", lambda frame: frame[[1, 0, *range(2, len(frame))]]), "'nir' in another order"),
}


@pytest.mark.parametrize("format", ["zarr", "npy"])
def test_an_empty_dataset_is_whole(tmp_path, format):
    ds = SpectroDataset()
    ds.save(tmp_path / "a", format=format)
    SpectroDataset.verify(tmp_path / "a")
    assert len(SpectroDataset.load(tmp_path / "a", verify=True)) == 0


@pytest.mark.parametrize("name", CASES)
def test_a_contradiction_is_named(saved, tmp_path, name):
    change, message = CASES[name]
    path = forged(saved, tmp_path, change)
    with pytest.raises(StoreError) as caught:
        SpectroDataset.verify(path)
    lines = str(caught.value).splitlines()
    assert any(re.search(message, line) and re.search("version 1 of|000001/", line) for line in lines), lines
    loads_or_says_why_not(path)


def test_all_contradictions_are_named(saved, tmp_path):
    def change(store):
        folds(([0, 6], [0]), ([], [7]))(store)
        state(rows="x")(store)
        hole((99, "raw", "nir"), (1, "snv", "nir"))(store)
        same_row(store)
        without("model")(store)
        attributes("nir/spectra", quantity="?")(store)
        coordinate("sample", swapped)(store)

    with pytest.raises(StoreError) as caught:
        SpectroDataset.verify(forged(saved, tmp_path, change))
    for part in (
        "fold 0: sample 0 trains and",
        "fold 0: sample 6 trains while",
        "fold 1: train is empty",
        "fold 1: sample 7 is augmented",
        "rows 'x'",
        "sample 99",
        "sample 1 has a line",
        "samples 3 and 4",
        "'model'",
        "'sample' does not mirror",
        "have attributes",
    ):
        assert part in str(caught.value)


def test_what_a_shard_says_is_compared(saved, tmp_path):
    def inner(said):
        said["codecs"][0]["configuration"]["chunk_shape"] = [1, 2, 4]

    path = forged(saved, tmp_path, meta("nir/spectra", inner), "None")
    with pytest.raises(StoreError, match=r"'nir': its Zarr spectra have inner chunk \[1, 2, 4\]"):
        SpectroDataset.verify(path)


REFERENCES = {
    "another chunk": (
        lambda refs: refs.update({"nir/spectra/c/0/0/0": refs["nir/spectra/c/0/1/0"]}),
        r"for nir/spectra/c/0/0/0, not 00000\d/features.zarr/nir/spectra/c/0/0/0",
    ),
    "no chunk": (lambda refs: refs.pop("nir/spectra/c/0/0/0"), "have nothing for nir/spectra/c/0/0/0"),
    "one more": (lambda refs: refs.update({"nir/x": ["{{store}}/x"]}), "have nir/x, which the version does not"),
    "no metadata": (lambda refs: refs.pop("nir/zarr.json"), "source 'nir': it has no Zarr group"),
    "other metadata": (
        lambda refs: refs.update({"nir/spectra/zarr.json": refs["nir/sample/zarr.json"]}),
        "source 'nir': its Zarr spectra have shape",
    ),
    "none": (lambda refs: [refs.pop(name) for name in list(refs)], "have nothing for nir/spectra/c/0/0/0"),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_what_references_say_is_compared(tmp_path, monkeypatch, name):
    change, message = REFERENCES[name]
    url, ds = f"memory://{tmp_path.name}", made()
    ds.save(url)
    ds.update_x({"nir": np.zeros((8, 4), "f4")}, range(8), "d1")
    ds.save(url)
    SpectroDataset.verify(url)
    encode = zarrstore.encode_json

    def forged(said):
        if "refs" in said:
            change(said["refs"])
        return encode(said)

    monkeypatch.setattr(zarrstore, "encode_json", forged)
    ds.set_folds([([0], [1])])
    ds.save(url)
    with pytest.raises(StoreError, match=message) as caught:
        SpectroDataset.verify(url)
    assert "version 3 of" in str(caught.value) and "version 2 of" not in str(caught.value)


@pytest.mark.parametrize("call", [SpectroDataset.verify, SpectroDataset.load])
def test_a_manifest_that_lacks_a_description(saved, tmp_path, call):
    path = forged(saved, tmp_path, lambda store: None)
    history = read_history(open_place(path))
    (path / "manifest.json").write_bytes(History((replace(history.current, record=None),)).sealed())
    with pytest.raises(StoreError, match="manifest.json does not list versions.*version 1 is not described"):
        call(path)


@pytest.mark.parametrize("name", ["folds", "state"])
def test_load_names_documents_it_cannot_read(saved, tmp_path, name):
    with pytest.raises(StoreError, match=f"the {name} (is|are) 1, not"):
        SpectroDataset.load(forged(saved, tmp_path, document(name, 1)))


@pytest.mark.parametrize("new", [{"s7": 8}, {"s3": 5, "s5": 3}])
def test_load_refuses_origins_that_lead_nowhere(saved, tmp_path, new):
    with pytest.raises(StoreError, match="lead to no original"):
        SpectroDataset.load(forged(saved, tmp_path, origins(**new)))


# Anything


def loads_or_says_why_not(path):
    """Load a store and read from it; return whether that is possible."""
    try:
        ds = SpectroDataset.load(path)
    except StoreError:
        return False
    assert len(ds) == len(ds.features.index_df["sample"].unique())
    repr(ds)
    ds.metadata.meta()
    return True


def check(path, named=True):
    """A forged store is accused by `verify`, where it should be, and by nothing but a StoreError."""
    if named:
        with pytest.raises(StoreError, match=r"version 1 of|000001/"):
            SpectroDataset.verify(path)
    else:
        with contextlib.suppress(StoreError):
            SpectroDataset.verify(path)
    loads_or_says_why_not(path)


JUNK = [None, 1, -1, 1.5, True, [], {}, "x", [None], [[1, "a"], {}], {"a": [{"b": None}]}, [[[[]]]]]
DEEP = b"[" * 500 + b"]" * 500
TABLES = ["index", "holes", "targets", "metadata", "predictions", "chunks"]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["zstd", "None"])
@pytest.mark.parametrize("name", ["folds", "state", "version"])
def test_any_document(saved, tmp_path, name, kind):
    for junk in [*JUNK, DEEP, b"", b"\xff", b'{"a":']:
        path = forged(saved, tmp_path, lambda store: None, kind)
        store = Store(path)
        if name == "version":
            if isinstance(junk, bytes):
                continue
            store.about = junk
            store.seal()
        else:
            store.put(f"{name}.json", junk if isinstance(junk, bytes) else json.dumps(junk).encode())
            store.seal()
        check(path, named=(name, junk) not in [("folds", []), ("state", {}), ("state", {"a": [{"b": None}]})])


@pytest.mark.long
@pytest.mark.parametrize("name", ["zarr.json", "nir/zarr.json", "nir/spectra/zarr.json", "nir/sample/zarr.json"])
def test_any_metadata_of_the_group(saved, tmp_path, name):
    for junk in [*(json.dumps(junk).encode() for junk in JUNK), DEEP, b"", b"\xff"]:
        check(forged(saved, tmp_path, lambda store, junk=junk: store.put(f"features.zarr/{name}", junk)))


@pytest.mark.long
@pytest.mark.parametrize("name", ["origin", "partition", "wavelength"])
def test_any_bytes_of_a_coordinate(saved, tmp_path, name):
    for data in (b"", b"x", bytes(100)):
        check(forged(saved, tmp_path, lambda store, data=data: store.put(f"features.zarr/nir/{name}/c/0", data)))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["zstd", "None"])
def test_any_value_in_the_description(saved, tmp_path, kind):
    untouched = forged(saved, tmp_path, lambda store: None, kind)
    store = Store(untouched)
    said = store.about
    paths = [("files",), ("sources",), ("files", "tables/index.parquet"), ("files", "tables/chunks.parquet")]
    paths += [("sources", 0), *(("sources", 0, key) for key in said["sources"][0])]
    parts = [
        ("tables", "index"),
        ("tables", "index", 0),
        *(("tables", "index", 0, k) for k in said["tables"]["index"][0]),
    ]
    paths += [("tables",), *parts]
    for path in paths:
        *above, last = path
        for junk in ["gone", *JUNK]:
            changed = copy.deepcopy(said)
            spot = changed
            for step in above:
                spot = spot[step]
            if spot[last] == junk and type(spot[last]) is type(junk):
                continue
            if junk == "gone":
                del spot[last]
            else:
                spot[last] = junk
            store.about = changed
            store.seal()
            # uncompressed spectra may lie in blocks of any number of rows within, and compressed ones have none
            # a table of which no parts are named is in one file
            unparted = path in (("tables",), ("tables", "index")) and junk in ("gone", {})
            check(untouched, named=not unparted and (last != "inner_rows" or junk != 1))


@pytest.mark.parametrize(
    "key", ["generation", "versions", *(["version", "time", "message", "written", "samples", "description"])]
)
@pytest.mark.long
def test_any_value_in_the_manifest(saved, tmp_path, key):
    path = forged(saved, tmp_path, lambda store: None)
    right, messages = json.loads((path / "manifest.json").read_bytes()), []
    for junk in ["gone", *JUNK]:
        said = copy.deepcopy(right)
        said = {name: said[name] for name in ("generation", "versions")}
        about = said if key in said else said["versions"][0]
        if junk == "gone":
            del about[key]
        else:
            about[key] = junk
        (path / "manifest.json").write_bytes(seal(said))
        for call in (SpectroDataset.verify, SpectroDataset.versions, SpectroDataset.vacuum, SpectroDataset.load):
            try:
                call(path)
            except StoreError as error:
                messages.append(str(error))
        with contextlib.suppress(StoreError):
            made().save(path)
    assert len(messages) > 5
    assert all("manifest.json" in text or "holds nothing" in text for text in messages)


def test_a_plain_folder_that_contradicts_itself(tmp_path):
    made().save(tmp_path / "a", format="npy")
    SpectroDataset.verify(tmp_path / "a")
    said = json.loads((tmp_path / "a/features.json").read_bytes())
    data = json.dumps([{"train": [6], "val": [0]}]).encode()
    (tmp_path / "a/folds.json").write_bytes(data)
    said["files"]["folds.json"] = {"size": len(data), "crc32c": f"{checksum(data):08x}"}
    content = {key: said[key] for key in ("sources", "files")}
    (tmp_path / "a/features.json").write_bytes(seal(content, NPY_VERSION))
    with pytest.raises(StoreError, match="fold 0: sample 6 trains while"):
        SpectroDataset.verify(tmp_path / "a")


def test_lines_that_are_not_of_their_part(tmp_path, monkeypatch):
    monkeypatch.setattr(storedtables, "WHOLE_BYTES", 0)
    ds = made()
    ds.save(tmp_path / "a")
    ds.add_features({"nir": np.ones((2, 4), "f4"), "mir é": None})
    ds.save(tmp_path / "a")
    SpectroDataset.verify(tmp_path / "a")
    store = Store(tmp_path / "a")
    assert len(store.about["tables"]["index"]) == 2
    store.about["tables"]["index"][1]["samples"] = [8, 8]
    store.seal()
    with pytest.raises(StoreError, match=r"index\.1\.parquet has a line of sample 9"):
        SpectroDataset.verify(tmp_path / "a")


@pytest.mark.long
@pytest.mark.parametrize("key", ["processings", "rows", "targets"])
def test_any_value_in_the_state(saved, tmp_path, key):
    for junk in JUNK:
        harmless = (key == "targets" and junk in ({}, None)) or (key, junk) == ("processings", None)
        check(forged(saved, tmp_path, state(**{key: junk})), named=not harmless)
    path = forged(saved, tmp_path, lambda store: store.json("state.json", lambda said: said.pop(key) and None))
    check(path, named=False)


def others(frame):
    """Yield a table with other columns and other types."""
    yield pl.DataFrame()
    yield pl.DataFrame({"a": [1]})
    yield frame.with_columns(pl.exclude(pl.Binary).cast(pl.String))
    for name in frame.columns:
        yield frame.drop(name)
        yield frame.rename({name: f"{name}2"})
        for values in (
            pl.lit(None),
            pl.lit("x"),
            pl.lit(-1),
            pl.lit(1e300),
            pl.lit([[1]]),
            pl.lit(True),
            pl.lit(b"\xff"),
        ):
            yield frame.with_columns(values.alias(name))
        yield frame.with_columns(pl.struct(pl.lit(1).alias("k")).alias(name))
    yield frame.clear()
    yield pl.concat([frame, frame])
    yield frame.reverse()


@pytest.mark.long
@pytest.mark.parametrize("name", TABLES)
def test_any_table(saved, tmp_path, name):
    (tmp_path / "b").mkdir()
    frame = pl.read_parquet(next((saved / "zstd").glob(f"*/tables/{name}.parquet")))
    for other in others(frame):
        if other.equals(frame):
            continue
        check(forged(saved, tmp_path, table(name, lambda _, other=other: other)), named=False)
    for data in (b"", b"x", b"PAR1", b"PAR1" * 10):
        check(forged(saved, tmp_path, lambda store, data=data: store.put(f"tables/{name}.parquet", data)))


@pytest.mark.parametrize("chunks", [None, "auto"])
def test_uncompressed_spectra_are_checked_by_verify_only(tmp_path, chunks):
    """As docs/storage.md says, of mapped spectra and of those read by ranges."""
    ds = SpectroDataset()
    ds.add_features({"nir": np.ones((20, 10), "f4")})
    ds.save(tmp_path / "store", compression=None)
    (file,) = tmp_path.rglob("spectra/c/0/0/0")
    data = bytearray(file.read_bytes())
    data[40] ^= 1
    file.write_bytes(data)
    loaded = SpectroDataset.load(tmp_path / "store", chunks=chunks)
    assert (np.asarray(loaded.x()[0]) != 1).sum() == 1
    with pytest.raises(StoreError, match="checksum"):
        SpectroDataset.verify(tmp_path / "store")
    with pytest.raises(StoreError, match="checksum"):
        SpectroDataset.load(tmp_path / "store", verify=True)
