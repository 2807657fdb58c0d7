"""Gradient descent on the probe, with a multiple of step 1/L or with exact line search."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from immunization.linear.attacks._flops import passes
from immunization.linear.attacks._iterate import State, iterate
from immunization.linear.attacks._objective import Attack, AttackPlan, Objective
from immunization.linear.attacks._quadratic import Quadratic

EXTENDS = "_probe_parameters"
EIGENBASIS = True
GRID = ("factor",)
PARAMETERS = {
    "step": {
        "enum": ["inverse_l", "line_search"],
        "default": "inverse_l",
        "description": "inverse_l: `factor`/L with L = σ_1(H). line_search: the exact minimiser "
        "along the gradient, as in the paper's Fig. 1.",
    },
    "factor": {
        "type": "number",
        "exclusiveMinimum": 0,
        "exclusiveMaximum": 2,
        "default": 1,
        "description": "step as a multiple of 1/L; from 2 on it diverges.",
    },
}


def flops(rows: int, dimension: int, parameters: dict[str, Any]) -> tuple[float, float]:
    """Set-up and each step; 1/L comes from twenty power steps."""
    if parameters["step"] == "line_search":
        return 0.0, passes(rows, dimension, extra=6)
    return 20 * passes(rows, dimension), passes(rows, dimension, extra=2)


def attack(objective: Objective, parameters: dict[str, Any], plan: AttackPlan) -> Attack:
    """Run a grid of steps, or the line search, on M problems."""
    if parameters["step"] == "line_search":
        return iterate(objective, {"weights": objective.start(plan.attackers)}, _search, plan)
    if isinstance(objective, Quadratic):
        return _closed_form(objective, parameters["factor"], plan)
    length = parameters["factor"] / objective.smoothness

    def advance(_: Objective, state: State, gradient: Tensor, __: int) -> State:
        step_length = state["length"]
        return {"weights": state["weights"] - step_length * gradient, "length": step_length}

    start = objective.start(plan.attackers)
    return iterate(objective, {"weights": start, "length": length}, advance, plan)


def _search(objective: Objective, state: State, gradient: Tensor, _: int) -> State:
    length = objective.to_minimum(state["weights"], gradient, -gradient)
    return {"weights": state["weights"] - length * gradient}


def _closed_form(objective: Quadratic, factor: Tensor, plan: AttackPlan) -> Attack:
    """e_t = (1 − fσ²/σ_1²)^t e_0.

    The loss falls monotonically for f < 2, so the first step under the threshold is found by
    bisection over whole numbers.
    """
    start = objective.start(plan.attackers)
    shrink = 1 - factor * objective.eigenvalues
    # Powers of a negative base at whole numbers, by its size and the parity.
    size, negative = shrink.abs(), shrink < 0

    def errors(step: Tensor) -> Tensor:
        power = size.pow(step)
        return start * torch.where(negative & (step % 2 == 1), -power, power)

    low = start.new_full(start.shape[:2], -1)  # above the threshold, or before the start
    high = torch.full_like(low, plan.budget + 1)  # under it, or past the budget
    for _ in range((plan.budget + 2).bit_length()):
        open_ = high - low > 1
        middle = ((low + high) / 2).floor()
        under = objective.gap(errors(middle[..., None])) <= plan.threshold
        high = torch.where(open_ & under, middle, high)
        low = torch.where(open_ & ~under, middle, low)
    kept, gaps, distances = [], [], []
    for time in plan.record:
        errors_then = errors(torch.tensor(float(time), dtype=start.dtype, device=start.device))
        gaps.append(objective.gap(errors_then))
        distances.append(objective.distance(errors_then))
        if plan.keep:
            kept.append(errors_then)
    return Attack(
        high.to(torch.int64),
        torch.stack(gaps, dim=-1),
        torch.stack(distances, dim=-1),
        torch.stack(kept, dim=2) if plan.keep else None,
    )
