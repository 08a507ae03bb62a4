"""The command ``spectroxr``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    from spectroxr import __version__

    parser = argparse.ArgumentParser(
        prog="spectroxr", description="Labelled arrays for spectroscopy.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"spectroxr {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    demo = commands.add_parser(
        "demo",
        help="the main job on real spectra: glucose in a fermentation",
        description=(
            "Take the MIR fermentation spectra that chemotools carries, make processed variants, cross-validate a "
            "PLS, predict the process, save the dataset, open it again and draw two figures. It takes seconds and "
            "needs no network."
        ),
        allow_abbrev=False,
    )
    demo.add_argument(
        "--out",
        metavar="FOLDER",
        type=Path,
        default=Path("spectroxr-demo"),
        help="where the store and the figures go (default: %(default)s in the current folder)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments (default: those of the process).

    Returns
    -------
    int
        0 if all went well, 1 if it did not, 2 for arguments that make no sense, 130 if interrupted.
    """
    try:
        args = _parser().parse_args(argv)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    from spectroxr.errors import StoreError

    try:
        from spectroxr.demo import run

        run(args.out)
    except BrokenPipeError:
        # The reader of our output has gone (spectroxr demo | head): nothing more to say, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, StoreError, ImportError) as error:
        print(f"spectroxr: {_worded(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("spectroxr: interrupted", file=sys.stderr)
        return 130
    return 0


def _worded(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"cannot use {os.fspath(error.filename)}: {error.strerror}. Choose another folder with --out."
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
