"""Targets as numbers, and predictions of them back in the units of the targets."""

import json

import numpy as np
import polars as pl
import pytest
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import (
    FunctionTransformer,
    LabelEncoder,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)

from spectroxr import SpectroDataset, UnknownNameError
from spectroxr.encoding import is_record

LANDS = ["Greece", "Italy", "Spain"]


@pytest.fixture
def ds():
    rng = np.random.default_rng(3)
    land = rng.integers(0, 3, 30)
    x = rng.normal(0, 0.3, (30, 8))
    x[np.arange(30), land] += 3
    ds = SpectroDataset()
    ds.add_features({"nir": x}, partition=["train"] * 24 + ["test"] * 6)
    ds.add_targets(pl.DataFrame({"land": [LANDS[k] for k in land], "y": np.exp(x[:, 4]) * 50 + 20}))
    return ds


def train_values(ds, target="y"):
    return ds.y({"partition": "train"}, processing="raw", target=target)


@pytest.mark.parametrize(
    "scaler", [StandardScaler(), StandardScaler(with_mean=False), StandardScaler(with_std=False), RobustScaler(),
               RobustScaler(with_scaling=False), MinMaxScaler((-1, 1)),
               FunctionTransformer(np.log, inverse_func=np.exp)]
)  # fmt: skip
def test_numbers_are_scaled_on_training_samples_alone_and_come_back(ds, tmp_path, scaler):
    ds.encode_targets(scaler, target="y")
    fitted = scaler.fit(train_values(ds)[:, None])
    np.testing.assert_allclose(ds.y(target="y"), fitted.transform(ds.y(processing="raw", target="y")[:, None])[:, 0])
    ds.fit_predict(LinearRegression(), target="y")
    given = ds.prediction({"partition": "test"})
    assert ds.predictions.table["processing"].unique().to_list() == ["regression"]
    expected = fitted.inverse_transform(given)
    ds.save(tmp_path / "s")
    for one in (ds, SpectroDataset.load(tmp_path / "s"), SpectroDataset.load(tmp_path / "s")):
        np.testing.assert_allclose(one.inverse_transform_prediction(filter={"partition": "test"}), expected)
        one.inverse_transform_prediction(store="regression")
        np.testing.assert_allclose(one.prediction({"partition": "test"}, processed=False), expected)
    SpectroDataset.verify(tmp_path / "s")


def test_training_on_a_scaled_target_predicts_the_same_in_its_units(ds):
    raw = ds.cross_validate(PLSRegression(3), target="y", target_version="raw", cv=KFold(4))
    assert not ds.targets.records
    ds.encode_targets(StandardScaler(), target="y")
    ds.cross_validate(PLSRegression(3), target="y", cv=KFold(4), model="scaled")
    back = ds.inverse_transform_prediction(filter={"model": "scaled"})
    np.testing.assert_allclose(back.ravel(), raw["preds"], rtol=1e-9)


@pytest.mark.parametrize("encoder", [LabelEncoder(), OrdinalEncoder()])
def test_class_codes_come_back_as_labels(ds, tmp_path, encoder):
    ds.encode_targets(encoder, target="land")
    assert ds.y(target="land").tolist() == [LANDS.index(one) for one in ds.y(processing="raw", target="land")]
    lines = ds.cross_validate(KNeighborsClassifier(3), target="land", cv=4)
    assert lines["processing"].unique().to_list() == ["category"]
    about = json.loads(lines["metadata"][0])
    assert (about["classes"], about["task"]) == (LANDS, "classification")
    ds.save(tmp_path / "s")
    one = SpectroDataset.load(tmp_path / "s")
    back = one.inverse_transform_prediction(store="category")
    assert back.ravel().tolist() == [LANDS[k] for k in lines["preds"]]
    assert one.prediction({"inverse": True}).ravel().tolist() == back.ravel().tolist()


def test_one_hot_scores_come_back_as_the_label_of_the_largest(ds, tmp_path):
    ds.encode_targets(OneHotEncoder(), target="land")
    assert ds.y(target="land").shape == (30, 3)
    lines = ds.cross_validate(PLSRegression(3), target="land", cv=KFold(4))
    assert json.loads(lines["metadata"][0])["task"] == "classification"
    scores = np.stack(lines["preds"].to_numpy())
    assert scores.shape == (24, 3)
    assert not np.isin(scores, [0, 1]).all()
    ds.save(tmp_path / "s")
    back = SpectroDataset.load(tmp_path / "s").inverse_transform_prediction()
    assert back.ravel().tolist() == [LANDS[k] for k in scores.argmax(axis=1)]
    truth = ds.y(processing="raw", target="land")[lines["sample"]]
    assert np.mean(back.ravel() == truth) > 0.9


def test_several_targets_models_and_versions_at_once(ds):
    ds.add_targets(pl.DataFrame({"z": np.arange(30.0)}))
    ds.encode_targets(StandardScaler(), target=["y", "z"])
    lines = ds.cross_validate(PLSRegression(2), target=["y", "z"], cv=KFold(4))
    both = ds.inverse_transform_prediction()
    given = np.stack(lines["preds"].to_numpy())
    for k, name in enumerate("yz"):
        fitted = StandardScaler().fit(train_values(ds, name)[:, None])
        np.testing.assert_allclose(both[:, [k]], fitted.inverse_transform(given[:, [k]]))
    ds.cross_validate(PLSRegression(2), target="y", target_version="raw", cv=2, model="raw")
    np.testing.assert_array_equal(ds.inverse_transform_prediction(), both)
    ds.encode_targets(MinMaxScaler(), target="y", version="unit")
    one = ds.cross_validate(PLSRegression(2), target="y", target_version="unit", cv=2, model="unit")
    back = ds.inverse_transform_prediction(filter={"model": "unit"})
    low, high = train_values(ds).min(), train_values(ds).max()
    np.testing.assert_allclose(back.ravel(), one["preds"].to_numpy() * (high - low) + low)
    with pytest.raises(ValueError, match="several shapes"):
        ds.inverse_transform_prediction()
    with pytest.raises(ValueError, match="no prediction matches"):
        ds.inverse_transform_prediction(filter={"model": "raw"})


def test_missing_values_stay_missing_and_copies_take_part(ds):
    ds.update_y([None], [2], "raw", target="y")
    copies = ds.augment_samples_x([(0, 1)])
    ds.update_y([1e9], copies["sample"].to_list(), "raw", target="y")
    ds.encode_targets(StandardScaler(), target="y")
    values = train_values(ds)[:24]
    mean, deviation = np.nanmean(values), np.nanstd(values)
    encoded = ds.y(target="y")
    assert np.isnan(encoded[2])
    assert encoded[30] == pytest.approx((1e9 - mean) / deviation)


def test_a_record_that_predictions_need_is_not_replaced_by_another(ds, tmp_path):
    ds.add_targets(pl.DataFrame({"z": np.arange(30.0)}))
    ds.encode_targets(StandardScaler(), target=["y", "z"])
    ds.encode_targets(MinMaxScaler(), target="y")
    ds.encode_targets(StandardScaler(), target="y")
    ds.fit_predict(LinearRegression(), target="y")
    back = ds.inverse_transform_prediction()
    ds.save(tmp_path / "s")
    for one in (ds, SpectroDataset.load(tmp_path / "s")):
        before = one.targets.table, dict(one.targets.records), one.targets.versions
        for names in ("y", ["z", "y"]):
            for other, options in ((MinMaxScaler(), {}), (StandardScaler(), {"fit_on": {"sample": slice(0, 9)}})):
                with pytest.raises(ValueError, match="hold 30 lines of target 'y'") as caught:
                    one.encode_targets(other, target=names, **options)
                assert "version='regression-2'" in str(caught.value)
        assert one.targets.table.equals(before[0])
        assert (one.targets.records, one.targets.versions) == before[1:]
        one.encode_targets(StandardScaler(), target="y")
        one.encode_targets(MinMaxScaler(), target="z")
        one.encode_targets(MinMaxScaler(), target="y", version="regression-2")
        np.testing.assert_array_equal(one.inverse_transform_prediction(), back)


def test_predictions_of_several_targets_or_of_the_only_one_need_its_record_too():
    ds = SpectroDataset()
    ds.add_features({"nir": np.random.default_rng(0).random((10, 4))})
    ds.add_targets(pl.DataFrame({"y": np.arange(10.0)}))
    ds.encode_targets(StandardScaler(), fit_on=None)
    ds.add_prediction(np.zeros(10), {"model": "by hand", "processing": "regression"})
    ds.inverse_transform_prediction(store="regression")
    with pytest.raises(ValueError, match="10 lines of target 'y' in version 'regression'"):
        ds.encode_targets(MinMaxScaler(), fit_on=None)
    ds.add_targets(pl.DataFrame({"z": np.arange(10.0) ** 2}))
    ds.encode_targets(StandardScaler(), target=["y", "z"], version="both", fit_on=None)
    ds.cross_validate(PLSRegression(2), cv=2, target_version="both")
    for name in "yz":
        with pytest.raises(ValueError, match=f"10 lines of target '{name}' in version 'both'"):
            ds.encode_targets(MinMaxScaler(), target=name, version="both", fit_on=None)


def test_what_is_written_by_hand_is_not_what_was_recorded(ds):
    ds.encode_targets(StandardScaler(), target="y")
    ds.fit_predict(LinearRegression(), target="y")
    ds.update_y([5.0], [0], "regression", target="y")
    assert not ds.targets.records
    with pytest.raises(ValueError, match="no transformer is recorded for target 'y' in version 'regression'"):
        ds.inverse_transform_prediction()
    ds.encode_targets(StandardScaler(), target="y")
    assert ds.inverse_transform_prediction().shape == (30, 1)


@pytest.mark.parametrize(
    ("transformer", "options", "kind", "what"),
    [
        (PowerTransformer(), {}, TypeError, "cannot be kept as numbers"),
        (StandardScaler(), {"target": "land"}, TypeError, "not numbers"),
        (StandardScaler(), {"target": "yy"}, UnknownNameError, "Did you mean 'y'"),
        (StandardScaler(), {"version": "ohe"}, ValueError, "makes version 'regression'"),
        (StandardScaler(), {"fit_on": {"partition": "calibration"}}, ValueError, "nothing matches"),
        (StandardScaler(), {}, TypeError, "'land'"),
        (FunctionTransformer(np.log, inverse_func=lambda x: np.exp(x)), {"target": "y"}, TypeError, "numpy functions"),
        (MinMaxScaler(clip=True), {"target": "y"}, ValueError, "clips"),
        (OneHotEncoder(drop="first"), {"target": "land"}, ValueError, "drop=None"),
        (OneHotEncoder(min_frequency=12), {"target": "land"}, ValueError, "min_frequency"),
        (LabelEncoder(), {"target": "land", "fit_on": {"land": ["Italy", "Spain"]}}, ValueError, "'land'.*Greece"),
    ],
)  # fmt: skip
def test_errors_leave_the_targets_as_they_were(ds, transformer, options, kind, what):
    ds.encode_targets(RobustScaler(), target="y")
    before = ds.targets.table, dict(ds.targets.records), ds.targets.versions
    with pytest.raises(kind, match=what):
        ds.encode_targets(transformer, **options)
    assert ds.targets.table.equals(before[0])
    assert (ds.targets.records, ds.targets.versions) == before[1:]


@pytest.mark.parametrize(
    "record",
    [
        None, [], {}, {"transformer": "StandardScaler"}, {"transformer": "Scaler", "shift": 0.0, "factor": 1.0},
        {"transformer": "StandardScaler", "shift": "0", "factor": 1.0},
        {"transformer": "StandardScaler", "shift": 0.0, "factor": float("nan")},
        {"transformer": "StandardScaler", "shift": 0.0, "factor": 1.0, "more": 1},
        {"transformer": "FunctionTransformer", "inverse": "load"},
        {"transformer": "FunctionTransformer", "inverse": "__import__"},
        {"transformer": "OneHotEncoder", "categories": []},
        {"transformer": "OneHotEncoder", "categories": ["a", 1]},
        {"transformer": "LabelEncoder", "categories": "ab"},
        {"transformer": ["LabelEncoder"], "categories": ["a"]},
    ],
)  # fmt: skip
def test_forged_records_are_none(record):
    assert not is_record(record)


def test_a_copy_has_its_own_records(ds):
    import copy

    ds.encode_targets(StandardScaler(), target="y")
    twin = copy.deepcopy(ds)
    assert twin.targets.records == ds.targets.records
    twin.update_y([5.0], [0], "regression", target="y")
    assert ds.targets.records
    assert not twin.targets.records
