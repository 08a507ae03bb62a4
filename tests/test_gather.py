"""Copying cells, and finding out that positions are evenly spaced."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectroxr.gather import copy_all, copy_cells, picks_len, run_of


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(-7, 7).filter(bool), st.integers(1, 20))
def test_run_of_a_progression_picks_it(first, step, count):
    first -= min(0, step * (count - 1))
    positions = first + step * np.arange(count)
    run = run_of(positions)
    assert run is not None
    np.testing.assert_array_equal(np.arange(1000)[run], positions)
    assert picks_len(run, 1000) == count


@settings(deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=8))
def test_run_of_is_a_slice_exactly_for_progressions(positions):
    positions = np.array(positions)
    steps = set(np.diff(positions).tolist())
    run = run_of(positions)
    if len(positions) == 1 or (len(steps) == 1 and 0 not in steps):
        assert isinstance(run, slice)
    elif len(steps) > 1:
        assert run is None
    if isinstance(run, slice):
        np.testing.assert_array_equal(np.arange(13)[run], positions)


def test_run_of_nothing():
    assert picks_len(run_of(np.array([], dtype=np.intp)), 5) == 0


def test_picks_len():
    assert picks_len(slice(1, 9, 3), 10) == 3
    assert picks_len(slice(None, None, -1), 10) == 10
    assert picks_len(slice(4, None, -2), 10) == 3
    assert picks_len(np.array([3, 3, 1]), 10) == 3


@st.composite
def picks(draw, length):
    if draw(st.booleans()):
        start = draw(st.integers(0, length - 1))
        stop = draw(st.integers(start + 1, length))
        return slice(start, stop, draw(st.integers(1, 3)))
    return np.array(draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=2 * length)), dtype=np.intp)


@st.composite
def copies(draw):
    n, p, w = draw(st.integers(1, 7)), draw(st.integers(1, 4)), draw(st.integers(1, 6))
    source = np.arange(n * p * w, dtype=np.float32).reshape(n, p, w)
    if draw(st.booleans()):
        source = np.ascontiguousarray(source.transpose(0, 2, 1)).transpose(0, 2, 1)
    positions = draw(st.lists(st.integers(0, p - 1), min_size=1, max_size=p, unique=True))
    return source, draw(picks(n)), positions, draw(picks(w))


OUTS = {
    "C": lambda shape, dtype: np.full(shape, -1, dtype),
    "interlaced": lambda shape, dtype: np.full((shape[0], shape[2], shape[1]), -1, dtype).transpose(0, 2, 1),
    "fortran": lambda shape, dtype: np.full(shape, -1, dtype, order="F"),
    "strided": lambda shape, dtype: np.full([2 * k for k in shape], -1, dtype)[::2, ::2, ::2],
    "backwards": lambda shape, dtype: np.full(shape, -1, dtype)[::-1, :, ::-1],
}


@settings(deadline=None)
@given(copies(), st.sampled_from(sorted(OUTS)), st.sampled_from([np.float32, np.float64]))
def test_copies_hold_the_cells(case, kind, dtype):
    source, rows, positions, bands = case
    right = source[rows][:, positions][:, :, bands]
    out = OUTS[kind](right.shape, dtype)
    copy_all(source, rows, positions, bands, out)
    np.testing.assert_array_equal(out, right)
    if kind == "strided":
        rest = np.ones(out.base.shape, bool)
        rest[::2, ::2, ::2] = False
        assert (out.base[rest] == -1).all()
    one = OUTS[kind](right[:, :1].shape, dtype)
    copy_cells(source, rows, positions[0], bands, one[:, 0, :])
    np.testing.assert_array_equal(one[:, 0, :], source[rows][:, positions[0]][:, bands])


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_copies_longer_than_a_block(p, w, seed):
    rng = np.random.default_rng(seed)
    source = rng.random((1000, p, w), dtype=np.float32)
    rows = rng.integers(0, 1000, 700)
    for out in (np.empty((700, p, w), np.float32), np.empty((700, w, p), np.float32).transpose(0, 2, 1)):
        copy_all(source, rows, list(range(p)), slice(0, w, 1), out)
        np.testing.assert_array_equal(out, source[rows])


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("rows", [slice(0, 4000, 2), "scattered"])
@pytest.mark.parametrize("positions", [[0, 1, 2], [1], [0, 2], [0, 1, 3]])
@pytest.mark.parametrize("bands", [slice(0, 500, 1), slice(3, 80, 1), [1, 5, 8, 300]], ids=str)
@pytest.mark.parametrize("kind", ["C", "interlaced", "strided"])
def test_no_temporary_of_the_size_of_the_result(interlaced, rows, positions, bands, kind):
    source = np.empty((4000, 4, 500), np.float32)
    if interlaced:
        source = np.empty((4000, 500, 4), np.float32).transpose(0, 2, 1)
    rows = np.random.default_rng(0).permutation(4000)[:2000] if isinstance(rows, str) else rows
    bands = np.array(bands) if isinstance(bands, list) else bands
    shape = (picks_len(rows, 4000), len(positions), picks_len(bands, 500))
    out = OUTS[kind](shape, np.float32)
    tracemalloc.start()
    try:
        copy_all(source, rows, positions, bands, out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 700_000
