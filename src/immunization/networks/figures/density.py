"""Eigenvalue density of the Hessian of D_P's loss on the trainable part."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import SymmetricalLogLocator

from immunization.networks.figures.fine_tuning import named
from immunization.networks.results import Results
from immunization.reporting.style import look, panels
from immunization.reporting.text import format_number

PARAMETERS: dict[str, dict[str, object]] = {}
CAPTION = (
    "Eigenvalues of the Hessian of D_P's loss on the trainable part (stochastic Lanczos "
    "quadrature, one start vector, first seed): each stem is a node, its height the share of "
    "eigenvalues that it stands for. Grey: without immunization. Axes are logarithmic in the size "
    "of an eigenvalue, with negative ones to the left."
)
SMALL = 1e-3


def draw(results: Results, setting: str) -> Figure:
    """A panel a method, with the reference behind it."""
    part = results.rows_of(results.densities, setting)
    part = part[part["seed"] == part["seed"].min()].set_index("method")
    methods = [m for m in results.methods if m in part.index]
    figure, rows, axes = panels(len(methods), 1.7)
    styles = look(results.methods)
    for axis, method in zip(axes, methods, strict=True):
        for name in dict.fromkeys(("identity", method)):
            nodes, weights = (np.asarray(part.loc[name, c]) for c in ("nodes", "weights"))
            axis.vlines(
                nodes, 1e-12, np.maximum(weights, 1e-12), linewidth=1, color=styles[name]["color"]
            )
        axis.set_xscale("symlog", linthresh=SMALL)
        axis.set(yscale="log", ylim=(1e-9, 2))
        largest = float(part.loc[method, "hessian_largest"])
        axis.set_title(f"{named(method)}: λ_max {format_number(largest)}", fontsize=7)
        ticks = SymmetricalLogLocator(base=10, linthresh=SMALL)
        ticks.set_params(numticks=6)
        axis.xaxis.set_major_locator(ticks)
        axis.tick_params(labelsize=6)
    for row in rows:
        row[0].set_ylabel("share")
    for axis in rows[-1]:
        axis.set_xlabel("eigenvalue")
    return figure


def says(results: Results, setting: str) -> str:
    """How the largest eigenvalue changed."""
    part = results.rows_of(results.densities, setting)
    largest = part.groupby("method")["hessian_largest"].mean()
    reference = float(largest["identity"])
    shares = [
        f"{named(m)} {format_number(float(largest[m]) / reference)}"
        for m in results.methods
        if m in largest.index and m != "identity"
    ]
    return (
        f"Largest eigenvalue without immunization: {format_number(reference)}; after it, as "
        f"multiples of that: {', '.join(shares)}."
    )
