"""Eigenvalues of the probe Hessian before and after immunization."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from immunization.linear.results import Results
from immunization.reporting.style import look, plain, shared_legend, title

CAPTION = (
    "Non-zero eigenvalues of the probe Hessian, each spectrum over its largest, on D_P (left) and "
    "D_H (right), for one pair of tasks. The condition number is the height a line falls through. "
    "Immunization should make the right lines steeper and keep the left ones flat."
)


def draw(results: Results, dataset: str) -> Figure:
    """Non-zero eigenvalues over the largest, first seed, the pair with the median RIR.

    The pair is chosen by the last gradient method of the config, or the last method.
    """
    spectra = results.spectra[results.spectra["dataset"] == dataset]
    seed = spectra["seed"].min()
    judge = [m for m in results.methods if m != "identity" and "optimum" not in m]
    chosen = results.ratios[
        (results.ratios["dataset"] == dataset)
        & (results.ratios["seed"] == seed)
        & (results.ratios["method"] == (judge or results.methods)[-1])
    ].sort_values("rir", kind="stable")
    pair = chosen.iloc[len(chosen) // 2]
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True)
    styles = look(results.methods)
    handles = {}
    for axis, role in zip(axes, "PH", strict=True):
        name = pair["primary"] if role == "P" else pair["harmful"]
        part = spectra[
            (spectra["role"] == role)
            & (spectra["pair"] == pair["pair"])
            & (spectra["seed"] == seed)
        ].set_index("method")
        for method in results.methods:
            values = np.asarray(part.loc[method, "eigenvalues"])[::-1]
            index = np.arange(1, len(values) + 1)
            # A θ of zeros has no largest eigenvalue to be held against.
            shares = values / values[0] if values[0] else np.full(len(values), np.nan)
            (handles[method],) = axis.plot(
                index, shares, linewidth=1.3, marker=".", markersize=3, **styles[method]
            )
        axis.set(
            yscale="log", xlabel="index", title=f"D_{role}: {plain(name)}, {len(index)} non-zero"
        )
    axes[0].set_ylabel("eigenvalue / largest")
    shared_legend(figure, list(handles.values()), [title(m) for m in handles])
    return figure
