"""The table, and what it was measured with."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from figures import Figure

START = "<!-- benchmarks:start -->"
END = "<!-- benchmarks:end -->"
PACKAGES = ("spectroxr", "numpy", "polars", "xarray", "scikit-learn", "pandas", "anndata")
HEAD = ("name", "what", "target", "measured", "met?")


def machine(quick: bool, seconds: float) -> dict[str, Any]:
    """Processor, memory, versions and date; no names or paths of the machine."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": versions,
        "load": round(os.getloadavg()[0], 2),
        "quick": quick,
        "seconds": round(seconds),
    }


def _cpu() -> str:
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        for line in listed.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def plain(figures: Sequence[Figure]) -> str:
    """The table for a terminal."""
    rows = [HEAD, *((f.name, f.what, f.target, f.measured, f.verdict) for f in figures)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEAD))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def markdown(figures: Sequence[Figure], about: dict[str, Any]) -> str:
    """The table for the page, with what it was measured with."""
    lines = [
        f"Measured on {about['date']} on {about['cpu']}, {about['cores']} cores, {about['memory_gb']} GB, "
        f"{about['system']}, Python {about['python']}, "
        + ", ".join(f"{name} {number}" for name, number in about["packages"].items())
        + f"; the run took {about['seconds']} s, load average {about['load']} at its end"
        + (" (quick: few repetitions)." if about["quick"] else "."),
        "",
        "| benchmark | what | target | measured | met? |",
        "|---|---|---|---|---|",
    ]
    for f in figures:
        cells = (f"`{f.name}`", f.what, f.target, f.measured, f.verdict)
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |")
    return "\n".join(lines)


def rewrite(page: Path, table: str) -> None:
    """Replace what stands between the two marks of a page."""
    text = page.read_text(encoding="utf-8")
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise SystemExit(f"{page.name} needs the marks {START} and {END}, once each, in this order.")
    head, rest = text.split(START)
    tail = rest.split(END)[1]
    page.write_text(f"{head}{START}\n\n{table}\n\n{END}{tail}", encoding="utf-8")
