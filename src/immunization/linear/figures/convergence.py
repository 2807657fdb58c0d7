"""Fig. 1: how fast a probe converges on D_P and on D_H, a row an attacker, a line a method."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from immunization.linear.figures._attacks import attacker, in_order
from immunization.linear.results import Results
from immunization.reporting.style import few_ticks, look, nothing, shared_legend, title

CAPTION = (
    "How fast a probe is trained on the benign task D_P and on the harmful task D_H, for each "
    "attacker with squared loss; repaired features, other rows and random starts are tried on D_H "
    "alone. Two measures, both relative to the start: the squared distance of the probe's weights "
    "to the best ones (Eq. 16 of the paper), and the loss above the best. A line that falls late "
    "is a model that is slow to fine-tune. Immunization should push lines up on D_H and not on "
    "D_P. Weights along tiny eigenvalues hardly matter to the loss and hardly move, so the two can "
    "tell different stories. Lines are held where the loss has come within 1e-10 of the best. "
    "Medians over pairs of tasks, bands from the lower to the upper quartile; a line that leaves "
    "at the bottom has converged."
)
MEASURES = (
    ("convergence_ratio", "‖w$_t$ − w*‖² / ‖w$_0$ − w*‖²"),
    ("loss_gap", "(L$_t$ − L*) / (L$_0$ − L*)"),
)
LOWEST = 1e-10


def draw(results: Results, dataset: str) -> Figure:
    """Eq. 16 and the loss gap against the step: quartiles over pairs, averaged over seeds."""
    curves = results.curves[results.curves["dataset"] == dataset]
    curves = curves[(curves["step"] > 0) & curves["role"].isin(["P", "H"])]
    curves = curves[curves["convergence_ratio_q50"].notna()]  # where w* is known
    # An attacker that is done after one step has no curve to show.
    later = curves.groupby("attack")["loss_gap_q50"].agg(["max", "nunique"])
    later = later[(later["max"] > 0) & (later["nunique"] > curves["method"].nunique())]
    attacks = in_order(results, later.index.to_series())
    if not attacks:
        return nothing("No attacker of this study takes more than one step.")
    wanted = [f"{name}_q{level}" for name, _ in MEASURES for level in (25, 50, 75)]
    lines = curves.groupby(["attack", "role", "method", "step"])[wanted].mean().clip(lower=LOWEST)
    figure, axes = plt.subplots(
        len(attacks), 4, figsize=(11, 0.9 + 1.5 * len(attacks)), sharex=True, squeeze=False
    )
    styles = look(results.methods)
    for place, (row, attack) in enumerate(zip(axes, attacks, strict=True)):
        for half, (measure, label) in enumerate(MEASURES):
            pair = row[2 * half : 2 * half + 2]
            parts = [_part(lines, attack, role) for role in ("P", "H")]
            lowest = min(
                _fill(a, part, measure, styles) for a, part in zip(pair, parts, strict=True)
            )
            for axis in pair:
                axis.set(ylim=(max(lowest / 3, LOWEST), 2))
            if place == 0:
                for axis, role in zip(pair, ("D_P", "D_H"), strict=True):
                    axis.set_title(f"{label}, {role}", fontsize=8)
        # No label of the axis, which an attacker of D_H alone does not show.
        row[0].text(
            -0.24, 0.5, attacker(attack), transform=row[0].transAxes, rotation=90, fontsize=7,
            ha="center", va="center",
        )  # fmt: skip
    for axis in axes[-1]:
        axis.set_xlabel("step")
    handles: list[Any] = [Line2D([], [], linewidth=1.4, **styles[m]) for m in results.methods]
    shared_legend(figure, handles, [title(m) for m in results.methods])
    return figure


def _part(lines: pd.DataFrame, attack: str, role: str) -> pd.DataFrame | None:
    if (attack, role) not in lines.index.droplevel(["method", "step"]).unique():
        return None
    return lines.loc[(attack, role)]


def _fill(
    axis: Axes, part: pd.DataFrame | None, measure: str, styles: dict[str, dict[str, Any]]
) -> float:
    """Lines and bands of all methods in one panel; the smallest value that has not converged.

    As two collections, and with few ticks: drawn one by one they take most of a minute.
    """
    if part is None:
        axis.set_axis_off()
        return 1.0
    bands, paths, shown, lowest = [], [], [], 1.0
    for method in styles:
        if method not in part.index.get_level_values("method"):
            continue
        quantiles = part.loc[method]
        step, (low, middle, high) = (
            quantiles.index.to_numpy(float),
            (quantiles[f"{measure}_q{level}"].to_numpy() for level in (25, 50, 75)),
        )
        paths.append(np.column_stack([step, middle]))
        ring = np.concatenate([step, step[::-1]]), np.concatenate([low, high[::-1]])
        bands.append(np.column_stack(ring))
        shown.append(styles[method])
        unfinished = middle[middle > 10 * LOWEST]
        lowest = min(lowest, float(unfinished.min(initial=1.0)))
    colours = [style["color"] for style in shown]
    axis.add_collection(
        PolyCollection(bands, facecolors=colours, alpha=0.08, linewidths=0), autolim=False
    )
    dashes = [style["linestyle"] for style in shown]
    axis.add_collection(
        LineCollection(paths, colors=colours, linestyles=dashes, linewidths=1.2), autolim=False
    )
    axis.set(xscale="log", yscale="log", xlim=(1, max(2.0, max(p[-1, 0] for p in paths))))
    few_ticks(axis)
    return lowest
