"""What a processing does, as a JSON value, and a hash of it that is the same everywhere.

NumPy is imported only when a value of it is met, so that the hashes can be compared on interpreters that have none.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import inspect
import io
import json
import random
import sys
import types
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum, Flag
from pathlib import PurePath
from typing import Any

__all__ = ["processing_hash", "recipe_of"]

#: Parameters that tell how to compute, not what, in classes whose code is known.
_HOW = ("memory", "n_jobs", "verbose")
_KNOWN = ("chemotools", "sklearn")
#: These draw other random numbers for another `n_jobs`.
_JOBS_COUNT = ("sklearn.decomposition.LatentDirichletAllocation", "sklearn.manifold.MDS")
#: Objects without `get_params` that keep what they were called with.
_SPLITTERS = ("sklearn.compose.", "sklearn.model_selection.")
_PIPELINE = "sklearn.pipeline.Pipeline"
#: What holds these can do nothing with the labels of the steps in a pipeline that they hold.
_COMPOSED = (_PIPELINE, "sklearn.pipeline.FeatureUnion", "sklearn.compose.ColumnTransformer")
#: Where the ufuncs are that do not say so.
_UFUNCS = ("numpy", "numpy.strings", "scipy.special")
#: Every JSON object that stands for a value has one key, which is one of these.
_KINDS = frozenset(
    {"array", "bytes", "class", "complex", "date", "datetime", "datetime64", "dict", "dtype", "enum", "float"}
    | {"function", "int", "object", "partial", "path", "range", "recipe", "set", "slice", "text"}
    | {"timedelta", "timedelta64"}
)
#: Integers below this are the same number for every reader of JSON.
_EXACT = 1 << 53
#: Values may lie in one another so deep.
_DEEP = 64
_MISSING = object()


def processing_hash(steps: Any) -> str:
    """Return a hash of what is done: the same on every machine, another one if a parameter or the order is another.

    Parameters
    ----------
    steps : estimator, function, pair or sequence of these
        What `recipe_of` takes.

    Returns
    -------
    str
        16 hexadecimal digits in lower case: the first 64 bits of the SHA-256 of the recipe, written as JSON with sorted
        keys, without blanks, in ASCII.

    Raises
    ------
    TypeError, ValueError
        As `recipe_of`.

    Notes
    -----
    The hash says names and parameters. It does not say the code of a function or class, the version of the library it
    is in, nor what an estimator was fitted on.

    Examples
    --------
    >>> processing_hash([("snv", {}), ("savgol", {"window": 11, "order": 2})])
    'c7392953b94586ae'
    >>> processing_hash([("savgol", {"window": 11, "order": 2}), ("snv", {})])
    '126b684723f1b620'
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> processing_hash(make_pipeline(StandardScaler())) == processing_hash(StandardScaler())
    True
    """
    written = json.dumps(recipe_of(steps), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(written.encode("ascii")).hexdigest()[:16]


def recipe_of(steps: Any) -> list[dict[str, Any]]:
    """Return a JSON value that says exactly what is done, in order.

    Parameters
    ----------
    steps : estimator, function, pair or sequence of these
        One step or a list or tuple of them. A step is

        - an estimator: any object of a class with ``get_params``. A scikit-learn ``Pipeline`` is its steps; their
          labels and those that are None or ``"passthrough"`` are left out. The steps may be given with their labels.
        - a function that can be imported, a numpy ufunc or a `functools.partial` of one.
        - a pair of a name or function and its parameters, a dict.
        - a step of a recipe, as this function returns it.

    Returns
    -------
    list of dict
        One for each step: ``name`` is the shortest public path from which the class (``package.module.Class``) or
        function (``package.module:function``) can be imported; ``params`` are the parameters by their names; ``args``
        are the positional ones of a partial function, if there are any. None, booleans, text, lists and integers below
        2**53 stand for themselves, any other value is an object with one key, its kind, so that different values are
        never written alike.

    Raises
    ------
    TypeError
        For a value that has no name or content that another session would find: lambdas, functions and classes inside
        functions, methods of objects, random generators, open files, objects of classes that are not known. The message
        says where it is: ``step 1 (sklearn.decomposition.PCA): random_state``, counted as in the result.
    ValueError
        If something contains itself or lies too deep, for a longdouble that is no float64, for a damaged recipe.

    Notes
    -----
    Left out is what cannot change the result: ``n_jobs``, ``verbose`` and ``memory`` of classes of scikit-learn and
    chemotools, and a parameter left at its default ``"deprecated"``. ``n_jobs`` counts for the two that draw other
    random numbers with it, ``LatentDirichletAllocation`` and ``MDS``. ``copy`` counts: some classes of scikit-learn
    overwrite the spectra that they were given with ``copy=False``, and transform something else afterwards. In classes
    of other libraries all parameters count.

    All other parameters are in the recipe, the defaults too. So another default is another hash, and so is a new
    parameter in a later version of a library.

    1, 1.0 and True are three values; tuples are lists; numpy scalars are Python's; a set or dict has no order. Arrays
    of one dtype and shape are the same whatever their byte order and memory layout, and so is every NaN.

    The labels in a pipeline that is a parameter count, as in a grid search that names them, unless all that lies around
    it are a ``Pipeline``, ``FeatureUnion`` or ``ColumnTransformer``.

    A recipe says the name of a function, not its code, and parameters, not what an estimator was fitted on. A function
    in a notebook or script is named ``__main__:function``; another notebook may have another one of this name.

    Examples
    --------
    >>> import numpy as np
    >>> recipe_of(("crop", {"start": 400, "stop": 2500.0}))
    [{'name': 'crop', 'params': {'start': 400, 'stop': {'float': '2500.0'}}}]
    >>> recipe_of([np.log1p, (np.clip, {"min": 0})])
    [{'name': 'numpy:log1p', 'params': {}}, {'name': 'numpy:clip', 'params': {'min': 0}}]
    >>> from sklearn.preprocessing import StandardScaler
    >>> recipe_of(StandardScaler(with_std=False))
    [{'name': 'sklearn.preprocessing.StandardScaler',
      'params': {'copy': True, 'with_mean': True, 'with_std': False}}]
    >>> recipe_of([np.log1p, lambda x: x])
    Traceback (most recent call last):
    ...
    TypeError: step 1: a lambda has no name that another session would find; write it as a function of a module
    """
    made: list[dict[str, Any]] = []
    for leaf in _leaves(steps, _Place("steps"), at_top=True):
        made.append(_step(leaf, _Place(f"step {len(made)}")))
    return made


@dataclass(frozen=True)
class _Place:
    """Where a value is: the step, the path inside, what lies around it, and whether labels of steps are but labels."""

    step: str
    path: str = ""
    above: tuple[int, ...] = ()
    free: bool = True

    def __str__(self) -> str:
        return f"{self.step}: {self.path}" if self.path else self.step

    def named(self, name: str) -> _Place:
        """Return this place with the name of the step, if it is not inside one."""
        return self if self.path else replace(self, step=f"{self.step} ({name})")

    def param(self, name: str) -> _Place:
        return replace(self, path=f"{self.path}.{name}" if self.path else name)

    def item(self, key: object) -> _Place:
        return replace(self, path=f"{self.path}[{_short(key)}]")

    def inside(self, value: object) -> _Place:
        """Return the place of what the value contains."""
        if id(value) in self.above:
            raise ValueError(f"{self}: {_kind_of(value)} contains itself; give what ends")
        if len(self.above) >= _DEEP:
            raise ValueError(f"{self}: more than {_DEEP} values lie in one another; give flatter ones")
        return replace(self, above=(*self.above, id(value)))

    def refused(self, what: str, instead: str) -> TypeError:
        return TypeError(f"{self}: {what}; {instead}")


def _short(value: object) -> str:
    written = repr(value) if isinstance(value, str | int | float | bytes) else _kind_of(value)
    return written if len(written) <= 40 else written[:39] + "…"


def _kind_of(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _from(value: object, package: str) -> bool:
    """Tell whether an object is of a class of a package, or of one derived from it."""
    return any(base.__module__.partition(".")[0] == package for base in type(value).__mro__)


def _is_estimator(value: object) -> bool:
    # of the class: some objects have every attribute that one asks for
    return callable(getattr(type(value), "get_params", None))


def _is_function(value: object) -> bool:
    if isinstance(value, type) or not callable(value):
        return False
    return isinstance(getattr(value, "__qualname__", None), str) or _is_ufunc(value)


def _is_ufunc(value: object) -> bool:
    return type(value).__module__ == "numpy" and type(value).__qualname__ == "ufunc"


# names


def _attribute(found: Any, name: str) -> Any:
    if isinstance(found, types.ModuleType) and name in vars(found):
        return vars(found)[name]
    try:
        # modules may load or deprecate what is asked for
        if isinstance(found, types.ModuleType) and hasattr(found, "__getattr__"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return getattr(found, name)
        return getattr(found, name, _MISSING)
    except Exception:
        return _MISSING


def _there(module: str, qualname: str, value: object) -> bool:
    """Tell whether a module that was imported has this object by this name."""
    found = sys.modules.get(module, _MISSING)
    for name in qualname.split("."):
        found = _attribute(found, name)
    return found is value or (isinstance(value, types.MethodType | types.BuiltinMethodType) and bool(found == value))


def _modules(module: str) -> Iterator[str]:
    """Yield where to look for what says that it is of a module: public ones first, the shortest name first."""
    names = module.split(".")
    for count in range(1, len(names) + 1):
        if not any(name.startswith("_") for name in names[:count]):
            yield ".".join(names[:count])
    if names[0].startswith("_") and not names[0].startswith("__"):
        yield names[0].lstrip("_")
    yield module


def _public(value: Any, joint: str, at: _Place) -> str:
    """Return the shortest public name of a class or function."""
    kind = "class" if isinstance(value, type) else "function"
    name = getattr(value, "__qualname__", None) or value.__name__
    if "<lambda>" in name:
        raise at.refused("a lambda has no name that another session would find", "write it as a function of a module")
    if "<locals>" in name:
        what = f"the {kind} {name.rpartition('.')[2]} is inside a function, where no other session would find it"
        raise at.refused(what, "move it to the level of its module")
    module = getattr(value, "__module__", None)
    if not isinstance(module, str):
        # methods of built-in classes
        home = getattr(value, "__objclass__", getattr(value, "__self__", None))
        module = home.__module__ if isinstance(home, type) else None
    if module in ("__main__", "__mp_main__") and _there(module, name, value):
        # a module that was started with `python -m` is imported by its name elsewhere
        spec = getattr(sys.modules.get("__main__"), "__spec__", None)
        return f"{spec.name if spec is not None else '__main__'}{joint}{name}"
    for place in _modules(module) if isinstance(module, str) else _UFUNCS:
        if _there(place, name, value):
            return f"{place}{joint}{name}"
    if isinstance(getattr(value, "__self__", None), types.ModuleType | type | None):
        what = f"the {kind} {name} is not what {module or 'any module'} has by this name"
        raise at.refused(what, "give one that can be imported by its name")
    raise at.refused(
        f"{name} is a method of an object, and its state would not be in the recipe",
        "give a function and its parameters",
    )


def _class_name(value: type, at: _Place) -> str:
    return _public(value, ".", at)


def _function_name(value: Any, at: _Place) -> str:
    return _public(value, ":", at)


# steps


def _leaves(steps: Any, at: _Place, at_top: bool = False) -> Iterator[Any]:
    """Yield the steps of pipelines and sequences one after the other."""
    if _is_estimator(steps):
        inside = _pipeline_steps(steps, at)
        if inside is None:
            yield steps
            return
        at = at.inside(steps)
        for step in inside:
            if not isinstance(step, list | tuple) or len(step) != 2:
                raise at.refused("a Pipeline with steps that are no pairs", "give (label, estimator)")
            if step[1] is not None and not (isinstance(step[1], str) and step[1] == "passthrough"):
                yield from _leaves(step[1], at)
    elif isinstance(steps, list | tuple) and not _is_pair(steps):
        if len(steps) == 2 and isinstance(steps[0], str) and _is_estimator(steps[1]):
            yield from _leaves(steps[1], at)
            return
        at = at.inside(steps)
        for step in steps:
            yield from _leaves(step, at)
    elif at_top and isinstance(steps, Mapping):
        raise at.refused("a dict", "give a list of (name, params) pairs, which has an order")
    else:
        yield steps


def _is_pair(step: Any) -> bool:
    named = len(step) == 2 and isinstance(step[1], dict | types.MappingProxyType)
    return named and not isinstance(step[0], list | tuple | Mapping) and not _is_estimator(step[0])


def _pipeline_steps(estimator: Any, at: _Place) -> Any:
    """Return the steps of a Pipeline that does nothing else, None for any other estimator."""
    if not at.free or (type(estimator).__module__, type(estimator).__qualname__) != ("sklearn.pipeline", "Pipeline"):
        return None
    params = _params(estimator, at)
    steps = params.pop("steps", None)
    if any(value is not None for name, value in params.items() if name not in _HOW):
        return None
    return steps if isinstance(steps, list | tuple) else [steps]


def _params(estimator: Any, at: _Place) -> dict[str, Any]:
    try:
        params = estimator.get_params(deep=False)
    except Exception as error:
        raise at.refused(f"get_params of {_kind_of(estimator)} failed ({error})", "set all its parameters") from error
    if not isinstance(params, dict):
        raise at.refused(f"get_params of {_kind_of(estimator)} returns no dict", "give an estimator that does")
    return dict(params)


def _counting(estimator: Any, name: str, at: _Place) -> dict[str, Any]:
    """Return the parameters of an estimator that can change the result."""
    params = _params(estimator, at)
    made = type(estimator).__init__
    if getattr(made, "__module__", "").partition(".")[0] in _KNOWN:
        for how in _HOW:
            if how != "n_jobs" or name not in _JOBS_COUNT:
                params.pop(how, None)
    unused = [key for key, value in params.items() if isinstance(value, str) and value == "deprecated"]
    if unused:
        signature = inspect.signature(made).parameters
        for key in unused:
            default = signature[key].default if key in signature else None
            if isinstance(default, str) and default == "deprecated":
                del params[key]
    return params


def _step(leaf: Any, at: _Place) -> dict[str, Any]:
    """Return a step that is no pipeline."""
    if _is_estimator(leaf):
        name = _class_name(type(leaf), at)
        at = replace(at.named(name), free=at.free and name in _COMPOSED)
        return {"name": name, "params": _mapping(_counting(leaf, name, at), at.inside(leaf))}
    if isinstance(leaf, functools.partial):
        return _call(leaf, at)
    if _is_function(leaf):
        return {"name": _function_name(leaf, at), "params": {}}
    if isinstance(leaf, tuple | list):
        return _pair(leaf[0], leaf[1], at)
    if isinstance(leaf, dict) and {"name", "params"} <= set(leaf) <= {"name", "params", "args"}:
        return _read(leaf, at)
    if isinstance(leaf, type):
        raise at.refused(f"the class {leaf.__qualname__}", "give an estimator made of it, or a function")
    if isinstance(leaf, str):
        raise at.refused(f"only the name {_short(leaf)}", "give a pair (name, params); params may be {}")
    raise at.refused(
        f"an object of type {_kind_of(leaf)} is no step",
        "give an estimator, a function, or a pair (name, params) with params a dict",
    )


def _pair(first: Any, params: Mapping[Any, Any], at: _Place) -> dict[str, Any]:
    if isinstance(first, str):
        name = _name(first, at)
        at = replace(at.named(name), free=False)
        return {"name": name, "params": _mapping(params, at.inside(params))}
    if isinstance(first, type):
        raise at.refused(f"the class {first.__qualname__}", "give an estimator made of it, with its parameters set")
    if not (_is_function(first) or isinstance(first, functools.partial)):
        raise at.refused(f"an object of type {_kind_of(first)} is no name", "give (name, params) or (function, params)")
    for key in params:
        _name(key, at)
    return _call(functools.partial(first, **params), at)


def _call(call: functools.partial[Any], at: _Place) -> dict[str, Any]:
    if not _is_function(call.func):
        raise at.refused(f"a partial of an object of type {_kind_of(call.func)}", "give a partial of a function")
    name = _function_name(call.func, at)
    at = replace(at.named(name).inside(call), free=False)
    step: dict[str, Any] = {"name": name, "params": _mapping(call.keywords, at)}
    if call.args:
        step["args"] = [_value(value, at.param("args").item(k)) for k, value in enumerate(call.args)]
    return step


def _name(name: Any, at: _Place) -> str:
    if not isinstance(name, str):
        raise at.refused(f"a name of type {_kind_of(name)}", "give text")
    text = str.__str__(name)
    if not text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{at}: {_short(text)} as a name; give text that is not empty and has no half characters")
    return text


def _mapping(params: Mapping[Any, Any], at: _Place) -> dict[str, Any]:
    names = {_name(key, at): value for key, value in params.items()}
    return {name: _value(names[name], at.param(name)) for name in sorted(names)}


# values


def _value(value: Any, at: _Place) -> Any:
    """Return what stands for a value in a recipe."""
    plain = _plain(value, at)
    if plain is not _MISSING:
        return plain
    if isinstance(value, list | tuple):
        at = at.inside(value)
        return [_value(item, at.item(k)) for k, item in enumerate(value)]
    if isinstance(value, dict | types.MappingProxyType):
        at = at.inside(value)
        pairs = [[_value(key, at.item(key)), _value(item, at.item(key))] for key, item in value.items()]
        return {"dict": sorted(pairs, key=_written)}
    if isinstance(value, set | frozenset):
        at = at.inside(value)
        return {"set": sorted((_value(item, at.item(item)) for item in value), key=_written)}
    if isinstance(value, slice):
        at = at.inside(value)
        return {"slice": [_value(getattr(value, name), at.param(name)) for name in ("start", "stop", "step")]}
    if isinstance(value, type):
        return {"class": _class_name(value, at)}
    if isinstance(value, functools.partial):
        return {"partial": _call(value, at)}
    if _is_estimator(value):
        return {"recipe": _nested(value, at)}
    if _from(value, "numpy"):
        found = _of_numpy(value, at)
        if found is not _MISSING:
            return found
    if _is_function(value):
        return {"function": _function_name(value, at)}
    if type(value).__module__.startswith(_SPLITTERS):
        return {"object": _of_sklearn(value, at)}
    if isinstance(value, io.IOBase):
        raise at.refused("an open file", "give its path")
    if isinstance(value, random.Random):
        raise at.refused("a random generator, whose state changes", "give an int")
    raise at.refused(
        f"an object of type {_kind_of(value)}, of which is not known what it consists of",
        "give numbers, text, arrays, lists, dicts, estimators or functions",
    )


def _written(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _plain(value: Any, at: _Place) -> Any:
    """Return what stands for a value without parts."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        name = _class_name(type(value), at)
        # the names of flags put together differ between versions of Python
        return {"enum": [name, _value(value.value, at.param("value")) if isinstance(value, Flag) else value.name]}
    if isinstance(value, int):
        number = int(value)
        return number if abs(number) < _EXACT else {"int": hex(number)}
    if isinstance(value, float):
        return {"float": repr(float(value))}
    if isinstance(value, complex):
        return {"complex": [repr(float(value.real)), repr(float(value.imag))]}
    if isinstance(value, str):
        return _text(value)
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
        return {"path": _text(value.as_posix())}
    if isinstance(value, range):
        # as ranges are equal if their numbers are
        start, step = (value.start if value else 0), (value.step if len(value) > 1 else 1)
        return {"range": [_plain(number, at) for number in (start, start + len(value) * step, step)]}
    return _MISSING


def _text(value: str) -> Any:
    text = str.__str__(value)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        # two halves of a character are written like the character in JSON
        return {"text": text.encode("utf-8", "surrogatepass").hex()}
    return text


def _nested(estimator: Any, at: _Place) -> list[dict[str, Any]]:
    steps = list(_leaves(estimator, at))
    alone = len(steps) == 1
    return [_step(step, at if alone else at.item(k)) for k, step in enumerate(steps)]


def _of_sklearn(value: Any, at: _Place) -> dict[str, Any]:
    """Return what stands for a splitter or selector: its class, and what this was called with."""
    name = _class_name(type(value), at)
    at = replace(at.inside(value), free=False)
    params = {}
    for key in inspect.signature(type(value)).parameters:
        held = vars(value).get(key, vars(value).get("cvargs", {}).get(key, _MISSING))
        if held is _MISSING:
            raise at.refused(f"an object of type {name} that does not keep its {key}", "give what it is made from")
        params[key] = held
    return {"name": name, "params": _mapping(params, at)}


# numpy


def _of_numpy(value: Any, at: _Place) -> Any:
    import numpy as np

    if isinstance(value, np.dtype):
        return {"dtype": _dtype(value, at)}
    if isinstance(value, np.ndarray):
        if type(value) not in (np.ndarray, np.memmap, np.recarray):
            raise at.refused(
                f"an array of type {_kind_of(value)}, which is more than its numbers", "give np.asarray of what counts"
            )
        return {"array": _array(value, at)}
    if isinstance(value, np.void):
        return {"array": _array(np.asarray(value), at)}
    if isinstance(value, np.datetime64 | np.timedelta64):
        unit = value.dtype.str[1:]
        return {type(value).__name__: [unit, _plain(int(value.astype(np.int64)), at)]}
    if isinstance(value, np.bool_ | np.integer):
        return _plain(value.item(), at)
    if isinstance(value, np.floating | np.complexfloating):
        number: Any = float(value) if isinstance(value, np.floating) else complex(value)
        if number != value and value == value:
            raise ValueError(f"{at}: a {type(value).__name__} that no float64 equals; give a float")
        return _plain(number, at)
    if isinstance(value, np.random.Generator | np.random.RandomState | np.random.BitGenerator | np.random.SeedSequence):
        raise at.refused("a random generator, whose state changes", "give an int")
    return _MISSING


def _dtype(dtype: Any, at: _Place) -> Any:
    """Return what stands for a dtype: its byte order only if it is not that of the machine."""
    if dtype.subdtype is not None:
        return [_dtype(dtype.subdtype[0], at), list(dtype.subdtype[1])]
    if dtype.names is not None:
        fields = [[_text(name), _dtype(dtype.fields[name][0], at), dtype.fields[name][1]] for name in dtype.names]
        return {"fields": fields, "size": dtype.itemsize}
    if dtype.char in "gG":
        return "longdouble" if dtype.char == "g" else "clongdouble"
    if dtype.isbuiltin == 2 or (dtype.kind == "T" and dtype != type(dtype)()):
        raise at.refused(f"the dtype {type(dtype).__name__}", "give one of numpy's own")
    if dtype.kind == "T":
        return "T"
    return ("" if dtype.isnative else dtype.byteorder) + dtype.str[1:]


def _array(array: Any, at: _Place) -> dict[str, Any]:
    """Return what stands for an array: its dtype without byte order, its shape, and a checksum of its values."""
    import numpy as np

    about: dict[str, Any] = {"shape": list(array.shape)}
    dtype = array.dtype
    if dtype.names is not None:
        # field by field, as there may be anything between them
        return about | {"fields": [[_text(name), _array(array[name], at.item(name))] for name in dtype.names]}
    if dtype.char in "gG":
        raise ValueError(f"{at}: an array of {dtype.name}, which machines hold differently; give it as float64")
    if dtype.kind in "OT":
        about["dtype"] = _dtype(dtype, at)
        within = at.inside(array)
        return about | {"values": [_value(item, within.item(k)) for k, item in enumerate(array.ravel().tolist())]}
    about["dtype"] = _dtype(dtype.newbyteorder("="), at)
    flat = np.ascontiguousarray(array, dtype.newbyteorder("=")).reshape(-1)
    if dtype.kind in "fc":
        # machines make NaN with different bits
        parts = flat.view(flat.real.dtype)
        absent = np.isnan(parts)
        flat = np.where(absent, parts.dtype.type(np.nan), parts) if absent.any() else parts
    little = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    return about | {"sha256": hashlib.sha256(little.tobytes()).hexdigest()}


# recipes that come back


def _read(step: Mapping[str, Any], at: _Place) -> dict[str, Any]:
    """Return a step of a recipe, if it is one."""
    name = _name(step["name"], at)
    at = at.named(name)
    if not isinstance(step["params"], dict) or not isinstance(step.get("args", []), list):
        raise at.refused("params that are no dict, or args that are no list", "give a step as recipe_of returns it")
    params = {_name(key, at): value for key, value in step["params"].items()}
    for key, value in params.items():
        _check(value, at.param(key))
    read: dict[str, Any] = {"name": name, "params": params}
    if step.get("args"):
        _check(step["args"], at.param("args"))
        read["args"] = step["args"]
    return read


def _check(value: Any, at: _Place, anything: bool = False) -> None:
    """Refuse what `_value` never returns; what lies inside an object may be anything in JSON that is no float."""
    if value is None or type(value) is bool or (type(value) is int and abs(value) < _EXACT):
        return
    if type(value) is str and _text(value) == value:
        return
    if type(value) is list:
        at = at.inside(value)
        for k, item in enumerate(value):
            _check(item, at.item(k), anything)
    elif type(value) is dict and (anything or (len(value) == 1 and _KINDS.issuperset(value))):
        at = at.inside(value)
        for key, item in value.items():
            _check(item, at.param(_name(key, at)), anything=True)
    else:
        raise ValueError(
            f"{at}: no recipe has an object of type {_kind_of(value)} like this; give a pair (name, params)"
        )
