"""Whether the description of a version, ``version.json``, is one: keys, and values of the right kind."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import polars as pl

from spectroxr.chunks import LEVELS
from spectroxr.errors import StoreError
from spectroxr.manifest import RESTORE, decode_json
from spectroxr.parts import Part

__all__ = ["FORGED", "described", "is_record", "short", "whole"]

#: What code that expects a store as it was saved raises when it meets something else.
FORGED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
)

#: What the spectra may be stored as: float32 and float64, little-endian.
_DTYPES = ("<f4", "<f8")


def described(data: bytes, where: str) -> dict[str, Any]:
    """Return the description of a version.

    Parameters
    ----------
    data : bytes
        The file.
    where : str
        Names it in the error.

    Raises
    ------
    StoreError
        If it is not one; the message has a line for each thing that is wrong.
    """
    said = decode_json(data, where)
    wrong = list(_wrong(said))
    if wrong:
        raise StoreError("\n".join(f"{where}: {text} {RESTORE}" for text in wrong))
    description: dict[str, Any] = said
    return description


def whole(value: Any, least: int = 0) -> bool:
    """Tell whether a value is a whole number of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _wrong(said: Any) -> Iterator[str]:
    if not isinstance(said, dict):
        yield f"it holds {short(said)}, not an object."
        return
    files, sources = said.get("files"), said.get("sources")
    if isinstance(files, dict):
        for name, record in files.items():
            if not is_record(record):
                yield f"file {name!r} has the record {short(record)}, not [key, size, crc32c, xxh3]."
    else:
        yield f"'files' is {short(files)}, not an object."
    yield from _wrong_tables(said.get("tables", {}), files)
    if not isinstance(sources, list):
        yield f"'sources' is {short(sources)}, not a list."
        return
    folders: list[str] = []
    for k, about in enumerate(sources):
        if not isinstance(about, dict):
            yield f"source {k} is {short(about)}, not an object."
            continue
        name = about.get("name")
        called = repr(name) if isinstance(name, str) else str(k)
        for text in _wrong_source(about):
            yield f"source {called}: {text}"
        folder = about.get("folder")
        if isinstance(folder, str):
            if folder.casefold() in folders:
                yield f"source {called}: another source has the folder {folder!r} too."
            folders.append(folder.casefold())


def _wrong_tables(tables: Any, files: Any) -> Iterator[str]:
    if not isinstance(tables, dict):
        yield f"'tables' is {short(tables)}, not an object."
        return
    for name, parts in tables.items():
        if not isinstance(parts, list) or not parts or not all(map(_is_part, parts)):
            yield f"table {name!r} has the parts {short(parts)}, not [{{'part': number, 'lines': number}}, ...]."
            continue
        numbers = [part["part"] for part in parts]
        if numbers != sorted(set(numbers)):
            yield f"table {name!r} has the parts {short(numbers)}, which do not ascend."
        for part in parts:
            file = Part.from_json(part).file(name)
            if isinstance(files, dict) and file not in files:
                yield f"{file} is a part of table {name!r}, but no file."


def _is_part(part: Any) -> bool:
    if not isinstance(part, dict) or not whole(part.get("part")) or not whole(part.get("lines")):
        return False
    samples = part.get("samples", [0, 0])
    return (
        ("samples" in part) == ("processings" in part)
        and _texts(part.get("processings", []))
        and isinstance(samples, list)
        and len(samples) == 2
        and all(map(whole, samples))
    )


def _wrong_source(about: dict[str, Any]) -> Iterator[str]:
    kinds = {
        "name": isinstance(about.get("name"), str) and about["name"] != "",
        "folder": isinstance(about.get("folder"), str)
        and about["folder"] not in ("", ".", "..")
        and "/" not in about["folder"],
        "processings": _texts(about.get("processings")),
        "wavelength_dtype": about.get("wavelength_dtype") in _AXES,
        "wavelength": isinstance(about.get("wavelength"), list)
        and all(isinstance(one, int | float) and not isinstance(one, bool) for one in about["wavelength"]),
        "attrs": isinstance(about.get("attrs"), dict),
        "segments": about.get("segments", 0) is None or _runs(about.get("segments")),
        "shape": _sizes(about.get("shape")),
        "chunk": _sizes(about.get("chunk")),
        "dtype": about.get("dtype") in _DTYPES if isinstance(about.get("dtype"), str) else False,
        "compression": "compression" in about
        and (
            about["compression"] is None or (isinstance(about["compression"], str) and about["compression"] in LEVELS)
        ),
        "inner_rows": whole(about.get("inner_rows"), 1),
    }
    for key, right in kinds.items():
        if key not in about:
            yield f"it has no {key!r}."
        elif not right:
            yield f"{key!r} is {short(about[key])}."
    if not all(kinds.values()):
        return
    (_, processings, width), chunk = about["shape"], about["chunk"]
    if len(set(about["processings"])) < len(about["processings"]):
        yield f"processings {about['processings']} has a name twice."
    if len(about["processings"]) != processings:
        yield f"it has {len(about['processings'])} processings, its spectra {processings}."
    try:
        axis = np.array(about["wavelength"], about["wavelength_dtype"])
        if len(axis) != width:
            yield f"it has {len(axis)} wavelengths, its spectra {width}."
        elif not np.isfinite(axis).all():
            yield "its wavelengths are not all finite."
        elif axis.tolist() != about["wavelength"]:
            yield f"its wavelengths are not all {axis.dtype}."
    except (ValueError, TypeError, OverflowError):
        yield f"'wavelength' is no list of {about['wavelength_dtype']}."
    if about["segments"] is not None and (count := sum(run[1] for run in about["segments"])) != width:
        yield f"it has {count} segments, its spectra {width} wavelengths."
    yield from _wrong_chunk(about["shape"], chunk, about["compression"])


def _wrong_chunk(shape: list[int], chunk: list[int], compression: str | None) -> Iterator[str]:
    if not prod(shape):
        return
    if not prod(chunk):
        yield f"chunks of {chunk} hold nothing."
    elif compression is not None and chunk[1] != 1:
        yield f"compressed chunks are of one processing, not of {chunk[1]}."
    elif compression is None and (chunk[0], chunk[2]) != (shape[0], shape[2]):
        yield f"uncompressed chunks hold all rows and wavelengths, {shape}, not {chunk}."


#: What an axis may be stored as.
_AXES = tuple(
    f"{order}{kind}" for order in "<|" for kind in ("f2", "f4", "f8", *(f"{s}{n}" for s in "iu" for n in "1248"))
)


def is_record(record: Any) -> bool:
    """Tell whether a value is a record as `record_json` writes it."""
    if not isinstance(record, list) or len(record) != 4:
        return False
    key, size, crc, content = record
    kinds = isinstance(key, str) and whole(size) and isinstance(crc, str)
    return kinds and _hex(crc, 8) and (content is None or (isinstance(content, str) and _hex(content, 32)))


def _hex(text: str, length: int) -> bool:
    return len(text) == length and set(text) <= set("0123456789abcdefABCDEF")


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(whole(one) and one < 2**62 for one in value)


def _runs(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(run, list) and len(run) == 2 and isinstance(run[0], str) and whole(run[1], 1) for run in value
    )


def short(value: Any) -> str:
    """Return a value as text that fits a line, whatever it is."""
    return reprlib.repr(value)
