"""Which samples train and which are kept for the test: partitions by distance, strata, groups or chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from spectroxr.blockwise import of_one_processing
from spectroxr.errors import UnknownNameError, nearest
from spectroxr.grouping import check_complete, groups_of
from spectroxr.inherit import roots_of
from spectroxr.log import enabled, log, quiet
from spectroxr.schema import Array, Filter

if TYPE_CHECKING:
    from spectroxr.dataset import SpectroDataset

__all__ = ["METHODS", "assign_partition", "target_column"]

METHODS: tuple[str, ...] = ("kennard_stone", "spxy", "stratified", "grouped", "random")

#: A continuous target is cut into at most so many strata of equal size.
STRATA = 10


@dataclass(frozen=True)
class _Units:
    """What is assigned as a whole: samples, or groups of them.

    Attributes
    ----------
    samples : ndarray of uint32, ascending
        Originals.
    codes : ndarray of intp, one per sample
        The unit of each.
    labels : sequence
        What to call each unit in an error.
    word : str
        What one unit is.
    """

    samples: Array
    codes: Array
    labels: Sequence[Any]
    word: str

    def __len__(self) -> int:
        return len(self.labels)

    def means(self, values: Array) -> Array:
        """Return the mean of the lines of each unit, float64."""
        values = np.asarray(values, dtype=np.float64)
        if self.word == "sample":
            return values
        order = np.argsort(self.codes, kind="stable")
        counts = np.bincount(self.codes)
        sums = np.add.reduceat(values[order], np.cumsum(counts) - counts, axis=0)
        return np.asarray(sums / counts.reshape(-1, *[1] * (values.ndim - 1)))


def assign_partition(
    ds: SpectroDataset,
    method: str = "kennard_stone",
    test: float | int = 0.25,
    *,
    filter: Filter = None,
    source: str | None = None,
    processing: str | None = None,
    target: str | None = None,
    groups: str | None = None,
    seed: int = 0,
    labels: tuple[str, str] = ("train", "test"),
) -> pl.DataFrame:
    """Part samples into a training and a test set, and write it into ``partition`` of the index.

    Parameters
    ----------
    method : {"kennard_stone", "spxy", "stratified", "grouped", "random"}
        ``kennard_stone``: the training samples cover the spectra evenly: first the two that are farthest apart,
        then again and again the one farthest from its nearest chosen one (Euclidean distances, all wavelengths).
        ``spxy``: the same with the sum of the distances in the spectra and in the target, each divided by the largest.
        ``stratified``: at random, each class of the target in the same proportion on both sides. ``random``: at
        random. ``grouped``: at random, and `groups` must be given.
    test : float or int, default 0.25
        Size of the test set: a fraction between 0 and 1 (rounded to whole samples), or a number of samples. With
        `groups` it is one of groups.
    filter : None, dict or polars.Expr
        Which samples to part (default: all). No other sample changes but those derived from these.
    source, processing : str, optional
        Which spectra Kennard-Stone and SPXY measure distances in (default: the only one that is selected).
    target : str, optional
        Which target SPXY and strata go by, in version ``"raw"`` (default: the only one). Text, booleans and whole
        numbers are classes; floats are cut into up to ten strata of equal size.
    groups : str, optional
        A column of the index, the metadata or the targets: samples with the same value, such as replicates of one
        specimen, land on one side. They count as one, with their mean spectrum and mean target.
    seed : int, default 0
        Seed of what is random; Kennard-Stone and SPXY are not.
    labels : tuple of str, default ("train", "test")
        What to write for the training and the test set.

    Returns
    -------
    polars.DataFrame
        One line per label: ``partition``, ``samples`` (originals), ``augmented`` (samples derived from them), and
        ``groups`` (null without `groups`).

    Raises
    ------
    ValueError
        If the method is unknown, does not take an argument that is given, a value of the target or of `groups` is
        missing, spectra hold NaN or infinities, a class has a single sample or `test` has no room for every class, the
        members of a group are of several classes, or one side would be empty. The dataset is then as it was.
    UnknownNameError
        If a target, a column, a source or a processing does not exist.
    TypeError
        If the target does not fit the method.
    ImportError
        If astartes is missing (extra ``learn``).

    Notes
    -----
    Augmented samples are never assigned themselves: they follow the sample they were derived from, selected or not.
    Kennard-Stone (Kennard, Stone, Technometrics 11 (1969) 137-148) and SPXY (Galvao et al., Talanta 67 (2005) 736-740)
    are those of astartes (Burns et al., Journal of Open Source Software 8 (2023) 5996). They hold all pairs of
    distances: 1.7 and 2.5 GB for 10 000 samples. Equal distances are broken by the order of the samples. What is random
    comes from scikit-learn's ``train_test_split``.

    Examples
    --------
    >>> import numpy as np
    >>> from spectroxr import SpectroDataset
    >>> ds = SpectroDataset()
    >>> ds.add_features([np.array([[0.0], [1.0], [2.0], [10.0]])])
    >>> ds.assign_partition("kennard_stone", test=1)
    shape: (2, 4)
    ┌───────────┬─────────┬───────────┬────────┐
    │ partition ┆ samples ┆ augmented ┆ groups │
    │ ---       ┆ ---     ┆ ---       ┆ ---    │
    │ str       ┆ u32     ┆ u32       ┆ u32    │
    ╞═══════════╪═════════╪═══════════╪════════╡
    │ train     ┆ 3       ┆ 0         ┆ null   │
    │ test      ┆ 1       ┆ 0         ┆ null   │
    └───────────┴─────────┴───────────┴────────┘
    >>> ds.features.index_df["partition"].to_list()
    ['train', 'test', 'train', 'train']
    """
    _check_arguments(method, source, processing, target, groups, labels)
    by_distance = method in ("kennard_stone", "spxy")
    resolver = ds.features.resolver
    chosen = of_one_processing(ds, filter, source, processing) if by_distance else None
    samples = resolver.samples(filter) if chosen is None else chosen.samples
    origins = ds.features.index.origins
    samples = samples[origins[samples] == samples]
    if not len(samples):
        raise ValueError("the filter selects no original sample; augmented ones follow those they are derived from.")
    units = _units(ds, samples, groups)
    count = _test_count(test, units)
    column = None
    if method in ("spxy", "stratified"):
        column = target_column(ds, target, samples)
    if chosen is not None:
        part = resolver.select(samples, chosen.processings, chosen.sources, chosen.bands)
        (spectra,) = ds.features.read(part)
        held_out = _far_apart(units, np.asarray(spectra), column, count)
    else:
        held_out = _drawn(units, count, seed, None if column is None else _strata(column, units, count))
    tested = held_out[units.codes]
    table, ids, side = _assigned(origins, samples, tested, labels)
    if groups is not None:
        sizes = [len(units) - count, count]
        table = table.with_columns(pl.Series("groups", sizes, dtype=pl.UInt32))
    with quiet():
        ds.update_indexes(pl.DataFrame({"sample": ids}), {"partition": side})
    if enabled():
        told = ", ".join(f"{n} {name!r}" for name, n in zip(table["partition"], table["samples"], strict=True))
        log(f"assign_partition: {method}, {told}")
    return table


def target_column(ds: SpectroDataset, target: str | None, samples: Array) -> pl.Series:
    """Return the raw values of one target of some samples.

    Parameters
    ----------
    target : str, optional
        Default: the only one.
    samples : ndarray of uint32

    Raises
    ------
    ValueError
        If there are no targets, several and none is named, or a value is missing.
    UnknownNameError
        If there is no such target.
    TypeError
        If it holds vectors.
    """
    block = ds.targets
    version = block.current(False)
    names = block.columns
    if target is None and len(names) != 1:
        raise ValueError(f"there are several targets, {names}; name one with target=...")
    name = names[0] if target is None else target
    if name not in names:
        raise UnknownNameError(nearest(name, names, "target"))
    column = block.column(name, version).gather(pl.Series(samples)).alias(name)
    if isinstance(column.dtype, pl.List | pl.Array | pl.Struct):
        raise TypeError(f"target {name!r} holds {column.dtype}; one value per sample is needed.")
    check_complete(column, samples, "target")
    return column


def _check_arguments(method: str, source: Any, processing: Any, target: Any, groups: Any, labels: Any) -> None:
    if method not in METHODS:
        raise ValueError(nearest(method, METHODS, "method"))
    takes = {
        "source": method in ("kennard_stone", "spxy"),
        "processing": method in ("kennard_stone", "spxy"),
        "target": method in ("spxy", "stratified"),
    }
    for name, value in (("source", source), ("processing", processing), ("target", target)):
        if value is not None and not takes[name]:
            raise ValueError(f"method {method!r} takes no {name}; leave {name}={value!r} out.")
    if method == "grouped" and groups is None:
        raise ValueError("method 'grouped' keeps groups together: name their column with groups=...")
    pair = list(labels) if isinstance(labels, tuple | list) else []
    if len(pair) != 2 or not all(isinstance(one, str) and one for one in pair) or pair[0] == pair[1]:
        raise ValueError(f"labels are two different names, such as ('train', 'test'), not {labels!r}.")


def _units(ds: SpectroDataset, samples: Array, groups: str | None) -> _Units:
    if groups is None:
        return _Units(samples, np.arange(len(samples)), samples.tolist(), "sample")
    column = ds.features.column(groups).gather(pl.Series(samples)).alias(groups)
    check_complete(column, samples, "value in")
    names, codes = groups_of(column)
    return _Units(samples, codes, names.tolist(), "group")


def _test_count(test: float | int, units: _Units) -> int:
    """Return how many units are held out."""
    if isinstance(test, bool) or not isinstance(test, int | float | np.integer | np.floating):
        raise TypeError(f"test is a fraction between 0 and 1 or a whole number, not {test!r}.")
    whole = isinstance(test, int | np.integer)
    if not whole and not 0 < test < 1:
        raise ValueError(f"test={test!r} is neither a fraction between 0 and 1 nor a whole number of {units.word}s.")
    count = int(test) if whole else round(float(test) * len(units))
    if not 0 < count < len(units):
        raise ValueError(
            f"test={test!r} of {len(units)} {units.word}s makes {count} for the test and {len(units) - count} to "
            "train; each side needs one at least."
        )
    return count


def _far_apart(units: _Units, spectra: Array, column: pl.Series | None, count: int) -> Array:
    """Return which units Kennard-Stone, or SPXY with a target, leaves for the test."""
    try:
        from astartes.samplers import SPXY, KennardStone
    except ImportError as error:
        raise ImportError(
            'Kennard-Stone and SPXY are those of astartes: pip install "spectroxr[learn]"', name=error.name
        ) from error
    bad = ~np.isfinite(spectra).all(axis=1)
    if bad.any():
        raise ValueError(
            f"the spectra of {bad.sum()} samples hold NaN or infinities, the first is sample {units.samples[bad][0]}; "
            "check_spectra lists them, a filter leaves them out."
        )
    x = units.means(spectra)
    train = len(units) - count
    if column is None:
        picked = KennardStone(x, None, None, {}).get_sample_idxs(train)
    else:
        if not column.dtype.is_numeric():
            raise TypeError(f"SPXY needs a target of numbers, {column.name!r} is {column.dtype}; see 'stratified'.")
        y = units.means(column.to_numpy())
        for values, what in ((x, "spectra"), (y, f"values of target {column.name!r}")):
            if not np.isfinite(values).all() or (values == values[0]).all():
                raise ValueError(f"the {what} do not differ, or are not finite: SPXY divides by their distances.")
        picked = SPXY(x, y, None, {}).get_sample_idxs(train)
    held_out = np.ones(len(units), dtype=bool)
    held_out[picked] = False
    return held_out


def _drawn(units: _Units, count: int, seed: int, strata: Array | None) -> Array:
    """Return which units are drawn for the test."""
    from sklearn.model_selection import train_test_split

    _, test = train_test_split(np.arange(len(units)), test_size=count, random_state=seed, stratify=strata)
    held_out = np.zeros(len(units), dtype=bool)
    held_out[test] = True
    return held_out


def _strata(column: pl.Series, units: _Units, count: int) -> Array:
    """Return the stratum of each unit: its class, or a bin of a continuous target.

    Raises
    ------
    ValueError
        If a group holds several classes, a class has one unit, or there are more classes than one side has units.
    """
    smaller = min(count, len(units) - count)
    if column.dtype.is_float() or column.dtype.is_decimal():
        ranks = np.argsort(np.argsort(units.means(column.to_numpy()), kind="stable"), kind="stable")
        bins = max(1, min(STRATA, smaller, len(units) // 2))
        return np.asarray(ranks * bins // len(units))
    names, codes = groups_of(column)
    first = np.zeros(len(units), dtype=np.intp)
    first[units.codes] = codes
    mixed = np.flatnonzero(codes != first[units.codes])
    if len(mixed):
        unit = units.codes[mixed[0]]
        both = [names.tolist()[k] for k in np.unique(codes[units.codes == unit])]
        raise ValueError(
            f"group {units.labels[unit]!r} holds samples of several classes of {column.name!r}: {both}; what is kept "
            "together must be of one class."
        )
    sizes = np.bincount(first, minlength=len(names))
    small = int(sizes.argmin())
    if sizes[small] < 2:
        hint = "; floats are cut into strata instead" if column.dtype.is_numeric() else ""
        raise ValueError(
            f"class {names.tolist()[small]!r} of {column.name!r} has 1 {units.word}, and cannot be on both sides; "
            f"leave it out by the filter, or take another method{hint}."
        )
    if smaller < len(names):
        raise ValueError(
            f"{count} {units.word}s for the test and {len(units) - count} to train do not have room for the "
            f"{len(names)} classes of {column.name!r} on both sides; change test=..."
        )
    return first


def _assigned(
    origins: Array, samples: Array, tested: Array, labels: tuple[str, str]
) -> tuple[pl.DataFrame, Array, pl.Series]:
    """Return the counts, and the samples that change with the label of each: those derived from `samples`, too."""
    sides = np.full(len(origins), -1)
    sides[samples] = tested
    sides = sides[roots_of(origins)]
    ids = np.flatnonzero(sides >= 0).astype(np.uint32)
    sides = sides[ids]
    everyone = np.bincount(sides, minlength=2)
    own = np.bincount(tested.astype(np.intp), minlength=2)
    counts = {"samples": own, "augmented": everyone - own, "groups": [None, None]}
    table = pl.DataFrame(
        {"partition": list(labels), **counts},
        schema={"partition": pl.String, "samples": pl.UInt32, "augmented": pl.UInt32, "groups": pl.UInt32},
    )
    return table, ids, pl.Series(np.array(labels, dtype=object)[sides].tolist(), dtype=pl.String)
