"""A chain of small operations on a GPU, launched as one."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

Work = Callable[..., tuple[Tensor, ...]]
Result = TypeVar("Result")


class CapturedFunction:
    """A computation without host synchronisation, captured as a CUDA graph at its second call.

    Launching a kernel costs the host some five microseconds, more than many a kernel takes. On a
    CPU, and where an input that must not move has moved, the work is simply done.

    Args:
        work: a method that takes tensors of fixed shapes and returns tensors. Whatever else it
            reads or writes must keep its place in memory. It is held weakly: its owner holds
            this, and in a cycle GPU memory would wait for the garbage collector.
        fixed: how many of its first inputs are read where they are, and must not move; the others
            are copied.
        constants: further arguments by name.
    """

    def __init__(self, work: Work, *, fixed: int = 0, **constants: Any) -> None:
        self._method = weakref.WeakMethod(work)
        self._constants = constants
        self._fixed = fixed
        self._warm = False
        self._graph: torch.cuda.CUDAGraph | None = None
        self._places: list[tuple[int, torch.Size, tuple[int, ...]]]
        self._inputs: tuple[Tensor, ...]
        self._outputs: tuple[Tensor, ...]

    def _work(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        method = self._method()
        assert method is not None
        return method(*inputs, **self._constants)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The results, in memory of their own."""
        if not inputs[0].is_cuda:
            return self._work(*inputs)
        large, small = inputs[: self._fixed], inputs[self._fixed :]
        places = [(tensor.data_ptr(), tensor.shape, tensor.stride()) for tensor in large]
        if self._graph is None:
            if not self._warm:
                # Handles and workspaces are made by a first, plain call.
                self._warm = True
                return self._work(*inputs)
            copies = tuple(tensor.clone() for tensor in small)
            self._graph, self._outputs = capture(
                lambda: self._work(*large, *copies), inputs[0].device
            )
            self._places, self._inputs = places, copies
        elif places != self._places:
            return self._work(*inputs)
        for ours, given in zip(self._inputs, small, strict=True):
            ours.copy_(given)
        with torch.cuda.device(inputs[0].device):
            self._graph.replay()
        return tuple(tensor.clone() for tensor in self._outputs)


def capture(
    work: Callable[[], Result], device: torch.device
) -> tuple[torch.cuda.CUDAGraph, Result]:
    """Work as a CUDA graph, which does it whenever it is replayed, and what it returned.

    By hand, for torch's context manager gives all cached memory back to the driver first, and takes
    a stream of the first device that it ever captured on.

    Args:
        work: launches operations on the device and never waits for them.
        device: a CUDA device.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)
    with _no_collection(), torch.cuda.device(device):
        stream.wait_stream(torch.cuda.current_stream(device))
        stream.synchronize()
        with torch.cuda.stream(stream):
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                outputs = work()
            finally:
                graph.capture_end()
        torch.cuda.current_stream(device).wait_stream(stream)
    return graph, outputs


_lock = threading.Lock()
_captures = 0
_collecting = True


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Collected garbage may hold GPU memory, which must not be given back during a capture, in
    whatever thread."""
    global _captures, _collecting
    with _lock:
        if _captures == 0:
            _collecting = gc.isenabled()
            gc.disable()
        _captures += 1
    try:
        yield
    finally:
        with _lock:
            _captures -= 1
            if _captures == 0 and _collecting:
                gc.enable()
