"""Linear probes in closed form on rows that count unequally."""

from __future__ import annotations

import torch
from torch import Tensor


def weighted_probe(train: Tensor, labels: Tensor, weights: Tensor, ridge: float) -> Tensor:
    """Weights of a squared-loss probe with an intercept, the last entry; shape (P, D + 1).

    Args:
        train: features, shape (P, N, D).
        labels: ±1, shape (P, N).
        weights: of the rows, non-negative, zero for padding, shape (P, N).
        ridge: on all weights, relative to the mean diagonal entry of the weighted Gram matrix.
    """
    rows = with_ones(train) * weights.sqrt()[..., None]
    gram = rows.mT @ rows
    size = gram.diagonal(dim1=1, dim2=2).mean(dim=1).clamp_min(torch.finfo(gram.dtype).tiny)
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    moment = rows.mT @ (labels * weights.sqrt())[..., None]
    return torch.linalg.solve(gram + ridge * size[:, None, None] * eye, moment).squeeze(-1)


def with_ones(features: Tensor) -> Tensor:
    """A column of ones behind the features."""
    return torch.nn.functional.pad(features, (0, 1), value=1.0)
