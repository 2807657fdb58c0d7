"""Run the attackers of one engine against all methods on one data set.

Finished units are saved; a job that was killed goes on from there."""

from __future__ import annotations

import importlib
from typing import Any

import pandas as pd

from immunization.linear.engines._job import Attacker, Job
from immunization.linear.files import load_task_set, open_extractors
from immunization.linear.tasks import TaskSet
from immunization.runtime.files.checksums import content_hash
from immunization.runtime.jobs.resumable import run_units
from immunization.runtime.jobs.stage import Stage, write_tables
from immunization.runtime.log import LOG
from immunization.runtime.record.provenance import essence
from immunization.runtime.threads import map_threads
from immunization.study.components import component, import_component
from immunization.study.derived import attack_settings

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
    """Parameters of an attacker in a study whose probes have an intercept."""
    plain = parameters.get("repair") == "none" and parameters.get("loss") == "squared"
    return parameters | {"repair": "intercept"} if plain else parameters


def run(stage: Stage) -> None:
    """The stage: the attackers of one engine against all methods on one data set.

    D_H is attacked by all of them, D_P and benign third tasks by those that work on whole,
    unrepaired data: fine-tuning should become slow on one and stay fast on the others.
    """
    device, threads = stage.batched_device()
    dataset, name = stage.labels
    # Another order in the config is the same question, and gives the same file.
    entries = dict(sorted(stage.paths.engines[name].items()))
    settings = attack_settings(stage.config)
    files = [stage.paths.tasks(dataset), *stage.paths.thetas_on(dataset)]
    contents = map_threads(content_hash, files, READERS)
    task_set = load_task_set(files[0])
    extractors = [open_extractors(path) for path in files[1:]]
    if device == "cuda" and small(task_set, len(extractors)):
        device, threads = "cpu", stage.threads
    job = Job(task_set, extractors, attackers_of(entries, task_set.intercept), settings, device)
    families = {component("linear/attacks", entry["use"]).module for entry in entries.values()}
    record = stage.record(
        {"attackers": entries, "attack": settings},
        "attack", f"engines.{name}", device=device, components=sorted(families),
    )  # fmt: skip
    # Not the attackers: each stands in the key of its own units.
    base = [*essence(record | {"parameters": settings}), contents]
    engine = importlib.import_module(f"immunization.linear.engines.{name}")
    frames_of_units = run_units(engine.units(job), stage.progress, base, threads)
    frames = []
    for place in range(2):
        parts = [both[place] for both in frames_of_units if len(both[place])]
        frames.append(pd.concat(parts, ignore_index=True) if parts else pd.DataFrame())
    write_tables(stage.paths.attack(dataset, name), frames, record)
    LOG.info("%s attackers on %s done", name, dataset)


def attackers_of(entries: dict[str, dict[str, Any]], intercept: bool) -> list[Attacker]:
    """Entries of the config's ``attacks``, with their modules."""
    return [
        Attacker(
            label,
            entry["use"],
            import_component("linear/attacks", entry["use"]),
            with_intercept(entry["parameters"]) if intercept else entry["parameters"],
        )
        for label, entry in entries.items()
    ]
