"""Spectra to look at again: outliers of a latent-variable model, and cells, spectra and copies that cannot be right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import xxhash

from spectroxr.blockwise import blocks, of_one_processing, pieces
from spectroxr.errors import nearest
from spectroxr.inherit import roots_of
from spectroxr.log import enabled, log, quiet
from spectroxr.metadata import check_columns
from spectroxr.sampling import target_column
from spectroxr.schema import Array, Filter
from spectroxr.selection import Selection

if TYPE_CHECKING:
    from spectroxr.dataset import SpectroDataset

__all__ = ["check_spectra", "flag_outliers"]

STATISTICS = ("t2", "q")
_NAMES = {"t2": "Hotelling T2", "q": "Q residual"}
_TRAIN: Mapping[str, str] = {"partition": "train"}

_REPORT: dict[str, Any] = {
    "sample": pl.UInt32,
    "source": pl.String,
    "processing": pl.String,
    "problem": pl.Enum(["nan", "inf", "flat", "duplicate"]),
    "cells": pl.UInt32,
    "other": pl.UInt32,
}


def flag_outliers(
    ds: SpectroDataset,
    components: int,
    *,
    filter: Filter = None,
    source: str | None = None,
    processing: str | None = None,
    target: str | None = None,
    fit_on: Filter = _TRAIN,  # type: ignore[assignment]
    confidence: float = 0.95,
    method: str | Sequence[str] = ("t2", "q"),
    column: str = "outlier",
) -> pl.DataFrame:
    """Flag samples that lie far out in a PCA or PLS of the training spectra (T2), or that it does not describe (Q).

    Parameters
    ----------
    components : int
        Number of principal components, or of latent variables.
    filter : None, dict or polars.Expr
        Which samples to examine (default: all), and which wavelengths.
    source, processing : str, optional
        Which spectra (default: the only ones that are selected).
    target : str, optional
        Take the latent variables of a PLS for this target (raw version, not scaled) instead of a PCA.
    fit_on : None, dict or polars.Expr, default ``{"partition": "train"}``
        Which samples the model and the limits are made from. Augmented ones among them are left out.
    confidence : float, default 0.95
        One training spectrum in twenty is flagged by each of the two where nothing is wrong: a flag says where to look.
    method : {"t2", "q"} or both, default ("t2", "q")
    column : str, default "outlier"
        Name of the column in the metadata.

    Returns
    -------
    polars.DataFrame
        One line per sample that was examined: ``sample``, and for each method its value and limit (``t2``,
        ``t2_limit``, ``q``, ``q_limit``; float64, Q in squared units of the spectra), then the two columns that are
        stored.

    Raises
    ------
    ValueError
        If several sources or processings are selected and none is named, spectra hold NaN or infinities, there are
        too few training spectra for so many components or nothing is left beside them, or `column` is taken.
    TypeError
        If `column` exists with another dtype.
    UnknownNameError
        If a source, processing or target does not exist.
    ImportError
        If chemotools is missing (extra ``learn``).

    Notes
    -----
    The metadata get `column`, true or false, and ``<column>_reason``, such as ``"Hotelling T2 12.3 > 9.4 (95 %, 3
    components, nir, snv)"``, or null. Both are null for samples that were never examined; those examined again are
    overwritten. Nothing is deleted: the filter ``{"outlier": False}`` leaves flagged samples out, and those that were
    not examined; ``{"outlier": [False, None]}`` keeps these. An augmented sample that was not examined has the flag of
    the sample it was derived from.

    Statistics and limits are those of chemotools: T2 with the limit from the F distribution, k (n - 1) / (n - k)
    F(k, n - k), and Q with that of Box, Annals of Mathematical Statistics 25 (1954) 290-302: the chi-square
    distribution with the mean and variance that the residuals have. The other limit of chemotools, its default, follows
    Jackson and Mudholkar, Technometrics 21 (1979) 341-349, without the sign that the normal deviate takes from their
    h0: where h0 is negative, as for many spectra, it flags nearly all. chemotools also leaves residual variances under
    1e-12 out of a limit. So that the unit of the spectra does not matter, they are scaled to residuals of about 1, and
    Q and its limit back. The training spectra are in memory, the others are read in blocks.
    """
    asked = _methods(method)
    chosen = of_one_processing(ds, filter, source, processing)
    where = (chosen.sources[0], chosen.processings[0])
    _check_column(ds, column)
    if isinstance(confidence, bool) or not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, not {confidence!r}.")
    training = dict(fit_on) if isinstance(fit_on, Mapping) else fit_on
    model = _model(ds, chosen, training, components, target, "q" in asked)
    found = _examined(ds, chosen, model, asked, confidence)
    what = f"{components} component{'s' * (components > 1)}" if target is None else f"{components} LV for {target}"
    aside = f"({100 * confidence:g} %, {what}, {where[0]}, {where[1]})"
    reasons = _reasons(found, asked, aside)
    table = found.with_columns(
        pl.Series(column, [text is not None for text in reasons], dtype=pl.Boolean),
        pl.Series(f"{column}_reason", reasons, dtype=pl.String),
    )
    stored = table.select("sample", column, f"{column}_reason")
    with quiet():
        new = [name for name in stored.columns[1:] if name not in ds.metadata.columns]
        if new:
            ds.metadata.add_meta(stored.select("sample", *new))
        ds.metadata.update_meta(stored)
    if enabled():
        log(f"flag_outliers: {table[column].sum()} of {table.height} samples {aside}")
    return table


def _methods(method: str | Sequence[str]) -> list[str]:
    asked = [method] if isinstance(method, str) else list(method)
    for name in asked:
        if name not in STATISTICS:
            raise ValueError(nearest(name, STATISTICS, "method"))
    if not asked:
        raise ValueError(f"method names none of {STATISTICS}.")
    return [name for name in STATISTICS if name in asked]


def _check_column(ds: SpectroDataset, column: str) -> None:
    """Raise unless flags can be stored under that name."""
    if not isinstance(column, str) or not column:
        raise TypeError(f"column is the name of a column of the metadata, not {column!r}.")
    for name, kind in ((column, pl.Boolean), (f"{column}_reason", pl.String)):
        check_columns([name], "the metadata")
        if name == "sample" or name in ds.targets.columns:
            raise ValueError(f"there is a target {name!r}; give the flags another name with column=...")
        held = ds.metadata.schema.get(name)
        if held is not None and held != kind:
            raise TypeError(
                f"the metadata have a column {name!r} of {held}; name another one with column=..., or remove it "
                "with metadata.drop_meta."
            )


def _model(
    ds: SpectroDataset, chosen: Selection, fit_on: Filter, components: int, target: str | None, with_q: bool
) -> _Model:
    """Return a PCA or PLS of the training spectra, and those; for Q scaled so that the residuals are about 1."""
    if isinstance(fit_on, dict) and "wavelength" in fit_on:
        raise ValueError("the wavelengths are those of filter; leave them out of fit_on.")
    fitting = of_one_processing(ds, fit_on, chosen.sources[0], chosen.processings[0])
    samples = fitting.samples
    samples = samples[ds.features.index.origins[samples] == samples]
    y = None if target is None else target_column(ds, target, samples)
    if y is not None and not y.dtype.is_numeric():
        raise TypeError(f"PLS needs a target of numbers, {target!r} is {y.dtype}.")
    part = ds.features.resolver.select(samples, chosen.processings, chosen.sources, chosen.bands)
    x = np.asarray(ds.features.read(part)[0], dtype=np.float64) if len(samples) else np.empty((0, 0))
    _check_finite(x, samples)
    most = min(len(x) - 2, x.shape[1] - 1)
    if isinstance(components, bool) or not isinstance(components, int | np.integer):
        raise TypeError(f"components is a whole number, not {components!r}.")
    if not 1 <= components <= most:
        raise ValueError(
            f"components={components} of {len(x)} training spectra with {x.shape[1]} wavelengths; it is 1 to {most}: "
            "the limits need residuals, and one spectrum more than that."
        )
    targets = None if y is None else y.to_numpy().astype(np.float64)
    spread = float(np.sqrt(((x - x.mean(axis=0)) ** 2).sum() / (len(x) - 1)))
    model = _Model(x, targets, int(components), 1.0) if spread > 0 else None
    if model is None or not model.full():
        raise ValueError(f"the {len(x)} training spectra do not vary in {components} components; take fewer.")
    if not with_q:
        return model
    left = float(np.sqrt((model.residuals(x) ** 2).sum() / (len(x) - 1)))
    if not left > 1e-12 * spread:
        raise ValueError(
            f"{components} components describe the {len(x)} training spectra to the last digit: there are no residuals "
            "to compare with; take fewer, or method='t2'."
        )
    # a power of two, so that not a digit changes
    return _Model(x, targets, int(components), 2.0 ** -round(np.log2(left)))


class _Model:
    """A PCA, or a PLS with targets, of spectra times `scale`."""

    def __init__(self, x: Array, y: Array | None, components: int, scale: float) -> None:
        from sklearn.cross_decomposition import PLSRegression
        from sklearn.decomposition import PCA

        self.scale = scale
        self.spectra = x * scale
        if y is None:
            self.fitted: Any = PCA(components, svd_solver="full").fit(self.spectra)
        else:
            self.fitted = PLSRegression(components, scale=False).fit(self.spectra, y)

    def residuals(self, x: Array) -> Array:
        """Return what the model leaves of spectra, in its scale."""
        scaled = x * self.scale
        return np.asarray(scaled - self.fitted.inverse_transform(self.fitted.transform(scaled)))

    def full(self) -> bool:
        """Tell whether the scores vary in every component."""
        spread = self.fitted.transform(self.spectra).std(axis=0)
        return bool((spread > 1e-12 * spread.max()).all())


def _examined(
    ds: SpectroDataset, chosen: Selection, model: _Model, asked: Sequence[str], confidence: float
) -> pl.DataFrame:
    """Return the statistics of samples, and their limits."""
    try:
        from chemotools.outliers import HotellingT2, QResiduals
    except ImportError as error:
        raise ImportError(
            'T2 and Q are those of chemotools: pip install "spectroxr[learn]"', name=error.name
        ) from error
    makers: dict[str, Any] = {
        "t2": HotellingT2(model.fitted, confidence=confidence),
        "q": QResiduals(model.fitted, confidence=confidence, method="chi-square"),
    }
    fitted = {name: makers[name].fit(model.spectra) for name in asked}
    # Q is a sum of squares
    unit = {"t2": 1.0, "q": model.scale**-2}
    values: dict[str, list[Array]] = {name: [] for name in asked}
    start = 0
    for block in blocks(ds, chosen):
        x = block().astype(np.float64)
        _check_finite(x, chosen.samples[start : start + len(x)])
        start += len(x)
        for name in asked:
            values[name].append(fitted[name].predict_residuals(x * model.scale) * unit[name])
    columns = [pl.Series("sample", chosen.samples, dtype=pl.UInt32)]
    for name in asked:
        limit = float(fitted[name].critical_value_) * unit[name]
        columns.append(pl.Series(name, np.concatenate(values[name]), dtype=pl.Float64))
        columns.append(pl.Series(f"{name}_limit", np.full(start, limit), dtype=pl.Float64))
    return pl.DataFrame(columns)


def _check_finite(x: Array, samples: Array) -> None:
    bad = ~np.isfinite(x).all(axis=1)
    if bad.any():
        raise ValueError(
            f"the spectrum of sample {samples[bad][0]} holds NaN or infinities; check_spectra lists such samples, a "
            "filter leaves them out."
        )


def _reasons(found: pl.DataFrame, asked: Sequence[str], aside: str) -> list[str | None]:
    """Word for each sample what is above its limit; None where nothing is."""
    texts: list[list[str]] = [[] for _ in range(found.height)]
    for name in asked:
        values, limits = found[name].to_list(), found[f"{name}_limit"].to_list()
        for text, value, limit in zip(texts, values, limits, strict=True):
            if value > limit:
                text.append(f"{_NAMES[name]} {_apart(value, limit)}")
    return [f"{'; '.join(text)} {aside}" if text else None for text in texts]


def _apart(value: float, limit: float) -> str:
    """Return both numbers in three digits, or as many as tell them apart.

    Examples
    --------
    >>> _apart(12.345, 9.4)
    '12.3 > 9.4'
    >>> _apart(9.40123, 9.4)
    '9.401 > 9.4'
    >>> _apart(13570.2, 0.00012344)
    '13570 > 0.000123'
    """
    for digits in range(3, 18):
        # whole numbers up to a million are written out
        shown = [f"{one:.{max(digits, len(str(int(one)))) if one < 1e6 else digits}g}" for one in (value, limit)]
        if float(shown[0]) > float(shown[1]):
            break
    return " > ".join(shown)


def check_spectra(ds: SpectroDataset, filter: Filter = None) -> pl.DataFrame:
    """Report cells that are no numbers, flat spectra and exact copies; nothing is changed.

    Parameters
    ----------
    filter : None, dict or polars.Expr
        Which samples, sources, processings and wavelengths to look at (default: all); holes are passed over.

    Returns
    -------
    polars.DataFrame
        One line per finding, none if all is well, ordered by sample: ``sample``, ``source``, ``processing``,
        ``problem``, ``cells`` (how many wavelengths it concerns) and ``other``. The problems are ``nan`` and ``inf``:
        so many cells hold that; ``flat``: the same finite value at every wavelength; ``duplicate``: the spectrum is, to
        the last digit, that of ``other``, the first sample that has it.

    Raises
    ------
    UnknownNameError, TypeError
        If the filter names something that does not exist, or does not fit.
    ValueError
        If nothing matches, or there are no features yet.

    Notes
    -----
    Samples that are derived from the same original are no duplicates of each other. Copies are found by 128-bit hashes
    (XXH3) of what is selected, in each source and processing by itself. Spectra are read in blocks of about 16 MB.

    Examples
    --------
    >>> import numpy as np
    >>> from spectroxr import SpectroDataset
    >>> ds = SpectroDataset()
    >>> ds.add_features([np.array([[1.0, 2, 3], [1, np.nan, 3], [5, 5, 5], [1, 2, 3]])])
    >>> ds.check_spectra().select("sample", "problem", "cells", "other").rows()
    [(1, 'nan', 1, None), (2, 'flat', 3, None), (3, 'duplicate', 3, 0)]
    """
    parts = [pl.DataFrame(_problems(ds, piece), schema=_REPORT, orient="row") for piece in pieces(ds, filter)]
    table = pl.concat(parts).sort("sample", maintain_order=True)
    if enabled():
        log(f"check_spectra: {table.height} findings of {table['sample'].n_unique()} samples")
    return table


def _problems(ds: SpectroDataset, piece: Selection) -> Iterator[tuple[Any, ...]]:
    """Yield the lines of the report on one processing of one source."""
    index = ds.features.index
    # samples that share a row share what is wrong with it, which is read once
    _, first, shared = np.unique(index.rows[piece.samples], return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    owners = ds.features.resolver.select(piece.samples[first[order]], piece.processings, piece.sources, piece.bands)
    counts, digests = [], []
    for block in blocks(ds, owners):
        x = block() + 0.0  # -0 and 0 are the same
        flat = (x == x[:, :1]).all(axis=1) & np.isfinite(x[:, 0]) & (x.shape[1] > 1)
        counts.append(np.stack([np.isnan(x).sum(axis=1), np.isinf(x).sum(axis=1), flat * x.shape[1]], axis=1))
        digests += [xxhash.xxh3_128_digest(line) for line in x]
    table = np.concatenate(counts)
    where = (piece.sources[0], piece.processings[0])
    wide = len(np.arange(len(ds.features.cells.sources[where[0]].axis))[piece.bands[where[0]]])
    for k, problem in enumerate(("nan", "inf", "flat")):
        cells = table[place[shared], k]
        for sample, count in zip(piece.samples[cells > 0].tolist(), cells[cells > 0].tolist(), strict=True):
            yield sample, *where, problem, count, None
    for sample, other in _copies(owners.samples, roots_of(index.origins)[owners.samples], digests):
        yield sample, *where, "duplicate", wide, other


def _copies(samples: Array, roots: Array, digests: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Yield each sample whose content is that of an earlier one of another origin, and the first that has it."""
    holders: dict[bytes, tuple[int, set[int]]] = {}
    for sample, root, digest in zip(samples.tolist(), roots.tolist(), digests, strict=True):
        other, known = holders.setdefault(digest, (sample, {root}))
        if root not in known:
            known.add(root)
            yield sample, other
