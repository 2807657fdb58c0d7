"""Rank and condition numbers of a feature matrix, from the command line.

python -m hessian_spectrum features.npy
python -m hessian_spectrum features.npz --key train --plot spectrum.png --json
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import torch

from hessian_spectrum.gram import TriangularFactor
from hessian_spectrum.io import read_matrix, write_spectrum
from hessian_spectrum.range_factor import range_factor
from hessian_spectrum.spectrum import Spectrum

RIDGE = 1e-6


def summary(spectrum: Spectrum, *, rows: int, ridge: float, dtype: str) -> dict[str, Any]:
    """Every figure of the report, by name."""
    released = spectrum.released_condition()
    return {
        "rows": rows,
        "features": spectrum.dimension,
        "dtype": dtype,
        "rank": spectrum.rank,
        "singular_value_tolerance": spectrum.tolerance**0.5,
        "largest": float(spectrum.eigenvalues[-1]),
        "smallest_nonzero": float(spectrum.eigenvalues[0]),
        "condition": spectrum.condition,
        "ridge": ridge,
        "ridge_condition": spectrum.ridge_condition(ridge),
        "released_condition": float(released.value),
        "released_floored": bool(released.floored),
        "effective_rank": spectrum.effective_rank,
        "log_pseudo_determinant": spectrum.log_pseudo_determinant,
    }


def sketch(spectrum: Spectrum, *, width: int = 40) -> str:
    """A histogram of the eigenvalues by powers of ten, for a terminal."""
    powers = spectrum.eigenvalues.log10().floor().to(torch.int64)
    low, high = int(powers.min()), int(powers.max())
    step = max(1, math.ceil((high - low + 1) / 12))
    lines = []
    for start in range(low, high + 1, step):
        count = int(((powers >= start) & (powers < start + step)).sum())
        bar = "█" * round(width * count / spectrum.rank) or ("▏" if count else "")
        lines.append(f"  1e{start:+03d} to 1e{start + step:+03d}  {count:6d}  {bar}")
    zeros = spectrum.dimension - spectrum.rank
    return "\n".join([f"  zero            {zeros:6d}", *lines])


def report(figures: dict[str, Any], spectrum: Spectrum) -> str:
    """The report for people."""
    note = (
        "on its floor: σ_max/1e-6, and moves with the scale of the features"
        if figures["released_floored"]
        else "above its floor"
    )
    return "\n".join(
        [
            f"{figures['rows']} rows, {figures['features']} features, {figures['dtype']}",
            f"rank                  {figures['rank']} (singular values above "
            f"{figures['singular_value_tolerance']:.3g} of the largest)",
            f"eigenvalues of XᵀX    {figures['smallest_nonzero']:.6g} to {figures['largest']:.6g}",
            f"κ, non-zero spectrum  {figures['condition']:.6g}",
            f"κ, ridge {figures['ridge']:g}·σ_1   {figures['ridge_condition']:.6g}",
            f"κ, released code      {figures['released_condition']:.6g} ({note})",
            f"effective rank        {figures['effective_rank']:.4g}",
            f"log pseudo-det        {figures['log_pseudo_determinant']:.6g}",
            "",
            "eigenvalues by size",
            sketch(spectrum),
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m hessian_spectrum",
        description="Rank and condition numbers of XᵀX for a matrix X of features.",
    )
    parser.add_argument("file", type=Path, help="X, (N, D), as .npy, .npz or .safetensors")
    parser.add_argument("--key", help="which array of the file, if it has several")
    parser.add_argument("--centered", action="store_true", help="take the mean off first")
    parser.add_argument(
        "--tolerance",
        type=float,
        help="on singular values relative to the largest; default by dtype and shape, see "
        "docs/hessian_spectrum.md",
    )
    parser.add_argument("--ridge", type=float, default=RIDGE, help="relative to σ_1; default 1e-6")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--plot", type=Path, help="draw the spectrum to this file (png, svg, pdf)")
    parser.add_argument("--save", type=Path, help="write the spectrum to this Parquet file")
    options = parser.parse_args(arguments)
    try:
        features = read_matrix(options.file, options.key)
        tolerance = options.tolerance
        if tolerance is not None and not 0 <= tolerance < 1:
            raise ValueError(f"--tolerance lies in 0 to 1. Got {tolerance:g}.")
        if options.centered:
            triangle = TriangularFactor(centered=True)
            triangle.update(features)
            factor = triangle.range_factor(tolerance=tolerance)
        else:
            factor = range_factor(features, tolerance=tolerance)
        spectrum = Spectrum.of_factor(factor, name=options.file.name)
        figures = summary(
            spectrum,
            rows=len(features),
            ridge=options.ridge,
            dtype=str(features.dtype).removeprefix("torch."),
        )
        for out in (options.save, options.plot):
            if out is not None and out.exists() and out.samefile(options.file):
                raise ValueError(f"{out} is the file of features; name another to write to.")
        if options.save:
            write_spectrum(options.save, spectrum)
        if options.plot:
            from hessian_spectrum.plot import plot_spectrum, save_plot

            save_plot(plot_spectrum(spectrum), options.plot)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(figures, indent=2) if options.json else report(figures, spectrum))
    return 0


if __name__ == "__main__":
    sys.exit(main())
