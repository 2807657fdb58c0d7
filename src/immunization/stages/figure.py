"""Draw one figure for all that it applies to.

python -m immunization.stages.figure results/default/study.json limit
"""

from __future__ import annotations

import importlib

import matplotlib

from immunization.reporting.draw import draw_all
from immunization.runtime.jobs.command import run_command
from immunization.runtime.jobs.stage import Stage
from immunization.stages._skeleton import Command
from immunization.study.components import import_component


def run(stage: Stage) -> None:
    """The stage."""
    matplotlib.use("Agg")  # no display is needed, and none may be there
    wing, entry = stage.paths.wing, stage.config["figures"][stage.label]
    use, parameters = entry["use"], entry["parameters"]
    results = importlib.import_module(f"immunization.{wing}.results").Results.of(stage, parameters)
    record = stage.record({"figure": use, **parameters}, f"figures.{use}")
    module = import_component(f"{wing}/figures", use)
    draw_all(module, results, stage.paths.figure(stage.label), record)


main = Command(
    "figure",
    "Draw one figure for all that it applies to.",
    {"linear": ("figures",), "networks": ("figures",)},
    work=run,
).main

if __name__ == "__main__":
    run_command(main)
