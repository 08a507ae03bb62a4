"""Fitted estimators as bytes that cannot run code, and back."""

from __future__ import annotations

import base64
import importlib
import zipfile
from collections.abc import Sequence
from typing import Any

from spectroxr.errors import StoreError, nearest

__all__ = ["FORMS", "TRUSTED", "dumped", "loaded"]

#: How fitted estimators may be kept; None keeps them for this session only.
FORMS = ("skops", "pickle", None)
#: Packages whose estimators are read back without being asked for.
TRUSTED = ("sklearn", "chemotools", "scipy", "spectroxr")


def dumped(estimator: Any, form: str | None, name: str) -> dict[str, str] | None:
    """Return a fitted estimator as a JSON value.

    Parameters
    ----------
    estimator : estimator
    form : {"skops", "pickle", None}
    name : str
        What to call it in an error.

    Returns
    -------
    dict or None
        ``form`` and ``data`` (base64); None for `form` None.

    Raises
    ------
    ValueError
        If it cannot be written so.
    ImportError
        If skops is not installed.
    """
    if form not in FORMS:
        raise ValueError(nearest(form, FORMS, "way to keep fitted estimators"))
    if form is None:
        return None
    try:
        data = _skops().dumps(estimator, compression=zipfile.ZIP_DEFLATED) if form == "skops" else _pickled(estimator)
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(
            f"{name} cannot be kept as {form} ({type(error).__name__}: {error}). keep=None keeps it for this session "
            "only" + ("; keep='pickle' writes what runs code when it is read." if form == "skops" else ".")
        ) from error
    return {"form": form, "data": base64.b64encode(data).decode("ascii")}


def loaded(kept: Any, trusted: Sequence[str], pickles: bool, name: str) -> Any:
    """Return the estimator that `dumped` wrote.

    Parameters
    ----------
    kept : JSON value
        As it was read; it may come from anybody.
    trusted : sequence of str
        Packages, or full names of classes, of which objects may be made besides `TRUSTED`.
    pickles : bool
        Whether a pickle may be read, which runs whatever code is in it.
    name : str
        What to call it in an error.

    Raises
    ------
    StoreError
        If it is damaged, or holds what is not trusted; the message names it and says how to trust it.
    ImportError
        If skops is not installed.
    """
    if not isinstance(kept, dict) or kept.get("form") not in FORMS[:2] or not isinstance(kept.get("data"), str):
        raise StoreError(f"{name}: the fitted estimator is not readable.")
    try:
        data = base64.b64decode(kept["data"], validate=True)
    except ValueError as error:
        raise StoreError(f"{name}: the fitted estimator is damaged ({error}).") from error
    if kept["form"] == "pickle":
        if not pickles:
            raise StoreError(
                f"{name} was kept as a pickle, which can run any code when it is read; pass pickles=True if you trust "
                "where it comes from."
            )
        import pickle

        return pickle.loads(data)
    skops = _skops()
    try:
        strange = skops.get_untrusted_types(data=data)
    except Exception as error:
        raise StoreError(f"{name}: the fitted estimator is damaged ({error}).") from error
    for kind in strange:
        if kind not in trusted and kind.partition(".")[0] not in trusted and not _ours(kind):
            raise StoreError(
                f"{name} holds a {kind}, which is not of {', '.join(TRUSTED)}; pass "
                f"trusted=[{kind.partition('.')[0]!r}] if you trust that package and where this comes from."
            )
    try:
        return skops.loads(data, trusted=strange)
    except Exception as error:
        raise StoreError(f"{name}: the fitted estimator is damaged ({type(error).__name__}: {error}).") from error


def _ours(kind: str) -> bool:
    """Tell whether the full name of a class or function is of one that a trusted package defines, not just imports."""
    package = kind.partition(".")[0]
    if package not in TRUSTED:
        return False
    module, _, name = kind.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return False
    return str(getattr(found, "__module__", "")).partition(".")[0] == package


def _pickled(estimator: Any) -> bytes:
    import pickle

    return pickle.dumps(estimator, protocol=5)


def _skops() -> Any:
    try:
        import skops.io
    except ImportError as error:
        raise ImportError(
            "fitted estimators are kept with skops; install it with: python -m pip install 'spectroxr[learn]'. "
            "keep=None keeps them for this session only."
        ) from error
    return skops.io
