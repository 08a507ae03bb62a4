"""One line per public call, through standard logging; free when switched off."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from spectroxr.errors import nearest

__all__ = ["LEVELS", "enabled", "log", "logger", "quiet"]

#: Switch on with ``logging.basicConfig(level="INFO")`` or ``logger.setLevel("INFO")`` and a handler.
logger = logging.getLogger("spectroxr")
logger.addHandler(logging.NullHandler())

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


def enabled() -> bool:
    """Tell whether a line at INFO would go anywhere: asked before a line is worded."""
    return logger.isEnabledFor(logging.INFO) and not _quiet.get()


@contextmanager
def quiet() -> Iterator[None]:
    """Let calls within a public call log nothing: the outer one does."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def log(message: str, level: str = "INFO") -> None:
    """Send one line to the logger ``spectroxr``.

    Parameters
    ----------
    message : str
    level : {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}
        In any case.

    Raises
    ------
    ValueError
        If the level is not one of these.
    """
    name = str(level).upper()
    if name not in LEVELS:
        raise ValueError(nearest(level, LEVELS, "log level"))
    logger.log(logging.getLevelName(name), message)
