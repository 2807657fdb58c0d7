"""Several GPUs for one job: a worker process on each, which share the pieces of the job.

A worker is the same command with one GPU visible; it computes pieces that no other has locked,
keeps them, and ends. The job then finds all pieces there.
"""

from __future__ import annotations

import os
import subprocess
import sys

from immunization import interrupt, stage
from immunization.errors import UserError

DEVICES = "IMMUNIZATION_DEVICES"
"""Environment variable with the GPUs of a job that has several, separated by commas."""
WORKER = "IMMUNIZATION_WORKER"
"""Environment variable that tells a worker its number."""


def is_worker() -> bool:
    """Whether this process is one."""
    return WORKER in os.environ


def count() -> int:
    """GPUs of this job, 1 where it has none."""
    return max(1, len(_devices()))


def _devices() -> list[str]:
    return [device for device in os.environ.get(DEVICES, "").split(",") if device]


def run_all(pieces: int) -> None:
    """Let workers compute pieces, where the job has several GPUs.

    Args:
        pieces: how many there are to do; with fewer than two there is nothing to share.

    Raises:
        UserError: when a worker fails; its own message stands above.
    """
    devices = _devices()
    if len(devices) < 2 or pieces < 2:
        return
    running = [
        subprocess.Popen(
            [sys.executable, *sys.orig_argv[1:]],
            env=os.environ
            | {
                WORKER: str(number),
                "CUDA_VISIBLE_DEVICES": device,
                interrupt.OWNER: str(os.getpid()),
            },
        )
        for number, device in enumerate(devices[:pieces])
    ]

    def stop() -> None:
        for process in running:
            process.terminate()

    with interrupt.saving(stop):
        codes = [process.wait() for process in running]
    if any(codes):
        raise UserError(
            f"a worker failed on GPU {devices[next(i for i, c in enumerate(codes) if c)]}; its "
            "message stands above. Finished pieces are kept: run the same command again, or set "
            "`gpus: 1`."
        )
    stage.LOG.info("%d workers done", len(running))
