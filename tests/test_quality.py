"""Outlier flags against their formulas and on real sets; the report on spectra against a naive one."""

import sys
import tracemalloc

import numpy as np
import polars as pl
import pytest
from chemotools.datasets import load_fermentation_train
from hypothesis import given, settings
from hypothesis import strategies as st
from realsets import nir_soils, olive_oils
from scipy.stats import chi2, f
from sklearn.cross_decomposition import PLSRegression

from spectroxr import SpectroDataset, UnknownNameError, blockwise
from spectroxr.demo import build
from spectroxr.lazyread import is_lazy


def t2_and_q(train, x, k, confidence):
    """Both statistics and their limits, by singular values."""
    n, centre = len(train), train.mean(axis=0)
    _, s, v = np.linalg.svd(train - centre, full_matrices=False)
    loadings = v[:k].T
    scores = (x - centre) @ loadings
    t2 = (scores**2 / (s[:k] ** 2 / (n - 1))).sum(axis=1)
    q = ((x - centre - scores @ loadings.T) ** 2).sum(axis=1)
    left = s[k:] ** 2 / (n - 1)
    one, two = left.sum(), (left**2).sum()
    q_limit = two / one * chi2.ppf(confidence, one**2 / two)
    return t2, k * (n - 1) / (n - k) * f.ppf(confidence, k, n - k), q, q_limit


def soils(rows=120, **options):
    """Correlated spectra of two constituents with noise, half of them for training."""
    rng = np.random.default_rng(8)
    shapes = np.sin(np.linspace(0, 6, 40)[None] * np.array([[1.0], [2.0]]))
    x = rng.normal(size=(rows, 2)) @ shapes + 0.01 * rng.normal(size=(rows, 40))
    ds = SpectroDataset()
    ds.add_features({"nir": x}, partition=["train", "test"] * (rows // 2), **options)
    return ds, x


def test_values_and_limits_are_those_of_the_formulas():
    ds, x = soils()
    for confidence in (0.95, 0.99):
        table = ds.flag_outliers(2, confidence=confidence)
        expected = t2_and_q(x[::2], x, 2, confidence)
        for name, value in zip(("t2", "t2_limit", "q", "q_limit"), expected, strict=True):
            np.testing.assert_allclose(table[name].to_numpy(), np.broadcast_to(value, len(x)), rtol=1e-6)
        flags = (expected[0] > expected[1]) | (expected[2] > expected[3])
        assert table["outlier"].to_list() == flags.tolist() == ds.meta()["outlier"].to_list()
        assert (table["outlier_reason"].is_not_null().to_numpy() == flags).all()


@pytest.mark.parametrize("unit", [1e-9, 1e-4, 1e5])
def test_the_unit_of_the_spectra_does_not_matter(unit):
    ds, x = soils()
    other = SpectroDataset()
    other.add_features({"nir": x * unit}, partition=["train", "test"] * 60)
    one, two = ds.flag_outliers(2), other.flag_outliers(2)
    assert one["outlier"].any() and one["outlier"].equals(two["outlier"])
    for name, power in (("t2", 0), ("t2_limit", 0), ("q", 2), ("q_limit", 2)):
        np.testing.assert_allclose(two[name].to_numpy(), one[name].to_numpy() * unit**power, rtol=1e-6)


def test_a_true_model_flags_about_one_in_twenty_by_each():
    ds, _ = soils(4000)
    table = ds.flag_outliers(2, filter={"partition": "test"})
    for name in ("t2", "q"):
        assert 0.035 < (table[name] > table[f"{name}_limit"]).mean() < 0.065


@pytest.mark.parametrize("components", [1, 2, 3, 5, 8])
def test_the_limit_of_q_fits_real_spectra(components):
    ds = olive_oils()
    table = ds.flag_outliers(components)
    assert 0.02 < (table["q"] > table["q_limit"]).mean() < 0.15


def test_what_is_planted_in_real_spectra_is_found():
    ds = nir_soils()
    before = ds.flag_outliers(8, filter={"partition": "test"})
    clean = before.filter(~pl.col("outlier"))["sample"].to_list()
    spike, far = clean[3], clean[7]
    x = ds.x({"sample": [spike, far]})[0].copy()
    x[0, 300:303] += 0.05
    mean = ds.x({"partition": "train"})[0].mean(axis=0)
    x[1] = mean + 30 * (x[1] - mean)
    ds.update_x([x], [spike, far], "raw")
    ds.flag_outliers(8, filter={"partition": "test"}, method="t2")
    reasons = ds.metadata.column("outlier_reason")
    assert reasons[spike] is None
    assert reasons[far].startswith("Hotelling T2 ")
    ds.flag_outliers(8, filter={"partition": "test"})
    reasons = ds.metadata.column("outlier_reason")
    assert pl.Series([reasons[spike]]).str.contains(
        r"^Q residual [\d.e-]+ > [\d.e-]+ \(95 %, 8 components, nir, raw\)$"
    )[0]
    assert pl.Series([reasons[far]]).str.contains(r"^Hotelling T2 [\d.]+ > [\d.]+; Q residual .* \(95 %, 8 comp")[0]
    kept = ds.get_indexed_features({"outlier": False})[1]
    assert set(kept["partition"]) == {"test"}  # the others were never examined
    assert not {spike, far} & set(kept["sample"])
    assert len(ds) == 825
    assert ds.meta({"partition": "train"})["outlier"].null_count() == 618
    everyone = ds.get_indexed_features({"outlier": [False, None]})[1]
    assert everyone.height == kept.height + 618


def test_flags_are_renewed_and_survive_a_save(tmp_path):
    ds, _ = soils()
    ds.flag_outliers(2, confidence=0.5)
    many = ds.meta()["outlier"].sum()
    ds.flag_outliers(2, filter={"partition": "test"}, confidence=0.999)
    now = ds.meta().with_columns(ds.features.index.samples["partition"])
    assert now.filter(partition="train")["outlier"].sum() > 10
    assert now.filter(partition="test")["outlier"].sum() <= 3 < many
    assert now.filter(~pl.col("outlier"))["outlier_reason"].null_count() == now.filter(~pl.col("outlier")).height
    ds.save(tmp_path / "s")
    again = SpectroDataset.load(tmp_path / "s")
    assert again.meta().equals(ds.meta())
    # in a second round the model is made without what was flagged in the first
    ds.flag_outliers(2, fit_on={"partition": "train", "outlier": False}, column="second")
    assert ds.metadata.columns == ["outlier", "outlier_reason", "second", "second_reason"]


def test_spectra_that_are_not_in_memory(tmp_path, monkeypatch):
    ds, _ = soils()
    expected = ds.flag_outliers(2)
    ds.save(tmp_path / "s")
    monkeypatch.setattr(blockwise, "_BLOCK_BYTES", 2000)
    for chunks in (None, {"row": 11}):
        found = SpectroDataset.load(tmp_path / "s", chunks=chunks).flag_outliers(2)
        np.testing.assert_allclose(found["q"].to_numpy(), expected["q"].to_numpy(), rtol=1e-9)
        assert found["outlier"].equals(expected["outlier"])


def test_latent_variables_of_a_pls():
    spectra, glucose = load_fermentation_train()
    x, y = spectra.to_numpy(), np.asarray(glucose).ravel()
    ds = SpectroDataset()
    ds.add_data({"mir": x}, pl.DataFrame({"glucose": y}))
    table = ds.flag_outliers(3, target="glucose", confidence=0.5)
    pls = PLSRegression(3, scale=False).fit(x, y)
    scores = pls.transform(x)
    np.testing.assert_allclose(table["t2"].to_numpy(), (scores**2 / scores.var(axis=0)).sum(axis=1), rtol=1e-6)
    residual = x - pls.inverse_transform(scores)
    np.testing.assert_allclose(table["q"].to_numpy(), (residual**2).sum(axis=1), rtol=1e-6)
    assert "3 LV for glucose, mir, raw" in table["outlier_reason"].drop_nulls()[0]


def test_augmented_samples_do_not_fit_and_inherit_flags():
    ds, _ = soils()
    expected = ds.flag_outliers(2)
    ds.augment_samples_x([(0, 50), (1, 1)])
    found = ds.flag_outliers(2)
    assert found.head(120).equals(expected)
    assert (found["t2"][120:170] == expected["t2"][0]).all()
    ds.metadata.drop_meta(["outlier", "outlier_reason"])
    ds.flag_outliers(2, filter={"sample": range(120)})
    assert ds.metadata.column("outlier")[170] == expected["outlier"][1]


BAD = [
    ((0,), {}, ValueError, "it is 1 to 39"),
    ((40,), {}, ValueError, "it is 1 to 39"),
    ((2.0,), {}, TypeError, "whole number"),
    ((2,), {"method": "t1"}, ValueError, "Did you mean 't2'"),
    ((2,), {"method": ()}, ValueError, "none of"),
    ((2,), {"confidence": 95}, ValueError, "between 0 and 1"),
    ((2,), {"column": "protein"}, ValueError, "there is a target 'protein'"),
    ((2,), {"column": "site"}, TypeError, "column 'site' of String"),
    ((2,), {"column": "half"}, TypeError, "column 'half_reason' of Int64"),
    ((2,), {"column": "partition"}, ValueError, "filters use that name"),
    ((2,), {"fit_on": {"wavelength": 3}}, ValueError, "those of filter"),
    ((2,), {"fit_on": {"partition": "tran"}}, ValueError, "nothing matches"),
    ((2,), {"source": "nri"}, UnknownNameError, "Did you mean 'nir'"),
    ((2,), {"processing": "snw"}, UnknownNameError, "Did you mean 'snv'"),
    ((2,), {}, ValueError, "processing="),
    ((2,), {"processing": "broken"}, ValueError, "sample 7 holds NaN"),
    ((2,), {"processing": "flat"}, ValueError, "do not vary in 2 components"),
    ((2,), {"processing": "plane"}, ValueError, "to the last digit"),
    ((2,), {"target": "glucose"}, UnknownNameError, "unknown target"),
    ((2,), {"target": "protein"}, ValueError, "no target 'protein', the first is sample 4"),
]


@pytest.mark.parametrize(("args", "options", "error", "match"), BAD)
def test_bad_input_changes_nothing(args, options, error, match):
    ds, x = soils()
    broken = x.copy()
    broken[7, 3] = np.nan
    plane = np.round(x[:, :2] @ np.random.default_rng(0).normal(size=(2, 40)), 12)
    for name, values in (("snv", x + 1), ("broken", broken), ("flat", np.ones_like(x)), ("plane", plane)):
        ds.update_x([values], range(120), name)
    ds.add_targets(pl.DataFrame({"protein": [1.0, 2, 3, 4, None, *range(115)]}, strict=False))
    ds.add_meta(pl.DataFrame({"site": ["x"] * 120, "half_reason": [1] * 120}))
    before = ds.metadata.table
    if "processing" not in options and match != "processing=":
        options = {**options, "processing": "raw"}
    with pytest.raises(error, match=match):
        ds.flag_outliers(*args, **options)
    assert ds.metadata.table.equals(before)


def test_t2_alone_needs_no_residuals():
    ds, x = soils()
    ds.update_x([x[:, :2] @ np.random.default_rng(0).normal(size=(2, 40))], range(120), "plane")
    assert ds.flag_outliers(2, processing="plane", method="t2").columns[1:3] == ["t2", "t2_limit"]


def test_without_chemotools_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "chemotools.outliers", None)
    ds, _ = soils()
    with pytest.raises(ImportError, match=r"spectroxr\[learn\]"):
        ds.flag_outliers(2)
    assert ds.metadata.columns == []


def naive(cells, roots):
    """The report on spectra by sample: ``{sample: values}``."""
    found = []
    for sample, values in cells.items():
        for problem, count in (("nan", np.isnan(values).sum()), ("inf", np.isinf(values).sum())):
            if count:
                found.append((sample, problem, int(count), None))
        if np.isfinite(values).all() and len(set(values.tolist())) == 1 and len(values) > 1:
            found.append((sample, "flat", len(values), None))
        same = [k for k in cells if np.array_equal(cells[k], values, equal_nan=True)]
        if roots[sample] not in {roots[k] for k in same if k < sample} and same[0] != sample:
            found.append((sample, "duplicate", len(values), same[0]))
    return found


@st.composite
def scenes(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, p = draw(st.integers(1, 10)), draw(st.integers(1, 4))
    pool = np.array([0.0, -0.0, 1.0, 2.0, np.nan, np.inf, -np.inf])
    weights = np.array([4, 1, 4, 4, 1, 1, 1]) / 16
    make = lambda rows: rng.choice(pool, (rows, p), p=weights)  # noqa: E731
    ds = SpectroDataset()
    ds.add_features({"nir": make(n), "mir": make(n)})
    ds.add_features({"nir": make(2), "mir": None})
    some = np.flatnonzero(rng.random(n) < 0.6)
    if len(some):
        ds.update_x({"nir": make(len(some))}, some, "snv")
    for _ in range(draw(st.integers(0, 2))):
        ds.augment_samples_x([(int(rng.integers(len(ds))), 2)])
    moved = rng.permutation(len(ds))[:2]
    if draw(st.booleans()):
        ds.update_x({"nir": make(len(moved))}, moved, "own")
    return ds


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_the_report_is_that_of_a_naive_one(ds):
    origins = ds.features.index.origins.tolist()
    roots = list(range(len(ds)))
    for sample in range(len(ds)):
        while origins[roots[sample]] != roots[sample]:
            roots[sample] = origins[roots[sample]]
    expected = []
    for source in ("nir", "mir"):
        for processing in ds.features.processings:
            cells = {}
            for sample in range(len(ds)):
                what = {"sample": sample, "processing": processing, "source": source}
                if ds.x_exists(what):
                    cells[sample] = ds.x(what)[0][0]
            expected += [(s, source, processing, *rest) for s, *rest in naive(cells, roots)]
    assert sorted(ds.check_spectra().rows(), key=str) == sorted(expected, key=str)


def test_the_fermentation_has_three_spectra_that_are_no_measurement():
    found = build().check_spectra()
    assert found.filter(problem="flat")["sample"].to_list() == [1647, 1648, 1649]
    assert found.filter(problem="duplicate").select("sample", "other").rows() == [(1648, 1647), (1649, 1647)]
    assert found.height == 5


def test_real_sets_are_sound_and_copies_in_them_are_found():
    ds = olive_oils()
    assert ds.check_spectra().is_empty()
    ds.add_features({"mir": ds.x({"sample": [17]})[0]})
    assert ds.check_spectra().rows() == [(120, "mir", "raw", "duplicate", 570, 17)]
    assert ds.check_spectra({"sample": slice(0, 119)}).is_empty()
    with pytest.raises(ValueError, match="nothing matches"):
        ds.check_spectra({"partition": "test"})


@pytest.mark.parametrize("chunks", [None, {"row": 256}])
def test_lazy_spectra_are_read_block_by_block(tmp_path, monkeypatch, chunks):
    rng = np.random.default_rng(0)
    x = rng.random((4000, 2000), dtype="f4")
    x[3999], x[2000, 5], x[10] = x[0], np.nan, 1
    ds = SpectroDataset()
    ds.add_features({"nir": x}, copy=False)
    ds.save(tmp_path / "s", chunks={"row": 256})
    del ds
    lazy = SpectroDataset.load(tmp_path / "s", chunks=chunks)
    monkeypatch.setattr(blockwise, "_BLOCK_BYTES", 1 << 21)
    lazy.check_spectra({"sample": 1})  # what is imported for the first block is not counted
    tracemalloc.start()
    found = lazy.check_spectra()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    wanted = [(10, "flat", 2000, None), (2000, "nan", 1, None), (3999, "duplicate", 2000, 0)]
    assert found.select("sample", "problem", "cells", "other").rows() == wanted
    assert peak < x.nbytes / 2
    assert is_lazy(lazy.features.sources[0], ["raw"])
