"""A small network: one hidden layer of ReLU units, trained with Adam on the logistic loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

EXTENDS = "_rows_and_repair_parameters"
PREDICTS = True
PARAMETERS = {
    "width": {
        "type": "integer",
        "minimum": 1,
        "default": 64,
        "description": "number of hidden units.",
    },
    "steps": {
        "type": "integer",
        "minimum": 1,
        "default": 200,
        "description": "number of full-batch steps of Adam.",
    },
    "learning_rate": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.01,
        "description": "learning rate of Adam, with a cosine schedule.",
    },
    "weight_decay": {
        "type": "number",
        "minimum": 0,
        "default": 0.01,
        "description": "decoupled weight decay.",
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

    Features are brought to a mean square of 1 first, as a whole. Float32: this is a network.
    """
    kept = mask[..., None].to(train)
    size = (train * kept).square().sum((1, 2)) / (mask.sum(1) * train.shape[-1])
    scale = size.clamp_min(torch.finfo(train.dtype).tiny).sqrt()[:, None, None]
    inside, outside = (train * kept / scale).float(), (test / scale).float()
    wanted, share = labels.float(), (mask / mask.sum(1, keepdim=True)).float()
    dimension, width = train.shape[-1], parameters["width"]
    drawn = [
        [torch.randn(dimension, width, generator=g), torch.randn(width, 1, generator=g)]
        for g in generators
    ]
    weights = [
        torch.stack([draw[0] for draw in drawn]).to(inside) * (2 / dimension) ** 0.5,
        inside.new_zeros(len(train), 1, width),
        torch.stack([draw[1] for draw in drawn]).to(inside) * width**-0.5,
        inside.new_zeros(len(train), 1, 1),
    ]
    weights = [w.requires_grad_() for w in weights]
    optimiser = torch.optim.AdamW(
        weights, lr=parameters["learning_rate"], weight_decay=parameters["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, parameters["steps"])

    def score(rows: Tensor) -> Tensor:
        hidden = torch.relu(torch.baddbmm(weights[1], rows, weights[0]))
        return torch.baddbmm(weights[3], hidden, weights[2]).squeeze(-1)

    for _ in range(parameters["steps"]):
        optimiser.zero_grad(set_to_none=True)
        # A sum over problems: each has its own gradient, as if alone.
        (-logsigmoid(wanted * score(inside)) * share).sum().backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return score(outside).to(train)
