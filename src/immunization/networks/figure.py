"""Stage 7 of a study of networks: draw one figure for every network and D_H.

    python -m immunization.networks.figure --figure fine_tuning --paths '{…}' --study study.json \\
        --out figures/fine_tuning.resnet18-cars.svg figures/fine_tuning.resnet18-cars.png …
"""

from __future__ import annotations

import argparse

from immunization import stage
from immunization.figure import draw_all
from immunization.files import read_json
from immunization.networks.figures._results import Results
from immunization.provenance import provenance
from immunization.registry import load


def main(arguments: list[str] | None = None) -> None:
    """Command line of the stage; outputs are named FIGURE.NETWORK-D_H.svg, .png and .txt."""
    parser = argparse.ArgumentParser(description="Draw one figure.")
    parser.add_argument("--figure", required=True, help="file in networks/figures")
    parser.add_argument("--paths", type=stage.parse_json, required=True, help="JSON object")
    parser.add_argument(
        "--parameters", type=stage.parse_json, default={}, help="JSON object, of the figure"
    )
    parser.add_argument("--study", required=True, help="study.json")
    parser.add_argument("--out", nargs="+", required=True)
    options = parser.parse_args(arguments)
    results = Results(options.paths, read_json(options.study), options.parameters)
    record = provenance(
        ["immunization.networks.figure", f"immunization.networks.figures.{options.figure}"],
        {"figure": options.figure, **options.parameters},
    )
    draw_all(load("networks/figures", options.figure), results, options.out, record)


if __name__ == "__main__":
    stage.run(main)
