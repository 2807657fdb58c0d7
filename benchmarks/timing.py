"""What the benchmarks share: alternating timings, and a record of where they ran."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_ARENA_MAX = -3, -1, -8


def keep_freed_memory() -> None:
    """Let glibc keep what is freed, for every contender alike.

    Otherwise tensors of a megabyte or more are handed back to the system and faulted in again at
    each use, which takes longer than the arithmetic on them.
    """
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    library.mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
    library.mallopt(M_TRIM_THRESHOLD, 2**30)
    library.mallopt(M_ARENA_MAX, 1)


def seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """Wall time of one call."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def alternate(
    contenders: dict[str, Callable[[], object]],
    *,
    rounds: int,
    device: str = "cpu",
    prepare: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of each contender in each round, all in turn, so that a slow phase hits all.

    ``prepare`` is called before each round, off the clock.
    """
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        prepare()
        for name, work in contenders.items():
            # Idle threads of the last contender spin for a while; they must not slow this one.
            time.sleep(0.5)
            found[name].append(seconds(work, device))
    return found


def ratio(slow: list[float], fast: list[float]) -> float:
    """Median over rounds of how much longer the first took."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def where() -> dict[str, Any]:
    """Machine and versions."""
    packages = ("torch", "numpy", "curvlinops-for-pytorch", "PyHessian", "hessian-eigenthings")
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": found,
        "command": " ".join(["python", *sys.argv]),
    }


def record(name: str, figures: dict[str, Any]) -> None:
    """Write figures beside where they were taken, to ``results/NAME.json``."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(where() | figures, indent=2) + "\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")
