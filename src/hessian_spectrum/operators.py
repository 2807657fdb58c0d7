"""A symmetric matrix known by its products, and the plain ways to have one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

CPU = torch.device("cpu")
Reduction = Literal["mean", "sum"]
"""What a loss does over samples."""
DENSE = 2048
"""Up to this dimension a matrix is formed and decomposed: it takes a second, and gives all."""


@dataclass(frozen=True)
class SymmetricOperator:
    """H of shape (n, n) as a function of blocks of vectors.

    Attributes:
        dimension: n.
        apply: takes a block of shape (n, m) and returns H times it, same shape, dtype and device.
        dtype: of the vectors.
        device: where they live.
        name: for messages.
        trace: tr(H), where the structure gives it exactly.
    """

    dimension: int
    apply: Callable[[Tensor], Tensor]
    dtype: torch.dtype = torch.float64
    device: torch.device = CPU
    name: str = "operator"
    trace: float | None = None

    def __matmul__(self, vectors: Tensor) -> Tensor:
        """H times a vector (n,) or a block (n, m)."""
        if vectors.shape[0] != self.dimension or vectors.ndim not in (1, 2):
            raise ValueError(
                f"The {self.name} takes vectors of shape ({self.dimension},) or "
                f"({self.dimension}, m). Got {tuple(vectors.shape)}."
            )
        if vectors.ndim == 1:
            return self.apply(vectors.unsqueeze(1)).squeeze(1)
        return self.apply(vectors)

    def dense(self, *, limit: int = DENSE, block: int = 64) -> Tensor:
        """H itself, symmetrised.

        Args:
            limit: largest n that is formed, so that no one asks for terabytes by mistake.
            block: columns a product.

        Raises:
            ValueError: where n is beyond the limit, or H is not symmetric: entries differ from
                their mirror images by more than √eps of the largest.
        """
        if self.dimension > limit:
            raise ValueError(
                f"The {self.name} is {self.dimension}×{self.dimension}, beyond the {limit} that "
                "are formed. Use an iterative method, or raise the limit."
            )
        columns = torch.eye(self.dimension, dtype=self.dtype, device=self.device)
        matrix = torch.cat([self.apply(part) for part in columns.split(block, dim=1)], dim=1)
        skew = (matrix - matrix.mT).abs().max()
        if bool(skew > torch.finfo(self.dtype).eps ** 0.5 * matrix.abs().max()):
            raise ValueError(f"The {self.name} is not symmetric: entries differ by {skew:.3g}.")
        return (matrix + matrix.mT) / 2


def check_reduction(reduction: str) -> None:
    """Refuse anything but the two names."""
    if reduction not in ("mean", "sum"):
        raise ValueError(f"A reduction is 'mean' or 'sum'. Got {reduction!r}.")


def dense_operator(matrix: Tensor) -> SymmetricOperator:
    """A matrix as an operator.

    Raises:
        ValueError: for a matrix that is not square.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"Operator must be square. Got shape {tuple(matrix.shape)}.")
    return SymmetricOperator(
        dimension=len(matrix),
        apply=lambda vectors: matrix @ vectors,
        dtype=matrix.dtype,
        device=matrix.device,
        name="matrix",
        trace=float(matrix.diagonal().sum()),
    )


def gram_operator(features: Tensor) -> SymmetricOperator:
    """XᵀX without forming it, for features too many to square; X is of shape (N, D)."""
    return SymmetricOperator(
        dimension=features.shape[1],
        apply=lambda vectors: features.mT @ (features @ vectors),
        dtype=features.dtype,
        device=features.device,
        name="Gram matrix",
        trace=float(features.to(torch.float64).square().sum()),
    )
