"""Which selections are views: the matrix, cell by cell, and what follows from it."""

import ast
import mmap
import re
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from spectroxr import NoViewError, SpectroDataset

ROOT = Path(__file__).resolve().parents[1]

LAYOUTS = ("2d", "2d_interlaced", "3d", "3d_transpose")
SOURCES = ("nir", "mir", "raman")
WIDTHS = {"nir": 8, "mir": 6, "raman": 4}
PROCESSINGS = ["raw", "snv", "d1", "d2"]
SAMPLES = 12
PARTITION = ["train"] * 6 + ["val", "test", "val", "test", "test", "val"]
BATCH = ["a", "a", "b", "b", "b", "b", "c", "c", "c", "c", "c", "c"]
OPERATOR = ["ann", "ann", "bob", "ann", "bob", "bob", "ann", "bob", "bob", "bob", "ann", "bob"]
PROTEIN = [9.0, 10.0, 12.0, 15.0, 9.5, 10.5, 10.2, 11.5, 9.1, 13.0, 10.1, 9.9]
ORIGINALS = [2, 3, 4]

EVERYONE = list(range(SAMPLES))


@dataclass(frozen=True)
class Kind:
    """A kind of filter: what it is and, worked out by hand, what it selects.

    ``by``: the column whose sorting makes its rows a range, if they are scattered as built.
    ``row``: the line of the tables that holds once its rows are a range.
    """

    filter: object
    samples: tuple
    processings: tuple = (0, 1, 2, 3)
    bands: tuple | None = None
    augmented: bool = False
    by: str | None = None
    row: str | None = None


ALL = tuple(EVERYONE)
KINDS = {
    "everything": Kind(None, ALL),
    "one partition, a range": Kind({"partition": "train"}, (0, 1, 2, 3, 4, 5)),
    "one partition, scattered": Kind({"partition": "test"}, (7, 9, 10), by="partition", row="everything"),
    "every third sample": Kind({"group": 1}, (1, 4, 7, 10)),
    "list, reversed": Kind({"sample": [5, 4, 3, 2]}, (2, 3, 4, 5)),
    "list, scattered": Kind({"sample": [9, 1, 5, 2]}, (1, 2, 5, 9)),
    "one sample": Kind({"sample": 5}, (5,)),
    "augmented samples alone": Kind({"sample": slice(12, 14)}, (12, 13, 14), augmented=True),
    "augmented with originals": Kind({"sample": [1, 2, 12]}, (1, 2, 12), augmented=True),
    "one processing": Kind({"processing": "snv"}, ALL, (1,)),
    "processings next to each other": Kind({"processing": ["d1", "snv"]}, ALL, (1, 2)),
    "every other processing": Kind({"processing": ["raw", "d1"]}, ALL, (0, 2)),
    "processings, scattered": Kind({"processing": ["raw", "snv", "d2"]}, ALL, (0, 1, 3)),
    "wavelength range": Kind({"wavelength": slice(1010, 1030)}, ALL, bands=(1, 2, 3)),
    "every second wavelength": Kind({"wavelength": pl.col("wavelength") % 20 == 0}, ALL, bands=(0, 2, 4, 6)),
    "wavelengths, scattered": Kind({"wavelength": [1000, 1010, 1030]}, ALL, bands=(0, 1, 3)),
    "one processing, wavelength range": Kind(
        {"processing": "d2", "wavelength": slice(1010, 1030)}, ALL, (3,), bands=(1, 2, 3)
    ),
    "metadata, a range": Kind({"batch": "b"}, (2, 3, 4, 5)),
    "metadata, scattered": Kind({"operator": "ann"}, (0, 1, 3, 6, 10), by="operator", row="everything"),
    "expression, a range": Kind(pl.col("sample") >= 6, (6, 7, 8, 9, 10, 11)),
    "expression, a step": Kind((pl.col("partition") == "train") & (pl.col("group") == 1), (1, 4)),
    "expression, scattered": Kind(pl.col("protein") > 11, (2, 3, 7, 9)),
}

# What design.md, section 2, says of every cell. Three times the layouts 2d, 2d_interlaced, 3d, 3d_transpose:
# for one source (with src_concat or without), for each of several sources, for several with src_concat=True.
TABLES = {
    # (row, processing, wavelength), a buffer per source, rows in the order of the samples.
    "by processing": """
everything                       | view copy view view | view copy view view | copy copy copy copy
one partition, a range           | view copy view view | view copy view view | copy copy copy copy
one partition, scattered         | copy copy copy copy | copy copy copy copy | copy copy copy copy
every third sample               | view copy view view | view copy view view | copy copy copy copy
list, reversed                   | view copy view view | view copy view view | copy copy copy copy
list, scattered                  | copy copy copy copy | copy copy copy copy | copy copy copy copy
one sample                       | view copy view view | view copy view view | copy copy copy copy
augmented samples alone          | view copy view view | view copy view view | copy copy copy copy
augmented with originals         | copy copy copy copy | copy copy copy copy | copy copy copy copy
one processing                   | view view view view | view view view view | copy copy copy copy
processings next to each other   | view copy view view | view copy view view | copy copy copy copy
every other processing           | copy copy view view | copy copy view view | copy copy copy copy
processings, scattered           | copy copy copy copy | copy copy copy copy | copy copy copy copy
wavelength range                 | copy copy view view | copy copy view view | copy copy copy copy
every second wavelength          | view copy view view | view copy view view | copy copy copy copy
wavelengths, scattered           | copy copy copy copy | copy copy copy copy | copy copy copy copy
one processing, wavelength range | view view view view | view view view view | copy copy copy copy
metadata, a range                | view copy view view | view copy view view | copy copy copy copy
metadata, scattered              | copy copy copy copy | copy copy copy copy | copy copy copy copy
expression, a range              | view copy view view | view copy view view | copy copy copy copy
expression, a step               | view copy view view | view copy view view | copy copy copy copy
expression, scattered            | copy copy copy copy | copy copy copy copy | copy copy copy copy
""",
    # The same, rows sorted: test 7 9 10, train 0 to 5, val 6 8 11. All samples together are scattered then.
    "by partition": """
everything                       | copy copy copy copy | copy copy copy copy | copy copy copy copy
one partition, a range           | view copy view view | view copy view view | copy copy copy copy
one partition, scattered         | view copy view view | view copy view view | copy copy copy copy
every third sample               | copy copy copy copy | copy copy copy copy | copy copy copy copy
list, reversed                   | view copy view view | view copy view view | copy copy copy copy
list, scattered                  | copy copy copy copy | copy copy copy copy | copy copy copy copy
one sample                       | view copy view view | view copy view view | copy copy copy copy
augmented samples alone          | view copy view view | view copy view view | copy copy copy copy
augmented with originals         | copy copy copy copy | copy copy copy copy | copy copy copy copy
one processing                   | copy copy copy copy | copy copy copy copy | copy copy copy copy
processings next to each other   | copy copy copy copy | copy copy copy copy | copy copy copy copy
every other processing           | copy copy copy copy | copy copy copy copy | copy copy copy copy
processings, scattered           | copy copy copy copy | copy copy copy copy | copy copy copy copy
wavelength range                 | copy copy copy copy | copy copy copy copy | copy copy copy copy
every second wavelength          | copy copy copy copy | copy copy copy copy | copy copy copy copy
wavelengths, scattered           | copy copy copy copy | copy copy copy copy | copy copy copy copy
one processing, wavelength range | copy copy copy copy | copy copy copy copy | copy copy copy copy
metadata, a range                | view copy view view | view copy view view | copy copy copy copy
metadata, scattered              | copy copy copy copy | copy copy copy copy | copy copy copy copy
expression, a range              | copy copy copy copy | copy copy copy copy | copy copy copy copy
expression, a step               | view copy view view | view copy view view | copy copy copy copy
expression, scattered            | copy copy copy copy | copy copy copy copy | copy copy copy copy
""",
    # (row, wavelength, processing), a buffer per source.
    "by wavelength": """
everything                       | copy view view view | copy view view view | copy copy copy copy
one partition, a range           | copy view view view | copy view view view | copy copy copy copy
one partition, scattered         | copy copy copy copy | copy copy copy copy | copy copy copy copy
every third sample               | copy view view view | copy view view view | copy copy copy copy
list, reversed                   | copy view view view | copy view view view | copy copy copy copy
list, scattered                  | copy copy copy copy | copy copy copy copy | copy copy copy copy
one sample                       | copy view view view | copy view view view | copy copy copy copy
augmented samples alone          | copy view view view | copy view view view | copy copy copy copy
augmented with originals         | copy copy copy copy | copy copy copy copy | copy copy copy copy
one processing                   | view view view view | view view view view | copy copy copy copy
processings next to each other   | copy copy view view | copy copy view view | copy copy copy copy
every other processing           | copy view view view | copy view view view | copy copy copy copy
processings, scattered           | copy copy copy copy | copy copy copy copy | copy copy copy copy
wavelength range                 | copy view view view | copy view view view | copy copy copy copy
every second wavelength          | copy copy view view | copy copy view view | copy copy copy copy
wavelengths, scattered           | copy copy copy copy | copy copy copy copy | copy copy copy copy
one processing, wavelength range | view view view view | view view view view | copy copy copy copy
metadata, a range                | copy view view view | copy view view view | copy copy copy copy
metadata, scattered              | copy copy copy copy | copy copy copy copy | copy copy copy copy
expression, a range              | copy view view view | copy view view view | copy copy copy copy
expression, a step               | copy view view view | copy view view view | copy copy copy copy
expression, scattered            | copy copy copy copy | copy copy copy copy | copy copy copy copy
""",
    # Per row: source 1 as (processing, wavelength), source 2 as (processing, wavelength), ...
    "side by side, for 2d": """
everything                       | view copy view view | view copy view view | view copy copy copy
one partition, a range           | view copy view view | view copy view view | view copy copy copy
one partition, scattered         | copy copy copy copy | copy copy copy copy | copy copy copy copy
every third sample               | view copy view view | view copy view view | view copy copy copy
list, reversed                   | view copy view view | view copy view view | view copy copy copy
list, scattered                  | copy copy copy copy | copy copy copy copy | copy copy copy copy
one sample                       | view copy view view | view copy view view | view copy copy copy
augmented samples alone          | view copy view view | view copy view view | view copy copy copy
augmented with originals         | copy copy copy copy | copy copy copy copy | copy copy copy copy
one processing                   | view view view view | view view view view | copy copy copy copy
processings next to each other   | view copy view view | view copy view view | copy copy copy copy
every other processing           | copy copy view view | copy copy view view | copy copy copy copy
processings, scattered           | copy copy copy copy | copy copy copy copy | copy copy copy copy
wavelength range                 | copy copy view view | copy copy view view | copy copy copy copy
every second wavelength          | view copy view view | view copy view view | view copy copy copy
wavelengths, scattered           | copy copy copy copy | copy copy copy copy | copy copy copy copy
one processing, wavelength range | view view view view | view view view view | copy copy copy copy
metadata, a range                | view copy view view | view copy view view | view copy copy copy
metadata, scattered              | copy copy copy copy | copy copy copy copy | copy copy copy copy
expression, a range              | view copy view view | view copy view view | view copy copy copy
expression, a step               | view copy view view | view copy view view | view copy copy copy
expression, scattered            | copy copy copy copy | copy copy copy copy | copy copy copy copy
""",
    # Per row: (processing, wavelength of all sources).
    "side by side, for 3d": """
everything                       | view copy view view | copy copy view view | copy copy view view
one partition, a range           | view copy view view | copy copy view view | copy copy view view
one partition, scattered         | copy copy copy copy | copy copy copy copy | copy copy copy copy
every third sample               | view copy view view | copy copy view view | copy copy view view
list, reversed                   | view copy view view | copy copy view view | copy copy view view
list, scattered                  | copy copy copy copy | copy copy copy copy | copy copy copy copy
one sample                       | view copy view view | copy copy view view | copy copy view view
augmented samples alone          | view copy view view | copy copy view view | copy copy view view
augmented with originals         | copy copy copy copy | copy copy copy copy | copy copy copy copy
one processing                   | view view view view | view view view view | view view view view
processings next to each other   | view copy view view | copy copy view view | copy copy view view
every other processing           | copy copy view view | copy copy view view | copy copy view view
processings, scattered           | copy copy copy copy | copy copy copy copy | copy copy copy copy
wavelength range                 | copy copy view view | copy copy view view | copy copy copy copy
every second wavelength          | view copy view view | copy copy view view | copy copy view view
wavelengths, scattered           | copy copy copy copy | copy copy copy copy | copy copy copy copy
one processing, wavelength range | view view view view | view view view view | copy copy copy copy
metadata, a range                | view copy view view | copy copy view view | copy copy view view
metadata, scattered              | copy copy copy copy | copy copy copy copy | copy copy copy copy
expression, a range              | view copy view view | copy copy view view | copy copy view view
expression, a step               | view copy view view | copy copy view view | copy copy view view
expression, scattered            | copy copy copy copy | copy copy copy copy | copy copy copy copy
""",
    # Per row: (wavelength of all sources, processing).
    "side by side, for 2d_interlaced or 3d_transpose": """
everything                       | copy view view view | copy view view view | copy view view view
one partition, a range           | copy view view view | copy view view view | copy view view view
one partition, scattered         | copy copy copy copy | copy copy copy copy | copy copy copy copy
every third sample               | copy view view view | copy view view view | copy view view view
list, reversed                   | copy view view view | copy view view view | copy view view view
list, scattered                  | copy copy copy copy | copy copy copy copy | copy copy copy copy
one sample                       | copy view view view | copy view view view | copy view view view
augmented samples alone          | copy view view view | copy view view view | copy view view view
augmented with originals         | copy copy copy copy | copy copy copy copy | copy copy copy copy
one processing                   | view view view view | view view view view | view view view view
processings next to each other   | copy copy view view | copy copy view view | copy copy view view
every other processing           | copy view view view | copy view view view | copy view view view
processings, scattered           | copy copy copy copy | copy copy copy copy | copy copy copy copy
wavelength range                 | copy view view view | copy view view view | copy copy copy copy
every second wavelength          | copy copy view view | copy copy view view | copy copy view view
wavelengths, scattered           | copy copy copy copy | copy copy copy copy | copy copy copy copy
one processing, wavelength range | view view view view | view view view view | copy copy copy copy
metadata, a range                | copy view view view | copy view view view | copy view view view
metadata, scattered              | copy copy copy copy | copy copy copy copy | copy copy copy copy
expression, a range              | copy view view view | copy view view view | copy view view view
expression, a step               | copy view view view | copy view view view | copy view view view
expression, scattered            | copy copy copy copy | copy copy copy copy | copy copy copy copy
""",
}

#: How the spectra are stored, and the table that holds.
STORAGES = {
    "as built": "by processing",
    "variants added by update_x": "by processing",
    "pack()": "by processing",
    "loaded, compression=None": "by processing",
    "loaded, compression='zstd'": "by processing",
    "loaded, format='npy'": "by processing",
    "pack(by='partition')": "by partition",
    "pack(layout='2d_interlaced')": "by wavelength",
    "pack(layout='2d', src_concat=True)": "side by side, for 2d",
    "pack(layout='3d', src_concat=True)": "side by side, for 3d",
    "pack(layout='2d_interlaced', src_concat=True)": "side by side, for 2d_interlaced or 3d_transpose",
    "pack(layout='3d_transpose', src_concat=True)": "side by side, for 2d_interlaced or 3d_transpose",
}
MAPPED = ("loaded, compression=None", "loaded, format='npy'")


def read_table(text):
    lines = {}
    for line in text.strip().splitlines():
        name, *groups = (part.strip() for part in line.split("|"))
        lines[name] = [group.split() for group in groups]
    return lines


CELLS = {name: read_table(text) for name, text in TABLES.items()}


def stated(storage, kind, layout, count, concat):
    group = 0 if count == 1 else 2 if concat else 1
    return CELLS[STORAGES[storage]][kind][group][LAYOUTS.index(layout)]


def packable(kind, layout, count, concat):
    """Whether the tables hold a pack that makes a cell a view."""
    chosen = KINDS[kind]
    row = kind if chosen.by is None else chosen.row
    group = 0 if count == 1 else 2 if concat else 1
    return any(CELLS[name][row][group][LAYOUTS.index(layout)] == "view" for name in CELLS)


SPECTRA = {
    name: np.random.default_rng(k).normal(size=(SAMPLES, 4, WIDTHS[name])).astype("float32")
    for k, name in enumerate(SOURCES)
}
AXES = {name: 1000.0 + 10 * np.arange(WIDTHS[name]) for name in SOURCES}


def expected(kind, names, layout, concat):
    """The result of a cell, worked out with numpy alone."""
    arrays = []
    owner = [*EVERYONE, *ORIGINALS]
    for name in names:
        bands = [b for b in (kind.bands or range(8)) if b < WIDTHS[name]]
        cells = SPECTRA[name][[owner[s] for s in kind.samples]][:, list(kind.processings)][:, :, bands]
        if layout == "2d":
            arrays.append(np.concatenate([cells[:, k, :] for k in range(cells.shape[1])], axis=1))
        elif layout == "2d_interlaced":
            arrays.append(np.concatenate([cells[:, :, j] for j in range(cells.shape[2])], axis=1))
        elif layout == "3d":
            arrays.append(cells)
        else:
            arrays.append(np.stack([cells[:, k, :] for k in range(cells.shape[1])], axis=2))
    if concat and len(arrays) > 1:
        arrays = [np.concatenate(arrays, axis=2 if layout == "3d" else 1)]
    return arrays


def build(count, augmented, added=False):
    names = SOURCES[:count]
    ds = SpectroDataset()
    labels = {"partition": PARTITION, "group": [k % 3 for k in EVERYONE]}
    axes = {name: AXES[name] for name in names}
    if added:
        ds.add_features({name: SPECTRA[name][:, 0] for name in names}, wavelength=axes, **labels)
        for k, processing in enumerate(PROCESSINGS[1:], 1):
            ds.update_x([SPECTRA[name][:, k] for name in names], EVERYONE, processing)
    else:
        ds.add_features({n: SPECTRA[n] for n in names}, processing=PROCESSINGS, wavelength=axes, **labels)
    ds.add_meta(pl.DataFrame({"batch": BATCH, "operator": OPERATOR}))
    ds.add_targets(pl.DataFrame({"protein": PROTEIN}))
    if augmented:
        ds.augment_samples_x([(sample, 1) for sample in ORIGINALS])
    return ds


def keywords(call):
    """Arguments of a pack(...) written in a message or a label."""
    (statement,) = ast.parse(call).body
    assert not statement.value.args
    return {word.arg: ast.literal_eval(word.value) for word in statement.value.keywords}


class Stores:
    """Datasets by storage, number of sources and augmentation; those of `get` are not to be changed."""

    def __init__(self, folder):
        self.folder = folder
        self.kept = {}

    def fresh(self, storage, count, augmented=False):
        ds = build(count, augmented, added=storage.startswith("variants"))
        if storage.startswith("pack"):
            ds.pack(**keywords(storage))
        if storage.startswith("loaded"):
            options = keywords(f"f({storage.removeprefix('loaded, ')})")
            path = self.folder / f"{'-'.join(map(str, options.values()))}{count}{augmented}.spectro"
            if not path.exists():
                ds.save(path, **options)
            ds = SpectroDataset.load(path, lazy="zstd" not in storage)
        return ds

    def get(self, storage, count, augmented=False):
        key = (storage, count, augmented)
        if key not in self.kept:
            self.kept[key] = self.fresh(storage, count, augmented)
        return self.kept[key]

    def packed(self, storage, count, augmented, call):
        key = (storage, count, augmented, call)
        if key not in self.kept:
            self.kept[key] = self.fresh(storage, count, augmented)
            self.kept[key].pack(**keywords(call))
        return self.kept[key]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return Stores(tmp_path_factory.mktemp("stores"))


def cells_of_kind():
    """Layout, number of sources, src_concat."""
    for count in (1, 2, 3):
        for concat in (False, True):
            for layout in LAYOUTS:
                yield layout, count, concat


def sealed(array):
    """Why an array, or one it is a view of, can be written or made writable; None if it cannot."""
    link = array
    depth = 0
    while isinstance(link, np.ndarray):
        where = f"base {depth}" if depth else "array"
        if link.flags.writeable:
            return f"{where} is writable"
        try:
            link.flags.writeable = True
        except ValueError:
            pass
        else:
            link.flags.writeable = False
            return f"{where} can be made writable"
        link = link.base
        depth += 1
    return None


def shares(ds, arrays):
    """Whether all arrays lie in the sources of a dataset (the first of each, several if joined)."""
    stored = [source.array for source in ds.features.sources]
    if len(arrays) == len(stored):
        return all(np.shares_memory(a, b) for a, b in zip(arrays, stored, strict=True))
    (joined,) = arrays
    return all(np.shares_memory(joined, b) for b in stored)


def touches(ds, arrays):
    """Whether any array lies in any source."""
    return any(np.shares_memory(a, source.array) for a in arrays for source in ds.features.sources)


matrix = pytest.mark.parametrize(
    ("storage", "kind"), [pytest.param(s, k, id=f"{s} - {k}") for s in STORAGES for k in KINDS]
)


def test_the_tables_state_every_cell():
    for cells in CELLS.values():
        assert list(cells) == list(KINDS)
        for groups in cells.values():
            assert [len(group) for group in groups] == [4, 4, 4]
            assert {word for group in groups for word in group} <= {"view", "copy"}
    assert set(STORAGES.values()) == set(CELLS)


@matrix
def test_cell(stores, storage, kind):
    chosen = KINDS[kind]
    wrong = []
    for layout, count, concat in cells_of_kind():
        cell = (layout, count, concat)
        ds = stores.get(storage, count, chosen.augmented)
        for source in ds.features.sources:
            assert source.array.shape[1] == 4
        arrays = ds.x(chosen.filter, layout, concat)
        right = expected(chosen, SOURCES[:count], layout, concat)
        assert len(arrays) == len(right), cell
        for array, values in zip(arrays, right, strict=True):
            assert array.dtype == np.float32, cell
            np.testing.assert_array_equal(array, values, strict=True, err_msg=str(cell))
        if stated(storage, kind, layout, count, concat) == "view":
            if not shares(ds, arrays):
                wrong.append((cell, "should be a view"))
            asked = ds.x(chosen.filter, layout, concat, copy=False)
            for array, again in zip(arrays, asked, strict=True):
                assert again.__array_interface__["data"] == array.__array_interface__["data"], cell
                assert again.strides == array.strides, cell
        else:
            if touches(ds, arrays):
                wrong.append((cell, "should be a copy"))
            with pytest.raises(NoViewError):
                ds.x(chosen.filter, layout, concat, copy=False)
    assert not wrong


@matrix
def test_no_array_can_be_written_or_made_writable(stores, storage, kind):
    chosen = KINDS[kind]
    wrong = []
    for layout, count, concat in cells_of_kind():
        ds = stores.get(storage, count, chosen.augmented)
        for array in ds.x(chosen.filter, layout, concat):
            if (why := sealed(array)) is not None:
                wrong.append((layout, count, concat, why))
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
    assert not wrong


@matrix
def test_no_view_names_the_reason_and_a_remedy_that_works(stores, storage, kind):
    chosen = KINDS[kind]
    wrong = []
    for layout, count, concat in cells_of_kind():
        if stated(storage, kind, layout, count, concat) == "view":
            continue
        cell = (layout, count, concat)
        ds = stores.get(storage, count, chosen.augmented)
        with pytest.raises(NoViewError) as caught:
            ds.x(chosen.filter, layout, concat, copy=False)
        message = str(caught.value)
        reason = [
            word
            for word in ("share", "scattered", "evenly spaced", "contiguous", "order", "part of the axis", "separate")
            if word in message
        ]
        if not reason:
            wrong.append((cell, "no reason", message))
        calls = re.findall(r"pack\([^()]*\)", message)
        if not calls and packable(kind, layout, count, concat):
            wrong.append((cell, "a pack exists and is not named", message))
        if not calls and "copy=None" not in message:
            wrong.append((cell, "no remedy", message))
        for call in calls:
            if "..." in call:
                wrong.append((cell, "not a call one can run", message))
                continue
            packed = stores.packed(storage, count, chosen.augmented, call)
            try:
                arrays = packed.x(chosen.filter, layout, concat, copy=False)
            except NoViewError:
                wrong.append((cell, f"no view after {call}", message))
                continue
            assert shares(packed, arrays), cell
            for array, values in zip(arrays, expected(chosen, SOURCES[:count], layout, concat), strict=True):
                np.testing.assert_array_equal(array, values, strict=True)
    assert not wrong


def every_other(array):
    return array[(slice(None, None, 2),) * array.ndim]


@matrix
def test_copies(stores, storage, kind):
    chosen = KINDS[kind]
    for layout, count, concat in cells_of_kind():
        cell = (storage, kind, layout, count, concat)
        ds = stores.get(storage, count, chosen.augmented)
        right = expected(chosen, SOURCES[:count], layout, concat)
        private = ds.x(chosen.filter, layout, concat, copy=True)
        assert not touches(ds, private), cell
        for array, values in zip(private, right, strict=True):
            np.testing.assert_array_equal(array, values, strict=True, err_msg=str(cell))
            assert array.flags.writeable and array.flags.owndata, cell
            array[...] = 7
        contiguous = [np.full(values.shape, np.nan, np.float32) for values in right]
        strided = [every_other(np.full([2 * n for n in values.shape], np.nan)) for values in right]
        backwards = [np.flip(np.full(values.shape, np.nan, np.float32)) for values in right]
        turned = [np.full(v.shape[::-1], np.nan, np.float32).T for v in right]
        for out in (contiguous, strided, backwards, turned):
            given = ds.x(chosen.filter, layout, concat, out=out)
            for array, buffer, values in zip(given, out, right, strict=True):
                assert array is buffer, cell
                np.testing.assert_array_equal(buffer, values, err_msg=str(cell))
        assert np.isnan(strided[0].base).sum() == strided[0].base.size - right[0].size, cell


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("concat", [False, True])
@pytest.mark.parametrize("kind", ["everything", "list, scattered", "processings, scattered", "wavelengths, scattered"])
def test_out_that_does_not_fit_is_an_error_and_is_left_alone(kind, layout, concat):
    chosen = KINDS[kind]
    ds = build(3, augmented=False)
    right = expected(chosen, SOURCES, layout, concat)

    def buffers():
        return [np.full(values.shape, -1, np.float32) for values in right]

    def refused(out, error):
        given = [out] if isinstance(out, np.ndarray) else out
        before = [array.copy() for array in given]
        with pytest.raises(error, match="out"):
            ds.x(chosen.filter, layout, concat, out=out)
        for array, old in zip(given, before, strict=True):
            np.testing.assert_array_equal(array, old)

    last = buffers()
    last[-1] = np.full([n + 1 for n in right[-1].shape], -1, np.float32)
    refused(last, ValueError)
    flat = buffers()
    flat[-1] = np.full(right[-1].size, -1, np.float32)
    refused(flat, ValueError)
    for dtype in (np.float16, np.int32, np.int64, bool):
        narrow = buffers()
        narrow[-1] = np.zeros(right[-1].shape, dtype)
        refused(narrow, TypeError)
    frozen = buffers()
    frozen[-1].flags.writeable = False
    refused(frozen, ValueError)
    refused([*buffers(), np.zeros(3, np.float32)], ValueError)
    with pytest.raises(TypeError, match="out"):
        ds.x(chosen.filter, layout, concat, out=[values.tolist() for values in right])
    with pytest.raises(ValueError, match="copy=False"):
        ds.x(chosen.filter, layout, concat, out=buffers(), copy=False)
    for name in SOURCES:
        np.testing.assert_array_equal(ds.x({"source": name}, "3d")[0], SPECTRA[name])


def adopted(n=8):
    rng = np.random.default_rng(3)
    mine = {name: rng.normal(size=(n, 2, 5)).astype("float32") for name in ("nir", "mir")}
    ds = SpectroDataset()
    ds.add_features(mine, copy=False)
    assert all(np.shares_memory(ds.features.sources[k].array, a) for k, a in enumerate(mine.values()))
    return ds, mine


@pytest.mark.parametrize("filter", [None, {"sample": [0, 3, 4]}])
@pytest.mark.parametrize("which", ["nir", "mir"])
def test_out_that_overlaps_the_store_is_an_error(filter, which):
    ds, mine = adopted()
    before = {name: array.copy() for name, array in mine.items()}
    chosen = {"source": "nir", **(filter or {})}
    count = 8 if filter is None else 3
    with pytest.raises(ValueError, match="out"):
        ds.x(chosen, "3d", out=mine[which][8 - count :])
    for name in mine:
        np.testing.assert_array_equal(mine[name], before[name])


def test_out_arrays_that_overlap_each_other_are_an_error():
    ds, _ = adopted()
    buffer = np.full((8, 2, 5), -1, np.float32)
    with pytest.raises(ValueError, match="out"):
        ds.x(None, "3d", out=[buffer, buffer])
    assert (buffer == -1).all()


def test_out_that_shows_its_memory_twice_is_an_error():
    ds = build(1, augmented=False)
    base = np.full(8, -1, np.float32)
    twice = np.lib.stride_tricks.as_strided(base, (12, 4, 8), (0, 0, 4))
    with pytest.raises(ValueError, match="out"):
        ds.x(None, "3d", out=twice)
    assert (base == -1).all()


def test_out_of_a_wider_dtype_holds_every_value():
    ds = build(2, augmented=False)
    chosen = KINDS["list, scattered"]
    right = expected(chosen, SOURCES[:2], "2d_interlaced", False)
    wide = [np.zeros(values.shape) for values in right]
    ds.x(chosen.filter, "2d_interlaced", out=wide)
    for array, values in zip(wide, right, strict=True):
        np.testing.assert_array_equal(array, values.astype(np.float64))


# Memory -----------------------------------------------------------------------------------------------------

LARGE = (3000, 4, 300)


@pytest.fixture(scope="module")
def large():
    rng = np.random.default_rng(5)
    names = ("nir", "mir")
    spectra = {name: rng.random(LARGE, dtype=np.float32) for name in names}
    ds = SpectroDataset()
    ds.add_features(spectra, processing=PROCESSINGS, partition=["a" if k % 7 < 4 else "b" for k in range(LARGE[0])])
    return ds


def peak_of(getter, *args, **options):
    getter(*args, **options)
    tracemalloc.start()
    try:
        getter(*args, **options)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


BIG_FILTERS = {
    "everything": None,
    "partition, scattered": {"partition": "a"},
    "one processing, scattered rows": {"partition": "a", "processing": "d1"},
    "processings, scattered": {"processing": ["raw", "snv", "d2"]},
    "both scattered": {"partition": "a", "processing": ["raw", "snv", "d2"]},
    "wavelength range": {"wavelength": slice(20, 250), "partition": "a"},
    "wavelengths, scattered": {"wavelength": [1, 5, 7, 200]},
    "few wavelengths, scattered rows": {"wavelength": [1, 5, 7, 200], "partition": "a"},
    "all scattered": {"wavelength": [1, 5, 7, 200], "partition": "a", "processing": ["raw", "snv", "d2"]},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", BIG_FILTERS)
def test_copies_make_no_temporary(large, name, layout):
    chosen = BIG_FILTERS[name]
    for concat in (False, True):
        out = large.x(chosen, layout, concat, copy=True)
        size = sum(array.nbytes for array in out)
        spaced = [np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)[..., ::2] for a in out]
        assert peak_of(large.x, chosen, layout, concat, out=out) < 700_000, concat
        assert peak_of(large.x, chosen, layout, concat, out=spaced) < 700_000, concat
        assert peak_of(large.x, chosen, layout, concat, copy=True) < size + 700_000, concat


@pytest.mark.parametrize("layout", ["2d", "3d", "3d_transpose"])
def test_a_view_allocates_nothing(large, layout):
    large.x({"partition": "a"}, layout)
    assert peak_of(large.x, {"sample": slice(10, 2000)}, layout, copy=False) < 20_000


# Labelled reads ---------------------------------------------------------------------------------------------


def arrays_within(labelled):
    """Every numpy array one gets at through a DataArray, with the way to it."""
    yield "values", labelled.values
    yield "data", labelled.data
    yield "asarray", np.asarray(labelled)
    yield "_variable._data", labelled._variable._data
    for name, coordinate in labelled.coords.items():
        yield f"{name}.values", coordinate.values
        yield f"{name}.data", coordinate.data
        yield f"{name} asarray", np.asarray(coordinate)
        yield f"{name} variable.values", coordinate.variable.values
        if name in labelled.dims:
            index = labelled.indexes[name]
            yield f"{name}.to_index().values", coordinate.to_index().values
            yield f"{name}.to_index().to_numpy()", coordinate.to_index().to_numpy()
            yield f"{name} index", index.values
            yield f"{name} index.array", np.asarray(index.array)
            yield f"{name} xindex", labelled.xindexes[name].index.values
            yield f"{name}._variable._data", np.asarray(coordinate._variable._data)
        else:
            held = coordinate._variable._data
            assert isinstance(held, np.ndarray), (name, type(held))
            yield f"{name}._variable._data", held


def sealed_within(labelled):
    found = []
    for name, array in arrays_within(labelled):
        assert isinstance(array, np.ndarray), name
        if (why := sealed(array)) is not None:
            found.append((name, why))
        if array.flags.writeable:
            continue
        try:
            array[...] = array.flat[0]
        except ValueError:
            continue
        found.append((name, "was written"))
    return found


@pytest.mark.parametrize("storage", STORAGES)
def test_no_coordinate_can_be_written_or_made_writable(stores, storage):
    wrong = []
    for name, chosen in KINDS.items():
        ds = stores.get(storage, 2, chosen.augmented)
        wrong += [(name, *found) for found in sealed_within(ds.sel(chosen.filter, source="mir"))]
    ds = stores.get(storage, 2, True)
    for source in ("nir", "mir"):
        wrong += [(f"ds[{source!r}]", *found) for found in sealed_within(ds[source])]
        wrong += [(f"tree[{source!r}]", *found) for found in sealed_within(ds.tree[source]["spectra"])]
        wrong += [(f"sources[{source!r}].data", *f) for f in sealed_within(ds.features.cells.source(source).data)]
    assert not wrong


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_sel_is_a_view_where_the_3d_layout_is(stores, storage, kind):
    chosen = KINDS[kind]
    ds = stores.get(storage, 2, chosen.augmented)
    for k, source in enumerate(SOURCES[:2]):
        stored = ds.features.sources[k].array
        spectra = ds.sel(chosen.filter, source=source)
        np.testing.assert_array_equal(spectra.values, expected(chosen, [source], "3d", False)[0], strict=True)
        view = stated(storage, kind, "3d", 2, False) == "view"
        assert np.shares_memory(spectra.values, stored) == view
        assert np.shares_memory(spectra.data, stored) == view


# Particular views -------------------------------------------------------------------------------------------


def test_each_layout_and_src_concat_is_a_view_after_its_pack():
    for layout in LAYOUTS:
        apart = build(3, augmented=False)
        apart.pack(layout=layout)
        assert shares(apart, apart.x(None, layout, copy=False))
        together = build(3, augmented=False)
        together.pack(layout=layout, src_concat=True)
        (joined,) = together.x(None, layout, src_concat=True, copy=False)
        assert shares(together, (joined,))
        np.testing.assert_array_equal(joined, expected(KINDS["everything"], SOURCES, layout, True)[0], strict=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("by", ["operator", "protein", ["partition", "group"], "batch", "sample", "origin", "branch"])
def test_pack_by_keeps_ids_and_values(layout, by):
    ds = build(2, augmented=True)
    before = ds.features.index_df
    ds.pack(by=by, layout=layout, src_concat=True)
    after = ds.features.index_df
    assert after.drop("row").equals(before.drop("row"))
    for name in ("everything", "augmented with originals", "wavelengths, scattered"):
        chosen = KINDS[name]
        samples = chosen.samples if name != "everything" else tuple(range(15))
        every = Kind(chosen.filter, samples, chosen.processings, chosen.bands)
        if name == "wavelengths, scattered":
            every = Kind(chosen.filter, tuple(range(15)), chosen.processings, chosen.bands)
        for concat in (False, True):
            for array, values in zip(
                ds.x(every.filter, layout, concat), expected(every, SOURCES[:2], layout, concat), strict=True
            ):
                np.testing.assert_array_equal(array, values)


def test_rows_that_run_backwards_are_a_view():
    ds = build(2, augmented=False)
    ds.add_meta(pl.DataFrame({"sample": EVERYONE, "countdown": EVERYONE[::-1]}))
    ds.pack(by="countdown")
    for layout in ("2d", "3d", "3d_transpose"):
        arrays = ds.x(None, layout, copy=False)
        assert shares(ds, arrays)
        assert arrays[0].strides[0] < 0
        for array, values in zip(arrays, expected(KINDS["everything"], SOURCES[:2], layout, False), strict=True):
            np.testing.assert_array_equal(array, values)
        chosen = KINDS["every third sample"]
        (array, _) = ds.x(chosen.filter, layout, copy=False)
        np.testing.assert_array_equal(array, expected(chosen, SOURCES[:2], layout, False)[0])


def test_a_sample_and_its_augmented_copies_are_one_row_shown_again():
    ds = build(1, augmented=False)
    ds.augment_samples_x([(2, 3)])
    (array,) = ds.x({"sample": [2, 12, 13, 14]}, "3d", copy=False)
    assert shares(ds, (array,))
    np.testing.assert_array_equal(array, SPECTRA["nir"][[2, 2, 2, 2]])


def test_mixed_augmented_samples_are_views_when_selected_apart():
    ds = build(2, augmented=True)
    with pytest.raises(NoViewError, match="apart"):
        ds.x({"sample": [1, 2, 12]}, copy=False)
    assert shares(ds, ds.x({"sample": [1, 2]}, copy=False))
    assert shares(ds, ds.x({"sample": [12]}, copy=False))


def remedied(ds, filter, layout="3d", concat=False):
    """Run the pack that the error names, and return its call."""
    with pytest.raises(NoViewError) as caught:
        ds.x(filter, layout, concat, copy=False)
    (call,) = re.findall(r"pack\([^()]*\)", str(caught.value))
    before = [array.copy() for array in ds.x(filter, layout, concat)]
    ds.pack(**keywords(call))
    arrays = ds.x(filter, layout, concat, copy=False)
    assert shares(ds, arrays)
    for array, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, old, strict=True)
    return call


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("concat", [False, True])
@pytest.mark.parametrize(
    "filter",
    [
        {"operator": "ann", "partition": "train"},
        {"operator": "bob", "batch": "c"},
        (pl.col("operator") == "bob") & (pl.col("batch") == "c"),
        {"partition": "val", "group": [0, 2]},
        {"operator": pl.col("operator").str.starts_with("a")},
    ],
    ids=["train of ann", "c of bob", "the same, an expression", "two groups", "expression in a dict"],
)
def test_the_remedy_for_filters_on_several_columns(filter, layout, concat):
    assert "by=" in remedied(build(2, augmented=False), filter, layout, concat)


def test_the_remedy_for_all_samples_after_a_sort_is_to_undo_it():
    ds = build(2, augmented=False)
    ds.pack(by="operator")
    assert remedied(ds, None, "2d") == "pack()"


def test_the_remedy_with_augmented_samples():
    ds = build(1, augmented=True)
    assert "by='partition'" in remedied(ds, {"partition": "val"})
    assert "by='operator'" in remedied(ds, {"operator": "bob", "sample": slice(0, 11)})


def test_a_column_that_marks_scattered_samples_makes_them_a_range():
    ds = build(2, augmented=False)
    chosen = KINDS["list, scattered"]
    with pytest.raises(NoViewError, match="No pack"):
        ds.x(chosen.filter, copy=False)
    ds.add_meta(pl.DataFrame({"sample": EVERYONE, "mark": [sample in chosen.samples for sample in EVERYONE]}))
    ds.pack(by="mark")
    for filter in (chosen.filter, {"mark": True}):
        arrays = ds.x(filter, copy=False)
        assert shares(ds, arrays)
        for array, values in zip(arrays, expected(chosen, SOURCES[:2], "2d", False), strict=True):
            np.testing.assert_array_equal(array, values)


def test_wavelengths_of_an_odd_axis_with_a_step():
    spectra = np.random.default_rng(0).random((6, 2, 5))
    ds = SpectroDataset()
    ds.add_features([spectra])
    chosen = {"wavelength": pl.col("wavelength") % 2 == 0}
    right = spectra[:, :, ::2]
    for layout in ("3d", "3d_transpose"):
        assert shares(ds, ds.x(chosen, layout, copy=False))
    (flat,) = ds.x(chosen, "2d")
    assert not np.shares_memory(flat, ds.features.sources[0].array)
    np.testing.assert_array_equal(flat, right.reshape(6, 6))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_wavelength_is_a_view_in_every_layout(layout):
    ds = build(2, augmented=False)
    arrays = ds.x({"wavelength": 1020}, layout, copy=False)
    assert shares(ds, arrays)
    for array, values in zip(arrays, expected(Kind(None, ALL, bands=(2,)), SOURCES[:2], layout, False), strict=True):
        np.testing.assert_array_equal(array, values, strict=True)


@pytest.mark.parametrize("pack", ["2d_interlaced", "3d", "3d_transpose"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_range_that_runs_on_into_the_next_source_is_a_view(pack, layout):
    rng = np.random.default_rng(1)
    vis, nir = rng.random((7, 3, 10)), rng.random((7, 3, 6))
    ds = SpectroDataset()
    ds.add_features(
        {"vis": vis, "nir": nir}, wavelength={"vis": 400 + 10 * np.arange(10), "nir": 500 + 10 * np.arange(6)}
    )
    ds.pack(layout=pack, src_concat=True)
    both = np.concatenate([vis[:, :, 4:], nir[:, :, :3]], axis=2)
    chosen = {"wavelength": slice(440, 520)}
    seen = {
        ("3d", "3d"), ("3d", "3d_transpose"),
        ("2d_interlaced", "3d"), ("2d_interlaced", "3d_transpose"), ("2d_interlaced", "2d_interlaced"),
        ("3d_transpose", "3d"), ("3d_transpose", "3d_transpose"), ("3d_transpose", "2d_interlaced"),
    }  # fmt: skip
    (joined,) = ds.x(chosen, layout, src_concat=True)
    assert shares(ds, (joined,)) == ((pack, layout) in seen)
    right = {
        "2d": np.concatenate([both[:, :, :6].reshape(7, -1), both[:, :, 6:].reshape(7, -1)], axis=1),
        "2d_interlaced": both.transpose(0, 2, 1).reshape(7, -1),
        "3d": both,
        "3d_transpose": both.transpose(0, 2, 1),
    }
    np.testing.assert_array_equal(joined, right[layout])


def test_variants_added_to_a_mapped_store(stores):
    ds = stores.fresh("loaded, compression=None", 2)
    more = {name: SPECTRA[name][:, 0] * 2 for name in SOURCES[:2]}
    ds.update_x(more, EVERYONE, "doubled")
    for processing in [*PROCESSINGS, "doubled"]:
        assert all(not a.flags.owndata for a in ds.x({"processing": processing}, copy=False))
    assert len(ds.x({"processing": PROCESSINGS}, "3d", copy=False)) == 2
    with pytest.raises(NoViewError, match=r"stored apart.*pack\(\)"):
        ds.x(None, "3d", copy=False)
    right = [np.concatenate([SPECTRA[n], more[n][:, None]], axis=1) for n in SOURCES[:2]]
    for array, values in zip(ds.x(None, "3d"), right, strict=True):
        np.testing.assert_array_equal(array, values)
        assert sealed(array) is None
    ds.pack()
    arrays = ds.x(None, "3d", copy=False)
    assert shares(ds, arrays)
    for array, values in zip(arrays, right, strict=True):
        np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize("storage", MAPPED)
def test_views_of_a_mapped_store_lie_in_the_map(stores, storage):
    ds = stores.get(storage, 3)
    for array in [*ds.x(None, "3d", copy=False), *(source.array for source in ds.features.sources)]:
        link = array
        while not isinstance(link, np.memmap | mmap.mmap):
            link = link.obj if isinstance(link, memoryview) else link.base
            assert link is not None
        if isinstance(link, np.memmap):
            assert link.mode == "r"
        else:
            with pytest.raises(TypeError, match="readonly"):
                link[0] = 0


@pytest.mark.parametrize("storage", MAPPED)
def test_an_update_leaves_the_mapped_file_alone(stores, storage):
    ds = stores.fresh(storage, 1)
    (before,) = ds.x(None, "3d", copy=False)
    ds.update_x([np.zeros((2, 8), "float32")], [3, 4], "snv")
    np.testing.assert_array_equal(before, SPECTRA["nir"])
    (after,) = ds.x(None, "3d", copy=False)
    right = SPECTRA["nir"].copy()
    right[[3, 4], 1] = 0
    np.testing.assert_array_equal(after, right)
    np.testing.assert_array_equal(stores.fresh(storage, 1).x(None, "3d")[0], SPECTRA["nir"])


def test_spectra_of_a_compressed_store_stay_in_memory_once_read_as_a_whole(stores, tmp_path):
    ds = build(1, augmented=False)
    ds.save(tmp_path / "a.spectro")
    loaded = SpectroDataset.load(tmp_path / "a.spectro")
    (array,) = loaded.x(None, "3d", copy=False)
    loaded.update_x([np.zeros((12, 8), "float32")], EVERYONE, "raw")
    assert (array[:, 0] == 0).all()


def test_variants_stored_apart_become_one_at_the_first_read_and_views_go_on():
    ds = build(2, augmented=False, added=True)
    (early, _) = ds.x({"processing": "snv"}, copy=False)
    (again, _) = ds.x({"processing": "snv"}, copy=False)
    assert np.shares_memory(early, again)
    for layout in ("2d", "3d", "3d_transpose"):
        first, _ = ds.x({"processing": ["snv", "d1"]}, layout, copy=False)
        second, _ = ds.x({"processing": ["snv", "d1"]}, layout, copy=False)
        assert np.shares_memory(first, second)
    ds.update_x([np.full((1, 8), 5, "float32"), None], [3], "snv")
    (late, _) = ds.x({"processing": "snv"}, copy=False)
    assert (early[3] == 5).all() and (late[3] == 5).all()
    np.testing.assert_array_equal(early, late)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_view_handed_out_stays(layout):
    ds = build(2, augmented=False)
    held = ds.x({"processing": "d1"}, layout, copy=False)
    before = [array.copy() for array in held]
    more = [np.ones((40, 4, WIDTHS[name]), "float32") for name in SOURCES[:2]]
    ds.add_features(more)
    ds.update_x([a[:, 0] for a in more], range(12, 52), "extra")
    ds.augment_features_x(2)
    ds.add_features({"raman": np.ones((len(ds), 4), "float32")})
    for array, old in zip(held, before, strict=True):
        np.testing.assert_array_equal(array, old)
    ds.pack(by="partition", layout=layout)
    for array, old in zip(held, before, strict=True):
        np.testing.assert_array_equal(array, old)
        assert sealed(array) is None


def test_bad_arguments():
    ds = build(1, augmented=False)
    with pytest.raises(ValueError, match="2d_interlaced"):
        ds.x(None, "2d_interlace")
    with pytest.raises(TypeError, match="copy"):
        ds.x(None, copy="no")


def test_sources_of_two_dtypes_have_no_joint_view():
    ds = SpectroDataset()
    a, b = np.random.default_rng(0).random((2, 5, 3))
    ds.add_features({"a": a.astype("float32"), "b": b})
    with pytest.raises(NoViewError, match="dtypes"):
        ds.x(None, src_concat=True, copy=False)
    (joined,) = ds.x(None, src_concat=True)
    assert joined.dtype == np.float64
    np.testing.assert_array_equal(joined, np.concatenate([a.astype("float32"), b], axis=1))
    with pytest.raises(ValueError, match="dtypes"):
        ds.pack(src_concat=True)


@pytest.mark.parametrize("storage", STORAGES)
def test_indexed_features_agree_with_x(stores, storage):
    for name, chosen in KINDS.items():
        ds = stores.get(storage, 2, chosen.augmented)
        arrays, index = ds.get_indexed_features(chosen.filter, "3d")
        assert index["sample"].to_list() == list(chosen.samples), name
        for array, values in zip(arrays, expected(chosen, SOURCES[:2], "3d", False), strict=True):
            np.testing.assert_array_equal(array, values)
        stored = [source.array for source in ds.features.sources]
        rows = index["row"].to_list()
        bands = [b for b in (chosen.bands or range(8)) if b < 8]
        np.testing.assert_array_equal(arrays[0], stored[0][rows][:, list(chosen.processings)][:, :, bands])


# The page of the documentation ------------------------------------------------------------------------------

PAGE = ROOT / "docs" / "views.md"


def written_filters():
    """The filters of KINDS as they are written above."""
    for statement in ast.parse(Path(__file__).read_text()).body:
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", None) == "KINDS":
            pairs = zip(statement.value.keys, statement.value.values, strict=True)
            return {key.value: f"`{ast.unparse(value.args[0])}`".replace("'", '"') for key, value in pairs}
    raise LookupError("KINDS")


FILTERS_SHOWN = {name: shown.replace("|", "\\|") for name, shown in written_filters().items()}


def rendered(table):
    """A table as Markdown: one word where one source, several and src_concat agree, else the three."""
    lines = ["| filter | " + " | ".join(f"`{layout}`" for layout in LAYOUTS) + " |", "|:--|" + ":-:|" * 4]
    for name, groups in CELLS[table].items():
        words = [[group[k] for group in groups] for k in range(4)]
        shown = [w[0] if len(set(w)) == 1 else " · ".join(w) for w in words]
        lines.append("| " + " | ".join([name, *shown]) + " |")
    return "\n".join(lines)


def test_the_page_shows_these_tables():
    page = PAGE.read_text()
    for table in CELLS:
        heading = f"### {table[0].upper()}{table[1:]}"
        assert heading in page
        section = page.split(heading + "\n", 1)[1].split("\n#", 1)[0]
        assert "\n".join(line for line in section.splitlines() if line.startswith("|")) == rendered(table)
        for storage in STORAGES:
            assert (f"`{storage}`" in section) == (STORAGES[storage] == table), (table, storage)


def test_the_page_shows_the_filters():
    page = PAGE.read_text()
    for name, shown in FILTERS_SHOWN.items():
        assert f"| {name} | {shown} |" in page


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = re.findall(r"```\{code-cell\} python3\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(cells) >= 8
    names = {}
    refused = []
    for cell in cells:
        raises = "raises-exception" in cell
        code = re.sub(r"^(:tags:|%).*$", "", cell, flags=re.MULTILINE)
        try:
            exec(compile(code, str(PAGE), "exec"), names)
        except ValueError as error:
            assert raises
            refused.append(str(error))
        else:
            assert not raises
    assert "pack(by='partition')" in refused[0]
    assert "WRITEABLE" in refused[1]
