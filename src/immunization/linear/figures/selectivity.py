"""Whether a method slows the harmful task alone, or also benign third tasks."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from immunization.linear.figures._attacks import attacker, in_order
from immunization.linear.results import Results
from immunization.linear.slowdowns import BEST, selectivity
from immunization.reporting.style import look, nothing, shared_legend, title
from immunization.reporting.text import format_number

CAPTION = (
    "Slowdown of the harmful task (up) against the worst slowdown of benign third tasks (right), "
    "classes that the method was told nothing of; one point a sampled pair and seed. Above the "
    "diagonal a method hinders the harmful task more than innocent ones; on it the model has just "
    "become hard to fine-tune for anything. Hollow points are bounds: the budget ran out on D_H, "
    "on the worst third task, or on both."
)


def draw(results: Results, dataset: str) -> Figure:
    """One panel an attacker."""
    both = selectivity(results.slowed(dataset))
    both = both[~both["attack"].str.startswith(BEST) & both["method"].isin(results.unswept())]
    if both.empty:
        return nothing("No third tasks, or none whose slowdown is known.")
    attacks = in_order(results, both["attack"])
    figure, axes = plt.subplots(
        1, len(attacks), figsize=(3 * len(attacks), 3.9), sharey=True, squeeze=False
    )
    styles, handles = look(results.methods), {}
    for axis, attack in zip(axes[0], attacks, strict=True):
        part = both[both["attack"] == attack]
        for method in results.unswept():
            rows = part[part["method"] == method]
            colour = styles[method]["color"]
            bound = rows["bound"] != ""
            x, y = np.exp(rows["worst"]), np.exp(rows["harmful"])
            handles[method] = axis.scatter(x[~bound], y[~bound], s=10, color=colour)
            axis.scatter(x[bound], y[bound], s=10, facecolors="none", edgecolors=colour)
        ends = [float(np.exp(part[["worst", "harmful"]].to_numpy()).min()) / 2]
        ends.append(float(np.exp(part[["worst", "harmful"]].to_numpy()).max()) * 2)
        axis.plot(ends, ends, color="black", linewidth=0.7)
        axis.set(xscale="log", yscale="log", xlabel="worst slowdown, third tasks")
        axis.set_title(attacker(attack), fontsize=8)
    axes[0, 0].set_ylabel("slowdown, D_H")
    shared_legend(figure, list(handles.values()), [title(m) for m in handles])
    return figure


def says(results: Results, dataset: str) -> str:
    """The most selective method, by its median over pairs and attackers."""
    both = selectivity(results.slowed(dataset))
    both = both[(both["method"] != "identity") & ~both["attack"].str.startswith(BEST)]
    if both.empty:
        return "Selectivity is unknown here."
    middle = both.groupby("method")["selectivity"].median()
    best = middle.idxmax()
    negative = int((middle < -1e-9).sum())
    return (
        f"{title(str(best))} is the most selective: in the median it slows D_H "
        f"{format_number(float(np.exp(middle[best])))} times as much as the worst third task; "
        f"{negative} of {len(middle)} methods slow some third task more than D_H."
    )
