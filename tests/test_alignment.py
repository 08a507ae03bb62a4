"""Cases in which spectra, targets and samples easily come apart."""

import datetime

import numpy as np
import polars as pl
import pytest
from sklearn.model_selection import KFold, LeaveOneOut

from spectroxr import NotRectangularError, NoViewError, SpectroDataset, UnknownNameError

STORES = [{}, {"compression": None}, {"format": "npy"}]
KEEP = pytest.mark.parametrize("options", STORES, ids=["zstd", "uncompressed", "npy"])


def spectra(n, width=4, start=0.0, dtype="float32"):
    return (np.arange(n * width, dtype="float64").reshape(n, width) + start).astype(dtype)


@pytest.fixture
def ds():
    """Six samples in two sources, targets and metadata."""
    ds = SpectroDataset()
    ds.add_features(
        {"nir": spectra(6), "mir": spectra(6, 3, start=1000)},
        wavelength={"nir": [1000.0, 1010.0, 1020.0, 1030.0], "mir": [3000.0, 2000.0, 1000.0]},
        partition=["train", "train", "train", "train", "test", "test"],
        group=[0, 0, 1, 1, 2, 2],
    )
    ds.add_targets(pl.DataFrame({"protein": [10.0, 12.0, 13.0, 11.0, 9.5, 14.0]}))
    ds.add_meta(pl.DataFrame({"site": ["n", "n", "s", "s", "s", None], "year": [1, 2, 3, 4, 5, 6]}))
    return ds


def stored(ds, tmp_path, options):
    ds.save(tmp_path / "store", **options)
    return SpectroDataset.load(tmp_path / "store")


# --- filters


@pytest.mark.parametrize("read", ["x", "y", "meta", "x_exists", "get_indexed_features", "get_indexed_targets", "sel"])
@pytest.mark.parametrize("filter", [{"partiton": "train"}, pl.col("partiton") == "train"], ids=["dict", "expression"])
def test_a_misspelt_filter_key_raises_and_names_the_nearest(ds, read, filter):
    with pytest.raises(UnknownNameError, match="'partition'"):
        getattr(ds, read)(filter)


@pytest.mark.parametrize("read", ["x", "y", "meta", "get_indexed_features", "sel"])
@pytest.mark.parametrize("filter", [{"processing": "rw"}, {"source": "nri"}, {"source": ["nir", "nri"]}])
def test_a_misspelt_name_never_selects_everything(ds, read, filter):
    with pytest.raises(UnknownNameError, match="Did you mean"):
        getattr(ds, read)(filter)
    assert ds.x_exists(filter) is False


@pytest.mark.parametrize("key", ["row", "sample", "origin", "group", "branch", "processing", "source", "wavelength"])
def test_none_and_an_empty_list_select_nothing_where_nothing_is_null(ds, key):
    for value in (None, []):
        with pytest.raises((ValueError, TypeError)):
            ds.x({key: value})
    if key not in ("source", "wavelength"):
        assert ds.x_exists({key: None}) is False


def test_none_selects_the_nulls(ds):
    ds.update_indexes([1, 4], {"group": None})
    ds.update_indexes([0, 4], {"partition": None})
    assert ds.meta({"group": None})["sample"].to_list() == [1, 4]
    assert ds.meta({"partition": None})["sample"].to_list() == [0, 4]
    assert ds.meta({"partition": None, "group": None})["sample"].to_list() == [4]
    assert ds.meta({"partition": [None, "test"]})["sample"].to_list() == [0, 4, 5]
    assert ds.meta({"site": None})["sample"].to_list() == [5]
    assert ds.meta({"group": [0, 2]})["sample"].to_list() == [0, 5]
    assert ds.meta(pl.col("group") != 0)["sample"].to_list() == [2, 3, 5]
    ds.add_targets(pl.DataFrame({"sample": [0, 2], "fat": [1.0, 2.0]}))
    assert ds.meta({"fat": None})["sample"].to_list() == [1, 3, 4, 5]


def test_a_null_is_no_value(ds):
    ds.update_indexes([1], {"partition": None})
    assert 1 not in ds.meta({"partition": ["train", "test"]})["sample"].to_list()
    assert 1 not in ds.meta({"partition": slice("a", "z")})["sample"].to_list()
    assert 1 not in ds.meta(pl.col("partition") != "test")["sample"].to_list()


def test_one_order_whatever_the_filter_lists(ds):
    filter = {"sample": [5, 0, 3]}
    (x,), index = ds.get_indexed_features({**filter, "source": "nir"})
    assert index["sample"].to_list() == ds.meta(filter)["sample"].to_list() == [0, 3, 5]
    np.testing.assert_array_equal(x, spectra(6)[[0, 3, 5]])
    np.testing.assert_array_equal(ds.y(filter, target="protein"), [10.0, 11.0, 14.0])


def test_a_name_in_metadata_and_targets_is_ambiguous(ds):
    ds.add_targets(pl.DataFrame({"label": list("abcdef")}))
    assert ds.meta({"label": "b"})["sample"].to_list() == [1]
    ds.add_meta(pl.DataFrame({"label": list("fedcba")}))
    for filter in ({"label": "b"}, {"sample": 0, "label": ["b"]}, pl.col("label") == "b"):
        for read in (ds.x, ds.y, ds.meta, ds.x_exists):
            with pytest.raises(ValueError, match="ambiguous"):
                read(filter)


@pytest.mark.parametrize("name", ["sample", "row", "origin", "partition", "group", "branch", "source", "wavelength"])
def test_no_column_takes_a_name_of_the_index(ds, name):
    table = pl.DataFrame({"sample": [0], "fresh": [1.0]}).with_columns(pl.lit(1.0).alias(name))
    kept = ds.targets.table, ds.metadata.table
    for add in (ds.add_targets, ds.add_meta):
        with pytest.raises((ValueError, TypeError), match="column" if name == "sample" else name):
            add(table)
    assert ds.targets.table.equals(kept[0]) and ds.metadata.table.equals(kept[1])


def test_a_list_of_values_means_what_one_value_means(ds):
    ds.add_meta(pl.DataFrame({"temp": pl.Series([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], dtype=pl.Float32)}))
    for filter in ({"protein": 12}, {"protein": [12]}, {"protein": np.array([12])}, {"protein": (12.0,)}):
        assert ds.meta(filter)["sample"].to_list() == [1]
    for filter in ({"temp": 0.1}, {"temp": [0.1]}, {"temp": np.array([0.1])}):
        assert ds.meta(filter)["sample"].to_list() == [0]
    for filter in ({"year": 2.0}, {"year": [2.0]}, {"year": np.float32(2)}):
        assert ds.meta(filter)["sample"].to_list() == [1]


def test_a_filter_asked_again_is_answered_anew(ds):
    for step, change in enumerate([None, {"partition": "test"}, {"partition": "train"}]):
        if change:
            ds.update_indexes([0], change)
        assert ds.y({"partition": "test"}).shape == ([2, 3, 2][step], 1)
        assert ds.x({"partition": "test"})[0].shape == ([2, 3, 2][step], 4)
    big = pl.Series([2**53, 2**53 + 1, 1, 2, 3, None], dtype=pl.UInt64)
    ds.add_meta(pl.DataFrame({"ident": big}))
    assert ds.meta({"ident": pl.Series([2**53, None], dtype=pl.UInt64)})["sample"].to_list() == [0, 5]
    assert ds.meta({"ident": pl.Series([2**53 + 1, None], dtype=pl.UInt64)})["sample"].to_list() == [1, 5]


def test_integers_beyond_53_bits_are_told_apart_by_filters(ds):
    values = [2**53, 2**53 + 1, 2**63 + 5, 2**63 + 6, 2**64 - 1, 0]
    ds.add_meta(pl.DataFrame({"ident": pl.Series(values, dtype=pl.UInt64)}))
    for k, value in enumerate(values):
        for given in (value, [value], np.uint64(value), np.array([value], dtype="uint64"), slice(value, value)):
            assert ds.meta({"ident": given})["sample"].to_list() == [k]


# --- values


def test_targets_10_12_13_stay_10_12_13(ds):
    np.testing.assert_array_equal(ds.y({"sample": [0, 1, 2]}), [[10.0], [12.0], [13.0]])
    assert ds.y({"sample": [0, 1, 2]}, target="protein").tolist() == [10.0, 12.0, 13.0]
    assert ds.y().dtype == np.float64


def test_whole_numbers_stay_whole_numbers():
    ds = SpectroDataset()
    ds.add_features([spectra(3)])
    ds.add_targets(pl.DataFrame({"class": [10, 12, 13]}))
    assert ds.y().tolist() == [[10], [12], [13]]
    assert ds.y().dtype == np.int64
    ds.update_y(np.array([0, 1, 2]), [0, 1, 2], "category")
    assert ds.y(processed=False).tolist() == [[10], [12], [13]]
    assert ds.y(processing="category").tolist() == [[0], [1], [2]]


EXACT = {
    "float64": (pl.Float64, [1 / 3, 0.1 + 0.2, 1e-308, 5e-324, 1.7976931348623157e308, -0.0]),
    "float32": (pl.Float32, [float(np.float32(v)) for v in (1 / 3, 0.1, 16777217.0, 1e-38, 3.0e38, -1.5)]),
    "uint32": (pl.UInt32, [2**32 - 1, 0, 16777217, 1, 2, 3]),
    "int64": (pl.Int64, [2**63 - 1, -(2**63), 2**53 + 1, -(2**53) - 1, 0, 1]),
    "uint64": (pl.UInt64, [2**64 - 1, 2**63 + 5, 2**53 + 1, 0, 1, 2]),
}


@KEEP
@pytest.mark.parametrize("kind", EXACT)
def test_a_target_survives_to_the_last_digit(kind, options, tmp_path):
    dtype, values = EXACT[kind]
    ds = SpectroDataset()
    ds.add_features([spectra(6)])
    ds.add_targets(pl.DataFrame({"t": pl.Series(values, dtype=dtype)}))
    ds.add_meta(pl.DataFrame({"m": pl.Series(values, dtype=dtype)}))
    for one in (ds, stored(ds, tmp_path, options)):
        got = one.y()
        assert got.dtype == np.dtype(kind)
        assert got.tobytes() == np.array(values, dtype=kind).tobytes()
        assert one.y(target="t").tolist() == values
        assert one.meta()["m"].to_list() == values and one.meta().schema["m"] == dtype
        assert one.targets.table.schema["t"] == dtype


@KEEP
def test_columns_of_several_kinds_keep_every_value(options, tmp_path):
    ds = SpectroDataset()
    ds.add_features([spectra(6)])
    table = pl.DataFrame({name: pl.Series(values, dtype=kind) for name, (kind, values) in EXACT.items()})
    table = table.with_columns(text=pl.Series(["10", "", None, "é", "a", "b"]), good=pl.Series([True, None] * 3))
    ds.add_targets(table)
    for one in (ds, stored(ds, tmp_path, options)):
        got = one.y()
        assert got.shape == (6, 7)
        for k, name in enumerate(EXACT):
            assert got[:, k].tolist() == table[name].to_list()
        for pair in (["float64", "uint32"], ["int64", "uint64"], ["float64", "int64"], ["float32", "uint64"]):
            for k, name in enumerate(pair):
                assert [int(v) if v == int(v) else v for v in one.y(target=pair)[:, k].tolist()] == [
                    int(v) if v == int(v) else v for v in table[name].to_list()
                ]
        assert one.targets.table.equals(ds.targets.table)


@pytest.mark.parametrize(("kind", "largest"), [(pl.UInt64, 2**64 - 1), (pl.Int64, 2**63 - 1), (pl.UInt32, 2**32 - 1)])
def test_a_missing_value_costs_the_others_no_digit(ds, kind, largest):
    ds.add_targets(pl.DataFrame({"n": pl.Series([largest, None, largest - 1, 1, 2, 3], dtype=kind)}))
    got = ds.y(target="n").tolist()
    assert [got[0], got[2], got[3]] == [largest, largest - 1, 1]
    assert got[1] is None or got[1] != got[1]


@KEEP
def test_spectra_survive_to_the_last_bit(options, tmp_path):
    ds = SpectroDataset()
    special = np.array([[np.nan, np.inf, -np.inf, -0.0, 5e-324, 1 / 3]])
    ds.add_features({"a": special, "b": special.astype("float32")})
    for one in (ds, stored(ds, tmp_path, options)):
        a, b = one.x()
        assert a.tobytes() == special.tobytes() and b.tobytes() == special.astype("float32").tobytes()


def test_what_the_caller_does_to_its_arrays_later_changes_nothing(ds):
    wide, narrow = np.ones((6, 4), dtype="float32"), np.ones((6, 3), dtype="float32")
    ds.update_x([wide, narrow], range(6), "ones")
    targets, predictions, pairs = np.arange(6.0), np.arange(6.0), np.ones((6, 2))
    ds.update_y(targets, range(6), "regression")
    ds.add_prediction(predictions, {"model": "one"})
    ds.add_prediction(pairs, {"model": "two"})
    for array in (wide, narrow, targets, predictions, pairs):
        array[...] = -1
    assert all((array == 1).all() for array in ds.x({"processing": "ones"}))
    assert ds.y(target="protein").tolist() == [0, 1, 2, 3, 4, 5]
    assert ds.prediction({"model": "one"}).ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert (ds.prediction({"model": "two"}) == 1).all()


def test_labels_are_the_datasets_own():
    ds = SpectroDataset()
    group, branch = np.array([1, 2, 3], dtype="uint32"), np.array([4, 5, 6], dtype="uint32")
    ds.add_features([spectra(3)], group=group, branch=branch)
    group[...] = branch[...] = 9
    assert ds.features.index_df["group"].to_list() == [1, 2, 3]
    assert ds.features.index_df["branch"].to_list() == [4, 5, 6]


def test_spectra_of_the_dataset_itself_can_be_written():
    ds = SpectroDataset()
    ds.add_features({"a": spectra(3), "b": spectra(3, start=100)})
    ds.update_x(ds.x({"source": "b"}) + ds.x({"source": "a"}), range(3), "raw")
    np.testing.assert_array_equal(ds.x()[0], spectra(3, start=100))
    np.testing.assert_array_equal(ds.x()[1], spectra(3))
    ds.update_x({"a": ds.x()[0]}, [2, 1, 0], "raw")
    np.testing.assert_array_equal(ds.x()[0], spectra(3, start=100)[::-1])


def overlapping():
    whole = spectra(3, 6)
    windows = np.lib.stride_tricks.sliding_window_view(spectra(1, 6)[0], 4, writeable=True)
    return {
        "twice": {"a": whole, "b": whole},
        "columns": {"a": whole[:, :4], "b": whole[:, 2:]},
        "windows": {"a": windows, "b": spectra(3)},
    }


@pytest.mark.parametrize("kind", ["twice", "columns", "windows"])
def test_adopted_arrays_that_overlap_are_kept_apart(kind):
    ds = SpectroDataset()
    arrays = overlapping()[kind]
    before = {name: array.copy() for name, array in arrays.items()}
    ds.add_features(arrays, copy=False)
    ds.update_x({"a": np.full((1, before["a"].shape[1]), -1, dtype="float32")}, [0], "raw")
    np.testing.assert_array_equal(ds.x({"source": "b"})[0], before["b"])
    np.testing.assert_array_equal(ds.x({"source": "a", "sample": [1, 2]})[0], before["a"][1:])


def test_days_text_and_truth_come_back_as_they_are(ds):
    days = [datetime.date(2024, 2, 29), datetime.date(1969, 12, 31), None]
    ds.add_targets(
        pl.DataFrame({"sample": [0, 1, 2], "day": days, "text": ["", None, "10"], "good": [True, False, None]})
    )
    filter = {"sample": [0, 1, 2]}
    day = ds.y(filter, target="day")
    assert day[:2].astype(object).tolist() == days[:2] and np.isnat(day[2])
    assert ds.y(filter, target="text").tolist() == ["", None, "10"]
    good = ds.y(filter, target="good")
    assert good[0] == 1 and good[1] == 0 and np.isnan(good[2])


def test_numbers_of_one_model_stay_numbers_when_another_gives_classes(ds):
    ds.add_prediction(np.array([0.1] * 6), {"model": "numbers"})
    try:
        ds.add_prediction(np.array(list("abcdef")), {"model": "classes"})
    except TypeError:
        pass
    else:
        assert ds.prediction({"model": "classes"}).ravel().tolist() == list("abcdef")
    assert ds.prediction({"model": "numbers"}).ravel().tolist() == [0.1] * 6


# --- wrong shapes


@pytest.mark.parametrize("n", [5, 7])
def test_wrong_row_counts_are_refused_and_change_nothing(ds, n):
    before = ds.features.index_df, ds.x(copy=True), ds.targets.table, ds.metadata.table
    calls = [
        lambda: ds.add_features({"nir": spectra(n), "mir": spectra(n - 1, 3)}),
        lambda: ds.add_features({"uv": spectra(n)}),
        lambda: ds.add_source("uv", spectra(n)),
        lambda: ds.update_x([spectra(n), spectra(n, 3)], ds.features.index_df, "snv"),
        lambda: ds.update_x([spectra(6), spectra(n, 3)], ds.features.index_df, "snv"),
        lambda: ds.add_targets(pl.DataFrame({"fat": np.ones(n)})),
        lambda: ds.update_y(np.ones(n), range(6), "regression"),
        lambda: ds.add_meta(pl.DataFrame({"temp": np.ones(n)})),
        lambda: ds.add_prediction(np.ones(n), {"model": "pls"}),
        lambda: ds.add_data([spectra(2), spectra(2, 3)], pl.DataFrame({"fat": np.ones(n)})),
        lambda: ds.update_indexes(range(6), {"partition": ["x"] * n}),
        lambda: ds.set_folds(KFold, 2, groups=[0] * n),
    ]
    for call in calls:
        with pytest.raises(ValueError):
            call()
    assert ds.features.index_df.equals(before[0])
    assert [s.name for s in ds.features.sources] == ["nir", "mir"]
    for got, want in zip(ds.x(), before[1], strict=True):
        np.testing.assert_array_equal(got, want)
    assert ds.targets.table.equals(before[2]) and ds.metadata.table.equals(before[3])
    assert len(ds.predictions) == len(ds.folds) == 0


# --- the index


@KEEP
def test_300_branches_and_the_largest_group(options, tmp_path):
    ds = SpectroDataset()
    branches = list(range(300))
    groups = [2**32 - 1 - k for k in branches]
    ds.add_features([spectra(300, 2)], branch=branches, group=groups)
    for one in (ds, stored(ds, tmp_path, options)):
        table = one.features.index_df
        assert table["branch"].to_list() == branches and table["group"].to_list() == groups
        assert table.schema["branch"] == table.schema["group"] == pl.UInt32
        (x,), index = one.get_indexed_features({"branch": [299, 256]})
        assert index["sample"].to_list() == [256, 299]
        np.testing.assert_array_equal(x, spectra(300, 2)[[256, 299]])
        assert one.meta({"group": 2**32 - 1})["sample"].to_list() == [0]
        assert one.sel({"branch": 299}).coords["group"].values.tolist() == [2**32 - 300]


@pytest.mark.parametrize("value", [-1, 2**32, 0.5, "1", True])
def test_labels_that_do_not_fit_are_refused(ds, value):
    before = ds.features.index_df
    for key in ("group", "branch"):
        with pytest.raises((ValueError, TypeError)):
            ds.update_indexes(before, {"partition": "moved", key: value})
        with pytest.raises((ValueError, TypeError)):
            ds.add_features([spectra(1), spectra(1, 3)], **{key: value})
    assert ds.features.index_df.equals(before)
    assert len(ds) == 6


def test_branches_belong_to_lines(ds):
    ds.update_x([spectra(6), spectra(6, 3)], range(6), "snv")
    snv = ds.features.index_df.filter(pl.col("processing") == "snv")
    ds.update_indexes(snv, {"branch": 7})
    assert ds.features.index_df.group_by("processing").agg(pl.col("branch").unique()).sort("processing").to_dict(
        as_series=False
    ) == {"processing": ["raw", "snv"], "branch": [[0], [7]]}
    (x,), index = ds.get_indexed_features({"branch": 7, "source": "nir"})
    assert x.shape == (6, 4) and index["processing"].unique().to_list() == ["snv"]
    _, both = ds.get_indexed_features()
    assert both["branch"].null_count() == both["processing"].null_count() == both.height == 6


# --- augmentation


def test_updating_an_augmented_sample_leaves_its_origin_alone(ds):
    made = ds.augment_samples_x([(1, 2)])
    first, second = made["sample"].unique().sort().to_list()
    ds.update_x([spectra(1, start=500), None], [first], "raw")
    nir = {"source": "nir"}
    np.testing.assert_array_equal(ds.x({**nir, "sample": first})[0], spectra(1, start=500))
    for other in (1, second):
        np.testing.assert_array_equal(ds.x({**nir, "sample": other})[0], spectra(6)[[1]])
    for sample in (1, first, second):
        np.testing.assert_array_equal(ds.x({"source": "mir", "sample": sample})[0], spectra(6, 3, start=1000)[[1]])
    np.testing.assert_array_equal(ds.x({**nir, "sample": list(range(6))})[0], spectra(6))


def test_updating_an_origin_leaves_its_children_alone(ds):
    child = ds.augment_samples_x([(1, 1)])["sample"][0]
    grandchild = ds.augment_samples_x([(child, 1)])["sample"][0]
    ds.update_x([spectra(1, start=500), spectra(1, 3, start=600)], [1], "raw")
    for sample in (child, grandchild):
        np.testing.assert_array_equal(ds.x({"sample": sample})[0], spectra(6)[[1]])
        np.testing.assert_array_equal(ds.x({"sample": sample})[1], spectra(6, 3, start=1000)[[1]])
    np.testing.assert_array_equal(ds.x({"sample": 1})[0], spectra(1, start=500))


def test_updating_origin_and_child_together_keeps_them_apart(ds):
    child = ds.augment_samples_x([(1, 1)])["sample"][0]
    for processing in ("raw", "snv", "raw"):
        new = spectra(2, start=700)
        ds.update_x({"nir": new, "mir": spectra(2, 3)}, [child, 1], processing)
        np.testing.assert_array_equal(ds.x({"sample": child, "processing": processing})[0], new[[0]])
        np.testing.assert_array_equal(ds.x({"sample": 1, "processing": processing})[0], new[[1]])


def test_a_new_variant_of_a_child_is_not_one_of_its_origin(ds):
    child = ds.augment_samples_x([(1, 1)])["sample"][0]
    ds.update_x([spectra(1, start=500), spectra(1, 3)], [child], "noisy")
    assert ds.features.index_df.filter(pl.col("processing") == "noisy")["sample"].to_list() == [child]
    assert not ds.x_exists({"sample": 1, "processing": "noisy"})
    ds.update_x([spectra(1, start=900), spectra(1, 3)], [1], "noisy")
    np.testing.assert_array_equal(ds.x({"sample": child, "processing": "noisy"})[0], spectra(1, start=500))
    np.testing.assert_array_equal(ds.x({"sample": 1, "processing": "noisy"})[0], spectra(1, start=900))


def test_y_and_meta_of_augmented_samples(ds):
    child, other = ds.augment_samples_x([(1, 2)])["sample"].unique().sort().to_list()
    grandchild = ds.augment_samples_x([(child, 1)])["sample"][0]
    for sample in (child, other, grandchild):
        assert ds.y({"sample": sample}).tolist() == [[12.0]]
        assert ds.meta({"sample": sample}).rows() == [(sample, "n", 2)]
    ds.update_y(np.array([99.0]), [child], "raw")
    ds.add_meta(pl.DataFrame({"sample": [child], "site": ["own"]}))
    assert ds.y({"sample": [1, child, other, grandchild]}).ravel().tolist() == [12.0, 99.0, 12.0, 99.0]
    assert ds.meta({"sample": [1, child, other, grandchild]})["site"].to_list() == ["n", "own", "n", "own"]
    assert ds.meta({"sample": [child, grandchild]})["year"].to_list() == [2, 2]
    assert ds.meta({"site": "own"})["sample"].to_list() == [child, grandchild]
    assert ds.meta({"protein": 12.0})["sample"].to_list() == [1, other]


def test_ids_are_dense_and_origins_are_parents(ds):
    first = ds.augment_samples_x([(2, 1), (0, 2)])
    assert first["sample"].to_list() == [6, 7, 8] and first["origin"].to_list() == [2, 0, 0]
    second = ds.augment_features_x(1)
    assert second["sample"].to_list() == list(range(9, 18))
    assert second["origin"].to_list() == list(range(9))
    ds.add_features([spectra(1), spectra(1, 3)])
    table = ds.features.index_df
    assert table["sample"].to_list() == list(range(19)) and table["origin"][18] == 18
    assert [str(kind) for kind in table.dtypes] == [
        "UInt32",
        "UInt32",
        "UInt32",
        "String",
        "UInt32",
        "UInt32",
        "String",
    ]


# --- folds


@pytest.mark.parametrize(
    "folds",
    [[([0, 1], [6])], [([99], [0])], [([0], [-1])], [([1], [0]), ([0], [2**32])]],
    ids=["next", "far", "negative", "second"],
)
def test_fold_ids_that_do_not_exist(ds, folds):
    ds.set_folds([([0, 1], [2])])
    with pytest.raises(UnknownNameError, match="does not exist"):
        ds.set_folds(folds)
    assert ds.folds.folds == [{"train": [0, 1], "val": [2]}]


def test_children_of_validation_samples_never_train(ds):
    ds.set_folds(LeaveOneOut, filter={"partition": "train"})
    child = ds.augment_samples_x([(1, 1)])["sample"][0]
    grandchild = ds.augment_samples_x([(child, 1)])["sample"][0]
    for fold, (x_train, y_train, x_val, y_val) in zip(ds.fold_generator(), ds.get_data(), strict=True):
        family = {1, child, grandchild}
        assert family <= set(fold["train"]) or not family & set(fold["train"])
        assert (1 in fold["val"]) != (1 in fold["train"])
        assert not {child, grandchild} & set(fold["val"])
        np.testing.assert_array_equal(x_train[0], ds.x({"sample": fold["train"]})[0])
        np.testing.assert_array_equal(x_val[0], ds.x({"sample": fold["val"]})[0])
        np.testing.assert_array_equal(y_train, ds.y({"sample": fold["train"]}))
        np.testing.assert_array_equal(y_val, ds.y({"sample": fold["val"]}))
    with pytest.raises(ValueError, match="derived"):
        ds.set_folds([([grandchild], [1])])
    with pytest.raises(ValueError, match="augmented"):
        ds.set_folds([([0], [child])])


def test_both_sides_of_a_fold_have_the_same_features(ds):
    ds.set_folds([([0, 1, 2], [3, 4])])
    ds.update_x([spectra(3), spectra(3, 3)], [0, 1, 2], "snv")
    with pytest.raises(NotRectangularError):
        next(ds.get_data())
    x_train, _, x_val, _ = next(ds.get_data(filter={"processing": "raw"}))
    assert x_train[0].shape == (3, 4) and x_val[0].shape == (2, 4)


# --- holes


def test_a_processing_that_one_source_has_and_another_has_not(ds):
    ds.update_x({"nir": spectra(6, start=50)}, range(6), "snv")
    with pytest.raises(NotRectangularError, match="'snv' in source 'mir'"):
        ds.x()
    with pytest.raises(NotRectangularError, match="mir"):
        ds.x({"processing": "snv"})
    with pytest.raises(NotRectangularError):
        ds.x({"source": "mir", "processing": "snv"})
    assert not ds.x_exists({"source": "mir", "processing": "snv"})
    assert ds.x_exists({"source": "nir", "processing": "snv"})
    (nir,) = ds.x({"source": "nir"}, "3d")
    np.testing.assert_array_equal(nir, np.stack([spectra(6), spectra(6, start=50)], axis=1))
    assert [a.shape for a in ds.x({"processing": "raw"})] == [(6, 4), (6, 3)]
    with pytest.raises(NotRectangularError):
        ds.merge(["nir", "mir"])
    ds.update_x({"mir": spectra(6, 3, start=60)}, range(6), "snv")
    np.testing.assert_array_equal(ds.x({"processing": "snv"})[1], spectra(6, 3, start=60))


@KEEP
def test_a_sample_that_was_not_measured_in_one_source(ds, options, tmp_path):
    ds.add_features({"nir": spectra(2, start=300), "mir": None})
    ds.add_features({"nir": None, "mir": spectra(1, 3, start=400)})
    for one in (ds, stored(ds, tmp_path, options)):
        with pytest.raises(NotRectangularError, match="2 samples lack 'raw' in source 'mir'"):
            one.x()
        assert not one.x_exists({"sample": [6, 7], "source": "mir"})
        np.testing.assert_array_equal(one.x({"sample": [6, 7], "source": "nir"})[0], spectra(2, start=300))
        np.testing.assert_array_equal(one.x({"sample": 8, "source": "mir"})[0], spectra(1, 3, start=400))
        assert {source.array.shape[0] for source in one.features.sources} == {9}
        child = one.augment_samples_x([(6, 1)])["sample"][0]
        assert not one.x_exists({"sample": child, "source": "mir"})


def test_variants_of_some_samples(ds):
    ds.update_x([spectra(2), spectra(2, 3)], [4, 1], "snv")
    with pytest.raises(NotRectangularError, match="4 of 6 samples lack processing 'snv'"):
        ds.x()
    (nir, _), index = ds.get_indexed_features({"processing": "snv"})
    assert index["sample"].to_list() == [1, 4]
    np.testing.assert_array_equal(nir, spectra(2)[[1, 0]])
    (both,) = ds.x({"sample": [4, 1], "source": "nir"}, "3d")
    np.testing.assert_array_equal(both[:, 1], spectra(2)[[1, 0]])


# --- views


def grow(ds):
    """Add rows, processings, samples and sources, twice over, and read what brings variants together."""
    for k in range(2):
        unmeasured = {f"uv{j}": None for j in range(k)}
        ds.add_features({"nir": spectra(40, start=-900), "mir": spectra(40, 3, start=-900), **unmeasured})
        ds.update_x({"nir": spectra(len(ds), start=-500), "mir": spectra(len(ds), 3)}, range(len(ds)), f"p{k}")
        ds.augment_features_x(1, filter={"sample": [0, 3]})
        ds.add_source(f"uv{k}", spectra(len(ds)))
        ds.x({"source": "nir", "sample": [0, 1], "processing": ["raw", f"p{k}"]}, "3d")


@pytest.mark.parametrize("layout", ["2d", "2d_interlaced", "3d", "3d_transpose"])
def test_a_view_keeps_its_values_when_the_dataset_grows(ds, layout):
    views = ds.x({"partition": "train", "processing": "raw"}, layout, copy=False)
    before = [view.copy() for view in views]
    grow(ds)
    for view, want in zip(views, before, strict=True):
        np.testing.assert_array_equal(view, want)
        assert not view.flags.writeable


def test_a_view_shows_updates_of_its_cells_even_after_growth(ds):
    (view,) = ds.x({"source": "nir"}, copy=False)
    ds.update_x([spectra(1, start=70), None], [2], "raw")
    np.testing.assert_array_equal(view[2], spectra(1, start=70)[0])
    ds.add_features({"nir": spectra(40), "mir": spectra(40, 3)})
    ds.update_x([spectra(40, start=1), None], range(6, 46), "p")
    ds.x({"sample": [6, 7], "source": "nir"}, "3d", copy=False)
    ds.update_x([spectra(1, start=80), None], [2], "raw")
    np.testing.assert_array_equal(view[2], spectra(1, start=80)[0])
    rest = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(view[rest], spectra(6)[rest])


def test_a_view_of_an_origin_ignores_updates_of_its_children(ds):
    (view,) = ds.x({"source": "nir"}, copy=False)
    child = ds.augment_samples_x([(2, 1)])["sample"][0]
    ds.update_x([spectra(1, start=70), None], [child], "raw")
    np.testing.assert_array_equal(view, spectra(6))


@pytest.mark.parametrize("change", ["pack", "merge", "split"])
def test_a_view_keeps_its_values_when_the_storage_is_rearranged(ds, change):
    views = ds.x(copy=False)
    before = [view.copy() for view in views]
    if change == "pack":
        ds.pack(by="group", layout="2d_interlaced", src_concat=True)
    elif change == "merge":
        ds.merge(["mir", "nir"])
    else:
        ds.split([(0, 1), (1, 4)], "nir")
        ds.split([(0, 3)], "mir", names=["whole"])
    ds.update_x([spectra(6, len(s.axis), start=-77) for s in ds.features.sources], range(6), "raw")
    for view, want in zip(views, before, strict=True):
        np.testing.assert_array_equal(view, want)


def test_targets_handed_out_keep_their_values(ds):
    before = ds.y(target="protein")
    ds.update_y(np.zeros(6), range(6), "raw")
    ds.add_features([spectra(2), spectra(2, 3)])
    ds.add_targets(pl.DataFrame({"sample": [6, 7], "protein": [1.0, 2.0]}))
    assert before.tolist() == [10.0, 12.0, 13.0, 11.0, 9.5, 14.0]
    assert not before.flags.writeable


def test_no_view_is_said_not_shown(ds):
    ds.augment_samples_x([(0, 1)])
    with pytest.raises(NoViewError, match="share"):
        ds.x({"source": "nir"}, copy=False)
    with pytest.raises(NoViewError, match="pack"):
        ds.x({"sample": [0, 1, 4], "source": "nir"}, copy=False)


# --- versions of the targets


def test_the_version_written_last_is_the_current_one(ds):
    ds.update_y(np.arange(6.0), range(6), "regression")
    ds.update_y(np.arange(6.0) + 100, range(6), "category")
    assert ds.y().ravel().tolist() == [100, 101, 102, 103, 104, 105]
    ds.update_y(np.array([50.0]), [0], "regression")
    assert ds.y().ravel().tolist() == [50, 1, 2, 3, 4, 5]
    ds.update_y(np.arange(6.0) + 100, range(6), "category")
    ds.add_features([spectra(1), spectra(1, 3)])
    ds.add_targets(pl.DataFrame({"sample": [6], "protein": [7.0], "processing": ["regression"]}))
    assert ds.targets.versions[-1] == "regression"
    assert ds.y({"sample": [0, 6]}).ravel().tolist() == [50, 7]
    assert ds.y({"sample": [0, 1]}, processed=False).ravel().tolist() == [10, 12]


def test_versions_are_never_mixed(ds):
    ds.update_y(np.array([[1.0], [2.0], [3.0]]), [0, 1, 2], "regression")
    with pytest.raises(ValueError, match="never mixed"):
        ds.y()
    assert ds.y({"sample": [0, 1, 2]}).ravel().tolist() == [1.0, 2.0, 3.0]
    assert ds.y(processed=False).ravel().tolist() == [10.0, 12.0, 13.0, 11.0, 9.5, 14.0]


def test_vectors_missing_in_some_samples_keep_their_width(ds):
    ds.add_targets(pl.DataFrame({"sample": [0], "targets": [[0.1, 0.2]]}))
    assert ds.y({"sample": 0}, target="targets").tolist() == [[0.1, 0.2]]
    for filter in ({"sample": 1}, {"sample": [1, 2]}, None):
        got = ds.y(filter, target="targets")
        assert got.shape[1] == 2 and np.isnan(got[-1]).all()
    assert ds.y({"sample": 1}).shape == ds.y({"sample": 0}).shape == (1, 3)


def test_vectors_of_one_version_have_one_width(ds):
    ds.add_targets(pl.DataFrame({"sample": [0], "targets": [[0.1, 0.2]]}))
    for target in ("targets", "protein"):
        ds.update_y(np.ones((1, 3)), [0], "wide", target=target)
        with pytest.raises((ValueError, TypeError)):
            ds.update_y(np.ones((1, 2)), [1], "wide", target=target)
        assert ds.y({"sample": 0}, processing="wide", target=target).shape == (1, 3)


# --- all or nothing


def test_several_new_sources_come_all_or_none(ds):
    with pytest.raises(ValueError, match="twice"):
        ds.add_features({"uv": spectra(6, 2), "vis": spectra(6, 2)}, wavelength={"uv": [1.0, 2.0], "vis": [1.0, 1.0]})
    assert [source.name for source in ds.features.sources] == ["nir", "mir"]
    assert [a.shape for a in ds.x()] == [(6, 4), (6, 3)]


def test_labels_of_no_new_sample_are_refused(ds):
    with pytest.raises(ValueError, match="partition"):
        ds.add_features({"uv": spectra(6, 2)}, partition="test")
    assert [source.name for source in ds.features.sources] == ["nir", "mir"]


def test_contradictory_values_are_refused(ds):
    before = ds.features.index_df
    for key, values in {"partition": ["a", "b", "c"], "group": [1, 2, 3], "branch": [1, 2, 3]}.items():
        with pytest.raises(ValueError, match="several values"):
            ds.update_indexes([0, 1, 0], {key: values})
    assert ds.features.index_df.equals(before)
    with pytest.raises(ValueError):
        ds.update_y(np.ones((6, 2)), range(6), "z", target=["protein", "protein"])
    assert ds.targets.versions == ("raw",)


def test_nan_is_in_no_range(ds):
    ds.update_y(np.array([np.nan, 1.0]), [0, 1], "raw")
    for bounds in (slice(0, None), slice(None, 20), slice(0, 20)):
        assert ds.meta({"protein": bounds})["sample"].to_list() == [1, 2, 3, 4, 5]
    assert ds.meta({"protein": float("nan")})["sample"].to_list() == [0]


@pytest.mark.parametrize("layout", ["2d", "2d_interlaced", "3d", "3d_transpose"])
@pytest.mark.parametrize("n", [1, 2])
def test_pack_makes_a_view_of_one_sample_too(layout, n):
    ds = SpectroDataset()
    ds.add_features({"a": spectra(n, 2), "b": spectra(n, 3)})
    ds.pack(layout=layout, src_concat=True)
    (x,) = ds.x({"sample": 0}, layout, True, copy=False)
    assert x.ravel().tolist() == [0, 1, 0, 1, 2]
