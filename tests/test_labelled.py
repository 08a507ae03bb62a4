"""The estimator that knows its axis, what models say of wavelengths, and scikit-learn on the arrays of a dataset."""

from __future__ import annotations

import tracemalloc

import numpy as np
import polars as pl
import pytest
import xarray as xr
from sklearn.base import clone, is_classifier
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from spectroxr import SpectroDataset
from spectroxr.labelled import OnAxis, coefficients, loadings, vip

chemotools = pytest.importorskip("chemotools")

NM = np.arange(1100.0, 1300.0, 5.0)


@pytest.fixture
def ds():
    rng = np.random.default_rng(4)
    made = SpectroDataset()
    protein, water = rng.normal(11, 1, 30), rng.normal(13, 1, 30)
    x = np.outer(protein, np.exp(-(((NM - 1150) / 15) ** 2))) + np.outer(water, np.exp(-(((NM - 1240) / 20) ** 2)))
    made.add_features({"nir": x + rng.normal(0, 0.05, x.shape)}, wavelength=NM, units="nm", quantity="absorbance")
    made.add_targets(pl.DataFrame({"protein": protein, "water": water, "wet": np.where(water > 13, "yes", "no")}))
    return made


@pytest.fixture
def y(ds):
    return ds.y(target="protein").ravel()


def test_the_axis_is_kept_and_named(ds, y):
    model = OnAxis(PLSRegression(2, scale=False)).fit(ds["nir"], y)
    assert np.array_equal(model.wavelength_, NM)
    assert model.feature_names_in_.tolist() == [f"{v:g}" for v in NM]
    assert model.n_features_in_ == 40
    with pytest.raises(ValueError, match="read-only"):
        model.wavelength_[0] = 1
    plain = PLSRegression(2, scale=False).fit(ds.x()[0], y)
    assert np.array_equal(model.predict(ds["nir"]), plain.predict(ds.x()[0]))
    assert np.array_equal(
        OnAxis(PLSRegression(2, scale=False), NM).fit(ds.x()[0], y).predict(ds.x()[0]), plain.predict(ds.x()[0])
    )


def test_names_are_as_short_as_tells_apart():
    x = np.random.default_rng(0).random((5, 3))
    for axis, names in (
        (np.array([908.1, 914.29435, 920.0]), ["908.1", "914.29435", "920"]),
        (np.array([1, 2, 3]), ["1", "2", "3"]),
        (np.array([1e-7, 0.1, 1e7]), ["0.0000001", "0.1", "10000000"]),
        (np.array([908.1, 914.2, 920], np.float32), ["908.1", "914.2", "920"]),
    ):
        assert OnAxis(PCA(1), axis).fit(x).feature_names_in_.tolist() == names


def test_merged_axes_carry_the_source(ds):
    ds.add_source("mir", np.random.default_rng(1).random((30, 3)), ds.features.index_df, wavelength=[1100, 1200, 1300])
    ds.merge(["nir", "mir"])
    model = OnAxis(PCA(1)).fit(ds["nir+mir"])
    assert model.feature_names_in_[0] == "nir 1100" and model.feature_names_in_[-1] == "mir 1300"
    assert loadings(model)["source"].values.tolist() == ["nir"] * 40 + ["mir"] * 3


def test_transformed_spectra_have_their_coordinates(ds):
    from chemotools.derivative import SavitzkyGolay
    from chemotools.feature_selection import RangeCut

    scores = OnAxis(PCA(3)).fit(ds["nir"]).transform(ds["nir"])
    assert scores.dims == ("row", "latent_variable") and scores["latent_variable"].values.tolist() == [1, 2, 3]
    assert np.array_equal(scores["sample"], ds["nir"]["sample"]) and "wavelength" not in scores.coords
    assert np.array_equal(scores, PCA(3).fit(ds.x()[0]).transform(ds.x()[0]))

    kept = OnAxis(SavitzkyGolay(window_length=5, polyorder=2)).fit_transform(ds["nir"])
    assert kept.dims == ("row", "wavelength") and np.array_equal(kept["wavelength"], NM)
    assert kept["wavelength"].attrs == ds["nir"]["wavelength"].attrs and kept["wavelength"].attrs["units"] == "nm"

    cut = OnAxis(RangeCut(start=1150, end=1200, x_axis=NM)).fit(ds["nir"])
    made = cut.transform(ds["nir"])
    assert np.array_equal(made, ds.x()[0][:, np.isin(NM, made["wavelength"])])
    assert cut.get_feature_names_out().tolist() == [f"{v:g}" for v in made["wavelength"].values]
    assert cut.get_feature_names_out(np.arange(40).astype(str)).tolist() == [str(k) for k in range(10, 20)] + (
        ["20"] if made.sizes["wavelength"] == 11 else []
    )
    assert OnAxis(PCA(2)).fit(ds["nir"]).get_feature_names_out().tolist() == ["pca0", "pca1"]
    assert isinstance(cut.transform(ds.x()[0]), np.ndarray)


def test_a_score_axis_of_full_width_is_not_the_wavelengths():
    x = xr.DataArray(np.random.default_rng(0).random((9, 3)), {"wavelength": [1.0, 2, 3]}, ("row", "wavelength"))
    assert OnAxis(PCA(3)).fit_transform(x).dims == ("row", "latent_variable")


def test_other_axes_are_refused(ds, y):
    model = OnAxis(Ridge()).fit(ds["nir"], y)
    shifted = ds["nir"].assign_coords(wavelength=NM + 1)
    with pytest.raises(ValueError, match=r"another axis .*wavelength 0 is 1101.0, not 1100.0"):
        model.predict(shifted)
    with pytest.raises(ValueError, match="39 wavelengths, not 40"):
        model.predict(ds["nir"][..., 1:])
    with pytest.raises(ValueError, match="another axis"):
        model.predict(ds["nir"][..., ::-1])
    model.predict(ds["nir"].assign_coords(wavelength=NM + 1e-9))
    with pytest.raises(ValueError, match=r"give a DataArray, such as ds\['nir'\], or wavelength="):
        OnAxis(Ridge()).fit(ds.x()[0], y)
    with pytest.raises(ValueError, match=r"shape \(39,\), the spectra have 40"):
        OnAxis(Ridge(), NM[1:]).fit(ds.x()[0], y)
    with pytest.raises(ValueError, match="wavelength= is another axis"):
        OnAxis(Ridge(), NM + 1).fit(ds["nir"], y)
    with pytest.raises(NotFittedError):
        OnAxis(Ridge()).predict(ds["nir"])
    with pytest.raises(ValueError, match="wavelengths last"):
        OnAxis(Ridge()).fit(ds["nir"][:, 0].T, y)
    ds.update_x([ds.x()[0] + 1], ds.features.index_df, "shifted")
    with pytest.raises(ValueError, match="2 processings"):
        OnAxis(Ridge()).fit(ds["nir"], y)


@pytest.mark.filterwarnings("ignore:scipy.optimize")  # scikit-learn 1.6 with SciPy 1.17
def test_it_is_an_estimator(ds, y):
    model = OnAxis(PLSRegression(2, scale=False), NM)
    assert clone(model).get_params()["estimator__n_components"] == 2
    assert not hasattr(model, "predict_proba") and hasattr(model, "transform")
    assert not hasattr(OnAxis(Ridge()), "transform")
    fitted = OnAxis(LogisticRegression()).fit(ds["nir"], ds.y(target="wet").ravel())
    assert is_classifier(fitted) and fitted.classes_.tolist() == ["no", "yes"]
    assert fitted.predict_proba(ds["nir"]).shape == (30, 2)
    assert fitted.score(ds["nir"], ds.y(target="wet").ravel()) > 0.9
    assert fitted.decision_function(ds["nir"]).shape == (30,)


@pytest.mark.parametrize("labelled", [True, False])
def test_pipelines_searches_and_validation_take_it(ds, y, labelled):
    from chemotools.feature_selection import RangeCut
    from chemotools.scatter import StandardNormalVariate

    x = ds.sel({"source": "nir"}) if labelled else ds.x()[0]
    chain = make_pipeline(
        RangeCut(start=1120, end=1280, x_axis=NM), StandardNormalVariate(), PLSRegression(2, scale=False)
    )
    model = OnAxis(chain, NM)
    expected = cross_val_predict(chain, ds.x()[0], y, cv=KFold(5))
    assert np.array_equal(cross_val_predict(model, x, y, cv=KFold(5)), expected)
    search = GridSearchCV(model, {"estimator__plsregression__n_components": [1, 2, 3]}, cv=KFold(5)).fit(x, y)
    plain = GridSearchCV(chain, {"plsregression__n_components": [1, 2, 3]}, cv=KFold(5)).fit(ds.x()[0], y)
    assert search.best_score_ == plain.best_score_
    assert vip(search).dims == ("wavelength",) and float(vip(search)["wavelength"].min()) >= 1120


def test_a_pipeline_of_them_hands_labels_on(ds, y):
    from chemotools.scatter import StandardNormalVariate

    chain = make_pipeline(OnAxis(StandardNormalVariate()), OnAxis(PLSRegression(2, scale=False))).fit(ds["nir"], y)
    plain = make_pipeline(StandardNormalVariate(), PLSRegression(2, scale=False)).fit(ds.x()[0], y)
    assert np.array_equal(chain.predict(ds["nir"]), plain.predict(ds.x()[0]))
    assert np.array_equal(coefficients(chain), coefficients(plain, NM))


def test_a_dataset_validates_it(ds, y):
    pls = PLSRegression(2, scale=False)
    folds = KFold(5)
    mine = ds.cross_validate(OnAxis(pls, NM), target="protein", cv=folds)
    plain = ds.cross_validate(pls, target="protein", cv=folds, model="plain")
    assert mine["preds"].equals(plain["preds"]) and '"scale": false' in mine["metadata"][0].replace(":false", ": false")


def test_loadings_lie_over_the_wavelengths(ds, y):
    x = ds.x()[0]
    pca, pls = PCA(2).fit(x), PLSRegression(2).fit(x, y)
    for axis in (NM, ds["nir"], ds["nir"]["wavelength"]):
        found = loadings(pca, axis)
        assert found.dims == ("latent_variable", "wavelength") and np.array_equal(found, pca.components_)
        assert np.array_equal(found["wavelength"], NM)
    assert found["wavelength"].attrs["units"] == "nm"
    assert np.array_equal(loadings(pls, NM), pls.x_loadings_.T) and loadings(pls, NM).attrs["scale"] is True
    peak = loadings(PLSRegression(1, scale=False).fit(x, y), NM).sel(latent_variable=1)
    assert abs(float(abs(peak).idxmax()) - 1150) <= 5


@pytest.mark.filterwarnings("ignore:scipy.optimize")
def test_coefficients_lie_over_the_wavelengths(ds, y):
    x, both = ds.x()[0], ds.y(target=["protein", "water"]).astype(float)
    pls = PLSRegression(2, scale=True).fit(x, both)
    found = coefficients(pls, NM, ["protein", "water"])
    assert found.dims == ("target", "wavelength") and found["target"].values.tolist() == ["protein", "water"]
    assert np.allclose((x - x.mean(axis=0)) @ found.values.T + both.mean(axis=0), pls.predict(x))
    assert coefficients(Ridge().fit(x, y), NM)["target"].values.tolist() == [0]
    wet = ds.y(target="wet").ravel()
    assert coefficients(LogisticRegression().fit(x, wet), NM)["target"].values.tolist() == ["yes"]
    three = np.array(["a", "b", "c"])[np.arange(30) % 3]
    assert coefficients(LinearDiscriminantAnalysis().fit(x, three), NM)["target"].values.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="1 names for 2 targets"):
        coefficients(pls, NM, ["protein"])


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("targets", [1, 2])
def test_vip_is_that_of_chemotools_and_of_the_formula(ds, scale, targets):
    from chemotools.feature_selection import VIPSelector

    x, y = ds.x()[0], ds.y(target=["protein", "water"]).astype(float)[:, :targets]
    pls = PLSRegression(3, scale=scale).fit(x, y)
    found = vip(pls, NM)
    assert np.isclose((found**2).mean(), 1)
    explained = [
        sum(pls.y_loadings_[k, a] ** 2 for k in range(targets)) * pls.x_scores_[:, a] @ pls.x_scores_[:, a]
        for a in range(3)
    ]
    by_hand = [
        np.sqrt(40 * sum(explained[a] * pls.x_weights_[j, a] ** 2 for a in range(3)) / sum(explained))
        for j in range(40)
    ]
    assert np.allclose(found, by_hand)
    if targets == 1:  # chemotools takes the spectral norm of the loadings, which is theirs for one target
        assert np.allclose(found, VIPSelector(pls).fit(x).feature_scores_)


def test_steps_that_select_wavelengths_are_followed(ds, y):
    from chemotools.feature_selection import RangeCut

    x = ds.x()[0]
    chain = make_pipeline(
        RangeCut(start=1120, end=1280, x_axis=NM),
        FunctionTransformer(np.log1p),
        SelectKBest(f_regression, k=6),
        StandardScaler(with_std=False),
        PLSRegression(2, scale=False),
    ).fit(x, y)
    expected = NM[chain[0].get_support()][chain[2].get_support()]
    for found in (vip(chain, ds["nir"]), loadings(chain, NM), coefficients(chain, NM)):
        assert np.array_equal(found["wavelength"], expected)
    nested = make_pipeline(chain[:3], LinearRegression()).fit(x, y)
    assert np.array_equal(coefficients(nested, NM)["wavelength"], expected)


def test_what_a_model_does_not_have(ds, y):
    x = ds.x()[0]
    ridge = Ridge().fit(x, y)
    with pytest.raises(TypeError, match="a Ridge has no loadings; a PCA and a PLS have"):
        loadings(ridge, NM)
    with pytest.raises(TypeError, match="a Ridge has no VIP"):
        vip(ridge, NM)
    with pytest.raises(TypeError, match="a PCA has no coefficients"):
        coefficients(PCA(2).fit(x), NM)
    with pytest.raises(ValueError, match="nothing says what wavelengths"):
        coefficients(ridge)
    with pytest.raises(ValueError, match=r"shape \(39,\), the spectra have 40"):
        coefficients(ridge, NM[1:])
    with pytest.raises(ValueError, match="not the one that the estimator was fitted on"):
        coefficients(OnAxis(Ridge()).fit(ds["nir"], y), NM + 1)
    with pytest.raises(ValueError, match="step PCA are not wavelengths"):
        coefficients(make_pipeline(PCA(3), Ridge()).fit(x, y), NM)
    with pytest.raises(ValueError, match="step PCA are not wavelengths"):
        coefficients(make_pipeline(PCA(), Ridge()).fit(x[:, :20], y), NM[:20])
    with pytest.raises(NotFittedError):
        loadings(PCA(2), NM)


def test_scikit_learn_takes_views_of_the_dataset(ds, y):
    (x,) = ds.x()
    store = ds.features.sources[0].array
    assert np.shares_memory(x, store) and not x.flags.writeable

    class Sees(LinearRegression):
        def fit(self, X, y):
            seen.append(X)
            return super().fit(X, y)

    seen = []
    Sees().fit(x, y)
    OnAxis(Sees()).fit(ds["nir"], y)
    make_pipeline("passthrough", Sees()).fit(x, y)
    assert [np.shares_memory(one, store) for one in seen] == [True] * 3
    before = x.copy()
    for chain in (PLSRegression(2, copy=True), make_pipeline(StandardScaler(), Ridge())):
        GridSearchCV(chain, {}, cv=3).fit(x, y)
        cross_val_predict(chain, x, y, cv=3)
    assert np.array_equal(x, before)


def test_no_copies_beyond_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    values, y = rng.random((2000, 500)), rng.random(2000)
    ds = SpectroDataset()
    ds.add_features({"nir": values}, wavelength=np.arange(500.0), copy=False)

    def peak(given):
        model = given if isinstance(given, tuple) else (Ridge(solver="cholesky"), given)
        tracemalloc.start()
        cross_val_predict(model[0], model[1], y, cv=4)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    plain = peak(values)
    for given in (ds.x()[0], (OnAxis(Ridge(solver="cholesky")), ds["nir"])):
        assert peak(given) < plain + 0.1 * values.nbytes
