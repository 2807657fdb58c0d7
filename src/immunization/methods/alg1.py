"""Algorithm 1 of the paper, in three profiles: as printed, as released, and corrected."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hessian_spectrum import NotFiniteError, r_ill_gradient, r_well_gradient
from immunization.methods._alg1_released import released
from immunization.methods._balance import frobenius
from immunization.methods._extremes import LargestTracker, SmallestTracker
from immunization.methods._joint_step import JointAlgorithm, joint_of
from immunization.tasks import Problem

PARAMETERS = {
    "profile": {
        "enum": ["paper", "released", "corrected"],
        "default": "corrected",
        "description": "paper: Algorithm 1 as printed. released: what the released code does. "
        "corrected: scale-free, right side, rank-safe.",
    },
    "eta": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "default": None,
        "description": "step size η; null for 0.005 (paper), 0.001 (released, Adam) or 0.01 "
        "(corrected, relative to ‖θ‖).",
    },
    "steps": {
        "type": "integer",
        "minimum": 1,
        "default": 100,
        "description": "full-batch steps of the profiles paper and corrected.",
    },
    "lambda_p": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "default": None,
        "description": "weight of R_well; null balances by gradient norms (paper), is 1 "
        "(released), or gives both terms equal length (corrected).",
    },
    "lambda_h": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "default": None,
        "description": "weight of R_ill; null balances by gradient norms (paper), is 5e7 "
        "(released), or gives both terms equal length (corrected).",
    },
    "epochs": {
        "type": "integer",
        "minimum": 1,
        "default": 30,
        "description": "profile released only: epochs over minibatches of 64.",
    },
    "ridge": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 1e-7,
        "description": "profile released only: ridge of the harmful preconditioner, absolute.",
    },
}
MANY = 32
"""Pairs from which on two groups of similar size, less padded, beat one batch."""
DEFAULT_ETA = {"paper": 0.005, "released": 0.001, "corrected": 0.01}


def immunize(problem: Problem, parameters: dict[str, Any]) -> Tensor:
    """Run the chosen profile; returns θ, shape (B, D, D)."""
    profile = parameters["profile"]
    eta = parameters["eta"] or DEFAULT_ETA[profile]
    if profile == "released":
        return released(
            problem,
            eta=eta,
            epochs=parameters["epochs"],
            lambda_p=parameters["lambda_p"] or 1.0,
            lambda_h=parameters["lambda_h"] or 5e7,
            ridge=parameters["ridge"],
        )
    run = paper if profile == "paper" else corrected
    return run(
        problem,
        eta=eta,
        steps=parameters["steps"],
        lambda_p=parameters["lambda_p"],
        lambda_h=parameters["lambda_h"],
    )


def paper(
    problem: Problem,
    *,
    eta: float,
    steps: int,
    lambda_p: float | None = None,
    lambda_h: float | None = None,
) -> Tensor:
    """Algorithm 1 as printed, full batch, with K⁻¹ read as the pseudo-inverse.

    θ ← θ − η∇_θL − ηλ_P K_P⁺∇_θR_well − ηλ_H K_H⁺∇_θR_ill. As ∇_θR = 2Kθ ∇_S R, the
    preconditioner cancels to 2P_Kθ ∇_S R, with P_K the projector on range(K).

    Args:
        problem: the pairs.
        eta: η.
        steps: number of steps.
        lambda_p: λ_P, or None so that on the first step its term moves θ by η‖θ‖.
        lambda_h: λ_H, likewise.

    Returns:
        θ, shape (B, D, D).
    """
    joint = joint_of(problem)
    theta = problem.identity()
    for pairs in joint.groups(2 if problem.size >= MANY else 1):
        try:
            state = JointAlgorithm(
                problem, joint, pairs, eta=eta, lambda_p=lambda_p, lambda_h=lambda_h
            )
            for _ in range(steps):
                state.step()
        except NotFiniteError as error:
            # Its place in the group is not that in the problem.
            raise NotFiniteError(int(pairs[error.index])) from error
        theta[pairs] = state.extractor()
    return theta


def corrected(
    problem: Problem,
    *,
    eta: float,
    steps: int,
    lambda_p: float | None = None,
    lambda_h: float | None = None,
) -> Tensor:
    """The same two directions, made independent of scale, and without the task loss.

    Each direction is normalised, so a step moves θ by η‖θ‖ for either term, whatever the scale
    of the data, the number of rows or the rank. The task loss drops out: at the best probe its
    gradient Xᵀrωᵀ vanishes for every invertible θ, and Definition 3.1 (c) holds exactly. The
    projector drops out too: as K·P_K = K, the step of either term moves its own Hessian alike.

    Args:
        problem: the pairs.
        eta: relative step.
        steps: number of steps.
        lambda_p: weight of the R_well direction, default 1.
        lambda_h: weight of the R_ill direction, default 1.

    Returns:
        θ, shape (B, D, D).
    """
    theta = problem.identity()
    top, low = LargestTracker(problem.primary), SmallestTracker(problem.harmful)
    for _ in range(steps):
        well, ill = _directions(theta, top, low)
        length = eta * frobenius(theta)
        step_p = (lambda_p or 1.0) * well / _nonzero(frobenius(well))
        step_h = (lambda_h or 1.0) * ill / _nonzero(frobenius(ill))
        theta = theta - length * (step_p + step_h)
    return theta


def _directions(theta: Tensor, top: LargestTracker, low: SmallestTracker) -> tuple[Tensor, Tensor]:
    """θ∇_S R_well(H_P) and θ∇_S R_ill(H_H): the sides that Theorem 4.3 is about."""
    hessian, largest, first = top(theta)
    image, smallest, last = low(theta)
    well = r_well_gradient(hessian, largest, first)
    ill = r_ill_gradient(image.mT @ image, smallest, last, low.ranks)
    return theta @ well, theta @ ill


def _nonzero(norm: Tensor) -> Tensor:
    """Guard of a division; a direction of length zero stays zero."""
    return norm.clamp_min(1e-300)
