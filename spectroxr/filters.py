"""Filters: dicts and Polars expressions, taken apart into what they say of lines, sources and wavelengths."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from spectroxr.errors import UnknownNameError, nearest
from spectroxr.schema import FILTER_KEYS, INDEX_SCHEMA, Filter

__all__ = ["ALL", "Parsed", "condition", "filter_key", "mask_of", "parse_filter", "split_filter"]


#: What a filter says of a key that it does not name.
ALL: Any = object()


@dataclass(frozen=True)
class Parsed:
    """A filter taken apart.

    Attributes
    ----------
    conditions : tuple of polars.Expr
        On the lines of the index; all must hold.
    columns : tuple of str
        Columns of metadata or targets that the conditions need.
    source : object
        What the filter says of ``source``: a name, names, an expression, None (no source is null), or `ALL`.
    wavelength : object
        What it says of ``wavelength``, likewise.
    by_line : bool
        Whether each condition can be told from one line alone, as for values; an expression may look at all lines.
    """

    conditions: tuple[pl.Expr, ...] = ()
    columns: tuple[str, ...] = ()
    source: Any = ALL
    wavelength: Any = ALL
    by_line: bool = False


def filter_key(filter: Filter) -> Hashable:
    """Return a key that is the same for filters that say the same, for caches.

    Raises
    ------
    TypeError
        If the filter is of no known kind, or holds a value that cannot be compared.
    """
    if filter is None:
        return ()
    if isinstance(filter, dict):
        return tuple([(key, _value_key(value)) for key, value in filter.items()])
    if isinstance(filter, pl.Expr):
        return ("expr", filter.meta.serialize())
    raise TypeError(
        "a filter is None, a dict such as {'partition': 'train'} or a Polars expression, "
        f"not {type(filter).__name__}."
    )


def _value_key(value: Any) -> Hashable:
    if value is None or type(value) in (str, int, float, bool):
        return (type(value), value)
    if isinstance(value, slice):
        return ("slice", _value_key(value.start), _value_key(value.stop), _value_key(value.step))
    if isinstance(value, pl.Expr):
        return ("expr", value.meta.serialize())
    if isinstance(value, pl.Series):
        return (str(value.dtype), tuple(value.to_list()))
    if isinstance(value, np.ndarray) and value.dtype != object:
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, range):
        return ("range", value.start, value.stop, value.step)
    if isinstance(value, Sequence | set | frozenset | np.ndarray):
        return (len(value), *[_value_key(item) for item in value])
    if not isinstance(value, Hashable):
        raise TypeError(f"a filter cannot compare with a {type(value).__name__}: {value!r}.")
    return (type(value), value)


def parse_filter(filter: Filter, side_columns: Mapping[str, Mapping[str, Any]]) -> Parsed:
    """Take a filter apart.

    Parameters
    ----------
    filter : None, dict or polars.Expr
    side_columns : mapping of str to mapping of str to dtype
        Columns that each side table (metadata, targets) holds, with their dtypes.

    Raises
    ------
    UnknownNameError
        If a key names nothing; the message gives the nearest name.
    ValueError
        If a name is ambiguous, or an expression mixes lines with sources or wavelengths.
    TypeError
        If a value does not fit its key.
    """
    if filter is None:
        return Parsed(by_line=True)
    if isinstance(filter, pl.Expr):
        return _parse_expression(filter, side_columns)
    if not isinstance(filter, dict):
        filter_key(filter)
    conditions: list[pl.Expr] = []
    columns: list[str] = []
    source = wavelength = ALL
    for key, value in filter.items():
        _locate(key, side_columns)
        if key == "source":
            source = value
            continue
        if key == "wavelength":
            wavelength = value
            continue
        home = next((held for held in side_columns.values() if key in held), None)
        if home is not None:
            columns.append(key)
        conditions.append(condition(key, value, home[key] if home else INDEX_SCHEMA[key]))
    by_line = not any(isinstance(value, pl.Expr) for value in filter.values())
    return Parsed(tuple(conditions), tuple(columns), source, wavelength, by_line)


def _locate(key: Any, side_columns: Mapping[str, Mapping[str, Any]]) -> None:
    homes = [name for name, held in side_columns.items() if key in held]
    own = key in FILTER_KEYS
    if not own and not homes:
        valid = [*FILTER_KEYS, *(c for held in side_columns.values() for c in held)]
        raise UnknownNameError(nearest(key, valid, "filter key"))
    if len(homes) + own > 1:
        both = " and ".join([*(["the index"] if own else []), *homes])
        raise ValueError(f"filter key {key!r} is ambiguous: it is a column of {both}. Rename one of them.")


def _parse_expression(expr: pl.Expr, side_columns: Mapping[str, Mapping[str, Any]]) -> Parsed:
    roots = list(dict.fromkeys(expr.meta.root_names()))
    for name in roots:
        _locate(name, side_columns)
    special = [name for name in roots if name in ("source", "wavelength")]
    if special and len(roots) > 1:
        others = [name for name in roots if name != special[0]]
        raise ValueError(
            f"an expression on {special[0]!r} cannot also be one on {others}: a selection is rectangular. Use a "
            f"dict, such as {{'{others[0]}': ..., '{special[0]}': ...}}; its values may be expressions."
        )
    if special == ["source"]:
        return Parsed(source=expr)
    if special == ["wavelength"]:
        return Parsed(wavelength=expr)
    return Parsed((expr,), tuple(name for name in roots if name not in INDEX_SCHEMA))


def condition(key: str, value: Any, kind: Any) -> pl.Expr:
    """Return the expression for one entry of a filter dict, on a column of dtype `kind`.

    Raises
    ------
    TypeError, ValueError
        If the value is of no known kind, or an expression on another column.
    """
    column = pl.col(key)
    if value is None:
        return column.is_null()
    if isinstance(value, pl.Expr):
        roots = set(value.meta.root_names())
        if roots - {key}:
            raise ValueError(f"the expression given for {key!r} is on {sorted(roots)}; it may only use {key!r}.")
        return value
    if isinstance(value, slice):
        if value.step is not None:
            raise TypeError(f"the range for {key!r} is inclusive and takes no step, not {value}.")
        low = pl.lit(True) if value.start is None else column >= _plain(value.start)
        high = pl.lit(True) if value.stop is None else column <= _plain(value.stop)
        number = column.is_not_nan() if kind.is_float() else column.is_not_null()
        return number & low & high
    if isinstance(value, str | bytes) or not isinstance(
        value, Sequence | set | frozenset | range | np.ndarray | pl.Series
    ):
        plain = _plain(value)
        _check_kind(key, plain, kind)
        return column.is_nan() if isinstance(plain, float) and plain != plain else column == plain
    if isinstance(value, pl.Series):
        listed = value
    elif isinstance(value, np.ndarray):
        if value.ndim > 1:
            raise TypeError(f"the values for {key!r} are one-dimensional, not of shape {value.shape}.")
        listed = pl.Series(np.atleast_1d(value))
    else:
        try:
            listed = pl.Series([_plain(item) for item in value], strict=True)
        except (TypeError, pl.exceptions.PolarsError):
            raise TypeError(f"the values for {key!r} are of several types: {value!r}.") from None
    for item in listed.drop_nulls().head(1):
        _check_kind(key, item, kind)
    known = _fitted(listed.drop_nulls(), kind)
    if known.dtype == pl.String and 0 < known.len() <= 8:  # several times faster than is_in
        some = pl.any_horizontal([column == item for item in known])
    else:
        some = column.is_in(pl.lit(known).implode()) if known.len() else pl.lit(False)
    return some | column.is_null() if listed.null_count() else some


def _fitted(listed: pl.Series, kind: Any) -> pl.Series:
    """Return numbers in the dtype of the column they are compared with, those that it cannot hold left out."""
    if not listed.dtype.is_numeric() or not kind.is_numeric():
        return listed
    if listed.dtype.is_float() and kind.is_integer():
        listed = listed.filter(listed == listed.floor())
    return listed.cast(kind, strict=False).drop_nulls()


def _check_kind(key: str, value: Any, kind: Any) -> None:
    """Raise where a number would be compared with text, a truth value read as 0 or 1, or a list with one value."""
    if isinstance(kind, pl.List | pl.Array | pl.Struct):
        raise TypeError(
            f"{key!r} holds {kind}; filter by an expression on it, such as pl.col({key!r}).list.first() > 1."
        )
    if hasattr(value, "__next__"):
        raise TypeError(f"the filter compares {key!r} with a {type(value).__name__}: {value!r}.")
    text = kind == pl.String or isinstance(kind, pl.Categorical | pl.Enum)
    wrong = isinstance(value, bool) and kind != pl.Boolean
    wrong |= isinstance(value, str) and kind.is_numeric()
    wrong |= isinstance(value, int | float) and text
    if wrong:
        raise TypeError(f"the filter compares {key!r}, which is {kind}, with {value!r}.")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def mask_of(table: pl.DataFrame, conditions: Sequence[pl.Expr]) -> pl.Series:
    """Evaluate conditions on a table: one boolean per line, nulls as False.

    Raises
    ------
    TypeError
        If a condition compares a column with a value of another kind, or is not boolean.
    """
    mask: pl.Series | None = None
    for condition in conditions:
        try:
            one = table.select(condition.alias("mask"))["mask"]
        except pl.exceptions.PolarsError as error:
            kinds = {n: str(table.schema[n]) for n in condition.meta.root_names() if n in table.schema}
            raise TypeError(f"the filter does not fit its columns {kinds}: {str(error).splitlines()[0]}") from None
        if one.dtype != pl.Boolean:
            raise TypeError(f"a filter expression must be boolean, not {one.dtype}.")
        if len(one) == 1 and table.height != 1:
            one = pl.repeat(one[0], table.height, dtype=pl.Boolean, eager=True)
        if len(one) != table.height:
            raise TypeError(f"a filter must give one boolean per line, {table.height}, not {len(one)}.")
        if one.null_count():
            one = one.fill_null(False)
        mask = one if mask is None else mask & one
    assert mask is not None
    return mask


def split_filter(filter: Filter, schema: Mapping[str, Any]) -> tuple[Filter, list[pl.Expr]]:
    """Part a filter into what it says of samples and what it says of lines of the predictions."""
    if filter is None:
        return None, []
    if isinstance(filter, pl.Expr):
        return (None, [filter]) if set(filter.meta.root_names()) & set(schema) else (filter, [])
    if not isinstance(filter, dict):
        raise TypeError(f"a filter is None, a dict or a Polars expression, not {type(filter).__name__}.")
    mine = [condition(key, value, schema[key]) for key, value in filter.items() if key in schema]
    rest = {key: value for key, value in filter.items() if key not in schema}
    return (rest or None), mine
