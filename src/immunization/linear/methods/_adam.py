"""Adam on a batch of pairs of which fewer and fewer still run, for either device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Adam:
    """Adam (Kingma and Ba, 2015) with its usual constants, in place.

    torch.optim's gives the same numbers (see the tests); importing it takes two seconds.
    """

    def __init__(self, state: list[Tensor], rate: float) -> None:
        self.state = state
        self.rate = rate
        self.steps = 0
        self.first = [torch.zeros_like(value) for value in state]
        self.second = [torch.zeros_like(value) for value in state]
        self.running = len(state[0])

    def keep(self, running: int) -> None:
        """From here on move the first ``running`` pairs only."""
        self.running = running

    def step(self, gradients: Sequence[Tensor]) -> None:
        """One update of the running pairs."""
        self.steps += 1
        correction = (1 - 0.999**self.steps) ** 0.5
        rate = self.rate / (1 - 0.9**self.steps)
        some = slice(self.running)
        for value, gradient, first, second in zip(
            self.state, gradients, self.first, self.second, strict=True
        ):
            first[some].lerp_(gradient, 0.1)
            second[some].mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            scale = second[some].sqrt().div_(correction).add_(1e-8)
            value[some].addcdiv_(first[some], scale, value=-rate)


class FusedAdam:
    """The same on a GPU: torch.optim's, which moves everything through memory once, not thrice."""

    def __init__(self, state: list[Tensor], rate: float) -> None:
        self._rate = rate
        self._steps = torch.zeros((), dtype=torch.float32, device=state[0].device)
        self._all = [(v, torch.zeros_like(v), torch.zeros_like(v)) for v in state]
        self._counts = [self._steps.clone() for _ in state]
        self._optimiser: Any = None

    def keep(self, running: int) -> None:
        """From here on move the first ``running`` pairs only; with none, let go of all memory."""
        if self._optimiser is not None:
            # An optimiser holds itself in a cycle, and its state with it.
            self._optimiser.state.clear()
            self._optimiser.param_groups.clear()
            self._optimiser = None
        if running == 0:
            return
        parts = [tuple(tensor[:running] for tensor in tensors) for tensors in self._all]
        self._values = [value for value, _, _ in parts]
        self._optimiser = torch.optim.Adam(self._values, lr=self._rate, fused=True, capturable=True)
        for (value, first, second), count in zip(parts, self._counts, strict=True):
            self._optimiser.state[value] = {
                "step": count, "exp_avg": first, "exp_avg_sq": second
            }  # fmt: skip

    def step(self, gradients: Sequence[Tensor]) -> None:
        """One update of the running pairs."""
        for value, gradient in zip(self._values, gradients, strict=True):
            value.grad = gradient
        self._optimiser.step()
        for value in self._values:
            value.grad = None
