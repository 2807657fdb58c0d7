"""Closed-form least squares, with or without a ridge: one solve at any condition number."""

from __future__ import annotations

from typing import Any

import torch

from immunization.linear.attacks._flops import solve
from immunization.linear.attacks._objective import Attack, AttackPlan, Objective
from immunization.linear.attacks._quadratic import Quadratic

EXTENDS = "_probe_parameters"
EIGENBASIS = True
GRID = ("ridge",)
PARAMETERS = {
    "loss": {
        "enum": ["squared"],
        "default": "squared",
        "description": "loss that the probe is trained on.",
    },
    "ridge": {
        "type": "number",
        "minimum": 0,
        "default": 0,
        "description": "ridge relative to σ_1(H).",
    },
}


def flops(rows: int, dimension: int, parameters: dict[str, Any]) -> tuple[float, float]:
    """Set-up and each step."""
    return 0.0, solve(rows, dimension)


def attack(objective: Objective, parameters: dict[str, Any], plan: AttackPlan) -> Attack:
    """At −w*·ρ/(σ² + ρ) from w* after one step; a large ridge may keep the loss too high."""
    assert isinstance(objective, Quadratic)
    start = -objective.coefficients.expand(-1, plan.attackers, -1)
    ridge = parameters["ridge"]
    values = objective.eigenvalues
    kept = torch.where(ridge > 0, ridge / (values + ridge).clamp_min(1e-300), 0.0)
    after = start * kept
    later = torch.tensor(plan.record, device=start.device) > 0
    errors = torch.where(later[:, None], after[:, :, None], start[:, :, None])
    zero, one = objective.gap(start), objective.gap(after)
    steps = torch.where(one <= plan.threshold, 1, plan.budget + 1)
    steps = torch.where(zero <= plan.threshold, 0, steps)
    return Attack(
        steps, objective.gap(errors), objective.distance(errors), errors if plan.keep else None
    )
