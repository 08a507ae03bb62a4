import subprocess
import sys

import numpy as np
import polars as pl
import pybaselines
import pytest
from chemotools.datasets import load_fermentation_test, load_fermentation_train
from chemotools.derivative import SavitzkyGolay
from chemotools.feature_selection import RangeCut
from chemotools.scatter import StandardNormalVariate
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spectroxr import SpectroDataset, StoreError, UnknownNameError
from tests.test_applying import built


class Own(TransformerMixin, BaseEstimator):
    def fit(self, x, y=None):
        self.mean_ = x.mean(axis=0)
        return self

    def transform(self, x):
        return x - self.mean_


def arcsine(x):
    with np.errstate(invalid="ignore"):
        return np.arcsin(x / 5)


def chained(ds):
    snv = ds.apply(StandardNormalVariate())
    smooth = ds.apply(make_pipeline(SavitzkyGolay(window_length=7), StandardScaler()), parent=snv)
    return ds.apply(PCA(3), parent=smooth, source="nir", new_source="nir_pca", name="scores")


def fresh(ds, samples=slice(None)):
    new = SpectroDataset()
    given = {one: ds.x({"source": one, "processing": "raw"})[0][samples] for one in ("nir", "mir")}
    axes = {one: ds[one].wavelength.values for one in given}
    new.add_features(given, wavelength=axes, units={"nir": "nm", "mir": "cm-1"}, partition="new")
    return new


def same(one, other, name):
    (mine,), (theirs,) = (ds.x({"source": "nir", "processing": name}) for ds in (one, other))
    np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("stored", [False, True])
def test_new_spectra_get_the_same_bits(tmp_path, stored):
    ds = built()
    name = chained(ds)
    expected = ds.x({"source": "nir_pca"})[0].copy()
    if stored:
        ds.save(tmp_path / "a")
        ds = SpectroDataset.load(tmp_path / "a")
    new = fresh(ds)
    assert ds.replay(name, onto=new) == name
    np.testing.assert_array_equal(new.x({"source": "nir_pca"})[0], expected)
    mine, theirs = ds.processings, new.processings
    same = ["processing", "parent", "steps", "sources", "new_sources", "fit_on", "fitted", "params", "packages"]
    wanted = theirs.select(same)
    for line in wanted.iter_rows(named=True):
        other = mine.select(same).filter(processing=line["processing"]).row(0, named=True)
        assert {k: v for k, v in line.items() if k not in ("sources", "fitted")} == {
            k: v for k, v in other.items() if k not in ("sources", "fitted")
        }
    # and it can be handed on
    last = fresh(ds)
    new.replay(name, onto=last, source="nir")
    np.testing.assert_array_equal(last.x({"source": "nir_pca"})[0], expected)


def test_only_one_source_of_several():
    ds = built()
    name = ds.apply(StandardScaler())
    new = SpectroDataset()
    new.add_features({"mir": ds.x({"source": "mir", "processing": "raw"})[0]}, wavelength=ds["mir"].wavelength.values)
    with pytest.raises(UnknownNameError, match="'nir'"):
        ds.replay(name, onto=new)
    assert new.lineage.tree() == "raw"
    ds.replay(name, onto=new, source="mir")
    np.testing.assert_array_equal(new.x({"processing": name})[0], ds.x({"source": "mir", "processing": name})[0])


def test_another_process_and_hash_seed_replay_the_same(tmp_path):
    ds = built()
    name = chained(ds)
    ds.save(tmp_path / "a")
    fresh(ds).save(tmp_path / "b")
    code = (
        "import sys; from spectroxr import SpectroDataset as S; a, b = S.load(sys.argv[1]), S.load(sys.argv[2]);"
        "a.replay(sys.argv[3], onto=b); b.save(sys.argv[2])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a"), str(tmp_path / "b"), name]
    subprocess.run(command, check=True, env={"PYTHONHASHSEED": "77", "PYTHONPATH": ":".join(sys.path)})
    there = SpectroDataset.load(tmp_path / "b")
    np.testing.assert_array_equal(there.x({"source": "nir_pca"})[0], ds.x({"source": "nir_pca"})[0])


def test_samples_added_later():
    ds = built()
    name = ds.apply(StandardScaler())
    held = {one: ds.x({"source": one, "processing": name})[0].copy() for one in ("nir", "mir")}
    ds.add_features({one: ds.x({"source": one, "processing": "raw"})[0][:3] for one in ("nir", "mir")})
    ds.replay(name, filter={"sample": [12, 13, 14]})
    for one, values in held.items():
        np.testing.assert_array_equal(
            ds.x({"source": one, "processing": name})[0], np.concatenate([values, values[:3]])
        )


def test_another_axis_is_refused():
    ds = built()
    name = ds.apply(StandardScaler())
    new = SpectroDataset()
    given = {one: ds.x({"source": one, "processing": "raw"})[0] for one in ("nir", "mir")}
    axes = {"nir": ds["nir"].wavelength.values.copy(), "mir": ds["mir"].wavelength.values}
    axes["nir"][7] += 1
    new.add_features(given, wavelength=axes)
    with pytest.raises(ValueError, match=r"another axis than the one .* 1071.0 instead of 1070.0 at position 7"):
        ds.replay(name, onto=new)
    short = SpectroDataset()
    short.add_features({"nir": given["nir"][:, 1:], "mir": given["mir"]})
    with pytest.raises(ValueError, match="49 wavelengths instead of 50"):
        ds.replay(name, onto=short)
    other = SpectroDataset()
    other.add_features(given, wavelength={one: ds[one].wavelength.values for one in given}, units="um")
    with pytest.raises(ValueError, match="axis in nm, these spectra are in um"):
        ds.replay(name, onto=other)
    for one in (new, short, other):
        assert one.lineage.tree() == "raw" and list(one.features.cells.sources) == ["nir", "mir"]


def test_what_has_the_name_already_is_not_overwritten():
    ds = built()
    name = ds.apply(StandardScaler(), name="scaled")
    new = fresh(ds)
    new.update_x({"nir": new.x({"source": "nir"})[0]}, range(12), "scaled")
    with pytest.raises(ValueError, match="'scaled' already, which was made otherwise"):
        ds.replay(name, onto=new)


def test_nothing_recorded():
    ds = built()
    ds.apply(StandardScaler(), name="scaled")
    with pytest.raises(UnknownNameError, match="'raw' was not made by apply; known is how 'scaled' were"):
        ds.replay("raw")
    with pytest.raises(UnknownNameError, match="'scald'. Did you mean 'scaled'"):
        ds.replay("scald")


def test_a_chain_that_fails_at_its_end_leaves_the_other_as_it_was():
    ds = built()
    snv = ds.apply(StandardNormalVariate())
    last = ds.apply(arcsine, parent=snv, name="last")
    new = fresh(ds)
    (x,) = new.x({"source": "nir"})
    x = x.copy()
    x[0] = 1
    x[0, 0] = 100  # an arcsine of more than 1
    new.update_x({"nir": x}, range(12), "raw")
    before = new.features.index_df
    with pytest.raises(ValueError, match="step 0 .arcsine. made NaN or infinities of 1 finite spectra"):
        ds.replay(last, onto=new)
    assert new.features.index_df.equals(before) and not len(new.lineage)


def test_functions_come_back_from_their_recipe(tmp_path):
    ds = built(dtype="f8")
    name = ds.apply([(np.clip, {"a_min": 1.2, "a_max": 1.9}), (pybaselines.whittaker.asls, {"lam": 1e3})])
    ds.save(tmp_path / "a")
    new = fresh(ds)
    SpectroDataset.load(tmp_path / "a").replay(name, onto=new)
    same(new, ds, name)


def test_classes_of_others_are_trusted_by_name_only(tmp_path):
    ds = built()
    name = ds.apply(Own())
    ds.save(tmp_path / "a")
    loaded, new = SpectroDataset.load(tmp_path / "a"), fresh(ds)
    with pytest.raises(StoreError, match=r"holds a .*test_replaying.Own, which is not of sklearn.*trusted=\["):
        loaded.replay(name, onto=new)
    loaded.replay(name, onto=new, trusted=[Own.__module__.partition(".")[0]])
    same(new, ds, name)


def test_pickles_are_written_and_read_when_asked_for_only(tmp_path):
    ds = built()
    name = ds.apply(StandardScaler(), keep="pickle")
    ds.save(tmp_path / "a")
    loaded, new = SpectroDataset.load(tmp_path / "a"), fresh(ds)
    with pytest.raises(StoreError, match="kept as a pickle, which can run any code"):
        loaded.replay(name, onto=new)
    loaded.replay(name, onto=new, pickles=True)
    same(new, ds, name)


def test_what_was_not_kept_is_gone_after_the_session(tmp_path):
    ds = built()
    name = ds.apply(StandardScaler(), keep=None)
    new = fresh(ds)
    ds.replay(name, onto=new)
    ds.save(tmp_path / "a")
    with pytest.raises(StoreError, match="kept for its session only"):
        SpectroDataset.load(tmp_path / "a").replay(name, onto=fresh(ds))


def test_damaged_bytes_are_a_store_error(tmp_path):
    ds = built()
    name = ds.apply(StandardScaler(), source="nir")
    document = ds.lineage.snapshot()
    for data in ("", "AAAA", "%%%", document["made"][0]["fits"][0]["kept"][0]["data"][:200]):
        document["made"][0]["fits"][0]["kept"][0]["data"] = data
        other = built()
        other.lineage.restore(document)
        with pytest.raises(StoreError, match="damaged"):
            other.replay(name)


def test_renamed_processings_are_followed(tmp_path):
    ds = built()
    snv = ds.apply(StandardNormalVariate())
    scaled = ds.apply(StandardScaler(), parent=snv)
    ds.update_indexes(ds.features.index_df.filter(processing=snv), {"processing": "snv"})
    assert ds.processings["parent"].to_list() == [None, "raw", "snv"]
    new = fresh(ds)
    ds.replay(scaled, onto=new)
    same(new, ds, scaled)
    ds.save(tmp_path / "a")
    assert SpectroDataset.load(tmp_path / "a").processings.equals(ds.processings)


def test_a_source_that_is_gone(tmp_path):
    ds = built()
    name = ds.apply(StandardScaler())
    new = fresh(ds)
    ds.merge(["nir", "mir"])
    with pytest.raises(ValueError, match="no source 'nir' any more"):
        ds.replay(name, onto=new)


def test_fermentation_steps_on_the_process_spectra():
    x_train, glucose = load_fermentation_train()
    x_test, _ = load_fermentation_test()
    axis = [float(one) for one in x_train.columns]
    ds, process = SpectroDataset(), SpectroDataset()
    ds.add_features({"mir": x_train.to_numpy()}, wavelength=axis, units="cm-1")
    ds.add_targets(pl.DataFrame({"glucose": np.ravel(glucose)}))
    process.add_features({"mir": np.asarray(x_test)}, wavelength=axis, units="cm-1")
    steps = make_pipeline(
        RangeCut(start=950, end=1500, x_axis=np.array(axis)),
        SavitzkyGolay(window_length=15),
        StandardScaler(with_std=False),
    )
    name = ds.apply(steps, new_source="cut")
    ds.replay(name, onto=process)
    expected = steps.fit(x_train.to_numpy()).transform(np.asarray(x_test))
    np.testing.assert_array_equal(process.x({"source": "cut"})[0], expected)
    axis_cut = process["cut"].wavelength.values
    assert axis_cut[0] >= 949 and axis_cut[-1] <= 1501 and len(axis_cut) == expected.shape[1]


def test_another_processing_of_the_same_name_and_steps_is_not_overwritten():
    one, other = built(), built()
    one.apply(StandardScaler(), name="u")
    one.apply(StandardScaler(), parent="u", name="s")
    other.apply(StandardScaler(), name="u", fit_on=None)
    other.apply(StandardScaler(), parent="raw", name="s")
    before = other.processings
    with pytest.raises(ValueError, match="'u' already, which was made otherwise"):
        one.replay("u", onto=other)
    with pytest.raises(ValueError, match="already, which was made otherwise"):
        one.replay("s", onto=other)
    assert other.processings.equals(before)
