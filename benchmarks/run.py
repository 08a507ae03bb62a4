"""Measure what the package promises, and print a table: ``python benchmarks/run.py [--quick] [--only NAME]``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import report
from cloud import cloud
from crossval import folds
from figures import Effort, Figure
from filtering import filters
from importing import imports
from measure import claim
from peers import peers
from reading import split, view
from storing import storing
from validating import validating
from writing import augment, variant

BENCHMARKS: dict[str, Callable[[Effort], list[Figure]]] = {
    "view": view,
    "split": split,
    "variant": variant,
    "augment": augment,
    "folds": folds,
    "validate": validating,
    "filter": filters,
    "import": imports,
    "store": storing,
    "cloud": cloud,
    "peers": peers,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repetitions, under half a minute")
    parser.add_argument("--only", action="append", choices=list(BENCHMARKS), help="this one; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--table", type=Path, metavar="PAGE", help="rewrite the table of this page")
    args = parser.parse_args()
    if args.table and args.only:
        parser.error("--table wants the whole run, so it does not go with --only.")
    begun = perf_counter()
    claim(1e9)
    figures: list[Figure] = []
    for name in args.only or BENCHMARKS:
        start = perf_counter()
        figures += BENCHMARKS[name](Effort(args.quick))
        print(f"{name}: {perf_counter() - start:.1f} s", file=sys.stderr)
    about = report.machine(args.quick, perf_counter() - begun)
    print(report.plain(figures))
    print(f"\n{about['cpu']}, {about['cores']} cores, load {about['load']}, {about['date']}, {about['seconds']} s")
    if args.json:
        args.json.write_text(json.dumps({"about": about, "figures": [f.as_dict() for f in figures]}, indent=1))
    if args.table:
        report.rewrite(args.table, report.markdown(figures, about))
    return 0


if __name__ == "__main__":
    sys.exit(main())
