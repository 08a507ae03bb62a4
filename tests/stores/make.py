"""What the archived stores hold, and how they were made: one archive per version of the format and kind of store.

An archive is never made again once a version of the format has been released: it stands for the stores of users.
``python tests/stores/make.py`` adds those of the current version that are missing.
"""

import sys
import tarfile
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from spectroxr import SpectroDataset, storedtables
from spectroxr.manifest import NPY_VERSION, VERSION

HERE = Path(__file__).parent
KINDS = {"zstd": {}, "raw": {"compression": None}, "npy": {"format": "npy"}}


def archived(save: Callable[[SpectroDataset], object] = len) -> SpectroDataset:
    """Build the dataset that every archive holds; its numbers are exact in float32.

    What there is of it on the way is saved too, so that a store has tables in parts and chunks of several versions.
    """
    ds = SpectroDataset()
    rows, nm, cm1 = np.arange(6), np.linspace(1100.0, 1400.0, 7), np.linspace(1800.0, 900.0, 4)
    nir = (rows[:, None] * 8 + np.arange(7)).astype("float32")
    mir = (rows[:, None] - np.arange(4) / 4).astype("float64")
    ds.add_features(
        {"nir": nir, "mir é": mir},
        wavelength={"nir": nm, "mir é": cm1},
        units={"nir": "nm", "mir é": "cm-1"},
        quantity="absorbance",
        partition=["train", "train", None, "test", "train", "test"],
        group=[1, 1, 2, None, 3, 3],
    )
    ds.add_features({"nir": nir[:2] + 100, "mir é": None}, partition="test")
    ds.update_x({"nir": nir[:3] / 2}, [0, 1, 2], "half")
    save(ds)
    ds.augment_samples_x([(0, 2)])
    ds.add_targets(pl.DataFrame({"protein": [10.0, 12.5, None, 11.0, 9.5, 13.0, 8.0, 7.5], "class": list("abcabcab")}))
    ds.update_y(np.arange(6.0) / 4, range(6), "regression", target="protein")
    ds.add_meta(pl.DataFrame({"sample": [0, 3, 7], "site": ["Nord", "Süd", None], "on": [True, False, True]}))
    save(ds)
    ds.set_folds([([0, 1], [2, 3]), ([2, 3, 4], [0, 1])])
    ds.add_prediction(np.arange(3.0), {"model": "PLS2", "fold": 1, "partition": "val"}, filter={"sample": [1, 2, 3]})
    return ds


def make(version: int) -> None:
    """Archive the stores of the current format that are not there yet."""
    storedtables.WHOLE_BYTES = 0  # tables as small as these are not parted otherwise
    for kind, options in KINDS.items():
        archive = HERE / f"format-{NPY_VERSION if kind == 'npy' else version}-{kind}.tar.gz"
        if archive.exists():
            continue
        with tempfile.TemporaryDirectory() as folder:
            store = Path(folder) / "store"
            save = partial(SpectroDataset.save, path=store, **options)
            save(archived(save))
            with tarfile.open(archive, "w:gz") as tar:
                tar.add(store, "store")


if __name__ == "__main__":
    make(VERSION)
    sys.stdout.write("\n".join(sorted(p.name for p in HERE.glob("*.tar.gz"))) + "\n")
