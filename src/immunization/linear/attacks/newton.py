"""Newton's method with exact line search; on a logistic loss also known as IRLS."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from immunization.linear.attacks._flops import solve
from immunization.linear.attacks._iterate import State, iterate
from immunization.linear.attacks._objective import Attack, AttackPlan, Objective

EXTENDS = "_probe_parameters"
EIGENBASIS = True
GRID: tuple[str, ...] = ()
PARAMETERS: dict[str, Any] = {}


def flops(rows: int, dimension: int, parameters: dict[str, Any]) -> tuple[float, float]:
    """Set-up and each step: the Hessian, and a solve with it."""
    return 0.0, solve(rows, dimension)


def attack(objective: Objective, parameters: dict[str, Any], plan: AttackPlan) -> Attack:
    """One step on a squared loss, a few on others."""
    state = {"weights": objective.start(plan.attackers)}
    return iterate(objective, state, advance, plan, slow_steps=True)


def advance(objective: Objective, state: State, gradient: Tensor, _: int) -> State:
    """One step."""
    direction = objective.newton(state["weights"], gradient)
    length = objective.to_minimum(state["weights"], gradient, direction)
    return {"weights": state["weights"] + length * direction}
