import numpy as np
import polars as pl
import pytest

from spectroxr import SpectroDataset, UnknownNameError


@pytest.fixture
def ds():
    ds = SpectroDataset()
    ds.add_features([np.ones((4, 3), "f4")], partition=["train", "train", "test", "test"])
    return ds


def test_values_follow_the_samples(ds):
    ds.add_meta(pl.DataFrame({"sample": [3, 0], "site": ["north", "south"]}))
    assert ds.meta().rows() == [(0, "south"), (1, None), (2, None), (3, "north")]
    assert ds.meta({"partition": "test"})["site"].to_list() == [None, "north"]


def test_more_columns_and_changes(ds):
    ds.add_meta(pl.DataFrame({"site": ["a", "b", "c", "d"]}))
    ds.add_meta(pl.DataFrame({"sample": [1], "site": ["z"], "depth": [3.5]}))
    assert ds.meta()["site"].to_list() == ["a", "z", "c", "d"]
    assert ds.meta()["depth"].to_list() == [None, 3.5, None, None]


def test_augmented_samples_have_their_origins_values_column_by_column(ds):
    ds.add_meta(pl.DataFrame({"site": ["a", "b", "c", "d"], "depth": [1, 2, 3, 4]}))
    child = ds.augment_samples_x([(2, 1)])["sample"][0]
    ds.add_meta(pl.DataFrame({"sample": [child], "depth": [9]}))
    assert ds.meta({"sample": child}).rows() == [(child, "c", 9)]


def test_filters_by_metadata(ds):
    ds.add_meta(pl.DataFrame({"site": ["a", "b", None, "b"], "depth": [1.0, 2.0, 3.0, 4.0]}))
    index = lambda f: ds.get_indexed_features(f)[1]["sample"].to_list()  # noqa: E731
    assert index({"site": "b"}) == [1, 3]
    assert index({"site": None}) == [2]
    assert index({"depth": slice(2.0, 3.0)}) == [1, 2]
    assert index({"depth": slice(None, 2.0), "partition": "train"}) == [0, 1]
    assert index((pl.col("depth") > 1.5) & (pl.col("site") == "b")) == [1, 3]
    assert index({"depth": pl.col("depth") == pl.col("depth").max()}) == [3]


@pytest.mark.parametrize(
    ("table", "error"),
    [
        (pl.DataFrame({"sample": [9], "a": [1]}), UnknownNameError),
        (pl.DataFrame({"sample": [0, 0], "a": [1, 2]}), ValueError),
        (pl.DataFrame({"a": [1]}), ValueError),
        (pl.DataFrame({"sample": [0]}), ValueError),
        (pl.DataFrame({"sample": [0], "wavelength": [1]}), ValueError),
        (pl.DataFrame({"sample": [0], "site": [1]}), TypeError),
        (pl.DataFrame({"sample": ["0"], "a": [1]}), TypeError),
        (pl.DataFrame({"sample": [None, 1], "a": [1, 2]}), ValueError),
        (pl.DataFrame({"sample": [0], "a": [object()]}), TypeError),
        ({"a": [1]}, TypeError),
    ],
)
def test_bad_input_changes_nothing(ds, table, error):
    ds.add_meta(pl.DataFrame({"site": ["a", "b", "c", "d"]}))
    before = ds.metadata.table
    with pytest.raises(error):
        ds.add_meta(table)
    assert ds.metadata.table.equals(before)


def test_a_name_in_two_tables_is_ambiguous(ds):
    ds.add_meta(pl.DataFrame({"site": ["a", "b", "c", "d"]}))
    ds.add_targets(pl.DataFrame({"site": [1.0, 2.0, 3.0, 4.0]}))
    with pytest.raises(ValueError, match="ambiguous"):
        ds.x({"site": "a"})
