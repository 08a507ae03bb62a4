"""What a benchmark found: one line of the table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from measure import Times


@dataclass(frozen=True)
class Effort:
    """How long a run may take."""

    quick: bool

    def times(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True)
class Figure:
    """One line: what was measured, what was asked for, and whether it was reached (None: for information)."""

    name: str
    what: str
    target: str
    measured: str
    met: bool | None = None
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        return {True: "yes", False: "no", None: "for information"}[self.met]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def spread(times: Times) -> str:
    """Median and range of some times."""
    return f"{duration(times.median)} ({duration(times.low)} - {duration(times.high)})"


def volume(size: float) -> str:
    """Bytes in the unit that suits them."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} B"
