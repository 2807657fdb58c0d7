"""The loop of every iterative attacker: check, record, step, and let go of who is done."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from immunization.attacks._objective import Attack, Objective, Plan

State = dict[str, Tensor]
"""What an attacker remembers; every tensor has M in front, and ``weights`` is among them."""
SWEEP = 10
"""Steps after which finished problems are dropped."""
STUCK = 1e-12
"""Excess loss at which nothing more is to be had: who is not done by then never will be."""


def iterate(
    objective: Objective,
    state: State,
    advance: Callable[[Objective, State, Tensor, int], State],
    plan: Plan,
) -> Attack:
    """Run attackers until each is done or the budget is spent.

    The loss is measured where the gradient is taken.

    Args:
        objective: the M problems.
        state: at step 0.
        advance: state of step t + 1 from the objective, the state, the gradient at its weights,
            and t.
        plan: budget, threshold and recorded steps.
    """
    weights = state["weights"]
    problems, attackers, width = weights.shape
    steps = torch.zeros(problems, attackers, dtype=torch.int64, device=weights.device)
    running = torch.arange(problems, device=weights.device)
    counted, pending = steps.clone(), torch.ones_like(steps, dtype=torch.bool)
    places = {step: place for place, step in enumerate(plan.record)}
    gaps = weights.new_zeros(problems, attackers, len(plan.record))
    distances = torch.full_like(gaps, torch.nan)
    kept = weights.new_zeros(*gaps.shape, width) if plan.keep else None
    last = plan.record[-1]
    for step in range(plan.budget + 1):
        weights = state["weights"]
        gap, gradient = objective.evaluate(weights)
        pending &= ~(gap <= plan.threshold)
        counted += pending
        if step in places:
            place = places[step]
            gaps[running, :, place] = gap
            distances[running, :, place] = objective.distance(weights)
            if kept is not None:
                kept[running, :, place] = weights
        if step % SWEEP == 0:
            excess = objective.excess(gap)
            lost = (excess <= STUCK) | ~torch.isfinite(gap) | objective.stationary(gradient)
            over = ~pending if step >= last else ~pending & (excess <= plan.settled)
            going = ~(over | lost).all(dim=1)
            if not bool(going.all()):
                leaving = running[~going]
                steps[leaving] = torch.where(pending, plan.budget + 1, counted)[~going]
                for late in range(len(plan.record)):
                    if plan.record[late] > step:
                        gaps[leaving, :, late] = gap[~going]
                        distances[leaving, :, late] = objective.distance(weights)[~going]
                        if kept is not None:
                            kept[leaving, :, late] = weights[~going]
                if not bool(going.any()):
                    break
                index = going.nonzero().squeeze(1)
                running, counted, pending = running[index], counted[index], pending[index]
                objective, gradient = objective.select(index), gradient[index]
                state = {name: value[index] for name, value in state.items()}
        if step < plan.budget:
            state = advance(objective, state, gradient, step)
    else:
        steps[running] = counted
    return Attack(steps, gaps, distances, kept)
