"""Adam, with schedules and warm-up; with weight decay AdamW."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from immunization.linear.attacks._flops import passes
from immunization.linear.attacks._iterate import State, iterate
from immunization.linear.attacks._objective import Attack, AttackPlan, Objective

EXTENDS = "_probe_parameters"
EIGENBASIS = False
GRID = ("learning_rate", "weight_decay", "warm_up")
PARAMETERS = {
    "learning_rate": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.01,
        "description": "learning rate; at first Adam moves every weight by about this much.",
    },
    "weight_decay": {
        "type": "number",
        "minimum": 0,
        "default": 0,
        "description": "decoupled weight decay; above 0 this is AdamW (PyTorch's default is 0.01).",
    },
    "schedule": {
        "enum": ["constant", "cosine", "linear"],
        "default": "constant",
        "description": "schedule of the learning rate; cosine falls to 0 at the budget.",
    },
    "warm_up": {
        "type": "integer",
        "minimum": 0,
        "default": 0,
        "description": "number of steps over which the learning rate rises from 0.",
    },
}
BETAS = (0.9, 0.999)
EPS = 1e-8
"""As in PyTorch, like the betas."""


def flops(rows: int, dimension: int, parameters: dict[str, Any]) -> tuple[float, float]:
    """Set-up and each step."""
    return 0.0, passes(rows, dimension, extra=14)


def decay(schedule: str, clock: Tensor, budget: int) -> Tensor:
    """Share of the learning rate at a step."""
    if schedule == "cosine":
        return 0.5 * (1 + (torch.pi * clock / budget).cos())
    return 1 - clock / budget if schedule == "linear" else torch.ones_like(clock)


def attack(objective: Objective, parameters: dict[str, Any], plan: AttackPlan) -> Attack:
    """Run a grid on M problems, in the axes of the features."""
    start = objective.start(plan.attackers)
    rate, shrink, warm = (parameters[name] for name in GRID)
    ramp = warm.clamp_min(1)

    def advance(_: Objective, state: State, gradient: Tensor, __: int) -> State:
        clock, after = state["clock"], state["clock"] + 1
        first = torch.lerp(state["first"], gradient, 1 - BETAS[0])
        second = torch.lerp(state["second"], gradient.square(), 1 - BETAS[1])
        share = decay(parameters["schedule"], clock, plan.budget)
        length = rate * (after / ramp).clamp_max(1) * share
        under = (second / (1 - BETAS[1] ** after)).sqrt_().add_(EPS)
        weights = state["weights"] * (1 - length * shrink)
        weights -= length / (1 - BETAS[0] ** after) * first / under
        return {"weights": weights, "first": first, "second": second, "clock": after}

    zero = torch.zeros_like(start)
    state = {"weights": start, "first": zero, "second": zero, "clock": zero[:, :1, :1]}
    return iterate(objective, state, advance, plan)
