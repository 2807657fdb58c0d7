"""One look for all figures: colours by method, readable on paper and for the colour-blind."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from immunization.reporting.text import display_label

# Okabe and Ito's palette, two more and four of Tol's, with grey for the reference.
COLOURS = [
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#B8A800", "#882255",
    "#000000", "#8C564B", "#332288", "#44AA99", "#AA4499", "#999933",
]  # fmt: skip
REFERENCE = "#777777"
DASHES = ["-", "--", "-.", ":"]

STYLE: Any = {
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "immunization",  # the same file for the same data
    "figure.constrained_layout.use": True,
}
"""Settings of matplotlib, for ``matplotlib.rc_context(STYLE)`` while a figure is drawn."""


def look(methods: list[str]) -> dict[str, dict[str, Any]]:
    """Colour and dash of each method, the same in every figure of a study."""
    styles: dict[str, dict[str, Any]] = {}
    used = 0
    for method in methods:
        if method == "identity":
            styles[method] = {"color": REFERENCE, "linestyle": "-"}
            continue
        styles[method] = {
            "color": COLOURS[used % len(COLOURS)],
            "linestyle": DASHES[used // len(COLOURS) % len(DASHES)],
        }
        used += 1
    return styles


def plain(name: object) -> str:
    """A name from the data as text of a figure: a dollar sign is one, and starts no formula."""
    return str(name).replace("$", r"\$")


def title(label: str) -> str:
    """A label of the config, for people."""
    return "no immunization (θ = I)" if label == "identity" else display_label(label)


def nothing(message: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure = Figure(figsize=(6, 1.2))
    figure.text(0.5, 0.5, message, ha="center", va="center", color=REFERENCE)
    return figure


def panels(count: int, height: float = 2.5) -> tuple[Figure, list[list[Axes]], list[Axes]]:
    """At most three across that share an axis: the figure, its rows, and the panels to fill."""
    columns = min(3, count)
    lines = -(-count // columns)
    figure, grid = plt.subplots(
        lines, columns, figsize=(3.1 * columns, height * lines + 0.8), sharey=True, squeeze=False
    )
    rows = [list(row) for row in grid]
    every = [axis for row in rows for axis in row]
    for axis in every[count:]:
        axis.set_visible(False)
    return figure, rows, every[:count]


def few_ticks(axis: Axes) -> None:
    """On two logarithmic axes of a small panel; ticks take longer to draw than all else."""
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(LogLocator(numticks=4))
        side.set_minor_locator(NullLocator())
    axis.tick_params(labelsize=6)


def shared_legend(figure: Figure, handles: list[Artist], labels: list[str]) -> None:
    """One legend under all panels."""
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)))
