import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cross_decomposition import PLSRegression
from sklearn.model_selection import GroupKFold, KFold, LeaveOneOut, RepeatedKFold, ShuffleSplit

from spectroxr import SpectroDataset
from spectroxr.components import LatentVariableCurve, latent_variables

COLUMNS = ["RMSEC", "RMSECV", "standard_error", "PRESS", "R"]


def spectra(n=60, p=80, targets=1, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, 6)) * [5.0, 3.0, 2.0, 1.0, 0.5, 0.3]
    x = scores @ np.cumsum(rng.normal(size=(6, p)), axis=1) + 0.05 * rng.normal(size=(n, p))
    y = scores @ rng.normal(size=(6, targets)) + 0.2 * rng.normal(size=(n, targets)) + 10
    return x, y[:, 0] if targets == 1 else y


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("engine", ["ikpls", "sklearn"])
def test_against_a_plsregression_per_fold_and_number(engine, targets, scale):
    x, y = spectra(targets=targets)
    cv = KFold(5)
    curve = latent_variables(x, y, cv, 8, scale=scale, engine=engine)
    both = y.reshape(len(y), -1)
    for a in range(1, 9):
        folds = []
        for train, val in cv.split(x):
            model = PLSRegression(a, scale=scale, tol=1e-20, max_iter=10_000).fit(x[train], both[train])
            folds.append(np.reshape(model.predict(x[val]), both[val].shape) - both[val])
        fitted = PLSRegression(a, scale=scale, tol=1e-20, max_iter=10_000).fit(x, both)
        each = [np.sqrt(np.mean(errors**2)) for errors in folds]
        line = curve.table.row(a - 1, named=True)
        errors = np.concatenate(folds)
        assert line["latent_variables"] == a
        assert line["PRESS"] == pytest.approx((errors**2).sum(), rel=1e-8)
        assert line["RMSECV"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-8)
        assert line["standard_error"] == pytest.approx(np.std(each, ddof=1) / np.sqrt(5), rel=1e-7)
        own = np.reshape(fitted.predict(x), both.shape) - both
        assert line["RMSEC"] == pytest.approx(np.sqrt((own**2).mean()), rel=1e-8)
    ratios = curve.table["PRESS"][1:].to_numpy() / curve.table["PRESS"][:-1].to_numpy()
    np.testing.assert_allclose(curve.table["R"][:-1].to_numpy(), ratios)
    assert curve.table["R"][-1] is None
    assert (curve.scale, curve.engine) == (scale, engine)


def agree(one, other):
    for name in COLUMNS:
        a, b = (curve.table[name].to_numpy() for curve in (one, other))
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9, err_msg=name)


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(8, 40),
    p=st.integers(3, 60),
    targets=st.integers(1, 3),
    scale=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_engines_agree(n, p, targets, scale, seed):
    x, y = spectra(n, p, targets, seed)
    cv = KFold(4, shuffle=True, random_state=seed)
    agree(*[latent_variables(x, y, cv, 6, scale=scale, engine=engine) for engine in ("ikpls", "sklearn")])


@pytest.mark.parametrize("scale", [False, True])
def test_engines_agree_where_a_wavelength_or_a_target_is_constant(scale):
    x, y = spectra()
    x[:, 3] = 0.7
    both = np.column_stack([y, np.full(len(y), 4.0)])
    for wanted in (y, both):
        curves = [latent_variables(x, wanted, KFold(4), 5, scale=scale, engine=e) for e in ("ikpls", "sklearn")]
        agree(*curves)


def test_engines_agree_on_the_fermentation():
    datasets = pytest.importorskip("chemotools.datasets", reason="chemotools carries the fermentation spectra")
    x, y = datasets.load_fermentation_train()
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float).ravel()
    cv = KFold(10, shuffle=True, random_state=42)
    one, other = (latent_variables(x, y, cv, 10, engine=engine) for engine in ("ikpls", "sklearn"))
    agree(one, other)
    assert one.table.height == 10
    assert one.one_se() <= one.minimum()


def test_groups_stay_together_and_any_iterable_of_pairs_does():
    x, y = spectra()
    groups = np.arange(60) // 3
    by_splitter = latent_variables(x, y, GroupKFold(5), 4, groups=groups)
    by_pairs = latent_variables(x, y, GroupKFold(5).split(x, y, groups), 4)
    by_masks = latent_variables(
        x,
        y,
        [(~np.isin(np.arange(60), val), np.isin(np.arange(60), val)) for _, val in GroupKFold(5).split(x, y, groups)],
        4,
    )
    assert by_splitter.table.equals(by_pairs.table)
    np.testing.assert_allclose(by_splitter.table["RMSECV"], by_masks.table["RMSECV"])
    assert by_splitter.table["RMSECV"][2] != latent_variables(x, y, KFold(5), 4).table["RMSECV"][2]


def test_a_splitter_that_parts_a_group_is_refused():
    x, y = spectra()
    for groups in (np.arange(60) // 4, [f"oil {k // 4}" for k in range(60)], np.array([*"ab"] * 30, dtype=object)):
        with pytest.raises(ValueError, match="fold 0: group .* trains and validates; KFold .*GroupKFold"):
            latent_variables(x, y, KFold(4, shuffle=True, random_state=0), 3, groups=groups)
    with pytest.raises(ValueError, match="groups of shape"):
        latent_variables(x, y, KFold(4), 3, groups=np.arange(59))
    # in order, folds of 15 keep triples together, and nothing is said of groups that are ignored
    curve = latent_variables(x, y, KFold(4), 3, groups=np.arange(60) // 3)
    assert curve.table.equals(latent_variables(x, y, KFold(4), 3).table)


def test_repeats_and_folds_that_overlap_count_each_validation():
    x, y = spectra()
    once = latent_variables(x, y, KFold(4), 3).table
    twice = latent_variables(x, y, [*KFold(4).split(x)] * 2, 3).table
    np.testing.assert_allclose(twice["PRESS"], 2 * once["PRESS"].to_numpy())
    np.testing.assert_allclose(twice["RMSECV"], once["RMSECV"])
    for cv in (RepeatedKFold(n_splits=3, n_repeats=2, random_state=0), ShuffleSplit(4, random_state=0)):
        agree(*[latent_variables(x, y, cv, 4, engine=engine) for engine in ("ikpls", "sklearn")])


def test_no_more_than_the_training_sets_and_wavelengths_allow():
    x, y = spectra(n=6, p=50)
    assert latent_variables(x, y, LeaveOneOut(), 20).table.height == 4
    x, y = spectra(n=30, p=3)
    assert latent_variables(x, y, KFold(3), 20).table.height == 3


@pytest.mark.parametrize("engine", ["ikpls", "sklearn"])
def test_spectra_without_further_latent_variables_repeat_the_last_line(engine):
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(30, 2))
    x, y = scores @ rng.normal(size=(2, 20)), scores @ [1.0, 0.5] + 0.1 * rng.normal(size=30)
    table = latent_variables(x, y, KFold(5), 4, engine=engine).table
    np.testing.assert_allclose(table["RMSECV"][2:], table["RMSECV"][1], rtol=1e-6)


def test_read_only_views_of_a_dataset_are_read_and_left_alone():
    x, y = spectra(n=40)
    ds = SpectroDataset()
    ds.add_features([x.astype("f4")])
    ds.add_targets(pl.DataFrame({"protein": y}))
    views = ds.x()
    before = views[0].copy()
    for engine in ("ikpls", "sklearn"):
        by_tuple = latent_variables(views, ds.y(target="protein"), KFold(4), 5, engine=engine)
        by_array = latent_variables(views[0], ds.y(), KFold(4), 5, engine=engine)
        assert by_tuple.table.equals(by_array.table)
    assert np.array_equal(views[0], before)


def curve(press, errors=None):
    press = np.asarray(press, dtype=float)
    table = pl.DataFrame({"PRESS": press, "RMSECV": np.sqrt(press / 10)})
    table = table.with_columns(
        pl.Series("standard_error", np.full(len(press), 0.1) if errors is None else errors, dtype=pl.Float64),
        (pl.col("PRESS").shift(-1) / pl.col("PRESS")).alias("R"),
    )
    return LatentVariableCurve(table, False, "sklearn")


def test_rules_by_hand():
    # RMSECV 3, 2, 1.05, 1.0, 1.02
    one = curve(10 * np.array([3.0, 2.0, 1.05, 1.0, 1.02]) ** 2)
    assert one.minimum() == 4
    assert one.one_se() == 3  # 1.05 <= 1.0 + 0.1
    assert one.wold() == 4  # 1.0 / 1.1025 = 0.907 is below 0.95, 1.0404 above
    assert one.wold(0.9) == 3
    assert one.wold(1.1) == 5
    assert curve([4.0, 4.0, 4.0]).minimum() == 1
    assert curve([4.0]).wold() == curve([4.0]).one_se() == 1
    exact = curve([100.0, 95.0, 90.0])
    assert exact.wold() == 3  # 0.95 is not above 0.95, 0.947 neither
    assert curve([100.0, 95.1, 90.0]).wold() == 1


def test_rules_that_cannot_choose_raise():
    x, y = spectra()
    one = latent_variables(x, y, [(np.arange(40), np.arange(40, 60))], 4)
    assert one.minimum() >= 1
    with pytest.raises(ValueError, match="one fold"):
        one.one_se()
    with pytest.raises(ValueError, match="threshold"):
        one.wold(0)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"y": np.ones(59)}, ValueError, "59 targets"),
        ({"y": np.r_[np.nan, np.ones(59)]}, ValueError, "1 of 60 samples"),
        ({"y": np.array(["a"] * 60)}, ValueError, "numbers"),
        ({"x": np.ones(60)}, ValueError, "wavelength"),
        ({"x": np.full((60, 4), np.nan)}, ValueError, "NaN"),
        ({"x": (np.ones((60, 4)), np.ones((60, 4)))}, ValueError, "src_concat"),
        ({"cv": 5}, TypeError, "splitter"),
        ({"cv": []}, ValueError, "no fold"),
        ({"cv": [np.arange(5)]}, TypeError, "train, val"),
        ({"cv": [([0, 1, 2], [2, 3])]}, ValueError, "sample 2 trains and validates"),
        ({"cv": [([0, 1, 2], [60])]}, ValueError, "place 60"),
        ({"cv": [([0, 1, 2], [-1])]}, ValueError, "place -1"),
        ({"cv": [([0, 1, 2], [])]}, ValueError, "at least one"),
        ({"cv": [([0], [1])]}, ValueError, "one sample"),
        ({"cv": [([0, 1, 2], [3])], "groups": np.zeros(60)}, ValueError, "groups"),
        ({"most": 0}, ValueError, "most"),
        ({"engine": "nipals"}, ValueError, "engine"),
    ],
)
def test_bad_input_says_what_is_wrong(change, error, words):
    x, y = spectra()
    given = {"x": x, "y": y, "cv": KFold(4), "most": 4} | change
    with pytest.raises(error, match=words):
        latent_variables(**given)


def test_without_ikpls_scikit_learn_does_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    x, y = spectra()
    assert latent_variables(x, y, KFold(4), 3).engine == "sklearn"
    with pytest.raises(ImportError, match=r"spectroxr\[learn\]"):
        latent_variables(x, y, KFold(4), 3, engine="ikpls")


def test_importing_loads_no_engine():
    import subprocess

    code = "import sys, spectroxr, spectroxr.components; print([m for m in ('sklearn', 'ikpls') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
