"""Nearest neighbours: a non-linear probe without training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from immunization.linear.attacks.kernel_ridge import squared_distances

EXTENDS = "_rows_and_repair_parameters"
PREDICTS = True
PARAMETERS = {
    "neighbours": {
        "type": "integer",
        "minimum": 1,
        "default": 5,
        "description": "number of neighbours that vote.",
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
    """Mean label of the nearest rows, shape (P, n); arguments as for `kernel_ridge`."""
    squares = squared_distances(test, train, mask).masked_fill(~mask[:, None], torch.inf)
    count = min(parameters["neighbours"], train.shape[1])
    nearest = squares.topk(count, dim=-1, largest=False).indices
    spread = labels[:, None].expand(-1, test.shape[1], -1)
    return spread.gather(2, nearest).mean(dim=-1)
