"""Which pairs go through a method together: as many as memory takes, and no more than pay."""

from __future__ import annotations

from immunization.runtime.gpus.memory import own_memory

Member = tuple[int, int]
MATRICES_PER_PAIR = 30
"""Matrices of D×D in float64 that a method holds for each pair: 14 to 20 were measured."""
WORKSPACES = 2**28
"""Bytes that products on several streams at once take, whatever the batch: 32 MiB each."""
GPU_MEMORY_SHARE = 0.7
"""Of a GPU's memory that a batch may take."""
MAX_THETA_ENTRIES = 6e7
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
    each = MATRICES_PER_PAIR * 8 * dimension**2
    if device == "cpu":
        most = max(1, HOST_BYTES // each)
        groups: dict[int, list[Member]] = {}
        for member in members:
            groups.setdefault(member[0], []).append(member)
        return [part for group in groups.values() for part in _evenly(group, most)]
    fits = int((GPU_MEMORY_SHARE * own_memory(device) - WORKSPACES) / each)
    most = max(1, min(fits, int(MAX_THETA_ENTRIES / dimension**2)))
    pairs = len({pair for _, pair in members})
    if most > pairs:  # whole seeds
        most -= most % pairs
        return [members[start : start + most] for start in range(0, len(members), most)]
    return _evenly(members, most)


def _evenly(members: list[Member], most: int) -> list[list[Member]]:
    count = -(-len(members) // most)
    size = -(-len(members) // count)
    return [members[start : start + size] for start in range(0, len(members), size)]
