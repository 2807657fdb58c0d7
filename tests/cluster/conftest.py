"""A real SLURM on this machine, and a checkout whose studies go through it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import HANG
from tests.workflow.conftest import (  # noqa: F401  (one is a fixture)
    Run,
    Workflow,
    finished,
    plain_environment,
)

SCRIPT = Path(__file__).with_name("slurm.sh")


def slurm(*arguments: str, check: bool = True) -> str:
    """A command of SLURM, or of our script; what it prints."""
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=HANG)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


@pytest.fixture(scope="session")
def controller():
    """SLURM, from packages to an idle node; ends stopped. A skip says why it cannot be had."""
    if os.geteuid() != 0:
        pytest.skip("starting SLURM wants root")
    started = time.monotonic()
    done = subprocess.run(
        [str(SCRIPT), "start"], capture_output=True, text=True, check=False, timeout=HANG
    )
    if done.returncode:
        if os.environ.get("CI"):
            raise AssertionError(done.stderr)
        pytest.skip(f"SLURM does not start here: {done.stderr.strip()[-300:]}")
    print(f"SLURM is up after {time.monotonic() - started:.1f} s: {done.stdout.strip()}")
    yield
    slurm(str(SCRIPT), "stop")


class Cluster(Workflow):
    """A checkout whose studies run through `profiles/slurm`."""

    # Earlier looks at jobs than the profile's, which spares a real controller.
    quick = ("--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "20")

    def command(self, *arguments: str, config: str = "study.yaml") -> list[str]:
        """The command line of Snakemake."""
        return [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", "--configfile",
                config, *self.quick, *arguments]  # fmt: skip

    def submit(self, *arguments: str) -> Run:
        """Run a study through SLURM to its end."""
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, env=plain_environment(),
            capture_output=True, text=True, timeout=HANG, check=False,
        )  # fmt: skip
        return Run(done.returncode, done.stdout + done.stderr)

    def jobs(self) -> list[dict[str, str]]:
        """What SLURM knows of the jobs of this folder, in the order of their numbers."""
        found = []
        for block in slurm("scontrol", "--oneliner", "show", "job").splitlines():
            record = dict(re.findall(r"(\w+(?:/\w+)?)=(\S*)", block))
            if record.get("WorkDir") == str(self.folder.resolve()):
                found.append(record)
        return sorted(found, key=lambda record: int(record["JobId"]))

    def wait_for(self, rule: str, state: str = "RUNNING", seconds: float = HANG) -> str:
        """Number of a job of a rule, once it is in a state."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for record in self.jobs():
                if f"rule_{rule}" in record.get("Comment", "") and record["JobState"] == state:
                    return record["JobId"]
            time.sleep(0.2)
        raise AssertionError(f"no job of {rule} was {state}: {self.jobs()}")


@pytest.fixture
def cluster(controller, tmp_path) -> Cluster:
    """A checkout with the miniature study, not yet run."""
    return Cluster(tmp_path / "cluster")
