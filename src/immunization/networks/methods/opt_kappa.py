"""Gradient descent on the condition numbers themselves: λ_P·log κ(H_P) + λ_H/log κ(H_H)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from immunization.networks.methods._descent import Batch, benign_loss, descend, sgd
from immunization.networks.methods._problem import Problem
from immunization.networks.minibatch_spectra import eigenvalues

EXTENDS = "_descent"
PARAMETERS: dict[str, dict[str, Any]] = {
    "relative_step": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.00001,
        "description": "as for alg1. Gradients of log κ grow where an eigenvalue becomes small, "
        "so the first step is a third of alg1's.",
    },
}


def immunize(problem: Problem, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Descend on it, with κ over the non-zero spectrum of the minibatch."""

    ranks = problem.ranks  # of θ₀, so before a checkpoint is read

    def terms(batch: Batch) -> dict[str, Tensor]:
        logs = [
            eigenvalues(features, rank).log()
            for features, rank in zip((batch.features_p, batch.features_h), ranks, strict=True)
        ]
        return {
            "loss": benign_loss(batch),
            "benign": logs[0][-1] - logs[0][0],
            "harmful": 1 / (logs[1][-1] - logs[1][0]),
        }

    return descend(problem, parameters, terms, recipe=sgd(parameters))
