"""Fig. 2: log RIR of every pair of classes, by both definitions of κ, one column a method."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from immunization.linear.results import Results
from immunization.reporting.style import nothing, plain, title

LIMIT = 6.0
"""Colours end at ±6 (a factor of 400); the closed-form optimum lies beyond."""

CAPTION = (
    "Relative immunization ratio of every ordered pair of classes, as log RIR: row D_P, column "
    "D_H. Blue is above 0: the harmful task became worse conditioned relative to the benign one. "
    "Top: condition number over the non-zero spectrum. Bottom: as the paper's released code "
    "defines it, which on a singular matrix divides by a floor of 1e-6 instead of the smallest "
    "eigenvalue. Where the rows differ, the floor is what the lower one shows. Means over seeds."
)


def draw(results: Results, dataset: str) -> Figure:
    """Mean over seeds of the natural logarithm; rows D_P, columns D_H."""
    ratios = results.ratios[results.ratios["dataset"] == dataset]
    methods = [m for m in results.methods if m != "identity"]
    if not methods:
        return nothing("This study has no method besides the identity.")
    figure, axes = plt.subplots(
        2, len(methods), figsize=(0.6 + 1.45 * len(methods), 3.9), sharex=True, sharey=True,
        squeeze=False,
    )  # fmt: skip
    image = None
    for row, (column, name) in zip(
        axes, (("rir", "non-zero κ"), ("released_rir", "released κ")), strict=True
    ):
        for axis, method in zip(row, methods, strict=True):
            part = ratios[ratios["method"] == method]
            logs = np.log(part[column]).groupby([part["primary"], part["harmful"]]).mean()
            grid = logs.unstack()
            image = axis.imshow(grid.to_numpy(), cmap="RdBu", vmin=-LIMIT, vmax=LIMIT)
            axis.set_xticks(range(grid.shape[1]), map(plain, grid.columns), fontsize=5)
            axis.set_yticks(range(grid.shape[0]), map(plain, grid.index), fontsize=5)
            axis.tick_params(length=0)
            positive = int((logs > 1e-6).sum())
            caption = f"RIR > 1: {positive} of {len(logs)}"
            head = f"{title(method)}\n" if column == "rir" else ""
            axis.set_title(head + caption, fontsize=7)
        row[0].set_ylabel(f"{name}\nD_P", fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("D_H", fontsize=8)
    assert image is not None
    bar = figure.colorbar(image, ax=axes, extend="both", shrink=0.8, pad=0.01)
    bar.set_label("log RIR")
    return figure
