"""A copy of the workflow in a folder of its own, and a way to run real Snakemake in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MINIATURE = {
    "study": "mini",
    "seeds": [0, 1],
    "datasets": {
        "digits": {"task": "digit", "pairs": [[0, 1], [1, 0]], "rows_per_class": 60},
        "binary": {
            "source": "digits",
            "task": "one_vs_rest",
            "pairs": [[3, 8]],
            "rows_per_class": 60,
        },
        "diabetes": {"test_fraction": 0.25},
    },
    "methods": {
        "identity": {},
        "alg1": {"profile": "paper", "steps": 5},
        "released": {"use": "alg1", "profile": "released", "epochs": 2},
        "optimum": {},
    },
    "attacks": {
        "gradient_descent": {},
        "line_search": {"use": "gradient_descent", "step": "line_search"},
        "least_squares": {},
    },
    "attack": {"budget": 200, "curve_steps": 50},
    "figures": {"limit": {}, "convergence": {}},
}


@dataclass
class Run:
    """What a run of Snakemake did."""

    code: int
    output: str

    @property
    def jobs(self) -> dict[str, int]:
        """Jobs that ran, by rule, from Snakemake's own statistics."""
        found = re.findall(r"^(\w+)\s+(\d+)$", self.output, flags=re.MULTILINE)
        return {rule: int(count) for rule, count in found if rule not in ("all", "total")}


class Workflow:
    """A checkout that a test may change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("src", "workflow", "config", "envs", "profiles"):
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        shutil.copy(ROOT / "Snakefile", folder)
        self.configure(MINIATURE)

    def configure(self, config: dict) -> None:
        """Replace the study's config."""
        (self.folder / "study.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def run(
        self, *arguments: str, config: str = "study.yaml", overlays: list[str] | None = None
    ) -> Run:
        """Run Snakemake on the study."""
        environment = {
            k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONWARNINGS")
        }
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", config,
             *(overlays or []), *arguments],
            cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300,
            check=False,
        )  # fmt: skip
        return Run(done.returncode, done.stdout + done.stderr)

    def results(self) -> dict[str, bytes]:
        """Every file of the study's results, by relative path.

        Finished pieces of attacks are no results: their names hold the time of their inputs.
        """
        base = self.folder / "results" / "mini"
        return {
            path.relative_to(base).as_posix(): path.read_bytes()
            for path in sorted(base.rglob("*"))
            if path.is_file() and "progress" not in path.parts
        }


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workflow:
    """The miniature study, run once from nothing. Tests leave its results as they are."""
    workflow = Workflow(tmp_path_factory.mktemp("finished"))
    run = workflow.run()
    assert run.code == 0, run.output
    workflow.first = run
    return workflow


@pytest.fixture
def workflow(finished, tmp_path) -> Workflow:
    """A copy of the finished study that a test may break, time stamps and all."""
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder, copy_function=shutil.copy2)
    copy = Workflow.__new__(Workflow)
    copy.folder = folder
    return copy
