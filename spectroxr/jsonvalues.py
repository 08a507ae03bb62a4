"""JSON values that stand for single values of Python and numpy: the same on every machine, others for other values.

NumPy is imported only when a value of it is met, so that the hashes can be compared on interpreters that have none.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, TypeAlias

from spectroxr.publicnames import MISSING
from spectroxr.spot import DEEP, Spot, kind_of, short

__all__ = ["check_name", "check_value", "numpy_value", "plain_value", "text_value"]

#: Every JSON object that stands for a value has one key, which is one of these.
_KINDS = frozenset(
    {"array", "bytes", "class", "complex", "date", "datetime", "datetime64", "dict", "dtype", "enum", "float"}
    | {"function", "int", "object", "partial", "path", "range", "recipe", "set", "slice", "text"}
    | {"timedelta", "timedelta64"}
)
#: Returns what stands for a value of any kind.
Inner: TypeAlias = Callable[[Any, Spot], Any]
#: Integers below this are the same number for every reader of JSON.
_EXACT = 1 << 53
#: What lies in an estimator lies in four JSON values: its kind, a list, a step and the parameters of this.
_DEEP = 4 * DEEP


def plain_value(value: Any, at: Spot) -> Any:
    """Return what stands for a value without parts, `MISSING` if this is none."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        number = int(value)
        return number if abs(number) < _EXACT else {"int": hex(number)}
    if isinstance(value, float):
        return {"float": repr(float(value))}
    if isinstance(value, complex):
        return {"complex": [repr(float(value.real)), repr(float(value.imag))]}
    if isinstance(value, str):
        return text_value(value)
    if isinstance(value, bytes):
        return {"bytes": bytes(value).hex()}
    # not of the classes derived from these: they hold more
    if type(value) is datetime.datetime:
        return {"datetime": value.isoformat() if not value.fold else [value.isoformat(), value.fold]}
    if type(value) is datetime.date:
        return {"date": value.isoformat()}
    if type(value) is datetime.timedelta:
        return {"timedelta": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, PurePath):
        return {"path": text_value(value.as_posix())}
    if isinstance(value, range):
        # as ranges are equal if their numbers are
        start, step = (value.start if value else 0), (value.step if len(value) > 1 else 1)
        return {"range": [plain_value(number, at) for number in (start, start + len(value) * step, step)]}
    return MISSING


def text_value(value: str) -> Any:
    """Return what stands for text: the text, unless it has half characters."""
    text = str.__str__(value)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        # two halves of a character are written like the character in JSON
        return {"text": text.encode("utf-8", "surrogatepass").hex()}
    return text


def numpy_value(value: Any, at: Spot, inner: Inner) -> Any:
    """Return what stands for a value of numpy, `MISSING` if this is none of those that are known.

    Parameters
    ----------
    value : object
    at : Spot
        For the messages.
    inner : callable
        Returns what stands for an element of an array of objects, of which nothing is known here.

    Returns
    -------
    object
        A JSON value.

    Raises
    ------
    TypeError, ValueError
        For random generators, arrays of derived classes, and numbers that are no float64.
    """
    import numpy as np

    if isinstance(value, np.dtype):
        return {"dtype": _dtype(value, at)}
    if isinstance(value, np.ndarray):
        if type(value) not in (np.ndarray, np.memmap, np.recarray):
            raise at.refused(
                f"an array of type {kind_of(value)}, which is more than its numbers", "give np.asarray of what counts"
            )
        return {"array": _array(value, at, inner)}
    if isinstance(value, np.void):
        return {"array": _array(np.asarray(value), at, inner)}
    if isinstance(value, np.datetime64 | np.timedelta64):
        unit = value.dtype.str[1:]
        return {type(value).__name__: [unit, plain_value(int(value.astype(np.int64)), at)]}
    if isinstance(value, np.bool_ | np.integer):
        return plain_value(value.item(), at)
    if isinstance(value, np.floating | np.complexfloating):
        number: Any = float(value) if isinstance(value, np.floating) else complex(value)
        if number != value and value == value:
            raise ValueError(f"{at}: a {type(value).__name__} that no float64 equals; give a float")
        return plain_value(number, at)
    if isinstance(value, np.random.Generator | np.random.RandomState | np.random.BitGenerator | np.random.SeedSequence):
        raise at.refused("a random generator, whose state changes", "give an int")
    return MISSING


def _dtype(dtype: Any, at: Spot) -> Any:
    """Return what stands for a dtype: its byte order only if it is not that of the machine."""
    if dtype.subdtype is not None:
        return [_dtype(dtype.subdtype[0], at), list(dtype.subdtype[1])]
    if dtype.names is not None:
        fields = [[text_value(name), _dtype(dtype.fields[name][0], at), dtype.fields[name][1]] for name in dtype.names]
        return {"fields": fields, "size": dtype.itemsize}
    if dtype.char in "gG":
        return "longdouble" if dtype.char == "g" else "clongdouble"
    if dtype.isbuiltin == 2 or (dtype.kind == "T" and dtype != type(dtype)()):
        raise at.refused(f"the dtype {type(dtype).__name__}", "give one of numpy's own")
    if dtype.kind == "T":
        return "T"
    return ("" if dtype.isnative else dtype.byteorder) + dtype.str[1:]


def _array(array: Any, at: Spot, inner: Inner) -> dict[str, Any]:
    """Return what stands for an array: its dtype without byte order, its shape, and a checksum of its values."""
    import numpy as np

    about: dict[str, Any] = {"shape": list(array.shape)}
    dtype = array.dtype
    if dtype.names is not None:
        # field by field, as there may be anything between them
        fields = [[text_value(name), _array(array[name], at.item(name), inner)] for name in dtype.names]
        return about | {"fields": fields}
    if dtype.char in "gG":
        raise ValueError(f"{at}: an array of {dtype.name}, which machines hold differently; give it as float64")
    if dtype.kind in "OT":
        about["dtype"] = _dtype(dtype, at)
        within = at.inside(array)
        return about | {"values": [inner(item, within.item(k)) for k, item in enumerate(array.ravel().tolist())]}
    about["dtype"] = _dtype(dtype.newbyteorder("="), at)
    flat = np.ascontiguousarray(array, dtype.newbyteorder("=")).reshape(-1)
    if dtype.kind in "fc":
        # machines make NaN with different bits
        parts = flat.view(flat.real.dtype)
        absent = np.isnan(parts)
        flat = np.where(absent, parts.dtype.type(np.nan), parts) if absent.any() else parts
    little = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    return about | {"sha256": hashlib.sha256(little.tobytes()).hexdigest()}


def check_name(name: Any, at: Spot) -> str:
    """Return a name of a step or parameter as text of Python, if it is one."""
    if not isinstance(name, str):
        raise at.refused(f"a name of type {kind_of(name)}", "give text")
    text = str.__str__(name)
    if not text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{at}: {short(text)} as a name; give text that is not empty and has no half characters")
    return text


def check_value(value: Any, at: Spot, anything: bool = False) -> None:
    """Refuse what no recipe has for a value; what lies inside an object may be anything in JSON that is no float."""
    if value is None or type(value) is bool or (type(value) is int and abs(value) < _EXACT):
        return
    if type(value) is str and text_value(value) == value:
        return
    if type(value) is list:
        at = at.inside(value, _DEEP)
        for k, item in enumerate(value):
            check_value(item, at.item(k), anything)
    elif type(value) is dict and (anything or (len(value) == 1 and _KINDS.issuperset(value))):
        at = at.inside(value, _DEEP)
        for key, item in value.items():
            check_value(item, at.param(check_name(key, at)), anything=True)
    else:
        raise ValueError(
            f"{at}: no recipe has an object of type {kind_of(value)} like this; give a pair (name, params)"
        )
