"""What a method does step by step: both ratios, RIR, both regularizers and the loss on D_P."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from immunization.linear.results import Results
from immunization.reporting.style import look, nothing, shared_legend, title

PARAMETERS = {
    "paper_steps": {
        "type": "object",
        "additionalProperties": {"type": "integer"},
        "default": {"mnist": 30, "house_prices": 100},
        "description": "the paper's number of epochs on each source of data, marked by a line; "
        "here an epoch is one full-batch step.",
    },
}
CAPTION = (
    "Each method against its own steps: (i) and (ii), the condition numbers of the harmful and the "
    "benign Hessian over what they were before; RIR, their ratio; the regularizers R_well of H_P "
    "and R_ill of H_H, which Algorithm 1 lowers, over their first values (R_ill falls where H_H "
    "becomes larger or worse conditioned); and the benign loss of the probe that a method trains "
    "beside θ. Medians over pairs and seeds, bands from the lower to the upper quartile; a pair "
    "that has converged by the study's criterion keeps its last value. A dot ends a line where the "
    "last pair stopped. The vertical line, where there is one, is the paper's number of epochs. A "
    "condition number that float64 does not resolve is left out."
)
PANELS = (
    ("ratio_i", "(i)  κ(H$_H$) / κ(K$_H$)"),
    ("ratio_ii", "(ii)  κ(H$_P$) / κ(K$_P$)"),
    ("rir", "RIR"),
    ("r_well", "R$_{well}$(H$_P$) / first"),
    ("r_ill", "R$_{ill}$(H$_H$) / first"),
    ("loss_p", "loss on D$_P$, own probe"),
)

FARTHEST = 1e15
"""Medians beyond this are left outside of a panel."""


def draw(results: Results, dataset: str) -> Figure:
    """Six panels; step 0 is drawn at the left end of a logarithmic axis."""
    rows = results.trajectories
    if not rows.empty:
        rows = rows[rows["dataset"] == dataset].copy()
    if rows.empty:
        return nothing("No method of this study takes steps that are recorded.")
    keys = ["method", "seed", "pair"]
    first = rows[rows["step"] == 0].set_index(keys)
    for name in ("r_well", "r_ill"):
        start = first[name].reindex(rows.set_index(keys).index).to_numpy()
        rows[name] = rows[name].to_numpy() / start
    figure, axes = plt.subplots(2, 3, figsize=(10, 5.6), sharex=True)
    styles = look(results.methods)
    handles = {}
    marks = results.parameters["paper_steps"]
    source = results.order["datasets"][dataset][0]
    for axis, (column, label) in zip(axes.flat, PANELS, strict=True):
        medians: list[NDArray[np.float64]] = []
        for method in results.methods:
            part = rows[rows["method"] == method]
            values = part.get(column)
            if values is None or values.isna().all():
                continue
            grid = values.to_frame("value").assign(step=part["step"], **{k: part[k] for k in keys})
            wide = grid.pivot(index="step", columns=["seed", "pair"], values="value")
            # A pair that has stopped keeps its last value, also one that is not resolved.
            wide = wide.ffill().replace([np.inf, -np.inf], np.nan)
            quartiles = wide.quantile([0.25, 0.5, 0.75], axis=1).T.dropna()
            if quartiles.empty:
                continue
            at = quartiles.index.to_numpy().astype(float)
            medians.append(quartiles[0.5].to_numpy())
            at = np.where(at == 0, 0.7, at)  # step 0 has no place on a logarithmic axis
            style = styles[method]
            (handles[method],) = axis.plot(at, quartiles[0.5], linewidth=1.3, **style)
            axis.plot(at[-1:], quartiles[0.5].iloc[-1:], "o", color=style["color"], markersize=3)
            axis.fill_between(
                at, quartiles[0.25], quartiles[0.75],
                color=style["color"], alpha=0.1, linewidth=0,
            )  # fmt: skip
        axis.set(xscale="log", yscale="log", title=label)
        if medians:
            # What runs off does not squeeze the others.
            seen = np.concatenate(medians)
            seen = seen[(seen > 1 / FARTHEST) & (seen < FARTHEST)]
            axis.set_ylim(seen.min() / 2, seen.max() * 2)
        if column in ("ratio_i", "ratio_ii", "rir"):
            axis.axhline(1, color="black", linewidth=0.5, linestyle=":")
        if source in marks:
            axis.axvline(marks[source], color="black", linewidth=0.7, linestyle="--")
    for axis in axes[-1]:
        axis.set_xlabel("step")
    ordered = [method for method in results.methods if method in handles]
    shared_legend(figure, [handles[m] for m in ordered], [title(m) for m in ordered])
    return figure
