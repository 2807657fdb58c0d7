"""Range factors: a feature matrix reduced to what its Gram matrix can see."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hessian_spectrum.rank import (
    data_dtype,
    eigenvalue_tolerance,
    numerical_rank,
    relative_tolerance,
)


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


def range_factor(
    features: Tensor,
    *,
    tolerance: float | None = None,
    offset: float = 1.0,
    dtype: torch.dtype | None = None,
) -> RangeFactor:
    """Factor a feature matrix and decide its rank.

    Works on the features themselves, never on XᵀX: squaring halves the digits, so a Gram matrix
    loses the small end of the spectrum from κ(X)² ≈ 1/eps on, where the factor keeps it.

    Args:
        features: X, shape (N, D), finite, floating or integer.
        tolerance: relative tolerance on singular values; default `relative_tolerance` of the
            shape and dtype of ``features`` (integers count as float64: they are exact).
        offset: as in `relative_tolerance`, for features whose mean was taken off before they came.
        dtype: of the data before any upcast, for the default tolerance; default that of
            ``features``.

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
        rows, columns = features.shape
        tolerance = relative_tolerance(rows, columns, dtype or data_dtype(features), offset=offset)
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
    factor = _cut(values, right.mT, tolerance)
    return replace(factor, left=left[:, : factor.rank].contiguous())


def factor_of_triangle(
    triangle: Tensor,
    *,
    rows: int,
    dtype: torch.dtype,
    offset: float = 1.0,
    tolerance: float | None = None,
) -> RangeFactor:
    """Range factor of a data set of which only R is left, K = RᵀR (see `TriangularFactor`).

    Args:
        triangle: R, shape (·, D).
        rows: N, for the default tolerance.
        dtype: of the data before any upcast, likewise.
        offset: likewise, where a mean was taken off.
        tolerance: relative tolerance on singular values; default `relative_tolerance`.

    Raises:
        ValueError: for a zero matrix.
    """
    if tolerance is None:
        tolerance = relative_tolerance(rows, triangle.shape[1], dtype, offset=offset)
    _, values, right = torch.linalg.svd(triangle.to(torch.float64), full_matrices=False)
    return _cut(values, right.mT, tolerance)


def factor_of_gram(
    gram: Tensor,
    *,
    dtype: torch.dtype | None = None,
    offset: float = 1.0,
    tolerance: float | None = None,
) -> RangeFactor:
    """Range factor from K itself, for when the features are gone.

    It sees eigenvalues down to D·eps·σ_1 only; a factor of the features sees down to eps²·σ_1.

    Args:
        gram: K, shape (D, D), symmetric positive semi-definite.
        dtype: of the data before any upcast; default that of ``gram``.
        offset: as in `relative_tolerance`, where a mean was taken off the features.
        tolerance: on **eigenvalues**, relative to σ_1; default the larger of
            `eigenvalue_tolerance` for the dtype of ``gram`` and `relative_tolerance`, squared,
            for that of the data.

    Returns:
        The factor; its ``tolerance`` is on singular values, the square root of the given one.

    Raises:
        ValueError: for a matrix that is not symmetric, not finite or zero, or has an eigenvalue
            under −tolerance·σ_1.
    """
    check_symmetric(gram, "A Gram matrix")
    if tolerance is None:
        size, formed = len(gram), data_dtype(gram)
        data = relative_tolerance(size, size, dtype or formed, offset=offset)
        tolerance = max(eigenvalue_tolerance(size, formed), data**2)
    values, vectors = torch.linalg.eigh(gram.to(torch.float64))
    if bool(values[0] < -tolerance * values[-1].abs()):
        raise ValueError(
            f"A Gram matrix has no negative eigenvalue. Got {float(values[0]):.3g}, beside a "
            f"largest of {float(values[-1]):.3g}."
        )
    return _cut(values.flip(0).clamp(min=0).sqrt(), vectors.flip(1), tolerance**0.5)


def check_symmetric(matrix: Tensor, name: str) -> None:
    """Refuse what is no finite, real, symmetric matrix (to √eps of its largest entry)."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) == 0:
        raise ValueError(f"{name} is square. Got {tuple(matrix.shape)}.")
    dtype = data_dtype(matrix)
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError(f"{name} must be finite.")
    largest = matrix.abs().max()
    if bool((matrix - matrix.mT).abs().max() > torch.finfo(dtype).eps ** 0.5 * largest):
        raise ValueError(f"{name} is symmetric. Entries differ from their mirror images.")


def nothing_left(what: str, tolerance: float) -> str:
    """Why no value is above the tolerance, for an error."""
    if tolerance < 1:
        return f"The {what} is zero; it has no non-zero spectrum."
    return (
        f"Rounding of this {what} is all that is to be seen: the tolerance of its rank is "
        f"{tolerance:.2g} of the largest value, by its size, its dtype and the mean that was taken "
        "off. Take data in a finer dtype, or take the mean off before they are rounded."
    )


def _cut(values: Tensor, vectors: Tensor, tolerance: float) -> RangeFactor:
    """Decide the rank of descending singular values, and keep that many."""
    rank = int(numerical_rank(values, tolerance))
    if rank == 0:
        raise ValueError(nothing_left("feature matrix", tolerance))
    return RangeFactor(
        basis=vectors[:, :rank].contiguous(),
        singular_values=values[:rank].contiguous(),
        rank=rank,
        tolerance=tolerance,
    )
