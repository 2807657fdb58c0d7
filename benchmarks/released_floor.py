"""The released κ beside the non-zero one, with features scaled by 0.1, 1 and 10.

    python benchmarks/released_floor.py --data FOLDER     (a mirror with mnist/ and house-prices/)

Scaling the features is a change of unit: no probe is harder or easier to train afterwards. Writes
``docs/images/released_floor.png`` and the figures behind it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.figure import Figure
from timing import record
from torch import Tensor

from hessian_spectrum import Spectrum, gram_matrix, save_plot
from hessian_spectrum.condition import RELEASED_FLOOR
from immunization.data.download import Place
from immunization.study.components import components, import_component

matplotlib.use("agg")
SCALES = (0.1, 1.0, 10.0)
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "released_floor.png"


def literal(features: Tensor) -> float:
    """κ line by line as the released code takes it, round-off included."""
    shifted = gram_matrix(features)
    shifted.diagonal().add_(RELEASED_FLOOR)
    values = torch.linalg.eigvalsh(shifted)
    return float(values[-1] / values[values > RELEASED_FLOOR].min())


def tasks(source: str, data: Path, **given: Any) -> dict[str, Tensor]:
    """Training features of each task of a data set."""
    schema = components("linear/datasets")[source].parameters
    parameters = {k: v["default"] for k, v in schema.items() if "default" in v} | given
    place = Place(data, Path(".cache/data"))
    found = (
        import_component("linear/datasets", source)
        .load(parameters, place)
        .build(source, parameters, [0])
    )
    return {task.name: found.features(task.train_rows) for task in found.tasks}


def figures_of(features: Tensor) -> dict[str, Any]:
    """All that is drawn of one task."""
    found: dict[str, Any] = {"rows": len(features), "features": features.shape[1]}
    for scale in SCALES:
        spectrum = Spectrum.of_features(features * scale)
        released = spectrum.released_condition()
        found[f"x{scale:g}"] = {
            "rank": spectrum.rank,
            "nonzero": spectrum.condition,
            "released": float(released.value),
            "released_floored": bool(released.floored),
            "released_line_by_line": literal(features * scale),
        }
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    groups = {
        "House prices, D_P and D_H": tasks("house_prices", options.data),
        "MNIST, ten digits": tasks(
            "mnist", options.data, pairs=[[i, (i + 1) % 10] for i in range(10)]
        ),
    }
    found = {
        group: {name: figures_of(features) for name, features in members.items()}
        for group, members in groups.items()
    }
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for ax, (group, members) in zip(panels, found.items(), strict=True):
        for number, member in enumerate(members.values()):
            for kind, color, style, label in (
                ("released", "#b5452c", "--", "released definition"),
                ("nonzero", "#1f4e79", "-", "non-zero spectrum"),
            ):
                height = [member[f"x{scale:g}"][kind] for scale in SCALES]
                ax.plot(
                    SCALES, height, style, marker="o", ms=3.5, lw=1, color=color, alpha=0.8,
                    label=label if number == 0 else None,
                )  # fmt: skip
            line = [member[f"x{scale:g}"]["released_line_by_line"] for scale in SCALES]
            ax.plot(
                SCALES, line, "x", ms=6, color="#777777",
                label="released, line by line" if number == 0 else None,
            )  # fmt: skip
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xticks(SCALES, [f"×{scale:g}" for scale in SCALES])
        ax.minorticks_off()
        ax.set_title(group, fontsize=10)
        ax.set_xlabel("features scaled by")
    panels[0].set_ylabel("condition number κ")
    panels[0].legend(fontsize=8, frameon=False)
    save_plot(panels[0], PICTURE)
    for group, members in found.items():
        print(group)
        for name, member in members.items():
            parts = [
                f"×{s:g}: κ {member[f'x{s:g}']['nonzero']:.4g}, released "
                f"{member[f'x{s:g}']['released']:.4g}"
                for s in SCALES
            ]
            print(f"  {name[:32]:32} rank {member['x1']['rank']:4}  {';  '.join(parts)}")
    record("released_floor", {"tasks": found})


if __name__ == "__main__":
    main()
