"""The lineage of processings as a figure, with matplotlib."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from spectroxr.dataset import SpectroDataset

__all__ = ["lineage"]

#: Inches per step to the right and per line, and how many letters fit between two steps.
_STEP, _LINE, _WIDTH = 2.6, 0.55, 26


def lineage(ds: SpectroDataset, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Draw how processings were made from one another: the roots on the left, the steps on the lines.

    Parameters
    ----------
    ds : SpectroDataset
    ax : matplotlib.axes.Axes, optional
        Where to draw (default: a new figure of the size the graph needs).
    title : str, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the dataset has no processing.
    ImportError
        If matplotlib is not installed.
    """
    names = ds.features.cells.index.processings
    if not names:
        raise ValueError("the dataset has no processing to draw; add_features comes first.")
    parents = {name: parent for parent, name, _ in ds.lineage.edges if parent in names}
    labels = {name: label for _, name, label in ds.lineage.edges}
    places = _places(names, parents)
    across, down = (max(place[k] for place in places.values()) for k in (0, 1))
    if ax is None:
        import matplotlib.pyplot as plt

        size = (_STEP * (across + 1) + 0.4, max(1.6, _LINE * (down + 1) + (0.7 if title else 0.4)))
        _, ax = plt.subplots(figsize=size, layout="constrained")
    for name, parent in parents.items():
        (x0, y0), (x1, y1) = places[parent], places[name]
        bend = x0 + 0.12
        ax.plot([x0, bend, bend, x1], [y0, y0, y1, y1], color="0.6", lw=1.2, zorder=1, solid_joinstyle="round")
        ax.text(x1 - 0.05, y1 - 0.12, _short(labels[name]), ha="right", va="bottom", fontsize=8, color="0.35")
    for name, (x, y) in places.items():
        made = name in labels
        ax.plot([x], [y], "o", ms=6, color="C0" if made else "0.2", zorder=2)
        text = name[:8] + "…" if re.fullmatch("[0-9a-f]{16}", name) else _short(name)
        ax.text(
            x + 0.05, y, text, ha="left", va="center", fontsize=9, zorder=3, bbox={"fc": "w", "ec": "none", "pad": 1}
        )
    ax.set_xlim(-0.1, across + 0.6)
    ax.set_ylim(down + 0.6, -0.6)
    ax.set_axis_off()
    if title:
        ax.set_title(title)
    return ax


def _places(names: tuple[str, ...], parents: dict[str, str]) -> dict[str, tuple[int, int]]:
    """Return step and line of each processing: a first child goes on in the line of its parent."""
    places: dict[str, tuple[int, int]] = {}
    line = 0

    def put(name: str, depth: int) -> None:
        nonlocal line
        places[name] = (depth, line)
        for k, child in enumerate([child for child, parent in parents.items() if parent == name]):
            if k:
                line += 1
            put(child, depth + 1)

    for k, root in enumerate([name for name in names if name not in parents]):
        line += 1 if k else 0
        put(root, 0)
    return places


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
