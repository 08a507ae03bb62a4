"""What a filter selects: samples, rows, processings, sources and wavelengths, resolved once and kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from spectroxr.axis import Axis
from spectroxr.errors import UnknownNameError, nearest
from spectroxr.filters import ALL, Parsed, filter_key, mask_of, parse_filter
from spectroxr.gather import Picks, picks_len, run_of
from spectroxr.index import Index
from spectroxr.matching import SideTable, matching
from spectroxr.rectangle import check_rectangular
from spectroxr.schema import FILTER_KEYS, Array, Filter

__all__ = ["Resolver", "Selection"]


@dataclass(frozen=True)
class Selection:
    """A rectangular selection.

    Attributes
    ----------
    samples : ndarray of uint32, ascending
    rows : slice or ndarray of intp
        Their physical rows; a slice where they are in arithmetic progression.
    processings : tuple of str
        In the order of the dataset.
    sources : tuple of str
        In the order of the dataset.
    bands : dict of str to slice or ndarray
        Wavelengths of each source.
    columns : tuple of str
        Columns by which the filter chose the samples, those that belong to the sample.
    """

    samples: Array
    rows: Picks
    processings: tuple[str, ...]
    sources: tuple[str, ...]
    bands: dict[str, Picks]
    columns: tuple[str, ...] = ()
    memo: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def index(self, index: Index) -> pl.DataFrame:
        """Return the index of the selection, one line per sample, in the order of the spectra.

        ``processing`` is null where a line stands for several, and so is ``branch`` if it differs among them.
        """
        if "index" not in self.memo:
            first, *rest = self.processings
            table = index.part(first, self.samples)
            if rest:
                branch = table["branch"]
                same = np.ones(len(branch), dtype=bool)
                for name in rest:
                    same &= index.part(name, self.samples)["branch"].to_numpy() == branch.to_numpy()
                table = table.with_columns(
                    pl.when(pl.Series(same)).then(pl.col("branch")).otherwise(None).alias("branch"),
                    pl.lit(None, dtype=pl.String).alias("processing"),
                )
            self.memo["index"] = table
        table = self.memo["index"]
        assert isinstance(table, pl.DataFrame)
        return table.clone()


class Resolver:
    """Turns filters into selections, and remembers the last ones.

    Parameters
    ----------
    index : Index
    side : dict of str to SideTable
    axes : callable
        Returns the axes of the sources by name.
    """

    KEPT = 128

    def __init__(self, index: Index, side: dict[str, SideTable], axes: Callable[[], Mapping[str, Axis]]) -> None:
        self.index = index
        self.axes = axes
        self.side = side
        self._kept: OrderedDict[Hashable, tuple[Hashable, Any]] = OrderedDict()

    def _remember(self, key: Hashable, stamp: Hashable, value: Any) -> Any:
        self._kept[key] = (stamp, value)
        while len(self._kept) > self.KEPT:
            try:
                self._kept.popitem(last=False)
            except KeyError:
                break
        return value

    def _stamp(self) -> Hashable:
        return (self.index.version, *[table.version for table in self.side.values()])

    def parse(self, filter: Filter) -> Parsed:
        """Take a filter apart, knowing the columns of metadata and targets."""
        named = filter.meta.root_names() if isinstance(filter, pl.Expr) else filter if isinstance(filter, dict) else ()
        # a table that is yet to be read is left alone by filters that do not name its columns
        own = set(named) <= set(FILTER_KEYS)
        side = {name: table for name, table in self.side.items() if not own or table.unread is None}
        return parse_filter(filter, {name: table.schema for name, table in side.items()})

    def filter_keys(self) -> list[str]:
        """Return what a filter dict may be keyed by."""
        return [*FILTER_KEYS, *(c for t in self.side.values() for c in t.columns)]

    def check_processings(self, filter: Filter) -> None:
        """Raise if the filter names a processing that does not exist."""
        if not isinstance(filter, dict) or "processing" not in filter:
            return
        value = filter["processing"]
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list | tuple | set | frozenset | np.ndarray | pl.Series):
            return
        for name in names:
            if isinstance(name, str) and name not in self.index.lines:
                raise UnknownNameError(nearest(name, self.index.lines, "processing"))

    def samples(self, filter: Filter) -> Array:
        """Return the samples, ascending, of which some line passes.

        Raises
        ------
        ValueError
            If there are none.
        """
        key = ("samples", filter_key(filter))
        stamp = self._stamp()
        kept = self._kept.get(key)
        if kept is not None and kept[0] == stamp:
            found = kept[1]
        else:
            parsed = self.parse(filter)
            sources, _ = self.pick(parsed)
            lines = self._of_source(matching(self.index, self.side, parsed), parsed, sources)
            self.check_processings(filter)
            if not lines or not sources:
                raise nothing(filter)
            found = lines[0][1]
            for _, more in lines[1:]:
                if len(more) != len(found) or not np.array_equal(more, found):
                    found = np.union1d(found, more)
            found = self._remember(key, stamp, frozen(found))
        assert isinstance(found, np.ndarray)
        return found

    def pick(self, parsed: Parsed, only: str | None = None) -> tuple[tuple[str, ...], dict[str, Picks]]:
        """Return the sources a filter asks for, those without a wanted wavelength left out, and their bands.

        Without any source yet, a filter that names none is let through.

        Raises
        ------
        UnknownNameError
            If it names a source or a single wavelength that does not exist.
        """
        axes = self.axes()
        sources = pick_sources(parsed.source, list(axes))
        if only is not None:
            sources = tuple(name for name in sources if name == only)
        bands = {name: pick_bands(parsed.wavelength, axes[name], name) for name in sources}
        if parsed.wavelength is not ALL:
            sources = tuple(name for name in sources if picks_len(bands[name], len(axes[name])))
        return sources, bands

    def any_cell(self, filter: Filter) -> bool:
        """Tell whether a filter matches a cell of any source; an unknown value is no match."""
        parsed = self.parse(filter)
        try:
            sources, _ = self.pick(parsed)
        except UnknownNameError:
            return False
        return any(
            not self.index.lacks(samples, name, source).all()
            for name, samples in matching(self.index, self.side, parsed)
            for source in sources
        )

    def resolve(self, filter: Filter, stamp: Hashable, only: str | None = None) -> Selection:
        """Return the rectangular selection of a filter.

        Parameters
        ----------
        filter : None, dict or polars.Expr
        stamp : hashable
            Changes whenever sources or axes do.
        only : str, optional
            Leave out all sources but this one.

        Raises
        ------
        NotRectangularError
            If a selected sample lacks a selected processing in a selected source.
        UnknownNameError, ValueError, TypeError
            As `parse_filter`; ValueError also if nothing matches.
        """
        key = ("cells", filter_key(filter), only)
        full = (self._stamp(), stamp)
        kept = self._kept.get(key)
        if kept is not None and kept[0] == full:
            selection = kept[1]
            assert isinstance(selection, Selection)
            return selection
        selection = self._resolved(filter, only, None)
        self._remember(key, full, selection)
        return selection

    def resolve_within(self, samples: Array, filter: Filter) -> Selection:
        """Return the selection of a filter among `samples` (ascending); not kept."""
        return self._resolved(filter, None, samples)

    def _resolved(self, filter: Filter, only: str | None, within: Array | None) -> Selection:
        parsed = self.parse(filter)
        sources, bands = self.pick(parsed, only)
        lines = self._of_source(matching(self.index, self.side, parsed), parsed, sources)
        self.check_processings(filter)
        if within is not None:
            lines = [
                (
                    name,
                    within if len(held) == len(self.index) else np.intersect1d(held, within, assume_unique=True),
                )
                for name, held in lines
            ]
            lines = [line for line in lines if len(line[1])]
        if not lines or not sources:
            raise nothing(filter)
        check_rectangular(self.index, lines, sources)
        roots = dict.fromkeys(root for c in parsed.conditions for root in c.meta.root_names())
        columns = tuple(name for name in roots if name not in ("row", "sample", "processing"))
        return self.select(frozen(lines[0][1]), tuple(name for name, _ in lines), sources, bands, columns)

    def _of_source(
        self, lines: list[tuple[str, Array]], parsed: Parsed, sources: Sequence[str]
    ) -> list[tuple[str, Array]]:
        """Leave out processings that the one selected source has of no sample, unless the filter names processings."""
        if len(sources) != 1 or any("processing" in c.meta.root_names() for c in parsed.conditions):
            return lines
        return [line for line in lines if not self.index.lacks(line[1], line[0], sources[0]).all()]

    def select(
        self,
        samples: Array,
        processings: tuple[str, ...],
        sources: tuple[str, ...],
        bands: dict[str, Picks],
        columns: tuple[str, ...] = (),
    ) -> Selection:
        """Return the selection of known samples (ascending), without asking whether it is rectangular."""
        picked = samples if self.index.in_order else self.index.rows[samples]
        run = run_of(picked)
        rows = frozen(picked.astype(np.intp)) if run is None else run
        return Selection(samples, rows, processings, sources, bands, columns)


def frozen(array: Array) -> Array:
    """Return `array`, marked read-only."""
    array = array.view()
    array.flags.writeable = False
    return array


def nothing(filter: Filter) -> ValueError:
    """Word the error for a filter that matches nothing."""
    return ValueError(f"nothing matches the filter {filter!s}; x_exists(filter) asks without an error.")


def pick_sources(wanted: Any, names: list[str]) -> tuple[str, ...]:
    """Return the names of the sources a filter asks for, in the order of the dataset.

    Raises
    ------
    UnknownNameError
        If one does not exist.
    TypeError
        If `wanted` is of no known kind.
    """
    if wanted is ALL:
        return tuple(names)
    if wanted is None:
        return ()
    if isinstance(wanted, pl.Expr):
        mask = mask_of(pl.DataFrame({"source": names}, schema={"source": pl.String}), [wanted])
        return tuple(name for name, hit in zip(names, mask, strict=True) if hit)
    asked = [wanted] if isinstance(wanted, str | int | np.integer) else list(wanted)
    found = []
    for one in asked:
        if isinstance(one, int | np.integer) and not isinstance(one, bool):
            if not 0 <= one < len(names):
                raise UnknownNameError(f"there is no source {one}; there are {len(names)}: {names}.")
            found.append(names[one])
        elif one in names:
            found.append(str(one))
        else:
            raise UnknownNameError(nearest(one, names, "source"))
    return tuple(name for name in names if name in found)


def pick_bands(wanted: Any, axis: Axis, source: str) -> Picks:
    """Return the positions on an axis that a filter asks for."""
    return slice(0, len(axis), 1) if wanted is ALL else axis.select(wanted, source)
