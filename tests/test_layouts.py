"""The layouts as functions of strides."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectroxr.layouts import as_layout, cells_of, concat_shape, layout_shape, readonly, side_by_side
from spectroxr.schema import LAYOUTS, check_layout

sizes = st.integers(1, 5)
layouts = st.sampled_from(LAYOUTS)


def numbered(n, p, w, dtype=np.float32):
    return np.arange(n * p * w, dtype=dtype).reshape(n, p, w)


def flat(cells, layout):
    """A layout spelled out cell by cell."""
    n, p, w = cells.shape
    if layout == "2d":
        order = [(k, j) for k in range(p) for j in range(w)]
    elif layout == "2d_interlaced":
        order = [(k, j) for j in range(w) for k in range(p)]
    elif layout == "3d":
        return np.array([[[cells[i, k, j] for j in range(w)] for k in range(p)] for i in range(n)])
    else:
        return np.array([[[cells[i, k, j] for k in range(p)] for j in range(w)] for i in range(n)])
    return np.array([[cells[i, k, j] for k, j in order] for i in range(n)])


def evenly_spaced(offsets):
    return len(offsets) < 2 or len({b - a for a, b in zip(offsets, offsets[1:], strict=False)}) == 1


@st.composite
def strided_cells(draw):
    """Cells cut from a larger buffer: any order of the last two axes, any steps."""
    n, p, w = draw(sizes), draw(sizes), draw(sizes)
    steps = [draw(st.sampled_from([1, 2, 3, -1, -2])) for _ in range(3)]
    margins = [draw(st.integers(0, 2)) for _ in range(3)]
    shape = [abs(s) * k + m for s, k, m in zip(steps, (n, p, w), margins, strict=True)]
    turned = draw(st.booleans())
    buffer = numbered(shape[0], shape[2], shape[1]).transpose(0, 2, 1) if turned else numbered(*shape)
    cells = buffer[tuple(slice(None, None, s) for s in steps)]
    return buffer, cells[:n, :p, :w]


@settings(deadline=None)
@given(strided_cells(), layouts)
def test_as_layout_is_the_view_whenever_one_exists(pair, layout):
    buffer, cells = pair
    view = as_layout(cells, layout)
    right = flat(cells, layout)
    # the values of the buffer are places in memory: a layout is one strided view if those of a row are evenly spaced
    exists = layout in ("3d", "3d_transpose") or evenly_spaced(right[0].tolist())
    assert (view is not None) == exists
    if view is not None:
        np.testing.assert_array_equal(view, right, strict=True)
        assert np.shares_memory(view, buffer)
        assert layout_shape(*cells.shape, layout) == view.shape


@settings(deadline=None)
@given(strided_cells(), layouts)
def test_as_layout_keeps_read_only(pair, layout):
    _, cells = pair
    view = as_layout(readonly(cells), layout)
    if view is not None:
        assert not view.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.flags.writeable = True


@settings(deadline=None)
@given(n=sizes, p=sizes, widths=st.lists(sizes, min_size=1, max_size=3), layout=layouts, spread=st.integers(1, 2))
def test_cells_of_fill_a_buffer_source_by_source(n, p, widths, layout, spread):
    shape = concat_shape(n, p, widths, layout)
    out = np.full([spread * k for k in shape], -1.0)[tuple(slice(None, None, spread) for _ in shape)]
    sources = [100 * k + numbered(n, p, w, np.float64) for k, w in enumerate(widths)]
    parts = cells_of(out, p, widths, layout)
    for part, cells in zip(parts, sources, strict=True):
        assert part.shape == cells.shape
        assert np.shares_memory(part, out)
        part[...] = cells
    axis = 2 if layout == "3d" else 1
    np.testing.assert_array_equal(out, np.concatenate([flat(cells, layout) for cells in sources], axis=axis))


@settings(deadline=None)
@given(n=sizes, p=sizes, widths=st.lists(sizes, min_size=1, max_size=3), layout=layouts)
def test_cells_of_a_buffer_are_side_by_side_in_its_layout(n, p, widths, layout):
    out = np.arange(np.prod(concat_shape(n, p, widths, layout)), dtype=np.float64)
    out = out.reshape(concat_shape(n, p, widths, layout))
    arrays = [as_layout(part, layout) for part in cells_of(out, p, widths, layout)]
    assert all(array is not None for array in arrays)
    joined = side_by_side(arrays, 2 if layout == "3d" else 1)
    assert joined is not None
    np.testing.assert_array_equal(joined, out)
    assert np.shares_memory(joined, out)
    assert len(arrays) == 1 or not joined.flags.writeable


def test_side_by_side_is_none_where_arrays_do_not_follow_each_other():
    whole = np.arange(24.0).reshape(2, 12)
    assert side_by_side([whole[:, :4], whole[:, 6:]], 1) is None
    assert side_by_side([whole[:, 4:8], whole[:, :4]], 1) is None
    assert side_by_side([whole[:, :4], whole[:, 4:8:2]], 1) is None
    assert side_by_side([whole[:, :4], whole[:, 4:].view("i8")], 1) is None
    assert side_by_side([whole, whole.copy()], 1) is None
    np.testing.assert_array_equal(side_by_side([whole[:, :6:2], whole[:, 6::2]], 1), whole[:, ::2])
    np.testing.assert_array_equal(side_by_side([whole[:, :4], whole[:, 4:5], whole[:, 5:]], 1), whole)
    assert side_by_side([whole], 1) is whole


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 4)),
        np.zeros((3, 4), "f4")[:, ::2],
        np.zeros((3, 4))[::-1],
        np.zeros((3, 2, 4)).transpose(0, 2, 1),
        np.arange(3, dtype="u4"),
        np.array(["a", "b"], dtype=object),
        np.array([True, False]),
        np.array(["2024-01-01", "NaT"], dtype="M8[ns]"),
        np.zeros((0, 4)),
        np.zeros((2, 0), "f4"),
        np.array(3.0),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_readonly_cannot_be_undone(array):
    view = readonly(array)
    np.testing.assert_array_equal(view, array, strict=True)
    assert array.size == 0 or np.shares_memory(view, array)
    link = view
    while isinstance(link, np.ndarray):
        with pytest.raises(ValueError, match="WRITEABLE"):
            link.flags.writeable = True
        link = link.base
    with pytest.raises(ValueError, match="read-only"):
        view[...] = array.flat[0] if array.size else 0


def test_readonly_is_live():
    array = np.zeros(3)
    view = readonly(array)
    array[1] = 5
    assert view.tolist() == [0, 5, 0]
    assert readonly(view).tolist() == [0, 5, 0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_shapes(layout):
    cells = numbered(2, 3, 4)
    assert layout_shape(2, 3, 4, layout) == flat(cells, layout).shape
    assert concat_shape(2, 3, [1, 3], layout) == flat(cells, layout).shape
    assert check_layout(layout) == layout


def test_unknown_layout_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean '3d_transpose'"):
        check_layout("3d_transposed")
