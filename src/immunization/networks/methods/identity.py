"""No immunization: the pre-trained weights θ₀, the reference of every ratio."""

from __future__ import annotations

from typing import Any

from immunization.networks.methods._problem import Problem

PARAMETERS: dict[str, dict[str, Any]] = {}


def immunize(problem: Problem, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Changes nothing."""
    return []
