"""Condition numbers of a probe Hessian as differentiable functions of the extractor.

Every function of `hessian_spectrum.condition` takes eigenvalues and can be differentiated through
``torch.linalg.eigvalsh``. That costs a full eigendecomposition, where κ needs two eigenpairs: by
Hellmann and Feynman dσ_i = v_iᵀ dH v_i. Where an extreme eigenvalue is tied, κ has no gradient,
only one-sided derivatives; what is returned then belongs to one of the tied eigenvectors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hessian_spectrum.condition import RELEASED_FLOOR
from hessian_spectrum.extreme_eigenpairs import largest_eigenpairs, smallest_eigenpairs


class Extremes(NamedTuple):
    """Both ends of the non-zero spectrum of H = AᵀA, with their vectors.

    Attributes:
        smallest: σ_k, shape (B,).
        largest: σ_1, shape (B,).
        low: v_k, shape (B, D), unit norm.
        high: v_1, likewise.
    """

    smallest: Tensor
    largest: Tensor
    low: Tensor
    high: Tensor


def probe_extremes(image: Tensor, ranks: Tensor | int) -> Extremes:
    """Extreme non-zero eigenpairs of H = AᵀA with A = Fᵀθ, for matrices of different rank at once.

    The k×k matrix AAᵀ has the non-zero spectrum of H and is positive definite, F being a range
    factor; its rank is given, never decided again.

    Args:
        image: A, shape (B, k, D), rows past a matrix's rank zero.
        ranks: shape (B,), or one number for all.

    Returns:
        Both pairs, by shift-invert iteration with a residual check and an exact fallback (see
        `hessian_spectrum.extreme_eigenpairs`).

    Raises:
        NotFiniteError: where A is not finite.
    """
    count, width, _ = image.shape
    rank = torch.as_tensor(ranks, device=image.device).expand(count)
    inside = torch.arange(width, device=image.device) < rank[:, None]
    compressed = image @ image.mT
    high = largest_eigenpairs(compressed)
    # Rows past the rank get the trace on the diagonal, out of the way of the smallest.
    trace = compressed.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)
    low = smallest_eigenpairs(compressed + torch.diag_embed(~inside * trace))

    def back(vectors: Tensor) -> Tensor:
        mapped = (image.mT @ vectors[..., None]).squeeze(-1)
        return mapped / mapped.norm(dim=-1, keepdim=True)

    return Extremes(low.values, high.values, back(low.vectors), back(high.vectors))


class _ExtremeEigenvalues(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, ranks: Tensor | int) -> tuple[Tensor, Tensor]:
        extremes = probe_extremes(image.detach(), ranks)
        ctx.save_for_backward(image, extremes.low, extremes.high)
        return extremes.smallest, extremes.largest

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        image, low, high = ctx.saved_tensors
        # dσ = 2 (Av)(dA v)ᵀ, so each end adds a matrix of rank one.
        columns = torch.stack([low, high], dim=-1)
        weights = 2 * torch.stack(grads, dim=-1).unsqueeze(-2)
        return (image @ columns * weights) @ columns.mT, None


def probe_extreme_eigenvalues(image: Tensor, ranks: Tensor | int) -> tuple[Tensor, Tensor]:
    """(σ_k, σ_1) of H = AᵀA, differentiable once with respect to A.

    >>> import torch
    >>> a = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))[None].requires_grad_()
    >>> smallest, largest = probe_extreme_eigenvalues(a, 3)
    >>> (largest / smallest).item()
    9.0
    >>> (largest / smallest).log().sum().backward()
    >>> [round(x, 6) for x in a.grad.diagonal(dim1=-2, dim2=-1)[0].tolist()]
    [0.666667, 0.0, -2.0]

    Args:
        image: A = Fᵀθ, shape (B, k, D).
        ranks: see `probe_extremes`.
    """
    pair: tuple[Tensor, Tensor] = _ExtremeEigenvalues.apply(image, ranks)
    return pair


def condition_gradient(extremes: Extremes) -> Tensor:
    """∇_H κ = v_1v_1ᵀ/σ_k − (σ_1/σ_k²)·v_kv_kᵀ of the non-zero κ, shape (B, D, D)."""
    return _combined(extremes, 1 / extremes.smallest, -extremes.largest / extremes.smallest**2)


def log_condition_gradient(extremes: Extremes) -> Tensor:
    """∇_H log κ = v_1v_1ᵀ/σ_1 − v_kv_kᵀ/σ_k of the non-zero κ, shape (B, D, D).

    With respect to θ it is 2Kθ times this.
    """
    return _combined(extremes, 1 / extremes.largest, -1 / extremes.smallest)


def ridge_condition_gradient(extremes: Extremes, ridge: float) -> Tensor:
    """∇_H of `ridge_condition`, (1 + ρ)σ_1/(σ_k + ρσ_1), shape (B, D, D)."""
    below = (extremes.smallest + ridge * extremes.largest).square()
    return _combined(
        extremes,
        (1 + ridge) * extremes.smallest / below,
        -(1 + ridge) * extremes.largest / below,
    )


def released_condition_gradient(extremes: Extremes, *, singular: bool) -> Tensor:
    """∇_H of `released_condition`, shape (B, D, D).

    Args:
        extremes: of H.
        singular: whether H is; its σ_min then is zero whatever H is, and only σ_1 moves the
            value: the released κ of a singular matrix is blind to its conditioning.
    """
    shifted = torch.zeros_like(extremes.smallest) if singular else extremes.smallest
    shifted = shifted + RELEASED_FLOOR
    top = extremes.largest + RELEASED_FLOOR
    pull = torch.zeros_like(top) if singular else -top / shifted.square()
    return _combined(extremes, 1 / shifted, pull)


def effective_rank_gradient(hessian: Tensor) -> Tensor:
    """∇_H of `effective_rank`, −V diag(s·(log π + h)) Vᵀ with shares π = σ/tr H and entropy h.

    It needs the whole spectrum. Where H is singular the entropy has an infinite slope towards
    its null space; the gradient returned is the one within its range.

    Args:
        hessian: shape (..., D, D), positive semi-definite.
    """
    values, vectors = torch.linalg.eigh(hessian)
    # Round-off of zero eigenvalues, as in `eigenvalue_tolerance`.
    floor = values.shape[-1] * torch.finfo(values.dtype).eps * values[..., -1:]
    positive = torch.where(values > floor, values, torch.zeros_like(values))
    trace = positive.sum(dim=-1, keepdim=True)
    share = positive / trace
    log_share = torch.where(share > 0, share, torch.ones_like(share)).log()
    entropy = -(share * log_share).sum(dim=-1, keepdim=True)
    slope = -torch.exp(entropy) * (log_share + entropy) / trace
    slope = torch.where(share > 0, slope, torch.zeros_like(slope))
    return (vectors * slope.unsqueeze(-2)) @ vectors.mT


def _combined(extremes: Extremes, on_high: Tensor, on_low: Tensor) -> Tensor:
    vectors = torch.stack([extremes.high, extremes.low], dim=-1)
    weights = torch.stack([on_high, on_low], dim=-1).unsqueeze(-2)
    return (vectors * weights) @ vectors.mT
