"""Lineage: how each processing was made, so that it can be told, drawn, fitted anew and applied to new spectra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from spectroxr.errors import StoreError, UnknownNameError, nearest
from spectroxr.fitted import TRUSTED, loaded
from spectroxr.index import Index
from spectroxr.steps import listed_steps

__all__ = ["Fit", "Lineage", "Made"]

_SCHEMA: dict[str, Any] = {
    "processing": pl.String,
    "parent": pl.String,
    "steps": pl.String,
    "sources": pl.List(pl.String),
    "new_sources": pl.List(pl.String),
    "samples": pl.UInt32,
    "fit_on": pl.String,
    "fitted": pl.List(pl.UInt32),
    "target": pl.String,
    "edited": pl.Boolean,
    "stale": pl.Boolean,
    "params": pl.String,
    "packages": pl.String,
}


@dataclass(frozen=True)
class Fit:
    """The steps of one processing, fitted on one source.

    Attributes
    ----------
    source : str
        Where the spectra were taken from.
    to : str
        Where they were written: the same, or a new source with another axis.
    samples : int
        On how many samples the steps were fitted; 0 if nothing was to fit.
    kept : tuple
        Per step, what `fitted.dumped` wrote, or None.
    live : tuple or None
        The fitted steps themselves, in the session that made them.
    """

    source: str
    to: str
    samples: int
    kept: tuple[Any, ...]
    live: tuple[Any, ...] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Made:
    """How a processing was made.

    Attributes
    ----------
    processing, parent : str
    recipe : tuple of dict
        Its own steps, as `recipe_of` writes them.
    fit_on : JSON value
        The filter of the samples that the steps were fitted on, or None for all or for nothing to fit.
    target : str or None
    packages : dict of str to str
        Versions of Python and the packages that the steps came from.
    fits : dict of str to Fit
        By source.
    edited : bool
        Whether some of its spectra were written by hand afterwards.
    stale : bool
        Whether spectra that it was made from have changed since.
    steps : tuple or None
        The unfitted steps themselves, in the session that made them.
    """

    processing: str
    parent: str
    recipe: tuple[dict[str, Any], ...]
    fit_on: Any
    target: str | None
    packages: dict[str, str]
    fits: dict[str, Fit]
    edited: bool = False
    stale: bool = False
    steps: tuple[Any, ...] | None = field(default=None, compare=False)


class Lineage:
    """How the processings were made; usually reached as ``ds.lineage``."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._made: dict[str, Made] = {}

    def __len__(self) -> int:
        return len(self._made)

    def __contains__(self, processing: object) -> bool:
        """Tell whether it is known how a processing was made."""
        return processing in self._made

    def __getitem__(self, processing: str) -> Made:
        if processing not in self._made:
            if processing in self._index.lines:
                known = f"; known is how {', '.join(map(repr, self._made))} were" if self._made else ""
                raise UnknownNameError(f"processing {processing!r} was not made by apply{known}.")
            raise UnknownNameError(nearest(processing, self._made, "processing made by apply"))
        return self._made[processing]

    def note(self, made: Made) -> None:
        """Keep how a processing was made, with what is known of its other sources."""
        old = self._made.get(made.processing)
        if old is not None:
            made = replace(made, fits={**old.fits, **made.fits}, edited=old.edited)
        self._made = {**self._made, made.processing: made}

    def chain(self, processing: str) -> list[Made]:
        """Return how a processing was made, its parents first; empty for one that was added or written by hand."""
        links: list[Made] = []
        while processing in self._made and len(links) <= len(self._made):
            links.insert(0, self._made[processing])
            processing = links[0].parent
        return links

    def steps(
        self, processing: str, source: str | None = None, *, trusted: Sequence[str] = ()
    ) -> tuple[str, list[Any]]:
        """Return what a processing was made from, and the unfitted steps that made it.

        Parameters
        ----------
        processing : str
        source : str, optional
            Whose spectra; only checked.
        trusted : sequence of str
            Packages, besides those of `spectroxr.fitted.TRUSTED`, that a recipe from a store may use.

        Returns
        -------
        root : str
            A processing that `apply` did not make, such as ``"raw"``.
        steps : list
            Estimators, not fitted, and functions with their parameters, as pairs.

        Raises
        ------
        UnknownNameError
            If there is no such processing, or it was not made of that source.
        ValueError
            If a recipe from a store cannot be made into steps; the message says of which.
        """
        if processing not in self._index.lines and processing not in self._made:
            raise UnknownNameError(nearest(processing, self._index.lines, "processing"))
        links = self.chain(processing)
        made: list[Any] = []
        for link in links:
            if source is not None and source not in {
                name for one in link.fits.values() for name in (one.source, one.to)
            }:
                raise UnknownNameError(nearest(source, link.fits, f"source of processing {link.processing!r}"))
            made += listed_steps(list(link.steps if link.steps is not None else _made_of(link, trusted)))
        return (links[0].parent if links else processing), made

    def fitted(self, processing: str, source: str, *, trusted: Sequence[str] = (), pickles: bool = False) -> list[Any]:
        """Return the fitted steps that made a processing from its parent, in one source.

        Parameters
        ----------
        processing, source : str
        trusted : sequence of str
            Packages of which a store may make estimators, besides those of `spectroxr.fitted.TRUSTED`.
        pickles : bool
            Whether pickles may be read, which run whatever code is in them.

        Returns
        -------
        list
            Fitted estimators, and functions with their parameters, as pairs.

        Raises
        ------
        UnknownNameError
            If it was not made of that source.
        StoreError, ValueError
            If a step was not kept, or is not trusted.
        """
        made = self[processing]
        if source not in made.fits:
            raise UnknownNameError(nearest(source, made.fits, f"source of processing {processing!r}"))
        fit = made.fits[source]
        if fit.live is not None:
            return list(fit.live)
        steps: list[Any] = []
        for k, (step, kept) in enumerate(zip(made.recipe, fit.kept, strict=True)):
            name = f"step {k} ({step.get('name')}) of {processing!r}"
            if kept is not None:
                steps.append(loaded(kept, trusted, pickles, name))
            elif ":" in str(step.get("name")):
                steps += listed_steps(_remade([step], trusted, name))
            else:
                raise StoreError(f"{name} was kept for its session only (keep=None); apply it anew.")
        return steps

    @property
    def table(self) -> pl.DataFrame:
        """One line per processing, in the order in which they were first written.

        ``processing, parent, steps`` (names, joined by arrows), ``sources``, ``new_sources`` (those with another axis),
        ``samples`` (that have it), ``fit_on`` and ``fitted`` (the filter, and on how many samples, per source),
        ``target``, ``edited`` (whether spectra were written by hand afterwards), ``stale`` (whether those it was made
        from have changed since), ``params`` and ``packages`` (JSON).
        What was not made by `apply` has nulls.
        """
        return pl.DataFrame([self._line(name) for name in self._index.lines], schema=_SCHEMA, orient="row")

    def _line(self, name: str) -> tuple[Any, ...]:
        samples = len(self._index.lines[name].samples)
        made = self._made.get(name)
        if made is None:
            return (name, None, None, None, None, samples, *[None] * (len(_SCHEMA) - 6))
        fits = made.fits.values()
        return (
            name,
            made.parent,
            " -> ".join(step_names(made.recipe)),
            [fit.source for fit in fits],
            [fit.to for fit in fits if fit.to != fit.source],
            samples,
            None if made.fit_on is None else as_text(made.fit_on),
            [fit.samples for fit in fits],
            made.target,
            made.edited,
            made.stale,
            as_text([step.get("params", {}) for step in made.recipe]),
            as_text(made.packages),
        )

    def tree(self) -> str:
        """Return the lineage as text, each processing below its parent.

        Examples
        --------
        >>> import numpy as np
        >>> from spectroxr import SpectroDataset
        >>> from sklearn.preprocessing import StandardScaler
        >>> ds = SpectroDataset()
        >>> ds.add_features({"nir": np.random.default_rng(0).random((5, 4))})
        >>> first = ds.apply((np.clip, {"a_min": 0.2, "a_max": None}), name="clipped")
        >>> second = ds.apply(StandardScaler(), parent="clipped", name="scaled")
        >>> print(ds.lineage.tree())
        raw
        └── clipped: clip
            └── scaled: StandardScaler
        """
        return "\n".join(f"{lead}{name}{label}" for lead, name, label in self._branches())

    def _branches(self) -> Iterator[tuple[str, str, str]]:
        names = list(self._index.lines)
        below: dict[str | None, list[str]] = {}
        for name in names:
            made = self._made.get(name)
            parent = made.parent if made is not None and made.parent in names else None
            below.setdefault(parent, []).append(name)

        def branch(name: str, lead: str, rest: str) -> Iterator[tuple[str, str, str]]:
            made = self._made.get(name)
            yield lead, name, "" if made is None else ": " + _label(made)
            children = below.get(name, [])
            for child in children:
                last = child is children[-1]
                yield from branch(child, rest + ("└── " if last else "├── "), rest + ("    " if last else "│   "))

        for root in below.get(None, []):
            yield from branch(root, "", "")

    @property
    def edges(self) -> list[tuple[str, str, str]]:
        """Parent, processing and the steps between them, in the order of the processings."""
        return [(made.parent, name, _label(made)) for name in self._index.lines if (made := self._made.get(name))]

    def touched(self, processing: str) -> None:
        """Remember that spectra of a processing were written by hand."""
        if processing in self._made and not self._made[processing].edited:
            self._made = {**self._made, processing: replace(self._made[processing], edited=True)}
        self.outdate(processing)

    def outdate(self, processing: str) -> None:
        """Remember that spectra of a processing have changed, and so what was made of it is no longer of these."""
        below = found = {processing}
        while found:
            found = {name for name, made in self._made.items() if made.parent in below and name not in below}
            below |= found
        old = [name for name in below - {processing} if not self._made[name].stale]
        if old:
            self._made = self._made | {name: replace(self._made[name], stale=True) for name in old}

    def rename(self, processing: str, to: str) -> None:
        """Follow a processing that got another name."""
        renamed = {}
        for name, made in self._made.items():
            parent = to if made.parent == processing else made.parent
            own = to if name == processing else name
            renamed[own] = replace(made, processing=own, parent=parent)
        self._made = renamed

    def snapshot(self) -> dict[str, Any]:
        """Return what is to be stored: JSON."""
        if not self._made:
            return {}
        return {"version": 1, "made": [_written(made) for made in self._made.values()]}

    def restore(self, document: Mapping[str, Any] | None) -> None:
        """Take back what was stored.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is not readable.
        """
        made = [_read(one) for one in (document or {}).get("made", [])]
        self._made = {one.processing: one for one in made}

    def state(self) -> dict[str, Made]:
        """Return what `back` needs."""
        return self._made

    def back(self, state: dict[str, Made]) -> None:
        """Undo what was noted since `state` was taken."""
        self._made = state


def step_names(recipe: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the short names of the steps of a recipe."""
    return [str(step.get("name")).rpartition(":")[2].rpartition(".")[2] for step in recipe]


def as_text(value: Any) -> str:
    """Return a JSON value as text."""
    import json

    return json.dumps(value, ensure_ascii=False)


def _label(made: Made) -> str:
    label = " -> ".join(step_names(made.recipe))
    new = [f"{fit.source} to {fit.to}" for fit in made.fits.values() if fit.to != fit.source]
    marks = [mark for mark, is_so in (("edited", made.edited), ("stale", made.stale)) if is_so]
    return label + (f" ({', '.join(new)})" if new else "") + "".join(f" ({mark})" for mark in marks)


def _made_of(link: Made, trusted: Sequence[str]) -> list[Any]:
    return _remade(list(link.recipe), trusted, f"processing {link.processing!r}")


def _remade(recipe: list[dict[str, Any]], trusted: Sequence[str], name: str) -> list[Any]:
    from spectroxr.remake import made_of

    try:
        return list(made_of(recipe, trusted=(*TRUSTED, "numpy", "pybaselines", *trusted)))
    except ValueError as error:
        raise ValueError(f"{name} cannot be made from its recipe: {error}") from error


def _written(made: Made) -> dict[str, Any]:
    return {
        "processing": made.processing,
        "parent": made.parent,
        "recipe": list(made.recipe),
        "fit_on": made.fit_on,
        "target": made.target,
        "packages": dict(made.packages),
        "edited": made.edited,
        "stale": made.stale,
        "fits": [
            {"source": fit.source, "to": fit.to, "samples": fit.samples, "kept": list(fit.kept)}
            for fit in made.fits.values()
        ],
    }


def _read(one: Any) -> Made:
    fits = [Fit(_text(f["source"]), _text(f["to"]), int(f["samples"]), tuple(f["kept"])) for f in one["fits"]]
    recipe = tuple(one["recipe"])
    if not all(isinstance(step, dict) and isinstance(step.get("name"), str) for step in recipe):
        raise ValueError("a recipe has steps without a name")
    if any(len(fit.kept) != len(recipe) for fit in fits):
        raise ValueError("fitted steps and recipe do not belong together")
    return Made(
        _text(one["processing"]),
        _text(one["parent"]),
        recipe,
        one["fit_on"],
        None if one["target"] is None else _text(one["target"]),
        {_text(k): _text(v) for k, v in one["packages"].items()},
        {fit.source: fit for fit in fits},
        one["edited"] is True,
        one.get("stale") is True,
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value
