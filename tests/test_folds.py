import numpy as np
import polars as pl
import pytest
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

from spectroxr import SpectroDataset, UnknownNameError


@pytest.fixture
def ds():
    ds = SpectroDataset()
    rng = np.random.default_rng(1)
    ds.add_features({"nir": rng.random((12, 5)), "mir": rng.random((12, 3))}, partition=["train"] * 9 + ["test"] * 3)
    ds.add_targets(pl.DataFrame({"y": np.arange(12.0)}))
    ds.add_meta(pl.DataFrame({"oil": [k // 2 for k in range(12)], "land": list("abc") * 4}))
    return ds


def test_splitter_class_with_arguments_on_a_partition(ds):
    ds.set_folds(KFold, n_splits=3, filter={"partition": "train"})
    folds = list(ds.fold_generator())
    assert len(folds) == 3
    assert sorted(s for f in folds for s in f["val"]) == list(range(9))


def test_instance_and_iterable(ds):
    ds.set_folds(KFold(4))
    assert len(ds.folds) == 4
    ds.set_folds([([0, 1], [2]), {"train": [3], "val": [4, 5]}])
    assert ds.folds.folds == [{"train": [0, 1], "val": [2]}, {"train": [3], "val": [4, 5]}]


def test_groups_stay_together(ds):
    ds.set_folds(GroupKFold, n_splits=3, groups="oil")
    for fold in ds.fold_generator():
        assert not {s // 2 for s in fold["train"]} & {s // 2 for s in fold["val"]}


def test_stratified_by_a_metadata_free_target(ds):
    ds.add_targets(pl.DataFrame({"land_code": list("abc") * 4}))
    ds.set_folds(StratifiedKFold, n_splits=4, target="land_code")
    for fold in ds.fold_generator():
        assert sorted(s % 3 for s in fold["val"]) == [0, 1, 2]


def test_children_train_with_their_origin_and_never_validate(ds):
    ds.set_folds(KFold, n_splits=3)
    new = ds.augment_features_x(2)
    grand = ds.augment_samples_x([(new["sample"][0], 1)])
    for fold, (x_train, y_train, x_val, y_val) in zip(ds.fold_generator(), ds.get_data(), strict=True):
        root = {**{k: k for k in range(12)}}
        for s, o in ds.features.index_df.select("sample", "origin").rows():
            root[s] = root[o]
        assert all(s < 12 for s in fold["val"])
        assert {root[s] for s in fold["train"]} == set(range(12)) - set(fold["val"])
        assert x_train[0].shape == (len(fold["train"]), 5)
        assert y_train.ravel().tolist() == [float(root[s]) for s in fold["train"]]
        assert y_val.ravel().tolist() == [float(s) for s in fold["val"]]
        assert x_val[1].shape == (len(fold["val"]), 3)
    assert any(grand["sample"][0] in fold["train"] for fold in ds.fold_generator())
    assert all(max(f["train"]) < 12 for f in ds.fold_generator(augmented=False))


def test_get_data_with_filter_layout_and_concat(ds):
    ds.set_folds(KFold, n_splits=3)
    ds.update_x([ds.x()[0] * 2, ds.x()[1] * 2], ds.features.index_df, "double")
    (x_train,), y_train, (x_val,), _ = next(
        iter(ds.get_data("3d", filter={"processing": "double", "source": "nir", "wavelength": slice(1, 3)}, target="y"))
    )
    assert x_train.shape == (8, 1, 3)
    assert y_train.shape == (8,)
    np.testing.assert_array_equal(x_val, ds.x({"sample": [0, 1, 2, 3], "processing": "raw"}, "3d")[0][:, :, 1:4] * 2)
    (joined,), *_ = next(iter(ds.get_data(src_concat=True, filter={"processing": "raw"})))
    assert joined.shape == (8, 8)


@pytest.mark.parametrize(
    ("folds", "error"),
    [
        ([([0, 1], [1])], ValueError),
        ([([0, 1], [99])], UnknownNameError),
        ([([0, 0], [1])], ValueError),
        ([([], [1])], ValueError),
        ([([0], [])], ValueError),
        ([([0.5], [1])], TypeError),
        ([([0], [12])], ValueError),
        ([([0, 12], [1])], ValueError),
        ([(np.array([True, False]), [1])], TypeError),
        ([], ValueError),
        (3, TypeError),
        ([{"train": [1], "test": [2]}], ValueError),
    ],
)
def test_bad_folds_change_nothing(ds, folds, error):
    ds.augment_samples_x([(1, 1)])
    ds.set_folds(KFold, n_splits=2)
    before = ds.folds.folds
    with pytest.raises(error):
        ds.set_folds(folds)
    assert ds.folds.folds == before


def test_get_data_without_folds_raises_at_the_call(ds):
    with pytest.raises(ValueError, match="set_folds"):
        ds.get_data()


def test_an_incomplete_version_of_the_only_target_does_not_keep_from_splitting():
    ds = SpectroDataset()
    ds.add_features([np.random.default_rng(0).random((6, 3))])
    ds.add_targets(pl.DataFrame({"protein": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}))
    ds.update_y([[1.0], [2.0]], [0, 1], "regression")
    ds.set_folds(KFold, n_splits=3)
    assert len(ds.folds) == 3
    with pytest.raises(ValueError, match="not in version 'regression'"):
        ds.set_folds(KFold, n_splits=3, target="protein")
