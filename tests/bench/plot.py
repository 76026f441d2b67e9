"""The rows as a picture: each ratio with its interval, and the marks that it is held against.

Ratios are turned so that right is better, and drawn as shares of what the row must reach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["draw"]

_COLOURS = {"aim": "tab:green", "must": "tab:blue", "short": "tab:red"}


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the rows that something is asked of into a file: `.svg`, `.png`, `.pdf`.

    :param rows: as in the JSON
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    judged = [row for row in rows if row["must"] is not None][::-1]
    mpl.rcParams["svg.hashsalt"] = "saslwrap"  # the same figures give the same file
    mpl.rcParams["svg.fonttype"] = "none"  # text stays text
    figure = Figure(figsize=(10, 0.8 + 0.28 * len(judged)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(judged):
        low, middle, high = sorted(_share(row, row[name]) for name in ("low", "ratio", "high"))
        colour = _COLOURS[row["verdict"]]
        axes.plot([low, high], [place, place], color=colour, linewidth=4, alpha=0.5)
        axes.plot(middle, place, "o", color=colour)
        axes.plot(_share(row, row["aim"]), place, "|", color="black", markersize=10)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(judged)), [row["what"] for row in judged], fontsize=8)
    axes.set_xscale("log")
    axes.set_xticks([0.5, 0.75, 1, 1.5, 2], ["0.5", "0.75", "must", "1.5", "2"])
    axes.minorticks_off()
    axes.set_title("ratio / what it must be; the tick is the aim; right is better", fontsize=9)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _share(row: Mapping[str, Any], ratio: float) -> float:
    share = ratio / float(row["must"])
    return share if row["figure"] == "speed" else 1 / share
