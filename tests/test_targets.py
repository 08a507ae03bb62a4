import datetime

import numpy as np
import polars as pl
import pytest

from spectroxr import SpectroDataset, UnknownNameError


@pytest.fixture
def ds():
    ds = SpectroDataset()
    ds.add_features([np.ones((5, 3), "f4")], partition=["train"] * 3 + ["test"] * 2)
    return ds


def test_named_columns_keep_values_and_dtype(ds):
    ds.add_targets(
        pl.DataFrame(
            {"protein": [10.0, 12.0, 13.0, 10.0, 12.0], "n": pl.Series([1, 2, 3, 4, 2**32 - 1], dtype=pl.UInt32)}
        )
    )
    assert ds.y(target="protein").tolist() == [10.0, 12.0, 13.0, 10.0, 12.0]
    assert ds.y(target="n").dtype == np.uint32
    assert ds.y(target="n")[-1] == 2**32 - 1
    assert ds.y().shape == (5, 2)
    assert ds.y()[-1, 1] == 2**32 - 1


def test_y_is_a_view_of_the_column_for_a_range(ds):
    ds.add_targets(pl.DataFrame({"protein": [10.0, 12.0, 13.0, 10.0, 12.0]}))
    a, b = ds.y({"partition": "train"}), ds.y(target="protein")
    assert np.shares_memory(a, b)
    with pytest.raises(ValueError):
        a.flags.writeable = True


def test_any_dtype(ds):
    when = [datetime.datetime(2026, 1, day) for day in range(1, 6)]
    ds.add_targets(
        pl.DataFrame(
            {
                "variety": ["a", "b", None, "a", "b"],
                "when": when,
                "big": [2**62 + 1, 2, 3, 4, 5],
                "flag": [True, False, True, False, True],
                "grade": pl.Series(["x", "y", "x", "y", "x"], dtype=pl.Categorical),
            }
        )
    )
    assert ds.y(target="variety").tolist() == ["a", "b", None, "a", "b"]
    assert ds.y(target="when")[0] == np.datetime64("2026-01-01")
    assert ds.y(target="big")[0] == 2**62 + 1
    assert ds.y(target="flag").dtype == bool
    assert ds.y(target="grade").tolist() == ["x", "y", "x", "y", "x"]
    both = ds.y(target=["big", "flag"])
    assert both[0, 0] == 2**62 + 1


def test_mixed_integers_and_floats_lose_nothing(ds):
    ds.add_targets(pl.DataFrame({"a": [2**53 + 1, 2, 3, 4, 5], "b": [0.1, 0.2, 0.3, 0.4, 0.5]}))
    y = ds.y()
    assert y.dtype == object
    assert y[0].tolist() == [2**53 + 1, 0.1]


def test_missing_is_nan(ds):
    ds.add_targets(pl.DataFrame({"sample": [0, 3], "tannin": [1.5, 2.5], "count": [3, 4]}))
    assert np.isnan(ds.y(target="tannin")).tolist() == [False, True, True, False, True]
    assert ds.y(target="count")[3] == 4.0
    assert np.isnan(ds.y(target="count")[1])


def test_versions(ds):
    ds.add_targets(pl.DataFrame({"variety": ["a", "b", "a", "b", "c"]}))
    ds.update_y(np.array([0, 1, 0, 1, 2], "u1"), ds.features.index_df, "category")
    assert ds.y().ravel().tolist() == [0, 1, 0, 1, 2]
    assert ds.y().dtype == np.uint8
    assert ds.y(processed=False).ravel().tolist() == ["a", "b", "a", "b", "c"]
    onehot = np.eye(3, dtype="f4")[[0, 1, 0, 1, 2]]
    ds.update_y(onehot, ds.features.index_df, "ohe")
    np.testing.assert_array_equal(ds.y({"sample": [1, 4]}), onehot[[1, 4]])
    assert ds.y({"processing": "category", "partition": "test"}).ravel().tolist() == [1, 2]
    versions = ds.get_indexed_targets({"partition": "test"})
    assert [index["processing"][0] for _, index in versions] == ["raw", "category", "ohe"]
    assert all(index["sample"].to_list() == [3, 4] for _, index in versions)
    assert {"variety", "variety@category", "variety@ohe"} <= set(ds.targets.table.columns)


def test_a_version_is_never_mixed_with_raw(ds):
    ds.add_targets(pl.DataFrame({"protein": [1.0, 2.0, 3.0, 4.0, 5.0]}))
    ds.update_y(np.array([0.1, 0.2, 0.3]), [0, 1, 2], "regression")
    assert ds.y({"partition": "train"}).ravel().tolist() == [0.1, 0.2, 0.3]
    with pytest.raises(ValueError, match="2 of 5 samples"):
        ds.y()
    assert ds.y(processed=False).shape == (5, 1)


def test_update_overwrites_only_what_it_names(ds):
    ds.add_targets(pl.DataFrame({"a": [1.0, 2.0, 3.0, 4.0, 5.0], "b": [0.0] * 5}))
    ds.update_y([9.0, 8.0], [4, 1], "raw", target="a")
    assert ds.y(target="a").tolist() == [1.0, 8.0, 3.0, 4.0, 9.0]
    assert ds.y(target="b").tolist() == [0.0] * 5


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda d: d.add_targets(pl.DataFrame({"a": [1.0]})), ValueError),
        (lambda d: d.add_targets(pl.DataFrame({"sample": [0, 9], "a": [1.0, 2.0]})), UnknownNameError),
        (lambda d: d.add_targets(pl.DataFrame({"sample": [0, 0], "a": [1.0, 2.0]})), ValueError),
        (lambda d: d.add_targets(pl.DataFrame({"partition": ["x"] * 5})), ValueError),
        (lambda d: d.add_targets(pl.DataFrame({"y": [1.0] * 5})), ValueError),
        (lambda d: d.add_targets(pl.DataFrame({"y": ["a"] * 5})), (ValueError, TypeError)),
        (lambda d: d.update_y([1.0], [0, 1], "raw"), ValueError),
        (lambda d: d.update_y(["a", "b"], [0, 1], "raw"), TypeError),
        (lambda d: d.update_y([1.0], [0], "raw", target="z"), UnknownNameError),
        (lambda d: d.add_targets({"a": [1]}), TypeError),
    ],
)
def test_bad_input_changes_nothing(ds, call, error):
    ds.add_targets(pl.DataFrame({"y": [1.0, 2.0, 3.0, 4.0, 5.0]}))
    before = ds.targets.table
    with pytest.raises(error):
        call(ds)
    assert ds.targets.table.equals(before)


def test_without_targets(ds):
    with pytest.raises(ValueError, match="add_targets"):
        ds.y()
    with pytest.raises(ValueError, match="add_targets"):
        ds.update_y([1.0], [0], "raw")


def test_augmented_inherits_through_generations(ds):
    ds.add_targets(pl.DataFrame({"protein": [1.0, 2.0, 3.0, 4.0, 5.0]}))
    child = ds.augment_samples_x([(1, 1)])["sample"][0]
    grandchild = ds.augment_samples_x([(child, 1)])["sample"][0]
    assert ds.y({"sample": [child, grandchild]}).ravel().tolist() == [2.0, 2.0]
    ds.update_y([9.0], [child], "raw")
    assert ds.y({"sample": [1, child, grandchild]}).ravel().tolist() == [2.0, 9.0, 9.0]
