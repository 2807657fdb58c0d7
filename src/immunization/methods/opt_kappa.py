"""Gradient descent on λ_P·log κ(H_P) + λ_H/log κ(H_H), κ itself (a baseline of the paper)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hessian_spectrum import ExtremeTracker
from immunization.methods._balance import balanced, clipped
from immunization.methods._extremes import SmallestTracker
from immunization.tasks import Problem, TaskBatch

PARAMETERS = {
    "eta": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.005,
        "description": "step size η; 0.005 in the paper.",
    },
    "steps": {
        "type": "integer",
        "minimum": 1,
        "default": 100,
        "description": "number of full-batch steps.",
    },
    "lambda_p": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "default": None,
        "description": "weight of log κ(H_P); null so that its first step moves θ by η‖θ‖.",
    },
    "lambda_h": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "default": None,
        "description": "weight of 1/log κ(H_H); null so that its first step moves θ by η‖θ‖.",
    },
    "clip": {
        "type": "boolean",
        "default": False,
        "description": "shorten either term of a step to η‖θ‖ where it is longer. The paper says "
        "nothing of it; without it some pairs overshoot and end numerically singular.",
    },
}


class LogCondition:
    """log κ(θᵀKθ) over the non-zero spectrum, with its gradient by Hellmann–Feynman."""

    def __init__(self, task: TaskBatch) -> None:
        self._track = SmallestTracker(task)
        self._top = ExtremeTracker("largest")

    def __call__(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Value (B,) and ∇_θ = 2Kθ(v_1v_1ᵀ/σ_1 − v_kv_kᵀ/σ_k), shape (B, D, D)."""
        image, smallest, low = self._track(theta)
        pairs = self._top(image @ image.mT)
        high = (image.mT @ pairs.vectors[..., None]).squeeze(-1)
        high = high / high.norm(dim=-1, keepdim=True)
        columns = torch.stack([high, low], dim=-1)
        scales = torch.stack([1 / pairs.values, -1 / smallest], dim=-1)
        by_theta = 2 * (self._track.factor @ (image @ columns)) @ (columns * scales[:, None, :]).mT
        return (pairs.values / smallest).log(), by_theta


def immunize(problem: Problem, parameters: dict[str, Any]) -> Tensor:
    """Returns θ, shape (B, D, D)."""
    theta = problem.identity()
    primary, harmful = LogCondition(problem.primary), LogCondition(problem.harmful)
    weights: tuple[Tensor, Tensor] | None = None
    for _ in range(parameters["steps"]):
        _, down = primary(theta)
        value, up = harmful(theta)
        # The second term has no meaning at κ = 1; there its gradient is left out.
        inverse = torch.where(value > 1e-6, -1 / value.square(), torch.zeros_like(value))
        up = up * inverse[:, None, None]
        if weights is None:
            weights = (
                balanced(parameters["lambda_p"], down, theta),
                balanced(parameters["lambda_h"], up, theta),
            )
        terms = [weights[0] * down, weights[1] * up]
        if parameters["clip"]:
            terms = [clipped(term, theta) for term in terms]
        theta = theta - parameters["eta"] * (terms[0] + terms[1])
    return theta
