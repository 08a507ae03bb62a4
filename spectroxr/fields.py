"""The fields that come with a prediction."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

__all__ = ["SCHEMA", "as_json_text", "field_of"]

#: The columns of the specification, and ``inverse``: whether a line came from `inverse_transform_prediction`,
#: and from lines of which processing.
SCHEMA: dict[str, Any] = {
    "sample": pl.UInt32,
    "model": pl.String,
    "fold": pl.Int64,
    "repeat": pl.Int64,
    "partition": pl.String,
    "processing": pl.String,
    "seed": pl.Int64,
    "metadata": pl.String,
    "inverse": pl.Boolean,
    "inverse_of": pl.String,
}


def field_of(key: str, value: Any) -> Any:
    """Return a field of a prediction in its type.

    Raises
    ------
    TypeError, ValueError
        If the value is of another.
    """
    if value is None:
        return None
    if SCHEMA[key] == pl.String:
        if not isinstance(value, str):
            raise TypeError(f"{key} of a prediction is text, not {type(value).__name__} ({value!r}).")
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{key} of a prediction is a whole number, not {type(value).__name__} ({value!r}).")
    if not -(2**63) <= int(value) < 2**63:
        raise ValueError(f"{key} of a prediction does not fit 64 bits: {value}.")
    return int(value)


def as_json_text(extra: Mapping[str, Any]) -> str | None:
    """Return further fields as JSON, None if there are none.

    Raises
    ------
    TypeError
        If JSON has nothing for one.
    """
    if not extra:
        return None
    try:
        return json.dumps(extra, default=_plain, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"further fields of meta are kept as JSON: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, datetime.date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not JSON")
