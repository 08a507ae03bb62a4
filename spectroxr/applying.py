"""Applying transformers to spectra: fitted on training samples alone, written as a processing, and remembered."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from spectroxr.applied import Result, changes, read, samples_of, spectra_of, transformed, write
from spectroxr.cells import check_name
from spectroxr.errors import UnknownNameError, nearest
from spectroxr.fitted import dumped
from spectroxr.inherit import derived_from
from spectroxr.lineage import Fit, Made, as_text, step_names
from spectroxr.log import enabled, log
from spectroxr.recipe import processing_hash, recipe_of
from spectroxr.schema import TRAIN, Array, Filter
from spectroxr.steps import fit_steps, is_fitted_to_data, listed_steps

if TYPE_CHECKING:
    from spectroxr.dataset import SpectroDataset

__all__ = ["apply"]


def apply(
    ds: SpectroDataset,
    transformer: Any,
    *,
    source: str | Sequence[str] | None = None,
    parent: str = "raw",
    fit_on: Filter = TRAIN,
    filter: Filter = None,
    target: str | None = None,
    name: str | None = None,
    new_source: str | Mapping[str, str] | None = None,
    wavelength: Any = None,
    keep: str | None = "skops",
) -> str:
    """Transform spectra, write them as a processing, and remember how it was made.

    Parameters
    ----------
    transformer : estimator, function, pair or list of these
        A scikit-learn or chemotools transformer or pipeline; a function of an ``(n, wavelength)`` array, alone or
        as a pair with its parameters; a list of these, one after the other. A function of pybaselines, such as
        ``(pybaselines.whittaker.asls, {"lam": 1e6})``, takes its baseline off each spectrum. It is cloned, never
        fitted itself.
    source : str or sequence of str, optional
        Which sources; each is fitted by itself (default: all that have `parent`).
    parent : str, default "raw"
        The processing to start from.
    fit_on : None, dict or polars.Expr, default ``{"partition": "train"}``
        The samples to fit on; None for all.
    filter : None, dict or polars.Expr
        Only transform these samples (default: all that have `parent`).
    target : str, optional
        A target to give to ``fit``, in the version written last; samples without it are not fitted on.
    name : str, optional
        Name of the processing (default: the hash of all steps since the root, see `processing_hash`, and of
        `fit_on` and `target` where they matter and are not the default).
    new_source : str or dict of str, optional
        Where the steps change the axis, the name of the new source, one or per source (default: source, a dot,
        and the name of the processing).
    wavelength : array_like, optional
        The axis the steps make, where they cannot say which: a function that interpolates, for instance. Scores
        are numbered 1, 2, 3, ...
    keep : {"skops", "pickle", None}
        How to store the fitted steps. None keeps them for this session only.

    Returns
    -------
    str
        The name of the processing.

    Raises
    ------
    ValueError
        If a step changes the number of rows, makes NaN of finite spectra, or columns that have no axis; if nothing
        is there to fit on; if there is a processing of that name that was made otherwise.
    TypeError
        If a step is neither an estimator nor a function, or has a parameter that no other session would know.
    UnknownNameError
        If the source, the parent or a key of a filter does not exist. The dataset is then as it was.

    Notes
    -----
    Each physical row is transformed once: augmented samples that share it go on sharing it. All rows are given to
    the steps in one call, as a read-only array, a view where the dataset has one. The result has the source's
    dtype. Applying the same again overwrites with the same, and gives samples added since their spectra.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import StandardScaler
    >>> from spectroxr import SpectroDataset, processing_hash
    >>> ds = SpectroDataset()
    >>> ds.add_features({"nir": np.random.default_rng(0).random((6, 4))}, partition=["train"] * 4 + ["test"] * 2)
    >>> name = ds.apply(StandardScaler())
    >>> name == processing_hash(StandardScaler())
    True
    >>> bool(np.allclose(ds.x({"processing": name, "partition": "train"})[0].mean(axis=0), 0))
    True
    """
    steps = listed_steps(transformer)
    if not steps:
        raise ValueError(f"{transformer!r} has no step.")
    recipe = recipe_of(transformer)
    if len(recipe) != len(steps):
        raise ValueError(f"{transformer!r} has {len(recipe)} steps by its recipe, and {len(steps)} to run.")
    if parent not in ds.features.cells.index.lines:
        raise UnknownNameError(nearest(parent, ds.features.cells.index.lines, "processing"))
    learns = any(is_fitted_to_data(step) for step in steps)
    said = _said(fit_on) if learns else None
    named = name if name is not None else name_of(ds, recipe, parent, said, target, learns)
    check_name(named, "processing")
    _check_other(ds, named, parent, recipe, said, target, learns)
    results = []
    sources = _sources(ds, source, parent, filter)
    for key in new_source if isinstance(new_source, Mapping) else ():
        if key not in sources:
            raise UnknownNameError(nearest(key, sources, "source of new_source"))
    for one in sources:
        spectra = spectra_of(ds, one, parent, filter)
        x, y = (_training(ds, one, parent, fit_on, target)) if learns else (spectra.values[:1], None)
        fitted = fit_steps(steps, x, y)
        kept = [
            None if isinstance(step, tuple) else dumped(step, keep, f"step {k} ({type(step).__name__})")
            for k, step in enumerate(fitted)
        ]
        values, axis = transformed(fitted, spectra, wavelength)
        to = one if axis is spectra.axis else _new_name(new_source, one, named)
        results.append(Result(spectra, Fit(one, to, len(x) if learns else 0, tuple(kept), tuple(fitted)), values, axis))
    changed = False
    for result in results if named in ds.lineage else ():
        changed |= changes(ds, named, result, learns)
    write(ds, named, results)
    if changed:
        ds.lineage.outdate(named)
    ds.lineage.note(
        Made(
            named,
            parent,
            tuple(recipe),
            said,
            target,
            _packages(recipe),
            {one.fit.source: one.fit for one in results},
            steps=tuple(steps),
        )
    )
    if enabled():
        log(f"apply: {named!r} from {parent!r}, sources {[one.fit.source for one in results]}")
    return named


def name_of(
    ds: SpectroDataset, recipe: Sequence[dict[str, Any]], parent: str, fit_on: Any, target: str | None, learns: bool
) -> str:
    """Return the hash that names a processing: of all steps from the root, and of what else makes it another one."""
    links = ds.lineage.chain(parent)
    steps: list[Any] = [step for link in links for step in link.recipe]
    root = links[0].parent if links else parent
    extra: list[Any] = []
    if root != "raw":
        extra.append(("from", {"processing": root}))
    for said, about, fits in [*((one.fit_on, one.target, _learnt(one)) for one in links), (fit_on, target, learns)]:
        if fits and said != TRAIN:
            extra.append(("fit_on", {"filter": as_text(said)}))
        if about is not None:
            extra.append(("target", {"name": about}))
    return processing_hash([*steps, *recipe, *extra])


def _learnt(made: Made) -> bool:
    return any(fit.samples for fit in made.fits.values())


def _said(fit_on: Filter) -> Any:
    """Return a filter as a JSON value."""
    if fit_on is None:
        return None
    if isinstance(fit_on, pl.Expr):
        return _of_expression(fit_on)
    if any(isinstance(value, pl.Expr) for value in fit_on.values()):
        (step,) = recipe_of(("filter", {k: v for k, v in fit_on.items() if not isinstance(v, pl.Expr)}))
        return step["params"] | {k: _of_expression(v) for k, v in fit_on.items() if isinstance(v, pl.Expr)}
    if fit_on == TRAIN:
        return dict(TRAIN)
    (step,) = recipe_of(("filter", dict(fit_on)))
    return step["params"]


def _of_expression(given: pl.Expr) -> dict[str, str]:
    """Return an expression as text, which Polars shortens, and a checksum of all of it."""
    return {"expression": str(given), "sha256": hashlib.sha256(given.meta.serialize()).hexdigest()}


def _check_other(
    ds: SpectroDataset, name: str, parent: str, recipe: Any, fit_on: Any, target: str | None, learns: bool
) -> None:
    """Raise if there is a processing of that name that was made otherwise."""
    if name not in ds.features.cells.index.lines:
        return
    if name not in ds.lineage:
        raise ValueError(f"there is a processing {name!r} already, not made by apply; give another name=...")
    old = ds.lineage[name]
    if (old.parent, list(old.recipe), old.target) != (parent, list(recipe), target) or (
        learns and old.fit_on != fit_on
    ):
        raise ValueError(
            f"there is a processing {name!r} already, made of {old.parent!r} by "
            f"{' -> '.join(step_names(old.recipe))} with other settings; give another name=..."
        )


def _sources(ds: SpectroDataset, source: str | Sequence[str] | None, parent: str, filter: Filter) -> list[str]:
    """Return the sources meant: those named, or all that hold the parent."""
    cells = ds.features.cells
    if source is not None:
        names = [source] if isinstance(source, str) else list(source)
        if not names or len(set(names)) < len(names):
            raise ValueError(f"source names no source, or one twice: {names}.")
        return [cells.source(one).name for one in names]
    lines = cells.index.lines[parent].samples
    wanted = set(ds.features.resolver.pick(ds.features.resolver.parse(filter))[0])
    held = [one for one in cells.sources if one in wanted and not cells.index.lacks(lines, parent, one).all()]
    if not held:
        raise ValueError(f"no source has the processing {parent!r}.")
    return held


def _training(
    ds: SpectroDataset, source: str, parent: str, fit_on: Filter, target: str | None
) -> tuple[Array, Array | None]:
    """Return the spectra that steps are fitted on, and their target."""
    try:
        samples = samples_of(ds, source, parent, fit_on)
    except ValueError as error:
        raise ValueError(
            f"there is nothing to fit on: {error} fit_on=None fits on all samples, fit_on={{...}} on others."
        ) from error
    if fit_on is not None:
        # what was derived from a sample that is not fitted on is not, either
        everyone = np.arange(len(ds.features.cells.index), dtype=np.uint32)
        outside = np.setdiff1d(everyone, ds.features.resolver.samples(fit_on))
        samples = samples[~derived_from(ds.features.cells.index.origins, outside)[samples]]
        if not len(samples):
            raise ValueError(
                f"there is nothing to fit on: all samples of {fit_on!s} are derived from others; add these to fit_on."
            )
    x = read(ds, source, parent, samples)
    if target is None:
        return x, None
    y = ds.targets.values(samples, ds.targets.current(True), target)
    missing = np.isnan(y) if y.dtype.kind == "f" else np.array([one is None for one in y.tolist()], dtype=bool)
    return (x[~missing], y[~missing]) if missing.any() else (x, y)


def _new_name(given: str | Mapping[str, str] | None, source: str, processing: str) -> str:
    """Return the name of the source that spectra on another axis go to."""
    if isinstance(given, Mapping):
        given = given.get(source)
    if given == source:
        raise ValueError(f"the steps change the axis of source {source!r}; give another name: new_source=...")
    return check_name(given if given is not None else f"{source}.{processing}", "source")


def _packages(recipe: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the versions of Python, numpy and the packages whose steps are in a recipe."""
    roots = {str(step["name"]).replace(":", ".").partition(".")[0] for step in recipe if "." in str(step["name"])}
    roots |= {str(step["name"]).partition(":")[0] for step in recipe if ":" in str(step["name"])}
    found = {"python": platform.python_version()}
    for root in sorted({"numpy"} | {one.partition(".")[0] for one in roots}):
        version = getattr(sys.modules.get(root), "__version__", None)
        if isinstance(version, str):
            found[root] = version
    return found
