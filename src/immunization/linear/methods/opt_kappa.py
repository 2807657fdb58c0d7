"""Gradient descent on λ_P·log κ(H_P) + λ_H/log κ(H_H), κ itself (a baseline of the paper)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from hessian_spectrum import ExtremeTracker
from immunization.linear.methods._balance import balanced_weight, clipped
from immunization.linear.methods._descent import Immunized, ThetaIteration, descend
from immunization.linear.methods._extremes import SmallestTracker
from immunization.linear.sufficient_statistics import TaskBatch
from immunization.linear.tasks import Problem

EXTENDS = "_descent"
PARAMETERS = {
    "eta": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.005,
        "description": "step size η; 0.005 in the paper.",
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
    "balance": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 1,
        "description": "factor on λ_H where that is null; above 1 the harmful term weighs more.",
    },
    "clip": {
        "type": "boolean",
        "default": False,
        "description": "limit the length of each term of a step to η‖θ‖. The paper does not "
        "mention it; without it some pairs overshoot and end numerically singular.",
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


def depends_on_seed(parameters: dict[str, Any]) -> bool:
    """Whether θ depends on the seed beyond the tasks."""
    return bool(parameters["start"] != "identity")


def immunize(problem: Problem, parameters: dict[str, Any]) -> Immunized:
    """θ, shape (B, D, D), and its trajectory."""
    make = partial(Descent, problem, parameters)
    return descend(problem, [make], steps=parameters["steps"], stop=parameters["stop"])


class Descent(ThetaIteration):
    """θ ← θ − η(λ_P∇_θ log κ(H_P) + λ_H∇_θ 1/log κ(H_H))."""

    def __init__(self, problem: Problem, parameters: dict[str, Any]) -> None:
        super().__init__(problem, parameters["start"])
        self._parameters = parameters
        self._primary = LogCondition(problem.primary)
        self._harmful = LogCondition(problem.harmful)
        self._weights: tuple[Tensor, Tensor] | None = None

    def step(self) -> None:
        theta, given = self.theta, self._parameters
        _, down = self._primary(theta)
        value, up = self._harmful(theta)
        # The second term has no meaning at κ = 1; there its gradient is left out.
        inverse = torch.where(value > 1e-6, -1 / value.square(), torch.zeros_like(value))
        up = up * inverse[:, None, None]
        if self._weights is None:
            share = given["balance"] if given["lambda_h"] is None else 1.0
            self._weights = (
                balanced_weight(given["lambda_p"], down, theta),
                share * balanced_weight(given["lambda_h"], up, theta),
            )
        terms = [self._weights[0] * down, self._weights[1] * up]
        if given["clip"]:
            terms = [clipped(term, theta) for term in terms]
        self.theta = theta - given["eta"] * (terms[0] + terms[1])
