"""No immunization, θ = I: the reference of every ratio."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from immunization.linear.tasks import Problem

PARAMETERS: dict[str, Any] = {}


def depends_on_seed(parameters: dict[str, Any]) -> bool:
    """Whether θ depends on the seed beyond the tasks."""
    return False


def immunize(problem: Problem, parameters: dict[str, Any]) -> Tensor:
    """θ = I for every pair, shape (B, D, D)."""
    return problem.identity()
