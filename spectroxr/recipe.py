"""What a processing does, as a JSON value, and a hash of it that is the same everywhere.

NumPy is imported only when a value of it is met, so that the hashes can be compared on interpreters that have none.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import io
import json
import random
import types
from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import Enum, Flag
from typing import Any

from spectroxr.jsonvalues import check_name, check_value, numpy_value, plain_value
from spectroxr.publicnames import MISSING, is_estimator, is_function, is_splitter, public_name
from spectroxr.spot import Spot, kind_of, short

__all__ = ["processing_hash", "recipe_of"]

#: Parameters that tell how to compute, not what, in classes whose code is known.
_HOW = ("memory", "n_jobs", "verbose")
_KNOWN = ("chemotools", "sklearn")
#: These draw other random numbers for another `n_jobs`.
_JOBS_COUNT = ("sklearn.decomposition.LatentDirichletAllocation", "sklearn.manifold.MDS")
_PIPELINE = "sklearn.pipeline.Pipeline"
#: What holds these can do nothing with the labels of the steps in a pipeline that they hold.
_COMPOSED = (_PIPELINE, "sklearn.pipeline.FeatureUnion", "sklearn.compose.ColumnTransformer")


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
    for leaf in _leaves(steps, Spot("steps"), at_top=True):
        made.append(_step(leaf, Spot(f"step {len(made)}")))
    return made


# steps


def _leaves(steps: Any, at: Spot, at_top: bool = False) -> Iterator[Any]:
    """Yield the steps of pipelines and sequences one after the other."""
    if is_estimator(steps):
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
        if len(steps) == 2 and isinstance(steps[0], str) and is_estimator(steps[1]):
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
    return named and not isinstance(step[0], list | tuple | Mapping) and not is_estimator(step[0])


def _pipeline_steps(estimator: Any, at: Spot) -> Any:
    """Return the steps of a Pipeline that does nothing else, None for any other estimator."""
    if not at.free or (type(estimator).__module__, type(estimator).__qualname__) != ("sklearn.pipeline", "Pipeline"):
        return None
    params = _params(estimator, at)
    steps = params.pop("steps", None)
    if any(value is not None for name, value in params.items() if name not in _HOW):
        return None
    return steps if isinstance(steps, list | tuple) else [steps]


def _params(estimator: Any, at: Spot) -> dict[str, Any]:
    try:
        params = estimator.get_params(deep=False)
    except Exception as error:
        raise at.refused(f"get_params of {kind_of(estimator)} failed ({error})", "set all its parameters") from error
    if not isinstance(params, dict):
        raise at.refused(f"get_params of {kind_of(estimator)} returns no dict", "give an estimator that does")
    return dict(params)


def _counting(estimator: Any, name: str, at: Spot) -> dict[str, Any]:
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


def _step(leaf: Any, at: Spot) -> dict[str, Any]:
    """Return a step that is no pipeline."""
    if is_estimator(leaf):
        name = public_name(type(leaf), at)
        at = replace(at.named(name), free=at.free and name in _COMPOSED)
        return {"name": name, "params": _mapping(_counting(leaf, name, at), at.inside(leaf))}
    if isinstance(leaf, functools.partial):
        return _call(leaf, at)
    if is_function(leaf):
        return {"name": public_name(leaf, at), "params": {}}
    if isinstance(leaf, tuple | list):
        return _pair(leaf[0], leaf[1], at)
    if isinstance(leaf, dict) and {"name", "params"} <= set(leaf) <= {"name", "params", "args"}:
        return _read(leaf, at)
    if isinstance(leaf, type):
        raise at.refused(f"the class {leaf.__qualname__}", "give an estimator made of it, or a function")
    if isinstance(leaf, str):
        raise at.refused(f"only the name {short(leaf)}", "give a pair (name, params); params may be {}")
    raise at.refused(
        f"an object of type {kind_of(leaf)} is no step",
        "give an estimator, a function, or a pair (name, params) with params a dict",
    )


def _pair(first: Any, params: Mapping[Any, Any], at: Spot) -> dict[str, Any]:
    if isinstance(first, str):
        name = check_name(first, at)
        at = replace(at.named(name), free=False)
        return {"name": name, "params": _mapping(params, at.inside(params))}
    if isinstance(first, type):
        raise at.refused(f"the class {first.__qualname__}", "give an estimator made of it, with its parameters set")
    if not (is_function(first) or isinstance(first, functools.partial)):
        raise at.refused(f"an object of type {kind_of(first)} is no name", "give (name, params) or (function, params)")
    for key in params:
        check_name(key, at)
    return _call(functools.partial(first, **params), at)


def _call(call: functools.partial[Any], at: Spot) -> dict[str, Any]:
    if not is_function(call.func):
        raise at.refused(f"a partial of an object of type {kind_of(call.func)}", "give a partial of a function")
    name = public_name(call.func, at)
    at = replace(at.named(name).inside(call), free=False)
    step: dict[str, Any] = {"name": name, "params": _mapping(call.keywords, at)}
    if call.args:
        step["args"] = [_value(value, at.param("args").item(k)) for k, value in enumerate(call.args)]
    return step


def _mapping(params: Mapping[Any, Any], at: Spot) -> dict[str, Any]:
    names = {check_name(key, at): value for key, value in params.items()}
    return {name: _value(names[name], at.param(name)) for name in sorted(names)}


# values


def _value(value: Any, at: Spot) -> Any:
    """Return what stands for a value in a recipe."""
    if isinstance(value, Enum):
        name = public_name(type(value), at)
        # the names of flags put together differ between versions of Python
        return {"enum": [name, _value(value.value, at.param("value")) if isinstance(value, Flag) else value.name]}
    plain = plain_value(value, at)
    if plain is not MISSING:
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
        return {"class": public_name(value, at)}
    if isinstance(value, functools.partial):
        return {"partial": _call(value, at)}
    if is_estimator(value):
        return {"recipe": _nested(value, at)}
    if any(base.__module__.partition(".")[0] == "numpy" for base in type(value).__mro__):
        found = numpy_value(value, at, _value)
        if found is not MISSING:
            return found
    if is_function(value):
        return {"function": public_name(value, at)}
    if is_splitter(type(value)):
        return {"object": _of_sklearn(value, at)}
    if isinstance(value, io.IOBase):
        raise at.refused("an open file", "give its path")
    if isinstance(value, random.Random):
        raise at.refused("a random generator, whose state changes", "give an int")
    raise at.refused(
        f"an object of type {kind_of(value)}, of which is not known what it consists of",
        "give numbers, text, arrays, lists, dicts, estimators or functions",
    )


def _written(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _nested(estimator: Any, at: Spot) -> list[dict[str, Any]]:
    steps = list(_leaves(estimator, at))
    alone = len(steps) == 1
    return [_step(step, at if alone else at.item(k)) for k, step in enumerate(steps)]


def _of_sklearn(value: Any, at: Spot) -> dict[str, Any]:
    """Return what stands for a splitter or selector: its class, and what this was called with."""
    name = public_name(type(value), at)
    at = replace(at.inside(value), free=False)
    params = {}
    for key in inspect.signature(type(value)).parameters:
        held = vars(value).get(key, vars(value).get("cvargs", {}).get(key, MISSING))
        if held is MISSING:
            raise at.refused(f"an object of type {name} that does not keep its {key}", "give what it is made from")
        params[key] = held
    return {"name": name, "params": _mapping(params, at)}


# recipes that come back


def _read(step: Mapping[str, Any], at: Spot) -> dict[str, Any]:
    """Return a step of a recipe, if it is one."""
    name = check_name(step["name"], at)
    at = at.named(name)
    if not isinstance(step["params"], dict) or not isinstance(step.get("args", []), list):
        raise at.refused("params that are no dict, or args that are no list", "give a step as recipe_of returns it")
    params = {check_name(key, at): value for key, value in step["params"].items()}
    for key, value in params.items():
        check_value(value, at.param(key))
    read: dict[str, Any] = {"name": name, "params": params}
    if step.get("args"):
        check_value(step["args"], at.param("args"))
        read["args"] = step["args"]
    return read
