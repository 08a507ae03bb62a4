import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.linear_model import Ridge
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from spectroxr import SpectroDataset, UnknownNameError, formulas

FIGURES = {"SEP": "sep", "bias": "bias", "R2": "r2", "RPD": "rpd", "RPIQ": "rpiq", "MAE": "mae"}
ROLES = {"train": "RMSEC", "val": "RMSECV"}
PROTEIN = [10.0, 12.0, 13.0, 11.0, 14.0, 9.0]


@pytest.fixture
def ds():
    ds = SpectroDataset()
    ds.add_features([np.ones((6, 3), "f4")], group=[0, 0, 1, 1, 2, 2])
    ds.add_targets(pl.DataFrame({"protein": PROTEIN}))
    ds.add_meta(pl.DataFrame({"variety": ["a", "b", "a", "b", "a", "b"]}))
    return ds


@pytest.fixture
def oils():
    ds = SpectroDataset()
    ds.add_features([np.ones((6, 3), "f4")])
    ds.add_targets(pl.DataFrame({"country": ["IT", "GR", "IT", "ES", "GR", None], "acid": [1.0, 2, 3, 4, 5, 6]}))
    return ds


def check(line, measured, predicted, role="RMSEP"):
    assert line[role] == pytest.approx(formulas.rmse(measured, predicted), nan_ok=True)
    for column, name in FIGURES.items():
        expected = getattr(formulas, name)(measured, predicted)
        assert line[column] == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True), column
    assert all(line[other] is None for other in {"RMSEC", "RMSECV", "RMSEP"} - {role})


def test_columns_and_one_line_per_model_and_partition(ds):
    ds.add_prediction([11.0, 12.0], {"model": "a", "partition": "train", "sample": [0, 1]})
    ds.add_prediction([12.0, 11.5], {"model": "a", "partition": "val", "sample": [2, 3]})
    ds.add_prediction([13.0, 9.5], {"model": "a", "partition": "test", "sample": [4, 5]})
    ds.add_prediction([13.0, 9.5, 10.0], {"model": "b", "partition": "process", "sample": [4, 5, 0]})
    ds.add_prediction([10.0], {"model": "b", "sample": [0]})
    table = ds.predictions.metrics()
    assert table.columns == [
        *("model", "target", "partition", "n", "missing"),
        *("RMSEC", "RMSECV", "RMSEP", "SEP", "bias", "R2", "RPD", "RPIQ", "MAE"),
        *("accuracy", "balanced_accuracy", "F1"),
    ]
    assert table.select("model", "target", "partition", "n", "missing").rows() == [
        ("a", "protein", "train", 2, 0),
        ("a", "protein", "val", 2, 0),
        ("a", "protein", "test", 2, 0),
        ("b", "protein", "process", 3, 0),
        ("b", "protein", None, 1, 0),
    ]
    assert all(table[name].dtype == pl.Float64 for name in table.columns[5:])
    lines = table.rows(named=True)
    check(lines[0], np.array([10.0, 12]), np.array([11.0, 12]), "RMSEC")
    check(lines[1], np.array([13.0, 11]), np.array([12.0, 11.5]), "RMSECV")
    check(lines[2], np.array([14.0, 9]), np.array([13.0, 9.5]))
    check(lines[3], np.array([14.0, 9, 10]), np.array([13.0, 9.5, 10]))
    check(lines[4], np.array([10.0]), np.array([10.0]))
    assert np.isnan(lines[4]["SEP"]) and lines[0]["accuracy"] is None


def test_runs_are_not_pooled_under_the_name_of_one():
    rng = np.random.default_rng(0)
    ds = SpectroDataset()
    ds.add_features([rng.random((20, 6))], partition=["train"] * 12 + ["test"] * 8)
    ds.add_targets(pl.DataFrame({"protein": rng.random(20)}))
    ds.fit_predict(Ridge(1.0), model="f")
    ds.cross_validate(Ridge(1.0), cv=3, model="c")
    table = ds.predictions.metrics()
    with pytest.raises(ValueError, match="20 lines of model 'f'"):
        ds.fit_predict(Ridge(100.0), model="f")
    with pytest.raises(ValueError, match="12 lines of model 'c'"):
        ds.cross_validate(Ridge(100.0), cv=3, model="c")
    assert ds.predictions.metrics().equals(table)
    assert dict(table.select("model", "n").group_by("model").sum().iter_rows()) == {"f": 20, "c": 12}


numbers = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e4, 1e4, width=32))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(numbers, min_size=1, max_size=12),
    st.lists(
        st.tuples(st.sampled_from(["train", "val", "test", None]), st.lists(numbers, min_size=12, max_size=12)),
        min_size=1,
        max_size=4,
    ),
)
def test_agrees_with_the_formulas_whatever_the_numbers(measured, models):
    ds = SpectroDataset()
    ds.add_features([np.ones((len(measured), 3), "f4")])
    ds.add_targets(pl.DataFrame({"y": measured}))
    for k, (partition, values) in enumerate(models):
        ds.add_prediction(values[: len(measured)], {"model": str(k), "partition": partition})
    true = np.array(measured)
    for line, (partition, values) in zip(ds.predictions.metrics().rows(named=True), models, strict=True):
        check(line, true, np.array(values[: len(true)]), ROLES.get(partition, "RMSEP"))


def test_by_columns_fields_and_samples(ds):
    for fold, samples in enumerate(([0, 1, 2], [3, 4, 5])):
        for lv, features in ((3, ["raw"]), (4, ["raw", "snv"])):
            meta = {"model": "pls", "fold": fold, "partition": "val", "lv": lv, "features": features, "sample": samples}
            ds.add_prediction(np.array(PROTEIN)[samples] + lv + fold, meta)
    metrics = ds.predictions.metrics
    assert metrics(by=()).select("target", "partition", "n").rows() == [("protein", "val", 12)]
    assert metrics(by="fold")["n"].to_list() == [6, 6]
    by = metrics(by=["lv", "features"])
    assert by.select("lv", "features", "bias").rows() == [(3, "raw", 3.5), (4, "raw, snv", 4.5)]
    assert metrics(by=["variety", "fold"]).select("variety", "fold", "n").rows() == [
        ("a", 0, 4),
        ("b", 0, 2),
        ("a", 1, 2),
        ("b", 1, 4),
    ]
    assert metrics(by="group").select("group", "n").rows() == [(0, 4), (1, 4), (2, 4)]
    assert metrics(by="protein").height == 6
    assert metrics(by=["partition", "model"]).columns[:3] == ["partition", "model", "target"]
    assert metrics(by="target")["n"].to_list() == [12]
    assert metrics(filter={"fold": 1, "variety": "b"})["n"].to_list() == [4]
    assert metrics(filter=pl.col("fold") == 0)["n"].to_list() == [6]


def test_fields_of_several_types_and_lines_that_have_none(ds):
    for k, value in enumerate([1, 2.5, "auto", None, {"a": 1}]):
        ds.add_prediction(PROTEIN, {"model": str(k), "seed": k, **({} if value is None else {"setting": value})})
    assert ds.predictions.metrics(by="setting")["setting"].to_list() == ["1", "2.5", "auto", None, '{"a": 1}']
    some = ds.predictions.metrics(by="setting", filter={"seed": [0, 1]})
    assert some["setting"].to_list() == [1.0, 2.5]


def test_names_that_do_not_exist_or_mean_two_things(ds):
    ds.add_prediction(PROTEIN, {"model": "a", "features": ["raw"], "variety": "x"})
    with pytest.raises(UnknownNameError, match="'features'"):
        ds.predictions.metrics(by="feature")
    with pytest.raises(UnknownNameError, match="'model'"):
        ds.predictions.metrics(by=["modell"])
    with pytest.raises(UnknownNameError, match="'protein'"):
        ds.predictions.metrics(target="protien")
    with pytest.raises(ValueError, match="both"):
        ds.predictions.metrics(by="variety")
    with pytest.raises(ValueError, match="twice"):
        ds.predictions.metrics(by=["model", "model"])
    with pytest.raises(ValueError, match="'RMSEP'"):
        ds.predictions.metrics(by=["RMSEP"])
    with pytest.raises(ValueError, match="no prediction matches"):
        ds.predictions.metrics(filter={"model": "b"})
    with pytest.raises(UnknownNameError, match="'model'"):
        ds.predictions.metrics(filter={"modell": "b"})


def test_missing_references_are_counted_and_missing_predictions_show(ds):
    ds.update_y(np.array([10.0, np.nan, 13, 11, 14, 9]), range(6), "raw")
    ds.add_prediction(np.array(PROTEIN) + 1, {"model": "a"})
    ds.add_prediction([1.0], {"model": "b", "sample": [1]})
    ds.add_prediction([1.0, np.nan, 3.0], {"model": "c", "sample": [0, 2, 3]})
    a, b, c = ds.predictions.metrics().rows(named=True)
    assert (a["n"], a["missing"], a["RMSEP"], a["bias"]) == (5, 1, 1.0, 1.0)
    assert (b["n"], b["missing"]) == (0, 1) and np.isnan([b["RMSEP"], b["MAE"], b["R2"]]).all()
    assert (c["n"], c["missing"]) == (2, 0)
    assert np.isnan([c[name] for name in ("RMSEP", *FIGURES)]).all()


def test_augmented_samples_are_compared_with_their_origin(ds):
    ds.augment_samples_x([(0, 1), (5, 1)])
    ds.add_prediction([11.0, 11.0], {"model": "a", "sample": [6, 7]})
    line = ds.predictions.metrics().row(0, named=True)
    check(line, np.array([10.0, 9.0]), np.array([11.0, 11.0]))


def test_several_outputs_are_a_line_per_target(oils):
    oils.add_targets(pl.DataFrame({"water": [5.0, 4, 3, 2, 1, 0]}))
    values = np.column_stack([np.arange(6.0), np.full(6, 2.5)])
    oils.add_prediction(values, {"model": "pls2", "target": ["acid", "water"], "partition": "val"})
    oils.add_prediction(np.arange(6.0), {"model": "pls1", "target": "water", "partition": "val"})
    table = oils.predictions.metrics()
    assert table.select("model", "target", "n").rows() == [
        ("pls2", "acid", 6),
        ("pls2", "water", 6),
        ("pls1", "water", 6),
    ]
    check(table.row(0, named=True), np.arange(1.0, 7), np.arange(6.0), "RMSECV")
    check(table.row(1, named=True), np.array([5.0, 4, 3, 2, 1, 0]), np.full(6, 2.5), "RMSECV")
    assert oils.predictions.metrics(target="water")["model"].to_list() == ["pls2", "pls1"]
    assert oils.predictions.metrics(by=[], target=["acid", "water"])["n"].to_list() == [6, 12]
    with pytest.raises(ValueError, match="country"):
        oils.predictions.metrics(target="country")


def test_a_prediction_that_does_not_say_its_target(oils):
    oils.add_prediction(np.arange(6.0), {"model": "m"})
    with pytest.raises(ValueError, match=r"add_prediction\(values, \{'target'"):
        oils.predictions.metrics()
    assert oils.predictions.metrics(target="acid")["bias"].to_list() == [-1.0]
    oils.add_prediction(np.ones((6, 2)), {"model": "two"})
    with pytest.raises(ValueError, match="2 outputs"):
        oils.predictions.metrics(target="acid", filter={"model": "two"})
    oils.add_prediction(np.arange(6.0), {"model": "wrong", "target": "acidd"})
    with pytest.raises(UnknownNameError, match="'acid'"):
        oils.predictions.metrics(filter={"model": "wrong"})


def test_a_target_that_is_a_vector_has_a_line_per_element():
    ds = SpectroDataset()
    ds.add_features([np.ones((2, 3), "f4")])
    ds.add_targets(pl.DataFrame({"shares": [[1.0, 2.0], [3.0, 4.0]]}))
    ds.add_prediction(np.array([[1.0, 3.0], [4.0, 4.0]]), {"model": "m"})
    table = ds.predictions.metrics()
    assert table.select("target", "bias").rows() == [("shares[0]", 0.5), ("shares[1]", 0.5)]
    ds.add_prediction(np.array([1.0, 3.0]), {"model": "narrow"})
    with pytest.raises(ValueError, match="1 outputs"):
        ds.predictions.metrics(filter={"model": "narrow"})


def test_inverse_lines_stand_for_their_originals_and_nothing_else(ds):
    first, second = MinMaxScaler(), StandardScaler()
    y = ds.y()
    scaled = second.fit_transform(first.fit_transform(y))
    ds.update_y(scaled, range(6), "scaled")
    ds.add_prediction(y.ravel() + 0.5, {"model": "raw", "processing": "raw", "partition": "val"})
    for fold in range(2):
        ds.add_prediction(scaled, {"model": "a", "processing": "scaled", "partition": "val", "fold": fold})
    with pytest.raises(ValueError, match="inverse_transform_prediction"):
        ds.predictions.metrics()
    ds.inverse_transform_prediction([first, second], {"model": "a", "fold": 0}, store="regression")
    with pytest.raises(ValueError, match="'scaled'"):
        ds.predictions.metrics()
    only = ds.predictions.metrics(filter={"model": "a", "fold": 0})
    assert only["n"].to_list() == [6]
    ds.inverse_transform_prediction([first, second], {"model": "a", "fold": 1}, store="regression")
    whole = ds.predictions.metrics()
    assert whole.select("model", "n").rows() == [("raw", 6), ("a", 12)]
    np.testing.assert_allclose(whole["RMSECV"].to_list(), [0.5, 0.0], atol=1e-12)
    # however the lines are named
    for processing in ("scaled", "regression", ["scaled", "regression"]):
        assert ds.predictions.metrics(filter={"model": "a", "processing": processing})["n"].to_list() == [12]
    assert ds.predictions.metrics(by="fold", filter={"model": "a"})["n"].to_list() == [6, 6]


def test_predictions_given_in_the_units_of_the_targets(ds):
    ds.add_prediction(PROTEIN, {"model": "m", "processing": "regression"})
    assert ds.predictions.metrics()["RMSEP"].to_list() == [0.0]
    ds.update_y(np.array(PROTEIN), range(6), "regression")  # the numeric representation of numbers is themselves
    assert ds.predictions.metrics()["RMSEP"].to_list() == [0.0]
    ds.update_y(np.array(PROTEIN) / 10, range(6), "regression")
    with pytest.raises(ValueError, match="'regression'"):
        ds.predictions.metrics()
    ds.add_prediction(PROTEIN, {"model": "z", "processing": "z"})
    with pytest.raises(ValueError, match="'z'"):
        ds.predictions.metrics(filter={"model": "z"})


MEASURED, FOUND = ["IT", "GR", "IT", "ES", "GR"], ["IT", "IT", "IT", "GR", "FR"]


def check_classes(line, measured, predicted):
    assert line["n"] == len(measured)
    assert line["accuracy"] == pytest.approx(formulas.accuracy(measured, predicted))
    assert line["balanced_accuracy"] == pytest.approx(formulas.balanced_accuracy(measured, predicted))
    assert line["F1"] == pytest.approx(formulas.f1(measured, predicted))
    assert line["RMSEP"] is None and line["bias"] is None


CODES = ["ES", "FR", "GR", "IT"]
ONE_HOT = np.eye(4)[[CODES.index(name) for name in [*FOUND, "IT"]]]


@pytest.mark.parametrize(
    ("values", "meta"),
    [
        (np.array([*FOUND, "IT"]), {}),
        (np.array([CODES.index(name) for name in [*FOUND, "IT"]]), {"classes": CODES, "processing": "category"}),
        (np.array([CODES.index(name) for name in [*FOUND, "IT"]], float), {"classes": CODES}),
        (ONE_HOT, {"classes": CODES, "processing": "ohe"}),
        (0.1 + 0.6 * ONE_HOT, {"classes": CODES, "task": "classification"}),
    ],
)
def test_classes_as_text_codes_and_vectors(oils, values, meta):
    oils.add_prediction(values, {"model": "m", "target": "country", **meta})
    line = oils.predictions.metrics().row(0, named=True)
    check_classes(line, MEASURED, FOUND)
    assert line["missing"] == 1
    confusion = oils.predictions.confusion()
    assert confusion.columns == ["model", "target", "partition", "measured", "predicted", "n"]
    expected = sorted(formulas.confusion(MEASURED, FOUND).rows())
    assert sorted(confusion.select("measured", "predicted", "n").rows()) == expected
    counts = sk.confusion_matrix(MEASURED, FOUND, labels=CODES)
    for measured, predicted, n in expected:
        assert counts[CODES.index(measured), CODES.index(predicted)] == n


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcde")), min_size=1, max_size=20))
def test_classes_agree_with_scikit_learn(pairs):
    measured, predicted = map(list, zip(*pairs, strict=True))
    ds = SpectroDataset()
    ds.add_features([np.ones((len(pairs), 2), "f4")])
    ds.add_targets(pl.DataFrame({"kind": measured}))
    ds.add_prediction(np.array(predicted), {"model": "m"})
    ds.add_prediction(np.array(measured), {"model": "right"})
    one, right = ds.predictions.metrics().rows(named=True)
    check_classes(one, measured, predicted)
    assert right["accuracy"] == right["balanced_accuracy"] == right["F1"] == 1.0


@pytest.mark.parametrize(
    ("measured", "predicted", "meta"),
    [
        ([5, 7, 7, 9], np.array([5, 7, 9, 9]), {"task": "classification"}),
        ([5, 7, 7, 9], np.array([5.0, 7, 9, 9]), {"task": "classification", "processing": "raw", "classes": [5, 7, 9]}),
        ([5, 7, 7, 9], np.array([0, 1, 2, 2]), {"classes": [5, 7, 9], "processing": "category"}),
        ([5, 7, 7, 9], np.array(["5", "7", "9", "9"]), {}),
        ([5.0, 7.0, 7.0, 9.0], np.array([0, 1, 2, 2]), {"classes": [5, 7, 9]}),
        (["5", "7", "7", "9"], np.array([0, 1, 2, 2]), {"classes": ["5", "7", "9"], "processing": "raw"}),
    ],
)
def test_classes_that_are_numbers(measured, predicted, meta):
    ds = SpectroDataset()
    ds.add_features([np.ones((4, 2), "f4")])
    ds.add_targets(pl.DataFrame({"grade": measured}))
    ds.add_prediction(predicted, {"model": "m", **meta})
    check_classes(ds.predictions.metrics().row(0, named=True), [5, 7, 7, 9], [5, 7, 9, 9])
    assert ds.predictions.confusion()["measured"].to_list() == ["5", "7", "7", "9"]


def test_truth_values_are_classes():
    ds = SpectroDataset()
    ds.add_features([np.ones((4, 2), "f4")])
    ds.add_targets(pl.DataFrame({"organic": [True, False, True, True]}))
    ds.add_prediction(np.array([True, True, True, False]), {"model": "bool"})
    ds.add_prediction(np.array([1, 1, 1, 0]), {"model": "int"})
    for line in ds.predictions.metrics().rows(named=True):
        check_classes(line, [1, 0, 1, 1], [1, 1, 1, 0])


def test_classes_that_were_inverted(oils):
    codes = np.array([CODES.index(name) for name in [*FOUND, "IT"]])
    oils.update_y(np.array([CODES.index(name) for name in [*MEASURED, "IT"]]), range(6), "category", target="country")
    oils.add_prediction(
        codes, {"model": "m", "target": "country", "processing": "category", "task": "classification", "classes": CODES}
    )
    before = oils.predictions.metrics()
    oils.inverse_transform_prediction([lambda values: np.array(CODES)[values.astype(int)]], store="category")
    after = oils.predictions.metrics()
    assert before.equals(after)
    check_classes(after.row(0, named=True), MEASURED, FOUND)


def test_numbers_and_classes_in_one_table(oils):
    oils.add_prediction(np.arange(6.0), {"model": "pls", "target": "acid", "partition": "test"})
    oils.add_prediction(np.array([*FOUND, "IT"]), {"model": "lda", "target": "country", "partition": "test"})
    table = oils.predictions.metrics()
    assert table.select("model", "target", "partition").rows() == [("pls", "acid", "test"), ("lda", "country", "test")]
    assert table["RMSEP"].to_list() == [1.0, None]
    assert table["accuracy"].to_list() == [None, pytest.approx(formulas.accuracy(MEASURED, FOUND))]
    with pytest.raises(ValueError, match="numbers"):
        oils.predictions.confusion(filter={"model": "pls"})


def test_missing_classes(oils):
    oils.add_prediction(
        np.array(["IT", None, "GR"], dtype=object), {"model": "m", "target": "country", "sample": [0, 1, 5]}
    )
    line = oils.predictions.metrics().row(0, named=True)
    assert (line["n"], line["missing"]) == (1, 1)
    assert np.isnan([line["accuracy"], line["balanced_accuracy"], line["F1"]]).all()
    assert oils.predictions.confusion().select("measured", "predicted", "n").rows() == [
        ("GR", None, 1),
        ("IT", "IT", 1),
    ]
    vectors = ONE_HOT.copy()
    vectors[1, 2] = np.nan
    oils.add_prediction(vectors, {"model": "v", "target": "country", "classes": CODES})
    assert np.isnan(oils.predictions.metrics(filter={"model": "v"})["accuracy"][0])


def test_classes_that_do_not_fit(oils):
    ask = oils.predictions.metrics
    cases = [
        (np.arange(6), {"target": "country"}, ValueError, "'classes'"),
        (np.arange(6), {"target": "country", "classes": CODES}, ValueError, "4.0 is none of the 4 classes"),
        (np.full(6, 0.5), {"target": "country", "classes": CODES}, ValueError, "0.5 is none"),
        (np.ones((6, 3)), {"target": "country", "classes": CODES}, ValueError, "3 places for 4 classes"),
        (np.arange(6), {"target": "country", "task": "regression"}, TypeError, "String"),
        (np.arange(6), {"target": "country", "classes": "ES"}, TypeError, "list"),
    ]
    for k, (values, meta, error, words) in enumerate(cases):
        oils.add_prediction(values, {"model": str(k), **meta})
        with pytest.raises(error, match=words):
            ask(filter={"model": str(k)})


def test_lines_in_any_order_give_the_same(ds):
    kinds = list(itertools.product(["a", "b"], [0, 1], ["train", "val"]))
    rng = np.random.default_rng(0)
    errors = {kind: rng.normal(size=6) for kind in kinds}
    for sample in range(6):  # every line another kind than the one before
        for model, fold, partition in kinds:
            value = PROTEIN[sample] + errors[model, fold, partition][sample]
            meta = {"model": model, "fold": fold, "partition": partition, "sample": [sample], "lv": fold}
            ds.add_prediction([value], meta)
    table = ds.predictions.metrics(by=["model", "lv"])
    assert table.height == 8
    for line in table.rows(named=True):
        own = errors[line["model"], line["lv"], line["partition"]]
        check(line, np.array(PROTEIN), np.array(PROTEIN) + own, ROLES[line["partition"]])


def test_a_stored_dataset_gives_the_same(ds, tmp_path):
    ds.add_prediction(np.array(PROTEIN) + 1, {"model": "a", "partition": "val", "lv": 3})
    ds.save(tmp_path / "x.spectro")
    again = SpectroDataset.load(tmp_path / "x.spectro")
    assert again.predictions.metrics(by="lv").equals(ds.predictions.metrics(by="lv"))


def test_json_is_read_once_per_text(ds, monkeypatch):
    import json

    from spectroxr import pairing

    read = []
    monkeypatch.setattr(pairing.json, "loads", lambda text, real=json.loads: read.append(text) or real(text))
    for k in range(40):
        ds.add_prediction(PROTEIN, {"model": f"m{k}", "lv": k % 4})
    assert ds.predictions.metrics(by=["model", "lv"]).height == 40
    assert len(read) == 4
