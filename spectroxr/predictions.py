"""Predictions: one line per sample and prediction, appended in amortised time."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from spectroxr.cells import sample_ids
from spectroxr.encoding import inverse_of_lines, steps_of
from spectroxr.errors import UnknownNameError, nearest
from spectroxr.fields import SCHEMA, as_json_text, field_of
from spectroxr.filters import mask_of, split_filter
from spectroxr.index import Index
from spectroxr.later import Late, Later
from spectroxr.layouts import readonly
from spectroxr.log import enabled, log
from spectroxr.outputs import OUTPUTS, output_column, stacked_parts
from spectroxr.pairing import in_units
from spectroxr.schema import Array, Filter
from spectroxr.scoring import confused, scored
from spectroxr.selection import Resolver, frozen
from spectroxr.stacking import stacked

__all__ = ["PredictionBlock"]

FIXED = ("model", "fold", "repeat", "partition", "processing", "seed")

#: What tells one prediction of a sample from another.
ORIGIN = ("sample", *FIXED, "metadata")


class PredictionBlock:
    """A Polars table of model outputs; usually reached as ``ds.predictions``."""

    _parts: Late[list[pl.DataFrame]] = Late()

    def __init__(self, index: Index) -> None:
        self._index = index
        self._parts = []
        self.resolver: Resolver

    @property
    def table(self) -> pl.DataFrame:
        """All predictions, in the order in which they were added.

        ``sample, model, fold, repeat, partition, processing, seed, metadata, inverse, inverse_of, preds``;
        ``metadata`` is JSON of whatever else was given; ``preds`` is a number per sample, or a vector for several
        outputs (of fixed size if all predictions have the same). Class labels given as text are in a column ``labels``.
        """
        return self._joined().clone()

    def __len__(self) -> int:
        return sum(part.height for part in self._parts)

    def _joined(self) -> pl.DataFrame:
        if not self._parts:
            return pl.DataFrame(schema={**SCHEMA, "preds": pl.Float64})
        if len(self._parts) > 1:
            self._parts = [stacked_parts(self._parts)]
        table = self._parts[0]
        if table["sample"].n_chunks() > 64:
            table = table.rechunk()
            self._parts = [table]
        return table

    def add_prediction(self, values: Any, meta: Mapping[str, Any], *, filter: Filter = None) -> None:
        """Add the predictions of one model for some samples.

        Parameters
        ----------
        values : array_like, shape (n,) or (n, outputs)
        meta : dict
            ``model``, ``fold``, ``repeat``, ``partition``, ``processing`` (the version of the targets the model was
            trained on), ``seed``: each one value or None. ``sample``: the samples of the values (ids, or an index with
            that column). Anything else is kept as JSON in ``metadata``.
        filter : None, dict or polars.Expr
            Instead of ``sample``: values are of the samples it selects, in the order of `x`. With neither, they are of
            all samples, or all originals.

        Raises
        ------
        ValueError, TypeError, UnknownNameError
            If values and samples are not as many, a sample does not exist or comes twice, or a field has the wrong
            type. The table is then as it was.
        """
        part = self.lines_of(values, meta, filter=filter)
        self.append(part)
        if enabled():
            log(f"add_prediction: {part.height} samples, model {part['model'].first()!r}")

    def lines_of(self, values: Any, meta: Mapping[str, Any], *, filter: Filter = None) -> pl.DataFrame:
        """Return the lines that `add_prediction` would add."""
        if not isinstance(meta, Mapping):
            raise TypeError(f"meta is a dict, not {type(meta).__name__}.")
        array = np.asanyarray(values)
        if array.ndim not in (1, 2) or (array.ndim == 2 and not array.shape[1]):
            raise ValueError(f"predictions have shape (n,) or (n, outputs), not {array.shape}.")
        ids = self._samples(len(array), meta.get("sample"), filter)
        fields = {key: field_of(key, meta.get(key)) for key in FIXED}
        extra = {str(key): value for key, value in meta.items() if key not in FIXED and key != "sample"}
        return self._part(ids, fields, as_json_text(extra), array)

    def append(self, *parts: pl.DataFrame) -> None:
        """Add lines that `lines_of` made: all, or none if it raises."""
        part = parts[0] if len(parts) == 1 else stacked_parts(parts)
        same = not self._parts or self._parts[-1].schema == part.schema
        if same and len(self._parts) < 4096:
            self._parts.append(part)
        else:
            self._parts = [stacked_parts([*self._parts, part])]

    def lines_with(self, text: str) -> pl.DataFrame:
        """Return the lines, but inverted ones, whose ``metadata`` contain a text."""
        return self._joined().filter(pl.col("metadata").str.contains(text, literal=True), ~pl.col("inverse"))

    def _replace_inverse(self, part: pl.DataFrame) -> None:
        """Append inverted lines in the place of those of an earlier inversion of the same lines."""
        earlier = self._parts
        same = [*ORIGIN, "inverse", "inverse_of"]
        table = self._joined()
        if table["inverse"].any():
            new = part.select(same)
            self._parts = [table.join(new, on=same, how="anti", nulls_equal=True, maintain_order="left")]
        try:
            self.append(part)
        except BaseException:
            self._parts = earlier
            raise

    def _samples(self, count: int, given: Any, filter: Filter) -> Array:
        index = self._index
        if given is not None and filter is not None:
            raise ValueError("the samples are named twice: in meta['sample'] and by filter=.")
        if given is not None:
            if isinstance(given, np.ndarray) and given.dtype == np.uint32 and _ascending(given, len(index)):
                return given
            asked = len(given)
            ids = sample_ids(given, len(index))
            if len(ids) < asked:
                raise ValueError("meta['sample'] names a sample twice.")
            choices = [ids]
        elif filter is not None:
            choices = [self.resolver.samples(filter)]
        else:
            everyone = np.arange(len(index), dtype=np.uint32)
            choices = [everyone, everyone[index.origins == everyone]]
        for ids in choices:
            if len(ids) == count:
                return ids
        raise ValueError(
            f"{count} predictions for {len(choices[0])} samples; say which they are of: meta['sample'] or filter=."
        )

    def _part(self, ids: Array, fields: Mapping[str, Any], extra: str | None, values: Array) -> pl.DataFrame:
        matrix = values[:, None] if values.ndim == 1 else values
        preds = output_column(matrix)
        same = {**fields, "metadata": extra, "inverse": False, "inverse_of": None}
        # without an expression, which would start threads for a handful of values
        columns = [
            pl.Series(key, [value], dtype=SCHEMA[key]).new_from_index(0, len(ids)) for key, value in same.items()
        ]
        return pl.DataFrame([pl.Series("sample", ids, dtype=pl.UInt32), *columns, preds])

    def select(self, filter: Filter = None, processed: bool = True) -> pl.DataFrame:
        """Return the lines of the table that a filter selects; see `prediction`."""
        table = self._joined()
        mask = self._mask(table, filter)
        inverse = table["inverse"]
        if not processed:
            reserved = pl.Series(["raw", "regression", "category"])
            given = table["processing"].is_in(reserved.implode()).fill_null(False) & ~inverse
            lines = table.with_row_index("line")
            undone = lines.filter(inverse).drop("processing").rename({"inverse_of": "processing"}).select(ORIGIN)
            again = lines.filter(given).join(undone, on=ORIGIN, how="semi", nulls_equal=True)["line"]
            mask &= (inverse | given) & ~pl.Series(np.isin(np.arange(table.height), again.to_numpy()))
        elif not _names(filter, "inverse"):
            own = mask & ~inverse
            mask = mask if _names(filter, "processing") and not own.any() else own
        return table.filter(mask)

    def _mask(self, table: pl.DataFrame, filter: Filter) -> pl.Series:
        """Tell which lines of the table a filter selects."""
        names, conditions = split_filter(filter, table.schema)
        for key in names if isinstance(names, dict) else ():
            if key not in self.resolver.filter_keys():
                raise UnknownNameError(nearest(key, [*table.columns, *self.resolver.filter_keys()], "filter key"))
        mask = pl.repeat(True, table.height, dtype=pl.Boolean, eager=True)
        if conditions:
            mask &= mask_of(self._widened(table, conditions), conditions)
        if names is not None:
            wanted = pl.Series(self.resolver.samples(names), dtype=pl.UInt32)
            mask &= table["sample"].is_in(wanted.implode())
        return mask

    def _widened(self, table: pl.DataFrame, conditions: Sequence[pl.Expr]) -> pl.DataFrame:
        """Return the table with the columns of samples that conditions need besides its own."""
        roots = dict.fromkeys(root for condition in conditions for root in condition.meta.root_names())
        for name in roots:
            if name in table.columns:
                continue
            homes = [side for side in self.resolver.side.values() if name in side.columns]
            if len(homes) == 1:
                values = homes[0].column(name)
            elif not homes and name in self._index.samples.columns:
                values = self._index.samples[name]
            else:
                valid = dict.fromkeys([*table.columns, *self.resolver.filter_keys()])
                raise UnknownNameError(nearest(name, valid, "column of predictions and samples"))
            table = table.with_columns(values.gather(table["sample"]).alias(name))
        return table

    def prediction(self, filter: Filter = None, processed: bool = True) -> Array:
        """Return the predictions that a filter selects, in the order in which they were added.

        Parameters
        ----------
        filter : None, dict or polars.Expr
            Keys are the columns of `table` first (``model``, ``fold``, ``partition``, ``processing``, ...), then those
            of the index, the metadata and the targets, which select samples.
        processed : bool, default True
            True: as the models gave them (and inverted ones only where the filter names their ``processing`` and
            nothing else has it). False: in the units of the targets, as `inverse_transform_prediction` stored them, or
            given as ``"raw"``, ``"regression"`` or ``"category"`` where they were not inverted.

        Returns
        -------
        ndarray, shape (line, output)
            Read-only.

        Raises
        ------
        UnknownNameError
            If a key names nothing.
        ValueError
            If nothing matches, or the predictions selected have different numbers of outputs.
        """
        table = self.select(filter, processed)
        values = self._values(table, filter, processed)
        if enabled():
            log(f"prediction: {table.height} lines")
        return values

    def _values(self, table: pl.DataFrame, filter: Filter, processed: bool) -> Array:
        if not table.height:
            more = "" if processed else " in the units of the targets; inverse_transform_prediction stores such"
            raise ValueError(f"no prediction matches the filter {filter!s}{more}.")
        filled = [name for name in OUTPUTS if name in table.columns and table[name].null_count() < table.height]
        if len(filled) > 1:
            raise ValueError("the predictions selected are numbers and text; name a model or fold in the filter.")
        (name,) = filled or ["preds"]
        return stacked([table[name]], np.arange(table.height, dtype=np.uint32), flat=False)

    def inverse_transform_prediction(
        self,
        transformers: Sequence[Any] | None = None,
        filter: Filter = None,
        *,
        store: str | None = None,
    ) -> Array:
        """Return predictions brought back to the units of the targets.

        Parameters
        ----------
        transformers : sequence, optional
            Fitted transformers, in the order in which they were applied to the targets: their ``inverse_transform`` is
            called from the last to the first. Or plain functions of an ``(n, outputs)`` array, called in order.
            Default: what `encode_targets` recorded for the version that is the ``processing`` of each line; lines of
            ``"raw"`` are left out.
        filter : None, dict or polars.Expr
            Which predictions, as in `prediction`.
        store : {"regression", "category"}, optional
            Also append the result as lines of their own under this processing, which
            ``prediction(..., processed=False)`` gives.

        Returns
        -------
        ndarray, shape (line, output)
            Read-only; the stored predictions are untouched.

        Raises
        ------
        TypeError
            If transformers and functions are mixed, or one is neither.
        ValueError
            If a transformer changes the number of lines, nothing matches, or nothing is recorded.
        """
        steps = None if transformers is None else steps_of(transformers)
        if store not in (None, "regression", "category"):
            raise ValueError(nearest(store, ("regression", "category"), "processing to store under"))
        table = self.select(filter)
        table = table.filter(~table["inverse"])
        if steps is None:
            table = table.filter(table["processing"].ne_missing("raw"))
            values = inverse_of_lines(
                self.resolver.side["targets"], table, lambda part: self._values(part, filter, True)
            )
        else:
            values = np.array(self._values(table, filter, True))
        for step in steps or ():
            values = np.asarray(step(values))
            if len(values) != table.height:
                raise ValueError(f"a transformer made {len(values)} lines of {table.height}.")
        values = values[:, None] if values.ndim == 1 else values
        if store is not None:
            part = table.drop(OUTPUTS, strict=False).with_columns(
                pl.lit(store).alias("processing"),
                pl.lit(True).alias("inverse"),
                pl.col("processing").alias("inverse_of"),
                output_column(values),
            )
            self._replace_inverse(part)
        if enabled():
            how = "as recorded" if steps is None else f"{len(steps)} steps"
            log(f"inverse_transform_prediction: {table.height} lines, {how}")
        sealed = values.dtype.kind in "fiub"
        return readonly(np.ascontiguousarray(values)) if sealed else frozen(values)

    def metrics(
        self, by: str | Sequence[str] = ("model",), filter: Filter = None, target: str | Sequence[str] | None = None
    ) -> pl.DataFrame:
        """Return figures of merit: predictions compared with the targets, in the units of the targets.

        Of lines that `inverse_transform_prediction` stored anew, the inverted ones stand for the others. Of several
        targets each has a line; so has each partition, over all folds and repeats that `by` does not tell apart.

        Parameters
        ----------
        by : str or sequence of str, default ("model",)
            Columns of `table`, further fields of the predictions (``"features"``, ``"source"``, ...; a list of names
            becomes text with commas), and columns of the samples: of the index, the metadata and the targets.
        filter : None, dict or polars.Expr
            Which predictions, as in `prediction`.
        target : str or sequence of str, optional
            Which targets (default: all). Lines that name none are taken to be of these.

        Returns
        -------
        polars.DataFrame
            ``by``, ``target``, ``partition``; ``n``, samples with both values, and ``missing``, left out because they
            have not been measured; then float64: ``RMSEC`` (partition "train"), ``RMSECV`` ("val"), ``RMSEP`` (any
            other, or none), ``SEP``, ``bias``, ``R2``, ``RPD``, ``RPIQ``, ``MAE`` of numbers, ``accuracy``,
            ``balanced_accuracy``, ``F1`` of classes. `spectroxr.formulas` defines them. Null is a figure that does not
            apply, NaN one that is not defined, as SEP of one sample, or any where a prediction is missing.

        Raises
        ------
        UnknownNameError
            If a column or target does not exist.
        ValueError, TypeError
            If nothing matches, or predictions do not say what they are of: their ``target``, among several, or
            ``classes``, of codes; or they are of another version of the targets and were not inverted.
        """
        return scored(self._in_units(filter), by, target, self._index, self.resolver.side)

    def confusion(
        self, by: str | Sequence[str] = ("model",), filter: Filter = None, target: str | Sequence[str] | None = None
    ) -> pl.DataFrame:
        """Return how often each class was predicted as which, of the pairs that occur.

        ``by``, ``target``, ``partition``, ``measured``, ``predicted`` (text, null where there is no prediction), ``n``.
        Arguments and errors are those of `metrics`; also if all predictions are numbers.
        """
        return confused(self._in_units(filter), by, target, self._index, self.resolver.side)

    def _in_units(self, filter: Filter) -> pl.DataFrame:
        table = self._joined()
        lines = in_units(table, self._mask(table, filter))
        if not lines.height:
            raise ValueError(f"no prediction matches the filter {filter!s}.")
        return lines

    @property
    def unread(self) -> Later[Any] | None:
        """What this will be read from when it is first asked for; None if it is here."""
        return PredictionBlock._parts.unread(self)

    def snapshot(self) -> pl.DataFrame | Later[pl.DataFrame]:
        """Return what is to be stored."""
        unread = self.unread
        return self._joined() if unread is None else unread

    def restore(self, table: pl.DataFrame | Later[pl.DataFrame]) -> None:
        """Take back what was stored; columns that a folder of another origin lacks are null."""
        self._parts = table.then(self._restored) if isinstance(table, Later) else self._restored(table)

    def _restored(self, table: pl.DataFrame) -> list[pl.DataFrame]:
        missing = {name: pl.lit(False if name == "inverse" else None) for name in SCHEMA if name not in table.columns}
        known = [missing.get(name, pl.col(name)).cast(kind).alias(name) for name, kind in SCHEMA.items()]
        outputs = [name for name in OUTPUTS if name in table.columns]
        return [table.select(*known, *outputs)] if table.height else []


@functools.lru_cache(maxsize=256)
def _single(key: str, value: Any) -> pl.Series:
    return pl.Series(key, [value], dtype=SCHEMA[key])


def _ascending(ids: Array, known: int) -> bool:
    return bool(len(ids) and ids[-1] < known and np.all(ids[1:] > ids[:-1]))


def _names(filter: Filter, column: str) -> bool:
    if isinstance(filter, pl.Expr):
        return column in filter.meta.root_names()
    return bool(filter) and column in (filter or {})
