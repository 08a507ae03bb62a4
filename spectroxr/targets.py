"""Targets: what is to be predicted, in its versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from spectroxr.cells import check_name, sample_ids
from spectroxr.errors import UnknownNameError, nearest
from spectroxr.index import Index
from spectroxr.inherit import check_samples, inherited, spread
from spectroxr.joins import check_width, overlaid
from spectroxr.later import Late, Later, value_of
from spectroxr.log import enabled, log
from spectroxr.metadata import check_columns
from spectroxr.schema import Array, Filter
from spectroxr.selection import Resolver
from spectroxr.stacking import column_of, stacked
from spectroxr.versions import from_long_table, long_table

__all__ = ["TargetBlock"]


class TargetBlock:
    """Target columns of any dtype, one table per version; usually reached as ``ds.targets``.

    ``"raw"`` is what was added. ``"regression"``, ``"category"`` and ``"ohe"`` are reserved by the specification
    for a numeric representation, class indices and one-hot vectors; any other name may be given too.
    """

    _versions: Late[dict[str, pl.DataFrame]] = Late()

    def __init__(self, index: Index) -> None:
        self._index = index
        self._versions = {}
        self._document: dict[str, Any] = {}
        self._written: dict[tuple[str, str], int] = {}
        self._dense: dict[tuple[str, str], tuple[int, pl.Series]] = {}
        #: What brings predictions of a version of a target back to its units, see `encode_targets`.
        self.records: dict[tuple[str, str], dict[str, Any]] = {}
        self.version = 0
        self.resolver: Resolver

    @property
    def versions(self) -> tuple[str, ...]:
        """Names of the versions: ``"raw"`` first, the others in the order in which they were last written."""
        return tuple(self._versions)

    @property
    def columns(self) -> list[str]:
        """Names of the targets."""
        return [name for name in self._raw.columns if name != "sample"] if self._versions else []

    @property
    def schema(self) -> dict[str, Any]:
        """Dtypes of the targets as filters see them, in version ``"raw"``."""
        return {name: self._raw.schema[name] for name in self.columns}

    @property
    def _raw(self) -> pl.DataFrame:
        return self._versions.get("raw", next(iter(self._versions.values())))

    @property
    def table(self) -> pl.DataFrame:
        """All versions below each other: ``sample``, the targets, ``processing``.

        A target whose dtype differs between versions has a column per dtype, named ``target@version``.
        """
        return long_table(self._versions)[0]

    def add_targets(self, y_df: pl.DataFrame) -> None:
        """Add targets, or lines of them.

        Parameters
        ----------
        y_df : polars.DataFrame
            ``sample``, one column per target (any dtype; a list column ``targets`` holds several), and optionally
            ``processing`` (default ``"raw"``). Without ``sample``, line k is the k-th sample (or original).

        Raises
        ------
        TypeError, ValueError, UnknownNameError
            If a sample does not exist, comes twice or has that target already, columns or dtypes differ from those
            there, or a name is taken by the index. The dataset is then as it was.
        """
        if isinstance(y_df, pl.DataFrame) and "processing" in y_df.columns:
            named = y_df["processing"].unique(maintain_order=True).to_list()
            parts = {v: y_df.filter(pl.col("processing").eq_missing(v)).drop("processing") for v in named}
        else:
            parts = {"raw": y_df}
        merged = {}
        for name, part in parts.items():
            check_name(name, "processing")
            merged[name] = self._extended(name, check_samples(part, self._index, "targets"))
        versions = {name: frame for name, frame in self._versions.items() if name not in merged} | merged
        if "raw" in versions:
            versions = {"raw": versions.pop("raw"), **versions}
        base = next(iter(versions.values()))
        for name, frame in versions.items():
            strange = [column for column in frame.columns if column not in base.columns]
            if strange:
                raise ValueError(
                    f"version {name!r} has the target {strange[0]!r}, which {next(iter(versions))!r} has not; add it "
                    "there first."
                )
        self._versions = versions
        for name, part in parts.items():
            self._note(name, [column for column in part.columns if column != "sample"])
        self.version += 1
        if enabled():
            log(f"add_targets: {sum(p.height for p in parts.values())} lines, versions {list(parts)}")

    def _extended(self, version: str, new: pl.DataFrame) -> pl.DataFrame:
        names = [name for name in new.columns if name != "sample"]
        check_columns(names, "the targets")
        if not names:
            raise ValueError("the targets have no column besides 'sample'.")
        for name in names:
            if new.schema[name] == pl.Object:
                raise TypeError(f"target {name!r} holds Python objects, which cannot be stored; convert it.")
        if new["sample"].is_duplicated().any():
            twice = new["sample"].filter(new["sample"].is_duplicated())[0]
            raise ValueError(f"the targets give sample {twice} twice in version {version!r}.")
        old = self._versions.get(version)
        if old is None:
            return new.select("sample", *names).sort("sample")
        for name in names:
            kind = old.schema.get(name)
            if kind is not None and kind != new.schema[name] and pl.Null not in (kind, new.schema[name]):
                raise TypeError(
                    f"target {name!r} is {kind} in version {version!r}, the new values are {new.schema[name]}."
                )
        joined = old.join(new, on="sample", how="full", coalesce=True, suffix="\0new")
        for name in names:
            if name in old.columns:
                both = joined.filter(pl.col(name).is_not_null() & pl.col(f"{name}\0new").is_not_null())
                if both.height:
                    raise ValueError(
                        f"sample {both['sample'][0]} has target {name!r} in version {version!r} already; change it "
                        "with update_y."
                    )
                joined = joined.with_columns(pl.coalesce(name, f"{name}\0new").alias(name)).drop(f"{name}\0new")
        return joined.sort("sample")

    def update_y(
        self, new_values: Any, indexes: Any, processing_id: str, *, target: str | Sequence[str] | None = None
    ) -> None:
        """Write a version of the targets for some samples.

        Parameters
        ----------
        new_values : array_like, shape (n,) or (n, k)
            One column per target; for a single target, k columns make one vector per sample (one-hot).
        indexes : polars.DataFrame or sequence of int
            The samples: line k of the values belongs to the k-th distinct ``sample``.
        processing_id : str
            A new name adds a version; an existing one is overwritten for those samples.
        target : str or sequence of str, optional
            Which targets the values are of (default: all).

        Raises
        ------
        ValueError, TypeError, UnknownNameError
            If shapes, dtypes, samples or targets do not fit. The dataset is then as it was.
        """
        check_name(processing_id, "processing")
        if not self._versions:
            raise ValueError("there are no targets yet; add_targets comes first.")
        ids = sample_ids(indexes, len(self._index))
        if not len(ids):
            raise ValueError("indexes names no sample.")
        names = self.names(target)
        values = np.asanyarray(new_values)
        if values.ndim not in (1, 2) or len(values) != len(ids):
            raise ValueError(f"{len(ids)} samples need ({len(ids)}, k) values, not {values.shape}.")
        if values.ndim == 1:
            values = values[:, None]
        old = self._versions.get(processing_id)
        columns = {}
        lists = len(names) == 1 and isinstance(self._raw.schema[names[0]], pl.List | pl.Array)
        if lists and old is not None:
            check_width(old, names[0], values.shape[1], processing_id)
        if len(names) == 1 and (lists or values.shape[1] != 1):
            columns[names[0]] = column_of(names[0], values, lists)
        elif values.shape[1] == len(names):
            columns = {name: column_of(name, values[:, [k]], False) for k, name in enumerate(names)}
        else:
            raise ValueError(
                f"{values.shape[1]} columns of values for {len(names)} targets {names}; name one target for a vector "
                "per sample: target='...'."
            )
        new = pl.DataFrame([pl.Series("sample", ids, dtype=pl.UInt32), *columns.values()]).sort("sample")
        self._versions = {
            **{name: frame for name, frame in self._versions.items() if name != processing_id},
            processing_id: new if old is None else overlaid(old, new, processing_id),
        }
        if processing_id == "raw":
            self._versions = {"raw": self._versions.pop("raw"), **self._versions}
        self._note(processing_id, names)
        self.version += 1
        if enabled():
            log(f"update_y: {len(ids)} samples, version {processing_id!r}, targets {names}")

    def names(self, target: str | Sequence[str] | None) -> list[str]:
        """Return the names of some targets, of all for None."""
        if target is None:
            return self.columns
        names = [target] if isinstance(target, str) else list(target)
        if not names or len(set(names)) < len(names):
            raise ValueError(f"target names no target, or one twice: {names}.")
        for name in names:
            if name not in self.columns:
                raise UnknownNameError(nearest(name, self.columns, "target"))
        return names

    def column(self, name: str, version: str | None = None) -> pl.Series:
        """Return one value of a target per sample, ids ascending; null where it and its origin have none."""
        frame = self._raw if version is None else self._versions[version]
        key = (version or "", name)
        stamp = hash((self.version, self._index.version))
        kept = self._dense.get(key)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        values = spread(frame["sample"], frame[name], len(self._index))
        dense = inherited(values, self._index.origins).alias(name)
        self._dense[key] = (stamp, dense)
        return dense

    def y(
        self,
        filter: Filter = None,
        processed: bool = True,
        *,
        processing: str | None = None,
        target: str | Sequence[str] | None = None,
    ) -> Array:
        """Return the targets of the samples a filter selects, in the order of `x` for the same filter.

        Parameters
        ----------
        filter : None, dict or polars.Expr
            A ``processing`` that the targets have, such as ``"raw"`` or ``"regression"``, picks that version (and the
            samples that have it as features, if any do).
        processed : bool, default True
            True: of each target the version other than ``"raw"`` written last, or ``"raw"`` if it has no other. False:
            ``"raw"``.
        processing : str, optional
            Name the version instead.
        target : str or sequence of str, optional
            Which targets (default: all). A single name gives a one-dimensional array.

        Returns
        -------
        ndarray, shape (sample, target) or (sample,)
            Read-only. The dtype of the columns where it is one; else the common one that keeps every value, or object.
            Missing values are NaN in numbers, NaT in times, None in text. A one-hot version has one column per class.

        Raises
        ------
        UnknownNameError
            If the filter, the version or a target names nothing.
        ValueError
            If nothing matches, there are no targets, or a version lacks some of the samples that "raw" has.
        """
        samples, version = self._ask(filter, processed, processing)
        values = self.values(samples, version, target)
        if enabled():
            log(f"y: {len(samples)} samples, version {version or 'latest'}")
        return values

    def values(self, samples: Array, version: str | None = None, target: str | Sequence[str] | None = None) -> Array:
        """Return the targets of known samples in one version (default: of each target the one written last)."""
        self._version(True, None)
        names = self.names(target)
        chosen = {name: self.version_of(name) if version is None else version for name in names}
        lost = [name for name, held in chosen.items() if name not in self._versions[held].columns]
        if target is not None and lost:
            has = self._versions[chosen[lost[0]]].columns[1:]
            raise UnknownNameError(f"target {lost[0]!r} has no version {chosen[lost[0]]!r}; that has {has}.")
        kept = {name: held for name, held in chosen.items() if name not in lost}
        for name, held in kept.items():
            self._check_complete(samples, held, name)
        return stacked([self.column(c, held) for c, held in kept.items()], samples, flat=isinstance(target, str))

    def version_of(self, target: str) -> str:
        """Return the version of a target that `y` gives: the one written last."""
        held = [name for name, frame in self._versions.items() if target in frame.columns]
        return max(held, key=lambda name: -1 if name == "raw" else self._written.get((name, target), 0))

    def _note(self, version: str, targets: Sequence[str]) -> None:
        """Remember that targets were written last in a version, not by what was recorded for it."""
        last = max(self._written.values(), default=0) + 1
        self._written = self._written | {(version, target): last for target in targets}
        gone = {(version, target) for target in targets}
        self.records = {key: record for key, record in self.records.items() if key not in gone}

    def _check_complete(self, samples: Array, version: str, name: str) -> None:
        """Raise where a sample has a value of its own in "raw" (or its origin has), but none in `version`."""
        if version == "raw" or "raw" not in self._versions:
            return
        raw = self.column(name, "raw").is_not_null().to_numpy()[samples]
        has = self.column(name, version).is_not_null().to_numpy()[samples]
        lost = int(((raw & ~has) | self._borrowed(name, version)[samples]).sum())
        if lost:
            raise ValueError(
                f"{lost} of {len(samples)} samples have target {name!r} but not in version {version!r}; take "
                "processed=False, or a filter that leaves them out. Versions are never mixed."
            )

    def _borrowed(self, name: str, version: str) -> Array:
        """Tell for each sample whether its raw value is its own, but that in a version only its origin's."""
        own = [self._own(name, held).is_not_null().to_numpy() for held in ("raw", version)]
        derived = self._index.origins != np.arange(len(self._index))
        return np.asarray(derived & own[0] & ~own[1])

    def _own(self, name: str, version: str) -> pl.Series:
        """Return one value of a target per sample, null where it has none of its own."""
        frame = self._versions[version]
        return spread(frame["sample"], frame[name], len(self._index))

    def _ask(self, filter: Filter, processed: bool, processing: str | None) -> tuple[Array, str | None]:
        rest, named = self._version_in(filter)
        chosen = processing or named
        version = self.current(processed) if chosen is None else self._version(processed, chosen)
        return self.resolver.samples(rest), version

    def _version_in(self, filter: Filter) -> tuple[Filter, str | None]:
        """Read a version of the targets from a filter's ``processing``; taken out unless the features have it too."""
        if not isinstance(filter, dict):
            return filter, None
        value = filter.get("processing")
        if isinstance(value, list | tuple) and len(value) == 1:
            (value,) = value
        if not isinstance(value, str) or value not in self._versions:
            return filter, None
        if value in self._index.lines:
            return filter, value
        return {key: v for key, v in filter.items() if key != "processing"}, value

    def _version(self, processed: bool, processing: str | None) -> str:
        if not self._versions:
            raise ValueError("there are no targets yet; add_targets comes first.")
        if processing is not None:
            if processing not in self._versions:
                raise UnknownNameError(nearest(processing, self._versions, "target version"))
            return processing
        if not processed:
            if "raw" not in self._versions:
                raise ValueError(f"the targets have no version 'raw'; versions: {list(self._versions)}.")
            return "raw"
        return list(self._versions)[-1]

    def current(self, processed: bool = True) -> str | None:
        """Return the version `y` gives: ``"raw"``, or None for the one written last of each target.

        Raises
        ------
        ValueError
            If there are no targets.
        """
        version = self._version(processed, None)
        return None if processed else version

    def get_indexed_targets(self, filter: Filter = None) -> list[tuple[Array, pl.DataFrame]]:
        """Return every version of the targets of the samples a filter selects, each with its index.

        Parameters
        ----------
        filter : None, dict or polars.Expr

        Returns
        -------
        list of (ndarray, polars.DataFrame)
            Per version (only those with a value for one of the samples) the values, as `y`, of the samples that have
            any, and line by line ``row, sample, origin, partition, group, processing``, the last being the version.

        Raises
        ------
        ValueError
            If nothing matches or there are no targets.
        """
        rest, named = self._version_in(filter)
        samples = self.resolver.samples(rest)
        self._version(True, None)
        found = []
        for name, frame in self._versions.items():
            if named not in (None, name):
                continue
            columns = [c for c in frame.columns if c != "sample"]
            has = np.zeros(len(self._index), dtype=bool)
            for c in columns:
                has |= self.column(c, name).is_not_null().to_numpy()
            if name != "raw" and "raw" in self._versions:
                for c in columns:
                    has &= ~self._borrowed(c, name)
            some = samples[has[samples]]
            if not len(some):
                continue
            index = self._index.samples[some].with_columns(pl.lit(name, dtype=pl.String).alias("processing"))
            found.append((stacked([self.column(c, name) for c in columns], some, flat=False), index))
        if enabled():
            log(f"get_indexed_targets: {len(samples)} samples, {len(found)} versions")
        return found

    def state(self) -> tuple[Any, ...]:
        """Return what `back` needs to undo additions."""
        return self._versions, self._written, dict(self.records)

    def back(self, state: tuple[Any, ...]) -> None:
        """Take back an earlier state."""
        self._versions, self._written, self.records = state
        self.version += 1

    @property
    def unread(self) -> Later[Any] | None:
        """What this will be read from when it is first asked for; None if it is here."""
        return TargetBlock._versions.unread(self)

    def snapshot(self) -> tuple[pl.DataFrame | Later[pl.DataFrame], dict[str, Any]]:
        """Return what is to be stored: the long table, and how its columns belong to versions."""
        unread = self.unread
        if unread is not None:
            return unread, self._document
        table, names = long_table(self._versions)
        written = [[version, target, place] for (version, target), place in self._written.items()]
        versions = [[version, [[*pair] for pair in columns.items()]] for version, columns in names.items()]
        document: dict[str, Any] = {"versions": versions, "written": written}
        if self.records:
            document["records"] = [[version, target, dict(one)] for (version, target), one in self.records.items()]
        return table, document

    def restore(self, table: pl.DataFrame | Later[pl.DataFrame], document: Mapping[str, Any]) -> None:
        """Take back what was stored."""
        if not document:
            if value_of(table).width:
                self.add_targets(value_of(table))
            return
        if isinstance(table, Later):
            self._document = dict(document)
            self._versions = table.then(lambda whole: from_long_table(whole, document))
        else:
            self._versions = from_long_table(table, document)
        self._written = {(version, target): place for version, target, place in document.get("written", [])}
        self.records = {(version, target): dict(one) for version, target, one in document.get("records", [])}
        self.version += 1
