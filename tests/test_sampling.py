"""Partitions: against the definitions of Kennard-Stone and SPXY, on real sets, and what must hold for any split."""

import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realsets import nir_soils, olive_oils
from scipy.spatial.distance import cdist

from spectroxr import SpectroDataset, UnknownNameError


def kennard_stone(distances, count):
    """The definition, pair by pair: the farthest two, then always the one whose nearest chosen one is farthest."""
    n = len(distances)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    chosen = list(max(pairs, key=lambda pair: distances[pair]))
    while len(chosen) < count:
        rest = [k for k in range(n) if k not in chosen]
        chosen.append(max(rest, key=lambda k: min(distances[k][c] for c in chosen)))
    return set(chosen[:count])


def built(x, y=None, groups=None):
    ds = SpectroDataset()
    ds.add_features({"nir": np.asarray(x, dtype=float)}, partition="unset")
    if y is not None:
        ds.add_targets(pl.DataFrame({"y": y}))
    if groups is not None:
        ds.add_meta(pl.DataFrame({"specimen": groups}))
    return ds


def sides(ds):
    return np.array(ds.features.index.samples["partition"].to_list(), dtype=object)


def trained(ds):
    return set(np.flatnonzero(sides(ds) == "train").tolist())


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 18), st.integers(1, 4), st.integers(0, 2**32 - 1), st.data())
def test_kennard_stone_and_spxy_are_their_definitions(n, p, seed, data):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, p)), rng.normal(size=n)
    test = data.draw(st.integers(1, n - 2))
    ds = built(x, y)
    ds.assign_partition("kennard_stone", test)
    in_x = cdist(x, x)
    assert trained(ds) == kennard_stone(in_x, n - test)
    ds.assign_partition("spxy", test)
    in_y = np.abs(y[:, None] - y[None, :])
    assert trained(ds) == kennard_stone(in_x / in_x.max() + in_y / in_y.max(), n - test)


def test_groups_are_placed_by_their_means():
    rng = np.random.default_rng(4)
    x, y, codes = rng.normal(size=(40, 6)), rng.normal(size=40), rng.permutation(np.repeat(np.arange(10), 4))
    ds = built(x, y, codes)
    means = np.array([x[codes == k].mean(axis=0) for k in range(10)])
    counts = ds.assign_partition("kennard_stone", 3, groups="specimen")
    assert counts.rows() == [("train", 28, 0, 7), ("test", 12, 0, 3)]
    picked = kennard_stone(cdist(means, means), 7)
    assert trained(ds) == {k for k in range(40) if codes[k] in picked}
    ds.assign_partition("spxy", 3, groups="specimen")
    of_y = np.array([y[codes == k].mean() for k in range(10)])
    in_x, in_y = cdist(means, means), np.abs(of_y[:, None] - of_y)
    picked = kennard_stone(in_x / in_x.max() + in_y / in_y.max(), 7)
    assert trained(ds) == {k for k in range(40) if codes[k] in picked}


def test_distances_are_those_of_the_spectra_that_are_named():
    rng = np.random.default_rng(1)
    raw, other, mir = rng.normal(size=(12, 5)), rng.normal(size=(12, 5)), rng.normal(size=(12, 3))
    ds = SpectroDataset()
    ds.add_features({"nir": raw, "mir": mir}, wavelength={"nir": [1, 2, 3, 4, 5], "mir": [1, 2, 3]})
    ds.update_x({"nir": other}, range(12), "snv")
    ds.assign_partition(test=5, source="nir", processing="snv")
    assert trained(ds) == kennard_stone(cdist(other, other), 7)
    ds.assign_partition(test=5, filter={"wavelength": slice(4, 5), "processing": "raw"})
    assert trained(ds) == kennard_stone(cdist(raw[:, 3:], raw[:, 3:]), 7)
    ds.assign_partition(test=5, source="mir")
    assert trained(ds) == kennard_stone(cdist(mir, mir), 7)
    for call, match in (({"processing": "raw"}, "source="), ({"source": "nir"}, "processing=")):
        with pytest.raises(ValueError, match=match):
            ds.assign_partition(**call)


def test_distances_of_a_dataset_that_is_not_in_memory(tmp_path):
    x = np.random.default_rng(5).normal(size=(30, 8))
    built(x).save(tmp_path / "s")
    for chunks in (None, {"row": 7}):
        ds = SpectroDataset.load(tmp_path / "s", chunks=chunks)
        ds.assign_partition(test=0.3)
        assert trained(ds) == kennard_stone(cdist(x, x), 21)


@st.composite
def scenes(draw):
    n = draw(st.integers(4, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ds = built(rng.normal(size=(n, 3)), rng.choice(["a", "b"], n).tolist(), rng.integers(0, max(2, n // 2), n))
    for _ in range(draw(st.integers(0, 3))):
        ds.augment_samples_x([(int(rng.integers(len(ds))), int(rng.integers(1, 3)))])
    keep = rng.random(n) < draw(st.sampled_from([1.0, 0.8]))
    grouped = draw(st.booleans())
    method = draw(st.sampled_from(["kennard_stone", "random", "grouped"]))
    return ds, np.flatnonzero(keep), "specimen" if grouped or method == "grouped" else None, method


@settings(max_examples=60, deadline=None)
@given(scenes(), st.floats(0.1, 0.9), st.integers(0, 9))
def test_what_holds_for_every_split(scene, test, seed):
    ds, asked, groups, method = scene
    before = ds.features.index_df
    units = ds.meta()["specimen"].to_numpy()[asked] if groups else asked
    count = round(test * len(set(units.tolist())))
    options = {"filter": {"sample": asked}, "groups": groups, "seed": seed}
    if not 0 < count < len(set(units.tolist())):
        with pytest.raises(ValueError, match="each side needs one|nothing matches"):
            ds.assign_partition(method, test, **options)
        assert ds.features.index_df.equals(before)
        return
    counts = ds.assign_partition(method, test, **options)
    now, origins = sides(ds), ds.features.index.origins
    assert set(now[asked]) == {"train", "test"}
    assert len(set(units[now[asked] == "test"].tolist())) == count
    if groups:
        for unit in set(units.tolist()):
            assert len(set(now[asked][units == unit])) == 1
    else:
        assert (now[asked] == "test").sum() == count
    for sample in range(len(ds)):
        root = sample
        while origins[root] != root:
            root = origins[root]
        assert now[sample] == (now[root] if root in asked else "unset")
    for label, n, augmented, n_groups in counts.rows():
        assert n == (now[asked] == label).sum()
        assert n + augmented == (now == label).sum()
        assert n_groups == (len(set(units[now[asked] == label].tolist())) if groups else None)
    assert ds.features.index_df.drop("partition").equals(before.drop("partition"))
    ds.features.index_df = before
    ds.assign_partition(method, test, **options)
    assert (sides(ds) == now).all()


def test_the_seed_decides_what_is_random():
    ds = built(np.random.default_rng(0).normal(size=(60, 2)))
    found = set()
    for seed in (0, 1, 2):
        ds.assign_partition("random", 20, seed=seed)
        found.add(frozenset(trained(ds)))
    assert len(found) == 3


def test_classes_have_the_same_share_on_both_sides():
    ds = built(np.zeros((100, 2)), ["a"] * 60 + ["b"] * 30 + ["c"] * 10)
    ds.assign_partition("stratified", 20, labels=("calibration", "validation"))
    drawn = ds.features.index.samples.with_columns(y=ds.targets.column("y")).filter(partition="validation")
    assert dict(drawn["y"].value_counts().rows()) == {"a": 12, "b": 6, "c": 2}
    assert (sides(ds) == "calibration").sum() == 80


def test_a_continuous_target_is_covered_evenly():
    y = np.random.default_rng(2).lognormal(size=200)
    ds = built(np.zeros((200, 2)), y)
    ds.assign_partition("stratified", 0.25)
    decile = np.argsort(np.argsort(y)) // 20
    assert np.bincount(decile[sides(ds) == "test"]).tolist() == [5] * 10


def test_olive_oils_are_parted_by_oil_and_country():
    ds = olive_oils()
    counts = ds.assign_partition("stratified", 0.25, groups="oil")
    assert counts.rows() == [("train", 90, 0, 45), ("test", 30, 0, 15)]
    table = ds.meta().with_columns(side=pl.Series(sides(ds)), country=ds.targets.column("country"))
    assert table.group_by("oil").agg(pl.col("side").n_unique())["side"].max() == 1
    shares = table.filter(side="test")["country"].value_counts()
    whole = dict(table["country"].value_counts().rows())
    for country, count in shares.rows():
        assert abs(count / 2 - 0.25 * whole[country] / 2) < 1
    ds.assign_partition("stratified", 0.25)
    apart = table.with_columns(side=pl.Series(sides(ds))).group_by("oil").agg(pl.col("side").n_unique())
    assert apart["side"].max() == 2  # without groups, replicates of an oil lie on both sides


def test_nir_soils_keep_their_own_partition_unless_they_are_assigned():
    ds = nir_soils()
    own = sides(ds)
    with pytest.raises(ValueError, match=r"180 of 825 samples have no target 'Nt', the first is sample \d+"):
        ds.assign_partition("spxy", target="Nt")
    assert (sides(ds) == own).all()
    known = {"Nt": pl.col("Nt").is_not_nan()}
    counts = ds.assign_partition("spxy", 0.3, target="Nt", filter=known, labels=("cal", "val"))
    assert counts["samples"].to_list() == [451, 194]
    lacks = ds.targets.column("Nt").is_null().to_numpy()
    assert (sides(ds)[lacks] == own[lacks]).all()
    assert set(sides(ds)[~lacks]) == {"cal", "val"}
    x, y = ds.x(known)[0], ds.y(known, target="Nt")
    in_x, in_y = cdist(x, x), np.abs(y[:, None] - y)
    both = in_x / in_x.max() + in_y / in_y.max()
    ends = np.unravel_index(both.argmax(), both.shape)
    assert (sides(ds)[~lacks][list(ends)] == "cal").all()
    # what is left for the test lies among the training samples: none is farther from them than they are apart
    test = sides(ds)[~lacks] == "val"
    inner = both[np.ix_(~test, ~test)] + np.where(np.eye((~test).sum()), np.inf, 0)
    assert both[np.ix_(test, ~test)].min(axis=1).max() <= inner.min() + 1e-12


BAD = [
    (("kenard_stone",), {}, ValueError, "Did you mean 'kennard_stone'"),
    (("spxy",), {"target": "z"}, UnknownNameError, "unknown target 'z'"),
    (("random",), {"groups": "specimn"}, UnknownNameError, "Did you mean 'specimen'"),
    (("grouped",), {}, ValueError, "groups="),
    (("random",), {"target": "y"}, ValueError, "takes no target"),
    (("grouped",), {"groups": "specimen", "source": "nir"}, ValueError, "takes no source"),
    (("random", 0.0), {}, ValueError, "neither a fraction"),
    (("random", 1.5), {}, ValueError, "neither a fraction"),
    (("random", 8), {}, ValueError, "8 for the test and 0"),
    (("random", 0), {}, ValueError, "0 for the test"),
    (("random", 0.01), {}, ValueError, "0 for the test"),
    (("random", True), {}, TypeError, "whole number"),
    (("random", "4"), {}, TypeError, "whole number"),
    (("random",), {"labels": ("a", "a")}, ValueError, "two different names"),
    (("random",), {"labels": ("a", None)}, ValueError, "two different names"),
    (("random",), {"labels": "ab"}, ValueError, "two different names"),
    (("random",), {"filter": {"sample": 8}}, ValueError, "no original sample"),
    (("stratified",), {"target": "class"}, ValueError, "class 'c' of 'class' has 1 sample"),
    (("stratified", 1), {"target": "class", "filter": {"class": ["a", "b"]}}, ValueError, "room for the 2 classes"),
    (("stratified",), {"target": "class", "groups": "specimen"}, ValueError, "group 1 holds samples of several"),
    (("stratified",), {}, ValueError, "several targets"),
    (("stratified",), {"target": "gap"}, ValueError, "1 of 8 samples have no target 'gap', the first is sample 2"),
    (("random",), {"groups": "gappy"}, ValueError, "no value in 'gappy', the first is sample 5"),
    (("spxy",), {"target": "class"}, TypeError, "numbers"),
    (("spxy",), {"target": "same"}, ValueError, "do not differ"),
]


@pytest.mark.parametrize(("args", "options", "error", "match"), BAD)
def test_bad_input_changes_nothing(args, options, error, match):
    ds = SpectroDataset()
    ds.add_features({"nir": np.random.default_rng(0).normal(size=(8, 3))})
    targets = {"y": np.arange(8.0), "class": list("aaabbbbc"), "gap": [1.0, 2, None, 4, 5, 6, 7, 8], "same": [2.0] * 8}
    ds.add_targets(pl.DataFrame(targets))
    ds.add_meta(pl.DataFrame({"specimen": [0, 0, 1, 1, 2, 2, 3, 3], "gappy": [1, 1, 2, 2, 3, None, 4, 4]}))
    ds.augment_samples_x([(0, 1)])
    before = ds.features.index_df
    with pytest.raises(error, match=match):
        ds.assign_partition(*args, **options)
    assert ds.features.index_df.equals(before)


def test_the_filter_that_an_error_names_helps():
    ds = built(
        np.random.default_rng(0).normal(size=(8, 3)), [1.0, np.nan, None, 4, 5, 6, 7, 8], list("aabbccd") + [None]
    )
    with pytest.raises(ValueError, match="2 of 8") as error:
        ds.assign_partition("spxy")
    hint = str(error.value).split("by the filter ")[1].rstrip(".")
    assert ds.assign_partition("spxy", 2, filter=eval(hint))["samples"].sum() == 6
    with pytest.raises(ValueError, match="1 of 8") as error:
        ds.assign_partition("grouped", groups="specimen")
    hint = str(error.value).split("by the filter ")[1].rstrip(".")
    assert ds.assign_partition("grouped", groups="specimen", filter=eval(hint))["samples"].sum() == 7


def test_spectra_that_are_no_numbers_are_named():
    x = np.random.default_rng(0).normal(size=(8, 3))
    x[5, 1] = np.nan
    ds = built(x)
    with pytest.raises(ValueError, match="1 samples hold NaN or infinities, the first is sample 5"):
        ds.assign_partition()
    assert set(sides(ds)) == {"unset"}


def test_without_astartes_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "astartes.samplers", None)
    ds = built(np.eye(4))
    with pytest.raises(ImportError, match=r"spectroxr\[learn\]"):
        ds.assign_partition()
    assert ds.assign_partition("random")["samples"].to_list() == [3, 1]


def test_importing_the_package_loads_none_of_them():
    code = (
        "import sys, spectroxr; print([m for m in ('sklearn', 'scipy', 'astartes', 'chemotools') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
