"""IMMA, bi-level: raise the loss that a few fine-tuning steps on D_H reach, lower that on D_P.

Source: Zheng and Yeh, *IMMA: Immunizing text-to-image models against malicious adaptation*,
ECCV 2024 (arXiv 2311.18815), carried over to a linear probe with squared loss.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from immunization.linear.methods._balance import balanced_weight
from immunization.linear.methods._descent import Immunized, ThetaIteration, descend
from immunization.linear.methods._task_loss import TaskLoss, initial_probe
from immunization.linear.tasks import Problem

EXTENDS = "_descent"
PARAMETERS = {
    "eta": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.005,
        "description": "step size η of the outer problem, for θ and the probe of D_P.",
    },
    "inner_steps": {
        "type": "integer",
        "minimum": 1,
        "default": 5,
        "description": "unrolled gradient descent steps of the harmful probe, of length 1/L.",
    },
    "lambda_h": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "default": None,
        "description": "weight of the harmful loss; null moves θ by η‖θ‖ against it at every "
        "step: with a fixed weight the ascent diverges.",
    },
    "balance": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 1,
        "description": "factor on the weight of the harmful loss where that is null.",
    },
}


class Adapted(NamedTuple):
    """The harmful loss after an attacker's first steps, and its gradient.

    Attributes:
        loss: L_H of the adapted probe less that of the zero probe, shape (B,).
        left, right: ∂L/∂H = left·rightᵀ, each of shape (B, D, 2·steps + 2); it is symmetric.
        by_target: ∂L/∂z, shape (B, D).
        power: the vector to warm-start σ_1 from next time, shape (B, D).
    """

    loss: Tensor
    left: Tensor
    right: Tensor
    by_target: Tensor
    power: Tensor


def adapt(hessian: Tensor, target: Tensor, steps: int, power: Tensor, rounds: int) -> Adapted:
    """A few gradient descent steps of the probe from zero, w ← w − (Hw − z)/σ_1(H).

    The step is 1/σ_1(H), as an attacker would choose it, and is differentiated through, so that the
    loss does not change with the scale of θ and the ascent has no way to run off there. Unrolled by
    hand: the gradient is of low rank, and automatic differentiation would form it term by term.

    Args:
        hessian: H = θᵀKθ/N of D_H, shape (B, D, D).
        target: z = θᵀXᵀy/N, shape (B, D).
        steps: number of inner steps.
        power: warm start of the power iteration for σ_1, shape (B, D).
        rounds: power steps; a step length needs few digits.

    Returns:
        The loss and its gradients.
    """

    def curve(vector: Tensor) -> Tensor:
        return (hessian @ vector[..., None]).squeeze(-1)

    for _ in range(rounds):
        power = curve(power)
        power = power / power.norm(dim=-1, keepdim=True)
    rate = 1 / (power * curve(power)).sum(-1, keepdim=True)
    probes, slopes = [torch.zeros_like(power)], []
    for _ in range(steps):
        slopes.append(curve(probes[-1]) - target)
        probes.append(probes[-1] - rate * slopes[-1])
    last = probes[-1]
    image = curve(last)
    loss = (last * (0.5 * image - target)).sum(-1)

    # Backwards: λ is ∂L/∂w after each step.
    adjoint = image - target
    by_target, by_rate = -last, torch.zeros_like(rate)
    left, right = [0.5 * last], [last]
    for probe, slope in zip(reversed(probes[:-1]), reversed(slopes), strict=True):
        by_rate = by_rate - (adjoint * slope).sum(-1, keepdim=True)
        by_target = by_target + rate * adjoint
        # −rate·λwᵀ, and half of it from either side.
        left += [-0.5 * rate * adjoint, probe]
        right += [probe, -0.5 * rate * adjoint]
        adjoint = adjoint - rate * curve(adjoint)
    # ∂rate/∂H = −rate²·ppᵀ by Hellmann–Feynman.
    left.append(-by_rate * rate.square() * power)
    right.append(power)
    return Adapted(loss, torch.stack(left, -1), torch.stack(right, -1), by_target, power)


def immunize(problem: Problem, parameters: dict[str, Any]) -> Immunized:
    """θ, shape (B, D, D), and its trajectory."""
    make = partial(Bilevel, problem, parameters)
    return descend(problem, [make], steps=parameters["steps"], stop=parameters["stop"])


class Bilevel(ThetaIteration):
    """θ ← θ − η∇_θ(L_P − λ_H L_H(after adaptation)), with the probe of D_P beside it."""

    def __init__(self, problem: Problem, parameters: dict[str, Any]) -> None:
        super().__init__(problem, parameters["start"])
        self._parameters = parameters
        self._primary, self._harmful = TaskLoss.of(problem.primary), TaskLoss.of(problem.harmful)
        self._probe = initial_probe(problem)
        self._power = torch.ones_like(self._probe)
        self._rounds = 30

    def step(self) -> None:
        given = self._parameters
        up = self._against_harm()
        down, by_probe = self._primary.gradients(self.theta, self._probe)
        share = given["balance"] if given["lambda_h"] is None else 1.0
        weight = share * balanced_weight(given["lambda_h"], up, self.theta)
        self.theta = self.theta - given["eta"] * (down - weight * up)
        self._probe = self._probe - given["eta"] * by_probe

    def _against_harm(self) -> Tensor:
        """∇_θ of the harmful loss after adaptation.

        Through H and z, so that a step of the attacker takes one matrix and not θ, K and θᵀ.
        """
        loss = self._harmful
        rows = loss.rows[:, None, None]
        image = loss.gram @ self.theta / rows
        hessian = self.theta.mT @ image
        moment = loss.moment[..., None] / rows
        target = (self.theta.mT @ moment).squeeze(-1)
        adapted = adapt(hessian, target, self._parameters["inner_steps"], self._power, self._rounds)
        self._power, self._rounds = adapted.power, 3  # from a warm start
        return 2 * (image @ adapted.left) @ adapted.right.mT + moment @ adapted.by_target[:, None]

    def task_loss(self) -> Tensor:
        return self._primary.value(self.theta, self._probe)
