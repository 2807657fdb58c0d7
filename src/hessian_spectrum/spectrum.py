"""A non-zero spectrum with its rank, and every condition number of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hessian_spectrum.condition import (
    ReleasedCondition,
    effective_rank,
    log_pseudo_determinant,
    released_condition,
    ridge_condition,
)
from hessian_spectrum.operators import DENSE, SymmetricOperator
from hessian_spectrum.range_factor import RangeFactor, check_symmetric, nothing_left, range_factor
from hessian_spectrum.rank import data_dtype, eigenvalue_tolerance


@dataclass(frozen=True)
class Spectrum:
    """The non-zero eigenvalues of a symmetric matrix; the rank was decided when it was made.

    Attributes:
        eigenvalues: shape (k,), float64, ascending; negative ones are possible (a network's
            Hessian).
        dimension: of the matrix, zero eigenvalues included.
        tolerance: on |eigenvalues| relative to the largest, at which k was decided.
        name: what it is a spectrum of.
    """

    eigenvalues: Tensor
    dimension: int
    tolerance: float
    name: str = "matrix"

    @property
    def rank(self) -> int:
        """k."""
        return len(self.eigenvalues)

    @property
    def magnitudes(self) -> Tensor:
        """|eigenvalues|, ascending."""
        return self.eigenvalues.abs().sort().values

    @property
    def condition(self) -> float:
        """κ over the non-zero spectrum, max|σ|/min|σ|."""
        magnitudes = self.magnitudes
        return float(magnitudes[-1] / magnitudes[0])

    @property
    def effective_rank(self) -> float:
        """See `hessian_spectrum.effective_rank`; of |eigenvalues|."""
        return float(effective_rank(self.magnitudes))

    @property
    def log_pseudo_determinant(self) -> float:
        """Σ log|σ| over the non-zero spectrum."""
        return float(log_pseudo_determinant(self.magnitudes, self.rank))

    def ridge_condition(self, ridge: float) -> float:
        """κ on the range with a ridge of ``ridge``·σ_1; see `hessian_spectrum.ridge_condition`."""
        return float(ridge_condition(self.magnitudes, self.rank, ridge))

    def released_condition(self) -> ReleasedCondition:
        """κ as the paper's released code defines it; see `hessian_spectrum.released_condition`."""
        return released_condition(self.magnitudes, self.dimension)

    @classmethod
    def of_features(
        cls, features: Tensor, *, tolerance: float | None = None, name: str = "Gram matrix"
    ) -> Spectrum:
        """Spectrum of XᵀX, from the features themselves.

        >>> import torch
        >>> x = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        >>> spectrum = Spectrum.of_features(x)
        >>> spectrum.rank, spectrum.condition
        (2, 4.0)

        Args:
            features: X, shape (N, D).
            tolerance: on singular values; see `hessian_spectrum.range_factor`.
            name: for tables and plots.
        """
        return cls.of_factor(range_factor(features, tolerance=tolerance), name=name)

    @classmethod
    def of_factor(cls, factor: RangeFactor, *, name: str = "Gram matrix") -> Spectrum:
        """Spectrum of K = FFᵀ.

        Raises:
            ValueError: where squares of its singular values leave the range of float64.
        """
        eigenvalues = factor.singular_values.square().flip(0)
        if not 1e-290 < float(eigenvalues[0]) <= float(eigenvalues[-1]) < 1e290:
            raise ValueError(
                f"Singular values from {float(factor.singular_values[-1]):.3g} to "
                f"{float(factor.singular_values[0]):.3g} cannot be squared in float64. Scale the "
                "features; κ does not change."
            )
        return cls(
            eigenvalues=eigenvalues,
            dimension=factor.basis.shape[0],
            tolerance=factor.tolerance**2,
            name=name,
        )

    @classmethod
    def of_matrix(
        cls, matrix: Tensor, *, tolerance: float | None = None, name: str = "matrix"
    ) -> Spectrum:
        """Spectrum of a symmetric matrix, definite or not.

        Args:
            matrix: shape (n, n).
            tolerance: on |eigenvalues| relative to the largest; default n·eps of its dtype.
            name: for tables and plots.

        Raises:
            ValueError: for a matrix that is not symmetric, not finite, or zero.
        """
        check_symmetric(matrix, "A matrix with a spectrum")
        if tolerance is None:
            tolerance = eigenvalue_tolerance(len(matrix), data_dtype(matrix))
        values = torch.linalg.eigvalsh(matrix.to(torch.float64))
        magnitudes = values.abs()
        kept = values[magnitudes > tolerance * magnitudes.max()]
        if len(kept) == 0:
            raise ValueError(nothing_left("matrix", tolerance))
        return cls(kept, len(matrix), tolerance, name)

    @classmethod
    def of_operator(
        cls, operator: SymmetricOperator, *, limit: int = DENSE, tolerance: float | None = None
    ) -> Spectrum:
        """Spectrum of an operator small enough to be formed; see `SymmetricOperator.dense`.

        There is no iterative way to the smallest non-zero eigenvalue of a matrix whose null space
        is not known: Lanczos, LOBPCG and the like return zero, or something in between. Where the
        null space is known take it out first (`softmax_probe_spectrum`, `ggn_spectrum`).
        """
        return cls.of_matrix(operator.dense(limit=limit), tolerance=tolerance, name=operator.name)
