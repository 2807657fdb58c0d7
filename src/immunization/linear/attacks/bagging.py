"""The mean of linear probes on random parts of the rows (Breiman, 1996)."""

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
        "description": "loss that the probes are trained on.",
    },
    "probes": {
        "type": "integer",
        "minimum": 1,
        "default": 20,
        "description": "number of probes that are averaged, each scaled to unit scores.",
    },
    "share": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1,
        "default": 0.5,
        "description": "share of the rows that each probe is trained on.",
    },
    "ridge": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 1e-3,
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
    """Scores of the held-out rows, shape (P, n); arguments as for `kernel_ridge`.

    A problem's rows are drawn from its own generator.
    """
    total = torch.zeros_like(with_ones(train[:, 0]))
    for _ in range(parameters["probes"]):
        drawn = torch.stack([torch.rand(mask.shape[1], generator=g) for g in generators])
        order = drawn.to(train).masked_fill(~mask, torch.inf).argsort(dim=1).argsort(dim=1)
        count = (parameters["share"] * mask.sum(dim=1, keepdim=True)).floor().clamp_min(2)
        weights = ((order < count) & mask).to(train)
        probe = weighted_probe(train, labels, weights, parameters["ridge"])
        scores = (with_ones(train) @ probe[..., None]).squeeze(-1) * mask
        size = torch.linalg.vector_norm(scores, dim=1, keepdim=True)
        total = total + probe / size.clamp_min(torch.finfo(size.dtype).tiny)
    return (with_ones(test) @ total[..., None]).squeeze(-1)
