import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from spectroxr import formulas

NUMBERS = ("rmse", "bias", "sep", "mae", "r2", "rpd", "rpiq")

MEASURED = np.array([10.0, 12.0, 13.0, 15.0, 20.0])
PREDICTED = np.array([11.0, 12.0, 12.0, 17.0, 21.0])


def test_against_values_computed_by_hand():
    # errors 1, 0, -1, 2, 1: sum 3, squares 7; about their mean 0.6: 7 - 5 * 0.36 = 5.2
    assert formulas.rmse(MEASURED, PREDICTED) == pytest.approx(np.sqrt(7 / 5))
    assert formulas.bias(MEASURED, PREDICTED) == pytest.approx(0.6)
    assert formulas.sep(MEASURED, PREDICTED) == pytest.approx(np.sqrt(5.2 / 4))
    assert formulas.mae(MEASURED, PREDICTED) == pytest.approx(1.0)
    # measured about their mean 14: 16 + 4 + 1 + 1 + 36 = 58; quartiles 12 and 15
    assert formulas.r2(MEASURED, PREDICTED) == pytest.approx(1 - 7 / 58)
    assert formulas.rpd(MEASURED, PREDICTED) == pytest.approx(np.sqrt(58 / 4) / np.sqrt(5.2 / 4))
    assert formulas.rpiq(MEASURED, PREDICTED) == pytest.approx(3 / np.sqrt(7 / 5))


def test_bias_is_positive_where_predictions_are_too_high():
    assert formulas.bias([1.0, 2.0], [2.0, 3.0]) == 1.0


def test_against_scikit_learn():
    assert formulas.rmse(MEASURED, PREDICTED) == pytest.approx(sk.root_mean_squared_error(MEASURED, PREDICTED))
    assert formulas.mae(MEASURED, PREDICTED) == pytest.approx(sk.mean_absolute_error(MEASURED, PREDICTED))
    assert formulas.r2(MEASURED, PREDICTED) == pytest.approx(sk.r2_score(MEASURED, PREDICTED))


def test_one_figure_per_output():
    measured = np.column_stack([MEASURED, MEASURED**2])
    predicted = np.column_stack([PREDICTED, PREDICTED**2])
    for name in NUMBERS:
        formula = getattr(formulas, name)
        found = formula(measured, predicted)
        assert found.shape == (2,)
        assert found.tolist() == [formula(measured[:, k], predicted[:, k]) for k in range(2)], name
        assert isinstance(formula(MEASURED, PREDICTED), float)


@given(
    hnp.arrays(np.float64, st.integers(2, 30), elements=st.floats(-1e3, 1e3, width=32)),
    st.randoms(use_true_random=False),
)
def test_error_parts_into_bias_and_scatter(measured, random):
    predicted = measured + [random.uniform(-5, 5) for _ in measured]
    n = len(measured)
    parts = formulas.sep(measured, predicted) ** 2 * (n - 1) / n + formulas.bias(measured, predicted) ** 2
    assert formulas.rmse(measured, predicted) ** 2 == pytest.approx(parts, rel=1e-9, abs=1e-12)
    assert formulas.mae(measured, predicted) <= formulas.rmse(measured, predicted) + 1e-12


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=4)), st.data())
def test_nothing_warns_whatever_the_numbers(measured, data):
    predicted = data.draw(hnp.arrays(np.float64, measured.shape))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in NUMBERS:
            found = np.asarray(getattr(formulas, name)(measured, predicted))
            assert found.shape == measured.shape[1:]
            lost = np.isnan(measured).any(axis=0) | np.isnan(predicted).any(axis=0)
            assert np.isnan(found[lost]).all(), name


def test_one_sample():
    found = {name: getattr(formulas, name)([10.0], [11.5]) for name in NUMBERS}
    assert (found["rmse"], found["bias"], found["mae"]) == (1.5, 1.5, 1.5)
    assert all(np.isnan(found[name]) for name in ("sep", "r2", "rpd", "rpiq"))


def test_measured_values_that_are_all_the_same():
    # a mean of 0.1 three times is not 0.1: the standard deviation must be told from rounding
    found = {name: getattr(formulas, name)([0.1, 0.1, 0.1], [0.1, 0.2, 0.4]) for name in NUMBERS}
    assert all(np.isnan(found[name]) for name in ("r2", "rpd", "rpiq"))
    assert found["sep"] == pytest.approx(np.std([0.0, 0.1, 0.3], ddof=1))


def test_no_error_and_the_same_error():
    assert formulas.r2(MEASURED, MEASURED) == 1.0
    assert formulas.rpd(MEASURED, MEASURED) == np.inf
    assert formulas.rpiq(MEASURED, MEASURED) == np.inf
    assert formulas.sep(MEASURED, MEASURED + 0.5) == 0.0


def test_integers_do_not_overflow():
    assert formulas.rmse(np.array([250, 3], np.uint8), np.array([3, 250], np.uint8)) == 247.0
    assert formulas.bias(np.array([True, False]), np.array([True, True])) == 0.5


@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_set_of_numbers_raises(name):
    formula = getattr(formulas, name)
    with pytest.raises(ValueError, match="shape"):
        formula([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="at least one"):
        formula([], [])
    with pytest.raises(ValueError, match="shape"):
        formula(np.ones((2, 2, 2)), np.ones((2, 2, 2)))
    with pytest.raises(TypeError, match="numbers"):
        formula(["a"], ["b"])


CLASSES = (["a", "a", "b", "b", "c", "c"], ["a", "b", "b", "b", "a", "d"])


def test_classes_against_values_computed_by_hand():
    assert formulas.accuracy(*CLASSES) == pytest.approx(3 / 6)
    assert formulas.balanced_accuracy(*CLASSES) == pytest.approx((1 / 2 + 1 + 0) / 3)
    # a: 2/(2+1+1), b: 4/(4+1+0), c: 0, d: 0
    assert formulas.f1(*CLASSES) == pytest.approx((1 / 2 + 4 / 5) / 4)
    assert formulas.confusion(*CLASSES).rows() == [
        ("a", "a", 1),
        ("a", "b", 1),
        ("b", "b", 2),
        ("c", "a", 1),
        ("c", "d", 1),
    ]


def test_a_single_class_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert formulas.balanced_accuracy([1, 1], [1, 2]) == 0.5
        assert formulas.accuracy([1], [1]) == formulas.f1([1], [1]) == formulas.balanced_accuracy([1], [1]) == 1.0
        assert formulas.confusion([1], [1]).rows() == [(1, 1, 1)]


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "f1", "confusion"])
def test_classes_that_are_missing_raise(name):
    formula = getattr(formulas, name)
    with pytest.raises(ValueError, match="missing"):
        formula(np.array(["a", None], dtype=object), np.array(["a", "b"], dtype=object))
    with pytest.raises(ValueError, match="missing"):
        formula([1.0, np.nan], [1.0, 1.0])
    with pytest.raises(ValueError, match="argmax"):
        formula(np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="shape"):
        formula([], [])
