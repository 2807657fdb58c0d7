"""Linear probes in closed form on rows that count unequally."""

from __future__ import annotations

import torch
from torch import Tensor


def weighted_probe(train: Tensor, labels: Tensor, weights: Tensor, ridge: float) -> Tensor:
    """Weights of a squared-loss probe and its intercept, the last entry; shape (P, D + 1).

    The intercept is not penalised, so an offset of the features changes no score.

    Args:
        train: features, shape (P, N, D).
        labels: ±1, shape (P, N).
        weights: of the rows, non-negative, zero for padding, shape (P, N).
        ridge: on the weights, relative to the mean diagonal entry of the weighted Gram matrix of
            features less their weighted mean.
    """
    shares = weights / weights.sum(dim=1, keepdim=True)
    mean = (shares[:, None] @ train).squeeze(1)
    level = (shares * labels).sum(dim=1)
    root = weights.sqrt()[..., None]
    rows = (train - mean[:, None]) * root
    gram = rows.mT @ rows
    size = gram.diagonal(dim1=1, dim2=2).mean(dim=1)
    size = torch.where(size > 0, size, 1.0)  # features that do not vary
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    moment = rows.mT @ ((labels - level[:, None])[..., None] * root)
    probe = torch.linalg.solve(gram + ridge * size[:, None, None] * eye, moment).squeeze(-1)
    intercept = level - (mean * probe).sum(dim=1)
    return torch.cat([probe, intercept[:, None]], dim=1)


def with_ones(features: Tensor) -> Tensor:
    """A column of ones behind the features."""
    return torch.nn.functional.pad(features, (0, 1), value=1.0)
