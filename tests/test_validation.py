"""Cross-validation: what it gives is what scikit-learn gives, and nothing leaks."""

import json
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import polars as pl
import pybaselines
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.cross_decomposition import PLSRegression
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneOut,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from spectroxr import NotRectangularError, SpectroDataset, SpectroWarning, UnknownNameError
from spectroxr.fusion import BlockScaler

DATA = Path(__file__).parent.parent.parent / "shared" / "data"


class Recorder(RegressorMixin, BaseEstimator):
    """Predicts the mean, and writes down what it was fitted to."""

    seen: list = []

    def fit(self, X, y):
        Recorder.seen.append((np.array(X), np.array(y)))
        self.mean_ = np.mean(y, axis=0)
        return self

    def predict(self, X):
        return np.repeat(self.mean_, len(X))


@pytest.fixture(autouse=True)
def _forget():
    Recorder.seen.clear()


@pytest.fixture(scope="module")
def fermentation():
    chemotools = pytest.importorskip("chemotools.datasets")
    spectra, glucose = chemotools.load_fermentation_train()
    return np.asarray(spectra, dtype=np.float64), np.asarray(glucose, dtype=np.float64).ravel()


@pytest.fixture(scope="module")
def soil():
    path = DATA / "nirsoil" / "nirsoil.csv"
    if not path.exists():
        pytest.skip("the nirsoil set is not beside the project")
    table = pl.read_csv(path, null_values=["", "NA"], infer_schema_length=None)
    names = [name for name in table.columns if name.isdecimal()]
    return table, table.select(names).to_numpy().astype(np.float64), np.array(names, dtype=float)


@pytest.fixture(scope="module")
def olive():
    path = DATA / "olive_mir" / "FTIR_Spectra_olive_oils.csv"
    if not path.exists():
        pytest.skip("the olive oils are not beside the project")
    lines = [line.rstrip("\n").split(",") for line in path.read_text().splitlines() if line.strip(",")]
    oils, countries = [int(one) for one in lines[0][1:]], lines[2][1:]
    rows = [line for line in lines[3:] if line[0].replace(".", "").isdigit()]
    return np.array([line[1:] for line in rows], dtype=float).T, oils, [c.strip() for c in countries]


def of_soil(soil, targets=("Nt", "Ciso", "CEC")):
    table, x, nm = soil
    ds = SpectroDataset()
    ds.add_features({"nir": x}, wavelength=nm, units="nm", partition=table["partition"].to_list())
    ds.add_targets(table.select(targets))
    return ds


def lacking(soil, target):
    table = soil[0].filter(pl.col("partition") == "train")
    assert table[target].null_count() > 50
    return table[target].null_count()


def of_fermentation(fermentation):
    x, y = fermentation
    ds = SpectroDataset()
    ds.add_features({"mir": x})
    ds.add_targets(pl.DataFrame({"glucose": y}))
    return ds


def small(n=24, **targets):
    """Spectra of two sources in which the first column is the number of the sample."""
    rng = np.random.default_rng(5)
    x, z = rng.random((n, 6)), 100 * rng.random((n, 3))
    x[:, 0] = np.arange(n)
    ds = SpectroDataset()
    ds.add_features({"nir": x, "mir": z}, partition=["train"] * (n - 4) + ["test"] * 4)
    ds.add_targets(pl.DataFrame(targets or {"y": x[:, 1] + x[:, 2]}))
    ds.add_meta(pl.DataFrame({"oil": [k // 2 for k in range(n)], "site": ["a", "b"] * (n // 2)}))
    return ds


def predicted(lines):
    return lines.sort("sample")["preds"].to_numpy()


def state(ds):
    tables = (ds.predictions.table, ds.targets.table, ds.features.index_df, ds.metadata.table)
    return [table.write_json() for table in tables], ds.folds.folds, dict(ds.targets.records)


def meta(lines):
    return [json.loads(text) for text in lines["metadata"].unique(maintain_order=True)]


# what it gives


@pytest.mark.parametrize("cv", [KFold(5, shuffle=True, random_state=3), LeaveOneOut(), KFold(3)])
def test_predictions_are_those_of_scikit_learn_on_the_fermentation(fermentation, cv):
    ds = of_fermentation(fermentation)
    pls = PLSRegression(6, scale=False)
    lines = ds.cross_validate(pls, cv=cv)
    expected = cross_val_predict(PLSRegression(6, scale=False), *fermentation, cv=cv).ravel()
    np.testing.assert_array_equal(predicted(lines), expected)
    assert not hasattr(pls, "coef_")
    assert ds.predictions.table.equals(lines)


def test_predictions_are_those_of_scikit_learn_on_soils(soil):
    ds = of_soil(soil)
    table, x, _ = soil
    pipeline = make_pipeline(StandardScaler(with_std=False), PLSRegression(8, scale=False))
    with pytest.warns(SpectroWarning, match=f"of 618 samples, {lacking(soil, 'Nt')} have no 'Nt'"):
        lines = ds.cross_validate(pipeline, target="Nt", cv=4, seed=7)
    kept = ((table["partition"] == "train") & table["Nt"].is_not_null()).to_numpy()
    y = table["Nt"].to_numpy()[kept]
    expected = cross_val_predict(pipeline, x[kept], y, cv=KFold(4, shuffle=True, random_state=7)).ravel()
    np.testing.assert_array_equal(lines.sort("sample")["sample"].to_numpy(), np.flatnonzero(kept))
    np.testing.assert_array_equal(predicted(lines), expected)


def test_the_lines_say_where_they_come_from():
    ds = small()
    ds.update_x([ds.x()[0] + 1, None], range(24), "shifted")
    lines = ds.cross_validate(
        PLSRegression(2), cv=4, seed=9, processing="shifted", source="nir", keep_train=True, model="pls", repeats=2
    )
    assert lines["model"].unique().to_list() == ["pls"]
    assert lines.group_by("repeat", "fold").len().height == 8
    assert lines.select("repeat", "seed").unique().sort("repeat").rows() == [(0, 9), (1, 10)]
    assert lines["processing"].unique().to_list() == ["raw"]
    (about,) = meta(lines)
    run = about.pop("run")
    assert len(run) == 16
    assert about == {
        "target": "y", "features": ["shifted"], "source": ["nir"], "layout": "2d", "src_concat": True, "scale": True,
        "task": "regression",
    }  # fmt: skip
    for (_, _), part in lines.group_by("repeat", "fold"):
        train, val = (set(part.filter(pl.col("partition") == side)["sample"]) for side in ("train", "val"))
        assert train | val == set(range(20))
        assert not train & val


def test_training_predictions_are_those_of_the_model_of_the_fold(fermentation):
    x, y = fermentation
    ds = of_fermentation(fermentation)
    cv = KFold(3)
    lines = ds.cross_validate(PLSRegression(4, scale=False), cv=cv, keep_train=True)
    for fold, (train, _) in enumerate(cv.split(x)):
        mine = lines.filter(pl.col("fold") == fold, pl.col("partition") == "train")
        model = PLSRegression(4, scale=False).fit(x[train], y[train])
        np.testing.assert_array_equal(predicted(mine), model.predict(x[train]).ravel())


def test_wavelengths_layouts_and_sources_are_selected():
    ds = small()
    ds.update_x([ds.x()[0] ** 2, None], range(24), "squared")
    both = {"source": "nir", "wavelength": slice(2, 4), "processing": ["raw", "squared"]}
    ds.cross_validate(Recorder(), cv=KFold(2), filter=both, layout="2d_interlaced")
    (x, _), _ = Recorder.seen
    np.testing.assert_array_equal(x, ds.x({**both, "sample": slice(10, 19)}, layout="2d_interlaced")[0])
    Recorder.seen.clear()
    ds.cross_validate(Recorder(), cv=KFold(2), filter=both, layout="3d_transpose")
    assert Recorder.seen[0][0].shape == (10, 3, 2)
    Recorder.seen.clear()
    ds.cross_validate(Recorder(), cv=KFold(2), filter=pl.col("site") == "a", processing="raw")
    assert Recorder.seen[0][0].shape == (5, 9)


def test_repeats_split_and_draw_anew_and_scikit_learns_repeated_folds_are_folds():
    ds = small()
    forest = RandomForestRegressor(5)
    lines = ds.cross_validate(forest, cv=2, repeats=3, source="nir")
    sets = lines.filter(pl.col("fold") == 0).group_by("repeat").agg(pl.col("sample").sort())["sample"].to_list()
    assert len({tuple(one) for one in sets}) == 3
    for repeat in range(3):
        expected = cross_val_predict(
            RandomForestRegressor(5, random_state=repeat),
            *(ds.x({"source": "nir", "partition": "train"})[0], ds.y({"partition": "train"}, target="y")),
            cv=KFold(2, shuffle=True, random_state=repeat),
        )
        np.testing.assert_array_equal(predicted(lines.filter(pl.col("repeat") == repeat)), expected)
    again = ds.cross_validate(Ridge(), cv=RepeatedKFold(n_splits=2, n_repeats=2, random_state=1))
    assert again["fold"].unique().sort().to_list() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="neither these folds nor the estimator change"):
        ds.cross_validate(PLSRegression(2), cv=KFold(2), repeats=2)
    shuffled = ds.cross_validate(Ridge(), cv=ShuffleSplit(1, random_state=4), repeats=2)
    assert shuffled.group_by("repeat").agg(pl.col("sample").sort()).n_unique("sample") == 2


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_any_number_of_jobs_gives_the_same(soil, backend):
    alone = of_soil(soil, ["CEC"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpectroWarning)
        one = alone.cross_validate(
            RandomForestRegressor(3, max_depth=3),
            source="nir",
            filter={"wavelength": slice(1500, 1600)},
            repeats=2,
            cv=3,
        )
        several = of_soil(soil, ["CEC"])
        with joblib.parallel_config(backend=backend):
            two = several.cross_validate(
                RandomForestRegressor(3, max_depth=3),
                source="nir",
                filter={"wavelength": slice(1500, 1600)},
                repeats=2,
                cv=3,
                n_jobs=2,
            )
    assert one.equals(two)
    assert several.predictions.table.equals(one)


# what must not leak


def test_augmented_samples_train_with_their_origins_and_never_validate():
    ds = small()
    new = ds.augment_features_x(2)
    grand = ds.augment_samples_x([(int(new["sample"][0]), 1)])["sample"].to_list()
    # spectra of their own, so that nothing but the lineage of samples can tell them apart
    kids = list(range(24, len(ds)))
    ds.update_x([ds.x({"sample": kids})[0] + 1000, None], kids, "raw")
    root = dict(enumerate(ds.features.index.origins.tolist()))
    for _ in range(3):
        root = {k: root[v] for k, v in root.items()}
    lines = ds.cross_validate(Recorder(), cv=5, source="nir", keep_train=True)
    val = lines.filter(pl.col("partition") == "val")
    assert sorted(val["sample"]) == list(range(20))
    for fold, (x, y) in enumerate(Recorder.seen):
        held = set(val.filter(pl.col("fold") == fold)["sample"])
        numbers = [int(v) % 1000 for v in x[:, 0]]
        assert set(numbers) == set(range(20)) - held
        # three copies of each, four of the one with a grandchild
        assert len(x) == 3 * 16 + (0 not in held)
        train = lines.filter(pl.col("fold") == fold, pl.col("partition") == "train")["sample"].to_list()
        assert numbers == [root[s] for s in train]
        assert (grand[0] in train) == (0 not in held)
        np.testing.assert_array_equal(y, ds.y(target="y")[train])


def test_only_augmented_samples_that_the_filter_selects_train():
    ds = small()
    ds.augment_features_x(1)
    ds.update_indexes(ds.features.index_df.filter(pl.col("sample") >= 24), {"group": 7})
    ds.cross_validate(Recorder(), cv=4, source="nir", filter={"group": 0})
    assert {len(x) for x, _ in Recorder.seen} == {15}


def test_replicates_stay_together(olive):
    x, oils, countries = olive
    ds = SpectroDataset()
    ds.add_features({"mir": x})
    ds.add_targets(pl.DataFrame({"country": countries}))
    ds.add_meta(pl.DataFrame({"oil": oils}))
    lda = make_pipeline(StandardScaler(), KNeighborsClassifier(1))
    for cv in (6, GroupKFold(6)):
        lines = ds.cross_validate(lda, cv=cv, groups="oil", resume=False)
        where = lines.with_columns(pl.Series("oil", oils)[lines["sample"]])
        assert lines.height == 120
        assert where.group_by("oil").agg(pl.col("fold").n_unique())["fold"].max() == 1
    apart = ds.cross_validate(lda, cv=6)
    truth = pl.Series(countries)

    def right(lines):
        return (lines["labels"] == truth[lines["sample"]]).mean()

    # the leak that grouping closes
    assert right(apart) > right(lines) + 0.05


def test_splitters_that_part_a_group_are_refused():
    ds = small()
    before = state(ds)
    for cv, instead in [
        (KFold(3), "fold 0: group 3 .*KFold does not keep groups together, GroupKFold.* cv=5"),
        (KFold(3, shuffle=True, random_state=0), "group .* GroupKFold"),
        (LeaveOneOut(), "fold 0: group 0 trains and validates; LeaveOneOut .*LeaveOneGroupOut"),
        (ShuffleSplit(2, random_state=0), "GroupShuffleSplit"),
    ]:
        with pytest.raises(ValueError, match=instead):
            ds.cross_validate(Ridge(), cv=cv, groups="oil")
        with pytest.raises(ValueError, match="group .* trains and validates"):
            ds.set_folds(cv, groups="oil", filter={"partition": "train"})
    with pytest.raises(ValueError, match="group 'a' trains and validates"):
        ds.cross_validate(Ridge(), cv=KFold(3), groups="site")
    with pytest.raises(ValueError, match="groups of shape"):
        ds.set_folds(KFold(3), groups=np.zeros((24, 2)))
    assert state(ds) == before
    # folds that keep them together by the order of the samples, without a warning that they are not looked at
    lines = ds.cross_validate(Ridge(), cv=KFold(5), groups="oil")
    assert lines.height == 20
    ds.set_folds(KFold(12), groups="oil")
    assert len(ds.folds) == 12


def test_a_group_that_a_later_repeat_parts_is_named():
    class Later(KFold):
        """Parts groups if it was given another seed than 0."""

        def split(self, X, y=None, groups=None):
            yield from (GroupKFold(2) if self.random_state == 0 else LeaveOneOut()).split(X, y, groups)

    ds = small()
    with pytest.raises(ValueError, match="fold 0 of repeat 1: group 0 trains and validates; Later does not keep"):
        ds.cross_validate(Ridge(), cv=Later(2, shuffle=True), groups="oil", repeats=2)


def test_each_fold_of_a_number_with_groups_has_every_class():
    rng = np.random.default_rng(0)
    ds = SpectroDataset()
    ds.add_features([rng.random((60, 4))])
    ds.add_targets(pl.DataFrame({"kind": ["rare"] * 12 + ["common"] * 48}))
    ds.add_meta(pl.DataFrame({"oil": [k // 3 for k in range(60)]}))
    lines = ds.cross_validate(KNeighborsClassifier(1), cv=4, groups="oil", repeats=2)
    for _, part in lines.group_by("repeat", "fold"):
        assert (part["sample"] < 12).sum() == 3
        assert all((part["sample"].to_numpy() // 3 == oil).sum() == 3 for oil in set(part["sample"].to_numpy() // 3))


def test_partition_test_takes_no_part_unless_it_is_named():
    ds = small()
    assert sorted(ds.cross_validate(Ridge(), cv=2)["sample"]) == list(range(20))
    assert sorted(ds.cross_validate(Ridge(), cv=2, filter={"site": "a"})["sample"]) == list(range(0, 20, 2))
    everyone = ds.cross_validate(Ridge(), cv=2, filter={"partition": ["train", "test"]})
    assert sorted(everyone["sample"]) == list(range(24))
    named = ds.cross_validate(Ridge(), cv=2, filter=pl.col("partition").is_in(["test"]))
    assert sorted(named["sample"]) == [20, 21, 22, 23]
    with pytest.raises(ValueError, match="partition 'test', which is not validated"):
        ds.cross_validate(Ridge(), filter={"sample": [21, 22, 23]})


def test_folds_that_are_set_are_taken_and_leaky_ones_refused():
    ds = small()
    ds.set_folds(KFold(3), filter={"partition": "train"})
    lines = ds.cross_validate(Ridge())
    for k, fold in enumerate(ds.folds.folds):
        assert lines.filter(pl.col("fold") == k)["sample"].to_list() == fold["val"]
    before = state(ds)
    child = ds.augment_samples_x([(3, 1)])["sample"].to_list()
    before = state(ds)
    for folds, what in [
        ([([0, 1, *child], [3])], "trains while the sample it was derived from validates"),
        ([([0, 1], child)], "cannot validate"),
        ([([0, 1], [1, 2])], "trains and validates"),
        ([([0, 1, 2], [21])], "fold 0: none of its samples validates"),
    ]:
        with pytest.raises(ValueError, match=what):
            ds.cross_validate(Ridge(), cv=folds)
    assert state(ds) == before
    given = ds.cross_validate(Ridge(), cv=[([0, 1, 2], [3, 4]), ([5, 6], [7])])
    assert given.select("fold", "sample").rows() == [(0, 3), (0, 4), (1, 7)]


def test_what_is_fitted_before_the_estimator_is_fitted_in_the_fold():
    ds = small()
    ds.update_x([np.where(ds.x()[0][:, :1] < 10, ds.x()[0], 1e6), None], range(24), "jump")
    folds = [(list(range(10)), list(range(10, 20)))]
    ds.cross_validate(make_pipeline(StandardScaler(), Recorder()), cv=folds, source="nir", processing="jump")
    ((x, _),) = Recorder.seen
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(x.std(axis=0), 1)


# lineage steps


def test_lineage_steps_are_fitted_anew_in_each_fold():
    ds = small()
    ds.apply(StandardScaler(), name="scaled", source="nir")
    whole = ds.cross_validate(Recorder(), cv=KFold(4), source="nir", processing="scaled")
    leaky = [x for x, _ in Recorder.seen]
    Recorder.seen.clear()
    anew = ds.cross_validate(Recorder(), cv=KFold(4), source="nir", processing="scaled", refit=True)
    raw = ds.x({"source": "nir", "processing": "raw"})[0]
    for (train, _), (x, _), leak in zip(KFold(4).split(np.zeros(20)), Recorder.seen, leaky, strict=True):
        np.testing.assert_allclose(x, StandardScaler().fit_transform(raw[train]))
        assert np.abs(leak.mean(axis=0)).max() > 0.01
    assert meta(anew)[0]["refit"] is True
    assert meta(anew)[0]["features"] == ["scaled"]
    assert meta(anew)[0]["run"] != meta(whole)[0]["run"]


def test_refit_gives_what_a_pipeline_gives_from_the_raw_spectra(fermentation):
    x, y = fermentation
    chemotools = pytest.importorskip("chemotools.scatter")
    ds = of_fermentation(fermentation)
    steps = [chemotools.StandardNormalVariate(), StandardScaler(with_std=False)]
    first = ds.apply(steps[0], name="first", fit_on=None)
    second = ds.apply(steps[1], parent=first, name="second", fit_on=None)
    lines = ds.cross_validate(PLSRegression(6, scale=False), cv=KFold(5), processing=second, refit=True)
    expected = cross_val_predict(make_pipeline(*steps, PLSRegression(6, scale=False)), x, y, cv=KFold(5)).ravel()
    np.testing.assert_allclose(predicted(lines), expected, rtol=1e-9)


def test_refit_of_several_processings_sources_and_bands():
    ds = small()
    ds.apply(np.square, name="squared")
    ds.apply(StandardScaler(), parent="squared", name="scaled")
    chosen = {"processing": ["raw", "scaled"], "wavelength": slice(1, 2)}
    ds.cross_validate(Recorder(), cv=KFold(2), filter=chosen, refit=True)
    (x, _), _ = Recorder.seen
    nir, mir = (one[10:20] for one in ds.x({"processing": "raw"}))
    parts = [part for raw in (nir, mir) for part in (raw[:, 1:3], StandardScaler().fit_transform(raw**2)[:, 1:3])]
    np.testing.assert_allclose(x, np.hstack(parts))
    Recorder.seen.clear()
    ds.cross_validate(Recorder(), cv=KFold(2), processing="scaled", refit=True, src_concat="block")
    (x, _), _ = Recorder.seen
    for block in (x[:, :6], x[:, 6:]):
        assert block.var(axis=0, ddof=1).sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="layout '2d', not '3d'"):
        ds.cross_validate(Ridge(), processing="scaled", refit=True, layout="3d")
    ds.update_x([ds.x({"processing": "scaled"})[0] + 1, None], range(24), "scaled")
    with pytest.raises(ValueError, match="written by hand"):
        ds.cross_validate(Ridge(), source="nir", processing="scaled", refit=True)


def test_refit_takes_off_the_baselines_of_pybaselines():
    ds = SpectroDataset()
    rng = np.random.default_rng(0)
    spectra = rng.random((20, 60)) + np.linspace(0, 3, 60)
    ds.add_features({"nir": spectra})
    ds.add_targets(pl.DataFrame({"protein": spectra[:, :5].sum(axis=1)}))
    flat = ds.apply((pybaselines.whittaker.asls, {"lam": 1e3}), name="flat")
    for refit in (False, True):
        ds.cross_validate(Ridge(), cv=4, processing=flat, refit=refit, model=str(refit))
    one, two = (ds.prediction({"model": model}) for model in ("False", "True"))
    np.testing.assert_allclose(one, two, rtol=1e-9)


def test_refit_from_a_source_with_another_axis():
    from sklearn.decomposition import PCA

    ds = small()
    ds.apply(PCA(2), source="nir", new_source="scores", name="pca")
    ds.cross_validate(Recorder(), cv=KFold(2), source="scores", processing="pca", refit=True)
    (x, _), _ = Recorder.seen
    np.testing.assert_allclose(
        np.abs(x), np.abs(PCA(2).fit_transform(ds.x({"source": "nir", "processing": "raw"})[0][10:20]))
    )


# continuing


def cut_off(ds, after, **options):
    """Cross-validate with an estimator that is interrupted in a fold."""

    class Stop:
        left = after

    def fit(self, X, y):
        if not Stop.left:
            raise KeyboardInterrupt
        Stop.left -= 1
        return original(self, X, y)

    original = Ridge.fit
    Ridge.fit = fit
    try:
        with pytest.raises(KeyboardInterrupt):
            ds.cross_validate(Ridge(), **options)
    finally:
        Ridge.fit = original


def test_an_interrupted_run_goes_on_where_it_was(monkeypatch):
    ds = small()
    cut_off(ds, 3, cv=5, repeats=2)
    assert len(ds.predictions) == 12
    part = ds.predictions.table
    fitted = []
    original = Ridge.fit
    monkeypatch.setattr(Ridge, "fit", lambda self, X, y: fitted.append(len(X)) or original(self, X, y))
    lines = ds.cross_validate(Ridge(), cv=5, repeats=2)
    assert len(fitted) == 7
    assert ds.predictions.table[:12].equals(part)
    assert lines.equals(small().cross_validate(Ridge(), cv=5, repeats=2))
    fitted.clear()
    assert ds.cross_validate(Ridge(), cv=5, repeats=2).equals(lines)
    assert not fitted
    assert len(ds.predictions) == 40


@pytest.mark.parametrize(
    "change",
    [
        {"estimator": Ridge(2.0)},
        {"cv": 4},
        {"seed": 1},
        {"source": "nir"},
        {"filter": {"sample": slice(0, 18)}},
        {"keep_train": True},
        {"src_concat": "block"},
        {"resume": False},
        {"spectra": True},
        {"targets": True},
        {"model": "mine"},
    ],
    ids=str,
)
def test_another_run_is_not_taken_for_the_same(change):
    ds = small()
    first = ds.cross_validate(Ridge(), cv=5)
    change = dict(change)
    if change.pop("spectra", False):
        ds.update_x([ds.x()[0] + 1, None], range(24), "raw")
    if change.pop("targets", False):
        ds.update_y(ds.y() + 1, range(24), "raw")
    options = {"cv": 5, **change}
    second = ds.cross_validate(options.pop("estimator", Ridge()), **options)
    assert meta(first)[0]["run"] != meta(second)[0]["run"]
    assert second["model"].unique().to_list() == [change.get("model", "Ridge-2")]
    assert len(ds.predictions) == first.height + second.height


def test_a_name_is_that_of_one_run():
    ds = small()
    first = ds.cross_validate(Ridge(), cv=KFold(5), model="c")
    ds.fit_predict(Ridge(), model="f")
    ds.add_prediction(np.zeros(24), {"model": "by hand"})
    before = state(ds)
    for model, count in (("c", 20), ("f", 24), ("by hand", 24)):
        for call, options in [
            (ds.cross_validate, {"cv": KFold(4)}),
            (ds.cross_validate, {"cv": KFold(5), "resume": False}),
            (ds.fit_predict, {}),
        ]:
            with pytest.raises(ValueError, match=f"hold {count} lines of model '{model}' .* model='{model}-2'"):
                call(Ridge(), model=model, **options)
    assert state(ds) == before
    assert ds.cross_validate(Ridge(), cv=KFold(5), model="c").equals(first)
    ds.cross_validate(Ridge(), cv=KFold(4), model="c-2")
    for _ in range(2):
        ds.fit_predict(Ridge())
    assert ds.predictions.table["model"].unique(maintain_order=True).to_list() == [
        *("c", "f", "by hand", "c-2", "Ridge", "Ridge-2")
    ]


def test_a_named_run_that_was_cut_off_goes_on():
    ds = small()
    cut_off(ds, 2, cv=5, model="c")
    assert len(ds.predictions) == 8
    assert ds.cross_validate(Ridge(), cv=5, model="c").height == len(ds.predictions) == 20


def test_the_latest_of_runs_begun_anew_is_continued():
    ds = small()
    ds.cross_validate(Ridge(), cv=5)
    cut_off(ds, 2, cv=5, resume=False)
    assert len(ds.predictions) == 28
    lines = ds.cross_validate(Ridge(), cv=5)
    assert len(ds.predictions) == 40
    assert lines["model"].unique().to_list() == ["Ridge-2"]
    assert sorted(lines["sample"]) == list(range(20))


def test_an_estimator_that_no_other_session_finds_is_validated_all_the_same():
    from sklearn.preprocessing import FunctionTransformer

    ds = small()
    model = make_pipeline(FunctionTransformer(lambda x: x * 2), Ridge())
    first, second = (ds.cross_validate(model, cv=2) for _ in range(2))
    assert meta(first)[0]["run"] != meta(second)[0]["run"]
    np.testing.assert_array_equal(first["preds"], second["preds"])


KILLED = """
import os, signal, sys
import numpy as np, polars as pl
from sklearn.linear_model import Ridge
from spectroxr import SpectroDataset

class Fatal(Ridge):
    pass

left = int(sys.argv[2])
original = Ridge.fit
def fit(self, X, y):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return original(self, X, y)
Ridge.fit = fit
ds = SpectroDataset.load(sys.argv[1])
lines = ds.cross_validate(Ridge(), cv=5, repeats=2, keep_train=True, checkpoint=sys.argv[1])
print(lines.height, 100 - left)
"""


def test_a_killed_run_is_continued_by_another_process(tmp_path):
    small().save(tmp_path / "s")

    def run(left):
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", KILLED, str(tmp_path / "s"), str(left)],
            capture_output=True,
            text=True,
            timeout=300,
        )

    assert run(3).returncode == -signal.SIGKILL
    assert len(SpectroDataset.load(tmp_path / "s").predictions) == 60
    assert run(4).returncode == -signal.SIGKILL
    done = run(100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["200", "3"]
    SpectroDataset.verify(tmp_path / "s")
    stored = SpectroDataset.load(tmp_path / "s").predictions.table
    ds = small()
    assert stored.equals(ds.cross_validate(Ridge(), cv=5, repeats=2, keep_train=True))


def test_a_checkpoint_keeps_how_the_spectra_are_stored(tmp_path):
    ds = small()
    ds.save(tmp_path / "s", compression=None)
    ds.cross_validate(Ridge(), cv=3, checkpoint=tmp_path / "s")
    written = SpectroDataset.versions(tmp_path / "s")
    assert written.height == 4
    assert written["message"].to_list()[-1] == "Ridge: 3 of 3 folds"


# targets


def test_missing_targets_leave_a_sample_out_of_that_target_only(soil):
    ds = of_soil(soil)
    table, x, _ = soil
    with pytest.warns(SpectroWarning) as caught:
        lines = ds.cross_validate(PLSRegression(5, scale=False), cv=3)
    (said,) = caught
    for name in ("Nt", "Ciso", "CEC"):
        assert f"{lacking(soil, name)} have no {name!r}" in str(said.message)
    assert said.filename == __file__
    train = (table["partition"] == "train").to_numpy()
    for name in ("Nt", "Ciso", "CEC"):
        mine = lines.filter(pl.col("metadata").str.json_path_match("$.target") == name)
        expected = np.flatnonzero(train & table[name].is_not_null().to_numpy())
        assert sorted(mine["sample"]) == expected.tolist()
        assert mine["fold"].n_unique() == 3
        y = table[name].to_numpy()
        fold = mine.filter(pl.col("fold") == 1)
        rest = mine.filter(pl.col("fold") != 1)["sample"].sort().to_numpy()
        model = PLSRegression(5, scale=False).fit(x[rest], y[rest])
        np.testing.assert_allclose(fold["preds"], model.predict(x[fold["sample"].to_numpy()]).ravel(), rtol=1e-9)
    assert len({m["run"] for m in meta(lines)}) == 1


def test_nan_is_missing_and_a_fold_without_a_target_is_refused():
    y = np.arange(24.0)
    y[:10] = np.nan
    ds = small(y=y, full=np.arange(24.0))
    with pytest.warns(SpectroWarning, match="of 20 samples, 10 have no 'y'"):
        lines = ds.cross_validate(Ridge(), target="y", cv=2)
    assert sorted(lines["sample"]) == list(range(10, 20))
    before = state(ds)
    with pytest.raises(ValueError, match="fold 0: of the samples that validate, none has target 'y'"):
        ds.cross_validate(Ridge(), cv=[(range(10, 20), range(10))])
    with pytest.raises(ValueError, match="none of the 5 samples has target 'y'"):
        ds.cross_validate(Ridge(), target="y", filter={"sample": slice(0, 4)})
    assert state(ds) == before


def test_several_targets_are_fitted_at_once_where_that_is_possible():
    rng = np.random.default_rng(2)
    ds = small(a=rng.random(24), b=rng.random(24))
    x, y = ds.x({"partition": "train"}, src_concat=True)[0], ds.y({"partition": "train"})
    lines = ds.cross_validate(PLSRegression(2), cv=KFold(4))
    assert meta(lines)[0]["target"] == ["a", "b"]
    assert lines.height == 20
    np.testing.assert_allclose(np.stack(predicted(lines)), cross_val_predict(PLSRegression(2), x, y, cv=KFold(4)))
    apart = ds.cross_validate(SVR(), cv=KFold(4))
    assert [m["target"] for m in meta(apart)] == ["a", "b"]
    for k, name in enumerate("ab"):
        mine = apart.filter(pl.col("metadata").str.json_path_match("$.target") == name)
        np.testing.assert_allclose(predicted(mine), cross_val_predict(SVR(), x, y[:, k], cv=KFold(4)))
    swapped = ds.cross_validate(PLSRegression(2), cv=KFold(4), target=["b", "a"])
    np.testing.assert_allclose(np.stack(predicted(swapped))[:, ::-1], np.stack(predicted(lines)), atol=1e-2)


def test_classes_that_are_text_come_back_as_labels(olive):
    x, oils, countries = olive
    ds = SpectroDataset()
    ds.add_features({"mir": x})
    ds.add_targets(pl.DataFrame({"country": countries}).cast(pl.Categorical))
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(3))
    lines = ds.cross_validate(model, seed=2)
    cv = StratifiedKFold(5, shuffle=True, random_state=2)
    expected = cross_val_predict(model, x, np.array(countries), cv=cv)
    assert lines.sort("sample")["labels"].to_list() == expected.tolist()
    (about,) = meta(lines)
    assert about["task"] == "classification"
    assert about["classes"] == sorted(set(countries))
    assert lines["processing"].unique().to_list() == ["raw"]
    assert ds.prediction({"fold": 0}).dtype == object


def test_several_class_targets_and_numbers_as_classes():
    rng = np.random.default_rng(2)
    ds = small(a=rng.choice(["u", "v"], 24), b=rng.choice(["w", "x", "y"], 24), c=rng.integers(0, 3, 24))
    x = ds.x({"partition": "train"}, src_concat=True)[0]
    both = ds.cross_validate(KNeighborsClassifier(3), cv=KFold(4), target=["a", "b"])
    expected = [
        cross_val_predict(KNeighborsClassifier(3), x, ds.y({"partition": "train"}, target=t), cv=KFold(4)) for t in "ab"
    ]
    assert [list(pair) for pair in both.sort("sample")["labels"]] == [
        list(pair) for pair in zip(*expected, strict=True)
    ]
    three = ds.cross_validate(LinearDiscriminantAnalysis(), cv=KFold(4))
    assert [m["target"] for m in meta(three)] == ["a", "b", "c"]
    numbers = three.filter(pl.col("metadata").str.json_path_match("$.target") == "c")
    assert meta(numbers)[0]["classes"] == [0, 1, 2]
    assert numbers["labels"].null_count() == 20
    with pytest.raises(TypeError, match="target 'a' is String in version 'raw'.*encode_targets"):
        ds.cross_validate(Ridge(), target="a")


# several sources


def test_sources_are_put_side_by_side_or_scaled_as_blocks():
    ds = small()
    folds = [(range(10), range(10, 20))]
    ds.cross_validate(Recorder(), cv=folds)
    ds.cross_validate(Recorder(), cv=folds, src_concat="block")
    (plain, _), (scaled, _) = Recorder.seen
    nir, mir = (one[:10] for one in ds.x())
    np.testing.assert_array_equal(plain, np.hstack([nir, mir]))
    for block, raw in ((scaled[:, :6], nir), (scaled[:, 6:], mir)):
        np.testing.assert_allclose(block, (raw - raw.mean(axis=0)) / np.sqrt(raw.var(axis=0, ddof=1).sum()))


def test_a_list_of_sources_goes_to_estimators_that_take_one():
    class Blocks:
        def fit(self, xs, y):
            assert [x.shape[1] for x in xs] == [6, 3]
            self.model = Ridge().fit(np.hstack(xs), y)
            return self

        def predict(self, xs):
            return self.model.predict(np.hstack(xs))

    ds = small()
    lines = ds.cross_validate(Blocks(), cv=KFold(3), src_concat=False)
    np.testing.assert_array_equal(predicted(lines), predicted(ds.cross_validate(Ridge(), cv=KFold(3))))
    with pytest.raises(
        ValueError, match=r"Ridge takes one matrix, not a list of 2 sources.*src_concat=True or 'block'"
    ):
        ds.cross_validate(Ridge(), src_concat=False)
    ds.cross_validate(Ridge(), src_concat=False, source="mir")


def test_scaling_that_undoes_the_blocks_is_told():
    ds = small()
    with pytest.warns(SpectroWarning, match="undoes the weights"):
        lines = ds.cross_validate(PLSRegression(2), cv=2, src_concat="block")
    assert meta(lines)[0]["scale"] is True
    lines = ds.cross_validate(PLSRegression(2, scale=False), cv=2, src_concat="block")
    assert meta(lines)[0]["scale"] is False


def test_block_scaler():
    rng = np.random.default_rng(1)
    x = rng.normal(5, 2, (30, 7)).astype("float32")
    x[:, 5:] = 3
    scaler = BlockScaler([2, 3, 2]).fit(x)
    made = scaler.transform(x)
    assert made.dtype == np.float32
    assert [float(made[:, a:b].var(axis=0, ddof=1).sum()) for a, b in ((0, 2), (2, 5), (5, 7))] == pytest.approx(
        [1, 1, 0]
    )
    with pytest.raises(ValueError, match="do not make the 7 columns"):
        BlockScaler([2, 2]).fit(x)
    assert BlockScaler().fit(x).scale_.shape == (1,)
    assert scaler.get_feature_names_out([f"w{k}" for k in range(7)])[0] == "w0"


# test predictions


def test_fit_predict_fits_to_training_and_predicts_test_samples(soil):
    table, x, _ = soil
    ds = of_soil(soil)
    pls = PLSRegression(6, scale=False)
    with pytest.warns(SpectroWarning, match=f"fit_predict: of 618 samples, {lacking(soil, 'CEC')} have no 'CEC'"):
        fitted = ds.fit_predict(pls, target="CEC")
    train = ((table["partition"] == "train") & table["CEC"].is_not_null()).to_numpy()
    test = (table["partition"] == "test").to_numpy()
    model = PLSRegression(6, scale=False).fit(x[train], table["CEC"].to_numpy()[train])
    lines = ds.predictions.table
    for side, rows in (("train", train), ("test", test)):
        mine = lines.filter(pl.col("partition") == side)
        np.testing.assert_array_equal(mine["sample"].to_numpy(), np.flatnonzero(rows))
        np.testing.assert_array_equal(mine["preds"].to_numpy(), model.predict(x[rows]).ravel())
    np.testing.assert_array_equal(fitted.coef_, model.coef_)
    assert not hasattr(pls, "coef_")
    assert lines["fold"].null_count() == lines.height


def test_fit_predict_does_not_train_on_what_was_derived_from_test_samples():
    ds = small()
    kids = ds.augment_samples_x([(0, 1), (21, 1)])["sample"].to_list()
    ds.update_indexes(ds.features.index_df.filter(pl.col("sample").is_in(kids)), {"partition": "train"})
    ds.fit_predict(Recorder(), source="nir")
    ((x, _),) = Recorder.seen
    assert sorted(x[:, 0].tolist()) == [0, *range(20)]
    with pytest.raises(ValueError, match="sample 20 is selected to train and to be tested"):
        ds.fit_predict(Ridge(), train={"sample": slice(0, 20)})
    with pytest.raises(ValueError, match="no sample passes both"):
        ds.fit_predict(Ridge(), filter={"sample": slice(0, 5)})


def test_fit_predict_of_classes_blocks_several_targets_and_lineage():
    rng = np.random.default_rng(2)
    ds = small(kind=rng.choice(["u", "v"], 24), y=rng.random(24), z=rng.random(24))
    knn = ds.fit_predict(KNeighborsClassifier(3), target="kind", src_concat="block", model="knn")
    x = ds.x({"partition": "test"}, src_concat=True)[0]
    expected = ds.prediction({"model": "knn", "partition": "test"}).ravel().tolist()
    assert knn.predict(x).tolist() == expected
    assert set(expected) <= {"u", "v"}
    both = ds.fit_predict(SVR(), target=["y", "z"])
    assert list(both) == ["y", "z"]
    joint = ds.fit_predict(KNeighborsRegressor(2), target=["y", "z"])
    assert joint.predict(x).shape == (4, 2)
    ds.apply(StandardScaler(), name="scaled", source="nir")
    anew = ds.fit_predict(Ridge(), target="y", processing="scaled", source="nir", refit=True)
    stored = ds.fit_predict(Ridge(), target="y", processing="scaled", source="nir")
    raw = ds.x({"partition": "test", "source": "nir", "processing": "raw"})[0]
    scaled = ds.x({"partition": "test", "source": "nir", "processing": "scaled"})[0]
    np.testing.assert_allclose(anew.predict(raw), stored.predict(scaled))


# errors


@pytest.mark.parametrize(
    ("options", "kind", "what"),
    [
        ({"estimator": Ridge}, TypeError, "not its class"),
        ({"estimator": StandardScaler()}, TypeError, "has no predict"),
        ({"target": "yy"}, UnknownNameError, "Did you mean 'y'"),
        ({"target_version": "scaled"}, UnknownNameError, "target version"),
        ({"filter": {"sites": "a"}}, UnknownNameError, "Did you mean 'site'"),
        ({"processing": "rawr"}, UnknownNameError, "Did you mean 'raw'"),
        ({"source": "nirr"}, UnknownNameError, "Did you mean 'nir'"),
        ({"filter": {"source": "nir"}, "source": "nir"}, ValueError, "named twice"),
        ({"filter": pl.col("site") == "a", "source": "nir"}, ValueError, "a dict"),
        ({"layout": "4d"}, ValueError, "layout"),
        ({"src_concat": "blocks"}, ValueError, "Did you mean 'block'"),
        ({"src_concat": "block", "layout": "3d_transpose"}, ValueError, "2d or 2d_interlaced"),
        ({"cv": 1}, ValueError, "at least 2"),
        ({"cv": KFold}, TypeError, "not its class"),
        ({"cv": "kfold"}, TypeError, "splitter"),
        ({"cv": 50}, ValueError, "n_splits=50"),
        ({"groups": "oils", "cv": 3}, UnknownNameError, "Did you mean 'oil'"),
        ({"groups": "holes", "cv": 3}, ValueError, "have no 'holes'"),
        ({"groups": "oil", "cv": [([0], [1])]}, ValueError, "not with an iterable"),
        ({"repeats": 0}, ValueError, "repeats=0"),
        ({"seed": 1.5}, TypeError, "seed is a whole number"),
        ({"processing": "part"}, ValueError, "samples"),
    ],
)  # fmt: skip
def test_errors_leave_the_dataset_as_it_was(options, kind, what):
    ds = small()
    ds.add_meta(pl.DataFrame({"sample": [0, 1], "holes": [1, 2]}))
    ds.cross_validate(Ridge(), cv=2)
    before = state(ds)
    if options.get("processing") == "part":
        ds.update_x([ds.x()[0][:3], None], [0, 1, 2], "part")
        before = state(ds)
        options = {"filter": {"processing": ["raw", "part"]}}
        kind, what = NotRectangularError, "lack"
    options = dict(options)
    with pytest.raises(kind, match=what):
        ds.cross_validate(options.pop("estimator", Ridge()), **options)
    assert state(ds) == before


def test_an_estimator_that_fails_in_a_fold_leaves_whole_folds():
    class Failing(Ridge):
        calls = 0

        def predict(self, X):
            Failing.calls += 1
            return super().predict(X)[: -1 if Failing.calls == 5 else None]

    ds = small(a=np.arange(24.0), b=np.arange(24.0) * 2)
    ds.update_y([None], [0], "raw", target="a")
    with pytest.warns(SpectroWarning), pytest.raises(ValueError, match="predicted"):
        ds.cross_validate(Failing(), cv=4)
    table = ds.predictions.table
    assert table["fold"].unique().to_list() == [0, 1]
    assert table.filter(pl.col("fold") == 1)["metadata"].n_unique() == 2
    bare = SpectroDataset()
    bare.add_features([np.ones((4, 2))])
    with pytest.raises(ValueError, match="there are no targets"):
        bare.cross_validate(Ridge())


def test_the_spectra_cannot_be_written_by_an_estimator():
    class Writing(Ridge):
        def fit(self, X, y):
            X[0] = 0
            return super().fit(X, y)

    ds = small()
    before = ds.x(copy=True)
    with pytest.raises(ValueError, match="read-only"):
        ds.cross_validate(Writing(), cv=[(range(10), range(10, 20))], source="nir")
    np.testing.assert_array_equal(ds.x()[0], before[0])
    assert not len(ds.predictions)


def test_progress_shows_when_asked(capfd):
    pytest.importorskip("tqdm")
    ds = small()
    ds.cross_validate(Ridge(), cv=3, progress=True)
    assert "folds: 100%" in capfd.readouterr().err
    ds.cross_validate(Ridge(), cv=4)
    assert capfd.readouterr().err == ""
