"""Stage 6: draw one figure for every data set it applies to, as SVG and PNG, and say what it shows.

    python -m immunization.figure --figure limit --paths '{…}' --study study.json \\
        --out figures/limit.digits.svg figures/limit.digits.png figures/limit.digits.txt

A figure that has `says(results, dataset)` gives one sentence, computed from its numbers, for the
text file and the report.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from immunization import stage
from immunization.figures._results import Results
from immunization.files import atomic, read_json, write_text
from immunization.provenance import provenance
from immunization.registry import load


def draw_all(module: Any, results: Any, files: list[str], record: Any = None) -> None:
    """Draw a figure for everything that its files name.

    Args:
        module: of the figure.
        results: what its functions take.
        files: named FIGURE.DATASET.svg, .png and .txt.
        record: where they come from.
    """
    outputs: dict[str, list[Path]] = {}
    for path in map(Path, files):
        outputs.setdefault(path.name.split(".")[1], []).append(path)
    for dataset, paths in outputs.items():
        figure = module.draw(results, dataset)
        figure.draw_without_rendering()  # lays out once, which takes longer than to draw
        figure.set_layout_engine("none")
        for path in paths:
            if path.suffix == ".txt":
                told = module.says(results, dataset) if hasattr(module, "says") else ""
                write_text(path, f"{told}\n", record)
                continue
            # No date inside, so that the same data gives the same file.
            metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
            with atomic(path, record) as temporary:
                figure.savefig(temporary, metadata=metadata)
        plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    """Command line of the stage; outputs are named FIGURE.DATASET.svg, .png and .txt."""
    parser = argparse.ArgumentParser(description="Draw one figure.")
    parser.add_argument("--figure", required=True, help="file in immunization/figures")
    parser.add_argument("--paths", type=stage.parse_json, required=True, help="JSON object")
    parser.add_argument(
        "--parameters", type=stage.parse_json, default={}, help="JSON object, of the figure"
    )
    parser.add_argument("--study", required=True, help="study.json")
    parser.add_argument("--out", nargs="+", required=True)
    options = parser.parse_args(arguments)
    study = read_json(options.study)
    results = Results(
        options.paths, list(study["order"]["methods"]), study["order"], options.parameters
    )
    record = provenance(
        ["immunization.figure", f"immunization.figures.{options.figure}"],
        {"figure": options.figure, **options.parameters},
    )
    draw_all(load("figures", options.figure), results, options.out, record)


if __name__ == "__main__":
    stage.run(main)
