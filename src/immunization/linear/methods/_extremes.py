"""Extreme eigenpairs of the two probe Hessians along a trajectory of θ, warm-started."""

from __future__ import annotations

import torch
from torch import Tensor

from hessian_spectrum import ExtremeTracker
from immunization.linear.sufficient_statistics import TaskBatch


class LargestTracker:
    """Largest eigenpair of θᵀKθ from one step to the next."""

    def __init__(self, task: TaskBatch) -> None:
        self.gram = task.gram()
        self._track = ExtremeTracker("largest")

    def __call__(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """H (B, D, D), σ_1 (B,) and v_1 (B, D) at θ."""
        hessian = theta.mT @ (self.gram @ theta)
        pairs = self._track(hessian)
        return hessian, pairs.values, pairs.vectors


class SmallestTracker:
    """Smallest non-zero eigenpair of θᵀKθ, through the range factor: rank is never redecided."""

    def __init__(self, task: TaskBatch) -> None:
        self.factor = task.factor
        self.ranks = task.ranks
        index = torch.arange(task.factor.shape[-1], device=task.factor.device)
        self._padding = (index >= task.ranks[:, None]).to(task.factor.dtype)
        self._track = ExtremeTracker("smallest")

    def __call__(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fᵀθ (B, k, D), σ_k (B,) and v_k (B, D) at θ."""
        image = self.factor.mT @ theta
        compressed = image @ image.mT
        # Padded rows get the trace on the diagonal, out of the way of the smallest.
        trace = compressed.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)
        compressed = compressed + torch.diag_embed(self._padding * trace)
        pairs = self._track(compressed)
        vector = (image.mT @ pairs.vectors[..., None]).squeeze(-1)
        return image, pairs.values, vector / vector.norm(dim=-1, keepdim=True)
