"""R_well and R_ill with their closed-form gradients (Zheng et al., ICML 2025, Eq. 8 to 11).

σ_1 ≥ … ≥ σ_k > 0 are the non-zero eigenvalues of a positive semi-definite S, k its rank and p
its size. Both take the extreme eigenpair as an argument: the caller knows how to get it cheaply.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _square_norm(s: Tensor) -> Tensor:
    return s.square().sum(dim=(-2, -1))


def _outer(vector: Tensor) -> Tensor:
    return vector.unsqueeze(-1) * vector.unsqueeze(-2)


def _column(value: Tensor) -> Tensor:
    return value[..., None, None]


def r_well(s: Tensor, largest: Tensor) -> Tensor:
    """½σ_1² − ‖S‖_F²/(2p); zero for a multiple of the identity, lower means better conditioned.

    Args:
        s: S, shape (..., p, p).
        largest: σ_1, shape (...).
    """
    return 0.5 * largest.square() - _square_norm(s) / (2 * s.shape[-1])


def r_well_gradient(s: Tensor, largest: Tensor, vector: Tensor) -> Tensor:
    """∇_S R_well = σ_1 v vᵀ − S/p, with (σ_1, v) the largest eigenpair; shape (..., p, p)."""
    return _column(largest) * _outer(vector) - s / s.shape[-1]


def r_ill(s: Tensor, smallest: Tensor, rank: Tensor | int) -> Tensor:
    """1/(‖S‖_F²/(2k) − ½σ_k²); lower means worse conditioned, infinite for a flat spectrum.

    Args:
        s: S, shape (..., p, p), or its k×k compression, whose Frobenius norm is the same.
        smallest: σ_k, shape (...).
        rank: k, shape (...) or one number.
    """
    return 1 / _ill_gap(s, smallest, rank)


def _ill_gap(s: Tensor, smallest: Tensor, rank: Tensor | int) -> Tensor:
    return _square_norm(s) / (2 * torch.as_tensor(rank, device=s.device)) - 0.5 * smallest.square()


def r_ill_gradient(s: Tensor, smallest: Tensor, vector: Tensor, rank: Tensor | int) -> Tensor:
    """∇_S R_ill = (σ_k v vᵀ − S/k)/(‖S‖_F²/(2k) − ½σ_k²)², with (σ_k, v) the smallest pair."""
    gap = _ill_gap(s, smallest, rank)
    k = torch.as_tensor(rank, device=s.device).expand(gap.shape)
    return (_column(smallest) * _outer(vector) - s / _column(k)) / _column(gap.square())
