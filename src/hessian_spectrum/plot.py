"""A spectrum or a density as a picture, in one call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from hessian_spectrum.condition import RELEASED_FLOOR
from hessian_spectrum.density import SpectralDensity
from hessian_spectrum.spectrum import Spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE, ACCENT, MUTED = "#1f4e79", "#b5452c", "#777777"


def plot_spectrum(spectrum: Spectrum, *, ax: Axes | None = None) -> Axes:
    """Eigenvalues in falling order on a logarithmic scale, with the released code's floor.

    Negative eigenvalues are drawn by their magnitude, hollow.

    Args:
        spectrum: what to draw.
        ax: where; default a new figure. See `save_plot`.
    """
    ax = ax or _axes()
    values = spectrum.eigenvalues.flip(0)
    plain = spectrum.name.replace("$", r"\$")  # a name, and no formula
    order = values.abs().sort(descending=True)
    signs = values[order.indices]
    index = torch.arange(1, len(values) + 1)
    for mask, face in ((signs > 0, LINE), (signs < 0, "white")):
        if bool(mask.any()):
            ax.plot(
                index[mask], order.values[mask], "o", ms=3, mec=LINE, mfc=face, mew=0.8, ls="none"
            )
    ax.set_yscale("log")
    ax.axhline(RELEASED_FLOOR, color=ACCENT, lw=1, ls="--")
    ax.annotate(
        "floor of the released κ",
        (0, RELEASED_FLOOR),
        xycoords=("axes fraction", "data"),
        xytext=(4, -4),
        textcoords="offset points",
        va="top",
        color=ACCENT,
        fontsize=8,
    )
    ax.set_xlabel("place")
    ax.set_ylabel("eigenvalue")
    ax.set_title(
        f"{plain}: rank {spectrum.rank} of {spectrum.dimension}, κ = {spectrum.condition:.3g}",
        fontsize=10,
    )
    return ax


def plot_density(density: SpectralDensity, *, ax: Axes | None = None, points: int = 1000) -> Axes:
    """Density of eigenvalues, smoothed, on a logarithmic scale.

    Args:
        density: what to draw.
        ax: where; default a new figure.
        points: of the grid.
    """
    ax = ax or _axes()
    extent = max(density.largest - density.smallest, 0.1 * abs(density.largest), 1e-300)
    grid = torch.linspace(
        density.smallest - 0.05 * extent,
        density.largest + 0.05 * extent,
        points,
        dtype=torch.float64,
    )
    height = density.evaluate(grid)
    ax.fill_between(grid, height, color=LINE, alpha=0.25, lw=0)
    ax.plot(grid, height, color=LINE, lw=1)
    ax.set_yscale("log")
    # Below a thousandth of one eigenvalue there is only the tail of the smoothing.
    ax.set_ylim(bottom=float(height.max()) * 1e-3 / density.dimension)
    ax.set_xlabel("eigenvalue")
    ax.set_ylabel("density")
    ax.set_title(
        f"largest {density.largest:.4g}, smallest {density.smallest:.4g}, "
        f"dimension {density.dimension}",
        fontsize=10,
    )
    return ax


def save_plot(ax: Axes, path: Path | str, *, dpi: int = 150) -> None:
    """Write the figure that holds these axes; the suffix decides the format."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.savefig(path, dpi=dpi)


def _axes() -> Axes:
    from matplotlib.figure import Figure

    # Not through pyplot: no global state, no window, no backend.
    return Figure(figsize=(6, 3.6), layout="constrained").subplots()
