"""Which GPUs a job takes: claimed before torch looks at them, so that two jobs never share one by
accident.

Every job of a user on a machine books what it takes in a ledger, a folder of locked files. A claim
ends with the process that holds it, however that ends. Choosing the least busy GPU instead would be
a race: two jobs that start together see the same one idle.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from immunization import stage
from immunization.errors import UserError
from immunization.holder import user

COUNT = "IMMUNIZATION_GPUS"
"""Environment variable with the config's `gpus`: how many a job takes, 1 by default."""
MEMORY = "IMMUNIZATION_GPU_MEMORY_GB"
"""Environment variable with the config's `gpu_memory_gb`: what it takes of each; all by default."""
LEDGER = "IMMUNIZATION_LEDGER"
"""Environment variable with the folder of the ledger; a user's own in the system's temporary
folder by default."""

CONTEXT = 2 * 2**30
"""Bytes that CUDA and its libraries take of a GPU for themselves, beside torch's; 2.0 GiB were
measured on an H200. Booked with every claim of a part."""

_held: list[int] = []


class Device(NamedTuple):
    """A GPU.

    Attributes:
        number: as `nvidia-smi` counts.
        uuid: its name for CUDA.
        memory: bytes; 1 where `nvidia-smi` does not tell, so that it is whole or taken.
    """

    number: int
    uuid: str
    memory: int


def visible() -> list[Device]:
    """GPUs that this process may use, without loading CUDA; none where `nvidia-smi` is absent."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    if done.returncode:
        return []
    found = []
    for line in done.stdout.splitlines():
        number, uuid, memory = (part.strip() for part in line.split(","))
        found.append(Device(int(number), uuid, int(memory) * 2**20 if memory.isdigit() else 1))
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return found
    by_name = {device.uuid: device for device in found}
    by_name |= {str(device.number): device for device in found}
    names = [name.strip() for name in chosen.split(",") if name.strip()]
    return [by_name[name] for name in names if name in by_name]


def ledger() -> Path:
    """Folder of the ledger, made if need be."""
    folder = Path(
        os.environ.get(LEDGER) or Path(tempfile.gettempdir()) / f"immunization-gpus-{user()}"
    )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _lock(path: Path, how: int) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, how)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError as error:
        os.close(handle)
        raise UserError(
            f"{path.parent}: files there cannot be locked ({error.strerror}), which tells jobs "
            f"which GPU is taken. Name a folder on a local disk in {LEDGER}."
        ) from error
    return handle


def _booked(folder: Path, device: Device) -> int:
    """Bytes of a device that live processes hold; entries of dead ones go."""
    total = 0
    for entry in folder.glob(f"{device.uuid}.*"):
        handle = _lock(entry, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if handle is not None:
            entry.unlink(missing_ok=True)
            os.close(handle)
        else:
            text = entry.read_text()
            total += int(text) if text else device.memory
    return total


def _try(folder: Path, devices: list[Device], count: int, wanted: int | None) -> list[Device]:
    """Claim as many as asked for, or none: half a claim could wait for ever."""
    mutex = _lock(folder / "mutex", fcntl.LOCK_EX)
    assert mutex is not None
    try:
        free = {d: d.memory - _booked(folder, d) for d in devices}
        fits = [d for d in devices if free[d] >= (d.memory if wanted is None else wanted)]
        # The emptiest first, so that jobs that share spread out; of equals the first.
        chosen = sorted(fits, key=lambda d: -free[d])[:count]
        if len(chosen) < count:
            return []
        for device in chosen:
            handle, _ = tempfile.mkstemp(prefix=f"{device.uuid}.", dir=folder)
            fcntl.flock(handle, fcntl.LOCK_EX)
            os.write(handle, str(device.memory if wanted is None else wanted).encode())
            _held.append(handle)
        return chosen
    finally:
        os.close(mutex)


def wanted_count() -> int:
    """GPUs that a job is to take."""
    return int(os.environ.get(COUNT) or 1)


def claim(count: int = 1) -> list[Device]:
    """Claim some GPUs, or the part of their memory that the environment names, and let this process
    see only them.

    Waits while other jobs hold them. Where `nvidia-smi` sees none, nothing is claimed and torch
    decides.

    Raises:
        UserError: when the machine can never give them.
    """
    devices = visible()
    if not devices:
        return []
    asked = os.environ.get(MEMORY)
    wanted = int(float(asked) * 2**30) + CONTEXT if asked else None
    if count > len(devices):
        raise UserError(
            f"config key 'gpus': a job is to take {count} GPUs, and {len(devices)} can be seen "
            "here (CUDA_VISIBLE_DEVICES counts). Lower it."
        )
    largest = max(device.memory for device in devices)
    if wanted is not None and largest == 1:
        raise UserError(
            "config key 'gpu_memory_gb': nvidia-smi does not tell the memory of the GPUs here, so "
            "they cannot be shared by it. Leave it out."
        )
    if wanted is not None and wanted > largest:
        raise UserError(
            f"config key 'gpu_memory_gb': {asked} GiB, and {CONTEXT / 2**30:g} GiB for CUDA "
            f"itself, are more than the largest GPU here has, {largest / 2**30:.0f} GiB. Lower it, "
            "or leave it out to take whole GPUs."
        )
    folder = ledger()
    told = False
    while not (chosen := _try(folder, devices, count, wanted)):
        if not told:
            stage.LOG.info("waiting for a GPU; other jobs hold them (see %s)", folder)
            told = True
        time.sleep(0.2)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(device.uuid for device in chosen)
    return chosen


def places(devices: list[Device], memory_gb: float | None) -> int:
    """How many jobs of one GPU the devices hold at a time.

    Args:
        devices: some GPUs.
        memory_gb: what a job takes of one, in GiB; all by default.
    """
    if not memory_gb:
        return len(devices)
    return sum(int(device.memory / (memory_gb * 2**30 + CONTEXT)) for device in devices)


def limit_memory() -> None:
    """Hold this process to the memory that it claimed."""
    import torch

    asked = os.environ.get(MEMORY)
    if asked:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, float(asked) * 2**30 / total))


def own_memory(device: str) -> int:
    """Bytes of a GPU that this process may take: what it claimed, or all.

    Not what happens to be free, so that batches are cut alike in every run.
    """
    import torch

    total = int(torch.cuda.get_device_properties(device).total_memory)
    asked = os.environ.get(MEMORY)
    return min(total, int(float(asked) * 2**30)) if asked else total
