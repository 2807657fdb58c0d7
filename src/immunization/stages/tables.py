"""Write every table as CSV (numbers), Markdown and LaTeX (for people).

python -m immunization.stages.tables results/default/study.json
"""

from __future__ import annotations

import importlib

from immunization.reporting.table import write_all
from immunization.runtime.jobs.command import run_command
from immunization.runtime.jobs.stage import Stage
from immunization.stages._skeleton import Command


def run(stage: Stage) -> None:
    """The stage."""
    wing = stage.paths.wing
    results = importlib.import_module(f"immunization.{wing}.results").Results.of(stage)
    modules = [f"tables.{name}" for name in stage.paths.tables]
    write_all(f"{wing}/tables", results, stage.paths, stage.record({}, *modules))


main = Command(
    "tables",
    "Write every table as CSV (numbers), Markdown and LaTeX (for people).",
    {"linear": (), "networks": ()},
    work=run,
).main

if __name__ == "__main__":
    run_command(main)
