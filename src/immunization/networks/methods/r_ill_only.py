"""Gradient descent on R_ill of the harmful features alone."""

from __future__ import annotations

from typing import Any

from immunization.networks.methods._descent import descend, sgd
from immunization.networks.methods._problem import Problem
from immunization.networks.minibatch_spectra import eigenvalues, r_ill

EXTENDS = "_descent"
PARAMETERS: dict[str, dict[str, Any]] = {
    "eta": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.0001,
        "description": "no effect: there is no benign loss, and the step follows from "
        "`relative_step`.",
    },
}


def immunize(problem: Problem, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Descend on R_ill(H_H)."""
    rank = problem.ranks[1]  # of θ₀, so before a checkpoint is read
    return descend(
        problem,
        parameters,
        lambda batch: {"harmful": r_ill(eigenvalues(batch.features_h, rank))},
        recipe=sgd(parameters),
    )
