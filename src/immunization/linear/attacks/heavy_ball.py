"""Polyak's heavy ball: gradient descent with momentum."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from immunization.linear.attacks._flops import passes
from immunization.linear.attacks._iterate import State, iterate
from immunization.linear.attacks._objective import Attack, AttackPlan, Objective
from immunization.runtime.errors import UserError

EXTENDS = "_probe_parameters"
EIGENBASIS = True
GRID = ("momentum",)
PARAMETERS = {
    "momentum": {
        "oneOf": [{"enum": ["optimal"]}, {"type": "number", "minimum": 0, "exclusiveMaximum": 1}],
        "default": 0.9,
        "description": "β, with step 1/L; or optimal: β and the step of Polyak (1964), from the "
        "largest and the smallest non-zero eigenvalue (squared loss).",
    },
}


def flops(rows: int, dimension: int, parameters: dict[str, Any]) -> tuple[float, float]:
    """Set-up and each step."""
    return 20 * passes(rows, dimension), passes(rows, dimension, extra=4)


def attack(objective: Objective, parameters: dict[str, Any], plan: AttackPlan) -> Attack:
    """w ← w − αg + β(w − w₋)."""
    momentum = parameters["momentum"]
    if isinstance(momentum, str):
        if objective.convexity is None:
            raise UserError(
                "attacker family heavy_ball: `momentum: optimal` needs `loss: squared`; give a "
                "number."
            )
        high, low = objective.smoothness.sqrt(), objective.convexity.sqrt()
        length = 4 / (high + low).square()
        momentum = ((high - low) / (high + low)).square()
    else:
        length = 1 / objective.smoothness
        momentum = momentum.expand(len(length), -1, -1)
    start = objective.start(plan.attackers)
    state = {"weights": start, "before": start, "length": length, "momentum": momentum}
    return iterate(objective, state, advance, plan)


def advance(_: Objective, state: State, gradient: Tensor, __: int) -> State:
    """One step."""
    weights = state["weights"]
    moved = (weights - state["before"]).mul_(state["momentum"])
    moved += weights
    moved -= state["length"] * gradient
    return state | {"weights": moved, "before": weights}
