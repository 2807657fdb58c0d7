"""IMMA, bi-level: raise the loss that a few fine-tuning steps on D_H reach, lower that on D_P.

Source: Zheng and Yeh, *IMMA: Immunizing text-to-image models against malicious adaptation*,
ECCV 2024 (arXiv 2311.18815), carried over to a linear probe with squared loss.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from immunization.methods._balance import balanced
from immunization.methods._task_loss import TaskLoss, initial_probe
from immunization.tasks import Problem

PARAMETERS = {
    "eta": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.005,
        "description": "step size η of the outer problem, for θ and the probe of D_P.",
    },
    "steps": {
        "type": "integer",
        "minimum": 1,
        "default": 100,
        "description": "number of outer steps.",
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
}


def adapted_loss(loss: TaskLoss, theta: Tensor, steps: int, power: Tensor, rounds: int) -> Any:
    """L_H after a few gradient descent steps of the probe from zero, differentiable in θ.

    The step is 1/σ_1(H_H(θ)), as an attacker would choose it, and is differentiated through, so
    that the loss does not change with the scale of θ and the ascent has no way to run off there.

    Args:
        loss: of D_H.
        theta: shape (B, D, D).
        steps: number of inner steps.
        power: warm start of the power iteration for σ_1, shape (B, D).
        rounds: power steps; a step length needs few digits.

    Returns:
        The loss, shape (B,), and the vector to warm-start from next time.
    """

    def curve(vector: Tensor) -> Tensor:
        image = theta.mT @ (loss.gram @ (theta @ vector[..., None]))
        return image.squeeze(-1) / loss.rows[:, None]

    with torch.no_grad():
        for _ in range(rounds):
            power = curve(power)
            power = power / power.norm(dim=-1, keepdim=True)
    rate = 1 / (power * curve(power)).sum(-1, keepdim=True)  # Hellmann–Feynman
    target = (theta.mT @ loss.moment[..., None]).squeeze(-1) / loss.rows[:, None]
    probe = torch.zeros_like(power)
    for _ in range(steps):
        probe = probe - rate * (curve(probe) - target)
    return loss.value(theta, probe), power


def immunize(problem: Problem, parameters: dict[str, Any]) -> Tensor:
    """θ ← θ − η∇_θ(L_P − λ_H L_H(after adaptation)); returns θ, shape (B, D, D)."""
    theta = problem.identity()
    primary, harmful = TaskLoss.of(problem.primary), TaskLoss.of(problem.harmful)
    probe = initial_probe(problem)
    power = torch.ones_like(probe)
    for step in range(parameters["steps"]):
        leaf = theta.detach().requires_grad_(True)
        rounds = 30 if step == 0 else 3
        reached, power = adapted_loss(harmful, leaf, parameters["inner_steps"], power, rounds)
        (up,) = torch.autograd.grad(reached.sum(), leaf)
        down, by_probe = primary.gradients(theta, probe)
        weight = balanced(parameters["lambda_h"], up, theta)
        theta = theta - parameters["eta"] * (down - weight * up)
        probe = probe - parameters["eta"] * by_probe
    return theta
