"""Gradient descent on R_ill(H_H) alone, with no care for D_P (a baseline of the paper)."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from hessian_spectrum import r_ill_gradient
from immunization.linear.methods._balance import balanced_weight
from immunization.linear.methods._descent import Immunized, ThetaIteration, descend
from immunization.linear.methods._extremes import SmallestTracker
from immunization.linear.tasks import Problem

EXTENDS = "_descent"
PARAMETERS = {
    "eta": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.005,
        "description": "step size η; 0.005 in the paper.",
    },
    "lambda_h": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "default": None,
        "description": "weight of R_ill; null so that the first step moves θ by η‖θ‖.",
    },
}


def depends_on_seed(parameters: dict[str, Any]) -> bool:
    """Whether θ depends on the seed beyond the tasks."""
    return bool(parameters["start"] != "identity")


def immunize(problem: Problem, parameters: dict[str, Any]) -> Immunized:
    """θ, shape (B, D, D), and its trajectory."""
    make = partial(Descent, problem, parameters["start"], parameters["eta"], parameters["lambda_h"])
    return descend(problem, [make], steps=parameters["steps"], stop=parameters["stop"])


class Descent(ThetaIteration):
    """θ ← θ − ηλ_H ∇_θR_ill with ∇_θR_ill = 2K_Hθ ∇_S R_ill."""

    def __init__(self, problem: Problem, start: str, eta: float, weight: float | None) -> None:
        super().__init__(problem, start)
        self._eta = eta
        self._given = weight
        self._weight: Tensor | None = None
        self._track = SmallestTracker(problem.harmful)

    def step(self) -> None:
        track = self._track
        image, smallest, vector = track(self.theta)
        by_hessian = r_ill_gradient(image.mT @ image, smallest, vector, track.ranks)
        gradient = 2 * track.factor @ (image @ by_hessian)
        if self._weight is None:
            self._weight = balanced_weight(self._given, gradient, self.theta)
        self.theta = self.theta - self._eta * self._weight * gradient
