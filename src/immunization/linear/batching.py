"""Which pairs go through a method together: as many as memory takes, and no more than pay."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from immunization import stage
from immunization.devices import own_memory
from immunization.errors import UserError

Member = tuple[int, int]
Result = TypeVar("Result")
COPIES = 30
"""Matrices of D×D in float64 that a method holds for each pair: 14 to 20 were measured."""
WORKSPACES = 2**28
"""Bytes that products on several streams at once take, whatever the batch: 32 MiB each."""
SHARE = 0.7
"""Of a GPU's memory that a batch may take."""
ENOUGH = 6e7
"""Entries of θ in a batch from which on a GPU gains nothing: 90 pairs of D = 784."""
HOST_BYTES = 2 * 2**30
"""What a batch may take on a CPU, where every thread has one."""


def split(members: list[Member], dimension: int, device: str) -> list[list[Member]]:
    """Members in batches, in order.

    On a CPU batches hold pairs of one seed and depend on the sizes alone, so that results do not
    depend on the number of threads or on the memory that happens to be free.

    Args:
        members: (seed, number of the pair), by seed.
        dimension: D.
        device: where they will run.
    """
    each = COPIES * 8 * dimension**2
    if device == "cpu":
        most = max(1, HOST_BYTES // each)
        groups: dict[int, list[Member]] = {}
        for member in members:
            groups.setdefault(member[0], []).append(member)
        return [part for group in groups.values() for part in _evenly(group, most)]
    fits = int((SHARE * own_memory(device) - WORKSPACES) / each)
    most = max(1, min(fits, int(ENOUGH / dimension**2)))
    pairs = len({pair for _, pair in members})
    if most > pairs:  # whole seeds
        most -= most % pairs
        return [members[start : start + most] for start in range(0, len(members), most)]
    return _evenly(members, most)


def _evenly(members: list[Member], most: int) -> list[list[Member]]:
    count = -(-len(members) // most)
    size = -(-len(members) // count)
    return [members[start : start + size] for start in range(0, len(members), size)]


def release() -> None:
    """Give back what failed work left on the GPU: tensors in cycles, cached blocks, and the
    workspaces that cuBLAS keeps for every stream it has met."""
    gc.collect()
    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
    if clear is not None and torch.cuda.is_initialized():
        clear()
    torch.cuda.empty_cache()


def run_within_memory(
    function: Callable[[list[Member]], Result], members: list[Member]
) -> list[tuple[list[Member], Result]]:
    """Apply a function to a batch, in halves where the GPU runs out of memory.

    Args:
        function: of some members.
        members: the batch.

    Returns:
        The parts that passed, in order, with their results.

    Raises:
        UserError: when a single pair does not fit.
    """
    for last in (False, True):
        try:
            found = function(members)
            # The memory of its graphs, which nothing else takes from the cache.
            torch.cuda.empty_cache()
            return [(members, found)]
        except torch.cuda.OutOfMemoryError as error:
            short = str(error).split("\n")[0]
        # Outside of the handler: the traceback would hold the failed batch in memory. What earlier
        # batches left behind may be all that is in the way, so the same is tried once more.
        release()
        if not last:
            stage.LOG.info("out of GPU memory; trying again after clearing up")
    if len(members) == 1:
        raise UserError(
            f"the GPU has not enough memory for a single pair ({short}). Free it from other "
            "programs, or set `device: cpu`."
        )
    half = len(members) // 2
    stage.LOG.info("out of GPU memory with %d pairs; going on with %d", len(members), half)
    return [
        part
        for some in (members[:half], members[half:])
        for part in run_within_memory(function, some)
    ]
