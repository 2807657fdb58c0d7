"""Results of a study of seconds, for figures that want some."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from immunization.linear.results import Results
from immunization.runtime.jobs.stage import Stage
from immunization.stages import attack, immunize, prepare, spectrum
from immunization.study.layout import layout
from immunization.study.resolve import resolve
from immunization.study.whole import read_study, whole

SMALL: dict[str, Any] = {
    "study": "small",
    "seeds": [0, 1],
    "datasets": {"diabetes": {"test_fraction": 0.25}},
    "methods": {"identity": {}, "alg1": {"profile": "paper", "steps": 5}, "optimum": {}},
    "attacks": {"gradient_descent": {}, "least_squares": {}},
    "attack": {"budget": 100, "curve_steps": 50},
    "figures": {},
}


def small_results(folder: Path) -> Results:
    """Run its stages in this process, and open what they wrote."""
    study = folder / "call.json"
    study.write_text(json.dumps(whole(resolve(SMALL), SMALL)))
    paths = layout(read_study(study)["config"], str(folder))
    jobs: list[tuple[Any, list[str]]] = [(prepare, [name]) for name in paths.datasets]
    jobs += [(immunize, [label]) for label in paths.methods]
    jobs += [(spectrum, [])]
    jobs += [(attack, [name, "simulated"]) for name in paths.datasets]
    for stage, labels in jobs:
        stage.main([str(study), *labels, "--results", str(folder), "--device", "cpu"])
    return Results.of(Stage("figure", read_study(study), (), paths))
