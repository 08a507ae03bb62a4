import numpy as np
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spectroxr import SpectroDataset, UnknownNameError, plot
from tests.test_applying import built


def grown():
    ds = built()
    ds.apply((np.clip, {"a_min": 1.2, "a_max": None}), name="clipped")
    ds.apply(StandardScaler(with_std=False), parent="clipped", name="centred")
    ds.apply(PCA(2), parent="centred", source="nir", name="scores", new_source="nir_pca")
    ds.apply(StandardScaler(), name="scaled", fit_on=None)
    return ds


TREE = """\
raw
├── clipped: clip
│   └── centred: StandardScaler
│       └── scores: PCA (nir to nir_pca)
└── scaled: StandardScaler"""


def test_the_tree_as_text():
    ds = grown()
    assert ds.lineage.tree() == TREE
    ds.update_x({"nir": np.zeros((1, 50), "f4")}, [0], "scaled")
    assert ds.lineage.tree().endswith("└── scaled: StandardScaler (edited)")
    assert SpectroDataset().lineage.tree() == ""


def test_the_table():
    table = grown().processings
    assert table["processing"].to_list() == ["raw", "clipped", "centred", "scores", "scaled"]
    assert table["parent"].to_list() == [None, "raw", "clipped", "centred", "raw"]
    assert table["steps"].to_list() == [None, "clip", "StandardScaler", "PCA", "StandardScaler"]
    assert table["fit_on"].to_list() == [None, None, '{"partition": "train"}', '{"partition": "train"}', None]
    assert table["fitted"].to_list() == [None, [0, 0], [8, 8], [8], [12, 12]]
    assert table["new_sources"].to_list() == [None, [], [], ["nir_pca"], []]
    assert table["samples"].to_list() == [12] * 5
    assert "scikit" not in table["packages"][4] and "sklearn" in table["packages"][4]


def test_steps_for_fitting_anew():
    ds = grown()
    root, steps = ds.lineage.steps("scores", "nir")
    assert root == "raw"
    assert [type(step).__name__ for step in steps] == ["tuple", "StandardScaler", "PCA"]
    assert ds.lineage.steps("raw") == ("raw", [])
    assert not hasattr(steps[1], "mean_") and clone(steps[2]).n_components == 2
    with pytest.raises(UnknownNameError, match="'score'. Did you mean 'scores'"):
        ds.lineage.steps("score")
    with pytest.raises(UnknownNameError, match="source of processing 'scores'"):
        ds.lineage.steps("scores", "mir")


@pytest.mark.parametrize("format", ["zarr", "npy"])
def test_it_is_stored_with_the_dataset(tmp_path, format):
    ds = grown()
    ds.save(tmp_path / "a", format=format)
    there = SpectroDataset.load(tmp_path / "a", verify=format == "zarr")
    assert there.processings.equals(ds.processings)
    assert there.lineage.tree() == TREE
    root, steps = there.lineage.steps("scores")
    assert root == "raw" and len(steps) == 3
    assert there.lineage.steps("centred")[1][1].get_params() == StandardScaler(with_std=False).get_params()
    there.save(tmp_path / "b")
    assert SpectroDataset.load(tmp_path / "b").processings.equals(ds.processings)


def test_a_save_without_changes_writes_no_lineage_again(tmp_path):
    ds = grown()
    ds.save(tmp_path / "a")
    ds.add_prediction(np.arange(12.0), {"model": "PLS"})
    ds.save(tmp_path / "a")
    first, second = (tmp_path / "a" / number / "lineage.json" for number in ("000001", "000002"))
    assert first.exists() and (not second.exists() or first.stat().st_ino == second.stat().st_ino)


@pytest.mark.parametrize(
    "document",
    [
        {"made": 3},
        {"made": [{}]},
        {"made": [{"processing": 1}]},
        [],
        {"made": [{"processing": "a", "parent": "b", "recipe": [1], "fit_on": None, "target": None, "packages": {}}]},
    ],
)
def test_forged_documents_are_store_errors(tmp_path, document):
    from spectroxr import StoreError, io

    ds = grown()
    parts = io.snapshot(ds)
    parts.documents["lineage"] = document
    other = SpectroDataset()
    if document == []:
        io.fill(other, parts)
        return
    with pytest.raises(StoreError, match="lineage of the store"):
        io.fill(other, parts)


def test_copies_have_it():
    import copy

    ds = grown()
    assert copy.deepcopy(ds).processings.equals(ds.processings)


def test_a_lineage_that_goes_round_in_a_circle_ends():
    ds = grown()
    document = ds.lineage.snapshot()
    document["made"][0]["parent"] = "centred"
    ds.lineage.restore(document)
    ds.lineage.chain("scores")
    ds.lineage.tree()


def test_the_figure(tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    ax = plot.lineage(grown(), title="Lineage")
    texts = [text.get_text() for text in ax.texts]
    assert texts.count("StandardScaler") == 2 and "clip" in texts and "PCA (nir to nir_pca)" in texts
    assert {"raw", "clipped", "centred", "scores", "scaled"} <= set(texts)
    ax.figure.savefig(tmp_path / "lineage.png")
    matplotlib.pyplot.close(ax.figure)
    with pytest.raises(ValueError, match="no processing to draw"):
        plot.lineage(SpectroDataset())


def test_a_pipeline_is_its_steps_in_the_table():
    ds = built()
    name = ds.apply(make_pipeline(StandardScaler(), StandardScaler(with_mean=False)))
    assert ds.processings.filter(pl.col("processing") == name)["steps"][0] == "StandardScaler -> StandardScaler"
