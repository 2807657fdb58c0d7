"""Eigenvalues of FᵀF on D_P, D_H and third tasks, before and after."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from immunization.networks.figures.fine_tuning import named
from immunization.networks.results import Results
from immunization.reporting.style import look, panels, shared_legend
from immunization.reporting.text import format_number

PARAMETERS: dict[str, dict[str, object]] = {}
CAPTION = (
    "Non-zero eigenvalues of FᵀF over the largest, F the features of many more images than there "
    "are features, first seed. The condition number is the height that a line falls through; where "
    "a line ends early, features have lost rank."
)
FLOOR = 1e-20


def draw(results: Results, setting: str) -> Figure:
    """A panel a task."""
    spectra = results.rows_of(results.spectra, setting)
    spectra = spectra[spectra["seed"] == spectra["seed"].min()]
    roles = list(spectra["role"].unique())
    figure, rows, axes = panels(len(roles), 2.8)
    styles, handles = look(results.methods), {}
    for axis, role in zip(axes, roles, strict=True):
        part = spectra[spectra["role"] == role].set_index("method")
        for method in results.methods:
            values = np.asarray(part.loc[method, "eigenvalues"])[::-1]
            index = np.arange(1, len(values) + 1)
            (handles[method],) = axis.plot(
                index, np.maximum(values / values[0], FLOOR), linewidth=1.3, **styles[method]
            )
        axis.set(yscale="log", xlabel="index")
        axis.set_title(f"D_{role}" if role in "PH" else role, fontsize=8)
    for row in rows:
        row[0].set_ylabel("eigenvalue / largest")
    shared_legend(figure, list(handles.values()), [named(m) for m in handles])
    return figure


def says(results: Results, setting: str) -> str:
    """The largest change of κ on D_H that D_P does not pay for."""
    mean = (
        results.rows_of(results.spectra, setting)
        .groupby(["method", "role"])["kappa"]
        .mean()
        .unstack()
    )
    i, ii = mean["H"] / mean.loc["identity", "H"], mean["P"] / mean.loc["identity", "P"]
    good = i[(ii <= 1) & (i.index != "identity")]
    if good.empty:
        return "No method raises κ on D_H without raising it on D_P."
    best = str(good.idxmax())
    return (
        f"Of the methods that do not raise κ on D_P, {named(best)} raises it most on D_H: "
        f"{format_number(float(good.max()))} times, "
        f"with {format_number(float(ii[best]))} times on D_P."
    )
