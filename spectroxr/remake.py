"""Steps made anew from a recipe, unfitted: the inverse of `spectroxr.recipe.recipe_of`."""

from __future__ import annotations

import datetime
import functools
import inspect
import math
from collections.abc import Callable, Iterable
from enum import Enum, Flag
from pathlib import Path
from typing import Any

from spectroxr.publicnames import is_estimator, is_splitter
from spectroxr.recipe import recipe_of
from spectroxr.spot import Spot, kind_of
from spectroxr.trust import TRUSTED, imported

__all__ = ["TRUSTED", "made_of"]


def made_of(recipe: list[dict[str, Any]], trusted: Iterable[str] = TRUSTED) -> list[Any]:
    """Return the steps that a recipe tells of, made anew and not fitted.

    Parameters
    ----------
    recipe : list of dict
        As `recipe_of` returns it, also after it was written to a file as JSON and read again.
    trusted : iterable of str, optional
        The packages that classes and functions are imported from. Add what you trust:
        ``trusted=(*TRUSTED, "mypackage")``. Importing a package runs its code.

    Returns
    -------
    list
        One for each step: an estimator, or a `functools.partial` of a function with its parameters. The recipe of them
        is the one given.

    Raises
    ------
    TypeError
        If this is no list of dicts.
    ValueError
        For names of packages that are not trusted, names that lead to no class or function, parameters that a class
        does not take, arrays of which the recipe has only a checksum, and what no recipe has. The message says where:
        ``step 1 (sklearn.preprocessing.SplineTransformer): knots``.

    Notes
    -----
    Of a file's content nothing is imported but modules of trusted packages, and nothing is called but estimators and
    splitters, enumerations and plain values, to make them. Functions are not called; who applies the steps calls what
    the file names, and numpy has functions that read and write files. So look at a recipe of unknown origin before.

    A recipe does not tell tuples from lists, nor how the steps in a nested pipeline were called where that does not
    matter. Lists are made, but tuples where the class or function has a tuple by default, in sets and as keys. Dates
    with a time zone get its offset.

    Parameters that the recipe does not have, as those of a later version of a library or ``n_jobs``, are at their
    defaults. That `processing_hash` of the result is the one of the recipe shows that there are none of the former.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import MinMaxScaler, StandardScaler
    >>> from spectroxr.recipe import recipe_of
    >>> made_of(recipe_of(make_pipeline(StandardScaler(with_std=False), MinMaxScaler((0, 2)))))
    [StandardScaler(with_std=False), MinMaxScaler(feature_range=(0, 2))]
    >>> made_of([{"name": "os:system", "params": {}}])
    Traceback (most recent call last):
    ...
    ValueError: step 0 (os:system): os:system is of the package os, which is not trusted to be imported; if you trust
    its code, give trusted=(*TRUSTED, 'os')
    """
    if not isinstance(recipe, list) or not all(isinstance(step, dict) for step in recipe):
        raise TypeError(f"a recipe is a list of dicts, as recipe_of returns it, not {kind_of(recipe)}")
    maker = _Maker(frozenset([trusted] if isinstance(trusted, str) else trusted))
    try:
        return [maker.step(step, Spot(f"step {k}")) for k, step in enumerate(recipe_of(recipe))]
    except _Damaged as error:
        raise ValueError(str(error)) from error.__cause__


class _Damaged(ValueError):
    """A damaged or foreign recipe; the message says already where."""


class _Maker:
    """Makes the values that JSON values stand for: one method for each kind."""

    def __init__(self, trusted: frozenset[str]) -> None:
        self._trusted = trusted
        self._kinds: dict[str, Callable[[Any, Spot], Any]] = {
            "array": self._array,
            "bytes": lambda held, at: bytes.fromhex(held),
            "class": self._class,
            "complex": lambda held, at: complex(*(float(part) for part in held)),
            "date": lambda held, at: datetime.date.fromisoformat(held),
            "datetime": self._datetime,
            "datetime64": self._time,
            "dict": self._dict,
            "dtype": self._dtype,
            "enum": self._enum,
            "float": lambda held, at: float(held),
            "function": self._function,
            "int": lambda held, at: int(held, 16),
            "object": self._splitter,
            "partial": self.step,
            "path": lambda held, at: Path(self.value(held, at)),
            "range": lambda held, at: range(*self.value(held, at)),
            "recipe": self._estimator,
            "set": self._set,
            "slice": self._slice,
            "text": lambda held, at: bytes.fromhex(held).decode("utf-8", "surrogatepass"),
            "timedelta": lambda held, at: datetime.timedelta(*held),
            "timedelta64": self._time,
        }

    def step(self, step: Any, at: Spot) -> Any:
        """Return an estimator or a partial function."""
        name, args = step["name"], step.get("args", [])
        at = at.named(name)
        found = self._imported(name, at)
        if isinstance(found, type):
            if not callable(getattr(found, "get_params", None)) or args:
                raise _Damaged(f"{at}: {name} is no class of estimators, or has positional parameters")
            return self._called(found, step["params"], at)
        given = [self.value(value, at.param("args").item(k)) for k, value in enumerate(args)]
        return functools.partial(found, *given, **self._params(found, step["params"], at))

    def value(self, value: Any, at: Spot) -> Any:
        """Return what a JSON value stands for."""
        if isinstance(value, list):
            return [self.value(item, at.item(k)) for k, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        try:
            [(kind, held)] = value.items()
            return self._kinds[kind](held, at)
        except _Damaged:
            raise
        except Exception as error:
            raise _Damaged(f"{at}: no recipe has {'{'}{', '.join(map(repr, value))}: …{'}'} like this") from error

    def _imported(self, name: str, at: Spot) -> Any:
        try:
            return imported(name, at, self._trusted)
        except ValueError as error:
            raise _Damaged(str(error)) from error

    def _params(self, function: Any, params: dict[str, Any], at: Spot) -> dict[str, Any]:
        made = {key: self.value(value, at.param(key)) for key, value in params.items()}
        try:
            signature = inspect.signature(function).parameters
        except ValueError:
            return made
        for key, value in made.items():
            if isinstance(value, list) and key in signature and isinstance(signature[key].default, tuple):
                made[key] = tuple(value)
        return made

    def _called(self, kind: type, params: dict[str, Any], at: Spot) -> Any:
        given = self._params(kind, params, at)
        try:
            return kind(**given)
        except Exception as error:
            raise _Damaged(f"{at}: {kind.__name__} cannot be made with these parameters ({error})") from error

    def _estimator(self, steps: Any, at: Spot) -> Any:
        """Return the step of a nested recipe, a pipeline if there are several or none."""
        made = [self.step(step, at if len(steps) == 1 else at.item(k)) for k, step in enumerate(steps)]
        if len(made) == 1 and is_estimator(made[0]):
            return made[0]
        make_pipeline = self._imported("sklearn.pipeline:make_pipeline", at)
        return make_pipeline(*(made or ["passthrough"]))

    def _splitter(self, held: Any, at: Spot) -> Any:
        kind = self._class(held["name"], at)
        if not is_splitter(kind):
            raise _Damaged(f"{at}: {held['name']} is no class of splitters or selectors")
        return self._called(kind, held["params"], at)

    def _class(self, name: str, at: Spot) -> Any:
        found = self._imported(name, at)
        if not isinstance(found, type):
            raise _Damaged(f"{at}: {name} is no class")
        return found

    def _function(self, name: str, at: Spot) -> Any:
        found = self._imported(name, at)
        if isinstance(found, type):
            raise _Damaged(f"{at}: {name} is no function")
        return found

    def _enum(self, held: Any, at: Spot) -> Any:
        name, which = held
        kind = self._class(name, at)
        if not issubclass(kind, Enum):
            raise _Damaged(f"{at}: {name} is no enumeration")
        return kind(self.value(which, at)) if issubclass(kind, Flag) else kind[which]

    def _dict(self, held: Any, at: Spot) -> Any:
        keys = [_hashable(self.value(key, at)) for key, _ in held]
        made = {key: self.value(item, at.item(key)) for key, (_, item) in zip(keys, held, strict=True)}
        if len(made) < len(keys):
            raise _Damaged(f"{at}: two keys of a dict that were different are the same here")
        return made

    def _set(self, held: Any, at: Spot) -> Any:
        made = {_hashable(self.value(item, at)) for item in held}
        if len(made) < len(held):
            raise _Damaged(f"{at}: two values of a set that were different are the same here")
        return made

    def _slice(self, held: Any, at: Spot) -> Any:
        start, stop, step = held
        return slice(self.value(start, at), self.value(stop, at), self.value(step, at))

    def _datetime(self, held: Any, at: Spot) -> Any:
        text, fold = held if isinstance(held, list) else (held, 0)
        return datetime.datetime.fromisoformat(text).replace(fold=fold)

    def _time(self, held: Any, at: Spot) -> Any:
        import numpy as np

        unit, number = held
        return np.array(self.value(number, at), np.int64).view(np.dtype(unit))[()]

    def _array(self, held: Any, at: Spot) -> Any:
        import numpy as np

        if "values" not in held:
            raise _Damaged(f"{at}: an array, of which a recipe has only a checksum; make this step with the array")
        values, shape, dtype = held["values"], held["shape"], held["dtype"]
        if math.prod(shape) != len(values) or dtype not in ("O", "T"):
            raise _Damaged(f"{at}: {len(values)} values of dtype {dtype} for an array of shape {shape}")
        made = np.empty(len(values), self._dtype(dtype, at))
        for k, value in enumerate(values):
            made[k] = self.value(value, at.item(k))
        return made.reshape(shape)

    def _dtype(self, held: Any, at: Spot) -> Any:
        import numpy as np

        if held == "T":
            return np.dtypes.StringDType()
        if isinstance(held, str):
            return np.dtype(held)
        if isinstance(held, list):
            inner, shape = held
            return np.dtype((self._dtype(inner, at), tuple(shape)))
        fields: Any = {
            "names": [self.value(name, at) for name, _, _ in held["fields"]],
            "formats": [self._dtype(one, at) for _, one, _ in held["fields"]],
            "offsets": [offset for _, _, offset in held["fields"]],
            "itemsize": held["size"],
        }
        return np.dtype(fields)


def _hashable(value: Any) -> Any:
    """Return tuples and frozen sets for lists and sets, of which one cannot tell what they were."""
    if isinstance(value, list):
        return tuple(_hashable(item) for item in value)
    return frozenset(value) if isinstance(value, set) else value
