import datetime
import json

import numpy as np
import polars as pl
import pytest
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from spectroxr import SpectroDataset, UnknownNameError


@pytest.fixture
def ds():
    ds = SpectroDataset()
    ds.add_features([np.ones((4, 3), "f4")], partition=["train", "train", "test", "test"])
    ds.add_targets(pl.DataFrame({"protein": [10.0, 12.0, 13.0, 11.0]}))
    ds.add_meta(pl.DataFrame({"variety": ["a", "b", "a", "b"]}))
    return ds


def test_table_has_the_columns_of_the_specification(ds):
    ds.add_prediction(
        [1.0, 2.0], {"model": "pls", "fold": 0, "repeat": 1, "partition": "val", "seed": 3, "sample": [2, 0]}
    )
    table = ds.predictions.table
    assert set(table.columns) >= {"sample", "model", "fold", "repeat", "partition", "processing", "seed", "metadata"}
    assert table["sample"].to_list() == [2, 0]
    assert table["sample"].dtype == pl.UInt32
    assert ds.prediction().tolist() == [[1.0], [2.0]]


def test_dtype_and_further_fields_survive(ds):
    values = np.array([1, 2, 3, 2**32 - 1], "u4")
    ds.add_prediction(values, {"model": "m", "when": datetime.date(2026, 11, 23), "rmse": np.float64(0.5)})
    assert ds.prediction().dtype == np.uint32
    assert ds.prediction().ravel().tolist() == values.tolist()
    assert json.loads(ds.predictions.table["metadata"][0]) == {"when": "2026-11-23", "rmse": 0.5}


def test_several_outputs_and_models(ds):
    ds.add_prediction(np.arange(8.0).reshape(4, 2), {"model": "two"})
    assert ds.predictions.table["preds"].dtype == pl.Array(pl.Float64, 2)
    ds.add_prediction(np.arange(4.0), {"model": "one"})
    assert ds.prediction({"model": "two"}).shape == (4, 2)
    assert ds.prediction({"model": "one"}).shape == (4, 1)
    with pytest.raises(ValueError, match="different lengths"):
        ds.prediction()


def test_filters_by_own_columns_and_by_sample(ds):
    for fold in range(2):
        ds.add_prediction(np.arange(4.0) + 10 * fold, {"model": "pls", "fold": fold, "partition": "val"})
    assert ds.prediction({"fold": 1, "variety": "a"}).ravel().tolist() == [10.0, 12.0]
    assert ds.prediction({"partition": "val", "sample": [3]}).ravel().tolist() == [3.0, 13.0]
    assert ds.prediction(pl.col("fold") == 0).shape == (4, 1)
    assert ds.prediction(pl.col("protein") > 11.5).shape == (4, 1)
    mixed = (pl.col("protein") > 11.5) & (pl.col("fold") == 1) & (pl.col("group") == 0)
    assert ds.prediction(mixed).ravel().tolist() == [11.0, 12.0]
    with pytest.raises(UnknownNameError, match="'protein'"):
        ds.prediction((pl.col("fold") == 0) & (pl.col("protien") > 1))
    with pytest.raises(UnknownNameError, match="model"):
        ds.prediction({"modle": "pls"})
    with pytest.raises(ValueError, match="no prediction matches"):
        ds.prediction({"model": "svm"})


def test_inverse_transform_undoes_fitted_transformers_last_to_first(ds):
    y = ds.y()
    first, second = MinMaxScaler().fit(y), None
    second = StandardScaler().fit(first.transform(y))
    ds.add_prediction(second.transform(first.transform(y)), {"model": "pls", "processing": "scaled"})
    back = ds.inverse_transform_prediction([first, second], store="regression")
    np.testing.assert_allclose(back, y)
    assert ds.prediction().shape == (4, 1)
    np.testing.assert_allclose(ds.prediction(processed=False), y)
    assert ds.predictions.table["processing"].to_list() == ["scaled"] * 4 + ["regression"] * 4


def test_inverse_transform_calls_functions_in_order(ds):
    ds.add_prediction([1.0, 2.0, 3.0, 4.0], {"model": "log"})
    back = ds.inverse_transform_prediction([np.exp, lambda v: v + 1])
    np.testing.assert_allclose(back.ravel(), np.exp([1.0, 2.0, 3.0, 4.0]) + 1)
    assert len(ds.predictions) == 4
    with pytest.raises(TypeError, match="mixture"):
        ds.inverse_transform_prediction([np.exp, StandardScaler()])


def test_predictions_given_in_target_units_need_no_inversion(ds):
    ds.add_prediction([1.0, 2.0, 3.0, 4.0], {"model": "m", "processing": "regression"})
    assert ds.prediction(processed=False).ravel().tolist() == [1.0, 2.0, 3.0, 4.0]
    ds.add_prediction([1.0, 2.0, 3.0, 4.0], {"model": "scaled", "processing": "z"})
    with pytest.raises(ValueError, match="inverse_transform_prediction"):
        ds.prediction({"model": "scaled"}, processed=False)


@pytest.mark.parametrize(
    ("values", "meta", "error"),
    [
        ([1.0, 2.0], {"model": "m"}, ValueError),
        ([1.0], {"model": 3, "sample": [0]}, TypeError),
        ([1.0], {"fold": "a", "sample": [0]}, TypeError),
        ([1.0], {"sample": [7]}, UnknownNameError),
        ([1.0, 1.0], {"sample": [1, 1]}, ValueError),
        ([[[1.0]]], {"sample": [1]}, ValueError),
        ([1.0], {"sample": [0], "x": object()}, TypeError),
        ([1.0], "m", TypeError),
    ],
)
def test_bad_input_changes_nothing(ds, values, meta, error):
    with pytest.raises(error):
        ds.add_prediction(values, meta)
    assert len(ds.predictions) == 0


def test_many_models_stay_fast_to_append(ds):
    for k in range(300):
        ds.add_prediction(np.full(4, float(k)), {"model": f"m{k}"})
    assert ds.prediction({"model": "m250"}).ravel().tolist() == [250.0] * 4
    assert len(ds.predictions) == 1200


def test_numbers_and_labels_are_kept_apart(ds):
    ds.add_prediction([0.5, 1.5], {"model": "pls", "sample": [0, 1]})
    ds.add_prediction(np.array(["a", "b"]), {"model": "plsda", "sample": [0, 1]})
    assert ds.prediction({"model": "pls"}).tolist() == [[0.5], [1.5]]
    assert ds.prediction({"model": "plsda"}).tolist() == [["a"], ["b"]]
    with pytest.raises(ValueError, match="numbers and text"):
        ds.prediction()


def test_no_digit_is_lost_between_models(ds):
    ds.add_prediction(np.array([2**53 + 1, 1]), {"model": "counts", "sample": [0, 1]})
    with pytest.raises(TypeError, match="losing digits"):
        ds.add_prediction([0.5], {"model": "pls", "sample": [0]})
    assert ds.prediction().ravel().tolist() == [2**53 + 1, 1]
