"""Regularizers on features of a minibatch, and smooth extreme eigenvalues.

A minibatch of N samples in D dimensions has a Gram matrix with at most min(N, D) non-zero
eigenvalues. They are taken from the smaller of FᵀF and FFᵀ, which has no others, so no eigenvalue
is the floor of a singular matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

FLOAT64_FLOOR = 1e-14
"""Share of the largest eigenvalue under which a Gram matrix in float64 knows nothing."""


def gram(features: Tensor) -> Tensor:
    """The smaller of FᵀF and FFᵀ, float64.

    Args:
        features: F, shape (N, D).
    """
    wide = features.to(torch.float64)
    return wide.mT @ wide if wide.shape[0] >= wide.shape[1] else wide @ wide.mT


def eigenvalues(features: Tensor, rank: int) -> Tensor:
    """The non-zero eigenvalues of FᵀF, ascending. Gradients are V diag(g) Vᵀ, right also where
    eigenvalues coincide.

    Args:
        features: F, shape (N, D).
        rank: of the features of many samples, decided once; a minibatch has min(N, rank). (The
            features of a layer norm can lie in D − 1 dimensions.)
    """
    count = min(len(features), rank)
    return resolved(torch.linalg.eigvalsh(gram(features))[-count:])


def resolved(values: Tensor) -> Tensor:
    """Ascending eigenvalues; those that float64 cannot resolve are raised to `FLOAT64_FLOOR`."""
    return values.clamp_min(FLOAT64_FLOOR * float(values[-1].detach()))


def r_well(values: Tensor, dimension: int) -> Tensor:
    """½σ_1² − ‖S‖²/(2p), p = D (Nenov et al., 2024), from the non-zero eigenvalues."""
    return 0.5 * values[-1].square() - values.square().sum() / (2 * dimension)


def r_ill(values: Tensor) -> Tensor:
    """1/(‖S‖²/(2k) − ½σ_k²), k the rank (Zheng et al., 2025, Eq. 7)."""
    return 1 / (values.square().mean() / 2 - 0.5 * values[0].square())


def smooth_largest(values: Tensor, temperature: float) -> Tensor:
    """log σ_1, softened: τ·log Σ σ_i^{1/τ}, between log σ_1 and log σ_1 + τ·log k.

    Args:
        values: positive, shape (k,).
        temperature: τ; 0 gives the maximum itself.
    """
    logs = values.log()
    if temperature == 0:
        return logs.amax()
    return temperature * torch.logsumexp(logs / temperature, dim=-1)


def smooth_smallest(values: Tensor, temperature: float) -> Tensor:
    """log σ_k, softened: −τ·log Σ σ_i^{−1/τ}, between log σ_k − τ·log k and log σ_k.

    Its gradient is spread over the smallest eigenvalues, which change places from batch to batch.
    """
    logs = values.log()
    if temperature == 0:
        return logs.amin()
    return -temperature * torch.logsumexp(-logs / temperature, dim=-1)


def rank_of(moment: Tensor) -> int:
    """Rank of a second moment in float64; 0 where it is not finite."""
    if not bool(torch.isfinite(moment).all()):
        return 0
    values = torch.linalg.eigvalsh(moment)
    return int((values > FLOAT64_FLOOR * values[-1]).sum())


def running(before: Tensor, features: Tensor, decay: float) -> Tensor:
    """A running second moment of features, over many more samples than a batch holds.

    β·(the moment so far) + (1 − β)·(that of the batch). Gradients reach the batch as if it were
    the whole, which is right for a scale-free function up to a factor.

    Args:
        before: the moment so far, (D, D) float64.
        features: of the batch, (n, D).
        decay: β; N_eff ≈ n(1 + β)/(1 − β) samples for batches of n.

    Returns:
        The moment, (D, D) float64, with gradients to the features.
    """
    wide = features.to(torch.float64)
    moment = wide.mT @ wide / len(wide)
    return decay * before + (1 - decay) * moment.detach() + (moment - moment.detach())
