"""RIR of every pair against the most that any invertible extractor can reach."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from immunization.linear.results import Results
from immunization.reporting.style import look, shared_legend, title

CAPTION = (
    "RIR of every pair and seed against the largest that any invertible linear extractor can "
    "reach, computed from the two data sets alone. No filled point lies above the diagonal. "
    "Hollow: the limit is infinite, because D_H uses directions that D_P does not see; such a "
    "point stands at what the closed form reaches when those directions count a little "
    "(unseen_floor), and may lie above the diagonal."
)


def draw(results: Results, dataset: str) -> Figure:
    """Filled: the limit is finite. Hollow: it is infinite, drawn at the reach with a floor."""
    ratios = results.ratios[results.ratios["dataset"] == dataset]
    figure, axis = plt.subplots(figsize=(8, 5))
    styles = look(results.methods)
    handles = {}
    for method in results.methods:
        part = ratios[ratios["method"] == method]
        finite = np.isfinite(part["limit"])
        colour = styles[method]["color"]
        # Colours repeat after fourteen methods; then another shape tells them apart.
        shape = "o" if styles[method]["linestyle"] == "-" else "s"
        axis.scatter(
            part.loc[~finite, "rir_with_unseen_floor"], part.loc[~finite, "rir"],
            s=9, marker=shape, facecolors="none", edgecolors=colour, linewidths=0.6, alpha=0.6,
        )  # fmt: skip
        handles[method] = axis.scatter(
            part.loc[finite, "limit"], part.loc[finite, "rir"], s=16, color=colour, marker=shape
        )
    low = min(1.0, float(ratios["rir"].min()))
    left, right = (
        ratios["rir_with_unseen_floor"].min() / 2,
        ratios["rir_with_unseen_floor"].max() * 2,
    )
    axis.plot([left, right], [left, right], color="black", linewidth=0.8)
    axis.axhline(1, color="black", linewidth=0.5, linestyle=":")
    axis.set(
        xscale="log", yscale="log", xlim=(left, right), ylim=(low / 2, None), ylabel="RIR",
        xlabel="limit RIR$_{max}$ (filled), or reach with a floor where it is infinite (hollow)",
    )  # fmt: skip
    shared_legend(figure, list(handles.values()), [title(m) for m in handles])
    return figure
