"""A copy of the workflow in a folder of its own, and a way to run real Snakemake in it."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from tests import HANG
from tests.workflow import warm

ROOT = Path(__file__).parents[2]
MINIATURE = {
    "study": "mini",
    "seeds": [0, 1],
    "datasets": {
        "digits": {"task": "digit", "pairs": [[0, 1], [1, 0]], "rows_per_class": 60},
        "diabetes": {"test_fraction": 0.25},
    },
    "methods": {
        "identity": {},
        "alg1": {"profile": "paper", "steps": 5},
        "optimum": {},
    },
    "attacks": {
        "gradient_descent": {},
        "line_search": {"use": "gradient_descent", "step": "line_search"},
        "least_squares": {},
    },
    "attack": {"budget": 200, "curve_steps": 50},
    "figures": {"limit": {}, "frontier": {}},
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


def plain_environment() -> dict[str, str]:
    """The environment without what pytest puts there."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONWARNINGS")}


class Workflow:
    """A checkout that a test may change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("src", "workflow", "config", "envs", "profiles"):
            shutil.copytree(ROOT / name, folder / name)  # with what `make` has compiled
        shutil.copy(ROOT / "Snakefile", folder)
        self.configure(MINIATURE)

    def configure(self, config: dict) -> None:
        """Replace the study's config."""
        (self.folder / "study.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def command(self, *arguments: str, config: str = "study.yaml") -> list[str]:
        """The command line of Snakemake."""
        return [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", config,
                *arguments]  # fmt: skip

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start Snakemake in a process group of its own; its output goes to out.txt."""
        with (self.folder / "out.txt").open("a") as out:
            return subprocess.Popen(
                self.command(*arguments), cwd=self.folder, env=plain_environment(), text=True,
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def stages(self) -> list[int]:
        """Process ids of stages that run in this folder."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                here = (entry / "cwd").resolve() == self.folder.resolve()
            except OSError:
                continue
            if here and b"-m" in words and any(w.startswith(b"immunization.") for w in words):
                found.append(int(entry.name))
        return found

    def wait_for_stage(self, name: str, seconds: float = HANG) -> int:
        """Process id of a stage, once it runs."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for pid in self.stages():
                try:
                    if name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                        return pid
                except OSError:
                    continue
            time.sleep(0.05)
        raise AssertionError(f"{name} did not start")

    def complete(self) -> dict[str, int]:
        """When each result that Snakemake holds for whole was written, in nanoseconds."""
        marks = self.folder / ".snakemake" / "incomplete"
        broken = {
            base64.urlsafe_b64decode(
                "".join(part.lstrip("@") for part in path.relative_to(marks).parts)
            ).decode()
            for path in marks.rglob("*")
            if path.is_file() and path.name != "migration_underway"
        }
        base = self.folder / "results" / "mini"
        return {
            str(path.relative_to(self.folder)): path.stat().st_mtime_ns
            for path in base.rglob("*")
            if path.is_file()
            and not path.name.startswith(".")
            and "progress" not in path.parts
            and str(path.relative_to(self.folder)) not in broken
        }

    def run(self, *arguments: str, config: str = "study.yaml") -> Run:
        """Run Snakemake on the study, in a process that has it imported."""
        words = self.command(*arguments, config=config)[3:]
        out = self.folder.with_name(f"{self.folder.name}.run.txt")
        return Run(*warm.snakemake(words, self.folder, plain_environment(), out, HANG))

    def results(self) -> dict[str, bytes]:
        """Every file of the study's results, by relative path.

        Finished pieces are no results: a job that was not killed may have none.
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
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # workers share it
        base = base.parent
    folder = base / "finished"
    with FileLock(base / "finished.lock"):
        if not (folder / "first.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            run = Workflow(folder).run()
            assert run.code == 0, run.output
            (folder / "first.json").write_text(json.dumps([run.code, run.output]))
    workflow = Workflow.__new__(Workflow)
    workflow.folder = folder
    workflow.first = Run(*json.loads((folder / "first.json").read_text()))
    return workflow


@pytest.fixture
def workflow(finished, tmp_path) -> Workflow:
    """A copy of the finished study that a test may break, time stamps and all."""
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder, copy_function=shutil.copy2)
    copy = Workflow.__new__(Workflow)
    copy.folder = folder
    return copy
