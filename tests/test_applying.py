import copy

import numpy as np
import polars as pl
import pybaselines
import pytest
from chemotools.derivative import SavitzkyGolay
from chemotools.feature_selection import RangeCut
from chemotools.scatter import MultiplicativeScatterCorrection, StandardNormalVariate
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from spectroxr import SpectroDataset, UnknownNameError
from spectroxr.recipe import processing_hash


def built(samples=12, dtype="f4"):
    rng = np.random.default_rng(3)
    ds = SpectroDataset()
    ds.add_features(
        {"nir": (rng.random((samples, 50)) + 1).astype(dtype), "mir": (rng.random((samples, 30)) + 1).astype(dtype)},
        wavelength={"nir": np.linspace(1000, 1490, 50), "mir": np.linspace(2000, 1420, 30)},
        units={"nir": "nm", "mir": "cm-1"},
        partition=["train"] * (samples - 4) + ["test"] * 4,
    )
    ds.add_targets(pl.DataFrame({"protein": rng.random(samples)}))
    return ds


class Dropping(TransformerMixin, BaseEstimator):
    def fit(self, x, y=None):
        return self

    def transform(self, x):
        return x[1:]


def resampled(x, step=2):
    return x[:, ::step]


def logged(x):
    with np.errstate(invalid="ignore"):
        return np.log(x - 1.5)


def state(ds):
    return ds.features.index_df, list(ds.features.cells.sources), ds.processings, len(ds.lineage)


def same_state(one, other):
    return one[0].equals(other[0]) and one[1] == other[1] and one[2].equals(other[2]) and one[3] == other[3]


def test_the_result_is_what_scikit_learn_makes_of_the_training_rows():
    ds = built()
    name = ds.apply(StandardScaler())
    for source in ("nir", "mir"):
        (raw,) = ds.x({"source": source, "processing": "raw"})
        expected = StandardScaler().fit(raw[:8]).transform(raw).astype("f4")
        np.testing.assert_array_equal(ds.x({"source": source, "processing": name})[0], expected)


def test_a_chain_has_the_name_and_the_numbers_of_the_pipeline():
    ds, other = built(), built()
    steps = StandardNormalVariate(), SavitzkyGolay(window_length=7), StandardScaler()
    name = "raw"
    for step in steps:
        name = ds.apply(step, parent=name)
    whole = other.apply(make_pipeline(*steps))
    assert name == whole == processing_hash(make_pipeline(*steps))
    (one,), (two,) = (d.x({"source": "nir", "processing": name}) for d in (ds, other))
    np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)  # variants between the steps are float32


def test_names_differ_where_results_do():
    ds = built()
    ds.update_x({"nir": ds.x({"source": "nir"})[0] * 2, "mir": ds.x({"source": "mir"})[0]}, range(12), "doubled")
    names = [
        ds.apply(StandardScaler()),
        ds.apply(StandardScaler(), fit_on=None),
        ds.apply(StandardScaler(), fit_on={"partition": "test"}),
        ds.apply(StandardScaler(), fit_on={"sample": slice(0, 5)}),
        ds.apply(StandardScaler(), fit_on=pl.col("sample") < 5),
        ds.apply(StandardScaler(with_std=False)),
        ds.apply(StandardScaler(), parent="doubled"),
        ds.apply(PLSRegression(2, scale=False), source="nir", target="protein"),
        ds.apply(PLSRegression(2, scale=False, tol=1e-7), source="nir", target="protein"),
    ]
    assert len(set(names)) == len(names)
    first = ds.apply(StandardScaler(), fit_on=None)
    assert first == names[1]
    below = [ds.apply(StandardNormalVariate(), parent=name) for name in names[:3]]
    assert len(set(below)) == 3


def test_what_learns_nothing_is_named_by_its_steps_alone():
    one, other = built(), built()
    assert one.apply((np.clip, {"a_min": 0, "a_max": 1})) == other.apply(
        (np.clip, {"a_min": 0, "a_max": 1}), fit_on={"partition": "nobody"}
    )
    assert one.processings["fit_on"][1] is None
    assert one.processings["fitted"][1].to_list() == [0, 0]


def test_augmented_samples_go_on_sharing_rows():
    ds = built()
    ds.augment_features_x(50)
    rows = ds.features.cells.rows
    name = ds.apply(StandardNormalVariate())
    assert ds.features.cells.rows == rows == 12
    (x,) = ds.x({"source": "nir", "processing": name})
    assert len(x) == 12 * 51
    index = ds.features.index_df.filter(pl.col("processing") == name)
    np.testing.assert_array_equal(x, x[:12][index["origin"].to_numpy()])
    ds.update_x({"nir": x[20:21] * 0}, [20], name)
    assert ds.processings.filter(processing=name)["edited"][0]
    np.testing.assert_array_equal(ds.x({"source": "nir", "processing": name, "sample": 8})[0], x[8:9])


def test_samples_added_later_get_it_by_applying_again():
    ds = built()
    name = ds.apply(StandardNormalVariate())
    ds.add_features({"nir": np.ones((2, 50), "f4") + np.eye(2, 50, dtype="f4"), "mir": np.eye(2, 30, dtype="f4")})
    assert len(ds.x({"source": "nir", "processing": name})[0]) == 12
    assert ds.apply(StandardNormalVariate()) == name
    assert len(ds.x({"source": "nir", "processing": name})[0]) == 14


def test_a_cut_is_a_source_with_its_wavelengths():
    ds = built()
    name = ds.apply(RangeCut(start=5, end=20), source="nir", name="cut", new_source="nir_cut")
    assert name == "cut"
    np.testing.assert_array_equal(ds["nir_cut"].wavelength, np.linspace(1000, 1490, 50)[5:20])
    np.testing.assert_array_equal(
        ds.x({"source": "nir_cut"})[0], ds.x({"source": "nir", "processing": "raw"})[0][:, 5:20]
    )
    assert ds["nir_cut"].wavelength.attrs["units"] == "nm"
    assert ds.processings.filter(processing="cut")["new_sources"][0].to_list() == ["nir_cut"]
    again = ds.apply(StandardScaler(), parent="cut")
    assert list(ds.lineage[again].fits) == ["nir_cut"]


def test_selected_wavelengths_keep_their_labels_through_a_pipeline():
    ds = built()
    name = ds.apply(make_pipeline(StandardScaler(), SelectKBest(f_regression, k=4)), source="nir", target="protein")
    (raw,) = ds.x({"source": "nir", "processing": "raw"})
    fitted = make_pipeline(StandardScaler(), SelectKBest(f_regression, k=4)).fit(raw[:8], ds.y()[:8, 0])
    np.testing.assert_array_equal(ds[f"nir.{name}"].wavelength, ds["nir"].wavelength.values[fitted[-1].get_support()])


@pytest.mark.parametrize("count", [3, 8])
def test_scores_are_numbered(count):
    ds = built()
    name = ds.apply(PCA(count), source="nir", fit_on=None)
    scores = ds[f"nir.{name}"]
    np.testing.assert_array_equal(scores.wavelength, np.arange(1, count + 1))
    assert scores.attrs["quantity"] == "score"


def test_as_many_scores_as_wavelengths_are_no_spectra():
    ds = SpectroDataset()
    ds.add_features({"nir": np.random.default_rng(0).random((9, 4))})
    name = ds.apply(PCA(4))
    assert f"nir.{name}" in ds
    assert ds.x({"source": "nir"})[0].shape == (9, 4)


def test_a_function_that_changes_the_axis_needs_the_new_one():
    ds = built()
    before = state(ds)
    with pytest.raises(ValueError, match=r"25 columns of the 50 wavelengths of source 'nir'.*wavelength="):
        ds.apply(resampled, source="nir")
    assert same_state(before, state(ds))
    ds.apply(resampled, source="nir", wavelength=np.linspace(1000, 1480, 25), new_source="half", name="half")
    assert ds["half"].sizes["wavelength"] == 25


def test_baselines_of_pybaselines_are_taken_off():
    ds = built(dtype="f8")
    name = ds.apply((pybaselines.whittaker.asls, {"lam": 1e3}), source="nir")
    (raw,) = ds.x({"source": "nir", "processing": "raw"})
    (flat,) = ds.x({"source": "nir", "processing": name})
    for one, other in zip(raw, flat, strict=True):
        np.testing.assert_allclose(other, one - pybaselines.whittaker.asls(one, lam=1e3)[0], atol=1e-12)


@pytest.mark.parametrize(
    ("transformer", "error", "match"),
    [
        (
            Dropping(),
            ValueError,
            r"step 0 \(Dropping\) made \(11, 50\) of spectra \(12, 50\); a proc",
        ),
        (
            logged,
            ValueError,
            r"\(logged\) made NaN or infinities of 12 finite spectra. In source 'nir' .* sample 0, 1",
        ),
        (lambda x: x, TypeError, "a lambda has no name"),
        (StandardScaler, TypeError, r"call it: StandardScaler\(\)"),
        ("snv", TypeError, "an estimator or a function, not 'snv'"),
        (("snv", {"a": 1}), TypeError, "a function with its parameters"),
        ([], ValueError, "no step"),
        (Pipeline([("none", "passthrough")]), ValueError, "no step"),
        (FunctionTransformer(lambda x: x), TypeError, "lambda"),
    ],
)
def test_what_does_not_fit_changes_nothing(transformer, error, match):
    ds = built()
    before = state(ds)
    with pytest.raises(error, match=match):
        ds.apply(transformer)
    assert same_state(before, state(ds))


def test_errors_name_what_is_wrong():
    ds = built()
    before = state(ds)
    with pytest.raises(UnknownNameError, match="'rwa'. Did you mean 'raw'"):
        ds.apply(StandardScaler(), parent="rwa")
    with pytest.raises(UnknownNameError, match="'nri'. Did you mean 'nir'"):
        ds.apply(StandardScaler(), source="nri")
    with pytest.raises(ValueError, match="nothing to fit on.*fit_on=None"):
        ds.apply(StandardScaler(), fit_on={"partition": "train", "sample": [11]})
    with pytest.raises(ValueError, match="'raw' already, not made by apply"):
        ds.apply(StandardScaler(), name="raw")
    with pytest.raises(ValueError, match="unknown way to keep fitted estimators 'skop'. Did you mean 'skops'"):
        ds.apply(StandardScaler(), keep="skop")
    assert same_state(before, state(ds))
    ds.apply(StandardScaler(), name="scaled")
    before = state(ds)
    with pytest.raises(ValueError, match="'scaled' already, made of 'raw' by StandardScaler with other settings"):
        ds.apply(StandardScaler(with_mean=False), name="scaled")
    with pytest.raises(ValueError, match="several sources one name"):
        ds.apply(RangeCut(start=5, end=20), new_source="cut")
    assert same_state(before, state(ds))


def test_several_sources_are_all_or_nothing():
    ds = built()
    shifted = {one: ds.x({"source": one})[0] + by for one, by in (("nir", 2), ("mir", 0))}
    ds.update_x(shifted, range(12), "shifted")
    before = state(ds)
    with pytest.raises(ValueError, match="In source 'mir'"):
        ds.apply(logged, parent="shifted")
    assert same_state(before, state(ds))


def test_a_step_with_copy_false_does_not_write_into_the_dataset():
    ds = built()
    raw = ds.x({"source": "nir"})[0].copy()
    ds.apply(StandardScaler(copy=False), source="nir")
    np.testing.assert_array_equal(ds.x({"source": "nir", "processing": "raw"})[0], raw)


def test_the_transformer_given_stays_as_it_was():
    ds = built()
    scaler = StandardScaler()
    before = copy.deepcopy(vars(scaler))
    ds.apply(scaler)
    assert vars(scaler) == before


def test_nan_that_was_there_is_no_error():
    ds = SpectroDataset()
    x = np.ones((4, 3))
    x[1, 2] = np.nan
    ds.add_features({"nir": x})
    name = ds.apply(StandardScaler(with_std=False))
    assert np.isnan(ds.x({"processing": name})[0]).sum() == 1


def test_a_source_of_some_samples():
    ds = built()
    ds.add_source("raman", np.random.default_rng(0).random((5, 7)), range(2, 7))
    name = ds.apply(MultiplicativeScatterCorrection())
    assert list(ds.lineage[name].fits) == ["nir", "mir", "raman"]
    (x,) = ds.x({"source": "raman", "processing": name, "sample": slice(2, 6)})
    assert x.shape == (5, 7)
    with pytest.raises(ValueError, match="not rectangular"):
        ds.x({"source": "raman", "processing": name})


def test_lazily_loaded_spectra(tmp_path):
    ds = built()
    ds.save(tmp_path / "a")
    lazy = SpectroDataset.load(tmp_path / "a")
    name = lazy.apply(make_pipeline(StandardNormalVariate(), StandardScaler()))
    assert ds.apply(make_pipeline(StandardNormalVariate(), StandardScaler())) == name
    np.testing.assert_array_equal(
        lazy.x({"source": "nir", "processing": name})[0], ds.x({"source": "nir", "processing": name})[0]
    )


def test_children_of_test_samples_are_not_fitted_on():
    ds = built()
    ds.augment_samples_x([(0, 3), (1, 2)])
    ds.update_indexes(ds.features.index_df.filter(pl.col("sample") == 0), {"partition": "test"})
    name = ds.apply(StandardScaler(), source="nir")
    assert ds.lineage.fitted(name, "nir")[0].n_samples_seen_ == 7 + 2
    with pytest.raises(ValueError, match="all samples of .* are derived from others"):
        ds.apply(StandardScaler(), fit_on={"sample": [12, 13]})


def test_long_expressions_are_told_apart():
    ds = built(60)
    many = list(range(30))
    others = [*many[:15], *range(40, 54), 29]
    filters = [pl.col("sample").is_in(some) for some in (many, others)]
    filters += [{"sample": filters[0]}, {"sample": filters[1]}]
    names = [ds.apply(StandardScaler(), source="nir", fit_on=some) for some in filters]
    assert len(set(names)) == 4
    assert ds.apply(StandardScaler(), source="nir", fit_on=pl.col("sample").is_in(many)) == names[0]


def test_one_processing_is_of_one_fit():
    ds = built()
    name = ds.apply(StandardScaler(), filter={"partition": "train"})
    below = ds.apply(StandardNormalVariate(), parent=name)
    ds.apply(StandardScaler(), filter={"partition": "test"})  # the same training samples: the same numbers
    assert not ds.processings["stale"].drop_nulls().any()
    ds.update_indexes(ds.features.index_df.filter(pl.col("sample") < 4), {"partition": "test"})
    before = state(ds)
    with pytest.raises(ValueError, match="was fitted on other spectra before.*replay"):
        ds.apply(StandardScaler(), filter={"sample": [8, 9]})
    assert same_state(before, state(ds))
    ds.replay(name, filter={"sample": [8, 9]})
    ds.apply(StandardScaler())
    (raw,) = ds.x({"source": "nir", "processing": "raw"})
    expected = ds.lineage.fitted(name, "nir")[0].transform(raw).astype("f4")
    np.testing.assert_array_equal(ds.x({"source": "nir", "processing": name})[0], expected)
    assert ds.processings.filter(processing=below)["stale"][0]
    assert ds.lineage.tree().endswith("StandardNormalVariate (stale)")
    ds.apply(StandardNormalVariate(), parent=name)
    assert not ds.processings.filter(processing=below)["stale"][0]


def test_what_is_made_of_spectra_written_by_hand_is_stale():
    ds = built()
    name = ds.apply(StandardScaler())
    below = ds.apply(StandardNormalVariate(), parent=name)
    ds.update_x({"nir": np.ones((1, 50), "f4")}, [0], "raw")
    assert ds.processings.filter(pl.col("processing").is_in([name, below]))["stale"].to_list() == [True, True]
    assert ds.processings["edited"].to_list() == [None, False, False]


def test_scores_do_not_go_onto_the_axis_of_their_source():
    ds = built()
    before = state(ds)
    for count in (8, 2):
        with pytest.raises(ValueError, match="change the axis of source 'nir'; give another name"):
            ds.apply(PCA(count), source="nir", new_source="nir")
    with pytest.raises(UnknownNameError, match="'nri'. Did you mean 'nir'"):
        ds.apply(PCA(2), source="nir", new_source={"nri": "scores"})
    assert same_state(before, state(ds))


def huge(x, k=1.0):
    return x.astype(float) * k


def test_what_the_dtype_cannot_hold_is_refused():
    ds = built()
    before = state(ds)
    with pytest.raises(ValueError, match="source 'nir' holds .*e.39, which float32 cannot hold"):
        ds.apply((huge, {"k": 1e39}))
    assert same_state(before, state(ds))
