"""Gradient descent on R_ill(H_H) alone, with no care for D_P (a baseline of the paper)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hessian_spectrum import r_ill_gradient
from immunization.methods._balance import balanced
from immunization.methods._extremes import SmallestTracker
from immunization.tasks import Problem

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
        "description": "number of full-batch steps; 100 epochs in the paper's house price study.",
    },
    "lambda_h": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "default": None,
        "description": "weight of R_ill; null so that the first step moves θ by η‖θ‖.",
    },
}


def immunize(problem: Problem, parameters: dict[str, Any]) -> Tensor:
    """θ ← θ − ηλ_H ∇_θR_ill with ∇_θR_ill = 2K_Hθ ∇_S R_ill; returns θ, shape (B, D, D)."""
    theta = problem.identity()
    track = SmallestTracker(problem.harmful)
    weight: Tensor | None = None
    for _ in range(parameters["steps"]):
        image, smallest, vector = track(theta)
        by_hessian = r_ill_gradient(image.mT @ image, smallest, vector, track.ranks)
        gradient = 2 * track.factor @ (image @ by_hessian)
        if weight is None:
            weight = balanced(parameters["lambda_h"], gradient, theta)
        theta = theta - parameters["eta"] * weight * gradient
    return theta
