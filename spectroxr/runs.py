"""Which run of a validation predictions belong to, so that one that was cut off can be continued."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import xxhash

from spectroxr.schema import Array
from spectroxr.splitting import Fold

if TYPE_CHECKING:
    from spectroxr.predictions import PredictionBlock

__all__ = ["Run", "found_run", "run_name"]


@dataclass(frozen=True)
class Run:
    """One run of `cross_validate`.

    Attributes
    ----------
    name : str
        Stands in the metadata of its predictions.
    model : str
    done : dict of (int, int) to polars.DataFrame
        By repeat and fold, the predictions that are there.
    """

    name: str
    model: str
    done: dict[tuple[int, int], pl.DataFrame]


def run_name(
    estimator: Any, about: Mapping[str, Any], folds: Sequence[Fold], spectra: Iterable[Array], targets: Iterable[Array]
) -> str | None:
    """Return a hash of all that decides what a run predicts.

    Parameters
    ----------
    estimator : estimator
    about : dict
        Arguments, as JSON.
    folds : sequence of Fold
    spectra, targets : iterable of ndarray

    Returns
    -------
    str or None
        16 hexadecimal digits: the same for the same parameters, arguments, samples of the folds, spectra and targets.
        None if the estimator has a parameter that no other session would find, such as a lambda.
    """
    from spectroxr.recipe import recipe_of

    try:
        recipe = recipe_of([estimator])
    except (TypeError, ValueError):
        return None
    digest = hashlib.sha256(json.dumps([recipe, dict(about)], sort_keys=True).encode())
    for fold in folds:
        digest.update(f"{fold.repeat} {fold.number} {fold.seed} {len(fold.train)} {len(fold.val)}".encode())
        for side in (fold.train, fold.val):
            digest.update(np.ascontiguousarray(side).astype("<u4", copy=False).tobytes())
    data = xxhash.xxh3_128()
    for array in spectra:
        _add(data, array)
    for array in targets:
        _add(data, array)
    digest.update(data.digest())
    return digest.hexdigest()[:16]


def _add(digest: Any, array: Array) -> None:
    digest.update(f"{array.dtype.str} {array.shape}".encode())
    if array.dtype.kind == "O":
        digest.update(json.dumps(array.tolist(), default=str).encode())
    else:
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def found_run(predictions: PredictionBlock, name: str | None, model: str | None, called: str, resume: bool) -> Run:
    """Return the run that is to be continued, or a new one.

    Parameters
    ----------
    predictions : PredictionBlock
    name : str or None
        The hash; None for one that cannot be found again.
    model : str or None
        The name that was given to the model.
    called : str
        The name of an estimator's class; a number follows where another run has that name.
    resume : bool
        False: a new run, whatever there is.

    Raises
    ------
    ValueError
        If a new run is to have the name of a model that predictions have already.
    """
    if name is None:
        name = uuid.uuid4().hex[:16]
    if not len(predictions):
        return Run(name, called if model is None else model, {})
    lines = predictions.lines_with(f'"run": "{name}')
    runs = dict.fromkeys(json.loads(text)["run"] for text in lines["metadata"].unique(maintain_order=True))
    attempts = [run for run in runs if run == name or run.startswith(f"{name}.")]
    if attempts and resume:
        latest = attempts[-1]
        own = lines.filter(pl.col("metadata").str.contains(f'"run": "{latest}"', literal=True))
        keys = own.partition_by("repeat", "fold", as_dict=True, maintain_order=True)
        done = {(int(str(repeat)), int(str(fold))): part for (repeat, fold), part in keys.items()}
        return Run(latest, own["model"][0], done)
    if attempts:
        name = f"{name}.{len(attempts) + 1}"
    if model is not None:
        own = predictions.table.filter(pl.col("model") == model)
        if own.height:
            raise ValueError(
                f"the predictions hold {own.height} lines of model {model!r} that are of another run, and metrics "
                f"would pool both; give another name, such as model={_free(model, predictions)!r}."
            )
    else:
        model = _free(called, predictions)
    return Run(name, model, {})


def _free(called: str, predictions: PredictionBlock) -> str:
    """Return a name that no predictions have, with a number if need be."""
    taken = set(predictions.table["model"].unique())
    model, number = called, 2
    while model in taken:
        model, number = f"{called}-{number}", number + 1
    return model
