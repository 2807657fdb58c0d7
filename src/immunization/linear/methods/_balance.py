"""Gradient-norm balancing of λ, shared by the gradient methods."""

from __future__ import annotations

import torch
from torch import Tensor


def frobenius(matrices: Tensor) -> Tensor:
    """‖·‖_F of each matrix of a batch, shape (B, 1, 1)."""
    return torch.linalg.matrix_norm(matrices)[:, None, None]


def balanced_weight(given: float | None, gradient: Tensor, theta: Tensor) -> Tensor:
    """λ so that λ·gradient is as long as θ, or the λ that was given.

    The paper (Sec. 5) balances its terms by gradient norms and prints no numbers. Here every
    regularizer is given the norm of θ on the first step, which it moves by η‖θ‖ then; λ stays as
    it is from there on, and with it the objective.

    Args:
        given: λ from the config, or None to balance.
        gradient: the regularizer's gradient at the start, shape (B, D, D).
        theta: θ at the start, shape (B, D, D).

    Returns:
        λ for each pair, shape (B, 1, 1).
    """
    norm = frobenius(gradient)
    if given is not None:
        return torch.full_like(norm, given)
    # A gradient that is zero has nothing to balance.
    return torch.where(norm > 0, frobenius(theta) / norm, torch.zeros_like(norm))


def clipped(term: Tensor, theta: Tensor) -> Tensor:
    """A term of a step, shortened to ‖θ‖ where it is longer.

    With a fixed λ a term starts that long. Where it grows, as ∇log κ does like ‖θ⁻¹‖, η times
    it would overshoot and leave θ numerically singular.
    """
    return term * (frobenius(theta) / frobenius(term).clamp_min(1e-300)).clamp_max(1.0)
