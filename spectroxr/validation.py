"""Cross-validation without leaks; its predictions end in the predictions table."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from spectroxr.fitting import check_estimator, draws, fit_fold, is_classifier
from spectroxr.foldreading import FoldSpectra, with_choice
from spectroxr.log import enabled, log, quiet
from spectroxr.modelling import about_of, behind, check_whole, fields_of, output_of, spectra_for, tell_missing
from spectroxr.outputs import stacked_parts
from spectroxr.problems import Problem, problems_of
from spectroxr.runs import Run, found_run, run_name
from spectroxr.schema import Array, Filter
from spectroxr.splitting import Fold, calibration_samples, changes, folds_of

if TYPE_CHECKING:
    from spectroxr.dataset import SpectroDataset

__all__ = ["cross_validate"]


def cross_validate(
    self: SpectroDataset,
    estimator: Any,
    *,
    target: str | Sequence[str] | None = None,
    filter: Filter = None,
    processing: str | Sequence[str] | None = None,
    source: Any = None,
    layout: str = "2d",
    src_concat: bool | str = True,
    cv: Any = None,
    groups: str | None = None,
    repeats: int = 1,
    seed: int = 0,
    n_jobs: int | None = None,
    refit: bool = False,
    keep_train: bool = False,
    target_version: str | None = None,
    model: str | None = None,
    progress: bool | None = None,
    resume: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
) -> pl.DataFrame:
    """Predict each sample by a model that has seen neither it nor what was derived from it.

    Parameters
    ----------
    estimator : estimator
        A regressor or classifier of scikit-learn, a pipeline, or any object with ``fit`` and ``predict``. A clone is
        fitted for each fold, the object itself never. What is to be fitted on training samples alone, such as
        preprocessing, belongs into the pipeline (or see `refit`).
    target : str or sequence of str, optional
        What to predict (default: all targets). Several targets are fitted at once if the estimator can do that and
        none has missing values, else one model is fitted per target. Samples without a value of a target take no part
        in predicting that one.
    filter : None, dict or polars.Expr
        The samples, and the wavelengths. Unless it names ``partition``, samples of partition ``"test"`` take no part.
        Only augmented samples that it selects train.
    processing, source : str or sequence of str, optional
        Which processings and sources of the spectra (default: all the filter selects).
    layout : {"2d", "2d_interlaced", "3d", "3d_transpose"}
    src_concat : bool or "block", default True
        True: several sources side by side. ``"block"``: also centred and scaled to equal total variance, by a
        `spectroxr.fusion.BlockScaler` that is fitted in each fold. False: a list of one array per source, for
        estimators that take such.
    cv : int, splitter, iterable of (train, val) or None
        A number of folds, shuffled by the seed, and stratified if the estimator is a classifier; a scikit-learn
        splitter; sample ids. None takes the folds that are set, else 5. Only originals are split: augmented samples
        train where the sample they were derived from does, and validate nowhere.
    groups : str, optional
        A column of the index, the metadata or the targets: samples with the same value, such as replicates, are on
        the same side. With a number of folds, these are of groups; a splitter that parts a group, such as ``KFold``
        or ``LeaveOneOut`` with replicates, is refused.
    repeats : int, default 1
        How often to split anew.
    seed : int, default 0
        Repeat k shuffles with ``seed + k``, which is also given to the estimator as ``random_state`` where that is
        None.
    n_jobs : int, optional
        How many folds at a time, through joblib: threads, or what ``joblib.parallel_config(backend=...)`` says. The
        predictions do not depend on it.
    refit : bool, default False
        Fit what made the processing (see `apply`) anew in each fold, on its training samples, from the spectra that it
        was made from. Steps that learn from a target then learn from `target`.
    keep_train : bool, default False
        Keep the predictions of the training samples too, as partition ``"train"``.
    target_version : str, optional
        The version of the targets to train on (default: that which `y` gives).
    model : str, optional
        Name of the model in the predictions table (default: the class, with a number where another run has it). One
        that predictions of another run have is refused, since `metrics` would pool both.
    progress : bool, optional
        Show a bar (default: in terminals and notebooks, after one second, if tqdm is installed).
    resume : bool, default True
        Take the folds that are in the predictions table as they are, if they are of the same run: the same parameters,
        arguments, samples in the folds, spectra and targets. A run that was cut off goes on where it was. False begins
        anew, and keeps what is there.
    checkpoint : str or path-like, optional
        Where to `save` the dataset after each fold.

    Returns
    -------
    polars.DataFrame
        Lines of the predictions table, those that were added and those that were found, by repeat and fold. ``fold``,
        ``repeat``, ``seed``; ``partition`` ``"val"`` or ``"train"``; ``processing`` is the version of the targets;
        ``metadata`` JSON with ``target``, ``features``, ``source``, ``layout``, ``src_concat``, ``scale``, ``task``,
        ``classes``, ``refit`` and ``run``. Classes that are text are predicted as ``labels``.

    Raises
    ------
    ValueError, TypeError, UnknownNameError, NotRectangularError
        If anything does not fit; before the first fold is fitted.

    Warns
    -----
    SpectroWarning
        If samples are left out because they lack a target.

    Notes
    -----
    Each fold is added to the predictions as a whole, when it is done: what an error or an interruption leaves are
    whole folds. A run cannot be continued if the estimator has parameters that no other session would find, such as
    lambdas; see `spectroxr.recipe.recipe_of`.

    Spectra that were processed before, such as a processing fitted by `apply` on all training samples, have seen the
    samples that are held out. `refit` or a pipeline avoids that.

    Examples
    --------
    >>> import numpy as np, polars as pl
    >>> from sklearn.cross_decomposition import PLSRegression
    >>> from spectroxr import SpectroDataset
    >>> rng = np.random.default_rng(0)
    >>> ds, protein = SpectroDataset(), rng.normal(12, 1, 30)
    >>> ds.add_features({"nir": np.outer(protein, rng.random(50)) + rng.normal(0, 0.1, (30, 50))})
    >>> ds.add_targets(pl.DataFrame({"protein": protein}))
    >>> found = ds.cross_validate(PLSRegression(2, scale=False), cv=3)
    >>> found.height, found["partition"].unique().to_list(), found["fold"].n_unique()
    (30, ['val'], 3)
    """
    check_estimator(estimator)
    check_whole(repeats=repeats, seed=seed)
    chosen = with_choice(filter, processing, source)
    samples = calibration_samples(self, chosen)
    problems, missing = problems_of(self, estimator, samples, target, target_version)
    taking = samples
    if any(missing.values()):
        taking = functools.reduce(np.union1d, [one.samples for one in problems])
    spectra = spectra_for(self, estimator, taking, chosen, layout, src_concat, refit)
    origins = self.features.index.origins
    first = problems[0]
    alone = len(problems) == 1 and first.y.ndim == 1
    folds = folds_of(
        self,
        taking,
        first.values(taking[origins[taking] == taking]) if alone else None,
        cv=cv,
        groups=groups,
        repeats=repeats,
        seed=seed,
        stratify=alone and is_classifier(estimator),
    )
    _check_folds(folds, problems)
    if repeats > 1 and not changes(cv, bool(len(self.folds))) and not draws(estimator):
        raise ValueError(f"repeats={repeats}, but neither these folds nor the estimator change from one to the next.")
    whole = behind(spectra.ahead, estimator)
    about = about_of(estimator, spectra, layout, src_concat, refit)
    name = run_name(
        whole,
        {**about, "model": model, "keep_train": keep_train, "targets": [[*p.targets, p.version] for p in problems]},
        folds,
        spectra.pieces(),
        (one.y for one in problems),
    )
    run = found_run(self.predictions, name, model, type(estimator).__name__, resume)
    tell_missing("cross_validate", missing, len(samples))
    todo = [fold for fold in folds if (fold.repeat, fold.number) not in run.done]
    added = dict(run.done)
    for fold, outputs in _shown(_fitted(whole, todo, problems, spectra, keep_train, n_jobs), len(todo), progress):
        parts = _lines(self, fold, problems, outputs, run, about)
        self.predictions.append(*parts)
        added[fold.repeat, fold.number] = stacked_parts(parts)
        if checkpoint is not None:
            with quiet():
                self.save(checkpoint, message=f"{run.model}: {len(added)} of {len(folds)} folds")
    if enabled():
        log(
            f"cross_validate: {run.model}, {len(taking)} samples, {len(todo)} folds fitted, {len(run.done)} found, "
            f"run {run.name}"
        )
    return stacked_parts([added[fold.repeat, fold.number] for fold in folds])


def _check_folds(folds: Sequence[Fold], problems: Sequence[Problem]) -> None:
    for one in problems:
        for fold in folds:
            for side, ids in (("train", fold.train), ("validate", fold.val)):
                if not len(one.among(ids)):
                    raise ValueError(f"{fold}: of the samples that {side}, none has target {one.targets[0]!r}.")


def _fitted(
    estimator: Any,
    folds: Sequence[Fold],
    problems: Sequence[Problem],
    spectra: FoldSpectra,
    keep_train: bool,
    n_jobs: int | None,
) -> Iterator[tuple[Fold, list[tuple[Array, Array | None]]]]:
    """Yield the predictions fold by fold, in their order."""
    import joblib

    if joblib.effective_n_jobs(n_jobs) == 1 or len(folds) < 2:
        last: list[Any] = []
        for fold in folds:
            yield fold, fit_fold(estimator, fold.seed, _jobs(fold, problems, spectra), keep_train, last)
        return
    from sklearn.utils.parallel import Parallel, delayed

    work = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator", pre_dispatch="n_jobs", batch_size=1)
    calls = (delayed(fit_fold)(estimator, fold.seed, _jobs(fold, problems, spectra), keep_train) for fold in folds)
    yield from zip(folds, work(calls), strict=True)


def _jobs(fold: Fold, problems: Sequence[Problem], spectra: FoldSpectra) -> list[tuple[Any, Array, Any]]:
    """Return spectra and targets of a fold, for each problem; those of the same samples are read once."""
    jobs: list[tuple[Any, Array, Any]] = []
    read: dict[bytes, tuple[Any, Any]] = {}
    for one in problems:
        train, val = one.among(fold.train), one.among(fold.val)
        key = train.tobytes() + b"/" + val.tobytes() if len(problems) > 1 else b""
        if key not in read:
            read[key] = (spectra.read(train), spectra.read(val))
        jobs.append((read[key][0], one.values(train), read[key][1]))
    return jobs


def _lines(
    ds: SpectroDataset,
    fold: Fold,
    problems: Sequence[Problem],
    outputs: Sequence[tuple[Array, Array | None]],
    run: Run,
    about: Mapping[str, Any],
) -> list[pl.DataFrame]:
    parts = []
    for one, (val, train) in zip(problems, outputs, strict=True):
        fields = fields_of(one, run, about) | {"fold": fold.number, "repeat": fold.repeat, "seed": fold.seed}
        for partition, ids, values in (("val", fold.val, val), ("train", fold.train, train)):
            if values is not None:
                meta = fields | {"partition": partition, "sample": one.among(ids)}
                parts.append(ds.predictions.lines_of(output_of(one, values), meta))
    return parts


def _shown(items: Iterator[Any], count: int, progress: bool | None) -> Iterator[Any]:
    """Return an iterator that shows how far it is, if that is wanted."""
    if progress is False or count < 2 or (progress is None and not _watched()):
        return items
    bar = _bar()
    if bar is None:
        if progress:
            raise ImportError(
                "progress=True needs tqdm, which the extra 'learn' brings: pip install 'spectroxr[learn]'."
            )
        return items
    shown: Iterator[Any] = iter(bar(items, total=count, desc="folds", delay=0.0 if progress else 1.0))
    return shown


def _watched() -> bool:
    return "ipykernel" in sys.modules or bool(getattr(sys.stderr, "isatty", bool)())


def _bar() -> Callable[..., Any] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm  # type: ignore[no-any-return]
