"""One training loop for all that learns: steps as CUDA graphs, rates, and checkpoints.

What a step sees depends on the seed and the step's number alone, so that a run which was killed
goes on where its checkpoint stands as if nothing had happened.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hessian_spectrum.kernels.cuda_graphs import capture
from immunization.runtime.seeding import seed_of, seeded

WARM = 3
"""Steps done one by one before a step is captured as a graph: they make handles and workspaces."""


@dataclass(frozen=True)
class Recipe:
    """How to step.

    Attributes:
        optimiser: sgd (Nesterov momentum 0.9) or adamw.
        learning_rate: the largest.
        weight_decay: of weights with two axes or more.
        schedule: one_cycle (up over a fifth of the steps, then a cosine to nothing) or constant.
        label_smoothing: of the cross-entropy.
    """

    optimiser: str = "sgd"
    learning_rate: float = 0.1
    weight_decay: float = 0.0
    schedule: str = "one_cycle"
    label_smoothing: float = 0.0

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step, counted from 0."""
        if self.schedule == "constant":
            return self.learning_rate
        rise = max(1, round(0.2 * steps))
        if step < rise:
            return self.learning_rate * (step + 1) / rise
        done = (step - rise) / max(1, steps - rise)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))

    def make(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """The optimiser, with a learning rate that a captured graph reads from the device."""
        chosen = [p for p in parameters if p.requires_grad]
        on_gpu = chosen[0].is_cuda
        rate: Any = (
            torch.tensor(self.learning_rate, device=chosen[0].device)
            if on_gpu
            else self.learning_rate
        )
        groups = [
            {"params": [p for p in chosen if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in chosen if p.ndim <= 1], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        if self.optimiser == "sgd":
            return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True, fused=on_gpu)
        if self.optimiser == "adamw":
            return torch.optim.AdamW(
                groups, lr=rate, fused=on_gpu, capturable=on_gpu, betas=(0.9, 0.999)
            )
        raise ValueError(f"Optimisers are sgd and adamw. Got {self.optimiser!r}.")


class Stepper:
    """Training steps of a model on batches of one shape.

    Args:
        model: in the mode that is meant; maps inputs to logits.
        recipe: how to step.
        half: run the network in bfloat16 where that is faster; weights and losses stay float32.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, *, half: bool) -> None:
        self.model, self.recipe, self.half = model, recipe, half
        self.optimiser = recipe.make(model.parameters())
        self._count = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: Tensor
        self._labels: Tensor
        self._loss: Tensor

    def _work(self, inputs: Tensor, labels: Tensor) -> Tensor:
        kind = inputs.device.type
        # A cache of cast weights would outlive the step inside a graph.
        with torch.autocast(kind, torch.bfloat16, enabled=self.half, cache_enabled=False):
            logits = self.model(inputs)
        loss = nn.functional.cross_entropy(
            logits.float(), labels, label_smoothing=self.recipe.label_smoothing
        )
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def step(self, inputs: Tensor, labels: Tensor, rate: float) -> Tensor:
        """One step; the loss before it."""
        for group in self.optimiser.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self._count += 1
        if self._graph is None:
            self.optimiser.zero_grad(set_to_none=True)
            if not inputs.is_cuda or self._count <= WARM:
                return self._work(inputs, labels)
            self._inputs, self._labels = inputs.clone(), labels.clone()
            self._graph, self._loss = capture(
                lambda: self._work(self._inputs, self._labels), inputs.device
            )
        self._inputs.copy_(inputs)
        self._labels.copy_(labels)
        self._graph.replay()
        return self._loss.clone()

    def restart(self, state: dict[str, Tensor]) -> None:
        """Restart from other weights, in the same memory, so that the CUDA graph stays valid."""
        with torch.no_grad():
            parameters = self.model.state_dict()
            for name, value in state.items():
                parameters[name].copy_(value)
            for tensors in self.optimiser.state.values():
                for value in tensors.values():
                    if isinstance(value, Tensor):
                        value.zero_()

    def tensors(self) -> dict[str, Tensor]:
        """All that a later process needs to resume."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"optimiser.{key}.{name}"] = value
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """The counterpart of `tensors`."""
        self.model.load_state_dict(
            {n.removeprefix("model."): v for n, v in tensors.items() if n.startswith("model.")}
        )
        parameters = dict(self.model.named_parameters())
        for name, value in tensors.items():
            if name.startswith("optimiser."):
                _, key, owner = name.split(".", 2)
                like = parameters[owner]
                if value.shape == like.shape:  # laid out in memory as the weights are
                    value = torch.empty_like(like, requires_grad=False).copy_(value)
                self.optimiser.state[like][key] = value.clone()


def epoch_order(count: int, batch: int, seed: tuple[object, ...], epoch: int) -> list[Tensor]:
    """Numbers of the images of each step of an epoch; what does not fill a batch is left out.

    With fewer images than a batch, all of them are one.
    """
    order = torch.randperm(count, generator=seeded(*seed, "order", epoch))
    batch = min(batch, count)
    return [order[i : i + batch] for i in range(0, count - batch + 1, batch)]


def steps_per_epoch(count: int, batch: int) -> int:
    """Steps of an epoch."""
    return count // min(batch, count)


def step_generator(device: torch.device | str, *parts: object) -> torch.Generator:
    """A generator on a device, for draws that differ at every step."""
    return torch.Generator(device=device).manual_seed(seed_of(*parts))


@torch.no_grad()
def accuracy(
    model: Callable[[Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor]], *, half: bool
) -> float:
    """Share of samples whose largest logit is at their label."""
    correct: Tensor | None = None
    count = 0
    for inputs, labels in batches:
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=half):
            right = (model(inputs).argmax(dim=1) == labels).sum()
        correct = right if correct is None else correct + right
        count += len(labels)
    return float(correct) / count if correct is not None else float("nan")


def rounding_record(device: str, threads: int) -> dict[str, int]:
    """What the last digits of a stage's results depend on besides its parameters, for their record:
    threads, on a CPU."""
    return {"threads": threads} if device == "cpu" else {}


def prepare_device(
    device: str, threads: int, *, deterministic: bool, try_kernels: bool = False
) -> None:
    """Settings of a process that trains networks.

    Args:
        device: cuda or cpu.
        threads: of operations on a CPU.
        deterministic: only kernels that give the same bits every time.
        try_kernels: time several kernels for each convolution first, which pays for whole networks.
    """
    torch.set_num_threads(threads)
    # Matrices of spectra and of regularizers stay float32 or better; networks use bfloat16.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = try_kernels and device == "cuda" and not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
