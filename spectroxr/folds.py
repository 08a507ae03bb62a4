"""Folds: which samples train and which validate, without leaks through augmented samples."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from spectroxr.cells import sample_ids
from spectroxr.features import FeatureBlock
from spectroxr.inherit import derived_from
from spectroxr.later import Late, Later
from spectroxr.log import enabled, log
from spectroxr.schema import Array, Filter
from spectroxr.targets import TargetBlock
from spectroxr.together import split_together

__all__ = ["FoldsManager"]


class FoldsManager:
    """A list of folds of sample ids; usually reached as ``ds.folds``."""

    _folds: Late[list[tuple[Array, Array]]] = Late()

    def __init__(self, features: FeatureBlock, targets: TargetBlock) -> None:
        self._features = features
        self._targets = targets
        self._folds = []

    def __len__(self) -> int:
        return len(self._folds)

    @property
    def folds(self) -> list[dict[str, list[int]]]:
        """The folds as they were set: ``{"train": [sample ids], "val": [sample ids]}``."""
        return [{"train": train.tolist(), "val": val.tolist()} for train, val in self._folds]

    def set_folds(
        self,
        splitter: Any,
        /,
        *args: Any,
        filter: Filter = None,
        target: str | None = None,
        groups: str | Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Set the folds, replacing earlier ones.

        Parameters
        ----------
        splitter : splitter, splitter class or iterable
            A scikit-learn splitter, or its class with its arguments (``set_folds(KFold, n_splits=5)``): it splits the
            original samples that `filter` selects, never augmented ones. Or an iterable of ``(train, val)`` sample ids.
        *args, **kwargs
            For a splitter class.
        filter : None, dict or polars.Expr
            Which originals to split (default: all).
        target : str, optional
            The target a stratified splitter needs (default: the only one).
        groups : str or sequence, optional
            What a group splitter keeps together: a column of the index, the metadata or the targets, or one value per
            original sample. A splitter that takes no account of them, such as ``KFold``, is refused if it parts one.

        Raises
        ------
        ValueError
            If a sample or a group is on both sides of a fold, a sample comes twice, a side is empty, an augmented
            sample would validate, or would train while its origin validates. The earlier folds then stay.
        UnknownNameError, TypeError
            If a sample or column does not exist, or arguments do not fit.
        """
        if hasattr(splitter, "split") and not isinstance(splitter, str):
            pairs = self._split(splitter, args, kwargs, filter, target, groups)
        else:
            if args or kwargs or groups is not None or target is not None or filter is not None:
                raise TypeError("an iterable of (train, val) takes no further arguments; those are for splitters.")
            pairs = splitter
        self._folds = folds = self.checked(pairs)
        if enabled():
            log(f"set_folds: {len(folds)} folds")

    @property
    def pairs(self) -> list[tuple[Array, Array]]:
        """The folds as they were set: training and validation samples, ids ascending."""
        return list(self._folds)

    def checked(self, folds: Any) -> list[tuple[Array, Array]]:
        """Return an iterable of ``(train, val)`` sample ids as ascending arrays.

        Raises
        ------
        ValueError, TypeError, UnknownNameError
            As `set_folds`.
        """
        known = self._features.n_samples()
        checked = [self._checked(k, train, val, known) for k, (train, val) in enumerate(_pairs(folds))]
        if not checked:
            raise ValueError("there is no fold.")
        return checked

    def _split(
        self, splitter: Any, args: Any, kwargs: Any, filter: Filter, target: str | None, groups: Any
    ) -> list[tuple[Array, Array]]:
        if inspect.isclass(splitter):
            splitter = splitter(*args, **kwargs)
        elif args or kwargs:
            raise TypeError("arguments go with a splitter class, such as set_folds(KFold, n_splits=5).")
        ids = self._features.resolver.samples(filter)
        origins = self._features.index.origins
        ids = ids[origins[ids] == ids]
        if not len(ids):
            raise ValueError("the filter selects no original sample.")
        y = None
        if target is not None:
            y = self._targets.values(ids, None, target)
        elif len(self._targets.columns) == 1:
            # most splitters need no target: one that is incomplete is none
            with contextlib.suppress(ValueError):
                y = self._targets.values(ids, None, self._targets.columns[0])
            if y is not None and y.dtype.kind == "f" and np.isnan(y).any():
                y = None
        if isinstance(groups, str):
            groups = self._features.column(groups).gather(pl.Series(ids)).to_numpy()
        if groups is not None and len(groups) != len(ids):
            raise ValueError(f"{len(groups)} groups for {len(ids)} original samples.")
        return [(ids[a], ids[b]) for a, b in split_together(splitter, np.zeros((len(ids), 1)), y, groups)]

    def _checked(self, k: int, train: Any, val: Any, known: int) -> tuple[Array, Array]:
        sides = []
        for name, given in (("train", train), ("val", val)):
            array = np.asarray(given)
            if array.dtype == bool:
                raise TypeError(f"fold {k}: {name} is a mask; give sample ids.")
            ids = sample_ids(array, known)
            if not len(ids):
                raise ValueError(f"fold {k}: {name} is empty.")
            if len(ids) < len(array):
                raise ValueError(f"fold {k}: {name} names a sample twice.")
            sides.append(np.sort(ids))
        both = np.intersect1d(sides[0], sides[1])
        if len(both):
            raise ValueError(f"fold {k}: sample {both[0]} trains and validates.")
        origins = self._features.index.origins
        derived = sides[1][origins[sides[1]] != sides[1]]
        if len(derived):
            raise ValueError(
                f"fold {k}: sample {derived[0]} is augmented and cannot validate; split the originals, for instance "
                "set_folds(KFold, n_splits=5)."
            )
        leaks = np.intersect1d(self._descendants(sides[1]), sides[0])
        if len(leaks):
            raise ValueError(f"fold {k}: sample {leaks[0]} trains while the sample it was derived from validates.")
        return sides[0], sides[1]

    def _descendants(self, samples: Array) -> Array:
        """Return every sample derived, in any number of steps, from `samples`."""
        return np.flatnonzero(derived_from(self._features.index.origins, samples)).astype(np.uint32)

    def sides(self, augmented: bool = True) -> Iterator[tuple[Array, Array]]:
        """Yield the training and validation samples of each fold, ids ascending.

        Parameters
        ----------
        augmented : bool
            Let the samples derived from training samples train too.
        """
        for train, val in self._folds:
            children = self._descendants(train) if augmented else train[:0]
            yield (np.union1d(train, children) if len(children) else train), val

    def fold_generator(self, *, augmented: bool = True) -> Iterator[dict[str, list[int]]]:
        """Return an iterator over the folds as ``{"train": [sample ids], "val": [sample ids]}``.

        Parameters
        ----------
        augmented : bool, default True
            Samples derived from a training sample train too. Those of a validation sample are in neither list.
        """
        if enabled():
            log(f"fold_generator: {len(self)} folds")
        return ({"train": train.tolist(), "val": val.tolist()} for train, val in self.sides(augmented))

    def get_data(
        self,
        dataset: Any = None,
        layout: str = "2d",
        *,
        filter: Filter = None,
        src_concat: bool = False,
        processed: bool = True,
        target: str | Sequence[str] | None = None,
        augmented: bool = True,
    ) -> Iterator[tuple[tuple[Array, ...], Array, tuple[Array, ...], Array]]:
        """Return an iterator over ``X_train, y_train, X_val, y_val``, fold by fold.

        Parameters
        ----------
        dataset : SpectroDataset, optional
            The dataset whose features and targets to take (default: the one the folds belong to).
        layout, src_concat
            As in `x`.
        filter : None, dict or polars.Expr
            Which processings, sources, wavelengths and samples of the folds to take (default: all).
        processed, target
            As in `y`.
        augmented : bool, default True
            As in `fold_generator`.

        Returns
        -------
        iterator of tuple
            X as `x` returns it, a tuple of read-only arrays; y as `y` returns it. Each fold is read when it is asked
            for.

        Raises
        ------
        ValueError
            If no folds are set, or a fold has no sample that the filter selects.
        """
        if not self._folds:
            raise ValueError("no folds are set; set_folds(KFold, n_splits=5) comes first.")
        features = self._features if dataset is None else dataset.features
        targets = self._targets if dataset is None else dataset.targets
        if enabled():
            log(f"get_data: {len(self)} folds, layout {layout}")
        version = targets.current(processed)

        def parts() -> Iterator[tuple[tuple[Array, ...], Array, tuple[Array, ...], Array]]:
            for train, val in self.sides(augmented):
                (fitting, x_train), (held_out, x_val) = features.x_of((train, val), filter, layout, src_concat)
                yield (
                    x_train,
                    targets.values(fitting, version, target),
                    x_val,
                    targets.values(held_out, version, target),
                )

        return parts()

    @property
    def unread(self) -> Later[Any] | None:
        """What this will be read from when it is first asked for; None if it is here."""
        return FoldsManager._folds.unread(self)

    def snapshot(self) -> Any:
        """Return what is to be stored: the folds, or, unread, where they are."""
        unread = self.unread
        return self.folds if unread is None else unread

    def restore(self, folds: Any) -> None:
        """Take back what was stored."""
        self._folds = folds.then(_restored) if isinstance(folds, Later) else _restored(folds)


def _restored(folds: Any) -> list[tuple[Array, Array]]:
    return [
        (np.asarray(fold["train"], dtype=np.uint32), np.asarray(fold["val"], dtype=np.uint32)) for fold in folds or []
    ]


def _pairs(folds: Any) -> list[tuple[Any, Any]]:
    pairs = []
    if isinstance(folds, str):
        raise TypeError(f"folds come from a splitter, such as KFold(5), or an iterable of (train, val), not {folds!r}.")
    try:
        given = list(folds)
    except TypeError:
        raise TypeError(
            f"folds come from a splitter or an iterable of (train, val), not from {type(folds).__name__}."
        ) from None
    for fold in given:
        if isinstance(fold, Mapping):
            if set(fold) != {"train", "val"}:
                raise ValueError(f"a fold has the keys 'train' and 'val', not {sorted(map(str, fold))}.")
            pairs.append((fold["train"], fold["val"]))
            continue
        try:
            train, val = fold
        except (TypeError, ValueError):
            raise TypeError(f"a fold is (train, val), not {fold!r}.") from None
        pairs.append((train, val))
    return pairs
