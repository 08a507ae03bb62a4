"""Lineage steps inside the folds: what made a processing, fitted anew with the estimator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spectroxr.foldreading import FoldSpectra, selection_of
from spectroxr.schema import Array, Filter
from spectroxr.steps import called

if TYPE_CHECKING:
    from spectroxr.dataset import SpectroDataset

__all__ = ["refitted_spectra"]


def refitted_spectra(
    ds: SpectroDataset, samples: Array, filter: Filter, layout: str, src_concat: bool | str
) -> FoldSpectra:
    """Return the spectra that processings were made from, and ahead of the estimator the steps that made them.

    Parameters
    ----------
    ds : SpectroDataset
    samples, filter, layout, src_concat
        As in `plain_spectra`.

    Raises
    ------
    ValueError
        If the layout is not 2d, several sources are to be handed out apart, or spectra were written by hand.
    UnknownNameError
        If it is not known how a processing was made.
    """
    from sklearn.compose import ColumnTransformer

    from spectroxr.fusion import BlockScaler

    if layout != "2d":
        raise ValueError(f"refit=True makes spectra anew in layout '2d', not {layout!r}.")
    whole = selection_of(ds, samples, filter)
    if len(whole.sources) > 1 and not src_concat:
        raise ValueError("refit=True puts sources side by side: src_concat=True or 'block'.")
    roots: list[tuple[str, str]] = []
    made: list[tuple[str, tuple[str, str], list[Any]]] = []
    for source in whole.sources:
        bands = whole.bands[source]
        length = len(ds.features.cells.sources[source].axis)
        every = isinstance(bands, slice) and bands == slice(0, length, 1)
        for processing in whole.processings:
            root, steps = _origin(ds, processing, source)
            if not every:
                steps = [*steps, _picking(np.arange(length)[bands])]
            if root not in roots:
                roots.append(root)
            made.append((source, root, steps))
    blocks = {(p, s): selection_of(ds, samples, {"processing": p, "source": s}) for p, s in roots}
    widths = [len(ds.features.cells.sources[s].axis) for _, s in roots]
    stops = np.cumsum(widths).tolist()
    columns = {root: slice(stop - width, stop) for root, width, stop in zip(roots, widths, stops, strict=True)}

    def read(some: Array) -> Array:
        parts = []
        for block in blocks.values():
            part = ds.features.resolver.select(some, block.processings, block.sources, block.bands)
            parts.append(np.asarray(ds.features.read(part, "2d")[0]))
        return parts[0] if len(parts) == 1 else np.hstack(parts)

    def side_by_side(parts: list[tuple[str, tuple[str, str], list[Any]]]) -> Any:
        if len(roots) == 1 and len(parts) == 1:
            return _chain(parts[0][2])
        named = [(f"{k} {source}", _chain(steps), columns[root]) for k, (source, root, steps) in enumerate(parts)]
        return ColumnTransformer(named, sparse_threshold=0)

    if src_concat == "block":
        each = [[part for part in made if part[0] == source] for source in whole.sources]
        scaled = [_chain([side_by_side(parts), BlockScaler()]) for parts in each]
        everything = slice(0, int(stops[-1]))
        ahead = (
            scaled[0]
            if len(scaled) == 1
            else ColumnTransformer(
                [(source, one, everything) for source, one in zip(whole.sources, scaled, strict=True)],
                sparse_threshold=0,
            )
        )
    else:
        ahead = side_by_side(made)
    size = sum(w * ds.features.cells.sources[s].dtype.itemsize for w, (_, s) in zip(widths, roots, strict=True))
    return FoldSpectra(read, samples, whole.processings, whole.sources, tuple(widths), size, ahead)


def _chain(steps: list[Any]) -> Any:
    from sklearn.pipeline import make_pipeline

    return make_pipeline(*steps) if steps else "passthrough"


def _origin(ds: SpectroDataset, processing: str, source: str) -> tuple[tuple[str, str], list[Any]]:
    """Return the processing and the source that spectra were made from, and the steps, as transformers."""
    lineage = ds.lineage
    root, steps = lineage.steps(processing, source)
    for link in reversed(lineage.chain(processing)):
        if link.edited:
            raise ValueError(
                f"spectra of processing {link.processing!r} were written by hand after apply, and steps fitted anew "
                "would not make these; take refit=False."
            )
        source = next((fit.source for fit in link.fits.values() if fit.to == source), source)
    return (root, source), [_transformer(step) for step in steps]


def _transformer(step: Any) -> Any:
    """Return a step of the lineage as a transformer: an estimator as it is, a function with its parameters in one."""
    from sklearn.preprocessing import FunctionTransformer

    if not isinstance(step, tuple):
        return step
    function, params = step
    return FunctionTransformer(called, kw_args={"function": function, "params": params})


def _picking(positions: Array) -> Any:
    from sklearn.preprocessing import FunctionTransformer

    return FunctionTransformer(np.take, kw_args={"indices": positions, "axis": 1})
