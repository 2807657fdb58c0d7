"""L-BFGS with exact line search."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from immunization.attacks._flops import passes
from immunization.attacks._iterate import SWEEP, State, iterate
from immunization.attacks._objective import Attack, Objective, Plan, ratio_or_zero

EXTENDS = "_probe"
EIGENBASIS = True
GRID: tuple[str, ...] = ()
PARAMETERS = {
    "memory": {
        "type": "integer",
        "minimum": 1,
        "default": 10,
        "description": "pairs of steps and gradient differences that are kept; 10 as in scipy.",
    },
}


def flops(rows: int, dimension: int, parameters: dict[str, Any]) -> tuple[float, float]:
    """Set-up and each step: two products, and the two loops over the memory."""
    return 0.0, passes(rows, dimension, extra=6 + 8 * parameters["memory"])


def attack(objective: Objective, parameters: dict[str, Any], plan: Plan) -> Attack:
    """Two-loop recursion (Nocedal and Wright, *Numerical Optimization*, Alg. 7.4)."""
    start = objective.start(plan.attackers)
    memory = start.new_zeros(*start.shape[:2], parameters["memory"], start.shape[2])
    state = {
        "weights": start,
        "before": start,
        "gradient": torch.zeros_like(start),
        "moves": memory,
        "turns": memory,
    }
    return iterate(objective, state, advance, plan)


def advance(objective: Objective, state: State, gradient: Tensor, step: int) -> State:
    """One step. Pairs without curvature stay zero and are passed over."""
    weights, moves, turns = state["weights"], state["moves"], state["turns"]
    if step > 0:
        move, turn = weights - state["before"], gradient - state["gradient"]
        curved = (torch.linalg.vecdot(move, turn) > 0)[..., None]
        move, turn = torch.where(curved, move, 0.0), torch.where(curved, turn, 0.0)
        moves = torch.cat([moves[:, :, 1:], move[:, :, None]], dim=2)
        turns = torch.cat([turns[:, :, 1:], turn[:, :, None]], dim=2)
    direction = -gradient
    if step > 0:
        inverse = ratio_or_zero(
            torch.ones_like(moves[..., 0]), torch.linalg.vecdot(moves, turns)
        )  # fmt: skip
        held = moves.shape[2] if step >= SWEEP else min(step, moves.shape[2])
        known = range(moves.shape[2] - held, moves.shape[2])
        shares = {}
        for i in reversed(known):
            share = inverse[:, :, i] * torch.linalg.vecdot(moves[:, :, i], direction)
            direction = direction - share[..., None] * turns[:, :, i]
            shares[i] = share
        newest = turns[:, :, -1]
        scale = ratio_or_zero(
            torch.linalg.vecdot(moves[:, :, -1], newest), torch.linalg.vecdot(newest, newest)
        )[..., None]
        direction = direction * torch.where(scale > 0, scale, 1.0)
        for i in known:
            share = inverse[:, :, i] * torch.linalg.vecdot(turns[:, :, i], direction)
            direction = direction + (shares[i] - share)[..., None] * moves[:, :, i]
        uphill = (torch.linalg.vecdot(direction, gradient) >= 0)[..., None]
        direction = torch.where(uphill, -gradient, direction)
    length = objective.to_minimum(weights, gradient, direction)
    return {
        "weights": weights + length * direction,
        "before": weights,
        "gradient": gradient,
        "moves": moves,
        "turns": turns,
    }
