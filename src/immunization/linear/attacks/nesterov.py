"""Nesterov's accelerated gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from immunization.linear.attacks._flops import passes
from immunization.linear.attacks._iterate import State, iterate
from immunization.linear.attacks._objective import Attack, AttackPlan, Objective
from immunization.runtime.errors import UserError

EXTENDS = "_probe_parameters"
EIGENBASIS = True
GRID: tuple[str, ...] = ()
PARAMETERS = {
    "momentum": {
        "enum": ["schedule", "optimal"],
        "default": "schedule",
        "description": "schedule: t/(t + 3), which needs no knowledge of the spectrum. optimal: "
        "(√L − √μ)/(√L + √μ), with μ the smallest non-zero eigenvalue (squared loss).",
    },
}


def flops(rows: int, dimension: int, parameters: dict[str, Any]) -> tuple[float, float]:
    """Set-up and each step."""
    return 20 * passes(rows, dimension), passes(rows, dimension, extra=5)


def attack(objective: Objective, parameters: dict[str, Any], plan: AttackPlan) -> Attack:
    """x ← y − g(y)/L, y ← x + m(x − x₋); the probe is y, where gradients are taken."""
    fixed = None
    if parameters["momentum"] == "optimal":
        if objective.convexity is None:
            raise UserError("attacker family nesterov: `momentum: optimal` needs `loss: squared`.")
        high, low = objective.smoothness.sqrt(), objective.convexity.sqrt()
        fixed = (high - low) / (high + low)
    start = objective.start(plan.attackers)
    state = {"weights": start, "before": start, "length": 1 / objective.smoothness}
    if fixed is not None:
        state["momentum"] = fixed
    else:
        state["clock"] = torch.zeros_like(state["length"])
    return iterate(objective, state, advance, plan)


def advance(_: Objective, state: State, gradient: Tensor, __: int) -> State:
    """One step."""
    point = state["weights"] - state["length"] * gradient
    after = state | {"before": point}
    momentum = state.get("momentum")
    if momentum is None:
        momentum = state["clock"] / (state["clock"] + 3)
        after["clock"] = state["clock"] + 1
    return after | {"weights": torch.addcmul(point, point - state["before"], momentum)}
