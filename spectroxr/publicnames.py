"""The names by which another session imports classes and functions: ``package.module.Class``, ``package:function``."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any

from spectroxr.spot import Spot

__all__ = ["MISSING", "attribute", "is_estimator", "is_function", "is_splitter", "public_name"]

#: What `attribute` returns for what is not there.
MISSING: Any = object()

#: Where the ufuncs are that do not say so.
_UFUNCS = ("numpy", "numpy.strings", "scipy.special")


def is_estimator(value: object) -> bool:
    """Tell whether the class of an object has ``get_params``."""
    # of the class: some objects have every attribute that one asks for
    return callable(getattr(type(value), "get_params", None))


def is_function(value: object) -> bool:
    """Tell whether an object is called and has a name, and is no class."""
    if isinstance(value, type) or not callable(value):
        return False
    ufunc = (type(value).__module__, type(value).__qualname__) == ("numpy", "ufunc")
    return ufunc or isinstance(getattr(value, "__qualname__", None), str)


def is_splitter(kind: type) -> bool:
    """Tell whether objects of a class keep what they were called with, though the class has no ``get_params``."""
    return kind.__module__.startswith(("sklearn.compose.", "sklearn.model_selection."))


def attribute(found: Any, name: str) -> Any:
    """Return what a module or object has by a name, `MISSING` if nothing; without the warnings of modules."""
    if isinstance(found, types.ModuleType) and name in vars(found):
        return vars(found)[name]
    try:
        # modules may load or deprecate what is asked for
        if isinstance(found, types.ModuleType) and hasattr(found, "__getattr__"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return getattr(found, name)
        return getattr(found, name, MISSING)
    except Exception:
        return MISSING


def public_name(value: Any, at: Spot) -> str:
    """Return the shortest public name of a class or function.

    Parameters
    ----------
    value : type or function
        Of a module that was imported.
    at : Spot
        For the messages.

    Returns
    -------
    str
        ``package.module.Class`` or ``package.module:function``.

    Raises
    ------
    TypeError
        If it has no name that another session would find.
    """
    kind, joint = ("class", ".") if isinstance(value, type) else ("function", ":")
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


def _there(module: str, qualname: str, value: object) -> bool:
    """Tell whether a module that was imported has this object by this name."""
    found = sys.modules.get(module, MISSING)
    for name in qualname.split("."):
        found = attribute(found, name)
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
