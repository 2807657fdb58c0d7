"""Algorithm 1 of the paper, in three profiles: as printed, as released, and corrected."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from hessian_spectrum import r_ill_gradient, r_well_gradient
from immunization.linear.methods._alg1_released import released
from immunization.linear.methods._balance import frobenius
from immunization.linear.methods._descent import Immunized, ThetaIteration, descend
from immunization.linear.methods._extremes import LargestTracker, SmallestTracker
from immunization.linear.methods._joint_step import JointAlgorithm, joint_of
from immunization.linear.tasks import Problem

EXTENDS = "_descent"
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
    "balance": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 1,
        "description": "factor on λ_H where that is null (paper, corrected); above 1 the harmful "
        "term weighs more.",
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
    "last_axis": {
        "type": ["integer", "null"],
        "minimum": 1,
        "default": None,
        "description": "profile released only: divisor of both regularizers, which the released "
        "program takes from the last axis of its input: 28 for MNIST's images; null uses the "
        "number of features.",
    },
}
MANY = 32
"""Pairs from which on a batch is worth splitting."""
DEFAULT_ETA = {"paper": 0.005, "released": 0.001, "corrected": 0.01}


def depends_on_seed(parameters: dict[str, Any]) -> bool:
    """Whether θ depends on the seed beyond the tasks."""
    return parameters["profile"] != "corrected" or parameters["start"] != "identity"


def immunize(problem: Problem, parameters: dict[str, Any]) -> Tensor | Immunized:
    """Run the chosen profile; θ, shape (B, D, D), with its trajectory but for the released one."""
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
            last_axis=parameters["last_axis"],
        )
    names = ("steps", "stop", "lambda_p", "lambda_h", "balance", "start")
    run = paper if profile == "paper" else corrected
    return run(problem, eta=eta, **{name: parameters[name] for name in names})


def paper(
    problem: Problem,
    *,
    eta: float,
    steps: int,
    stop: float | None = None,
    lambda_p: float | None = None,
    lambda_h: float | None = None,
    balance: float = 1.0,
    start: str = "identity",
) -> Immunized:
    """Algorithm 1 as printed, full batch, with K⁻¹ read as the pseudo-inverse.

    θ ← θ − η∇_θL − ηλ_P K_P⁺∇_θR_well − ηλ_H K_H⁺∇_θR_ill. As ∇_θR = 2Kθ ∇_S R, the
    preconditioner cancels to 2P_Kθ ∇_S R, with P_K the projector on range(K).

    Args:
        problem: the pairs.
        eta: η.
        steps: most steps.
        stop: see `_descent.PARAMETERS`.
        lambda_p: λ_P, or None so that on the first step its term moves θ by η‖θ‖.
        lambda_h: λ_H, or None so that its term moves θ by ``balance`` times that.
        balance: see there.
        start: see `_descent.PARAMETERS`.

    Returns:
        θ, shape (B, D, D), and the trajectory.
    """
    joint = joint_of(problem)
    makers = [
        partial(
            JointAlgorithm, problem, joint, pairs, eta=eta, lambda_p=lambda_p, lambda_h=lambda_h,
            balance=balance, start=start,
        )
        for pairs in joint.groups(_groups(problem))
    ]  # fmt: skip
    return descend(problem, makers, steps=steps, stop=stop)


def corrected(
    problem: Problem,
    *,
    eta: float,
    steps: int,
    stop: float | None = None,
    lambda_p: float | None = None,
    lambda_h: float | None = None,
    balance: float = 1.0,
    start: str = "identity",
) -> Immunized:
    """The same two directions, made independent of scale, and without the task loss.

    Each direction is normalised, so a step moves θ by η‖θ‖ for either term, whatever the scale
    of the data, the number of rows or the rank. The task loss drops out: at the best probe its
    gradient Xᵀrωᵀ vanishes for every invertible θ, and Definition 3.1 (c) holds exactly. The
    projector drops out too: as K·P_K = K, the step of either term moves its own Hessian alike.

    Args:
        problem: the pairs.
        eta: relative step.
        steps: most steps.
        stop: see `_descent.PARAMETERS`.
        lambda_p: weight of the R_well direction, default 1.
        lambda_h: weight of the R_ill direction, default ``balance``.
        balance: see there.
        start: see `_descent.PARAMETERS`.

    Returns:
        θ, shape (B, D, D), and the trajectory.
    """
    weights = lambda_p or 1.0, lambda_h or balance
    make = partial(Corrected, problem, eta=eta, weights=weights, start=start)
    return descend(problem, [make], steps=steps, stop=stop)


def _groups(problem: Problem) -> int:
    """On a CPU two groups of similar size, less padded, beat one batch; a GPU rather has one."""
    return 2 if problem.size >= MANY and not problem.primary.factor.is_cuda else 1


class Corrected(ThetaIteration):
    """State of `corrected`."""

    def __init__(
        self, problem: Problem, *, eta: float, weights: tuple[float, float], start: str
    ) -> None:
        super().__init__(problem, start)
        self._eta = eta
        self._weights = weights
        self._top = LargestTracker(problem.primary)
        self._low = SmallestTracker(problem.harmful)

    def step(self) -> None:
        """θ(I − η‖θ‖(w_P ∇_S R_well/‖·‖ + w_H ∇_S R_ill/‖·‖)), the sides of Theorem 4.3."""
        theta = self.theta
        hessian, largest, first = self._top(theta)
        image, smallest, last = self._low(theta)
        well = theta @ r_well_gradient(hessian, largest, first)
        ill = theta @ r_ill_gradient(image.mT @ image, smallest, last, self._low.ranks)
        length = self._eta * frobenius(theta)
        step_p = self._weights[0] * well / _nonzero(frobenius(well))
        step_h = self._weights[1] * ill / _nonzero(frobenius(ill))
        self.theta = theta - length * (step_p + step_h)


def _nonzero(norm: Tensor) -> Tensor:
    """Guard of a division; a direction of length zero stays zero."""
    return norm.clamp_min(1e-300)
