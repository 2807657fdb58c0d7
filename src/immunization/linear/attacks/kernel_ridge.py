"""Kernel ridge regression with a Gaussian kernel: a non-linear probe in closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

EXTENDS = "_rows_and_repair_parameters"
PREDICTS = True
PARAMETERS = {
    "bandwidth": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.5,
        "description": "width of the kernel, as a multiple of the root mean squared distance "
        "between two rows.",
    },
    "ridge": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 1e-3,
        "description": "ridge added to the diagonal of the kernel matrix.",
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
    """Scores of the held-out rows, shape (P, n).

    Args:
        train: features, shape (P, N, D).
        labels: ±1, shape (P, N), 0 for padding.
        mask: rows that are data, shape (P, N).
        test: features, shape (P, n, D).
        parameters: of this family.
        generators: not needed here.
    """
    squares = squared_distances(train, train, mask)
    both = mask[:, :, None] & mask[:, None]
    count = mask.sum(dim=1).to(train).square()
    scale = (squares * both).sum((1, 2)) / count
    width = (parameters["bandwidth"] ** 2 * scale).clamp_min(torch.finfo(train.dtype).tiny)
    width = width[:, None, None]
    kernel = torch.exp(-squares / (2 * width)) * both
    kernel.diagonal(dim1=1, dim2=2).add_(parameters["ridge"])
    factor = torch.linalg.cholesky(kernel)
    dual = torch.cholesky_solve((labels * mask)[..., None], factor)
    across = torch.exp(-squared_distances(test, train, mask) / (2 * width))
    return (across @ dual).squeeze(-1)


def squared_distances(one: Tensor, two: Tensor, mask: Tensor) -> Tensor:
    """‖a − b‖² of all rows, shape (P, n, N).

    The median of each feature is taken off first: the square of an offset that rows share would
    leave distances no digits, and one row that is far away must not be what it is taken from.

    Args:
        one: shape (P, n, D).
        two: shape (P, N, D).
        mask: rows of ``two`` that are data, shape (P, N).
    """
    middle = two.masked_fill(~mask[..., None], torch.nan).nanmedian(dim=1, keepdim=True).values
    one, two = one - middle, two - middle
    a, b = one.square().sum(-1), two.square().sum(-1)
    return (a[:, :, None] + b[:, None] - 2 * one @ two.mT).clamp_min(0)
