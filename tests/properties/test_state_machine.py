"""Random sequences of all public writes against a naive model.

After each step everything readable must agree with the model, views handed out earlier must show what they should, and
calls that must fail must change nothing. ``HYPOTHESIS_PROFILE=thorough`` runs longer, ``brief`` shorter.
"""

from __future__ import annotations

import datetime
import importlib.util
import itertools
import json
import os
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xarray as xr
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit

from spectroxr import NotRectangularError, NoViewError, SpectroDataset, storedtables

from .model import EMPTY, UNEVEN, Model, Picked, Source, Want

PROFILES = {
    "brief": settings(max_examples=15, stateful_step_count=20),
    "quick": settings(max_examples=60, stateful_step_count=20),
    "thorough": settings(max_examples=1500, stateful_step_count=50),
}
PROFILE = settings(
    PROFILES.get(os.environ.get("HYPOTHESIS_PROFILE", "quick"), PROFILES["quick"]),
    deadline=None,
    derandomize=False,
    print_blob=True,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

#: Every choice within a step is one of Hypothesis, so that a failure shrinks.
RANDOM = st.randoms(use_true_random=False)

OBSTORE = importlib.util.find_spec("obstore") is not None

Cell = tuple[str, str, tuple[int, ...]]
Cells = list[Cell]

LAYOUTS = ("2d", "2d_interlaced", "3d", "3d_transpose")
REFUSED = (ValueError, TypeError, KeyError, OverflowError, FileNotFoundError)
SCHEMA = {
    "row": pl.UInt32,
    "sample": pl.UInt32,
    "origin": pl.UInt32,
    "partition": pl.String,
    "group": pl.UInt32,
    "branch": pl.UInt32,
    "processing": pl.String,
}
PROCESSINGS = ["raw", "snv", "msc", "sg-1", "d2/w=15", "été"]
SOURCES = ["nir", "mir", "raman", "uv"]
PARTITIONS = ["train", "test", "val", None]
GROUPS = [0, 1, 2, 300, 2**32 - 1, None]
BRANCHES = [0, 1, 2, 300, 2**32 - 1]

#: Columns, their dtype and some values that are easily lost: near-integers, more than 53 bits, thirds.
TARGETS: dict[str, tuple[Any, list[Any]]] = {
    "protein": (pl.Float64, [10.0, 12.0, 13.0, 1 / 3, 0.1 + 0.2, 1e-300]),
    "fat": (pl.Float32, [0.5, float(np.float32(0.1)), 3.0]),
    "count": (pl.Int64, [-(2**63), 2**53 + 1, 3, 0]),
    "code": (pl.UInt32, [2**32 - 1, 0, 7]),
    "big": (pl.UInt64, [2**64 - 1, 2**63 + 5, 2**53 + 1, 4]),
    "variety": (pl.String, ["", "wheat", "rye", "10"]),
    "good": (pl.Boolean, [True, False]),
    "day": (pl.Date, [datetime.date(2024, 2, 29), datetime.date(1969, 12, 31)]),
    "targets": (pl.List(pl.Float64), [[0.1, 0.2], [1 / 3, -5.0]]),
    "label": (pl.String, ["a", "b"]),
}
META: dict[str, tuple[Any, list[Any]]] = {
    "site": (pl.String, ["north", "south", ""]),
    "ident": (pl.UInt64, [2**64 - 1, 2**53 + 1, 1]),
    "year": (pl.Int16, [1999, 2024]),
    "temp": (pl.Float32, [20.5, float(np.float32(0.1))]),
    "ok": (pl.Boolean, [True, False]),
    "label": (pl.String, ["a", "b"]),
}
#: Versions of the targets that update_y writes, with the dtype and width of their values.
VERSIONS: dict[str, tuple[str, int]] = {
    "regression": ("float64", 1),
    "category": ("int64", 1),
    "ohe": ("uint8", 3),
    "z": ("float32", 1),
}


def same(got: Any, want: Any) -> bool:
    """Whether an element read back is a value of the model; a missing one is None, NaN or NaT."""
    if isinstance(got, np.datetime64):
        got = got.astype(object)
    if isinstance(got, np.generic):
        got = got.item()
    if want is None or want != want:
        return got is None or got != got
    return bool(got == want)


def frame(columns: dict[str, Any], kinds: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame({name: pl.Series(name, v, dtype=kinds[name], strict=True) for name, v in columns.items()})


@dataclass
class Held:
    """An array handed out earlier: what it must show, and which cells it is a view of (None: of none any more)."""

    array: np.ndarray
    want: list[float]
    where: list[tuple[int, str, str, int] | None]
    mapped: set[str]
    also: dict[int, float]


class Writes(RuleBasedStateMachine):
    """All public writes, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.ds = SpectroDataset()
        self.m = Model()
        self.held: list[Held] = []
        self.mapped: set[str] = set()
        self.packed: tuple[str, bool, tuple[str, ...]] | None = None
        self.count = 0
        self.steps = 0
        self.seed = 0
        self.saved: dict[str, dict[int, dict[str, Any]]] = {}

    def teardown(self) -> None:
        self.held.clear()
        self.folder.cleanup()

    # --- making things up

    def fresh(self, shape: tuple[int, ...], dtype: str, r: random.Random) -> np.ndarray:
        """Spectra in which no two numbers are alike, and now and then a NaN or an infinity that must survive."""
        n = int(np.prod(shape))
        values = np.arange(self.count, self.count + n, dtype="float64").reshape(shape) + 1 / 3
        self.count += n
        array = values.astype(dtype)
        if r.randint(0, 9) == 0:
            array.flat[r.randint(0, n - 1)] = r.choice([np.nan, np.inf, -np.inf, -0.0])
        return array

    def some(self, r: random.Random, items: list[Any], least: int = 1) -> list[Any]:
        """Some of the items, in any order."""
        return r.sample(items, r.randint(min(least, len(items)), len(items)))

    def rows(self) -> list[int]:
        """The physical row of each sample, as the index says."""
        table = self.ds.features.index_df.unique("sample").sort("sample")
        return table["row"].to_list()

    def indexes(self, r: random.Random, samples: list[int]) -> Any:
        """The samples as a caller may give them."""
        kind = r.randint(0, 3)
        if kind == 0:
            return samples
        if kind == 1:
            return np.array(samples, dtype=r.choice(["int64", "uint32", "int32"]))
        if kind == 2:
            return pl.Series(samples)
        return pl.DataFrame({"sample": samples + r.sample(samples, r.randint(0, len(samples)))})

    def labels(self, r: random.Random, n: int) -> tuple[dict[str, Any], list[list[Any]]]:
        """Partition, group and branch as arguments, and one of each per sample."""
        given: dict[str, Any] = {}
        columns = []
        for key, pool, default in (("partition", PARTITIONS, "train"), ("group", GROUPS, 0), ("branch", BRANCHES, 0)):
            kind = r.randint(0, 2)
            values = [default] * n
            if kind == 1:
                values = [r.choice([v for v in pool if v is not None])] * n
                given[key] = values[0]
            elif kind == 2:
                values = [r.choice(pool) for _ in range(n)]
                given[key] = values
                if key != "partition" and None not in values and r.choice([True, False]):
                    given[key] = np.array(values, dtype="uint32")
            columns.append(values)
        return given, columns

    def table(self, r: random.Random, pool: dict[str, Any], names: list[str], samples: list[int]) -> dict[str, Any]:
        """Values for a table of targets or metadata: per column and sample."""
        return {c: {s: r.choice([*pool[c][1], None]) for s in samples} for c in names}

    # --- writes of features

    @initialize(r=RANDOM, seed=st.integers(0, 2**16))
    def start(self, r: random.Random, seed: int) -> None:
        self.seed = seed
        names = SOURCES[: r.randint(1, 3)]
        n = r.randint(1, 6)
        processings = self.some(r, PROCESSINGS)[: r.randint(1, 3)]
        if len(processings) == 1:
            processings = ["raw"]
        data, axes, units = {}, {}, {}
        for k, name in enumerate(names):
            width = r.randint(1, 4)
            axis = [1000.0 * (k + 1) + 2.5 * b for b in range(width)]
            axes[name] = np.array(axis[:: r.choice([1, -1])])
            units[name] = r.choice(["nm", "cm-1"])
            dtype = r.choice(["float32", "float64"])
            data[name] = self.fresh((n, len(processings), width), dtype, r)
            self.m.sources.append(Source(name, axes[name].tolist(), dtype, {"units": units[name]}))
        given, columns = self.labels(r, n)
        self.m.add_rows({k: v.tolist() for k, v in data.items()}, dict.fromkeys(names, processings), *columns)
        copy = r.choice([True, False])
        options = {"wavelength": axes, "units": units, "processing": processings, "copy": copy, **given}
        if r.choice([True, False]):
            self.ds.add_features(data, **options)
        else:
            self.ds.add_features(list(data.values()), names=names, **options)
        if copy:
            for array in data.values():
                array[...] = -1

    @precondition(lambda self: len(self.m) < 30)
    @rule(r=RANDOM)
    def add_features(self, r: random.Random) -> None:
        given, data = self.more_rows(r)
        self.ds.add_features(*given[0], **given[1])
        for array in [*data, *(v for v in given[1].values() if isinstance(v, np.ndarray))]:
            array[...] = 99

    def more_rows(self, r: random.Random) -> tuple[tuple[list[Any], dict[str, Any]], list[np.ndarray]]:
        """Arguments that add rows, already played on the model."""
        n = r.randint(1, 3)
        measured = self.some(r, self.m.names)
        labelled = r.randint(0, 2) == 0
        shared = self.some(r, PROCESSINGS)[: r.randint(1, 2)]
        arrays: dict[str, Any] = {}
        spectra: dict[str, Any] = {}
        names: dict[str, list[str]] = {}
        raw = []
        for source in self.m.sources:
            if source.name not in measured:
                arrays[source.name] = spectra[source.name] = None
                continue
            names[source.name] = self.some(r, PROCESSINGS)[: r.randint(1, 2)] if labelled else shared
            dtype = r.choice(["float32", source.dtype]) if source.dtype == "float64" else "float32"
            array = self.fresh((n, len(names[source.name]), len(source.axis)), dtype, r)
            raw.append(array)
            spectra[source.name] = array.tolist()
            if labelled:
                coords = {"wavelength": source.axis, "processing": names[source.name]}
                arrays[source.name] = xr.DataArray(array, dims=("row", "processing", "wavelength"), coords=coords)
            else:
                arrays[source.name] = array[:, 0, :] if len(shared) == 1 and r.choice([True, False]) else array
        given, columns = self.labels(r, n)
        if not labelled:
            given["processing"] = shared
        self.m.add_rows(spectra, names, *columns)
        self.packed = None
        return ([arrays if r.choice([True, False]) else list(arrays.values())], given), raw

    @precondition(lambda self: len(self.m.sources) < 4 and len(set(SOURCES) - set(self.m.names)) > 0)
    @rule(r=RANDOM)
    def add_source(self, r: random.Random) -> None:
        name = r.choice([s for s in SOURCES if s not in self.m.names])
        everyone = r.choice([True, False])
        samples = list(range(len(self.m))) if everyone else self.some(r, list(range(len(self.m))))
        processings = self.some(r, PROCESSINGS)[: r.randint(1, 2)]
        dtype = r.choice(["float32", "float64"])
        width = r.randint(1, 3)
        axis = np.linspace(9000 - 10 * len(self.m.sources), 8000, width)
        data = self.fresh((len(samples), len(processings), width), dtype, r)
        options = {"processing": processings, "wavelength": axis, "units": "nm"}
        if everyone and r.choice([True, False]):
            self.ds.add_features({name: data}, **options)
        else:
            self.ds.add_source(name, data, None if everyone else self.indexes(r, samples), **options)
        self.m.sources.append(Source(name, axis.tolist(), dtype, {"units": "nm"}))
        for k, p in enumerate(processings):
            self.write(samples, p, {name: data[:, k]})
        data[...] = -1
        self.packed = None

    def write(self, samples: list[int], processing: str, data: dict[str, np.ndarray]) -> None:
        """Play a variant on the model."""
        self.m.write(samples, processing, {name: array.tolist() for name, array in data.items()})

    @rule(r=RANDOM)
    def update_x(self, r: random.Random) -> None:
        samples = self.some(r, list(range(len(self.m))))
        known = r.randint(0, 2) > 0
        processing = r.choice(self.m.processings if known else PROCESSINGS)
        chosen = self.some(r, self.m.names)
        data = {}
        for source in self.m.sources:
            if source.name in chosen:
                dtype = r.choice(["float32", source.dtype]) if source.dtype == "float64" else "float32"
                data[source.name] = self.fresh((len(samples), len(source.axis)), dtype, r)
        new: Any = data
        if r.choice([True, False]):
            new = [data.get(name) for name in self.m.names]
        elif len(self.m.sources) == 1:
            (new,) = data.values()
        before = self.rows()
        existed = set(self.m.cells)
        self.ds.update_x(new, self.indexes(r, samples), processing)
        self.write(samples, processing, data)
        after = self.rows()
        self.follow(samples, processing, data, before, after, existed)
        for array in data.values():
            array[...] = -1
        if before != after or processing not in {p for _, p, _ in existed}:
            self.packed = None

    @rule(r=RANDOM)
    def update_x_from_views(self, r: random.Random) -> None:
        """Spectra of the dataset itself, given to other samples and other sources of the same width."""
        processing = r.choice(self.m.processings)
        names = self.some(r, self.m.names)
        samples = [s for s in self.m.having(processing) if all((s, processing, n) in self.m.cells for n in names)]
        if not samples:
            return
        alike: dict[Any, list[str]] = {}
        for name in names:
            source = self.m.source(name)
            alike.setdefault((len(source.axis), source.dtype), []).append(name)
        data = {}
        for group in alike.values():
            for name, other in zip(group, [*group[1:], group[0]], strict=True):
                (data[name],) = self.ds.x({"processing": processing, "source": other, "sample": samples})
        turned = samples[::-1] if r.choice([True, False]) else samples[1:] + samples[:1]
        values = {name: array.copy() for name, array in data.items()}
        before, existed = self.rows(), set(self.m.cells)
        self.ds.update_x(data, turned, processing)
        self.write(turned, processing, values)
        self.follow(turned, processing, values, before, self.rows(), existed)
        if before != self.rows():
            self.packed = None

    @rule(r=RANDOM)
    def apply(self, r: random.Random) -> None:
        """A recorded transformation: of all samples, or of some, in all sources or in some."""
        parent, name = r.choice(self.m.processings), r.choice(["turned", "flipped"])
        chosen = self.some(r, self.m.names)
        wanted = self.some(r, list(range(len(self.m)))) if r.choice([True, False]) else None
        where = {
            source: [s for s in self.m.having(parent, source) if wanted is None or s in wanted] for source in chosen
        }
        options: dict[str, Any] = {"parent": parent, "name": name, "source": chosen, "fit_on": None}
        if wanted is not None:
            options["filter"] = {"sample": wanted}
        taken = name in self.m.processings and self.m.made.get(name) != parent
        if taken or not all(where.values()):
            self.refused(lambda: self.ds.apply(np.negative, **options))
            return
        before, existed = self.rows(), set(self.m.cells)
        assert self.ds.apply(np.negative, **options) == name
        after = self.rows()
        for source, samples in where.items():
            data = {source: -np.array([self.m.cells[s, parent, source] for s in samples])}
            self.write(samples, name, data)
            self.follow(samples, name, data, before, after, existed)
        self.m.made[name] = parent
        if before != after or name not in {p for _, p, _ in existed}:
            self.packed = None

    def follow(self, samples: Any, processing: str, data: Any, before: Any, after: Any, existed: Any) -> None:
        """Bring what earlier views must show up to date: cells written in place on an unchanged row."""
        written = {
            (before[s], processing, name, band): value
            for name, array in data.items()
            for s, spectrum in zip(samples, array.tolist(), strict=True)
            if before[s] == after[s] and (s, processing, name) in existed
            for band, value in enumerate(spectrum)
        }
        for held in self.held:
            for k, cell in enumerate(held.where):
                if cell in written:
                    if cell[2] in held.mapped:
                        held.also[k] = held.want[k]  # a map of a file cannot be written: the view keeps its own
                        held.where[k] = None
                    held.want[k] = written[cell]

    @precondition(lambda self: len(self.m) < 30)
    @rule(r=RANDOM)
    def augment_samples_x(self, r: random.Random) -> None:
        spec = [(r.randint(0, len(self.m) - 1), r.randint(1, 2)) for _ in range(r.randint(1, 3))]
        made = self.ds.augment_samples_x(spec)
        self.check_made(made, self.m.augment(spec))

    @precondition(lambda self: len(self.m) < 15)
    @rule(r=RANDOM)
    def augment_features_x(self, r: random.Random) -> None:
        filter, want = self.filter(r, side=False)
        samples = self.m.pick_samples(want, self.rows())
        if not samples:
            filter, samples = None, list(range(len(self.m)))
        made = self.ds.augment_features_x(1, filter=filter)
        self.check_made(made, self.m.augment([(s, 1) for s in samples]))

    def check_made(self, made: pl.DataFrame, ids: list[int]) -> None:
        """The index that an augmentation returns holds the new lines, and only these."""
        self.packed = None
        now = self.ds.features.index_df
        assert made.schema == now.schema
        assert sorted(made["sample"].unique().to_list()) == ids
        assert made.equals(now.filter(pl.col("sample").is_in(ids)))

    # --- writes of the index

    @rule(r=RANDOM)
    def update_indexes(self, r: random.Random) -> None:
        lines = self.some(r, self.m.index())
        updates: dict[str, Any] = {}
        by_line = r.choice([True, False])
        table = pl.DataFrame(
            {"sample": [line["sample"] for line in lines], "processing": [line["processing"] for line in lines]}
        )
        for key in self.some(r, ["partition", "group"], 0):
            pool = PARTITIONS if key == "partition" else GROUPS
            if r.choice([True, False]):
                updates[key] = r.choice(pool)
                values = dict.fromkeys([line["sample"] for line in lines], updates[key])
            else:
                values = {line["sample"]: r.choice(pool) for line in lines}
                updates[key] = [values[line["sample"]] for line in lines]
            for s, value in values.items():
                self.m.samples[s][key] = value
        if not updates or r.choice([True, False]):
            updates["branch"] = r.choice(BRANCHES)
            for line in lines:
                for p in [line["processing"]] if by_line else self.m.processings:
                    if (line["sample"], p) in self.m.lines:
                        self.m.lines[line["sample"], p] = updates["branch"]
        self.ds.update_indexes(table if by_line else table.drop("processing"), updates)

    @rule(r=RANDOM)
    def rename_processing(self, r: random.Random) -> None:
        old = r.choice(self.m.processings)
        new = r.choice([p for p in [*PROCESSINGS, "renamed"] if p == old or p not in self.m.processings])
        lines = self.ds.features.index_df.filter(pl.col("processing") == old)
        self.ds.update_indexes(lines, {"processing": new})
        self.m.rename(old, new)
        for held in self.held:
            held.where = [c and (c[0], new if c[1] == old else c[1], c[2], c[3]) for c in held.where]

    @rule(r=RANDOM)
    def set_index(self, r: random.Random) -> None:
        lines = self.m.index(self.rows())
        for s, sample in enumerate(self.m.samples):
            if r.choice([True, False]):
                sample["partition"] = r.choice(PARTITIONS)
                sample["group"] = r.choice(GROUPS)
                for line in lines:
                    if line["sample"] == s:
                        line.update(sample)
        for line in lines:
            if r.randint(0, 3) == 0:
                line["branch"] = self.m.lines[line["sample"], line["processing"]] = r.choice(BRANCHES)
        r.shuffle(lines)
        self.ds.features.index_df = pl.DataFrame(lines, schema=SCHEMA)

    # --- physical changes

    def forget(self, names: set[str] | None) -> None:
        """Earlier views of these sources (None: of all) keep their values from now on."""
        self.packed = None
        for held in self.held:
            held.where = [None if c is None or names is None or c[2] in names else c for c in held.where]

    @precondition(lambda self: len(self.m.sources) > 1)
    @rule(r=RANDOM)
    def merge(self, r: random.Random) -> None:
        names = self.some(r, self.m.names, 2)
        given = [name if r.choice([True, False]) else self.m.names.index(name) for name in names]
        if not self.m.mergeable(names):
            self.refused(lambda: self.ds.merge(given))
            return
        self.ds.merge(given)
        self.m.merge(names)
        self.forget(set(names))
        self.mapped -= set(names)

    @rule(r=RANDOM)
    def split(self, r: random.Random) -> None:
        source = r.choice(self.m.sources)
        width = len(source.axis)
        cuts = sorted(r.sample(range(1, width), r.randint(0, min(width - 1, 2))))
        if source.segments and r.choice([True, False]):
            cuts = [k for k in range(1, width) if source.segments[k] != source.segments[k - 1]]
        spans = list(zip([0, *cuts], [*cuts, width], strict=True))
        names = self.m.part_names(source, spans)
        options: dict[str, Any] = {
            "source": source.name if r.choice([True, False]) else self.m.names.index(source.name)
        }
        if len(self.m.sources) == 1 and r.choice([True, False]):
            options = {}
        if r.choice([True, False]):
            names = [f"part{self.steps}.{k}" for k in range(len(spans))]
            options["names"] = names
        others = set(self.m.names) - {source.name}
        if others & set(names) or len(set(names)) < len(names):
            self.refused(lambda: self.ds.split(spans, **options))
            return
        if len(self.m.sources) + len(spans) > 6:
            return
        self.ds.split(spans, **options)
        self.m.split(source.name, spans, names)
        self.forget({source.name})
        self.mapped.discard(source.name)

    @rule(r=RANDOM)
    def pack(self, r: random.Random) -> None:
        columns = [
            "partition",
            "group",
            "origin",
            "branch",
            "row",
            *self.m.meta_columns,
            *self.m.targets.get("raw", []),
        ]
        columns = [c for c in columns if c not in ("targets", "label")]
        by = r.choice([None, r.choice(columns), self.some(r, columns)[:3]])
        layout = r.choice(LAYOUTS)
        concat = r.choice([True, False])
        if concat and len({source.dtype for source in self.m.sources}) > 1:
            self.refused(lambda: self.ds.pack(by=by, layout=layout, src_concat=True))
            return
        self.ds.pack(by=by, layout=layout, src_concat=concat)
        self.forget(None)
        self.mapped.clear()
        by = [] if by is None else [by] if isinstance(by, str) else by
        self.packed = (layout, concat, tuple(by))
        rows = self.rows()
        if len(by) != 1 or by[0] in ("row", "branch") or len(set(rows)) < len(rows):
            return
        for s, sample in enumerate(self.m.samples):
            value = sample[by[0]] if by[0] in sample else self.m.side(s, by[0])
            picked = self.m.pick(Want(lambda line, value=value: line[by[0]] == value), rows)
            if not isinstance(picked, str) and picked.processings == self.m.processings:
                self.ds.x({by[0]: value}, layout, concat, copy=False)

    # --- targets and metadata

    def new_targets(self, r: random.Random, samples: list[int]) -> tuple[pl.DataFrame, dict[str, Any]]:
        """Raw targets that the samples do not have yet."""
        values = self.table(r, TARGETS, self.some(r, list(TARGETS))[:4], samples)
        for column, by_sample in values.items():
            for s in samples:
                if ("raw", s, column) in self.m.y:
                    by_sample[s] = None
        kinds = {c: TARGETS[c][0] for c in values}
        table = frame({c: [v[s] for s in samples] for c, v in values.items()}, kinds)
        return table.insert_column(0, pl.Series("sample", samples, dtype=r.choice([pl.UInt32, pl.Int64]))), values

    def new_meta(self, r: random.Random, samples: list[int]) -> tuple[pl.DataFrame, dict[str, Any]]:
        values = self.table(r, META, self.some(r, list(META))[:3], samples)
        kinds = {c: META[c][0] for c in values}
        table = frame({c: [v[s] for s in samples] for c, v in values.items()}, kinds)
        return table.insert_column(0, pl.Series("sample", samples)), values

    def play_meta(self, values: dict[str, dict[int, Any]]) -> None:
        for column, by_sample in values.items():
            if column not in self.m.meta_columns:
                self.m.meta_columns.append(column)
            for s, value in by_sample.items():
                if value is not None:
                    self.m.m[s, column] = value

    @rule(r=RANDOM)
    def add_targets(self, r: random.Random) -> None:
        everyone = list(range(len(self.m)))
        samples = self.some(r, everyone)
        plain = r.randint(0, 3) == 0
        if plain:
            samples = r.choice([everyone, self.m.originals])
        table, values = self.new_targets(r, samples)
        meta, more = self.new_meta(r, self.some(r, everyone))
        if plain:
            table = table.drop("sample")
        elif r.choice([True, False]):
            table = table.with_columns(processing=pl.lit("raw"))
        if r.choice([True, False]):
            self.ds.add_targets(table, meta)
            self.play_meta(more)
        else:
            self.ds.add_targets(table)
        self.m.add_targets("raw", values)

    @precondition(lambda self: "raw" in self.m.versions)
    @rule(r=RANDOM)
    def add_version(self, r: random.Random) -> None:
        """Versions that come with add_targets, several at once."""
        columns = self.some(r, [c for c in self.m.targets["raw"] if c != "targets"])[:2]
        if not columns:
            return
        parts = []
        for version in self.some(r, ["known", "other"]):
            free = [s for s in range(len(self.m)) if all((version, s, c) not in self.m.y for c in columns)]
            if not free:
                continue
            samples = self.some(r, free)
            values = self.table(r, TARGETS, columns, samples)
            table = frame({c: [v[s] for s in samples] for c, v in values.items()}, {c: TARGETS[c][0] for c in columns})
            parts.append(table.with_columns(sample=pl.Series(samples, dtype=pl.UInt32), processing=pl.lit(version)))
            self.m.add_targets(version, values)
        if parts:
            self.ds.add_targets(pl.concat(parts))

    @precondition(lambda self: "raw" in self.m.versions)
    @rule(r=RANDOM)
    def update_y(self, r: random.Random) -> None:
        samples = self.some(r, list(range(len(self.m))))
        n = len(samples)
        version = r.choice(["raw", *VERSIONS])
        raw = [c for c in self.m.targets["raw"] if c != "targets"]
        numbers = [c for c in raw if TARGETS[c][0] in (pl.Float64, pl.Int64, pl.UInt32, pl.UInt64)]
        target: Any = None
        if version == "raw":
            if not numbers:
                return
            column = r.choice(numbers)
            target, names, width = column, [column], 1
            values = np.array([r.choice(TARGETS[column][1]) for _ in samples], dtype=str(TARGETS[column][0]()).lower())
        else:
            dtype, width = VERSIONS[version]
            everything = self.m.targets["raw"]
            if width > 1 or r.choice([True, False]) or "targets" in everything:
                if not raw:
                    return
                names = [r.choice(raw)]
                target = r.choice([names[0], names])
            else:
                names = everything
            shape = (n, width * len(names))
            values = np.array([r.randint(0, 200) for _ in range(n * shape[1])], dtype=dtype).reshape(shape)
            if dtype.startswith("float"):
                values = values / np.asarray(3, dtype=dtype)
            if shape[1] == 1 and r.choice([True, False]):
                values = values[:, 0]
        self.ds.update_y(values, self.indexes(r, samples), version, target=target)
        matrix = values.reshape(n, -1).tolist()
        played = {
            c: {s: line[k] if width == 1 else line for s, line in zip(samples, matrix, strict=True)}
            for k, c in enumerate(names)
        }
        self.m.update_y(version, played)
        values[...] = 0

    @rule(r=RANDOM)
    def add_meta(self, r: random.Random) -> None:
        everyone = list(range(len(self.m)))
        plain = r.randint(0, 3) == 0
        table, values = self.new_meta(r, r.choice([everyone, self.m.originals]) if plain else self.some(r, everyone))
        self.ds.add_meta(table.drop("sample") if plain else table)
        self.play_meta(values)

    @precondition(lambda self: len(self.m) < 30)
    @rule(r=RANDOM)
    def add_data(self, r: random.Random) -> None:
        before = len(self.m)
        given, _ = self.more_rows(r)
        new = list(range(before, len(self.m)))
        targets = meta = None
        if r.choice([True, False]):
            targets, values = self.new_targets(r, new)
            self.m.add_targets("raw", values)
            if r.choice([True, False]):
                targets = targets.drop("sample")
        if r.choice([True, False]):
            meta, values = self.new_meta(r, new)
            self.play_meta(values)
            if r.choice([True, False]):
                meta = meta.drop("sample")
        self.ds.add_data(given[0][0], targets, meta, **given[1])

    # --- folds and predictions

    @rule(r=RANDOM)
    def set_folds(self, r: random.Random) -> None:
        originals = self.m.originals
        kind = r.randint(0, 3)
        if kind == 0:
            pairs = []
            for _ in range(r.randint(1, 3)):
                val = self.some(r, originals)
                train = [s for s in self.some(r, list(range(len(self.m)))) if not self.m.leaks([s], val)]
                if train:
                    pairs.append((train, val))
            if not pairs:
                return
            form = r.randint(0, 2)
            if form == 0:
                self.ds.set_folds(iter(pairs))
            elif form == 1:
                self.ds.set_folds([{"train": np.array(t), "val": np.array(v)} for t, v in pairs])
            else:
                self.ds.set_folds(tuple(pairs))
            self.m.folds = [(sorted(t), sorted(v)) for t, v in pairs]
            return
        if len(originals) < 2:
            return
        folds = r.randint(2, min(3, len(originals)))
        positions = np.zeros((len(originals), 1))
        if kind == 1:
            self.ds.set_folds(KFold, n_splits=folds)
            splits = KFold(folds).split(positions)
        elif kind == 2:
            splitter = ShuffleSplit(folds, test_size=1, random_state=r.randint(0, 99))
            self.ds.set_folds(splitter)
            splits = splitter.split(positions)
        else:
            groups = [self.m.samples[s]["group"] for s in originals]
            if None in groups or len(set(groups)) < 2:
                return
            self.ds.set_folds(GroupKFold, 2, groups="group")
            splits = GroupKFold(2).split(positions, groups=groups)
        self.m.folds = [
            (sorted(originals[k] for k in train), sorted(originals[k] for k in val)) for train, val in splits
        ]

    @rule(r=RANDOM)
    def add_prediction(self, r: random.Random) -> None:
        options: dict[str, Any] = {}
        meta = {
            "model": r.choice(["pls", "svm", None]),
            "fold": r.choice([0, 1, None]),
            "partition": r.choice(["val", "test"]),
            "processing": r.choice(["raw", "regression", "z", None]),
            "seed": r.choice([42, np.int64(7), None]),
        }
        extra = r.choice([{}, {"when": "today", "n": np.float64(0.1)}])
        kind = r.randint(0, 3)
        samples = list(range(len(self.m)))
        if kind == 0:
            samples = self.some(r, samples)
            meta["sample"] = samples if r.choice([True, False]) else pl.DataFrame({"sample": samples})
        elif kind == 1:
            samples = self.m.originals
        elif kind == 2:
            filter, want = self.filter(r, side=True)
            picked = self.m.pick_samples(want, self.rows())
            if picked:
                options["filter"], samples = filter, picked
        width = r.choice([1, 1, 1, 2])
        values = self.fresh((len(samples), width), r.choice(["float64", "float32"]), r)
        given = values[:, 0] if width == 1 and r.choice([True, False]) else values
        self.ds.add_prediction(given, {**meta, **extra}, **options)
        fixed = {key: meta.get(key) for key in ("model", "fold", "repeat", "partition", "processing", "seed")}
        for s, preds in zip(samples, values.tolist(), strict=True):
            notes = {k: float(v) if k == "n" else v for k, v in extra.items()} or None
            self.m.predictions.append(
                {"sample": s, **fixed, "metadata": notes, "inverse": False, "inverse_of": None, "preds": preds}
            )
        values[...] = -1

    def line_filter(self, r: random.Random) -> tuple[Any, list[dict[str, Any]]]:
        """A filter on predictions, and the lines it selects (before inverse-transformed ones are left out)."""
        lines = self.m.predictions
        key = r.choice(["model", "fold", "partition", "sample", None, "group", "origin"])
        if key is None or not lines:
            return None, lines
        if key in ("group", "origin"):
            value = r.choice([row[key] for row in self.m.samples])
            hit = [line for line in lines if self.m.samples[line["sample"]][key] == value]
        else:
            value = r.choice([line[key] for line in lines])
            hit = [line for line in lines if line[key] == value]
        if value is not None and key != "group" and key != "origin" and r.choice([True, False]):
            return pl.col(key) == value, hit
        return {key: value}, hit

    @precondition(lambda self: 0 < len(self.m.predictions) < 300)
    @rule(r=RANDOM)
    def inverse_transform_prediction(self, r: random.Random) -> None:
        filter, hit = self.line_filter(r)
        hit = [line for line in hit if not line["inverse"]]
        store = r.choice([None, "regression", "category"])
        steps = [lambda a: a * 2.0, lambda a: a + 1.0]
        if not hit or len({len(line["preds"]) for line in hit}) > 1:
            self.refused(lambda: self.ds.inverse_transform_prediction(steps, filter, store=store))
            return
        got = self.ds.inverse_transform_prediction(steps, filter, store=store)
        width = {line["preds"].__len__() for line in hit}.pop()
        assert got.shape == (len(hit), width)
        self.sealed(got)
        kind = np.float32 if got.dtype == np.float32 else np.float64
        made: list[dict[str, Any]] = []
        for line, values in zip(list(hit), got.tolist(), strict=True):
            want = (np.array(line["preds"], dtype=kind) * kind(2) + kind(1)).tolist()
            assert all(same(a, b) for a, b in zip(values, want, strict=True))
            if store:
                made.append(
                    {**line, "processing": store, "inverse": True, "inverse_of": line["processing"], "preds": want}
                )
        keys = (
            "sample",
            "model",
            "fold",
            "repeat",
            "partition",
            "processing",
            "seed",
            "metadata",
            "inverse",
            "inverse_of",
        )
        new = {tuple(repr(line[k]) for k in keys) for line in made}
        kept = [line for line in self.m.predictions if tuple(repr(line[k]) for k in keys) not in new]
        self.m.predictions = [*kept, *made]

    # --- storage

    def place(self, r: random.Random, formats: tuple[str, ...]) -> str:
        """A path or URL that may have been saved to already."""
        kind, name = r.choice(formats), r.choice(["a", "b", f"c{self.steps}"])
        if kind == "memory":
            return f"memory://machine/{Path(self.folder.name).name}/{name}"
        return str(Path(self.folder.name) / f"{name}.{kind}")

    @rule(r=RANDOM)
    def save_and_load(self, r: random.Random) -> None:
        compression = r.choice(["zstd", "lz4", None, None])
        sizes = r.choice([None, {"row": r.randint(1, 4), "wavelength": r.randint(1, 4)}]) if compression else None
        path = self.place(r, ("spectro", "spectro", "npy", "memory") if OBSTORE else ("spectro", "npy"))
        options: dict[str, Any] = {"compression": compression, "chunks": sizes, "message": str(self.steps)}
        if path.endswith(".npy"):
            options = {"format": "npy"}
        before = self.dump()
        number = self.ds.save(path, overwrite=True, **options)
        self.unchanged(before, self.dump())
        lazy = r.choice([True, True, False])
        self.ds = SpectroDataset.load(path, verify=r.choice([True, False]), lazy=lazy)
        self.unchanged(before, self.dump())
        self.forget(None)
        local = not path.startswith("memory")
        self.mapped = set(self.m.names) if local and lazy and options.get("compression") is None else set()
        if number is not None:
            self.saved.setdefault(path, {})[number] = before

    @precondition(lambda self: self.saved)
    @rule(r=RANDOM)
    def an_earlier_version(self, r: random.Random) -> None:
        """Every version is as it was saved, until it is removed; as Dask arrays too."""
        path = r.choice(sorted(self.saved))
        versions = self.saved[path]
        assert SpectroDataset.versions(path)["version"].to_list() == sorted(versions)
        if r.choice([True, False, False]):
            keep = r.randint(1, 2)
            SpectroDataset.vacuum(path, keep=keep)
            self.saved[path] = versions = dict(sorted(versions.items())[-keep:])
        SpectroDataset.verify(path)
        number = r.choice(sorted(versions))
        chunks = r.choice([None, "auto", {}, {"row": r.randint(1, 3)}, {"row": 2, "wavelength": 2}])
        other = SpectroDataset.load(path, version=number, chunks=chunks)
        self.unchanged(versions[number], self.seen(other, versions[number]))

    def seen(self, other: SpectroDataset, like: dict[str, Any]) -> dict[str, Any]:
        """Everything a user can see of another dataset, the same cells as there."""
        mine, self.ds = self.ds, other
        try:
            return self.dump(list(like["x"]))
        finally:
            self.ds = mine

    # --- reads

    def filter(self, r: random.Random, side: bool = True) -> tuple[Any, Want]:
        """A filter, and what it means."""
        columns = ["sample", "origin", "partition", "group", "branch", "processing", "row"]
        if side:
            own, raw = set(self.m.meta_columns), set(self.m.targets.get("raw", []))
            columns += sorted((own | raw) - (own & raw) - {"targets"})
        kind = r.randint(0, 9)
        if kind == 0:
            return r.choice([None, {}]), Want()
        lines = self.m.index(self.rows())

        def value(key: str) -> Any:
            line = r.choice(lines)
            return line[key] if key in line else self.m.side(line["sample"], key)

        if kind == 1:
            a, b = r.choice(columns), r.choice(columns)
            va, vb = value(a), value(b)
            left, right = pl.col(a).eq_missing(pl.lit(va)), pl.col(b).eq_missing(pl.lit(vb))
            if r.choice([True, False]):
                return left & right, Want(
                    lambda line: line[a] == va and line[b] == vb, processing="processing" in (a, b)
                )
            return left | right, Want(lambda line: line[a] == va or line[b] == vb, processing="processing" in (a, b))
        filter: dict[str, Any] = {}
        tests = []
        for key in r.sample(columns, r.randint(0, 2)):
            filter[key], test = self.condition(r, key, value)
            tests.append((key, test))
        want = Want(lambda line: all(test(line[key]) for key, test in tests), processing="processing" in filter)
        if r.randint(0, 2) == 0:
            want.sources = self.some(r, self.m.names)
            given: Any = want.sources
            if len(given) == 1 and r.choice([True, False]):
                (given,) = given
                if r.choice([True, False]):
                    given = self.m.names.index(given)
            elif r.choice([True, False]):
                given = pl.col("source").is_in(want.sources)
            filter["source"] = given
        if r.randint(0, 3) == 0:
            bands = sorted({w for s in self.m.sources for w in s.axis})
            low, high = sorted(r.choices(bands, k=2))
            form = r.randint(0, 4)
            if form == 0:
                filter["wavelength"] = pl.col("wavelength").is_between(low, high)
            elif form == 1:
                filter["wavelength"] = slice(high, low)
            elif form == 2 and len(want.sources or self.m.names) == 1:
                axis = self.m.source((want.sources or self.m.names)[0]).axis
                chosen = self.some(r, axis)
                filter["wavelength"] = chosen[0] if len(chosen) == 1 else chosen
                want.band = lambda w: w in chosen
                return filter, want
            else:
                filter["wavelength"] = slice(low, high)
            want.band = lambda w: low <= w <= high
        return filter, want

    def condition(self, r: random.Random, key: str, value: Any) -> tuple[Any, Any]:
        """What a filter dict may say of a column, and what it means."""
        one = value(key)
        several = [value(key) for _ in range(r.randint(1, 3))]
        whole = [v for v in several if v is not None]
        kind = r.randint(0, 5)
        if kind == 1 and whole:
            return r.choice([tuple, list, set, pl.Series])(whole), lambda v: v in whole
        if kind == 2:
            return several, lambda v: v in several
        if kind == 3 and whole and not isinstance(whole[0], bool):
            low, high = min(whole), max(whole)
            form = r.randint(0, 2)
            if form == 0:
                return slice(low, high), lambda v: v is not None and low <= v <= high
            if form == 1:
                return slice(low, None), lambda v: v is not None and v >= low
            return slice(None, high), lambda v: v is not None and v <= high
        if kind == 4 and whole:
            return pl.col(key) != pl.lit(whole[0]), lambda v: v is not None and v != whole[0]
        if kind == 5 and whole and isinstance(whole[0], int | str):
            unsigned = isinstance(whole[0], int) and max(whole) >= 2**63  # numpy alone would make floats of them
            return np.array(whole, dtype="uint64" if unsigned else None), lambda v: v in whole
        return one, lambda v: v == one

    @rule(r=RANDOM)
    def read(self, r: random.Random) -> None:
        filter, want = self.filter(r)
        self.check(filter, want, r, gentle=False)

    @rule(r=RANDOM)
    def hold(self, r: random.Random) -> None:
        """Keep an array that was handed out."""
        filter, want = self.filter(r)
        picked = self.m.pick(want, self.rows())
        if isinstance(picked, str):
            filter, want = {"processing": self.m.processings[0], "source": self.m.names[0]}, None
            s = self.m.having(self.m.processings[0])
            if s != self.m.having(self.m.processings[0], self.m.names[0]):
                return
            source = self.m.sources[0]
            bands = {source.name: list(range(len(source.axis)))}
            picked = Picked(s, [self.m.processings[0]], [source.name], bands)
        layout, concat = r.choice(LAYOUTS), r.choice([True, False])
        rows = self.rows()
        view = True
        try:
            arrays = self.ds.x(filter, layout, concat, copy=False)
        except NoViewError:
            view = False
            arrays = self.ds.x(filter, layout, concat)
        values = self.m.x(picked, layout, concat)
        places = self.m.x(picked, layout, concat, lambda s, p, name, k: (rows[s], p, name, k))
        for array, block, cells in zip(arrays, values, places, strict=True):
            where = _flat(cells)
            held = Held(array, _flat(block), where if view else [None] * len(where), set(self.mapped), {})
            self.held.append(held)
        self.held = self.held[-12:]

    def check(self, filter: Any, want: Want, r: random.Random, gentle: bool) -> None:
        """Everything that reads, for one filter."""
        ds, m = self.ds, self.m
        rows = self.rows()
        picked = m.pick(want, rows)
        note(f"filter {filter!s} selects {picked}")
        assert ds.x_exists(filter) is m.exists(want, rows)
        samples = m.pick_samples(want, rows)
        if isinstance(picked, str):
            error = NotRectangularError if picked == UNEVEN else ValueError
            for copy in (None, True):
                with pytest.raises(error) as caught:
                    ds.x(filter, r.choice(LAYOUTS), copy=copy)
                assert isinstance(caught.value, NotRectangularError) == (picked == UNEVEN)
            if not samples:
                with pytest.raises(ValueError, match="nothing matches"):
                    ds.meta(filter)
            if picked == EMPTY:
                return
        else:
            assert picked.samples == samples
            for layout in LAYOUTS:
                for concat in (False, True):
                    self.check_x(filter, picked, layout, concat, gentle)
            lines = self.index_of(picked, rows)
            arrays, index = ds.get_indexed_features(filter, copy=True if gentle else None)
            assert len(arrays[0]) == len(lines) and index.schema == SCHEMA
            assert index.to_dicts() == lines
            if not gentle:
                self.check_sel(filter, picked, rows)
        self.check_meta(filter, samples)
        self.check_y(filter, samples, r)

    def index_of(self, picked: Picked, rows: list[int]) -> list[dict[str, Any]]:
        lines = []
        for s in picked.samples:
            branches = {self.m.lines[s, p] for p in picked.processings}
            branch = branches.pop() if len(branches) == 1 else None
            name = picked.processings[0] if len(picked.processings) == 1 else None
            lines.append({"row": rows[s], "sample": s, **self.m.samples[s], "branch": branch, "processing": name})
        return lines

    def check_x(self, filter: Any, picked: Picked, layout: str, concat: bool, gentle: bool) -> None:
        kinds = [self.m.source(name).dtype for name in picked.sources]
        kinds = [str(np.result_type(*kinds))] if concat else kinds
        expected = [np.array(b, dtype=k) for b, k in zip(self.m.x(picked, layout, concat), kinds, strict=True)]

        def agree(arrays: Any) -> None:
            assert len(arrays) == len(expected)
            for array, values in zip(arrays, expected, strict=True):
                assert array.dtype == values.dtype
                np.testing.assert_array_equal(array, values)

        private = self.ds.x(filter, layout, concat, copy=True)
        agree(private)
        assert all(array.flags.writeable for array in private)
        out = tuple(np.full(values.shape, -9, dtype=values.dtype) for values in expected)
        written = self.ds.x(filter, layout, concat, out=out[0] if len(out) == 1 else out)
        agree(out)
        assert all(a is b for a, b in zip(written, out, strict=True))
        if gentle:
            return
        arrays = self.ds.x(filter, layout, concat)
        agree(arrays)
        for array in arrays:
            self.sealed(array)
        try:
            views = self.ds.x(filter, layout, concat, copy=False)
        except NoViewError:
            return
        agree(views)
        for a, b in zip(arrays, views, strict=True):
            assert np.shares_memory(a, b)
            self.sealed(b)

    def sealed(self, array: np.ndarray) -> None:
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0

    def check_sel(self, filter: Any, picked: Picked, rows: list[int]) -> None:
        for name in picked.sources:
            array = self.ds.sel(filter, source=name)
            source = self.m.source(name)
            values = np.array(self.m.x(picked, "3d", False)[picked.sources.index(name)])
            np.testing.assert_array_equal(array.values, values)
            assert array.dims == ("row", "processing", "wavelength")
            assert array.coords["sample"].values.tolist() == picked.samples
            assert array.coords["row"].values.tolist() == [rows[s] for s in picked.samples]
            assert array.coords["origin"].values.tolist() == [self.m.samples[s]["origin"] for s in picked.samples]
            assert array.coords["processing"].values.tolist() == picked.processings
            assert array.coords["wavelength"].values.tolist() == [source.axis[k] for k in picked.bands[name]]
            assert array.coords["wavelength"].attrs.get("units") == source.attrs.get("units")
            if source.segments:
                assert array.coords["source"].values.tolist() == [source.segments[k] for k in picked.bands[name]]

    def check_meta(self, filter: Any, samples: list[int]) -> None:
        if not samples:
            return
        table = self.ds.meta(filter)
        assert table.columns == ["sample", *self.m.meta_columns]
        assert table["sample"].to_list() == samples
        for column in self.m.meta_columns:
            assert table.schema[column] == META[column][0]
            assert table[column].to_list() == [self.m.meta(s, column) for s in samples]

    def check_y(self, filter: Any, samples: list[int], r: random.Random) -> None:
        m = self.m
        if not samples:
            return
        if not m.versions:
            with pytest.raises(ValueError, match="no targets"):
                self.ds.y(filter)
            return
        choice = r.randint(0, 2)
        explicit = r.choice(m.versions)
        options: dict[str, Any] = [{}, {"processed": False}, {"processing": explicit}][choice]
        named = filter.get("processing") if isinstance(filter, dict) else None
        named = named[0] if isinstance(named, list | tuple) and len(named) == 1 else named
        version = explicit if choice == 2 else named if isinstance(named, str) and named in m.versions else None
        if version is None and choice == 1:
            version = "raw"
        columns = m.target_columns if version is None else [c for c in m.target_columns if c in m.targets[version]]
        if r.choice([True, False]):
            columns = [r.choice(columns)]
            options["target"] = r.choice([columns[0], columns])
        held = {c: version or m.latest(c) for c in columns}
        if any(v != "raw" and m.lacking(v, samples, [c]) for c, v in held.items()):
            with pytest.raises(ValueError, match="not in version"):
                self.ds.y(filter, **options)
            return
        unknown = "targets" in m.targets["raw"] and not any(m.y.get(("raw", s, "targets")) for s in range(len(m)))
        if unknown and "targets" in columns:
            with pytest.raises(ValueError, match="all missing"):  # how long its lists would be, nobody knows
                self.ds.y(filter, **options)
            return
        got = self.ds.y(filter, **options)
        want = []
        for s in samples:
            line: list[Any] = []
            for column in columns:
                value = m.target(held[column], s, column)
                wide = 2 if column == "targets" else VERSIONS.get(held[column], ("", 1))[1]
                line += value if isinstance(value, list) else [value] * wide
            want.append(line)
        assert not got.flags.writeable
        flat = isinstance(options.get("target"), str) and len(want[0]) == 1 and columns[0] != "targets"
        assert got.shape == ((len(samples),) if flat else (len(samples), len(want[0])))
        for a, b in zip(got.reshape(len(samples), -1), want, strict=True):
            assert all(same(x, y) for x, y in zip(a, b, strict=True)), (got, want)
        if len(columns) == 1 and held[columns[0]] == "raw" and columns[0] != "targets" and None not in sum(want, []):
            kind = TARGETS[columns[0]][0]
            if kind not in (pl.String, pl.Date):
                assert got.dtype == pl.Series([], dtype=kind).to_numpy().dtype
        for values, index in [] if unknown else self.ds.get_indexed_targets(filter):
            name = index["processing"][0]
            assert len(values) == index.height
            own = [s for s in samples if any(m.target(name, s, c) is not None for c in m.targets[name])]
            if name != "raw":
                own = [s for s in own if not any(m.mixed(name, s, c) for c in m.targets[name])]
            assert index["sample"].to_list() == own

    @rule(r=RANDOM)
    def read_predictions(self, r: random.Random) -> None:
        filter, hit = self.line_filter(r)
        processed = r.choice([True, False])
        if processed:
            hit = [line for line in hit if not line["inverse"]]
        else:
            hit = [line for line in hit if line["inverse"] or line["processing"] in ("raw", "regression", "category")]
            keys = ("sample", "model", "fold", "repeat", "partition", "seed", "metadata")
            undone = {
                (*[repr(line[k]) for k in keys], line["inverse_of"]) for line in self.m.predictions if line["inverse"]
            }
            hit = [
                line
                for line in hit
                if line["inverse"] or (*[repr(line[k]) for k in keys], line["processing"]) not in undone
            ]
        if not hit or len({len(line["preds"]) for line in hit}) > 1:
            with pytest.raises(ValueError):
                self.ds.prediction(filter, processed)
            return
        got = self.ds.prediction(filter, processed)
        assert got.shape == (len(hit), len(hit[0]["preds"]))
        assert not got.flags.writeable
        for values, line in zip(got.tolist(), hit, strict=True):
            assert all(same(a, b) for a, b in zip(values, line["preds"], strict=True))

    @precondition(lambda self: self.m.folds and "raw" in self.m.versions)
    @rule(r=RANDOM)
    def get_data(self, r: random.Random) -> None:
        m = self.m
        layout, concat = r.choice(LAYOUTS), r.choice([True, False])
        processing, source = r.choice(m.processings), r.choice(m.sources)
        column = r.choice([c for c in m.targets["raw"] if c != "targets"] or ["targets"])
        options = {"filter": {"processing": processing, "source": source.name}, "target": column, "processed": False}
        augmented = r.choice([True, False])
        generated = self.ds.get_data(layout, src_concat=concat, augmented=augmented, **options)
        sides = m.sides() if augmented else [(sorted(t), sorted(v)) for t, v in m.folds]
        for train, val in sides:
            train, val = [[s for s in side if (s, processing) in m.lines] for side in (train, val)]
            bad = any(
                not side or any((s, processing, source.name) not in m.cells for s in side) for side in (train, val)
            )
            if bad or (column == "targets" and any(m.target("raw", s, column) is None for s in train + val)):
                with pytest.raises(ValueError):
                    next(generated)
                return
            x_train, y_train, x_val, y_val = next(generated)
            for samples, xs, ys in ((train, x_train, y_train), (val, x_val, y_val)):
                picked = Picked(samples, [processing], [source.name], {source.name: list(range(len(source.axis)))})
                np.testing.assert_array_equal(xs[0], np.array(m.x(picked, layout, concat)[0]))
                assert not xs[0].flags.writeable
                targets = [m.target("raw", s, column) for s in samples]
                if column != "targets":
                    assert all(same(a, b) for a, b in zip(ys, targets, strict=True))
        assert next(generated, None) is None

    # --- what must hold after each step

    @invariant()
    def agrees(self) -> None:
        if not len(self.m):
            return
        ds, m = self.ds, self.m
        self.steps += 1
        r = random.Random(self.seed * 1000 + self.steps)
        assert len(ds) == len(m) == ds.features.n_samples()
        table = ds.features.index_df
        rows = self.rows()
        assert table.schema == SCHEMA
        assert table.to_dicts() == m.index(rows)
        assert list(ds.features.processings) == m.processings
        assert {name: parent for parent, name, _ in ds.lineage.edges} == m.made
        self.check_rows(rows)
        assert [s.name for s in ds.features.sources] == m.names
        for given, source in zip(ds.features.sources, m.sources, strict=True):
            assert given.axis.values.tolist() == source.axis
            assert given.dtype == source.dtype
            assert given.axis.attrs.get("units") == source.attrs.get("units")
        for (p, name, _), got in self.spectra().items():
            expected = [m.cells[s, p, name] for s in m.having(p, name)]
            np.testing.assert_array_equal(got, np.array(expected))
        self.check_tables()
        for held in self.held:
            assert not held.array.flags.writeable
            for k, (got, want) in enumerate(zip(held.array.ravel().tolist(), held.want, strict=True)):
                assert same(got, want) or (k in held.also and same(got, held.also[k])), (k, held)
        generated = [(fold["train"], fold["val"]) for fold in ds.fold_generator()]
        assert generated == m.sides()
        assert not any(m.leaks(train, val) for train, val in generated)
        gentle = r.random() < 0.6
        for _ in range(2):
            self.check(*self.filter(r), r, gentle)
        if not gentle:
            self.check_packed(rows)
            self.check_whole(rows)

    def check_rows(self, rows: list[int]) -> None:
        """Only samples of one family share a row."""
        roots: dict[int, set[int]] = {}
        for s, row in enumerate(rows):
            above = self.m.descends(s)
            roots.setdefault(row, set()).add(min(above) if above else s)
        assert all(len(family) == 1 for family in roots.values())

    def check_whole(self, rows: list[int]) -> None:
        """The tree shows what x shows, and the summary can be made."""
        assert f"{len(self.m)} sample" in repr(self.ds)
        picked = self.m.pick(Want(), rows)
        if isinstance(picked, str):
            return
        assert list(self.ds.tree.children) == self.m.names
        for name, block in zip(self.m.names, self.m.x(picked, "3d", False), strict=True):
            np.testing.assert_array_equal(self.ds.tree[name]["spectra"].values, np.array(block))
            np.testing.assert_array_equal(self.ds[name].values, np.array(block))

    def check_packed(self, rows: list[int]) -> None:
        """After pack, the whole in that layout is a view, and so is each value of its first column."""
        if self.packed is None or len(set(rows)) < len(rows):
            return
        layout, concat, by = self.packed
        picked = self.m.pick(Want(), rows)
        if isinstance(picked, str) or picked.processings != self.m.processings:
            return
        if not by or sorted(rows) == rows:
            self.ds.x(None, layout, concat, copy=False)

    def spectra(self, cells: Cells | None = None) -> dict[Cell, np.ndarray]:
        """All cells that exist, per processing and source, or some, with the samples that have them."""
        if cells is None:
            both = itertools.product(self.m.processings, self.m.names)
            cells = [(p, name, tuple(self.m.having(p, name))) for p, name in both if self.m.having(p, name)]
        return {
            (p, name, samples): np.asarray(
                self.ds.x({"processing": p, "source": name, "sample": [*samples]}, "2d", copy=True)[0]
            )
            for p, name, samples in cells
        }

    def check_tables(self) -> None:
        ds, m = self.ds, self.m
        found = {}
        for line in ds.targets.table.iter_rows(named=True):
            s, version = line.pop("sample"), line.pop("processing")
            found |= {(version, s, c.split("@")[0]): v for c, v in line.items() if v is not None}
        assert found == {key: value for key, value in m.y.items() if value is not None}
        assert list(ds.targets.versions) == m.versions
        table = ds.metadata.table
        assert table["sample"].is_sorted() and table["sample"].is_unique().all()
        given = {(r["sample"], c): r[c] for r in table.to_dicts() for c in m.meta_columns if r[c] is not None}
        assert given == m.m
        assert ds.folds.folds == [{"train": train, "val": val} for train, val in m.folds]
        lines = ds.predictions.table.to_dicts()
        assert len(lines) == len(m.predictions) == len(ds.predictions)
        for got, want in zip(lines, m.predictions, strict=True):
            preds = got.pop("preds")
            preds = preds if isinstance(preds, list) else [preds]
            got["metadata"] = got["metadata"] and json.loads(got["metadata"])
            assert got == {key: value for key, value in want.items() if key != "preds"}
            assert all(same(a, b) for a, b in zip(preds, want["preds"], strict=True))

    def dump(self, cells: Cells | None = None) -> dict[str, Any]:
        """Everything a user can see."""
        ds = self.ds
        return {
            "index": ds.features.index_df,
            "sources": [(s.name, str(s.dtype), s.axis.values.tolist(), s.axis.attrs) for s in ds.features.sources],
            "processings": ds.features.processings,
            "x": self.spectra(cells),
            "targets": ds.targets.table,
            "versions": ds.targets.versions,
            "metadata": ds.metadata.table,
            "folds": ds.folds.folds,
            "predictions": ds.predictions.table,
        }

    def unchanged(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        for key, value in before.items():
            if isinstance(value, pl.DataFrame):
                assert value.schema == after[key].schema, key
                assert value.equals(after[key]), key
            elif key == "x":
                assert value.keys() == after[key].keys()
                for cell, array in value.items():
                    assert array.dtype == after[key][cell].dtype
                    assert array.tobytes() == after[key][cell].tobytes(), cell
            else:
                assert value == after[key], key

    def refused(self, call: Any) -> None:
        """A call that must raise and change nothing."""
        code = getattr(call, "__code__", None)
        note(f"must fail: line {code.co_firstlineno if code else '?'}")
        before = self.dump()
        with pytest.raises(REFUSED):
            call()
        self.unchanged(before, self.dump())

    # --- calls that must fail

    @rule(r=RANDOM)
    def invalid_features(self, r: random.Random) -> None:
        ds, m = self.ds, self.m
        n = len(m)
        names = m.names

        def block(rows: int = 2, wider: int = 0, dtype: str | None = None) -> dict[str, Any]:
            return {s.name: np.ones((rows, len(s.axis) + wider), dtype=dtype or s.dtype) for s in m.sources}

        def last(**change: Any) -> dict[str, Any]:
            """Right for all sources but the last."""
            return {**block(), names[-1]: block(**change)[names[-1]]}

        wrong = [
            lambda: ds.add_features(last(wider=1)),
            lambda: ds.add_features(last(dtype="int64")),
            lambda: ds.add_features(block(rows=0)),
            lambda: ds.add_features({**block(), "unheard": np.ones((2, 3))}),
            lambda: ds.add_features([*block().values(), np.ones((2, 3), dtype="float32")]),
            lambda: ds.add_features(dict.fromkeys(names)),
            lambda: ds.add_features(block(), group=-1),
            lambda: ds.add_features(block(), group=[0, 2**32]),
            lambda: ds.add_features(block(), group=[0.5, 1.0]),
            lambda: ds.add_features(block(), branch=[0, -1]),
            lambda: ds.add_features(block(), branch=[0, None]),
            lambda: ds.add_features(block(), partition=[1, 2]),
            lambda: ds.add_features(block(), partition=["train"]),
            lambda: ds.add_features(block(), partition=["train"] * 3),
            lambda: ds.add_features(block(), processing=["raw", "snv"]),
            lambda: ds.add_features(block(), processing=""),
            lambda: ds.add_features(block(), wavelength={names[-1]: np.arange(len(m.sources[-1].axis)) + 0.123}),
            lambda: ds.add_features(block(), wavelength={"unheard": [1.0]}),
            lambda: ds.add_features(block(), units="furlong"),
            lambda: ds.add_features(block(), names=[*names, "more"]),
            lambda: ds.add_features(
                {name: a[:, None, :].repeat(2, 1) for name, a in block().items()}, processing=["a", "a"]
            ),
            lambda: ds.add_features([]),
            lambda: ds.add_features("spectra"),
            lambda: ds.add_features({"new": np.ones((n + 1, 3))}),
            lambda: ds.add_features({"new": np.ones((n, 3)), "newer": np.ones((n, 3), dtype="int32")}),
            lambda: ds.add_source(names[0], np.ones((n, 3))),
            lambda: ds.add_source("a/b", np.ones((n, 3))),
            lambda: ds.add_source("new", np.ones((n + 1, 3))),
            lambda: ds.add_source("new", np.ones((1, 3)), [n]),
            lambda: ds.add_source("new", np.ones((2, 3)), [0]),
            lambda: ds.add_source("new", np.ones((n, 3), dtype="int16")),
            lambda: ds.add_source("new", np.ones((n, 2)), wavelength=[1.0, 1.0]),
            lambda: ds.add_source("new", np.ones((n, 2)), wavelength=[1.0, np.nan]),
            lambda: ds.add_source("new", np.ones((n, 2)), wavelength=[1.0]),
            lambda: ds.update_x(block(rows=n + 1), list(range(n)), "snv"),
            lambda: ds.update_x(block(rows=1), [n], "snv"),
            lambda: ds.update_x(block(rows=1), [-1], "snv"),
            lambda: ds.update_x(block(rows=1), [2**32], "snv"),
            lambda: ds.update_x(block(rows=1), [0.0], "snv"),
            lambda: ds.update_x({**block(rows=1), names[-1]: block(rows=1, wider=1)[names[-1]]}, [0], "snv"),
            lambda: ds.update_x({**block(rows=1), names[-1]: block(rows=1, dtype="int32")[names[-1]]}, [0], "snv"),
            lambda: ds.update_x({**block(rows=1), "unheard": np.ones((1, 2))}, [0], "snv"),
            lambda: ds.update_x([None] * len(names), [0], "snv"),
            lambda: ds.update_x([*block(rows=1).values(), None], [0], "snv"),
            lambda: ds.update_x(block(rows=1), [0], ""),
            lambda: ds.update_x(block(rows=1), [0], None),
            lambda: ds.update_x(block(rows=0), [], "snv"),
            lambda: ds.update_x(block(rows=1), pl.DataFrame({"row": [0]}), "snv"),
            lambda: ds.augment_samples_x([(0, 1), (n, 1)]),
            lambda: ds.augment_samples_x([(0, 1), (0, 0)]),
            lambda: ds.augment_samples_x([(0, 1), (0, -1)]),
            lambda: ds.augment_samples_x([(0, True)]),
            lambda: ds.augment_samples_x([(0, 1.0)]),
            lambda: ds.augment_samples_x([(-1, 1)]),
            lambda: ds.augment_samples_x([]),
            lambda: ds.augment_samples_x([0]),
            lambda: ds.augment_features_x(0),
            lambda: ds.augment_features_x(1, filter={"partiton": "train"}),
            lambda: ds.merge([names[0]]),
            lambda: ds.merge([names[0], names[0]]),
            lambda: ds.merge([names[0], "unheard"]),
            lambda: ds.merge([0, 99]),
            lambda: ds.split([], names[-1]),
            lambda: ds.split([(0, len(m.sources[-1].axis) + 1)], names[-1]),
            lambda: ds.split([(1, len(m.sources[-1].axis))], names[-1]),
            lambda: ds.split([(0, len(m.sources[-1].axis)), (0, 1)], names[-1]),
            lambda: ds.split([(0, 0), (0, len(m.sources[-1].axis))], names[-1]),
            lambda: ds.split([(0.0, float(len(m.sources[-1].axis)))], names[-1]),
            lambda: ds.split([(0, len(m.sources[-1].axis))], names[-1], names=["a", "b"]),
            lambda: ds.split([(0, len(m.sources[-1].axis))], names[-1], names=["a/b"]),
            lambda: ds.split([(0, 1)], "unheard"),
            lambda: ds.pack(by="partiton"),
            lambda: ds.pack(by=["partition", "unheard"]),
            lambda: ds.pack(layout="4d"),
        ]
        if any(source.dtype == "float32" for source in m.sources):
            wrong.append(lambda: ds.add_features(block(dtype="float64")))
            wrong.append(lambda: ds.update_x(block(rows=1, dtype="float64"), [0], "snv"))
        if len(names) > 1:
            wrong.append(lambda: ds.add_features(last(rows=3)))
            wrong.append(lambda: ds.add_features({names[0]: np.ones((2, len(m.sources[0].axis)), dtype="float32")}))
        self.refused(r.choice(wrong))

    @rule(r=RANDOM)
    def invalid_index(self, r: random.Random) -> None:
        ds, m = self.ds, self.m
        n = len(m)
        table = ds.features.index_df
        p = m.processings[0]
        one = table.filter(pl.col("processing") == p)

        def put(changed: pl.DataFrame) -> Any:
            def call() -> None:
                ds.features.index_df = changed

            return call

        wrong: list[Any] = [
            lambda: ds.update_indexes(table, {"partiton": "test"}),
            lambda: ds.update_indexes(table, {"row": 0}),
            lambda: ds.update_indexes(table, {"origin": 0}),
            lambda: ds.update_indexes(table, {"sample": 0}),
            lambda: ds.update_indexes(table, {"partition": "moved", "group": -1}),
            lambda: ds.update_indexes(table, {"partition": "moved", "group": 2**32}),
            lambda: ds.update_indexes(table, {"partition": "moved", "branch": -1}),
            lambda: ds.update_indexes(table, {"partition": "moved", "branch": None}),
            lambda: ds.update_indexes(table, {"partition": "moved", "branch": 0.5}),
            lambda: ds.update_indexes(table, {"group": 5, "partition": 3}),
            lambda: ds.update_indexes(table, {"group": 5, "partition": ["a"] * (table.height + 1)}),
            lambda: ds.update_indexes([0, n], {"partition": "moved"}),
            lambda: ds.update_indexes([0, -1], {"partition": "moved"}),
            lambda: ds.update_indexes([], {"partition": "moved"}),
            lambda: ds.update_indexes([0, 0], {"partition": ["one", "two"]}),
            lambda: ds.update_indexes(pl.DataFrame({"sample": [0], "processing": ["unheard"]}), {"partition": "moved"}),
            lambda: ds.update_indexes(one, {"processing": "", "partition": "moved"}),
            lambda: ds.update_indexes(one, {"processing": 5, "partition": "moved"}),
            put(table[1:]),
            put(table.drop("group")),
            put(table.with_columns(more=1)),
            put(pl.concat([table, table[:1]])),
            put(table.with_columns(origin=pl.col("origin") + 1)),
            put(table.with_columns(row=pl.col("row") + 1)),
            put(table.with_columns(sample=pl.col("sample") + 1)),
            put(table.with_columns(group=pl.lit(-1))),
            put(table.with_columns(branch=pl.lit(None, dtype=pl.UInt32))),
            put(table.with_columns(processing=pl.lit("unheard"))),
        ]
        if len(m.processings) > 1:
            wrong.append(lambda: ds.update_indexes(one, {"processing": m.processings[1], "partition": "moved"}))
            both = [s for s, q in m.lines if q == p and (s, m.processings[1]) in m.lines]
            if both:
                torn = (pl.col("sample") == both[0]) & (pl.col("processing") == p)
                wrong.append(
                    put(
                        table.with_columns(pl.when(torn).then(pl.lit("torn")).otherwise("partition").alias("partition"))
                    )
                )
                wrong.append(lambda: ds.update_indexes([both[0]], {"processing": "new"}))
        if one.height > 1:
            wrong.append(lambda: ds.update_indexes(one[:1], {"processing": "new", "partition": "moved"}))
        self.refused(r.choice(wrong))

    @rule(r=RANDOM)
    def invalid_tables(self, r: random.Random) -> None:
        ds, m = self.ds, self.m
        n = len(m)
        good = pl.DataFrame({"sample": [0], "fresh": [1.0]})

        def twice(column: str = "fresh") -> pl.DataFrame:
            return pl.DataFrame({"sample": [0, 0], column: [1.0, 2.0]})

        rows = {s.name: np.ones((2, len(s.axis)), dtype="float32") for s in m.sources}
        wrong: list[Any] = [
            lambda: ds.add_targets(pl.DataFrame({"sample": [0, n], "fresh": [1.0, 2.0]})),
            lambda: ds.add_targets(pl.DataFrame({"sample": [-1], "fresh": [1.0]})),
            lambda: ds.add_targets(pl.DataFrame({"sample": [0.0], "fresh": [1.0]})),
            lambda: ds.add_targets(
                pl.DataFrame({"sample": [None], "fresh": [1.0]}, schema_overrides={"sample": pl.UInt32})
            ),
            lambda: ds.add_targets(twice()),
            lambda: ds.add_targets(pl.DataFrame({"sample": [0]})),
            lambda: ds.add_targets(pl.DataFrame({"sample": [0], "partition": ["x"]})),
            lambda: ds.add_targets(pl.DataFrame({"sample": [0], "wavelength": [1.0]})),
            lambda: ds.add_targets(pl.DataFrame({"fresh": [1.0] * (n + 1)})),
            lambda: ds.add_targets({"sample": [0], "fresh": [1.0]}),
            lambda: ds.add_targets(pl.DataFrame({"sample": [0], "fresh": [object()]})),
            lambda: ds.add_targets(pl.DataFrame({"sample": [0, n], "fresh": [1.0, 2.0], "processing": ["raw", "z2"]})),
            lambda: ds.add_targets(good, pl.DataFrame({"sample": [n], "site": ["x"]})),
            lambda: ds.add_targets(good, twice("note")),
            lambda: ds.add_meta(pl.DataFrame({"sample": [0, n], "fresh": [1.0, 2.0]})),
            lambda: ds.add_meta(twice()),
            lambda: ds.add_meta(pl.DataFrame({"sample": [0]})),
            lambda: ds.add_meta(pl.DataFrame({"sample": [0], "group": [1]})),
            lambda: ds.add_meta(pl.DataFrame({"fresh": [1.0] * (n + 1)})),
            lambda: ds.add_meta(pl.DataFrame({"sample": ["0"], "fresh": [1.0]})),
            lambda: ds.add_meta([1, 2]),
            lambda: ds.add_data(rows, pl.DataFrame({"fresh": [1.0]})),
            lambda: ds.add_data(rows, pl.DataFrame({"sample": [n, n + 2], "fresh": [1.0, 2.0]})),
            lambda: ds.add_data(
                rows, pl.DataFrame({"fresh": [1.0, 2.0]}), pl.DataFrame({"sample": [n, n], "k": [1, 2]})
            ),
            lambda: ds.add_data(rows, pl.DataFrame({"fresh": [1.0, 2.0]}), pl.DataFrame({"row": [1, 2]})),
            lambda: ds.add_data(rows, pl.DataFrame({"fresh": [1.0, 2.0]}), None, group=-1),
            lambda: ds.add_data({**rows, m.names[-1]: np.ones((2, 99))}, pl.DataFrame({"fresh": [1.0, 2.0]})),
        ]
        if m.versions:
            columns = m.targets["raw"]
            numbers = [c for c in columns if TARGETS[c][0].is_numeric()]
            k = len(columns)
            wrong += [
                lambda: ds.update_y(np.ones((n + 1, k)), list(range(n)), "z"),
                lambda: ds.update_y(np.ones((1, k)), [n], "z"),
                lambda: ds.update_y(np.ones((2, k)), [0, -1], "z"),
                lambda: ds.update_y(np.ones((1, k)), [0], ""),
                lambda: ds.update_y(np.ones((0, k)), [], "z"),
                lambda: ds.update_y(np.ones((1, k, 1)), [0], "z"),
                lambda: ds.update_y(np.ones((1, 1)), [0], "z", target="unheard"),
                lambda: ds.update_y(np.ones((1, 2)), [0], "z", target=["unheard", *columns][:2]),
            ]
            if k > 1:
                wrong.append(lambda: ds.update_y(np.ones((1, k + 1)), [0], "z"))
            if numbers:
                number = numbers[0]
                wrong.append(lambda: ds.update_y(np.array(["x"]), [0], "raw", target=number))
                if TARGETS[number][0].is_integer():
                    wrong.append(lambda: ds.update_y(np.array([0.5]), [0], "raw", target=number))
                    wrong.append(lambda: ds.update_y(np.array([2.0**70]), [0], "raw", target=number))
            for (version, s, c), _ in list(m.y.items())[:3]:
                if version == "raw":
                    again = frame({c: [TARGETS[c][1][0]]}, {c: TARGETS[c][0]}).with_columns(sample=pl.lit(s), newer=1.0)
                    wrong.append(lambda again=again: ds.add_targets(again))
            for c in columns[:2]:
                kind = pl.String if TARGETS[c][0] != pl.String else pl.Float64
                other = pl.DataFrame({"sample": [0], "newer": [1.0], c: pl.Series([None], dtype=kind)})
                wrong.append(lambda other=other: ds.add_targets(other))
            if "ohe" in m.versions:
                coded = m.targets["ohe"][0]
                wrong.append(lambda: ds.update_y(np.ones((1, 2), dtype="uint8"), [0], "ohe", target=coded))
        else:
            wrong.append(lambda: ds.update_y(np.ones((1, 1)), [0], "z"))
        for c in m.meta_columns[:2]:
            kind = pl.String if META[c][0] != pl.String else pl.Float64
            other = pl.DataFrame({"sample": [0], "newer": [1.0], c: pl.Series([None], dtype=kind)})
            wrong.append(lambda other=other: ds.add_meta(other))
        self.refused(r.choice(wrong))

    @rule(r=RANDOM)
    def invalid_folds_and_predictions(self, r: random.Random) -> None:
        ds, m = self.ds, self.m
        n = len(m)
        meta = {"model": "pls", "fold": 0, "sample": [0]}
        wrong: list[Any] = [
            lambda: ds.set_folds([([0], [n])]),
            lambda: ds.set_folds([([n], [0])]),
            lambda: ds.set_folds([([-1], [0])]),
            lambda: ds.set_folds([([0], [0])]),
            lambda: ds.set_folds([([], [0])]),
            lambda: ds.set_folds([([0], [])]),
            lambda: ds.set_folds([]),
            lambda: ds.set_folds(5),
            lambda: ds.set_folds([5]),
            lambda: ds.set_folds([{"train": [0], "test": [0]}]),
            lambda: ds.set_folds([(np.zeros(n, bool), np.ones(n, bool))]),
            lambda: ds.set_folds([([0.0], [0.0])]),
            lambda: ds.set_folds(KFold, n_splits=len(m.originals) + 1),
            lambda: ds.set_folds(KFold, splits=2),
            lambda: ds.set_folds(KFold(2), 3),
            lambda: ds.set_folds(GroupKFold, 2, groups="unheard"),
            lambda: ds.set_folds(GroupKFold, 2, groups=[0] * (len(m.originals) + 1)),
            lambda: ds.set_folds(KFold, 2, filter={"partiton": "train"}),
            lambda: ds.set_folds(KFold, 2, target="unheard"),
            lambda: ds.add_prediction(np.ones(2), meta),
            lambda: ds.add_prediction(np.ones((1, 0)), meta),
            lambda: ds.add_prediction(np.ones((1, 1, 1)), meta),
            lambda: ds.add_prediction(np.ones(n + 1), {"model": "pls"}),
            lambda: ds.add_prediction(np.ones(1), {**meta, "sample": [n]}),
            lambda: ds.add_prediction(np.ones(2), {**meta, "sample": [0, 0]}),
            lambda: ds.add_prediction(np.ones(1), {**meta, "fold": 0.5}),
            lambda: ds.add_prediction(np.ones(1), {**meta, "fold": 2**63}),
            lambda: ds.add_prediction(np.ones(1), {**meta, "fold": True}),
            lambda: ds.add_prediction(np.ones(1), {**meta, "model": 5}),
            lambda: ds.add_prediction(np.ones(1), {**meta, "note": object()}),
            lambda: ds.add_prediction(np.ones(1), "pls"),
            lambda: ds.add_prediction(np.ones(1), meta, filter={"sample": 0}),
            lambda: ds.add_prediction(np.ones(1), {"model": "pls"}, filter={"smaple": 0}),
            lambda: ds.prediction({"modle": "pls"}),
            lambda: ds.prediction({"model": "unheard"}),
            lambda: ds.inverse_transform_prediction([]),
            lambda: ds.inverse_transform_prediction([np.negative], store="rgression"),
            lambda: ds.inverse_transform_prediction([lambda a: a[:0]], store="regression"),
            lambda: ds.inverse_transform_prediction([np.negative, 5], store="regression"),
            lambda: ds.inverse_transform_prediction([np.negative], {"model": "unheard"}, store="regression"),
            lambda: ds.save(Path(self.folder.name) / "bad", compression="zip"),
            lambda: ds.save(Path(self.folder.name) / "bad", format="csv"),
            lambda: SpectroDataset.load(Path(self.folder.name) / "nowhere"),
        ]
        derived = [s for s in range(n) if m.samples[s]["origin"] != s]
        for s in derived[:2]:
            origin = m.samples[s]["origin"]
            free = [t for t in m.originals if t not in m.descends(s)]
            if free:
                wrong.append(lambda s=s, t=free[0]: ds.set_folds([([t], [s])]))
                root = min(m.descends(s))
                wrong.append(lambda s=s, t=root, u=free[0]: ds.set_folds([([u], [t]), ([s], [t])]))
            if origin in m.originals:
                wrong.append(lambda s=s, t=origin: ds.set_folds([([s], [t])]))
        if len(m.originals) > 1:
            a, b = m.originals[:2]
            wrong += [
                lambda: ds.set_folds([([a], [b]), ([a], [a])]),
                lambda: ds.set_folds([([a, a], [b])]),
                lambda: ds.set_folds([([a], [b, b])]),
            ]
        self.refused(r.choice(wrong))
        assert not (Path(self.folder.name) / "bad").exists()

    @rule(r=RANDOM)
    def invalid_reads(self, r: random.Random) -> None:
        ds, m = self.ds, self.m
        source = m.sources[-1]
        only = {"source": source.name}
        bad: list[Any] = [
            {"partiton": "train"},
            {"partition": "train", "unheard": 1},
            pl.col("partiton") == "train",
            {"partition": 5},
            {"group": "1"},
            {"group": ["1"]},
            {"sample": object()},
            {"sample": slice(0, 2, 1)},
            {"group": pl.col("partition") == "train"},
            {"sample": np.zeros((2, 2), dtype="int64")},
            pl.col("group") + 1,
            (pl.col("source") == "nir") & (pl.col("sample") == 0),
            "train",
            ["train"],
            {5: 1},
        ]
        if "label" in m.meta_columns and "label" in m.targets.get("raw", []):
            bad.append({"label": "a"})
            bad.append(pl.col("label") == "a")
        filter = r.choice(bad)
        for read in (ds.x, ds.meta, ds.x_exists, ds.get_indexed_features, ds.sel):
            self.refused(lambda read=read: read(filter))
        if m.versions:
            self.refused(lambda: ds.y(filter))
        wrong = [
            lambda: ds.x({"processing": "unheard"}),
            lambda: ds.x({"processing": [m.processings[0], "unheard"]}),
            lambda: ds.x({"source": "unheard"}),
            lambda: ds.x({"source": [source.name, "unheard"]}),
            lambda: ds.x({"source": 99}),
            lambda: ds.x({"source": []}),
            lambda: ds.x({"sample": len(m)}),
            lambda: ds.x({"sample": []}),
            lambda: ds.x({**only, "wavelength": source.axis[0] + 0.1}),
            lambda: ds.x({**only, "wavelength": [source.axis[0], 1e9]}),
            lambda: ds.x({**only, "wavelength": "first"}),
            lambda: ds.x({**only, "wavelength": slice(0, 1e9, 2)}),
            lambda: ds.x({**only, "wavelength": slice(1e8, 1e9)}),
            lambda: ds.x(only, "2D"),
            lambda: ds.x(only, copy="no"),
            lambda: ds.x(only, copy=False, out=np.empty((1, 1))),
            lambda: ds.x(only, out=np.empty((99, 99, 99), dtype=source.dtype)),
            lambda: ds.x(only, "3d", out=[[0.0]]),
            lambda: ds.y(None, processing="unheard"),
            lambda: ds.y(None, target="unheard"),
            lambda: ds.sel(None, source="unheard"),
            lambda: ds["unheard"],
        ]
        self.refused(r.choice(wrong))


def _flat(nested: Any) -> list[Any]:
    return [v for item in nested for v in _flat(item)] if isinstance(nested, list) else [nested]


@pytest.mark.filterwarnings("error")
def test_random_writes_agree_with_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    # tables of any size in parts, and read when they are asked for
    monkeypatch.setattr(storedtables, "WHOLE_BYTES", 0)
    monkeypatch.setattr(storedtables, "LATE_BYTES", 0)
    run_state_machine_as_test(Writes, settings=PROFILE)
