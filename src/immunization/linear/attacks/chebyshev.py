"""Chebyshev's semi-iterative method: the best fixed polynomial for an interval of eigenvalues."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from immunization.linear.attacks._flops import passes
from immunization.linear.attacks._iterate import State, iterate
from immunization.linear.attacks._objective import Attack, AttackPlan, Objective

EXTENDS = "_probe_parameters"
EIGENBASIS = True
GRID = ("lowest",)
PARAMETERS = {
    "loss": {
        "enum": ["squared"],
        "default": "squared",
        "description": "loss that the probe is trained on.",
    },
    "lowest": {
        "type": "number",
        "minimum": 0,
        "exclusiveMaximum": 1,
        "default": 0,
        "description": "lower end of the interval relative to L; 0 for the smallest non-zero "
        "eigenvalue itself.",
    },
}


def flops(rows: int, dimension: int, parameters: dict[str, Any]) -> tuple[float, float]:
    """Set-up and each step."""
    return 20 * passes(rows, dimension), passes(rows, dimension, extra=4)


def attack(objective: Objective, parameters: dict[str, Any], plan: AttackPlan) -> Attack:
    """Three-term recurrence (Saad, *Iterative Methods for Sparse Linear Systems*, Alg. 12.1)."""
    assert objective.convexity is not None
    high, given = objective.smoothness, parameters["lowest"]
    low = torch.where(given > 0, given * high, objective.convexity)
    centre, radius = (high + low) / 2, (high - low) / 2
    start = objective.start(plan.attackers)
    state = {
        "weights": start,
        "move": torch.zeros_like(start),
        "centre": centre,
        "radius": radius,
        "rho": torch.zeros_like(centre),
    }
    return iterate(objective, state, advance, plan)


def advance(_: Objective, state: State, gradient: Tensor, step: int) -> State:
    """One step; written so that a flat spectrum (radius 0) divides by nothing."""
    centre, radius, before = state["centre"], state["radius"], state["rho"]
    if step == 0:
        rho, move = radius / centre, -gradient / centre
    else:
        under = 2 * centre - radius * before
        rho = radius / under
        move = state["move"] * (rho * before) - gradient * (2 / under)
    return state | {"weights": state["weights"] + move, "move": move, "rho": rho}
