"""Stage 4: run the attackers of one engine against all methods on one data set.

    python -m immunization.attack --engine simulated --attackers '{"label": {…}}' \\
        --settings '{…}' --tasks … --thetas … --steps … --curves … --progress FOLDER

D_H is attacked by all of them, D_P and benign third tasks by those that work on whole, unrepaired
data: fine-tuning should become slow on one and stay fast on the others. Finished pieces are kept in
the progress folder; a job that was killed goes on from there.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import pandas as pd

from immunization import stage
from immunization.engines._job import Attacker, Job
from immunization.extractors import open_extractors
from immunization.files import write_table
from immunization.progress import run_units
from immunization.provenance import essence, provenance
from immunization.registry import load
from immunization.seals import content_of
from immunization.tasks import TaskSet, load_task_set

SMALL = 2**17
"""Numbers in the errors of all problems under which steps on a GPU are launches alone, and a
processor is faster."""


READERS = 8
"""Files that are checked against their seals at a time."""


def small(task_set: TaskSet, methods: int) -> bool:
    """Whether a data set is too small for a GPU."""
    problems = len({tuple(pair) for row in task_set.task_index.tolist() for pair in row}) * methods
    return problems * int(task_set.statistics["ranks"].max()) < SMALL


def with_intercept(parameters: dict[str, Any]) -> dict[str, Any]:
    """What an attacker is told in a study whose probes have an intercept."""
    plain = parameters.get("repair") == "none" and parameters.get("loss") == "squared"
    return parameters | {"repair": "intercept"} if plain else parameters


ENGINES = ("simulated", "trained", "nonlinear")


def main(arguments: list[str] | None = None) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Attack all methods on one data set.")
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--attackers", type=stage.parse_json, required=True, help="JSON object")
    parser.add_argument("--settings", type=stage.parse_json, required=True, help="JSON object")
    parser.add_argument("--tasks", required=True, help="output of prepare")
    parser.add_argument("--thetas", nargs="+", required=True, help="outputs of immunize")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--progress", type=Path, required=True, help="folder for finished pieces")
    parser.add_argument("--steps", required=True, help="Parquet file to write")
    parser.add_argument("--curves", required=True, help="Parquet file to write")
    options = parser.parse_args(arguments)
    stage.one_thread_each()
    device = stage.choose_device(options.device)
    contents = stage.map_threads(content_of, [options.tasks, *options.thetas], READERS)
    task_set = load_task_set(options.tasks)
    files = [open_extractors(path) for path in options.thetas]
    attackers = [
        Attacker(
            label,
            entry["use"],
            load("attacks", entry["use"]),
            with_intercept(entry["parameters"]) if task_set.intercept else entry["parameters"],
        )
        for label, entry in options.attackers.items()
    ]
    if device == "cuda" and small(task_set, len(files)):
        device = "cpu"
    job = Job(task_set, files, attackers, options.settings, device)
    engine = importlib.import_module(f"immunization.engines.{options.engine}")
    uses = sorted({attacker.use for attacker in attackers})
    modules = ["immunization.attack", f"immunization.engines.{options.engine}"]
    record = provenance(
        [*modules, *(f"immunization.attacks.{use}" for use in uses)],
        {"attackers": options.attackers, "attack": options.settings},
        device,
    )
    # Not the attackers: each stands in the key of its own pieces.
    base = [*essence(record | {"parameters": options.settings}), contents]
    threads = options.threads if device == "cpu" else 1
    found = run_units(engine.units(job), options.progress, base, threads)
    for place, out in enumerate((options.steps, options.curves)):
        parts = [frames[place] for frames in found if len(frames[place])]
        frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
        frame.attrs["provenance"] = record
        write_table(out, frame)
    stage.LOG.info("%s attackers on %s done", options.engine, task_set.name)


if __name__ == "__main__":
    stage.run(main)
