"""Work on more spectra than memory holds: block by block, on whatever Dask scheduler is active.

All functions take datasets in memory too, and give the same numbers, NaN and infinities included. With a dataset loaded
with ``chunks=`` the blocks are Dask's, and are computed by its threads, its processes or the workers of a cluster; else
one after the other here. Sums are kept in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from spectroxr.blockwise import blocks, of_one_source, reduced, rows_of
from spectroxr.casting import Checked
from spectroxr.errors import UnknownNameError
from spectroxr.grouping import check_free, groups_of
from spectroxr.lazyread import any_dask
from spectroxr.moments import Moments, group_quantiles, joined, joined_products, products
from spectroxr.schema import Array, Filter, check_layout
from spectroxr.selection import Selection
from spectroxr.source import LazyBlock
from spectroxr.stored import StoredPlane

if TYPE_CHECKING:
    import xarray as xr

    from spectroxr.dataset import SpectroDataset

__all__ = ["CrossProducts", "batches", "cross_products", "statistics", "transform"]

#: All samples of so many wavelengths that they have about this many bytes are taken together for quantiles.
_BAND_BYTES = 1 << 23
#: What the statistics hold besides the groups.
_TAKEN = ("count", "mean", "var", "quantiles", "quantile", "processing", "wavelength")


@dataclass(frozen=True)
class CrossProducts:
    """What a linear model needs of spectra and targets, whatever the number of samples.

    Attributes
    ----------
    n : int
        Number of samples.
    x_mean : ndarray of float64, shape (feature,)
    y_mean : ndarray of float64, shape (target,)
    xtx : ndarray of float64, shape (feature, feature)
        ``(X - x_mean).T @ (X - x_mean)``.
    xty : ndarray of float64, shape (feature, target)
        ``(X - x_mean).T @ (Y - y_mean)``.
    yty : ndarray of float64, shape (target, target)
    """

    n: int
    x_mean: Array
    y_mean: Array
    xtx: Array
    xty: Array
    yty: Array


def transform(
    ds: SpectroDataset,
    function: Callable[[Array], Any],
    processing_hash: str,
    *,
    source: str | None = None,
    parent: str = "raw",
    filter: Filter = None,
) -> None:
    """Write a variant of the spectra that a function makes of each block of rows.

    Parameters
    ----------
    ds : SpectroDataset
    function : callable
        Takes an array ``(n, wavelength)`` and returns one of the same shape, each row from that row alone; for instance
        the ``transform`` of a fitted scikit-learn transformer. The array is read-only. It must be picklable for a
        cluster.
    processing_hash : str
        Name of the variant.
    source : str, optional
        Which source (default: the only one).
    parent : str, default "raw"
        The processing it is made from.
    filter : None, dict or polars.Expr
        Only of these samples (default: all that have `parent`).

    Raises
    ------
    ValueError
        If the function returns another shape or finite values that the source cannot hold, or several sources are there
        and none is named. With ``chunks=``, what it returns is checked when it is computed.
    TypeError
        If what it returns is not of real numbers.

    Notes
    -----
    With ``chunks=`` nothing is computed before the variant is read or saved; `SpectroDataset.save` then writes it chunk
    by chunk, each by the worker that computes it. Else it is computed now, in memory.

    Examples
    --------
    >>> import numpy as np
    >>> from spectroxr import SpectroDataset, bulk
    >>> ds = SpectroDataset()
    >>> ds.add_features([np.arange(6.0).reshape(2, 3)])
    >>> bulk.transform(ds, lambda x: x - x.mean(axis=1, keepdims=True), "centred")
    >>> ds.x({"processing": "centred"})[0]
    array([[-1.,  0.,  1.],
           [-1.,  0.,  1.]])
    """
    if not callable(function):
        raise TypeError(
            f"a function of spectra is wanted, such as the transform of a fitted estimator, not {function!r}."
        )
    features = ds.features
    chosen = of_one_source(ds, filter, source, parent)
    name = chosen.sources[0]
    dtype = features.cells.sources[name].dtype
    work = Checked(function, dtype)
    if any_dask(features.cells.sources, chosen):
        (lazy,) = features.read(chosen)
        lazy = lazy.rechunk({1: -1})  # type: ignore[attr-defined]
        result = lazy.map_blocks(work, dtype=dtype, meta=np.empty((0, 0), dtype))
    else:
        result = np.empty((len(chosen.samples), len(features.cells.sources[name].axis)), dtype)
        start = 0
        for block in blocks(ds, chosen):
            part = work(block())
            result[start : start + len(part)] = part
            start += len(part)
    ds.update_x({name: result}, chosen.samples, processing_hash)


def batches(
    ds: SpectroDataset,
    filter: Filter = None,
    *,
    rows: int | None = None,
    target: str | Sequence[str] | None = None,
    layout: str = "2d",
    src_concat: bool = False,
) -> Iterator[tuple[tuple[Array, ...], Array | None]]:
    """Yield spectra and targets of some samples at a time, for ``partial_fit`` and the like.

    Parameters
    ----------
    ds : SpectroDataset
    filter : None, dict or polars.Expr
    rows : int, optional
        Samples in a batch (default: about 16 MB).
    target : str or sequence of str, optional
        Which targets (default: none; the second of each pair is then None).
    layout, src_concat
        As in `SpectroDataset.x`.

    Yields
    ------
    tuple
        The arrays as `x` gives them, computed, and the targets as `y` gives them; samples in ascending order.

    Raises
    ------
    ValueError
        If `rows` is not positive, or nothing matches. As all errors, this one comes with the call, not the first batch.
    TypeError
        If `rows` is not a whole number.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.decomposition import IncrementalPCA
    >>> from spectroxr import SpectroDataset, bulk
    >>> ds = SpectroDataset()
    >>> ds.add_features([np.random.default_rng(0).random((100, 5))])
    >>> pca = IncrementalPCA(2)
    >>> for (x,), _ in bulk.batches(ds, rows=40):
    ...     pca = pca.partial_fit(x)
    >>> int(pca.n_samples_seen_)
    100
    """
    if rows is not None and (isinstance(rows, bool) or not isinstance(rows, int | np.integer)):
        raise TypeError(f"rows is a whole number of samples, not {rows!r}.")
    if rows is not None and rows < 1:
        raise ValueError(f"rows is at least 1, not {rows}.")
    kind = check_layout(layout)
    features = ds.features
    whole = features.resolver.resolve(filter, features.cells.epoch)
    y = None if target is None else ds.targets.values(whole.samples, ds.targets.current(True), target)

    def parts(step: int) -> Iterator[tuple[tuple[Array, ...], Array | None]]:
        for start in range(0, len(whole.samples), step):
            samples = whole.samples[start : start + step]
            part = features.resolver.select(samples, whole.processings, whole.sources, whole.bands)
            arrays = tuple(np.asarray(array) for array in features.read(part, kind, src_concat))
            yield arrays, None if y is None else y[start : start + step]

    return parts(rows_of(ds, whole) if rows is None else int(rows))


def statistics(
    ds: SpectroDataset,
    filter: Filter = None,
    *,
    source: str | None = None,
    by: str | None = None,
    quantiles: Sequence[float] = (),
) -> xr.Dataset:
    """Return mean, variance and quantiles of spectra, at each wavelength, for each group.

    Parameters
    ----------
    ds : SpectroDataset
    filter : None, dict or polars.Expr
    source : str, optional
        Which source (default: the only one selected).
    by : str, optional
        A column of the index, the metadata or the targets to group the samples by, not called like a part of the
        result. Nulls are a group of their own, the last, labelled NaN, NaT or None (`pandas.isna` knows all three).
    quantiles : sequence of float from 0 to 1
        Exact, as `numpy.quantile`, which is NaN where it interpolates next to an infinity. All samples of a few
        wavelengths are in memory at a time; each pass over a few wavelengths reads the chunks of all rows.

    Returns
    -------
    xarray.Dataset
        ``count`` (group), ``mean`` and ``var`` (group, processing, wavelength; float64, `var` with n in the
        denominator, as `numpy.var`), and ``quantiles`` (quantile, group, processing, wavelength). Without `by`,
        there is no dim ``group``; with it, that dim has its name.

    Raises
    ------
    ValueError
        If several sources are selected and none is named, nothing matches, a quantile is not from 0 to 1, or `by` is
        called ``count``, ``mean``, ``var``, ``quantiles`` or ``quantile``.
    TypeError
        If `by` is not one name, its column holds lists, or `quantiles` is not a sequence of numbers.

    Notes
    -----
    NaN and infinities count as in numpy, in whatever block they are: with a NaN, or infinities of both signs, the mean
    is NaN, with those of one sign it is that infinity, and the variance is NaN in each case. Finite spectra have a
    finite mean, also where the sum of `numpy.mean` overflows; their variance is inf where the sum of squares does.

    Means and sums of squares of blocks are joined by the formulas of Chan, Golub and LeVeque, The American Statistician
    37 (1983) 242-247, which lose no digits to large means.
    """
    import xarray as xr

    chosen = of_one_source(ds, filter, source, None)
    name = chosen.sources[0]
    labels, codes = _grouped(ds, chosen.samples, by)
    levels = _levels(quantiles)
    groups = len(labels)
    count, mean, squares = reduced(ds, chosen, Moments(groups), joined, codes)
    shape = (groups, len(chosen.processings), -1)
    found: dict[str, Any] = {
        "count": (("group",), count.astype(np.int64)),
        "mean": (("group", "processing", "wavelength"), mean.reshape(shape)),
        "var": (("group", "processing", "wavelength"), (squares / count[:, None]).reshape(shape)),
    }
    axis = ds.features.cells.sources[name].axis.take(chosen.bands[name])
    coords: dict[str, Any] = {"processing": list(chosen.processings), "wavelength": axis.values}
    if len(levels):
        values = _quantiles(ds, chosen, codes, groups, levels)
        dims = ("quantile", "group", "processing", "wavelength")
        found["quantiles"] = (dims, values.reshape(len(levels), *shape))
        coords["quantile"] = levels
    result = xr.Dataset(found, coords=coords)
    if by is None:
        return result.isel(group=0)
    return result.rename(group=by).assign_coords({by: labels})


def cross_products(
    ds: SpectroDataset,
    target: str | Sequence[str],
    filter: Filter = None,
    *,
    source: str | None = None,
) -> CrossProducts:
    """Return the centred cross products of spectra and targets, from which PLS, PCR and ridge models follow.

    Parameters
    ----------
    ds : SpectroDataset
    target : str or sequence of str
        Numbers without missing values.
    filter : None, dict or polars.Expr
    source : str, optional
        Which source (default: the only one selected). Its processings are side by side, as in layout ``2d``.

    Returns
    -------
    CrossProducts
        Not scaled: chemometrics centres and does not scale.

    Raises
    ------
    ValueError
        If a target is missing or not a number, squares of finite values overflow float64, several sources are selected
        and none is named, or nothing matches.

    Notes
    -----
    A feature with a NaN or an infinity has the mean that numpy gives, and NaN in its row and column; the others are not
    changed by it. Filter such samples or wavelengths out before solving.

    Blocks are joined as in `statistics`. For PLS from cross products see Dayal and MacGregor, Journal of Chemometrics
    11 (1997) 73-85.
    """
    chosen = of_one_source(ds, filter, source, None)
    y = np.asarray(ds.targets.values(chosen.samples, ds.targets.current(True), target))
    y = y[:, None] if y.ndim == 1 else y
    if y.dtype.kind not in "fiub" or not np.isfinite(y.astype(np.float64)).all():
        raise ValueError(f"target {target!r} has missing values or is not numeric; filter these samples out.")
    n, mean, matrix = reduced(ds, chosen, products, joined_products, y.astype(np.float64))
    large = np.flatnonzero(np.isfinite(mean) & ~np.isfinite(np.diagonal(matrix)))
    width = len(mean) - y.shape[1]
    if len(large):
        what = f"feature {large[0]} of the spectra" if large[0] < width else f"target {target!r}"
        raise ValueError(f"the squares of {what} overflow float64 (its mean is {mean[large[0]]:g}); scale it down.")
    return CrossProducts(
        int(n),
        mean[:width],
        mean[width:],
        matrix[:width, :width],
        matrix[:width, width:],
        matrix[width:, width:],
    )


def _grouped(ds: SpectroDataset, samples: Array, by: str | None) -> tuple[Array, Array]:
    """Return the labels of groups, in order, and the group of each sample."""
    if by is None:
        return np.array([None]), np.zeros(len(samples), dtype=np.intp)
    if not isinstance(by, str):
        raise TypeError(f"by is the name of one column, not {by!r}.")
    try:
        column = ds.features.column(by)
    except UnknownNameError:
        if by != "processing":
            raise
        raise ValueError("by groups samples, which have several processings; the result has each by itself.") from None
    check_free(by, _TAKEN)
    return groups_of(column.gather(pl.Series(samples)))


def _levels(quantiles: Sequence[float]) -> Array:
    """Return which quantiles are wanted, checked."""
    levels = np.asarray(quantiles)
    if levels.ndim != 1 or (levels.size and levels.dtype.kind not in "fiu"):
        raise TypeError(f"quantiles is a sequence of numbers from 0 to 1, such as [0.05, 0.95], not {quantiles!r}.")
    for level in levels[~((levels >= 0) & (levels <= 1))]:
        raise ValueError(f"quantiles are from 0 to 1, not {level}.")
    return levels.astype(np.float64)


def _quantiles(ds: SpectroDataset, chosen: Selection, codes: Array, groups: int, wanted: Array) -> Array:
    """Return quantiles (quantile, group, feature), a few wavelengths at a time."""
    features, name = ds.features, chosen.sources[0]
    source = features.cells.sources[name]
    positions = np.arange(len(source.axis))[chosen.bands[name]]
    count, samples = len(chosen.processings), len(chosen.samples)
    step = max(1, _BAND_BYTES // max(1, samples * source.dtype.itemsize * count))
    homes = [place[0] for p in chosen.processings if (place := source.where(p))]
    planes = [home.plane for home in homes if isinstance(home, LazyBlock)]
    bands = [positions[start : start + step] for start in range(0, len(positions), step)]
    if any_dask({name: source}, chosen) and len(planes) == count and all(isinstance(p, StoredPlane) for p in planes):
        import dask

        ask: Any = dask
        work = ask.delayed(_stored_quantiles, pure=False)
        made = ask.compute(*[work(planes, chosen.rows, some, codes, groups, wanted) for some in bands])
    else:
        made = []
        for some in bands:
            part = features.resolver.select(chosen.samples, chosen.processings, chosen.sources, {name: some})
            made.append(group_quantiles(features.read(part, "3d", copy=True)[0], codes, groups, wanted))
    return np.concatenate(made, axis=3).reshape(len(wanted), groups, -1)


def _stored_quantiles(
    planes: Sequence[Any], rows: Any, bands: Array, codes: Array, groups: int, wanted: Array
) -> Array:
    """Read some wavelengths of stored planes and return their quantiles."""
    values = np.empty((len(codes), len(planes), len(bands)), planes[0].dtype)
    for k, plane in enumerate(planes):
        plane.array.read(rows, [plane.position], bands, values[:, k : k + 1], 1)
    return group_quantiles(values, codes, groups, wanted)
