"""Which GPU a job takes: claimed before torch looks at it, so that two jobs never share one by
accident.

A GPU has `UNITS` lock files in a folder, and a job takes all of them, or the part that the config's
`jobs_per_gpu` leaves it. The locks end with the process that holds them, however that ends.
Choosing the least busy GPU instead would be a race: two jobs that start together see the same one
idle.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from immunization.runtime import environment
from immunization.runtime.errors import UserError

UNITS = 12
"""Parts that a GPU is claimed by: so 1, 2, 3, 4, 6 or 12 jobs can share it."""
SECONDS = 10
"""What `nvidia-smi` gets to answer; on a machine whose driver is broken it may hang."""

_held: list[FileLock] = []


class Device(NamedTuple):
    """A GPU.

    Attributes:
        number: as `nvidia-smi` counts.
        uuid: its name for CUDA.
    """

    number: int
    uuid: str


def visible_gpus() -> list[Device]:
    """GPUs that this process may use, without loading CUDA; none where `nvidia-smi` is absent, or
    names none in time."""
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"],
            capture_output=True, text=True, check=False, timeout=SECONDS, errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = re.findall(r"^\s*(\d+)\s*,\s*([A-Za-z]+-[\w/-]+)\s*$", done.stdout, re.MULTILINE)
    devices = [Device(int(number), uuid) for number, uuid in lines] if not done.returncode else []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return devices
    by_name = {device.uuid: device for device in devices}
    by_name |= {str(device.number): device for device in devices}
    names = [name.strip() for name in chosen.split(",") if name.strip()]
    return [by_name[name] for name in names if name in by_name]


def jobs_per_gpu() -> int:
    """How many jobs share a GPU."""
    return int(os.environ.get(environment.JOBS_PER_GPU) or 1)


def _try(folder: Path, device: Device, count: int) -> bool:
    """Claim the given number of free parts of a GPU, or none."""
    taken: list[FileLock] = []
    for unit in range(UNITS):
        lock = FileLock(folder / f"{device.uuid.replace('/', '-')}.{unit}")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        taken.append(lock)
        if len(taken) == count:
            _held.extend(taken)
            return True
    for lock in taken:
        lock.release()
    return False


def claim() -> Device | None:
    """Claim a GPU, or the part of one that the environment names, and let this process see it
    alone.

    Waits while other jobs hold them. Where `nvidia-smi` names none, nothing is claimed and torch
    sees what it sees.

    Raises:
        UserError: when files in the folder of locks cannot be locked.
    """
    devices = visible_gpus()
    if not devices:
        return None
    folder = Path(
        os.environ.get(environment.LEDGER)
        or Path(tempfile.gettempdir()) / f"immunization-gpus-{os.getuid()}"
    )
    parts = UNITS // jobs_per_gpu()
    chosen, waiting_was_logged = None, False
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while chosen is None:
            with FileLock(folder / "mutex"):  # else two jobs could each hold half of what both need
                chosen = next((d for d in devices if _try(folder, d, parts)), None)
            if chosen is None and not waiting_was_logged:
                logging.getLogger("immunization").info(
                    "waiting for a GPU; other jobs hold them (see %s)", folder
                )
                waiting_was_logged = True
            time.sleep(0.0 if chosen else 0.2)
    except OSError as error:
        raise UserError(
            f"{folder}: files there cannot be locked ({error.strerror}). Jobs lock them to claim "
            f"a GPU. Name a folder on a local disk in {environment.LEDGER}."
        ) from error
    os.environ["CUDA_VISIBLE_DEVICES"] = chosen.uuid
    return chosen
