"""Names and types fixed by the specification: one place, imported by every other module."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = [
    "FILTER_KEYS",
    "HOLES_SCHEMA",
    "INDEX_SCHEMA",
    "LAYOUTS",
    "RESERVED_TARGETS",
    "SAMPLE_COLUMNS",
    "TRAIN",
    "Array",
    "Filter",
    "Layout",
    "check_layout",
]

Layout: TypeAlias = Literal["2d", "2d_interlaced", "3d", "3d_transpose"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

Array: TypeAlias = npt.NDArray[Any]
Filter: TypeAlias = dict[str, Any] | pl.Expr | None

#: The columns of the index and their types (specification, section 2).
INDEX_SCHEMA: dict[str, Any] = {
    "row": pl.UInt32,
    "sample": pl.UInt32,
    "origin": pl.UInt32,
    "partition": pl.String,
    "group": pl.UInt32,
    "branch": pl.UInt32,
    "processing": pl.String,
}

#: The columns of the table of holes: lines of the index that a source does not have.
HOLES_SCHEMA: dict[str, Any] = {"sample": pl.UInt32, "processing": pl.String, "source": pl.String}

#: What a filter dict may be keyed by besides the columns of metadata and targets, which therefore have other names.
FILTER_KEYS: tuple[str, ...] = (*INDEX_SCHEMA, "source", "wavelength")

#: The samples that transformers are fitted on unless something else is said.
TRAIN: dict[str, Any] = {"partition": "train"}

#: Columns that belong to the sample and are the same in each of its lines.
SAMPLE_COLUMNS: tuple[str, ...] = ("row", "sample", "origin", "partition", "group")

#: Versions of the targets with a meaning fixed by the specification (section 4.2).
RESERVED_TARGETS: tuple[str, ...] = ("raw", "regression", "category", "ohe")

#: Dtypes that spectra are kept in.
FLOATS: tuple[np.dtype[Any], ...] = (np.dtype(np.float32), np.dtype(np.float64))


def check_layout(layout: str) -> Layout:
    """Return `layout` if it is one of the four of the specification.

    Raises
    ------
    ValueError
        If it is not; the message names the nearest.
    """
    if layout not in LAYOUTS:
        from spectroxr.errors import nearest

        raise ValueError(nearest(layout, LAYOUTS, "layout"))
    return layout
