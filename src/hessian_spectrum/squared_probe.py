"""The spectrum of a squared-loss probe on a linear extractor, with the labels in its basis."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hessian_spectrum.kernels.svd import robust_svd

ROUND_OFF = 1e-11
"""Singular values under this share of the largest are round-off: what a direction that was taken
out on purpose leaves behind in float64. κ(H) = 1e14, where methods stop stretching, is at 1e-7."""


class ProbeSpectrum(NamedTuple):
    """Eigenpairs of H = θᵀKθ and the best probe in them, for a batch of B tasks.

    Padded entries (past a task's rank) are zero and come first, as the order is ascending.

    Attributes:
        eigenvalues: σ², shape (B, k), ascending.
        coefficients: of the minimum-norm best probe w* in the eigenbasis, shape (B, k).
        vectors: eigenvectors, shape (B, D, k), in the order of the eigenvalues.
        explained: shape (B,), the part of ‖y‖² that the best probe explains.
        resolved: shape (B,), how many eigenvalues stand above round-off in float64; less than
            the rank where θ is numerically singular on the data's range.
    """

    eigenvalues: Tensor
    coefficients: Tensor
    vectors: Tensor
    explained: Tensor
    resolved: Tensor


def probe_spectrum(factor: Tensor, targets: Tensor, ranks: Tensor, theta: Tensor) -> ProbeSpectrum:
    """Decompose Fᵀθ = U diag(σ) Vᵀ: H = V diag(σ²) Vᵀ and w* = V diag(1/σ) Uᵀ z.

    The singular values of Fᵀθ, and not the eigenvalues of θᵀFFᵀθ, so that κ(H) keeps its digits
    up to 1/eps² instead of 1/eps.

    Args:
        factor: F, shape (B, D, k), columns past a task's rank zero.
        targets: z = Uᵀy in the coordinates of the factor, shape (B, k), zero past the rank.
        ranks: shape (B,), integer.
        theta: θ, shape (B, D, D').

    Returns:
        The spectrum. The loss of a probe with eigenbasis coefficients v is
        ½(‖y‖² − explained + Σσ²(v − coefficients)²) / N.
    """
    image = factor.mT @ theta
    left, values, right = robust_svd(image)
    index = torch.arange(values.shape[-1], device=values.device)
    kept = index < ranks[:, None]
    cutoff = max(image.shape[-2:]) * torch.finfo(values.dtype).eps * values[:, :1]
    aligned = (left.mT @ targets[..., None]).squeeze(-1) * kept
    seen = kept & (values > cutoff)
    values = values * kept
    safe = torch.where(values > 0, values, torch.ones_like(values))
    coefficients = torch.where(values > 0, aligned / safe, torch.zeros_like(values))
    return ProbeSpectrum(
        eigenvalues=values.square().flip(-1),
        coefficients=coefficients.flip(-1),
        vectors=right.mT.flip(-1),
        explained=(aligned * seen).square().sum(-1),
        resolved=seen.sum(-1),
    )


def resolved_only(spectrum: ProbeSpectrum) -> ProbeSpectrum:
    """Without the directions that are `ROUND_OFF`, and ``resolved`` the number of those left.

    For extractors that are singular on purpose, whose rank is less than that of the data.
    """
    values = spectrum.eigenvalues
    seen = values > ROUND_OFF**2 * values[:, -1:]
    return spectrum._replace(
        eigenvalues=values * seen,
        coefficients=spectrum.coefficients * seen,
        resolved=seen.sum(-1),
    )
