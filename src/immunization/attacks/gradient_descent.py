"""Gradient descent on the probe, with step 1/L or with exact line search."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from immunization.attacks._quadratic import Attack, Plan, Quadratic, loss_gap

PARAMETERS = {
    "step": {
        "enum": ["inverse_l", "line_search"],
        "default": "inverse_l",
        "description": "inverse_l: 1/L with L = σ_1(H). line_search: the exact minimiser along "
        "the gradient, as in the paper's Fig. 1.",
    },
}


def attack(spectrum: Quadratic, parameters: dict[str, Any], plan: Plan) -> Attack:
    """Run one of the two on M problems."""
    if parameters["step"] == "line_search":
        return line_search(spectrum, plan)
    return inverse_l(spectrum, plan)


def inverse_l(spectrum: Quadratic, plan: Plan) -> Attack:
    """Step 1/L, in closed form: e_t = (1 − σ²/σ_1²)^t e_0.

    The loss gap falls monotonically, so the first step under the threshold is found by
    bisection over whole numbers.
    """
    scaled, start = spectrum.scaled(), spectrum.start()
    factor = 1 - scaled

    def gap(step: Tensor) -> Tensor:
        return loss_gap(scaled, start * factor.pow(step[:, None]), start)

    low = torch.full_like(scaled[:, 0], -1)  # above the threshold, or before the start
    high = torch.full_like(low, plan.budget + 1)  # under it, or past the budget
    while bool((high - low > 1).any()):
        middle = ((low + high) / 2).floor()
        under = gap(middle) <= plan.threshold
        low, high = torch.where(under, low, middle), torch.where(under, middle, high)
    times = torch.tensor(plan.record, dtype=scaled.dtype, device=scaled.device)
    errors = start[:, None, :] * factor[:, None, :].pow(times[None, :, None])
    return Attack(high.to(torch.int64), errors)


def line_search(spectrum: Quadratic, plan: Plan) -> Attack:
    """Exact line search: α = Σσ⁴e²/Σσ⁶e², e ← (1 − ασ²)e."""
    scaled, errors = spectrum.scaled(), spectrum.start().clone()
    start = errors.clone()
    count = len(errors)
    steps = torch.full((count,), plan.budget + 1, dtype=torch.int64, device=errors.device)
    first = (scaled * start.square()).sum(-1)
    record = set(plan.record)
    kept = []
    running = torch.arange(count, device=errors.device)
    last = max(plan.record)
    for step in range(plan.budget + 1):
        slope = scaled * errors
        reached = (slope * errors).sum(-1) <= plan.threshold * first[running]
        steps[running] = torch.where(
            reached & (steps[running] > step),
            torch.tensor(step, device=steps.device),
            steps[running],
        )
        if step in record:
            kept.append(errors.clone())
        if step >= last and step % 50 == 0:  # nothing more to record: drop who is done
            going = steps[running] > plan.budget
            if not bool(going.any()):
                break
            if not bool(going.all()):
                running, scaled = running[going], scaled[going]
                errors, slope = errors[going], slope[going]
        square = slope.square()
        curvature = (scaled * square).sum(-1, keepdim=True)
        length = square.sum(-1, keepdim=True) / curvature.clamp_min(1e-300)
        errors = errors - length * slope
    return Attack(steps, torch.stack(kept, dim=1))
