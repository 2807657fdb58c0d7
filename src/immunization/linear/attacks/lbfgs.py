"""L-BFGS with exact line search."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from immunization.linear.attacks._flops import passes
from immunization.linear.attacks._iterate import State, iterate
from immunization.linear.attacks._objective import Attack, AttackPlan, Objective

EXTENDS = "_probe_parameters"
EIGENBASIS = True
GRID: tuple[str, ...] = ()
PARAMETERS = {
    "memory": {
        "type": "integer",
        "minimum": 1,
        "default": 10,
        "description": "number of (step, gradient difference) pairs that are kept; 10 is scipy's "
        "default.",
    },
}


def flops(rows: int, dimension: int, parameters: dict[str, Any]) -> tuple[float, float]:
    """Set-up and each step: two products, and the two loops over the memory."""
    return 0.0, passes(rows, dimension, extra=6 + 8 * parameters["memory"])


def attack(objective: Objective, parameters: dict[str, Any], plan: AttackPlan) -> Attack:
    """With the compact form of the inverse Hessian (Byrd, Nocedal and Schnabel, 1994, Eq. 3.1).

    It gives what the two-loop recursion gives, in two products with the memory in place of forty.
    """
    start = objective.start(plan.attackers)
    shape, count = start.shape[:2], parameters["memory"]
    state = {
        "weights": start,
        "before": start,
        "gradient": torch.zeros_like(start),
        "pairs": start.new_zeros(*shape, 2, count, start.shape[2]),
        "sy": start.new_zeros(*shape, count, count),
        "yy": start.new_zeros(*shape, count, count),
        "clock": torch.zeros(len(start), dtype=torch.int64, device=start.device),
    }
    return iterate(objective, state, advance, plan)


def advance(objective: Objective, state: State, gradient: Tensor, _: int) -> State:
    """One step. Pairs without curvature stay zero and are passed over.

    ``pairs`` holds steps s and gradient differences y, scaled to sᵀy = 1, in a ring that is
    written in place, ``sy`` and ``yy`` their products in the same order.
    """
    weights, pairs, sy, yy = state["weights"], state["pairs"], state["sy"], state["yy"]
    count = pairs.shape[3]
    slot = state["clock"][:1] % count
    move, turn = weights - state["before"], gradient - state["gradient"]
    curvature = torch.linalg.vecdot(move, turn)
    curved = curvature > 0
    scale = torch.where(curved, torch.where(curved, curvature, 1.0).rsqrt(), 0.0)[..., None, None]
    new = torch.stack([move, turn], dim=2) * scale
    pairs.index_copy_(3, slot, new[:, :, :, None])

    flat = pairs.flatten(2, 3)
    products = flat @ torch.stack([gradient, new[:, :, 1]], dim=-1)
    along, column = products.unflatten(2, (2, count)).unbind(-1)  # of g and y, with every s and y
    sy.index_copy_(3, slot, column[:, :, 0, :, None])
    yy.index_copy_(3, slot, column[:, :, 1, :, None])
    yy.index_copy_(2, slot, column[:, :, 1, None])
    length = yy.index_select(3, slot).index_select(2, slot)[..., 0]
    gamma = torch.where(length > 0, 1 / torch.where(length > 0, length, 1.0), 1.0)

    ages = torch.arange(count, device=slot.device)
    order, back = (ages + slot + 1) % count, (ages - slot - 1) % count  # oldest first
    upper = sy.index_select(2, order).index_select(3, order).triu()
    diagonal = upper.diagonal(dim1=2, dim2=3)
    diagonal += (diagonal == 0).to(upper)
    p, q = along.index_select(3, order).unbind(2)
    u = torch.linalg.solve_triangular(upper, p[..., None], upper=True)
    v = (yy @ u.index_select(2, back)).index_select(2, order)
    mixed = u + gamma[..., None] * (v - q[..., None])
    a = torch.linalg.solve_triangular(upper.mT, mixed, upper=False)
    shares = torch.cat([a, -gamma[..., None] * u], dim=3).mT.index_select(3, back)
    direction = -gamma * gradient - (shares.flatten(2)[:, :, None] @ flat).squeeze(2)

    uphill = (torch.linalg.vecdot(direction, gradient) >= 0)[..., None]
    direction = torch.where(uphill, -gradient, direction)
    return {
        "weights": weights + objective.to_minimum(weights, gradient, direction) * direction,
        "before": weights,
        "gradient": gradient,
        "pairs": pairs,
        "sy": sy,
        "yy": yy,
        "clock": state["clock"] + 1,
    }
