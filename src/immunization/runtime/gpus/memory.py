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
Result = TypeVar("Result")


def free_gpu_memory() -> None:
    """Give back what failed work left on the GPU: tensors in cycles, cached blocks, and the
    workspaces that cuBLAS keeps for every stream it has met."""
    gc.collect()
    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
    if clear is not None and torch.cuda.is_initialized():
        clear()
    torch.cuda.empty_cache()


def run_within_memory(
    function: Callable[[list[Item]], Result], items: list[Item]
) -> list[tuple[list[Item], Result]]:
    """Apply a function to a batch, in halves where the GPU runs out of memory.

    Args:
        function: of some items.
        items: the batch.

    Returns:
        The parts that passed, in order, with their results.

    Raises:
        UserError: when a single item does not fit.
    """
    for last in (False, True):
        try:
            found = function(items)
            # The memory of its graphs, which nothing else takes from the cache.
            torch.cuda.empty_cache()
            return [(items, found)]
        except torch.cuda.OutOfMemoryError as error:
            short = str(error).split("\n")[0]
        # Outside of the handler: the traceback would hold the failed batch in memory. What earlier
        # batches left behind may be all that is in the way, so the same is tried once more.
        free_gpu_memory()
        if not last:
            LOG.info("out of GPU memory; trying again after clearing up")
    if len(items) == 1:
        raise UserError(
            f"the GPU has too little memory for a single pair ({short}). Free it from other "
            "programs, or set `device: cpu`."
        )
    half = len(items) // 2
    LOG.info("out of GPU memory with %d pairs; going on with %d", len(items), half)
    return [
        part for some in (items[:half], items[half:]) for part in run_within_memory(function, some)
    ]


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
