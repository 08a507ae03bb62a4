"""The index: which samples exist, in which processings, on which physical row, with which labels.

One line per existing (sample, processing). ``row``, ``origin``, ``partition`` and ``group`` belong to the
sample; ``branch`` belongs to the line. Sample ids are dense: sample ``i`` is line ``i`` of `samples`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import polars as pl

from spectroxr.indextable import check_table
from spectroxr.later import Late, Later
from spectroxr.lines import Lines, from_sorted
from spectroxr.schema import HOLES_SCHEMA, INDEX_SCHEMA, SAMPLE_COLUMNS, Array

__all__ = ["Index", "Lines", "distinct"]

LARGEST = 2**32 - 1


def distinct(samples: Array) -> Array:
    """Return the distinct values of `samples` in the order of their first appearance."""
    if len(samples) < 2 or bool(np.all(samples[1:] > samples[:-1])):
        return samples
    _, first = np.unique(samples, return_index=True)
    return samples[np.sort(first)]


Held: TypeAlias = tuple[pl.DataFrame, dict[str, Lines], dict[tuple[str, str], Array]]


class Index:
    """Authoritative table of samples and their versions.

    Every change builds new columns and swaps them in at the end, so that a reader in another thread sees
    the index before or after, and an error leaves it as it was.

    Attributes
    ----------
    version : int
        Grows with every change; caches are keyed by it.
    """

    _held: Late[Held] = Late()

    def __init__(
        self,
        samples: pl.DataFrame | None = None,
        lines: dict[str, Lines] | None = None,
        holes: dict[tuple[str, str], Array] | None = None,
    ) -> None:
        if samples is None:
            samples = pl.DataFrame(schema={name: INDEX_SCHEMA[name] for name in SAMPLE_COLUMNS})
        self._held = (samples, lines or {}, holes or {})
        self.version = 0
        self._table: tuple[int, pl.DataFrame] | None = None
        self._rows: tuple[int, Array] | None = None
        self._order: tuple[int, bool] | None = None

    @property
    def samples(self) -> pl.DataFrame:
        """``row, sample, origin, partition, group``; line ``i`` is sample ``i``."""
        return self._held[0]

    @property
    def lines(self) -> dict[str, Lines]:
        """What exists per processing, in the order in which the processings were first written."""
        return self._held[1]

    @property
    def holes(self) -> dict[tuple[str, str], Array]:
        """Per (processing, source) the samples, ascending, uint32, whose line that source does not have."""
        return self._held[2]

    def __len__(self) -> int:
        return self.samples.height

    @property
    def processings(self) -> tuple[str, ...]:
        """Names of the processings, in the order in which they were first written."""
        return tuple(self.lines)

    @property
    def rows(self) -> Array:
        """Physical row of each sample, shape ``(sample,)``, intp."""
        if self._rows is None or self._rows[0] != self.version:
            self._rows = (self.version, self.samples["row"].to_numpy().astype(np.intp))
        return self._rows[1]

    @property
    def in_order(self) -> bool:
        """Whether sample ``i`` sits on row ``i`` throughout."""
        if self._order is None or self._order[0] != self.version:
            row = self.samples["row"].to_numpy()
            self._order = (self.version, bool(np.array_equal(row, np.arange(len(row), dtype=np.uint32))))
        return self._order[1]

    @property
    def origins(self) -> Array:
        """Origin of each sample, shape ``(sample,)``, uint32."""
        return self.samples["origin"].to_numpy()

    @property
    def table(self) -> pl.DataFrame:
        """The seven columns, lines ordered by processing (oldest first), then by sample."""
        if self._table is None or self._table[0] != self.version:
            self._table = (self.version, self._denormalise())
        return self._table[1]

    def _denormalise(self) -> pl.DataFrame:
        parts = [self.part(name) for name in self.lines]
        if not parts:
            return pl.DataFrame(schema=INDEX_SCHEMA)
        return pl.concat(parts, rechunk=True)

    def part(self, processing: str, samples: Array | None = None) -> pl.DataFrame:
        """Lines of one processing, of all its samples or of those given (which must have it)."""
        lines = self.lines[processing]
        branch = lines.branch
        chosen = lines.samples
        if samples is not None:
            branch = branch[np.searchsorted(chosen, samples)]
            chosen = samples
        whole = len(chosen) == len(self) and (samples is None or bool(np.all(chosen[1:] > chosen[:-1])))
        owners = self.samples if whole else self.samples[chosen]
        return owners.with_columns(
            pl.Series("branch", branch, dtype=pl.UInt32),
            pl.lit(processing, dtype=pl.String).alias("processing"),
        )

    def has(self, samples: Array, processing: str) -> Array:
        """Tell for each of `samples` whether it has a line in `processing`."""
        if processing not in self.lines:
            return np.zeros(len(samples), dtype=bool)
        known = self.lines[processing].samples
        if len(known) == len(self):
            return np.ones(len(samples), dtype=bool)
        where = np.searchsorted(known, samples)
        where[where == len(known)] = 0
        return np.asarray(known[where] == samples) if len(known) else np.zeros(len(samples), dtype=bool)

    def lacks(self, samples: Array, processing: str, source: str) -> Array:
        """Tell for each of `samples` whether `source` has a hole where the line is."""
        hole = self.holes.get((processing, source))
        if hole is None or not len(hole):
            return np.zeros(len(samples), dtype=bool)
        return np.isin(samples, hole)

    def next_ids(self, count: int) -> Array:
        """Ids for `count` new samples; never used before.

        Raises
        ------
        OverflowError
            If they would not fit uint32.
        """
        if len(self) + count > LARGEST:
            raise OverflowError(f"{len(self)} + {count} samples exceed what uint32 ids can number ({LARGEST}).")
        return np.arange(len(self), len(self) + count, dtype=np.uint32)

    def append(
        self,
        rows: Array,
        origins: Array,
        partition: pl.Series,
        group: pl.Series,
        branch: dict[str, tuple[Array, Array]],
        holes: dict[tuple[str, str], Array] | None = None,
    ) -> None:
        """Add samples, and their lines per processing.

        Parameters
        ----------
        rows, origins : ndarray of uint32, shape (new,)
        partition, group : polars.Series
            One value per new sample; may hold nulls.
        branch : dict
            Per processing the new samples that have it (ascending) and the branch of each of those lines.
        holes : dict, optional
            Lines that a source does not have, to add to the known ones.
        """
        ids = self.next_ids(len(rows))
        new = pl.DataFrame(
            {
                "row": pl.Series(rows, dtype=pl.UInt32),
                "sample": pl.Series(ids, dtype=pl.UInt32),
                "origin": pl.Series(origins, dtype=pl.UInt32),
                "partition": partition.cast(pl.String),
                "group": group.cast(pl.UInt32),
            }
        )
        samples = self.samples.vstack(new)
        if samples.n_chunks() > 64:
            samples = samples.rechunk()
        lines = dict(self.lines)
        for processing, (who, branches) in branch.items():
            old = lines.get(processing)
            lines[processing] = (
                Lines(who, branches)
                if old is None
                else Lines(np.concatenate([old.samples, who]), np.concatenate([old.branch, branches]))
            )
        self.swap(samples, lines, self._more_holes(holes or {}))

    def write(
        self,
        processing: str,
        samples: Array,
        sources: Sequence[str],
        absent: Sequence[str],
        moved: tuple[Array, Array] | None = None,
        branch: Array | None = None,
    ) -> None:
        """Record that `sources` now have (`samples`, `processing`), and where samples moved to.

        Parameters
        ----------
        processing : str
        samples : ndarray of uint32, ascending
        sources, absent : sequence of str
            Sources that were written, and those that were not: where the line is new, these get a hole.
        moved : (samples, rows), optional
            Samples that were given another row.
        branch : ndarray, optional
            Branch of each line that is new (default: that of the sample's first line).
        """
        had = self.has(samples, processing)
        fresh = samples[~had]
        lines = dict(self.lines)
        if len(fresh) or processing not in lines:
            branches = self.first_branch(fresh) if branch is None else branch[~had]
            old = lines.get(processing)
            if old is None or not len(old.samples) or (len(fresh) and fresh[0] > old.samples[-1]):
                before = ([old.samples], [old.branch]) if old is not None else ([], [])
                lines[processing] = Lines(
                    np.concatenate([*before[0], fresh]).astype(np.uint32, copy=False),
                    np.concatenate([*before[1], branches]).astype(np.uint32, copy=False),
                )
            else:
                everyone = np.concatenate([old.samples, fresh])
                order = np.argsort(everyone, kind="stable")
                lines[processing] = Lines(everyone[order], np.concatenate([old.branch, branches])[order])
        holes = self._more_holes({(processing, name): fresh for name in absent})
        for name in sources:
            if (processing, name) in holes:
                holes[processing, name] = np.setdiff1d(holes[processing, name], samples, assume_unique=True)
        table = self.samples
        if moved is not None and len(moved[0]):
            row = table["row"].to_numpy().copy()
            row[moved[0]] = moved[1]
            table = table.with_columns(pl.Series("row", row, dtype=pl.UInt32))
        self.swap(table, lines, holes)

    def first_branch(self, samples: Array) -> Array:
        """Branch of the oldest line of each sample."""
        branch = np.zeros(len(samples), dtype=np.uint32)
        open_ = np.ones(len(samples), dtype=bool)
        for name, lines in self.lines.items():
            if not open_.any():
                break
            hit = open_ & self.has(samples, name)
            branch[hit] = lines.branch[np.searchsorted(lines.samples, samples[hit])]
            open_ &= ~hit
        return branch

    def relabel(self, samples: pl.DataFrame, branches: dict[str, Array]) -> None:
        """Replace the columns of the samples, and the branches of the lines of some processings."""
        lines = dict(self.lines)
        for name, values in branches.items():
            lines[name] = Lines(lines[name].samples, values)
        self.swap(samples, lines, self.holes)

    def rename(self, processing: str, to: str) -> None:
        """Give a processing another name, in its place."""
        lines = {to if name == processing else name: value for name, value in self.lines.items()}
        holes = {(to if name == processing else name, src): v for (name, src), v in self.holes.items()}
        self.swap(self.samples, lines, holes)

    def set_holes(self, holes: dict[tuple[str, str], Array]) -> None:
        """Replace what is known of holes (after sources were merged, split or added)."""
        self.swap(self.samples, self.lines, {key: hole for key, hole in holes.items() if len(hole)})

    def with_rows(self, rows: Array) -> None:
        """Give every sample the row `rows` says."""
        self.swap(self.samples.with_columns(pl.Series("row", rows, dtype=pl.UInt32)), self.lines, self.holes)

    def _more_holes(self, more: dict[tuple[str, str], Array]) -> dict[tuple[str, str], Array]:
        holes = dict(self.holes)
        for key, samples in more.items():
            if len(samples):
                holes[key] = np.union1d(holes[key], samples) if key in holes else samples
        return holes

    def swap(self, samples: pl.DataFrame, lines: dict[str, Lines], holes: dict[tuple[str, str], Array]) -> None:
        """Replace all parts at once."""
        self._held = (samples, lines, holes)
        self.version += 1

    def holes_table(self) -> pl.DataFrame:
        """Lines that a source does not have: ``sample, processing, source``."""
        parts = [
            pl.DataFrame({"sample": hole}, schema={"sample": pl.UInt32}).with_columns(
                pl.lit(processing, dtype=pl.String).alias("processing"),
                pl.lit(source, dtype=pl.String).alias("source"),
            )
            for (processing, source), hole in self.holes.items()
            if len(hole)
        ]
        return pl.concat(parts) if parts else pl.DataFrame(schema=HOLES_SCHEMA)

    @classmethod
    def from_tables(cls, table: pl.DataFrame, holes: pl.DataFrame, order: Sequence[str]) -> Index:
        """Rebuild an index from its table, the table of its holes and the order of its processings.

        Raises
        ------
        ValueError
            If the lines contradict each other.
        """
        quick = from_sorted(table, order)
        if quick is not None:
            index = cls(*quick)
            index._take_holes(holes)
            return index
        check_table(table)
        named = table["processing"].unique(maintain_order=True).to_list()
        if set(named) != set(order):
            raise ValueError(f"the index has lines of processings {named}, but there are {list(order)}.")
        samples = table.select(SAMPLE_COLUMNS).unique("sample").sort("sample")
        if not np.array_equal(samples["sample"].to_numpy(), np.arange(samples.height, dtype=np.uint32)):
            raise ValueError("the samples of an index must be numbered 0, 1, 2, ... without a gap.")
        index = cls(samples=samples)
        for name in order:
            part = table.filter(pl.col("processing") == name).sort("sample")
            index.lines[name] = Lines(part["sample"].to_numpy(), part["branch"].to_numpy())
        index._take_holes(holes)
        return index

    def _take_holes(self, holes: pl.DataFrame) -> None:
        if not holes.height:
            return
        for (name, source), group in holes.group_by(["processing", "source"], maintain_order=True):
            self.holes[str(name), str(source)] = np.sort(group["sample"].to_numpy())

    def adopt(self, other: Index | Later[Index]) -> None:
        """Become what `other` is, when that is known."""
        self._held = other.then(lambda index: index._held) if isinstance(other, Later) else other._held
        self.version += 1

    def replace(self, table: pl.DataFrame) -> None:
        """Take the labels of `table`, which must have the same lines as this index.

        Raises
        ------
        ValueError
            If columns or lines are missing, added or contradict each other.
        """
        given = check_table(table)
        mine = self.table
        keys = ["sample", "processing"]
        if given.height != mine.height or not given.select(keys).sort(keys).equals(mine.select(keys).sort(keys)):
            raise ValueError(
                "index_df must keep its lines: one per existing (sample, processing), "
                f"{mine.height} now, {given.height} given. Add lines with add_features, update_x or the "
                "augment methods."
            )
        owners = given.select(SAMPLE_COLUMNS).unique("sample").sort("sample")
        for column in ("row", "origin"):
            if not owners[column].equals(self.samples[column]):
                raise ValueError(f"column {column!r} of the index is set by the dataset and cannot be changed.")
        branches = {
            name: given.filter(pl.col("processing") == name).sort("sample")["branch"].to_numpy() for name in self.lines
        }
        self.relabel(owners, branches)
