"""Filters: how dicts and expressions are taken apart, and what they select."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectroxr import SpectroDataset, UnknownNameError
from spectroxr.filters import condition, filter_key, mask_of, parse_filter
from spectroxr.schema import INDEX_SCHEMA

SIDE = {
    "metadata": {"batch": pl.String(), "depth": pl.Float64(), "twice": pl.Int64()},
    "targets": {"protein": pl.Float64(), "twice": pl.Int64()},
}


def chosen(table, filter, side=None):
    """Lines of a table that a filter passes."""
    parsed = parse_filter(filter, side or {"metadata": table.schema})
    return table.with_row_index("__n").filter(mask_of(table, parsed.conditions))["__n"].to_list()


TABLE = pl.DataFrame(
    {
        "site": ["a", "b", None, "a", "c"],
        "depth": [1.0, 2.5, float("nan"), None, 4.0],
        "plot": pl.Series([3, 1, None, 2, 2**32 - 1], dtype=pl.UInt32),
        "wet": [True, False, None, True, False],
    }
)


@pytest.mark.parametrize(
    ("filter", "right"),
    [
        ({"site": "a"}, [0, 3]),
        ({"site": ["a", "c"]}, [0, 3, 4]),
        ({"site": ("a",)}, [0, 3]),
        ({"site": {"b", "c"}}, [1, 4]),
        ({"site": np.array(["a", "b"])}, [0, 1, 3]),
        ({"site": pl.Series(["c"])}, [4]),
        ({"site": None}, [2]),
        ({"site": ["a", None]}, [0, 2, 3]),
        ({"site": [None]}, [2]),
        ({"site": []}, []),
        ({"site": slice("a", "b")}, [0, 1, 3]),
        ({"depth": slice(1, 2.5)}, [0, 1]),
        ({"depth": slice(2, 4)}, [1, 4]),
        ({"depth": 2.5}, [1]),
        ({"depth": np.float64(2.5)}, [1]),
        ({"depth": float("nan")}, [2]),
        ({"depth": None}, [3]),
        ({"plot": 2**32 - 1}, [4]),
        ({"plot": range(1, 3)}, [1, 3]),
        ({"plot": np.array([3, 1], dtype="u4")}, [0, 1]),
        ({"plot": slice(None, 2)}, [1, 3]),
        ({"plot": slice(2, None)}, [0, 3, 4]),
        ({"plot": slice(None, None)}, [0, 1, 3, 4]),
        ({"wet": True}, [0, 3]),
        ({"site": "a", "plot": 2}, [3]),
        ({"site": "x"}, []),
        ({"depth": pl.col("depth") > 2}, [1, 2, 4]),
        (pl.col("site") == "a", [0, 3]),
        ((pl.col("site") == "a") | (pl.col("plot") == 1), [0, 1, 3]),
        (pl.col("wet"), [0, 3]),
        (~pl.col("wet"), [1, 4]),
        (pl.col("site").is_null(), [2]),
        (pl.lit(True), [0, 1, 2, 3, 4]),
        (pl.lit(False), []),
    ],
)
def test_what_a_filter_passes(filter, right):
    assert chosen(TABLE, filter) == right


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.integers(0, 5)), min_size=1, max_size=20),
    st.one_of(
        st.integers(0, 6),
        st.none(),
        st.lists(st.one_of(st.none(), st.integers(0, 6)), max_size=4),
        st.tuples(st.one_of(st.none(), st.integers(0, 6)), st.one_of(st.none(), st.integers(0, 6))).map(
            lambda pair: slice(*pair)
        ),
    ),
)
def test_values_against_plain_python(values, wanted):
    def passes(value):
        if isinstance(wanted, slice):
            low = wanted.start is None or (value is not None and value >= wanted.start)
            high = wanted.stop is None or (value is not None and value <= wanted.stop)
            return value is not None and low and high
        return value in wanted if isinstance(wanted, list) else value == wanted

    table = pl.DataFrame({"plot": pl.Series(values, dtype=pl.UInt32)})
    assert chosen(table, {"plot": wanted}) == [k for k, value in enumerate(values) if passes(value)]


@pytest.mark.parametrize("key", INDEX_SCHEMA)
def test_index_columns_are_keys(key):
    parsed = parse_filter({key: "a" if key in ("partition", "processing") else 1}, SIDE)
    assert parsed.columns == ()
    assert len(parsed.conditions) == 1


def test_parts_of_a_filter():
    parsed = parse_filter({"batch": "b", "source": "nir", "wavelength": slice(1, 2), "protein": 3.0, "group": 1}, SIDE)
    assert parsed.columns == ("batch", "protein")
    assert parsed.source == "nir"
    assert parsed.wavelength == slice(1, 2)
    assert len(parsed.conditions) == 3
    mixed = parse_filter((pl.col("batch") == "b") & (pl.col("group") > 1), SIDE)
    assert mixed.columns == ("batch",)
    assert parse_filter(None, SIDE) == parse_filter({}, SIDE)


@pytest.mark.parametrize(
    ("key", "near"),
    [("partiton", "partition"), ("btach", "batch"), ("Protein", "protein"), ("wavelenght", "wavelength")],
)
def test_unknown_key_raises_with_the_nearest(key, near):
    for filter in ({key: 1}, pl.col(key) == 1):
        with pytest.raises(UnknownNameError, match=f"Did you mean '{near}'"):
            parse_filter(filter, SIDE)


def test_key_that_is_not_text_raises():
    with pytest.raises(UnknownNameError, match="unknown filter key 3"):
        parse_filter({3: 1}, SIDE)


@pytest.mark.parametrize("filter", [{"twice": 1}, pl.col("twice") == 1])
def test_ambiguous_name_raises(filter):
    with pytest.raises(ValueError, match="ambiguous.*metadata and targets"):
        parse_filter(filter, SIDE)


@pytest.mark.parametrize("name", ["group", "source", "wavelength"])
def test_name_of_the_index_in_a_side_table_is_ambiguous(name):
    with pytest.raises(ValueError, match="ambiguous"):
        parse_filter({name: 1}, {"metadata": {name: pl.Int64()}})


@pytest.mark.parametrize("filter", [3, "train", [("partition", "train")], pl.Series([True]), lambda line: True])
def test_other_kinds_of_filter_are_refused(filter):
    with pytest.raises(TypeError, match="a filter is"):
        parse_filter(filter, SIDE)


@pytest.mark.parametrize(
    ("key", "value", "error", "words"),
    [
        ("group", True, TypeError, "True"),
        ("group", [True, False], TypeError, "True"),
        ("group", slice(1, 9, 2), TypeError, "no step"),
        ("group", np.array([[1]]), TypeError, "one-dimensional"),
        ("group", ["a", 1], TypeError, "several types"),
        ("group", pl.col("branch") > 1, ValueError, "may only use 'group'"),
    ],
)
def test_values_that_are_refused(key, value, error, words):
    with pytest.raises(error, match=words):
        condition(key, value, pl.UInt32())


def test_expression_on_wavelength_stands_alone():
    assert parse_filter(pl.col("wavelength") > 3, SIDE).wavelength is not None
    assert parse_filter(pl.col("source") == "nir", SIDE).source is not None
    with pytest.raises(ValueError, match="rectangular"):
        parse_filter((pl.col("wavelength") > 3) & (pl.col("group") == 1), SIDE)


@pytest.mark.parametrize(
    "filter", [{"site": 3}, {"plot": "a"}, pl.col("site") > 3, pl.col("plot") + 1, {"depth": "deep"}], ids=str
)
def test_a_condition_of_the_wrong_type_names_the_column(filter):
    with pytest.raises(TypeError):
        chosen(TABLE, filter)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (None, {}, True),
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": 1.0}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": None}, {"a": []}, False),
        ({"a": [1, 2]}, {"a": [1, 2]}, True),
        ({"a": [1, 2]}, {"a": [[1, 2]]}, False),
        ({"a": slice(1, 2)}, {"a": slice(1, 3)}, False),
        ({"a": np.array([1, 2])}, {"a": np.array([1, 2])}, True),
        ({"a": np.array([1, 2])}, {"a": np.array([1, 3])}, False),
        ({"a": np.array([1, 2])}, {"a": np.array([1.0, 2.0])}, False),
        ({"a": np.array(["x", "y"], object)}, {"a": np.array(["x", "z"], object)}, False),
        ({"a": range(3)}, {"a": range(4)}, False),
        ({"a": pl.Series([1])}, {"a": pl.Series([2])}, False),
        (pl.col("a") > 1, pl.col("a") > 1, True),
        (pl.col("a") > 1, pl.col("a") > 2, False),
        ({"a": pl.col("a") > 1}, {"a": pl.col("a") > 2}, False),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}, False),
    ],
)
def test_keys_for_caches(one, other, same):
    assert (filter_key(one) == filter_key(other)) == same
    hash(filter_key(one))


# Through a dataset ------------------------------------------------------------------------------------------


@pytest.fixture
def ds():
    ds = SpectroDataset()
    spectra = np.arange(60.0).reshape(6, 10)
    ds.add_features(
        {"nir": spectra, "mir": spectra[:, ::-1] + 0.5},
        wavelength={"nir": 1000.0 + 10 * np.arange(10), "mir": 4000.0 - 10 * np.arange(10)},
        partition=["train", "train", "test", "test", "train", None],
        group=[0, 1, 2, 0, 1, None],
    )
    ds.add_meta(pl.DataFrame({"site": ["a", "b", None, "a", "b", "c"], "depth": [1.0, 2, 3, 4, 5, 6]}))
    ds.add_targets(pl.DataFrame({"protein": [10.0, 12.0, 13.0, 11.0, 9.0, None]}))
    return ds


def samples_of(ds, filter):
    return ds.get_indexed_features(filter)[1]["sample"].to_list()


@pytest.mark.parametrize(
    ("filter", "right"),
    [
        ({"partition": "train"}, [0, 1, 4]),
        ({"partition": None}, [5]),
        ({"partition": ["test", None]}, [2, 3, 5]),
        ({"group": slice(1, 2)}, [1, 2, 4]),
        ({"group": None}, [5]),
        ({"sample": np.array([4, 0])}, [0, 4]),
        ({"site": "a", "partition": "test"}, [3]),
        ({"site": None}, [2]),
        ({"protein": slice(10, 12)}, [0, 1, 3]),
        ({"protein": None}, [5]),
        ((pl.col("protein") > 10) & (pl.col("site") == "b"), [1]),
        ({"depth": pl.col("depth") > 4, "partition": "train"}, [4]),
        ({"origin": [1, 2], "row": slice(2, 9)}, [2]),
        ({"processing": "raw", "branch": 0}, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_samples_of_a_filter(ds, filter, right):
    assert samples_of(ds, filter) == right
    assert ds.meta(filter)["sample"].to_list() == right
    assert len(ds.y(filter)) == len(right)
    assert ds.x_exists(filter)


def test_sources_and_wavelengths(ds):
    assert len(ds.x(None)) == 2
    assert len(ds.x({"source": "mir"})) == 1
    assert len(ds.x({"source": ["mir", "nir"]})) == 2
    assert len(ds.x(pl.col("source") == "nir")) == 1
    (low,) = ds.x({"wavelength": slice(1020, 1040)})
    np.testing.assert_array_equal(low, np.arange(60.0).reshape(6, 10)[:, 2:5])
    (high,) = ds.x({"wavelength": slice(3950, 3980), "source": "mir"})
    np.testing.assert_array_equal(high, np.arange(60.0).reshape(6, 10)[:, ::-1][:, 2:6] + 0.5)
    assert [a.shape for a in ds.x(pl.col("wavelength") % 100 == 0)] == [(6, 1), (6, 1)]


@pytest.mark.parametrize("filter", [{"partition": "val"}, {"sample": []}, pl.lit(False), {"wavelength": slice(1, 2)}])
def test_nothing_matching_raises_in_getters_and_is_false_in_x_exists(ds, filter):
    with pytest.raises(ValueError, match="nothing matches"):
        ds.x(filter)
    with pytest.raises(ValueError, match="nothing matches"):
        ds.sel(filter, source="nir")
    assert ds.x_exists(filter) is False


@pytest.mark.parametrize("filter", [{"partiton": "train"}, {"protien": 1}, pl.col("partiton") == "train"])
def test_misspelt_key_never_selects_everything(ds, filter):
    for getter in (ds.x, ds.y, ds.meta, ds.x_exists, ds.get_indexed_features, lambda f: ds.sel(f, source="nir")):
        with pytest.raises(UnknownNameError, match="Did you mean"):
            getter(filter)


@pytest.mark.parametrize(
    ("filter", "near"),
    [({"source": "nri"}, "nir"), ({"processing": "rwa"}, "raw"), ({"processing": ["raw", "snv"]}, "raw")],
)
def test_unknown_source_or_processing_is_named(ds, filter, near):
    with pytest.raises(UnknownNameError, match=near):
        ds.x(filter)
    assert ds.x_exists({"source": "nri"}) is False


def test_a_filter_that_was_kept_follows_writes(ds):
    assert samples_of(ds, {"partition": "train"}) == [0, 1, 4]
    ds.update_indexes(pl.DataFrame({"sample": [0]}), {"partition": "test"})
    assert samples_of(ds, {"partition": "train"}) == [1, 4]
    assert samples_of(ds, {"site": "a"}) == [0, 3]
    ds.add_features([np.zeros((1, 10)), np.zeros((1, 10))], partition="train")
    assert samples_of(ds, {"partition": "train"}) == [1, 4, 6]
    ds.add_meta(pl.DataFrame({"sample": [6], "site": ["a"]}))
    assert samples_of(ds, {"site": "a"}) == [0, 3, 6]
    wanted = [1]
    filter = {"sample": wanted}
    assert samples_of(ds, filter) == [1]
    wanted.append(2)
    assert samples_of(ds, filter) == [1, 2]


def test_many_filters_do_not_push_out_what_is_asked(ds):
    for k in range(400):
        assert samples_of(ds, {"depth": slice(0.5 + k / 1000, 1.5)}) == [0]
    assert samples_of(ds, {"partition": "train"}) == [0, 1, 4]
