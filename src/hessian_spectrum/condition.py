"""Condition numbers of positive semi-definite matrices, each with its behaviour under scaling.

=====================  =================================================================
definition             under H → c·H (features scaled by √c)
=====================  =================================================================
`condition_number`     unchanged: σ_max over the smallest non-zero eigenvalue
`ridge_condition`      unchanged: the ridge is relative to σ_max
`released_condition`   grows like c on a singular matrix, because it divides by a floor
`effective_rank`       unchanged
=====================  =================================================================
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

RELEASED_FLOOR = 1e-6
"""Shift and cut-off of the released code, both absolute numbers."""


def extreme_eigenvalues(eigenvalues: Tensor, rank: Tensor | int) -> tuple[Tensor, Tensor]:
    """Smallest non-zero and largest eigenvalue, the rank being given.

    Args:
        eigenvalues: shape (..., m), ascending, of which the last ``rank`` are non-zero.
        rank: shape (...), or one number for all; between 1 and m.

    Returns:
        (σ_k, σ_1), each of shape (...).
    """
    size = eigenvalues.shape[-1]
    rank = torch.as_tensor(rank, device=eigenvalues.device).expand(eigenvalues.shape[:-1])
    if bool((rank < 1).any()) or bool((rank > size).any()):
        raise ValueError(f"Ranks must lie in 1..{size}. Got {rank.unique().tolist()}.")
    smallest = eigenvalues.gather(-1, (size - rank).unsqueeze(-1)).squeeze(-1)
    return smallest, eigenvalues[..., -1]


def condition_number(eigenvalues: Tensor, rank: Tensor | int) -> Tensor:
    """κ over the non-zero spectrum, σ_1 / σ_k (pseudo-inverse definition).

    Source: Zheng et al., ICML 2025, Sec. 3; rank decided beforehand, see `hessian_spectrum.rank`.

    >>> import torch
    >>> condition_number(torch.tensor([0.0, 0.0, 2.0, 8.0]), rank=2).item()
    4.0

    Args:
        eigenvalues: shape (..., m), ascending.
        rank: number k of non-zero eigenvalues, shape (...) or one number.

    Returns:
        Shape (...), ≥ 1; infinite where σ_k ≤ 0, that is where the given rank is not there.
    """
    smallest, largest = extreme_eigenvalues(eigenvalues, rank)
    there = smallest > 0
    return torch.where(there, largest / torch.where(there, smallest, largest), torch.inf)


def ridge_condition(eigenvalues: Tensor, rank: Tensor | int, ridge: float) -> Tensor:
    """(σ_1 + ρσ_1)/(σ_k + ρσ_1): what a ridge-regularised probe sees on the data's range.

    Over the whole space a singular H has κ = (1 + ρ)/ρ whatever its spectrum; a probe that
    starts at zero never leaves the range, so the range is what counts.

    Args:
        eigenvalues: shape (..., m), ascending.
        rank: number k of non-zero eigenvalues, shape (...) or one number.
        ridge: ρ, relative to σ_1, so that κ does not change when features are scaled.

    Returns:
        Shape (...), between 1 and (1 + ρ)/ρ.
    """
    if not ridge > 0:
        raise ValueError(f"A ridge is positive. Got {ridge}.")
    smallest, largest = extreme_eigenvalues(eigenvalues, rank)
    return largest * (1 + ridge) / (smallest.clamp(min=0) + ridge * largest)


class ReleasedCondition(NamedTuple):
    """κ as the paper's released code defines it, and whether it is only the floor.

    Attributes:
        value: σ_max/σ_min after both were shifted by 1e-6.
        floored: True where σ_min before the shift is under 1e-6, so that the value is set by the
            floor; on a singular matrix it is σ_max/1e-6.
    """

    value: Tensor
    floored: Tensor


def released_condition(eigenvalues: Tensor, dimension: int) -> ReleasedCondition:
    """κ of H + 1e-6·I over eigenvalues strictly above 1e-6, for comparison only.

    On a singular H the smallest such eigenvalue is 1e-6 plus round-off. This function uses the
    exact value 1e-6 there and says so; the released code gets the same up to its round-off.

    >>> import torch
    >>> value, floored = released_condition(torch.tensor([2.0, 8.0]), dimension=4)
    >>> f"{value:.3g}", bool(floored)
    ('8e+06', True)

    Args:
        eigenvalues: shape (..., m), ascending, not scaled; eigenvalues beyond these m are zero.
        dimension: D, the size of H.

    Returns:
        Value and flag, each of shape (...).
    """
    shifted_largest = eigenvalues[..., -1] + RELEASED_FLOOR
    if eigenvalues.shape[-1] < dimension:
        smallest = torch.zeros_like(eigenvalues[..., 0])
    else:
        smallest = eigenvalues[..., 0].clamp(min=0)
    # Below the floor the value describes the floor more than the matrix.
    floored = smallest < RELEASED_FLOOR
    return ReleasedCondition(shifted_largest / (smallest + RELEASED_FLOOR), floored)


def effective_rank(eigenvalues: Tensor) -> Tensor:
    """exp of the entropy of the normalised spectrum (Roy and Vetterli, 2007), between 1 and rank.

    Args:
        eigenvalues: shape (..., m), non-negative up to round-off, any order.
    """
    positive = eigenvalues.clamp(min=0)
    # Beside the largest first: a sum of large ones would overflow.
    positive = positive / positive.detach().amax(dim=-1, keepdim=True)
    share = positive / positive.sum(dim=-1, keepdim=True)
    # At zero −x·log x is 0 with an infinite slope, which would turn gradients into NaN.
    used = torch.where(share > 0, share, torch.ones_like(share))
    return torch.exp(-(used * used.log()).sum(dim=-1))


def log_pseudo_determinant(eigenvalues: Tensor, rank: Tensor | int) -> Tensor:
    """Sum of log σ over the non-zero spectrum; under H → c·H it grows by rank·log c.

    Args:
        eigenvalues: shape (..., m), ascending.
        rank: number k of non-zero eigenvalues, shape (...) or one number.

    Returns:
        Shape (...).
    """
    size = eigenvalues.shape[-1]
    rank = torch.as_tensor(rank, device=eigenvalues.device).expand(eigenvalues.shape[:-1])
    kept = torch.arange(size, device=eigenvalues.device) >= size - rank.unsqueeze(-1)
    return torch.where(kept, eigenvalues, torch.ones_like(eigenvalues)).log().sum(dim=-1)
