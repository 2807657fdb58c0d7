"""Attackers that take one step and are done."""

from __future__ import annotations

import torch
from torch import Tensor

from immunization.linear.attacks._objective import Attack, AttackPlan, Objective


def after_one_step(objective: Objective, weights: Tensor, plan: AttackPlan) -> Attack:
    """The start at step 0, and these weights from step 1 on.

    Args:
        objective: the loss.
        weights: shape (M, G, k).
        plan: what to record.
    """
    start = objective.start(plan.attackers)
    zero, one = objective.evaluate(start)[0], objective.evaluate(weights)[0]
    steps = torch.where(one <= plan.threshold, 1, plan.budget + 1)
    steps = torch.where(zero <= plan.threshold, 0, steps)
    later = torch.tensor(plan.record, device=start.device) > 0

    def recorded(before: Tensor, after: Tensor) -> Tensor:
        return torch.where(later, after[..., None], before[..., None])

    kept = None
    if plan.keep:
        kept = torch.where(later[:, None], weights[:, :, None], start[:, :, None])
    distances = recorded(objective.distance(start), objective.distance(weights))
    return Attack(steps, recorded(zero, one), distances, kept)
