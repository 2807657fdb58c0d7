"""Conjugate gradients with exact line search; on logistic and softmax losses Polak–Ribière's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from immunization.linear.attacks._flops import passes
from immunization.linear.attacks._iterate import State, iterate
from immunization.linear.attacks._objective import Attack, AttackPlan, Objective, ratio_or_zero

EXTENDS = "_probe_parameters"
EIGENBASIS = True
GRID: tuple[str, ...] = ()
PARAMETERS: dict[str, Any] = {}


def flops(rows: int, dimension: int, parameters: dict[str, Any]) -> tuple[float, float]:
    """Set-up and each step: one product for the gradient, one for the line search."""
    return 0.0, passes(rows, dimension, extra=12)


def attack(objective: Objective, parameters: dict[str, Any], plan: AttackPlan) -> Attack:
    """Run on M problems."""
    start = objective.start(plan.attackers)
    none = torch.zeros_like(start)
    state = {"weights": start, "direction": none, "gradient": none}
    return iterate(objective, state, advance, plan)


def advance(objective: Objective, state: State, gradient: Tensor, step: int) -> State:
    """One step; restarts from the gradient where the direction would not descend."""
    old = state["gradient"]
    before = torch.linalg.vecdot(old, old)
    turn = ratio_or_zero(torch.linalg.vecdot(gradient, gradient - old), before).clamp_min(0)
    direction = state["direction"] * turn[..., None] - gradient
    uphill = (torch.linalg.vecdot(direction, gradient) >= 0)[..., None]
    direction = torch.where(uphill, -gradient, direction)
    length = objective.to_minimum(state["weights"], gradient, direction)
    return {
        "weights": state["weights"] + length * direction,
        "direction": direction,
        "gradient": gradient,
    }
