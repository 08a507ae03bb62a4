"""A naive dataset: plain dicts and lists, written from the specification, slow and obvious.

It never looks into the package. What the specification leaves to the package (the physical ``row`` of a sample) it does
not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

#: What makes a filter not rectangular, as the model sees it.
UNEVEN = "uneven"
EMPTY = "empty"


@dataclass
class Source:
    """One instrument: its axis in the order it came in, its unit, and where the bands of a merged one came from."""

    name: str
    axis: list[float]
    dtype: str
    attrs: dict[str, Any]
    segments: list[str] | None = None
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Want:
    """A filter as the model understands it: a predicate on one line, and whether it is one on processings too; the
    sources and the wavelengths asked for."""

    line: Callable[[dict[str, Any]], bool] = lambda line: True
    sources: list[str] | None = None
    band: Callable[[float], bool] | None = None
    processing: bool = False


@dataclass
class Picked:
    """What a filter selects."""

    samples: list[int]
    processings: list[str]
    sources: list[str]
    bands: dict[str, list[int]]


class Line(dict[str, Any]):
    """A line of the index that knows the metadata and targets of its sample too."""

    def __init__(self, line: dict[str, Any], model: Model) -> None:
        super().__init__(line)
        self.model = model

    def __missing__(self, column: str) -> Any:
        return self.model.side(self["sample"], column)


class Model:
    """The dataset as the specification tells it."""

    def __init__(self) -> None:
        self.samples: list[dict[str, Any]] = []  # origin, partition, group; the id is the position
        self.processings: list[str] = []
        self.made: dict[str, str] = {}  # processing -> what it was made of by apply
        self.lines: dict[tuple[int, str], int] = {}  # (sample, processing) -> branch
        self.sources: list[Source] = []
        self.cells: dict[tuple[int, str, str], list[float]] = {}  # (sample, processing, source)
        self.versions: list[str] = []  # of the targets; "raw" first, then as last written
        self.targets: dict[str, list[str]] = {}  # version -> columns
        self.clock = 0
        self.order: dict[tuple[str, str], int] = {}  # (version, column) -> when it was last written
        self.y: dict[tuple[str, int, str], Any] = {}  # (version, sample, column) -> value
        self.meta_columns: list[str] = []
        self.m: dict[tuple[int, str], Any] = {}  # (sample, column) -> value
        self.folds: list[tuple[list[int], list[int]]] = []
        self.predictions: list[dict[str, Any]] = []

    # --- the index

    def __len__(self) -> int:
        return len(self.samples)

    def source(self, name: str) -> Source:
        return next(source for source in self.sources if source.name == name)

    @property
    def names(self) -> list[str]:
        return [source.name for source in self.sources]

    @property
    def originals(self) -> list[int]:
        return [s for s, row in enumerate(self.samples) if row["origin"] == s]

    def having(self, processing: str, source: str | None = None) -> list[int]:
        """Samples that have a line in `processing`, or that have it in `source`."""
        if source is None:
            return [s for s in range(len(self)) if (s, processing) in self.lines]
        return [s for s in range(len(self)) if (s, processing, source) in self.cells]

    def first_branch(self, sample: int) -> int:
        """Branch of the oldest line of a sample."""
        return next(self.lines[sample, p] for p in self.processings if (sample, p) in self.lines)

    def index(self, rows: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Every line: processings oldest first, then samples ascending."""
        return [
            {
                **({} if rows is None else {"row": rows[s]}),
                "sample": s,
                **self.samples[s],
                "branch": self.lines[s, p],
                "processing": p,
            }
            for p in self.processings
            for s in range(len(self))
            if (s, p) in self.lines
        ]

    def inherited(self, get: Callable[[int], Any], sample: int) -> Any:
        """A value of the sample, else of its origin, else of that one's origin."""
        while (value := get(sample)) is None and self.samples[sample]["origin"] != sample:
            sample = self.samples[sample]["origin"]
        return value

    def descends(self, sample: int) -> set[int]:
        """All samples the given one was derived from, in any number of steps."""
        above = set()
        while (origin := self.samples[sample]["origin"]) != sample:
            above.add(origin)
            sample = origin
        return above

    # --- features

    def add_rows(
        self,
        data: dict[str, list[list[list[float]]] | None],
        processings: dict[str, list[str]],
        partition: list[Any],
        group: list[Any],
        branch: list[int],
    ) -> list[int]:
        """Add samples; ``data[source][k][p]`` is the spectrum of new sample k in the p-th processing."""
        ids = list(range(len(self), len(self) + len(partition)))
        for k, s in enumerate(ids):
            self.samples.append({"origin": s, "partition": partition[k], "group": group[k]})
        for source in self.names:
            block = data.get(source)
            if block is None:
                continue
            for p in processings[source]:
                if p not in self.processings:
                    self.processings.append(p)
            for k, s in enumerate(ids):
                for p, spectrum in zip(processings[source], block[k], strict=True):
                    self.lines[s, p] = branch[k]
                    self.cells[s, p, source] = list(spectrum)
        return ids

    def write(self, samples: list[int], processing: str, data: dict[str, list[list[float]]]) -> None:
        """Write a variant of some samples in some sources."""
        if processing not in self.processings:
            self.processings.append(processing)
        for k, s in enumerate(samples):
            if (s, processing) not in self.lines:
                self.lines[s, processing] = self.first_branch(s)
            for source, block in data.items():
                self.cells[s, processing, source] = list(block[k])

    def augment(self, spec: Iterable[tuple[int, int]]) -> list[int]:
        """Add copies by reference: new ids, the parent as origin, its labels, its lines."""
        new = []
        for parent, copies in spec:
            for _ in range(copies):
                s = len(self.samples)
                self.samples.append({**self.samples[parent], "origin": parent})
                for p in self.processings:
                    if (parent, p) in self.lines:
                        self.lines[s, p] = self.lines[parent, p]
                    for source in self.names:
                        if (parent, p, source) in self.cells:
                            self.cells[s, p, source] = list(self.cells[parent, p, source])
                new.append(s)
        return new

    def rename(self, old: str, new: str) -> None:
        self.processings = [new if p == old else p for p in self.processings]
        self.made = {new if p == old else p: new if q == old else q for p, q in self.made.items()}
        self.lines = {(s, new if p == old else p): b for (s, p), b in self.lines.items()}
        self.cells = {(s, new if p == old else p, src): v for (s, p, src), v in self.cells.items()}

    def mergeable(self, names: list[str]) -> bool:
        return all(len({(s, p, name) in self.cells for name in names}) == 1 for s, p in self.lines) and "+".join(
            names
        ) not in set(self.names)

    def merge(self, names: list[str]) -> None:
        """Join sources side by side in the order given; the new one stands where the first of them stood."""
        chosen = [self.source(name) for name in names]
        joined = "+".join(names)
        axis, segments = [], []
        parts: dict[str, dict[str, Any]] = {}
        for source in chosen:
            axis += source.axis
            segments += source.segments or [source.name] * len(source.axis)
            parts |= source.parts if source.segments else {source.name: source.attrs}
        common = {k: v for k, v in chosen[0].attrs.items() if all(s.attrs.get(k) == v for s in chosen)}
        dtype = "float64" if any(source.dtype == "float64" for source in chosen) else "float32"
        merged = Source(joined, axis, dtype, common, segments, parts)
        for s, p in self.lines:
            if (s, p, names[0]) in self.cells:
                self.cells[s, p, joined] = [v for name in names for v in self.cells.pop((s, p, name))]
        place = min(self.names.index(name) for name in names)
        kept = [source for source in self.sources[:place] if source.name not in names]
        self.sources = [*kept, merged, *(s for s in self.sources[place:] if s.name not in names)]

    def part_names(self, source: Source, spans: list[tuple[int, int]]) -> list[str]:
        names = []
        for a, b in spans:
            inside = (source.segments or [])[a:b]
            whole = bool(inside) and len(set(inside)) == 1 and source.segments.count(inside[0]) == b - a
            names.append(inside[0] if whole else f"{source.name}[{a}:{b}]")
        return names

    def split(self, name: str, spans: list[tuple[int, int]], names: list[str]) -> None:
        """Cut a source along its axis."""
        source = self.source(name)
        made = []
        for (a, b), part in zip(spans, names, strict=True):
            inside = source.segments[a:b] if source.segments else None
            attrs = source.attrs
            parts: dict[str, dict[str, Any]] = {}
            if inside and len(set(inside)) == 1:
                attrs, inside = source.parts[inside[0]], None
            elif inside:
                parts = {key: source.parts[key] for key in inside}
            made.append(Source(part, source.axis[a:b], source.dtype, dict(attrs), inside, parts))
        for s, p in self.lines:
            if (s, p, name) in self.cells:
                whole = self.cells.pop((s, p, name))
                for (a, b), part in zip(spans, names, strict=True):
                    self.cells[s, p, part] = whole[a:b]
        place = self.names.index(name)
        self.sources[place : place + 1] = made

    # --- targets, metadata

    @property
    def target_columns(self) -> list[str]:
        return list(dict.fromkeys(c for v in self.versions for c in self.targets[v]))

    def _written(self, version: str) -> None:
        self.clock += 1
        if version in self.versions and version != "raw":
            self.versions.remove(version)
        if version not in self.versions:
            self.versions.append(version)
            self.targets.setdefault(version, [])

    def add_targets(self, version: str, values: dict[str, dict[int, Any]]) -> None:
        given = {c: {s: v for s, v in by_sample.items() if v is not None} for c, by_sample in values.items()}
        self.update_y(version, given)

    def update_y(self, version: str, values: dict[str, dict[int, Any]]) -> None:
        self._written(version)
        for column, by_sample in values.items():
            if column not in self.targets[version]:
                self.targets[version].append(column)
            self.order[version, column] = self.clock
            for s, value in by_sample.items():
                self.y[version, s, column] = value

    def latest(self, column: str) -> str:
        """The version of a target written last; raw only if there is no other."""
        return max(
            (v for v in self.versions if column in self.targets[v]),
            key=lambda v: -1 if v == "raw" else self.order[v, column],
        )

    def target(self, version: str, sample: int, column: str) -> Any:
        return self.inherited(lambda s: self.y.get((version, s, column)), sample)

    def mixed(self, version: str, sample: int, column: str) -> bool:
        """Whether a derived sample has a raw value of its own, but only its origin's in a version."""
        derived = self.samples[sample]["origin"] != sample
        own = self.y.get(("raw", sample, column)) is not None
        return derived and own and self.y.get((version, sample, column)) is None

    def lacking(self, version: str, samples: Iterable[int], columns: Iterable[str]) -> bool:
        """Whether a version lacks a target that some of the samples have as raw."""
        return any(
            (self.target("raw", s, c) is not None and self.target(version, s, c) is None) or self.mixed(version, s, c)
            for s in samples
            for c in columns
        )

    def meta(self, sample: int, column: str) -> Any:
        return self.inherited(lambda s: self.m.get((s, column)), sample)

    # --- reading

    def chosen(self, want: Want, rows: Sequence[int]) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """Per processing the samples whose line passes, and per source the bands.

        Where one source is asked for and no processing is, those the source has of no such sample are left out.
        """
        bands = {}
        for source in self.sources:
            if want.sources is None or source.name in want.sources:
                picks = [k for k, w in enumerate(source.axis) if want.band is None or want.band(w)]
                bands |= {source.name: picks} if picks else {}
        found: dict[str, list[int]] = {}
        for line in self.index(rows):
            if want.line(Line(line, self)):
                found.setdefault(line["processing"], []).append(line["sample"])
        if len(bands) == 1 and not want.processing:
            (name,) = bands
            found = {p: some for p, some in found.items() if any((s, p, name) in self.cells for s in some)}
        return found, bands

    def side(self, sample: int, column: str) -> Any:
        """A value of the metadata or the raw targets, whichever has such a column."""
        return self.meta(sample, column) if column in self.meta_columns else self.target("raw", sample, column)

    def pick_samples(self, want: Want, rows: Sequence[int]) -> list[int]:
        found, bands = self.chosen(want, rows)
        return sorted({s for some in found.values() for s in some}) if bands else []

    def pick(self, want: Want, rows: Sequence[int]) -> Picked | str:
        """The rectangle a filter selects, or why there is none."""
        found, bands = self.chosen(want, rows)
        if not found or not bands:
            return EMPTY
        first = next(iter(found.values()))
        if any(some != first for some in found.values()):
            return UNEVEN
        if any((s, p, name) not in self.cells for s in first for p in found for name in bands):
            return UNEVEN
        return Picked(first, list(found), list(bands), bands)

    def exists(self, want: Want, rows: Sequence[int]) -> bool:
        found, bands = self.chosen(want, rows)
        return any((s, p, name) in self.cells for name in bands for p, some in found.items() for s in some)

    def cell(self, sample: int, processing: str, source: str, band: int) -> float:
        return self.cells[sample, processing, source][band]

    def x(self, picked: Picked, layout: str, src_concat: bool, cell: Callable[..., Any] | None = None) -> list[Any]:
        """Nested lists per source, element by element in the order the specification gives.

        `cell` says what stands for (sample, processing, source, band): its value, unless told otherwise.
        """
        cell = cell or self.cell
        per_source = []
        for name in picked.sources:
            per_source.append(
                [
                    [[cell(s, p, name, k) for k in picked.bands[name]] for p in picked.processings]
                    for s in picked.samples
                ]
            )
        if layout == "3d_transpose":
            shaped = [[_turned(sample) for sample in block] for block in per_source]
        elif layout == "3d":
            shaped = per_source
        elif layout == "2d":
            shaped = [[[v for variant in sample for v in variant] for sample in block] for block in per_source]
        else:
            shaped = [[[v for band in _turned(sample) for v in band] for sample in block] for block in per_source]
        if not src_concat:
            return shaped
        if layout == "3d":
            joined = [
                [[v for part in parts for v in part] for parts in zip(*samples, strict=True)]
                for samples in zip(*shaped, strict=True)
            ]
        else:
            joined = [[v for part in samples for v in part] for samples in zip(*shaped, strict=True)]
        return [joined]

    # --- folds

    def sides(self) -> list[tuple[list[int], list[int]]]:
        """The folds, augmented children of training samples training too."""
        out = []
        for train, val in self.folds:
            grown = {s for s in range(len(self)) if s in set(train) or self.descends(s) & set(train)}
            out.append((sorted(grown), sorted(val)))
        return out

    def leaks(self, train: list[int], val: list[int]) -> bool:
        return any(s in val or self.descends(s) & set(val) for s in train) or any(
            self.samples[s]["origin"] != s for s in val
        )


def _turned(rows: list[list[float]]) -> list[list[float]]:
    return [list(column) for column in zip(*rows, strict=True)]
