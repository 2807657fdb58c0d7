"""How RIR depends on the ridge of the condition number."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from numpy.typing import NDArray

from immunization.linear.results import Results
from immunization.reporting.style import look, shared_legend, title

CAPTION = (
    "RIR by the ridge condition number (σ_1 + ρσ_1)/(σ_k + ρσ_1), against ρ: what is left of a "
    "method when directions below ρ of the largest eigenvalue no longer count. Where a line is "
    "flat down to the left end its RIR does not hang on tiny eigenvalues; where it climbs on, it "
    "does, and so does every condition number without a ridge. Medians over pairs and seeds."
)
RIDGES = np.logspace(-20, 0, 61)


def draw(results: Results, dataset: str) -> Figure:
    """One line a method that is no member of a sweep, from the stored eigenvalues."""
    spectra = results.spectra[results.spectra["dataset"] == dataset]
    figure, axis = plt.subplots(figsize=(9.5, 4.4))
    styles = look(results.methods)
    keys = ["seed", "pair"]
    logs = {}
    for method in results.unswept():
        part = spectra[spectra["method"] == method]
        roles = [part[part["role"] == role].set_index(keys).sort_index() for role in "HP"]
        harmful, benign = (np.stack(list(map(_log_condition, r["eigenvalues"]))) for r in roles)
        logs[method] = harmful - benign
    before = logs["identity"]
    handles: list[Artist] = []
    for method, values in logs.items():
        middle = np.median(np.exp(values - before), axis=0)
        style: dict[str, Any] = {"linewidth": 1.4, **styles[method]}
        (handle,) = axis.plot(RIDGES, middle, **style)
        handles.append(handle)
    axis.axhline(1, color="black", linewidth=0.5, linestyle=":")
    axis.set(xscale="log", yscale="log", xlabel="ridge ρ, relative to σ$_1$", ylabel="median RIR")
    shared_legend(figure, handles, [title(method) for method in logs])
    return figure


def _log_condition(eigenvalues: NDArray[np.float64]) -> NDArray[np.float64]:
    """log κ at each ridge, of one ascending non-zero spectrum."""
    share = max(eigenvalues[0], 0.0) / eigenvalues[-1]
    return np.log1p(RIDGES) - np.log(share + RIDGES)
