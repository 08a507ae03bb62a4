"""Classes and functions imported by the names that a file says, from trusted packages only."""

from __future__ import annotations

import importlib
import types
from collections.abc import Collection
from typing import Any

from spectroxr.publicnames import MISSING, attribute, is_function, public_name
from spectroxr.spot import Spot

__all__ = ["TRUSTED", "imported"]

#: The packages that names of a recipe are imported from if nothing else is said.
TRUSTED = ("sklearn", "chemotools", "pybaselines", "numpy", "scipy", "spectroxr")

#: Classes of plain values, which need no trust.
_PLAIN: dict[str, type] = {
    f"builtins.{kind.__name__}": kind
    for kind in (bool, bytes, complex, dict, float, frozenset, int, list, object, set, str, tuple)
}


def imported(name: str, at: Spot, trusted: Collection[str]) -> Any:
    """Return the class or function of a name.

    Parameters
    ----------
    name : str
        ``package.module.Class`` or ``package.module:function``.
    at : Spot
        For the messages.
    trusted : collection of str
        Names of packages. Nothing of another package is imported, nor returned if a trusted one happens to have it.

    Returns
    -------
    type or function

    Raises
    ------
    ValueError
        If its package is not trusted, or it is not there.
    """
    if name in _PLAIN:
        return _PLAIN[name]
    kind = "function" if ":" in name else "class"
    module, _, inner = name.partition(":")
    names = module.split(".")
    if not inner and len(names) == 1:
        raise ValueError(f"{at}: {name!r} is no class or function of a package; say in your own code what it does")
    _check_trust(names[0], name, at, trusted)
    within = [*names[1:], *(inner.split(".") if inner else ())]
    # some modules run a program when they are imported: those called __main__
    if not all(part.isidentifier() and not part.startswith("__") for part in within):
        raise ValueError(f"{at}: {name!r} is no name of a class or function")
    try:
        found = _function(module, inner) if inner else _class(names)
    except Exception as error:
        raise ValueError(f"{at}: {name} cannot be imported ({error}); install the version that has it") from error
    if not (is_function(found) if inner else isinstance(found, type)):
        raise ValueError(f"{at}: {name} is no {kind}")
    try:
        home = public_name(found, at)
    except TypeError as error:
        raise ValueError(f"{at}: {name} has no name of its own ({error})") from error
    _check_trust(home.partition(":")[0].partition(".")[0], home, at, trusted)
    return found


def _check_trust(package: str, name: str, at: Spot, trusted: Collection[str]) -> None:
    if package not in trusted:
        raise ValueError(
            f"{at}: {name} is of the package {package}, which is not trusted to be imported; if you trust its code, "
            f"give trusted=(*TRUSTED, {package!r})"
        )


def _function(module: str, qualname: str) -> Any:
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = attribute(found, name)
    if found is MISSING:
        raise ImportError(f"{module} has no {qualname}")
    return found


def _class(names: list[str]) -> Any:
    """Return what a dotted name says, of which nobody knows where the module ends and a class begins."""
    found: Any = importlib.import_module(names[0])
    for count, name in enumerate(names[1:], 2):
        held = attribute(found, name)
        if held is MISSING and isinstance(found, types.ModuleType):
            held = importlib.import_module(".".join(names[:count]))
        found = held
    if found is MISSING:
        raise ImportError(f"{names[0]} has no {'.'.join(names[1:])}")
    return found
