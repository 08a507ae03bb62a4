"""The smoke steps of the lean plan, with only the import line changed."""

import numpy as np
import polars as pl
from sklearn.model_selection import KFold

from spectroxr import SpectroDataset

rng = np.random.default_rng(0)


def test_step01_add_features():
    ds = SpectroDataset()
    raman = rng.random((10, 500)).astype("float32")
    nirs = rng.random((10, 2500)).astype("float32")
    ds.add_features([raman, nirs])
    assert len(ds.features.sources) == 2
    assert ds.features.n_samples() == 10


def test_step02_slice_features():
    ds = SpectroDataset()
    ds.add_features([np.arange(20 * 2).reshape(20, 2).astype("float32")])
    ds.features.index_df = ds.features.index_df.with_columns(
        partition=(ds.features.index_df["row"] < 15).replace_strict({True: "train", False: "test"})
    )
    (x_train,) = ds.x({"partition": "train"}, layout="2d")
    assert np.may_share_memory(x_train, ds.features.sources[0].array)
    assert x_train.shape == (15, 2)


def test_step03_targets_meta():
    ds = SpectroDataset()
    ds.add_features([np.zeros((5, 3), dtype="float32")])
    raw_df = pl.DataFrame(
        {"sample": [0, 1, 2, 3, 4], "targets": [[0.1], [0.2], [0.3], [0.4], [0.5]], "processing": ["raw"] * 5}
    )
    ds.targets.add_targets(raw_df)
    idx = ds.targets.table.filter(pl.col("sample") < 3)
    vals = np.array([[10.0], [20.0], [30.0]], dtype="float32")
    ds.targets.update_y(vals, idx, processing_id="regression")
    table = ds.targets.table
    assert table.filter(pl.col("processing") == "raw").height == 5
    np.testing.assert_array_equal(ds.y({"sample": [0, 1, 2]}, processing="regression"), vals)


def test_step04_folds():
    ds = SpectroDataset()
    ds.add_features([rng.random((12, 2)).astype("float32")])
    raw = pl.DataFrame({"sample": range(12), "targets": [[i] for i in range(12)], "processing": ["raw"] * 12})
    ds.targets.add_targets(raw)

    kf = KFold(n_splits=3, shuffle=False)
    ds.folds.set_folds(kf.split(np.arange(12)))

    shapes = []
    for fold in ds.folds.get_data(ds, layout="2d"):
        x_tr, y_tr, x_val, y_val = fold
        shapes.append((x_tr[0].shape, x_val[0].shape, y_tr.shape, y_val.ravel().tolist()))
    assert [s[:3] for s in shapes] == [((8, 2), (4, 2), (8, 1))] * 3
    assert [s[3] for s in shapes] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_step05_and_06_predictions_and_persistence(tmp_path):
    ds = SpectroDataset()
    ds.add_features([rng.random((3, 4)).astype("float32")])
    ds.targets.add_targets(
        pl.DataFrame({"sample": [0, 1, 2], "targets": [[0.0], [1.0], [0.0]], "processing": ["raw"] * 3})
    )

    preds = np.array([[0.2], [0.8], [0.1]], dtype="float32")
    meta = {"model": "logreg", "fold": 0, "repeat": 0, "partition": "val", "processing": "regression", "seed": 42}
    ds.predictions.add_prediction(preds, meta)
    assert ds.predictions.table["preds"].to_list() == preds.ravel().tolist()

    ds.save(str(tmp_path / "spectro_proto"))
    ds2 = ds.load(str(tmp_path / "spectro_proto"))
    (x1,) = ds.x({}, layout="2d")
    (x2,) = ds2.x({}, layout="2d")
    assert np.array_equal(x1, x2)
    assert ds2.predictions.table.equals(ds.predictions.table)


def test_step07_summary(capsys):
    ds = SpectroDataset()
    ds.add_features([rng.random((3, 4)).astype("float32"), rng.random((3, 5)).astype("float32")])
    ds.print_summary()
    out = capsys.readouterr().out
    assert "3 samples" in out
    assert "2 sources" in out
