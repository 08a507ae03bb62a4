"""Tables in parts, so that what is appended is written without what was there before. Nothing here knows of files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

__all__ = ["FEW", "MOST", "Part", "joined", "split", "split_lines"]

#: A table of more parts than this has some of them put together.
MOST = 32
#: So many neighbours, those with the fewest lines.
TOGETHER = 16
#: The index is read whole, so it has few.
FEW = 4


@dataclass(frozen=True)
class Part:
    """Some lines of a table, in a file of their own.

    Attributes
    ----------
    number : int
        Of the file; 0 for that with the plain name. Parts are in the order of their numbers.
    lines : int
    processings : tuple of str or None
        Of a part of the index or the targets: it has all lines of these processings
    samples : tuple of int or None
        of the samples from the first to the second.
    """

    number: int
    lines: int
    processings: tuple[str, ...] | None = None
    samples: tuple[int, int] | None = None

    def file(self, table: str) -> str:
        """Return the name of its file.

        Examples
        --------
        >>> Part(0, 10).file("index"), Part(3, 10).file("index")
        ('tables/index.parquet', 'tables/index.3.parquet')
        """
        return f"tables/{table}.parquet" if self.number == 0 else f"tables/{table}.{self.number}.parquet"

    def as_json(self) -> dict[str, Any]:
        """Return what stands in the description of a version."""
        about: dict[str, Any] = {"part": self.number, "lines": self.lines}
        if self.processings is not None and self.samples is not None:
            about |= {"processings": list(self.processings), "samples": list(self.samples)}
        return about

    @staticmethod
    def from_json(about: dict[str, Any]) -> Part:
        """Return what `as_json` was of."""
        samples = about.get("samples")
        processings = about.get("processings")
        return Part(
            int(about["part"]),
            int(about["lines"]),
            None if processings is None else tuple(processings),
            None if samples is None else (int(samples[0]), int(samples[1])),
        )


def split(table: pl.DataFrame, known: Sequence[Part]) -> list[tuple[Part, pl.DataFrame]]:
    """Part a table so that lines which were there before lie in the parts that they lie in.

    Parameters
    ----------
    table : polars.DataFrame
    known : sequence of Part
        Of the version before, as far as they are to be kept; lines were appended below them.

    Returns
    -------
    list of (Part, polars.DataFrame)
        In the order of the lines; at least one.

    Examples
    --------
    >>> table = pl.DataFrame({"sample": [0, 1, 2, 3, 4]})
    >>> [(part.number, part.lines) for part, _ in split(table, [Part(0, 3)])]
    [(0, 3), (1, 2)]
    """
    if _has_categories(table):
        known = ()
    parts: list[Part] = []
    done = 0
    for part in known:
        if done + part.lines > table.height:
            break
        if part.lines:
            parts.append(part)
        done += part.lines
    if done < table.height or not parts:
        number = parts[-1].number + 1 if parts else 0
        parts.append(Part(number, table.height - done))
    while len(parts) > MOST:
        sizes = np.array([part.lines for part in parts])
        first = int(np.argmin(np.convolve(sizes, np.ones(TOGETHER, int), "valid")))
        whole = Part(parts[first].number, int(sizes[first : first + TOGETHER].sum()))
        parts[first : first + TOGETHER] = [whole]
    starts = np.cumsum([0, *(part.lines for part in parts)])
    return [(part, table.slice(int(start), part.lines)) for part, start in zip(parts, starts, strict=False)]


def split_lines(table: pl.DataFrame, known: Sequence[Part], most: int = FEW) -> list[tuple[Part, pl.DataFrame]]:
    """Part an index, or targets, so that lines which were there before lie in the parts that they lie in.

    Each part has all lines of some processings and of a range of samples, in the order of the table.

    Parameters
    ----------
    table : polars.DataFrame
        With columns ``sample`` and ``processing``.
    known : sequence of Part
        Of the version before, as far as they are to be kept.
    most : int
        How many parts there may be; with more, the table becomes one again.

    Returns
    -------
    list of (Part, polars.DataFrame)
        At least one; a single one if the lines are not ordered by processing and sample.
    """
    plain = table["sample"].dtype == pl.UInt32 and table["processing"].dtype == pl.String
    nulls = table["sample"].null_count() + table["processing"].null_count()
    if not table.height or nulls or not plain or _has_categories(table):
        return [(Part(0, table.height), table)]
    runs = table["processing"].rle().struct.unnest()
    names, sizes = runs["value"].to_list(), runs["len"].to_list()
    ids = table["sample"].to_numpy()
    starts = dict(zip(names, np.cumsum([0, *sizes]).tolist(), strict=False))
    ends = {name: starts[name] + size for name, size in zip(names, sizes, strict=True)}
    last = int(ids.max())
    single = [(Part(0, table.height, tuple(names), (0, last)), table)]
    if len(starts) < len(names) or not all(
        bool(np.all(ids[starts[name] + 1 : ends[name]] > ids[starts[name] : ends[name] - 1])) for name in names
    ):
        return [(Part(0, table.height), table)]
    if not known or any(part.processings is None for part in known):
        return single

    def lines_of(part: Part) -> tuple[Part, pl.DataFrame]:
        assert part.processings is not None
        assert part.samples is not None
        chosen = []
        for name in names:
            if name in part.processings:
                mine = ids[starts[name] : ends[name]]
                a, b = np.searchsorted(mine, part.samples[0]), np.searchsorted(mine, part.samples[1], side="right")
                chosen.append(table.slice(starts[name] + int(a), int(b - a)))
        lines = pl.concat(chosen) if chosen else table.clear()
        return replace(part, lines=lines.height), lines

    had = {name for part in known for name in part.processings or ()}
    newest = 1 + max(part.samples[1] for part in known if part.samples is not None)
    number = 1 + max(part.number for part in known)
    old = tuple(name for name in names if name in had)
    new = tuple(name for name in names if name not in had)
    parts = [lines_of(part) for part in known]
    parts.append(lines_of(Part(number, 0, old, (newest, last))))
    parts.append(lines_of(Part(number + 1, 0, new, (0, last))))
    parts = [(part, lines) for part, lines in parts if lines.height]
    if len(parts) > most or sum(part.lines for part, _ in parts) != table.height:
        return single
    return parts or single


def _has_categories(table: pl.DataFrame) -> bool:
    """Tell whether values are numbered within a file, so that files cannot be put together again."""
    return any(word in str(kind) for kind in table.dtypes for word in ("Categorical", "Enum"))


def joined(frames: Sequence[pl.DataFrame], parts: Sequence[Part], order: Sequence[str] | None) -> pl.DataFrame:
    """Put the parts of a table together again.

    Parameters
    ----------
    frames : sequence of polars.DataFrame
    parts : sequence of Part
        Of the same length.
    order : sequence of str or None
        For an index or targets: the processings, in the order that the lines shall have.

    Returns
    -------
    polars.DataFrame
    """
    if len(frames) == 1:
        return frames[0]
    if order is None:
        return pl.concat(frames)
    slices: dict[str, list[tuple[int, pl.DataFrame]]] = {name: [] for name in order}
    for frame, part in zip(frames, parts, strict=True):
        runs = frame["processing"].rle().struct.unnest()
        start = 0
        for name, size in zip(runs["value"].to_list(), runs["len"].to_list(), strict=True):
            first = 0 if part.samples is None else part.samples[0]
            slices.setdefault(name, []).append((first, frame.slice(start, size)))
            start += size
    ordered = [lines for some in slices.values() for _, lines in sorted(some, key=lambda one: one[0])]
    return pl.concat(ordered, rechunk=True)
