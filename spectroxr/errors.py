"""The errors spectroxr raises, and the wording that helps a user out of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ConflictError",
    "NoViewError",
    "NotRectangularError",
    "SpectroWarning",
    "StoreError",
    "UnknownNameError",
    "nearest",
]


class UnknownNameError(KeyError):
    """A filter key, processing, source, column or fold names nothing that exists.

    The message names the value, the nearest valid name and the valid ones.
    """

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class NotRectangularError(ValueError):
    """A selection in which some sample lacks a processing or a source."""


class NoViewError(ValueError):
    """``copy=False`` was asked for a selection that no strided view shows.

    The message gives the reason and the call of ``pack`` (or the filter) that makes one possible.
    """


class StoreError(ValueError):
    """A store on disk is missing, damaged, newer than this package, or not one of ours."""


class ConflictError(StoreError):
    """Another writer saved to the same store first; nothing of theirs was changed, and nothing of this save is kept."""


class SpectroWarning(UserWarning):
    """Something was done otherwise than one may have meant, such as samples without a target that were left out."""


def nearest(value: object, valid: Iterable[object], what: str) -> str:
    """Word an unknown name: the value, the nearest valid name, the valid names.

    Parameters
    ----------
    value : object
        The name that was given.
    valid : iterable
        The names that exist, in the order to list them.
    what : str
        What kind of name it is, such as ``"filter key"``.

    Returns
    -------
    str
        One sentence or two, ready for an exception.

    Examples
    --------
    >>> nearest("partiton", ["sample", "partition"], "filter key")
    "unknown filter key 'partiton'. Did you mean 'partition'? Valid: 'sample', 'partition'."
    """
    names = [str(name) for name in valid]
    folded = {name.casefold(): name for name in reversed(names)}
    close = difflib.get_close_matches(str(value).casefold(), folded, n=1, cutoff=0.5)
    hint = f" Did you mean {folded[close[0]]!r}?" if close else ""
    shown = ", ".join(repr(name) for name in names[:30]) + (", …" if len(names) > 30 else "")
    return f"unknown {what} {value!r}.{hint} Valid: {shown or 'none yet'}."
