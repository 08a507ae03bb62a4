"""What predictions are to be compared with: the target, as numbers or as classes, in the units of version ``"raw"``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import polars as pl

from spectroxr.errors import UnknownNameError, nearest
from spectroxr.targets import TargetBlock

__all__ = ["Classes", "Meaning", "compared", "meaning_of"]


class Classes:
    """The classes met so far, as text, each with a number."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    @property
    def names(self) -> pl.Series:
        """The classes, in the order of their numbers."""
        return pl.Series(list(self._codes), dtype=pl.String)

    def coded(self, values: pl.Series) -> pl.Series:
        """Return the number of the class of each value; values are told apart by what `class_name` calls them."""
        distinct = values.unique().drop_nulls()
        if distinct.dtype.is_float():
            distinct = distinct.filter(distinct.is_not_nan())
        codes = [self._codes.setdefault(class_name(value), len(self._codes)) for value in distinct.to_list()]
        return values.replace_strict(distinct, pl.Series(codes, dtype=pl.UInt32), default=None, return_dtype=pl.UInt32)


def class_name(value: Any) -> str:
    """Return a class as text, whole numbers without a point.

    Examples
    --------
    >>> class_name(3.0), class_name(3), class_name(True), class_name("b")
    ('3', '3', 'True', 'b')
    """
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


#: A target, what it is called, and its values.
Compared: TypeAlias = tuple[str, str, pl.DataFrame]


def _class_names(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple([class_name(value) for value in values])


@dataclass(frozen=True)
class Meaning:
    """What the outputs of some lines are.

    Attributes
    ----------
    targets : tuple of str
        The target of each output, or the one whose classes (or elements) the outputs are.
    classified : bool
        Whether they are classes, not numbers.
    classes : tuple of tuple, optional
        Of each target the classes that codes, or places of vectors, stand for; None if outputs are classes themselves.
    text : bool
        Whether the outputs are in the column ``labels``.
    own : bool
        Whether the outputs are in the units of the targets: a number for a target of numbers is then the class itself.
    """

    targets: tuple[str, ...]
    classified: bool
    classes: tuple[tuple[str, ...], ...] | None
    text: bool
    own: bool


def meaning_of(
    kind: Mapping[str, Any], fields: Mapping[str, Any], targets: TargetBlock, asked: Sequence[str] | None
) -> Meaning | None:
    """Return what the predictions of one kind are of; None if of none of the targets asked for.

    Parameters
    ----------
    kind : mapping
        ``model``, ``processing``, ``inverse``, and ``text``: whether they are labels.
    fields : mapping
        Their further fields: ``target``, ``task``, ``classes``.
    targets : TargetBlock
    asked : sequence of str, optional
        The targets asked for, which lines that name none are taken to be of.

    Raises
    ------
    UnknownNameError
        If a target does not exist.
    ValueError
        If none is named and there are several, or the values were not brought back to the units of the targets.
    """
    names = _targets_of(kind, fields, targets, asked)
    if asked is not None and not {*asked} & {*names}:
        return None
    classified = _classified(kind, fields, names, targets)
    if not classified:
        for name in names:
            _check_units(kind, name, targets)
        return Meaning(names, False, None, bool(kind["text"]), True)
    own = bool(kind["inverse"] or kind["processing"] == "raw")
    return Meaning(names, True, _classes_of(kind, fields, names, targets), bool(kind["text"]), own)


def _targets_of(
    kind: Mapping[str, Any], fields: Mapping[str, Any], targets: TargetBlock, asked: Sequence[str] | None
) -> tuple[str, ...]:
    known = targets.columns
    given = fields.get("target")
    if given is None:
        named = known if asked is None or len(known) == 1 else asked
        if len(known) > 1 and asked is None:
            raise ValueError(
                f"the predictions of model {kind['model']!r} do not say which of the targets {known} they are of; "
                "give it with them, add_prediction(values, {'target': 'name', ...}), a list of names for several "
                "outputs, or say it here: target=."
            )
        if not known:
            raise ValueError("there are no targets to compare predictions with; add_targets comes first.")
    else:
        named = [given] if isinstance(given, str) else list(given)
    for name in named:
        if name not in known:
            raise UnknownNameError(nearest(name, known, "target"))
    return tuple(named)


def _classified(kind: Mapping[str, Any], fields: Mapping[str, Any], names: Iterable[str], targets: TargetBlock) -> bool:
    dtypes = {name: _inner(targets.schema[name]) for name in names}
    words = [name for name, dtype in dtypes.items() if not dtype.is_numeric() and dtype != pl.Null]
    if fields.get("task") == "regression" and not kind["text"]:
        if words:
            raise TypeError(
                f"the predictions of model {kind['model']!r} are numbers, target {words[0]!r} is {dtypes[words[0]]}."
            )
        return False
    return bool(kind["text"] or words or fields.get("classes") is not None or fields.get("task") == "classification")


def _inner(dtype: Any) -> Any:
    return dtype.inner if isinstance(dtype, pl.List | pl.Array) else dtype


def _check_units(kind: Mapping[str, Any], name: str, targets: TargetBlock) -> None:
    """Raise where values are of a version of the targets that is not in the units of ``"raw"``."""
    version = kind["processing"]
    if kind["inverse"] or version in (None, "raw"):
        return
    if version not in targets.versions:
        if version in ("regression", "category"):
            return
    else:
        try:
            written = targets.column(name, version)
        except pl.exceptions.ColumnNotFoundError:
            return
        raw = targets.column(name)
        same = written.dtype.is_numeric() and raw.dtype.is_numeric()
        if same and bool((written.cast(pl.Float64) == raw.cast(pl.Float64)).fill_null(True).all()):
            return
    raise ValueError(
        f"the predictions of model {kind['model']!r} are of the version {version!r} of target {name!r}, not in its "
        "units; bring them back, inverse_transform_prediction(transformers, filter, store='regression'), or leave them "
        "out by filter=."
    )


def _classes_of(
    kind: Mapping[str, Any], fields: Mapping[str, Any], names: tuple[str, ...], targets: TargetBlock
) -> tuple[tuple[str, ...], ...] | None:
    given = fields.get("classes")
    dtypes = [_inner(targets.schema[name]) for name in names]
    if kind["text"]:
        return None
    if given is None:
        if all(dtype == pl.Boolean for dtype in dtypes):
            return (("False", "True"),) * len(names)
        if all(dtype.is_numeric() for dtype in dtypes) and (kind["inverse"] or kind["processing"] in (None, "raw")):
            return None
        raise ValueError(
            f"the predictions of model {kind['model']!r} are numbers that stand for classes of {list(names)}; say "
            "which, in order: add_prediction(values, {'classes': [...], ...}), or give the predictions as text."
        )
    if isinstance(given, Mapping):
        lost = [name for name in names if name not in given]
        if lost:
            raise UnknownNameError(nearest(lost[0], given, "target of 'classes'"))
        return tuple([_class_names(given[name]) for name in names])
    if not isinstance(given, list) or not given:
        raise TypeError(f"'classes' of a prediction is a list of the classes, not {given!r}.")
    if all(isinstance(one, list) for one in given):
        if len(given) != len(names):
            raise ValueError(f"'classes' has {len(given)} lists for {len(names)} targets.")
        return tuple([_class_names(one) for one in given])
    return (_class_names(given),) * len(names)


def compared(lines: pl.DataFrame, meaning: Meaning, targets: TargetBlock, classes: Classes) -> list[Compared]:
    """Return what was measured and predicted, per target.

    Parameters
    ----------
    lines : polars.DataFrame
        ``sample``, ``preds``, ``labels``.
    meaning : Meaning
    targets : TargetBlock
    classes : Classes
        Numbers the classes.

    Returns
    -------
    list of (str, str, polars.DataFrame)
        The target, what it is called (elements of vectors have a number), and ``measured``, ``predicted``: float64, or
        uint32 numbers of classes; null where there is no value.

    Raises
    ------
    ValueError
        If the outputs are not as many as the targets, or classes.
    """
    given = lines["labels" if meaning.text else "preds"]
    names = meaning.targets
    if not meaning.classified:
        vector = len(names) == 1 and isinstance(targets.schema[names[0]], pl.List | pl.Array)
        if vector:
            return _elements(lines["sample"], given, names[0], targets)
        columns = _split(given, len(names), f"targets {list(names)}")
        return [
            (name, name, _table(_floats(targets.column(name)).gather(lines["sample"]), _floats(column)))
            for name, column in zip(names, columns, strict=True)
        ]
    vectors = len(names) == 1 and meaning.classes is not None and _width(given) > 1
    columns = (
        [_likeliest(given, names[0], meaning.classes)] if vectors else _split(given, len(names), f"targets {names}")
    )
    found = []
    for k, (name, column) in enumerate(zip(names, columns, strict=True)):
        values = targets.column(name)
        if isinstance(values.dtype, pl.List | pl.Array):
            raise TypeError(f"target {name!r} holds {values.dtype}; classes are one value per sample.")
        measured = classes.coded(values).gather(lines["sample"])
        itself = meaning.own and values.dtype.is_numeric() and not vectors
        if meaning.classes is None or itself:
            predicted = classes.coded(column)
        else:
            predicted = _decoded(column, name, meaning.classes[k], classes)
        found.append((name, name, _table(measured, predicted)))
    return found


def _table(measured: pl.Series, predicted: pl.Series) -> pl.DataFrame:
    return pl.DataFrame([measured.alias("measured"), predicted.alias("predicted")])


def _floats(values: pl.Series) -> pl.Series:
    """Return numbers as float64, NaN as null."""
    return values.cast(pl.Float64).fill_nan(None)


def _width(values: pl.Series) -> int:
    """Return how many outputs each line has.

    Raises
    ------
    ValueError
        If they differ.
    """
    if isinstance(values.dtype, pl.Array):
        return int(values.dtype.size)
    if not isinstance(values.dtype, pl.List):
        return 1
    widths = values.list.len().drop_nulls().unique().sort().to_list()
    if len(widths) > 1:
        raise ValueError(f"predictions of the same targets have different numbers of outputs: {widths}.")
    return widths[0] if widths else 1


def _split(values: pl.Series, wanted: int, of: str) -> list[pl.Series]:
    """Return one column per output."""
    width = _width(values)
    if width != wanted:
        raise ValueError(
            f"predictions of {of} have {width} outputs; name the target of each output, in order: "
            "add_prediction(values, {'target': [...], ...}), and the classes, if outputs are of those: 'classes'."
        )
    if isinstance(values.dtype, pl.Array):
        return [values.arr.get(k) for k in range(width)]
    return [values.list.get(k) for k in range(width)] if isinstance(values.dtype, pl.List) else [values]


def _elements(samples: pl.Series, values: pl.Series, name: str, targets: TargetBlock) -> list[Compared]:
    """Return a table per element of a target that is a vector."""
    measured = targets.column(name)
    columns = _split(values, _width(measured), f"the vectors of target {name!r}")
    parts = _split(measured, len(columns), f"target {name!r}")
    return [
        (name, f"{name}[{k}]", _table(_floats(part).gather(samples), _floats(column)))
        for k, (part, column) in enumerate(zip(parts, columns, strict=True))
    ]


def _likeliest(values: pl.Series, name: str, classes: tuple[tuple[str, ...], ...] | None) -> pl.Series:
    """Return the place of the largest of each vector; null where one of its values is missing."""
    assert classes is not None
    width = _width(values)
    if width != len(classes[0]):
        raise ValueError(f"the vectors predicted for {name!r} have {width} places for {len(classes[0])} classes.")
    vectors = values.cast(pl.List(pl.Float64))
    table = pl.DataFrame({"v": vectors}).select(
        pl.when(pl.col("v").list.eval(pl.element().is_null() | pl.element().is_nan()).list.any())
        .then(None)
        .otherwise(pl.col("v").list.arg_max())
    )
    return table.to_series()


def _decoded(codes: pl.Series, name: str, names: tuple[str, ...], classes: Classes) -> pl.Series:
    """Return the numbers of the classes that codes stand for."""
    numbers = _floats(codes)
    wrong = numbers.filter((numbers != numbers.floor()) | (numbers < 0) | (numbers >= len(names)))
    if len(wrong):
        raise ValueError(
            f"{wrong[0]} is none of the {len(names)} classes of {name!r}, which are numbered from 0; for "
            "probabilities, one per class."
        )
    known = classes.coded(pl.Series(names))
    return known.gather(numbers.cast(pl.UInt32))
