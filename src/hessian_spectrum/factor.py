"""Range factors: a feature matrix reduced to what its Gram matrix can see."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hessian_spectrum.rank import numerical_rank, relative_tolerance


@dataclass(frozen=True)
class RangeFactor:
    """The thin singular value decomposition X = U diag(s) Vᵀ, cut at the numerical rank.

    The Gram matrix is K = XᵀX = F Fᵀ with F = V diag(s), so the non-zero spectrum of a probe
    Hessian θᵀKθ is that of the positive definite k×k matrix (θᵀF)ᵀ(θᵀF), and its square roots
    are the singular values of Fᵀθ.

    Attributes:
        basis: V, shape (D, k), orthonormal columns spanning range(K).
        singular_values: s, shape (k,), descending, all above the tolerance.
        rank: k.
        tolerance: the relative tolerance on singular values at which k was decided.
        left: U, shape (N, k), projects targets into the same coordinates; None once stored.
    """

    basis: Tensor
    singular_values: Tensor
    rank: int
    tolerance: float
    left: Tensor | None = None

    @property
    def matrix(self) -> Tensor:
        """F = V diag(s), shape (D, k)."""
        return self.basis * self.singular_values


def range_factor(features: Tensor, *, tolerance: float | None = None) -> RangeFactor:
    """Factor a feature matrix and decide its rank.

    Works on the features themselves, never on XᵀX: squaring halves the digits, so a Gram matrix
    loses the small end of the spectrum from κ(X)² ≈ 1/eps on, where the factor keeps it.

    Args:
        features: X, shape (N, D), finite, floating or integer.
        tolerance: relative tolerance on singular values; default `relative_tolerance` of the
            shape and dtype of ``features`` (integers count as float64: they are exact).

    Returns:
        The factor in float64.

    Raises:
        ValueError: if ``features`` is not a matrix, or not finite, or zero.
    """
    if features.ndim != 2:
        raise ValueError(
            f"A feature matrix has two dimensions (N, D). Got {tuple(features.shape)}."
        )
    if tolerance is None:
        dtype = features.dtype if features.dtype.is_floating_point else torch.float64
        tolerance = relative_tolerance(features.shape[0], features.shape[1], dtype)
    features = features.to(torch.float64)
    if not torch.isfinite(features).all():
        row, column = (int(i) for i in (~torch.isfinite(features)).nonzero()[0])
        raise ValueError(f"Features must be finite. Row {row}, column {column} is not.")
    rows, columns = features.shape
    if rows > 2 * columns:
        # R has the singular values of X and is smaller: the SVD then costs D³ and not N D².
        q, r = torch.linalg.qr(features)
        inner, values, right = torch.linalg.svd(r, full_matrices=False)
        left = q @ inner
    else:
        left, values, right = torch.linalg.svd(features, full_matrices=False)
    rank = int(numerical_rank(values, tolerance))
    if rank == 0:
        raise ValueError("The feature matrix is zero; its Gram matrix has no non-zero spectrum.")
    return RangeFactor(
        basis=right[:rank].mT.contiguous(),
        singular_values=values[:rank].contiguous(),
        left=left[:, :rank].contiguous(),
        rank=rank,
        tolerance=tolerance,
    )
