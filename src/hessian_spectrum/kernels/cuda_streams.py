"""Dense decompositions on a GPU, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

STREAMS = 8
"""Beyond eight a GPU gains nothing from matrices of some hundred rows."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@cache
def load_decompositions(device: torch.device) -> None:
    """Have torch load its library of decompositions, which threads must not do at once."""
    torch.linalg.eigh(torch.ones(1, 1, dtype=torch.float64, device=device))


@cache
def streams_of(device: torch.device) -> list[torch.cuda.Stream]:
    """The streams of a device, always the same: on each that it meets, cuBLAS keeps 32 MiB."""
    return [torch.cuda.Stream(device) for _ in range(STREAMS)]


def map_streams(
    function: Callable[[Item], Result], items: Sequence[Item], device: torch.device
) -> list[Result]:
    """Apply a function to items, on a GPU by some threads with a stream each.

    cuSOLVER takes one matrix at a time and leaves most of the GPU idle meanwhile. With eight side
    by side on an H100, 1.4 times as many `eigh` of 640 rows pass, 1.9 times as many of 240, and
    three to six times as many Jacobi SVDs.

    Args:
        function: of one item; must not depend on the order of calls.
        items: its arguments.
        device: where the work lies; on a CPU the items are taken in turn, in this thread.

    Returns:
        The results, in order, ready for the caller's stream.
    """
    count = min(STREAMS, len(items))
    if device.type != "cuda" or count <= 1:
        return [function(item) for item in items]
    load_decompositions(device)
    streams = streams_of(device)
    before = torch.cuda.current_stream(device)
    enabled = torch.is_grad_enabled()

    def work(number: int) -> list[Result]:
        stream = streams[number]
        with torch.cuda.device(device), torch.cuda.stream(stream), torch.set_grad_enabled(enabled):
            # What the caller has queued comes first: also reads of memory that is free by now.
            stream.wait_stream(before)
            results = [function(item) for item in items[number::count]]
            stream.synchronize()
        return results

    with ThreadPoolExecutor(count) as pool:
        parts = list(pool.map(work, range(count)))
    return [parts[place % count][place // count] for place in range(len(items))]
