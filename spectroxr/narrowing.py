"""Which parts of a table can hold what a filter asks for, known without looking at their lines again."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from spectroxr.schema import Filter

__all__ = ["Narrowing"]

#: Columns of predictions that usually have one value in all lines that were added together.
_KEYS = ("model", "fold", "repeat", "seed")
#: What is kept of parts that are gone is thrown away at so many.
_MOST = 8192


class Narrowing:
    """Remembers of parts which columns have one value in all lines, as long as the parts live.

    Examples
    --------
    >>> known, schema = Narrowing(), {"model": pl.String, "fold": pl.Int64, "repeat": pl.Int64, "seed": pl.Int64}
    >>> lines = [{"model": [name], "fold": 0, "repeat": 0, "seed": None} for name in ("PLS", "PCR")]
    >>> parts = [pl.DataFrame(line, schema) for line in lines]
    >>> for part in parts:
    ...     known.note(part)
    >>> [part["model"][0] for part in known.narrowed(parts, {"model": "PLS"})]
    ['PLS']
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[pl.DataFrame], dict[str, Any]]] = {}

    def note(self, part: pl.DataFrame) -> None:
        """Look at a part once."""
        if len(self._known) >= _MOST:
            self._known = {key: held for key, held in self._known.items() if held[0]() is not None}
        same = {key: part[key][0] for key in _KEYS if part.height and part[key].n_unique() == 1}
        self._known[id(part)] = (weakref.ref(part), same)

    def narrowed(self, parts: Sequence[pl.DataFrame], filter: Filter) -> list[pl.DataFrame]:
        """Return the parts that can have lines that a filter selects, as far as is known."""
        wanted = _wanted(filter)
        return [part for part in parts if self._may_hold(part, wanted)] if wanted else list(parts)

    def _may_hold(self, part: pl.DataFrame, wanted: Mapping[str, Any]) -> bool:
        held = self._known.get(id(part))
        if held is None or held[0]() is not part:
            return True
        return all(value in wanted[key] for key, value in held[1].items() if key in wanted)


def _wanted(filter: Filter) -> dict[str, list[Any]]:
    """Return the values a filter asks for by name, where they are plain."""
    wanted = {}
    for key in _KEYS if isinstance(filter, dict) else ():
        if key in filter:  # type: ignore[operator]
            given = filter[key]  # type: ignore[index]
            values = list(given) if isinstance(given, list | tuple) else [given]
            if all(one is None or type(one) in (str, int) for one in values):
                wanted[key] = values
    return wanted
