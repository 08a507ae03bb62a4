"""Work on more spectra than memory holds: block by block, on whatever Dask scheduler is active.

All functions take datasets in memory too, and give the same numbers. With a dataset loaded with ``chunks=`` the blocks
are Dask's, and are computed by its threads, its processes or the workers of a cluster; else one after the other here.
Sums are kept in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from spectroxr.lazyread import any_dask
from spectroxr.moments import Moments, group_quantiles, joined, joined_products, products
from spectroxr.schema import Array, Filter
from spectroxr.selection import Selection
from spectroxr.source import LazyBlock
from spectroxr.stored import StoredPlane

if TYPE_CHECKING:
    import xarray as xr

    from spectroxr.dataset import SpectroDataset

__all__ = ["CrossProducts", "batches", "cross_products", "statistics", "transform"]

#: A block that is read here has about this many bytes.
_BLOCK_BYTES = 1 << 24
#: All samples of so many wavelengths that they have about this many bytes are taken together for quantiles.
_BAND_BYTES = 1 << 23


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
        the ``transform`` of a fitted scikit-learn transformer. It must be picklable for a cluster.
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
        If the function returns another shape, or several sources are there and none is named.

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
    features = ds.features
    chosen = _selection(ds, filter, source, parent)
    name = chosen.sources[0]
    dtype = features.cells.sources[name].dtype
    work = _Checked(function, dtype)
    if any_dask(features.cells.sources, chosen):
        (lazy,) = features.read(chosen)
        lazy = lazy.rechunk({1: -1})  # type: ignore[attr-defined]
        result = lazy.map_blocks(work, dtype=dtype, meta=np.empty((0, 0), dtype))
    else:
        result = np.empty((len(chosen.samples), len(features.cells.sources[name].axis)), dtype)
        start = 0
        for block in _blocks(ds, chosen):
            part = work(block())
            result[start : start + len(part)] = part
            start += len(part)
    ds.update_x({name: result}, chosen.samples, processing_hash)


@dataclass(frozen=True)
class _Checked:
    """A function whose result is checked and cast."""

    function: Callable[[Array], Any]
    dtype: Any

    def __call__(self, block: Array) -> Array:
        made = np.asarray(self.function(block))
        if made.shape != block.shape:
            raise ValueError(
                f"the function made {made.shape} of spectra {block.shape}; a change of the axis makes a new source, "
                "see add_source."
            )
        return made.astype(self.dtype, copy=False)


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
        If `rows` is not positive, or nothing matches.

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
    features = ds.features
    whole = features.resolver.resolve(filter, features.cells.epoch)
    if rows is None:
        rows = _rows_of(ds, whole)
    if rows < 1:
        raise ValueError(f"rows is at least 1, not {rows}.")
    version = None if target is None else ds.targets.current(True)
    for start in range(0, len(whole.samples), rows):
        samples = whole.samples[start : start + rows]
        part = features.resolver.select(samples, whole.processings, whole.sources, whole.bands)
        arrays = tuple(np.asarray(array) for array in features.read(part, layout, src_concat))
        yield arrays, None if target is None else ds.targets.values(samples, version, target)


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
        A column of the index, the metadata or the targets to group the samples by; a null is a group of its own,
        labelled NaN.
    quantiles : sequence of float from 0 to 1
        Exact, as `numpy.quantile`. All samples of a few wavelengths are in memory at a time; each pass over a few
        wavelengths reads the chunks of all rows.

    Returns
    -------
    xarray.Dataset
        ``count`` (group), ``mean`` and ``var`` (group, processing, wavelength; float64, `var` with n in the
        denominator, as `numpy.var`), and ``quantiles`` (quantile, group, processing, wavelength). Without `by`,
        there is no dim ``group``; with it, that dim has its name.

    Raises
    ------
    ValueError
        If several sources are selected and none is named, or nothing matches.

    Notes
    -----
    Means and sums of squares of blocks are joined by the formulas of Chan, Golub and LeVeque, The American Statistician
    37 (1983) 242-247, which lose no digits to large means.
    """
    import xarray as xr

    chosen = _selection(ds, filter, source, None)
    name = chosen.sources[0]
    labels, codes = _groups(ds, chosen.samples, by)
    groups = len(labels)
    count, mean, squares = _reduced(ds, chosen, Moments(groups), joined, codes)
    shape = (groups, len(chosen.processings), -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: dict[str, Any] = {
            "count": (("group",), count.astype(np.int64)),
            "mean": (("group", "processing", "wavelength"), mean.reshape(shape)),
            "var": (("group", "processing", "wavelength"), (squares / count[:, None]).reshape(shape)),
        }
    axis = ds.features.cells.sources[name].axis.take(chosen.bands[name])
    coords: dict[str, Any] = {"processing": list(chosen.processings), "wavelength": axis.values}
    if len(quantiles):
        values = _quantiles(ds, chosen, codes, groups, np.asarray(quantiles, dtype=np.float64))
        dims = ("quantile", "group", "processing", "wavelength")
        found["quantiles"] = (dims, values.reshape(len(quantiles), *shape))
        coords["quantile"] = list(quantiles)
    result = xr.Dataset(found, coords=coords)
    if by is None:
        return result.isel(group=0)
    return result.rename(group=by).assign_coords({by: np.array(labels)})


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
        If a target is missing or not a number, several sources are selected and none is named, or nothing matches.

    Notes
    -----
    Blocks are joined as in `statistics`. For PLS from cross products see Dayal and MacGregor, Journal of Chemometrics
    11 (1997) 73-85.
    """
    chosen = _selection(ds, filter, source, None)
    y = np.asarray(ds.targets.values(chosen.samples, ds.targets.current(True), target))
    y = y[:, None] if y.ndim == 1 else y
    if y.dtype.kind not in "fiub" or not np.isfinite(y.astype(np.float64)).all():
        raise ValueError(f"target {target!r} has missing values or is not numeric; filter these samples out.")
    n, mean, matrix = _reduced(ds, chosen, products, joined_products, y.astype(np.float64))
    width = len(mean) - y.shape[1]
    return CrossProducts(
        int(n),
        mean[:width],
        mean[width:],
        matrix[:width, :width],
        matrix[:width, width:],
        matrix[width:, width:],
    )


def _selection(ds: SpectroDataset, filter: Filter, source: str | None, processing: str | None) -> Selection:
    features = ds.features
    only = None if source is None else features.cells.source(source).name
    wanted = filter
    if processing is not None:
        if isinstance(filter, dict):
            wanted = {**filter, "processing": processing}
        elif filter is None:
            wanted = {"processing": processing}
        else:
            wanted = filter & (pl.col("processing") == processing)
    chosen = features.resolver.resolve(wanted, features.cells.epoch, only)
    if len(chosen.sources) != 1:
        raise ValueError(f"{list(chosen.sources)} are selected; name one with source=...")
    return chosen


def _rows_of(ds: SpectroDataset, chosen: Selection) -> int:
    """Return how many samples make a block."""
    sources = [ds.features.cells.sources[name] for name in chosen.sources]
    line: int = sum(len(source.axis) * source.dtype.itemsize for source in sources) * len(chosen.processings)
    return max(1, _BLOCK_BYTES // max(1, line))


def _blocks(ds: SpectroDataset, chosen: Selection) -> Iterator[Callable[[], Array]]:
    """Yield what reads the spectra of some samples after the other, ``(n, feature)``."""
    features, step = ds.features, _rows_of(ds, chosen)
    for start in range(0, len(chosen.samples), step):
        part = features.resolver.select(
            chosen.samples[start : start + step], chosen.processings, chosen.sources, chosen.bands
        )
        yield lambda part=part: np.asarray(features.read(part, "2d")[0])  # type: ignore[misc]


def _reduced(
    ds: SpectroDataset,
    chosen: Selection,
    function: Callable[[Array, Array], Any],
    join: Callable[[Any, Any], Any],
    beside: Array,
) -> Any:
    """Return what a function makes of each block of spectra and the lines of `beside` that belong to it, joined."""
    if not any_dask(ds.features.cells.sources, chosen):
        made, start = None, 0
        for block in _blocks(ds, chosen):
            values = block()
            part = function(values, beside[start : start + len(values)])
            made = part if made is None else join(made, part)
            start += len(values)
        return made
    import dask

    ask: Any = dask
    lazy: Any = ds.features.read(chosen, "2d")[0]
    lazy = lazy.rechunk({1: -1})
    ends = np.cumsum(lazy.chunks[0])
    work = ask.delayed(function, pure=False)
    tasks = [
        work(block, beside[end - size : end])
        for block, size, end in zip(lazy.to_delayed()[:, 0], lazy.chunks[0], ends, strict=True)
    ]
    joining = ask.delayed(join, pure=False)
    while len(tasks) > 1:
        pairs = [joining(*tasks[k : k + 2]) for k in range(0, len(tasks) - 1, 2)]
        tasks = pairs + (tasks[-1:] if len(tasks) % 2 else [])
    return ask.compute(tasks[0])[0]


def _groups(ds: SpectroDataset, samples: Array, by: str | None) -> tuple[list[Any], Array]:
    """Return the labels of groups, in order, and the group of each sample."""
    if by is None:
        return [None], np.zeros(len(samples), dtype=np.intp)
    column = ds.features.column(by).gather(pl.Series(samples))
    table = pl.DataFrame({"label": column})
    labels = table.unique().sort("label", nulls_last=True).with_row_index("code")
    codes = table.join(labels, on="label", how="left", nulls_equal=True, maintain_order="left")["code"]
    return labels["label"].to_list(), codes.to_numpy().astype(np.intp)


def _quantiles(ds: SpectroDataset, chosen: Selection, codes: Array, groups: int, wanted: Array) -> Array:
    """Return quantiles (quantile, group, feature), a few wavelengths at a time."""
    features, name = ds.features, chosen.sources[0]
    source = features.cells.sources[name]
    positions = np.arange(len(source.axis))[chosen.bands[name]]
    count, samples = len(chosen.processings), len(chosen.samples)
    step = max(1, _BAND_BYTES // max(1, samples * source.dtype.itemsize * count))
    blocks = [place[0] for p in chosen.processings if (place := source.where(p))]
    planes = [block.plane for block in blocks if isinstance(block, LazyBlock)]
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
