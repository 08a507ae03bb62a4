"""Wavelength axes: what is accepted, what a label picks."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectroxr.axis import Axis
from spectroxr.errors import UnknownNameError

RISING = np.array([400.0, 410.0, 420.0, 430.0, 440.0])
FALLING = RISING[::-1]
MIXED = np.array([430.0, 400.0, 440.0, 410.0, 420.0])


def axis(values, **attrs):
    return Axis.build(values, len(values), attrs)


def positions(picks, length):
    return list(range(*picks.indices(length))) if isinstance(picks, slice) else picks.tolist()


def picked(values, wanted):
    return positions(axis(values).select(wanted, "nir"), len(values))


def test_default_axis_counts():
    assert Axis.build(None, 4).values.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "u2"])
@pytest.mark.parametrize("values", [RISING, FALLING, MIXED])
def test_axis_keeps_order_and_dtype(values, dtype):
    given_ = values.astype(dtype)
    built = axis(given_)
    np.testing.assert_array_equal(built.values, given_, strict=True)
    given_[0] = 1
    assert built.values[0] == values[0]
    with pytest.raises(ValueError, match="WRITEABLE"):
        built.values.flags.writeable = True


@pytest.mark.parametrize(
    ("values", "length", "error", "words"),
    [
        ([1.0, 2.0], 3, ValueError, "3 wavelengths"),
        ([[1.0, 2.0]], 2, ValueError, "shape"),
        ([1.0, np.nan], 2, ValueError, "not finite"),
        ([1.0, np.inf], 2, ValueError, "not finite"),
        ([1.0, 2.0, 1.0], 3, ValueError, "twice"),
        (["a", "b"], 2, TypeError, "numbers"),
        ([True, False], 2, TypeError, "numbers"),
        ([1j, 2j], 2, TypeError, "numbers"),
    ],
)
def test_axes_that_are_refused(values, length, error, words):
    with pytest.raises(error, match=words):
        Axis.build(values, length)


def test_attrs_that_are_none_are_left_out():
    assert axis(RISING, units="nm", quantity=None).attrs == {"units": "nm"}


@pytest.mark.parametrize("bounds", [(405, 430), (430, 405)])
@pytest.mark.parametrize(
    ("values", "right"), [(RISING, [1, 2, 3]), (FALLING, [1, 2, 3]), (MIXED, [0, 3, 4])], ids=["up", "down", "mixed"]
)
def test_range_is_inclusive_in_either_direction(values, right, bounds):
    assert picked(values, slice(*bounds)) == right


@pytest.mark.parametrize(
    ("values", "wanted", "right"),
    [
        (RISING, slice(None, None), [0, 1, 2, 3, 4]),
        (RISING, slice(420, None), [2, 3, 4]),
        (RISING, slice(None, 410), [0, 1]),
        (FALLING, slice(420, None), [2, 3, 4]),
        (FALLING, slice(None, 420), [0, 1, 2]),
        (RISING, slice(401, 409), []),
        (RISING, slice(500, 600), []),
    ],
)
def test_open_and_empty_ranges(values, wanted, right):
    assert picked(values, wanted) == right


@pytest.mark.parametrize(
    ("wanted", "right"),
    [
        (420, [2]),
        (420.0, [2]),
        (np.float32(420), [2]),
        ([440, 400], [0, 4]),
        ((410, 410), [1]),
        (np.array([430, 410]), [1, 3]),
        (range(400, 431, 10), [0, 1, 2, 3]),
        (420 + 1e-8, [2]),
        (pl.col("wavelength") > 415, [2, 3, 4]),
        (pl.col("wavelength").is_between(405, 425), [1, 2]),
        (pl.lit(None) & (pl.col("wavelength") > 0), []),
    ],
)
def test_labels_pick_in_axis_order(wanted, right):
    assert picked(RISING, wanted) == right


@pytest.mark.parametrize(
    ("wanted", "near"), [(421, "420"), ([420, 500], "440"), (420.001, "420"), (np.array([0.0]), "400")]
)
def test_label_that_is_not_there_names_the_nearest(wanted, near):
    with pytest.raises(UnknownNameError, match=f"'nir' has no wavelength .* nearest is {near}"):
        axis(RISING).select(wanted, "nir")


@pytest.mark.parametrize(
    "wanted",
    ["420", ["420"], slice("a", "b"), slice(400, 440, 2), {"a": 1}, [[400]], pl.col("wavelength") + 1, True],
)
def test_wavelengths_of_other_kinds_are_refused(wanted):
    with pytest.raises(TypeError, match="wavelength"):
        axis(RISING).select(wanted, "nir")


def test_evenly_spaced_picks_are_a_slice():
    whole = axis(np.arange(10.0))
    assert whole.select(slice(2, 5), "a") == slice(2, 6, 1)
    assert whole.select([9, 6, 3], "a") == slice(3, 10, 3)
    assert isinstance(whole.select([1, 2, 4], "a"), np.ndarray)


@settings(deadline=None)
@given(st.lists(st.integers(-500, 500), min_size=1, max_size=30, unique=True), st.data())
def test_ranges_and_lists_against_plain_comparison(values, data):
    low, high = data.draw(st.integers(-600, 600)), data.draw(st.integers(-600, 600))
    right = [k for k, v in enumerate(values) if min(low, high) <= v <= max(low, high)]
    assert picked(np.array(values, float) / 7, slice(low / 7, high / 7)) == right
    some = data.draw(st.lists(st.sampled_from(values), min_size=1))
    assert picked(np.array(values, float), some) == [k for k, v in enumerate(values) if v in some]


@settings(deadline=None)
@given(st.floats(1e-3, 1e4), st.integers(2, 50), st.floats(-1e5, 1e5))
def test_same_as_forgives_rounding_only(step, count, start):
    values = start + step * np.arange(count)
    built = axis(values)
    assert built.same_as(values)
    assert built.same_as(values + 1e-7 * built.tolerance)
    assert not built.same_as(values + 0.01 * step)
    assert not built.same_as(values[:-1])
    assert not built.same_as(values[::-1] if step > 1 else values + step)


def test_take_keeps_attrs_and_segments():
    merged = Axis(axis(RISING).values, {"units": "nm"}, ("a", "a", "b", "b", "b"))
    part = merged.take(slice(1, 4, 1))
    assert part.values.tolist() == [410, 420, 430]
    assert part.segments == ("a", "b", "b")
    assert part.attrs == {"units": "nm"}
    assert merged.take(slice(0, 5, 1)) is merged
    scattered = merged.take(np.array([0, 4]))
    assert scattered.segments == ("a", "b")
    with pytest.raises(ValueError, match="WRITEABLE"):
        scattered.values.flags.writeable = True
