"""How much memory of a GPU a job may take, and what to do when it is not enough."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from immunization.runtime.errors import UserError
from immunization.runtime.gpus.claims import jobs_per_gpu
from immunization.runtime.log import LOG

CUDA_CONTEXT_BYTES = 2 * 2**30
"""Bytes that CUDA and its libraries take of a GPU for themselves, beside torch's; 2.0 GiB were
measured on an H200."""

Item = TypeVar("Item")
Work = TypeVar("Work")
Result = TypeVar("Result")


def free_gpu_memory() -> None:
    """Give back what failed work left on the GPU: tensors in cycles, cached blocks, and the
    workspaces that cuBLAS keeps for every stream it has met."""
    gc.collect()
    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
    if clear is not None and torch.cuda.is_initialized():
        clear()
    torch.cuda.empty_cache()


def halves(items: list[Item]) -> tuple[list[Item], list[Item]] | None:
    """A list in two halves; None for a single item."""
    half = len(items) // 2
    return (items[:half], items[half:]) if half else None


def run_within_memory(
    function: Callable[[Work], Result],
    work: Work,
    halve: Callable[[Work], tuple[Work, Work] | None],
    what: str = "pair",
) -> list[tuple[Work, Result]]:
    """Apply a function, to halves of the work where the GPU runs out of memory.

    Args:
        function: of some work.
        work: all of it.
        halve: the work in two halves, such as `halves`; None where it cannot be halved.
        what: what a smallest part is called, for the message.

    Returns:
        The parts that passed, in order, with their results.

    Raises:
        UserError: when a smallest part does not fit.
    """
    for last in (False, True):
        try:
            result = function(work)
            # The memory of its graphs, which nothing else takes from the cache.
            torch.cuda.empty_cache()
            return [(work, result)]
        except torch.cuda.OutOfMemoryError as error:
            short = str(error).split("\n")[0]
        # Outside of the handler: the traceback would hold the failed batch in memory. What earlier
        # batches left behind may be all that is in the way, so the same is tried once more.
        free_gpu_memory()
        if not last:
            LOG.info("out of GPU memory; trying again after clearing up")
    parts = halve(work)
    if parts is None:
        raise UserError(
            f"the GPU has too little memory for a single {what} ({short}). Free it from other "
            "programs, or set `device: cpu`."
        )
    LOG.info("out of GPU memory; going on with half of the work at a time")
    return [done for part in parts for done in run_within_memory(function, part, halve, what)]


def own_memory(device: str = "cuda") -> int:
    """Bytes of a GPU that this process may take: all, or its part less what CUDA takes itself.

    Not what happens to be free, so that batches are cut alike in every run.
    """
    total = int(torch.cuda.get_device_properties(device).total_memory)
    jobs = jobs_per_gpu()
    return total if jobs == 1 else max(2**28, total // jobs - CUDA_CONTEXT_BYTES)


def limit_memory() -> None:
    """Hold this process to its part of the GPU."""
    if jobs_per_gpu() > 1:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(own_memory() / total)
