"""Threads: work is spread over items, and each operation of torch has one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def limit_torch_to_one_thread() -> None:
    """Let torch use one thread an operation, in the thread that calls this.

    Work is spread over whole batches instead (see `map_threads`), which is as fast, and makes
    results the same to the last bit for any number of threads.
    """
    import torch

    torch.set_num_threads(1)


def map_threads(function: Callable[[Any], Any], items: list[Any], threads: int) -> list[Any]:
    """Apply a function to items on some threads, results in order."""
    if threads <= 1 or len(items) <= 1:
        return [function(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(
        min(threads, len(items)), initializer=limit_torch_to_one_thread
    ) as pool:
        return list(pool.map(function, items))
