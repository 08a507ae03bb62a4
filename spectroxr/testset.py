"""Fitting to the training samples and predicting the test samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spectroxr.fitting import Labelled, check_estimator, cloned, predicted
from spectroxr.foldreading import with_choice
from spectroxr.inherit import derived_from
from spectroxr.log import enabled, log
from spectroxr.modelling import about_of, behind, check_whole, fields_of, output_of, spectra_for, tell_missing
from spectroxr.problems import problems_of
from spectroxr.runs import found_run
from spectroxr.schema import TRAIN, Filter

if TYPE_CHECKING:
    from spectroxr.dataset import SpectroDataset

__all__ = ["fit_predict"]

TEST: dict[str, Any] = {"partition": "test"}


def fit_predict(
    self: SpectroDataset,
    estimator: Any,
    *,
    target: str | Sequence[str] | None = None,
    filter: Filter = None,
    train: Filter = TRAIN,
    test: Filter = TEST,
    processing: str | Sequence[str] | None = None,
    source: Any = None,
    layout: str = "2d",
    src_concat: bool | str = True,
    seed: int = 0,
    refit: bool = False,
    target_version: str | None = None,
    model: str | None = None,
) -> Any:
    """Fit an estimator to the training samples, and add its predictions of the test samples and of these.

    Parameters
    ----------
    estimator : estimator
        A clone is fitted, never the object itself.
    train, test : dict or polars.Expr
        The samples to fit to and to predict; both also have to pass `filter`. Test samples need no target. Augmented
        samples train unless they were derived from a test sample, and are not tested.
    target, filter, processing, source, layout, src_concat, seed, refit, target_version, model
        As in `cross_validate`.

    Returns
    -------
    estimator
        The fitted clone, behind a `BlockScaler` or the lineage steps if there are any. For several targets that are not
        fitted at once a dict of them by target. For classes that are text a `spectroxr.fitting.Labelled`, whose
        ``predict`` gives labels.

    Raises
    ------
    ValueError, TypeError, UnknownNameError, NotRectangularError
        If anything does not fit, or predictions have the name `model` already, also those of the same call; the dataset
        is then as it was.

    Warns
    -----
    SpectroWarning
        If training samples are left out because they lack a target.

    Notes
    -----
    Lines have partition ``"train"`` or ``"test"``, no fold, and the fields of `cross_validate`. A call is never
    continued: the same one again adds lines under a name with a number, and needs another `model` if it is given one.

    Examples
    --------
    >>> import numpy as np, polars as pl
    >>> from sklearn.cross_decomposition import PLSRegression
    >>> from spectroxr import SpectroDataset
    >>> rng = np.random.default_rng(0)
    >>> ds, protein = SpectroDataset(), rng.normal(12, 1, 30)
    >>> ds.add_features({"nir": np.outer(protein, rng.random(50))}, partition=["train"] * 20 + ["test"] * 10)
    >>> ds.add_targets(pl.DataFrame({"protein": protein}))
    >>> pls = ds.fit_predict(PLSRegression(1, scale=False))
    >>> pls.coef_.shape, ds.prediction({"partition": "test"}).shape
    ((1, 50), (10, 1))
    """
    check_estimator(estimator)
    check_whole(seed=seed)
    chosen = with_choice(filter, processing, source)
    resolver, origins = self.features.resolver, self.features.index.origins
    everyone = resolver.samples(chosen)
    fitting, tested = (np.intersect1d(everyone, resolver.samples(side)) for side in (train, test))
    tested = tested[origins[tested] == tested]
    both = np.intersect1d(fitting, tested)
    if len(both):
        raise ValueError(f"sample {both[0]} is selected to train and to be tested.")
    fitting = fitting[~derived_from(origins, tested)[fitting]]
    for side, what in ((fitting, "train"), (tested, "test")):
        if not len(side):
            raise ValueError(f"no sample passes both the filter {filter!s} and {what}={(train, test)[what == 'test']}.")
    problems, missing = problems_of(self, estimator, fitting, target, target_version)
    spectra = spectra_for(self, estimator, np.union1d(fitting, tested), chosen, layout, src_concat, refit)
    whole = behind(spectra.ahead, estimator)
    about = about_of(estimator, spectra, layout, src_concat, refit)
    run = found_run(self.predictions, None, model, type(estimator).__name__, False)
    tell_missing("fit_predict", missing, len(fitting))
    fitted: dict[str, Any] = {}
    parts = []
    x_test = spectra.read(tested)
    for one in problems:
        x = spectra.read(one.samples)
        made = cloned(whole, seed).fit(x, one.y)
        fitted[one.targets[0]] = made if one.classes is None else Labelled(made, one.classes)
        for partition, ids, given in (("test", tested, x_test), ("train", one.samples, x)):
            meta = fields_of(one, run, about) | {"partition": partition, "seed": seed, "sample": ids}
            parts.append(self.predictions.lines_of(output_of(one, predicted(made, given)), meta))
    self.predictions.append(*parts)
    if enabled():
        log(f"fit_predict: {run.model}, fitted to {len(fitting)} samples, {len(tested)} tested")
    return fitted if len(problems) > 1 else fitted[problems[0].targets[0]]
