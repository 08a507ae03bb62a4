"""Many readers at once: the right spectra, and no exception."""

import sys
import threading

import numpy as np
import polars as pl
import pytest

from spectroxr import NotRectangularError, SpectroDataset

N, P, W = 400, 6, 40
READERS = 8
NAMES = ["raw", *(f"v{k}" for k in range(1, P))]
SPECTRA = {
    "nir": np.random.default_rng(0).random((N, P, W), dtype=np.float32),
    "mir": np.random.default_rng(1).random((N, P, W // 2), dtype=np.float32),
}
PARTITION = ["train" if k % 3 else "test" for k in range(N)]
TEST = [k for k in range(N) if k % 3 == 0]


@pytest.fixture(autouse=True)
def _switch_often():
    """Let threads take turns after a few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def together(*calls):
    """Run calls in threads that start at the same moment; raise the first error of any."""
    barrier = threading.Barrier(len(calls))
    errors = []

    def run(call):
        try:
            barrier.wait(timeout=30)
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def built():
    ds = SpectroDataset()
    ds.add_features(SPECTRA, processing=NAMES, partition=PARTITION)
    ds.add_targets(pl.DataFrame({"protein": np.arange(N, dtype=np.float64)}))
    ds.add_meta(pl.DataFrame({"site": [f"s{k % 5}" for k in range(N)]}))
    return ds


def apart():
    ds = SpectroDataset()
    ds.add_features({name: array[:, 0] for name, array in SPECTRA.items()}, partition=PARTITION)
    for k, name in enumerate(NAMES[1:], 1):
        ds.update_x([array[:, k] for array in SPECTRA.values()], range(N), name)
    return ds


def in_layout(cells, layout):
    if layout == "3d":
        return cells
    turned = cells.transpose(0, 2, 1)
    if layout == "3d_transpose":
        return turned
    return (cells if layout == "2d" else turned).reshape(len(cells), -1)


@pytest.mark.parametrize("round_", range(5))
def test_the_first_read_of_variants_stored_apart(round_):
    ds = apart()
    seen = []

    def read(layout, names, filter):
        def call():
            samples = TEST if filter else range(N)
            chosen = {"processing": names, **filter}
            for _ in range(3):
                arrays = ds.x(chosen, layout)
                places = [NAMES.index(name) for name in names]
                for array, spectra in zip(arrays, SPECTRA.values(), strict=True):
                    np.testing.assert_array_equal(array, in_layout(spectra[samples][:, places], layout))
                seen.append(arrays)

        return call

    def store():
        for source, spectra in zip(ds.features.sources, SPECTRA.values(), strict=True):
            np.testing.assert_array_equal(source.array, spectra)

    def labelled():
        np.testing.assert_array_equal(ds["mir"].values, SPECTRA["mir"])
        np.testing.assert_array_equal(ds.tree["nir"]["spectra"].values, SPECTRA["nir"])

    together(
        read("3d", NAMES, {}),
        read("2d", NAMES, {}),
        read("3d_transpose", NAMES[1:3], {}),
        read("2d_interlaced", NAMES, {"partition": "test"}),
        read("2d", ["v2"], {}),
        read("3d", ["raw", "v1", "v4"], {"partition": "test"}),
        store,
        labelled,
    )
    for arrays in seen:
        assert all(not array.flags.writeable for array in arrays)
    assert len({source.array.__array_interface__["data"][0] for source in ds.features.sources}) == 2
    assert all(
        np.shares_memory(a, source.array) for a, source in zip(ds.x(None, "3d"), ds.features.sources, strict=True)
    )


def test_cache_eviction():
    ds = built()

    def read(seed):
        def call():
            rng = np.random.default_rng(seed)
            for _ in range(250):
                low = int(rng.integers(0, N - 20))
                kind = int(rng.integers(0, 4))
                if kind == 0:
                    filter, samples = {"sample": slice(low, low + 9)}, range(low, low + 10)
                elif kind == 1:
                    filter, samples = {"protein": slice(low, low + 4)}, range(low, low + 5)
                elif kind == 2:
                    filter, samples = {"partition": "test"}, TEST
                else:
                    filter = pl.col("sample").is_between(low, low + 2) & (pl.col("site") == f"s{low % 5}")
                    samples = [low]
                (array, _), index = ds.get_indexed_features(filter)
                assert index["sample"].to_list() == list(samples)
                np.testing.assert_array_equal(array, SPECTRA["nir"][samples].reshape(len(samples), -1))
                np.testing.assert_array_equal(ds.y(filter, target="protein"), np.array(samples, float))

        return call

    together(*[read(seed) for seed in range(READERS)])


def test_copies_and_out():
    ds = built()

    def read(layout, concat):
        def call():
            outs = [np.empty_like(a) for a in ds.x({"partition": "test"}, layout, concat)]
            right = [in_layout(spectra[TEST], layout) for spectra in SPECTRA.values()]
            if concat:
                right = [np.concatenate(right, axis=2 if layout == "3d" else 1)]
            for _ in range(10):
                ds.x({"partition": "test"}, layout, concat, out=outs)
                copies = ds.x({"partition": "test"}, layout, concat, copy=True)
                for out, copy, values in zip(outs, copies, right, strict=True):
                    np.testing.assert_array_equal(out, values)
                    np.testing.assert_array_equal(copy, values)

        return call

    together(*[read(layout, c) for layout in ("2d", "2d_interlaced", "3d", "3d_transpose") for c in (False, True)])


def test_every_reader_at_once():
    ds = built()
    ds.augment_samples_x([(3, 2), (10, 1)])
    ds.set_folds([(list(range(100)), list(range(100, 150)))])
    ds.add_prediction(np.arange(5.0), {"sample": [0, 1, 2, 3, 4], "model": "pls", "partition": "val"})
    owner = [*range(N), 3, 3, 10]

    def x():
        np.testing.assert_array_equal(ds.x(None, "3d")[0], SPECTRA["nir"][owner])

    def y():
        np.testing.assert_array_equal(ds.y(None, target="protein"), np.array(owner, float))

    def meta():
        assert ds.meta({"site": "s3"})["sample"].to_list() == [k for k, o in enumerate(owner) if o % 5 == 3]

    def labelled():
        assert ds["nir"].sizes["row"] == N + 3
        assert ds.tree["mir"]["spectra"].sel(processing="v2").shape == (N + 3, W // 2)

    def folds():
        for x_train, y_train, x_val, _ in ds.get_data("2d"):
            np.testing.assert_array_equal(x_val[0], SPECTRA["nir"][100:150].reshape(50, -1))
            assert len(x_train[0]) == len(y_train)

    def exists():
        assert ds.x_exists({"partition": "test"})
        assert not ds.x_exists({"partition": "val"})

    def index():
        assert ds.features.index_df.height == (N + 3) * P
        repr(ds)

    def predictions():
        assert len(ds.prediction({"model": "pls"})) == 5

    def repeated(call):
        return lambda: [call() for _ in range(8)]

    together(*[repeated(call) for call in (x, y, meta, labelled, folds, exists, index, predictions)])


def test_errors_in_one_thread_leave_the_others_alone():
    ds = built()
    ds.update_x([SPECTRA["nir"][:5, 0], None], range(5), "partial")

    def wrong():
        for _ in range(50):
            with pytest.raises(NotRectangularError):
                ds.x(None)
            with pytest.raises(KeyError):
                ds.x({"partiton": "test"})

    def right():
        for _ in range(50):
            (array, _) = ds.x({"processing": NAMES, "partition": "test"}, "3d")
            np.testing.assert_array_equal(array, SPECTRA["nir"][TEST])

    together(wrong, right, wrong, right)


def test_a_mapped_store(tmp_path):
    built().save(tmp_path / "a.spectro", compression=None)
    ds = SpectroDataset.load(tmp_path / "a.spectro")
    ds.update_x([a[:, 0] for a in SPECTRA.values()], range(N), "copy")

    def read():
        for layout in ("2d", "3d"):
            (nir, mir) = ds.x({"processing": [*NAMES, "copy"]}, layout)
            cells = [np.concatenate([a, a[:, :1]], axis=1) for a in SPECTRA.values()]
            np.testing.assert_array_equal(nir, in_layout(cells[0], layout))
            np.testing.assert_array_equal(mir, in_layout(cells[1], layout))
            np.testing.assert_array_equal(ds.x({"processing": "v3"})[0], SPECTRA["nir"][:, 3])

    together(*[read] * READERS)
