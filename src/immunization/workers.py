"""Several GPUs for one job: a process on each, which share the pieces of the job.

The job itself works on the first GPU. On every other one a worker runs the same command; each
computes pieces that no other has locked, and keeps them. A worker then ends, and the job takes all
pieces up (see `immunization.progress`). A worker that dies costs time and nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys

from immunization import interrupt, stage

DEVICES = "IMMUNIZATION_DEVICES"
"""Environment variable with the GPUs of a job that has several, separated by commas."""
WORKER = "IMMUNIZATION_WORKER"
"""Environment variable that tells a worker its number."""

_running: list[subprocess.Popen[bytes]] = []


def is_worker() -> bool:
    """Whether this process is one."""
    return WORKER in os.environ


def count() -> int:
    """GPUs of this job, 1 where it has none."""
    return max(1, len([device for device in os.environ.get(DEVICES, "").split(",") if device]))


def start(devices: list[str]) -> None:
    """Start a worker on each GPU but the first, which this process keeps.

    Args:
        devices: names of the GPUs for CUDA.
    """
    os.environ[DEVICES] = ",".join(devices)
    os.environ["CUDA_VISIBLE_DEVICES"] = devices[0]
    for number, device in enumerate(devices[1:], 1):
        own = {
            WORKER: str(number),
            "CUDA_VISIBLE_DEVICES": device,
            interrupt.OWNER: str(os.getpid()),
        }
        command = [sys.executable, *sys.orig_argv[1:]]
        _running.append(subprocess.Popen(command, env=os.environ | own))


def finish() -> None:
    """Wait for the workers of this process."""
    for process in _running:
        code = process.wait()
        if code:
            stage.LOG.info("a worker failed (exit code %d); its pieces are computed here", code)
    if _running:
        stage.LOG.info("%d workers done", len(_running))
    _running.clear()
