"""Work on a store that is four times what this process may allocate; run by test_bulk in a process of its own."""

import json
import resource
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import dask
import numpy as np
from sklearn.decomposition import IncrementalPCA

from spectroxr import SpectroDataset, bulk


def centred(block):
    return block - block.mean(axis=1, keepdims=True)


def data_bytes():
    """Private writable memory of this process, which RLIMIT_DATA limits."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))


def work(path, source="nir"):
    """Return what the functions for many spectra give, and write a new processing."""
    ds = SpectroDataset.load(path, chunks="auto")
    train = {"partition": "train", "processing": "raw"}
    by_site = bulk.statistics(ds, {"processing": "raw"}, by="site")
    band = bulk.statistics(ds, {"processing": "raw", "wavelength": slice(0, 60)}, by="site", quantiles=[0.1, 0.5])
    products = bulk.cross_products(ds, "protein", {**train, "wavelength": slice(0, 699)})
    pca = IncrementalPCA(3)
    for (x,), _ in bulk.batches(ds, {**train, "wavelength": slice(0, 99)}, rows=5000):
        pca.partial_fit(x)
    bulk.transform(ds, centred, "centred")
    ds.augment_samples_x([(0, 2)])
    ds.save(path, message="centred")
    again = SpectroDataset.load(path, chunks="auto")
    (variant,) = again.x({"processing": "centred", "origin": slice(100, 200)})
    again.set_folds([([0, 2], [4])])
    fold = next(again.get_data(filter={"processing": "raw"}))
    return {
        "mean": by_site["mean"].values[:, 0, ::50].tolist(),
        "var": by_site["var"].values[:, 0, ::50].tolist(),
        "quantile": band["quantiles"].values[:, :, 0, ::50].tolist(),
        "count": by_site["count"].values.tolist(),
        "xty": products.xty[::50].tolist(),
        "xtx": products.xtx[::50, ::50].tolist(),
        "pca": pca.explained_variance_.tolist(),
        "variant": np.asarray(variant)[::10, ::50].tolist(),
        "fold": [np.asarray(fold[0][0]).shape[0], np.asarray(fold[2][0]).shape[0]],
    }


if __name__ == "__main__":
    path, share = sys.argv[1], int(sys.argv[2])
    threading.stack_size(1 << 21)  # the limit counts the stacks of threads too, used or not
    with dask.config.set(scheduler="threads", num_workers=2):
        warm = SpectroDataset.load(path)
        warm.x({"sample": slice(0, 9)})
        with ThreadPoolExecutor(2) as pool:  # the buffers that linear algebra keeps for each thread
            list(pool.map(lambda k: np.ones((600, 600)) @ np.ones((600, 600)), range(8)))
        limit = data_bytes() + share
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        try:
            warm.x({"processing": "raw"}, copy=True)
            sys.exit("the limit does not limit")
        except MemoryError:
            pass
        print(json.dumps(work(path)))
