"""Gradient-norm balancing of λ, shared by the gradient methods."""

from __future__ import annotations

import torch
from torch import Tensor

LAMBDA_SCHEMA_NOTE = "null: balanced on the first step, see the documentation"


def frobenius(matrices: Tensor) -> Tensor:
    """‖·‖_F of each matrix of a batch, shape (B, 1, 1)."""
    return torch.linalg.matrix_norm(matrices)[:, None, None]


def balanced(given: float | None, gradient: Tensor, reference: Tensor) -> Tensor:
    """λ so that λ·gradient is as long as the reference, or the λ that was given.

    The paper (Sec. 5) balances its terms by gradient norms and prints no numbers. Balancing is
    done once, on the first step, so that the objective stays the same from then on.

    Args:
        given: λ from the config, or None to balance.
        gradient: the regularizer's gradient at the start, shape (B, D, D).
        reference: gradient of the task loss at the start, or θ itself for a method without one:
            its first step then moves θ by η‖θ‖.

    Returns:
        λ for each pair, shape (B, 1, 1).
    """
    norm = frobenius(gradient)
    if given is not None:
        return torch.full_like(norm, given)
    tiny = torch.finfo(norm.dtype).tiny
    return frobenius(reference) / norm.clamp_min(tiny)
