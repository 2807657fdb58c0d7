"""Least squares on all rows but the largest: a probe need not weigh all rows equally.

Erasure in closed form takes the label's linear trace out of the average over all rows alike.
Among those near the mean a trace is left.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from immunization.linear.attacks._weighted import weighted_probe, with_ones

EXTENDS = "_rows_and_repair_parameters"
PREDICTS = True
PARAMETERS = {
    "loss": {
        "enum": ["squared"],
        "default": "squared",
        "description": "loss that the probe is trained on.",
    },
    "drop": {
        "type": "number",
        "exclusiveMinimum": 0,
        "exclusiveMaximum": 1,
        "default": 0.3,
        "description": "share of the rows, those furthest from the mean, that get weight zero.",
    },
    "ridge": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 1e-6,
        "description": "ridge, relative to the mean diagonal entry of the Gram matrix.",
    },
}


def predict(
    train: Tensor,
    labels: Tensor,
    mask: Tensor,
    test: Tensor,
    parameters: dict[str, Any],
    generators: list[torch.Generator],
) -> Tensor:
    """Scores of the held-out rows, shape (P, n); arguments as for `kernel_ridge`."""
    mean = (train * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    sizes = (train - mean[:, None]).square().sum(-1).masked_fill(~mask, torch.nan)
    limit = sizes.nanquantile(1 - parameters["drop"], dim=1, keepdim=True)
    weights = ((sizes <= limit) & mask).to(train)
    probe = weighted_probe(train, labels, weights, parameters["ridge"])
    return (with_ones(test) @ probe[..., None]).squeeze(-1)
