"""Numbers for targets and back: transformers fitted on training samples, kept as what their inverse needs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from spectroxr.errors import UnknownNameError, nearest
from spectroxr.log import enabled, log, quiet
from spectroxr.schema import RESERVED_TARGETS, TRAIN, Array, Filter

if TYPE_CHECKING:
    from spectroxr.dataset import SpectroDataset
    from spectroxr.predictions import PredictionBlock
    from spectroxr.targets import TargetBlock

__all__ = ["classes_of", "encode_targets", "inverse_by_record", "is_record", "steps_of"]

#: Transformers whose state can be kept, and the version of the targets that they make.
KINDS = {
    "StandardScaler": "regression",
    "RobustScaler": "regression",
    "MinMaxScaler": "regression",
    "FunctionTransformer": "regression",
    "LabelEncoder": "category",
    "OrdinalEncoder": "category",
    "OneHotEncoder": "ohe",
}


def encode_targets(
    self: SpectroDataset,
    transformer: Any,
    *,
    target: str | Sequence[str] | None = None,
    version: str | None = None,
    fit_on: Filter = TRAIN,
) -> None:
    """Write a version of targets that a transformer makes, and record what brings predictions of it back.

    Parameters
    ----------
    transformer : estimator
        From `sklearn.preprocessing`: a `StandardScaler`, `RobustScaler` or `MinMaxScaler`; a `FunctionTransformer`
        whose ``inverse_func`` is a numpy function such as `numpy.exp`; a `LabelEncoder`, `OrdinalEncoder` or
        `OneHotEncoder`. It is cloned for each target, never fitted itself.
    target : str or sequence of str, optional
        Which targets (default: all).
    version : str, optional
        Name of the version (default: ``"regression"`` for numbers, ``"category"`` for class codes, ``"ohe"`` for
        one-hot vectors), or any name but those three of another kind and ``"raw"``. One that exists is overwritten for
        these targets, unless there are predictions that the recorded transformer brings back, and the new one would
        bring back otherwise.
    fit_on : None, dict or polars.Expr, default {"partition": "train"}
        The samples that the transformer is fitted on; augmented ones and those without a value are left out.

    Raises
    ------
    TypeError
        If the state of such a transformer cannot be kept as numbers.
    ValueError, UnknownNameError
        If a target or filter names nothing, no sample to fit on has a value, or a class occurs that none of these has;
        or if predictions of the version would be brought back by another transformer than they were made with.
        The dataset is then as it was.

    Notes
    -----
    What is recorded are numbers and categories, as JSON in the store: `inverse_transform_prediction` without
    transformers uses them, also after `load`. Values written into the version by `update_y` or `add_targets` drop the
    record. Samples added later have no value in the version; encode again.

    A scaler that is fitted once on all training samples has seen the samples that cross-validation holds out. For
    linear scaling this does not change predictions in the units of the targets by least squares; where it matters,
    wrap the estimator in scikit-learn's ``TransformedTargetRegressor``, which is fitted inside each fold.

    Examples
    --------
    >>> import numpy as np, polars as pl
    >>> from sklearn.preprocessing import OneHotEncoder
    >>> from spectroxr import SpectroDataset
    >>> ds = SpectroDataset()
    >>> ds.add_features({"nir": np.ones((3, 2))})
    >>> ds.add_targets(pl.DataFrame({"country": ["Italy", "Greece", "Italy"]}))
    >>> ds.encode_targets(OneHotEncoder(), target="country")
    >>> ds.y(processing="ohe", target="country")
    array([[0., 1.],
           [1., 0.],
           [0., 1.]])
    """
    targets = self.targets
    names = targets.names(target)
    kind = type(transformer).__name__
    if kind not in KINDS or not type(transformer).__module__.startswith("sklearn."):
        raise TypeError(
            f"the state of a {kind} cannot be kept as numbers; take one of {', '.join(KINDS)} of scikit-learn, or "
            "write the version with update_y and give the transformer to inverse_transform_prediction."
        )
    chosen = KINDS[kind] if version is None else version
    if chosen in RESERVED_TARGETS and chosen != KINDS[kind]:
        raise ValueError(f"a {kind} makes version {KINDS[kind]!r}, not {chosen!r}; any name of your own is fine too.")
    if "raw" not in targets.versions:
        raise ValueError(f"the targets have no version 'raw' to encode; versions: {list(targets.versions)}.")
    origins = targets.resolver.index.origins
    samples = targets.resolver.samples(fit_on)
    samples = samples[origins[samples] == samples]
    found = [_encoded(transformer, name, targets.column(name, "raw"), samples) for name in names]
    changed = [
        name
        for name, (_, _, record) in zip(names, found, strict=True)
        if targets.records.get((chosen, name), record) != record
    ]
    _check_unused(self.predictions, targets, chosen, changed)
    state = targets.state()
    try:
        with quiet():
            for name, (ids, values, record) in zip(names, found, strict=True):
                targets.update_y(values, ids, chosen, target=name)
                targets.records[chosen, name] = record
    except BaseException:
        targets.back(state)
        raise
    if enabled():
        log(f"encode_targets: {kind} fitted on {len(samples)} samples, version {chosen!r}, targets {names}")


def _check_unused(predictions: PredictionBlock, targets: TargetBlock, version: str, names: Sequence[str]) -> None:
    """Raise if there are predictions of some targets in a version of which the record is to be replaced."""
    if not names or not len(predictions):
        return
    table = predictions.table.lazy().filter(pl.col("processing") == version, ~pl.col("inverse"))
    counts = dict.fromkeys(names, 0)
    for extra, count in table.group_by("metadata").len().collect().iter_rows():
        given = json.loads(extra).get("target") if extra else None
        # of lines that do not say what they are of, the only target is what they come back as
        own = targets.columns if given is None and len(targets.columns) == 1 else given
        for name in {own} if isinstance(own, str) else own or ():
            if name in counts:
                counts[name] += count
    for name, count in counts.items():
        if count:
            raise ValueError(
                f"the predictions hold {count} lines of target {name!r} in version {version!r}, which are brought back "
                "by what is recorded for it; this transformer would bring them back otherwise. Write a version of "
                f"another name, such as version={_free(targets, version)!r}."
            )


def _free(targets: TargetBlock, version: str) -> str:
    number = 2
    while f"{version}-{number}" in targets.versions:
        number += 1
    return f"{version}-{number}"


def _encoded(transformer: Any, name: str, column: pl.Series, samples: Array) -> tuple[Array, Array, dict[str, Any]]:
    """Return the samples with a value, their encoded values, and what brings them back."""
    from sklearn.base import clone

    kept = present(column)
    fitting = samples[kept[samples]]
    if not len(fitting):
        raise ValueError(f"none of the {len(samples)} samples to fit on has target {name!r}.")
    ids = np.flatnonzero(kept).astype(np.uint32)
    flat = type(transformer).__name__ == "LabelEncoder"
    values = plain_values(column.gather(pl.Series(ids)))
    if KINDS[type(transformer).__name__] == "regression" and values.dtype.kind not in "fiub":
        raise TypeError(f"target {name!r} is {column.dtype}, not numbers; encode it with an OrdinalEncoder.")
    known = np.isin(ids, fitting)
    given = values if flat else values[:, None]
    try:
        fitted = clone(transformer).fit(given[known])
        made = fitted.transform(given)
    except ValueError as error:
        raise ValueError(f"target {name!r}: {error}") from error
    made = np.asarray(made.toarray() if hasattr(made, "toarray") else made)
    record = _record(fitted, name)
    if "categories" in record and made.ndim == 2 and made.shape[1] == 1:
        made = made.astype(np.int64)
    return ids, made, record


def _record(fitted: Any, name: str) -> dict[str, Any]:
    """Return the numbers and categories that the inverse of a fitted transformer needs."""
    kind = type(fitted).__name__
    about: dict[str, Any] = {"transformer": kind}
    if kind in ("StandardScaler", "RobustScaler"):
        centre = (fitted.mean_ if fitted.with_mean else None) if kind == "StandardScaler" else fitted.center_
        return about | {"shift": _number(centre, 0.0), "factor": _number(fitted.scale_, 1.0)}
    if kind == "MinMaxScaler":
        if fitted.clip:
            raise ValueError("a MinMaxScaler that clips has no inverse.")
        return about | {"min": _number(fitted.min_, 0.0), "scale": _number(fitted.scale_, 1.0)}
    if kind == "FunctionTransformer":
        inverse = fitted.inverse_func
        called = getattr(inverse, "__name__", "")
        if not isinstance(inverse, np.ufunc) or getattr(np, called, None) is not inverse or fitted.inv_kw_args:
            raise TypeError(
                "only numpy functions of one array, such as inverse_func=np.exp, can be kept as the inverse of a "
                "FunctionTransformer."
            )
        return about | {"inverse": called}
    if getattr(fitted, "drop", None) is not None or getattr(fitted, "handle_unknown", "error") != "error":
        raise ValueError(f"{kind}: only drop=None and handle_unknown='error' can be brought back.")
    if kind == "OneHotEncoder" and fitted._infrequent_enabled:
        raise ValueError("OneHotEncoder: classes that are put together (min_frequency) cannot be brought back.")
    categories = fitted.classes_ if kind == "LabelEncoder" else fitted.categories_[0]
    record = about | {"categories": categories.tolist()}
    if not is_record(record):
        raise TypeError(f"target {name!r}: categories {categories.tolist()[:5]} cannot be kept as JSON; use text.")
    return record


def _number(values: Any, otherwise: float) -> float:
    return otherwise if values is None else float(values[0])


def is_record(value: Any) -> bool:
    """Tell whether a JSON value is what `encode_targets` records."""
    kind = value.get("transformer") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        return False
    rest = {key: one for key, one in value.items() if key != "transformer"}
    if kind in ("LabelEncoder", "OrdinalEncoder", "OneHotEncoder"):
        given = rest.get("categories")
        types = {type(one) for one in given} if isinstance(given, list) and given else {None}
        return set(rest) == {"categories"} and len(types) == 1 and types <= {str, int, float, bool}
    if kind == "FunctionTransformer":
        name = rest.get("inverse")
        return set(rest) == {"inverse"} and isinstance(name, str) and isinstance(getattr(np, name, None), np.ufunc)
    keys = {"min", "scale"} if kind == "MinMaxScaler" else {"shift", "factor"}
    return set(rest) == keys and all(type(one) in (int, float) and math.isfinite(one) for one in rest.values())


def inverse_by_record(record: Mapping[str, Any], values: Array) -> Array:
    """Return predictions in the units of the targets.

    Parameters
    ----------
    record : dict
        See `is_record`.
    values : ndarray, shape (line,) or (line, 1), or (line, class) for one-hot vectors
        Class codes are rounded to the nearest class; of one-hot vectors and scores the largest counts, the first of
        several.

    Returns
    -------
    ndarray, shape (line,)

    Raises
    ------
    ValueError
        If there are not as many columns as the version has.
    """
    categories = record.get("categories")
    width = len(categories) if record["transformer"] == "OneHotEncoder" else 1  # type: ignore[arg-type]
    matrix = values[:, None] if values.ndim == 1 else values
    if matrix.shape[1] != width:
        raise ValueError(f"predictions with {matrix.shape[1]} outputs are none of a target encoded in {width}.")
    if categories is not None:
        codes = matrix.argmax(axis=1) if width > 1 else np.rint(matrix[:, 0]).astype(np.int64)
        if record["transformer"] == "OneHotEncoder" and width == 1:
            codes = np.zeros(len(matrix), dtype=np.int64)
        return np.asarray(np.array(categories)[np.clip(codes, 0, len(categories) - 1)])
    column = matrix[:, 0]
    if "inverse" in record:
        return np.asarray(getattr(np, record["inverse"])(column))
    if "min" in record:
        return np.asarray((column - record["min"]) / record["scale"])
    return np.asarray(column * record["factor"] + record["shift"])


def classes_of(record: Mapping[str, Any] | None) -> list[Any] | None:
    """Return the classes that a version encodes, None if it encodes numbers or nothing."""
    return None if record is None else record.get("categories")


def inverse_of_lines(targets: Any, table: pl.DataFrame, values_of: Callable[[pl.DataFrame], Array]) -> Array:
    """Return the lines of a predictions table brought back by what was recorded for their targets.

    Parameters
    ----------
    targets : TargetBlock
    table : polars.DataFrame
    values_of : callable
        Returns the outputs of some lines.

    Raises
    ------
    ValueError
        If nothing is recorded for a version, or numbers and text come out.
    """
    if not table.height:
        values_of(table)
    parts: list[tuple[Array, Array]] = []
    keys = ["processing", "metadata"]
    for (version, extra), lines in table.with_row_index("\0line").group_by(keys, maintain_order=True):
        names = _targets_named(targets, extra)
        records = [targets.records.get((version, name)) for name in names]
        lost = [name for name, record in zip(names, records, strict=True) if record is None]
        if lost:
            raise ValueError(
                f"no transformer is recorded for target {lost[0]!r} in version {version!r}; encode_targets records "
                "one, or give the transformers yourself."
            )
        values = values_of(lines.drop("\0line"))
        pieces = [values] if len(names) == 1 else [values[:, [k]] for k in range(values.shape[1])]
        if len(pieces) != len(names):
            raise ValueError(f"predictions with {len(pieces)} outputs are none of the targets {names}.")
        back = [inverse_by_record(record, piece) for record, piece in zip(records, pieces, strict=True)]
        parts.append((lines["\0line"].to_numpy(), np.column_stack(back)))
    texts = {part.dtype.kind in "UO" for _, part in parts}
    widths = {part.shape[1] for _, part in parts}
    if len(texts) > 1 or len(widths) > 1:
        raise ValueError("the predictions selected come back as numbers and text, or as several shapes; name a model.")
    order = np.argsort(np.concatenate([lines for lines, _ in parts]), kind="stable")
    return np.concatenate([part for _, part in parts])[order]


def _targets_named(targets: Any, extra: Any) -> list[str]:
    given = json.loads(extra).get("target") if extra else None
    if given is None:
        if len(targets.columns) != 1:
            raise ValueError(
                "the predictions do not say of which target they are (meta['target']); give the transformers yourself."
            )
        return list(targets.columns)
    names = [given] if isinstance(given, str) else list(given)
    for name in names:
        if name not in targets.columns:
            raise UnknownNameError(nearest(name, targets.columns, "target"))
    return names


def steps_of(transformers: Any) -> list[Callable[[Array], Any]]:
    """Return what brings predictions back, in the order in which it is called.

    Parameters
    ----------
    transformers : sequence
        Fitted transformers, called from the last to the first, or functions, called in order.

    Raises
    ------
    ValueError, TypeError
        If there is none, or both kinds.
    """
    given = [transformers] if callable(transformers) or hasattr(transformers, "inverse_transform") else None
    items = list(transformers) if given is None else given
    if not items:
        raise ValueError("transformers is empty.")
    fitted = [hasattr(item, "inverse_transform") for item in items]
    if all(fitted):
        return [item.inverse_transform for item in reversed(items)]
    if any(fitted) or not all(callable(item) for item in items):
        raise TypeError(
            "transformers are either fitted transformers (their inverse_transform is called, last to first) or "
            f"functions (called in order), not a mixture: {items!r}."
        )
    return items


def present(column: pl.Series) -> Array:
    """Tell for each value of a column whether there is one; NaN is none."""
    if column.dtype.is_float():
        return np.asarray(~np.isnan(column.to_numpy()))
    there = column.is_not_null()
    if isinstance(column.dtype, pl.List | pl.Array):
        numbers = column if isinstance(column.dtype, pl.List) else column.arr.to_list()
        if numbers.dtype.inner.is_float():  # type: ignore[attr-defined]
            there &= ~numbers.list.eval(pl.element().is_null() | pl.element().is_nan()).list.any().fill_null(True)
    return np.asarray(there.to_numpy())


def plain_values(column: pl.Series) -> Array:
    """Return a column without missing values as an array: numbers as they are, categories and text as text."""
    if isinstance(column.dtype, pl.Categorical | pl.Enum) or column.dtype == pl.String:
        return np.array(column.cast(pl.String).to_list(), dtype=object)
    return np.asarray(column.to_numpy())
