"""Studies that tests run stage by stage, without Snakemake."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from immunization.study.layout import layout
from immunization.study.resolve import resolve
from immunization.study.whole import read_study, whole


def write_study(folder: Path, raw: dict[str, Any], name: str = "study.json") -> Path:
    """What the workflow hands to stages, as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(whole(resolve(raw), raw)))
    return path


def arguments(study: Path, *labels: str, **options: object) -> list[str]:
    """Of a stage on a study; results go beside its file."""
    given = {"results": study.parent} | options
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    return [str(study), *labels, *words]


def run_stage(name: str, study: Path, *labels: str, **options: object) -> None:
    """A stage in this process."""
    stage = importlib.import_module(f"immunization.stages.{name}")
    stage.main(arguments(study, *labels, **options))


def run_study(folder: Path, raw: dict[str, Any]) -> Path:
    """Every stage of a linear study in this process, in the workflow's order; its folder.

    For what all components do together; that Snakemake runs them is for the tests of the workflow.
    """
    study = write_study(folder, raw, "call.json")
    paths = layout(read_study(study)["config"], str(folder))
    jobs = [("study",), *(("prepare", name) for name in paths.datasets)]
    jobs += [("immunize", label) for label in paths.methods]
    jobs += [("spectrum",)]
    jobs += [("attack", name, engine) for name in paths.datasets for engine in paths.engines]
    jobs += [("tables",), *(("figure", label) for label in paths.figures)]
    jobs += [("report",), ("manifest",)]
    for name, *labels in jobs:
        run_stage(name, study, *labels, device="cpu")
    return folder
