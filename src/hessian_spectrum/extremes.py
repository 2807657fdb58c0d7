"""Extreme eigenpairs of a batch of symmetric matrices, warm-started, for use inside a loop.

Shift-invert block iteration: with s below the spectrum of A, the Cholesky factor of A − s·I
exists (which also proves that nothing lies below s), and each solve with it multiplies the wanted
direction by 1/(λ_1 − s) against 1/(λ_{m+1} − s) for what the block of m vectors does not hold.
A pair is accepted on its residual, and on a second Cholesky factorisation just below it, which
proves that no smaller eigenvalue was overlooked: a small residual alone also comes from a stale
warm start. What fails either is recomputed exactly, so a small gap costs time, never accuracy.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 4
"""Vectors kept a matrix: enough to step over a tie or a small cluster at the extreme."""


CERTIFIED = 1e-6
"""No eigenvalue lies further below an accepted one than this share of its distance to the shift
(or 64·eps·‖A‖_F, the round-off of a Cholesky factorisation, where that is larger)."""


class NotFiniteError(ValueError):
    """A matrix of a batch holds NaN or infinity, as after an optimisation that diverged.

    Attributes:
        index: place of the first such matrix in the batch.
    """

    def __init__(self, index: int) -> None:
        super().__init__(f"Matrix {index} of the batch is not finite.")
        self.index = index


class Eigenpairs(NamedTuple):
    """One extreme eigenpair for each matrix of a batch.

    Attributes:
        values: shape (B,).
        vectors: shape (B, n), unit norm.
        block: shape (B, n, m), the warm start for the next call.
        exact: how many of the B were finished by a full eigendecomposition.
    """

    values: Tensor
    vectors: Tensor
    block: Tensor
    exact: int


def _orthonormal(block: Tensor) -> Tensor:
    return torch.linalg.qr(block).Q


def _fresh_column(n: int, like: Tensor) -> Tensor:
    """A fixed pseudo-random direction, so that no extreme can hide from a stale warm start."""
    i = torch.arange(1, n + 1, dtype=torch.float64, device=like.device)
    return torch.sin(12.9898 * i) + torch.cos(78.233 * i * i / n)


def smallest_eigenpairs(
    matrices: Tensor,
    *,
    block: Tensor | None = None,
    shift: Tensor | None = None,
    tolerance: float = 1e-7,
    iterations: int = 12,
) -> Eigenpairs:
    """Smallest eigenpair of each symmetric matrix of a batch.

    Args:
        matrices: shape (B, n, n), symmetric, float64.
        block: warm start from an earlier call, shape (B, n, m); default coordinate directions.
        shift: shape (B,), hoped to lie just below the spectrum; the closer, the faster. Default
            0, right for positive definite matrices. A shift that lies inside the spectrum is
            noticed and that matrix solved exactly.
        tolerance: accept a pair where ‖Av − λv‖ ≤ tolerance·|λ − s|, or at the round-off of the
            product, 8·eps·‖A‖_F, where that is larger. The error of λ goes like the square of
            the residual, so 1e-7 leaves it at round-off.
        iterations: solves before a matrix is handed to the exact solver; 12 suffice on the
            spectra of image and tabular data (see the tests), and a matrix left over is not lost.

    Returns:
        The pairs.

    Raises:
        ValueError: for matrices that are not square.
        NotFiniteError: for matrices that are not finite.
    """
    if matrices.ndim != 3 or matrices.shape[-1] != matrices.shape[-2]:
        raise ValueError(f"Expected a batch of square matrices. Got {tuple(matrices.shape)}.")
    count, n, _ = matrices.shape
    if n <= 2 * BLOCK:
        return _exact(matrices, matrices.new_zeros(count, n, min(BLOCK, n)))
    norm = torch.linalg.matrix_norm(matrices)
    if not bool(torch.isfinite(norm).all()):
        raise NotFiniteError(int((~torch.isfinite(norm)).nonzero()[0]))
    if shift is None:
        shift = matrices.new_zeros(count)
    if block is None:
        block = torch.eye(n, BLOCK, dtype=matrices.dtype, device=matrices.device).repeat(
            count, 1, 1
        )
    block = block.clone()
    block[..., -1] = _fresh_column(n, matrices)

    shifted = matrices.clone()
    shifted.diagonal(dim1=-2, dim2=-1).sub_(shift[:, None])
    factor, info = torch.linalg.cholesky_ex(shifted)
    below = info == 0
    if not bool(below.all()):
        factor[~below] = torch.eye(n, dtype=matrices.dtype, device=matrices.device)
    values = matrices.new_zeros(count)
    vectors = matrices.new_zeros(count, n)
    floor = torch.finfo(matrices.dtype).eps * norm
    done = torch.zeros_like(below)
    for _ in range(iterations):
        block = _orthonormal(torch.cholesky_solve(block, factor))
        image = matrices @ block
        ritz, rotation = torch.linalg.eigh(block.mT @ image)
        block, image = block @ rotation, image @ rotation
        values, vectors = ritz[:, 0], block[..., 0]
        residual = (image[..., 0] - values[:, None] * vectors).norm(dim=-1)
        gap = (values - shift).abs()
        done = below & (residual <= torch.maximum(tolerance * gap, 8 * floor))
        if bool((done | ~below).all()):
            break
    margin = torch.maximum(CERTIFIED * (values - shift).abs(), 64 * floor)
    shifted = matrices.clone()
    shifted.diagonal(dim1=-2, dim2=-1).sub_((values - margin)[:, None])
    done &= torch.linalg.cholesky_ex(shifted).info == 0
    if bool(done.all()):
        return Eigenpairs(values, vectors, block, 0)
    rest = (~done).nonzero().squeeze(-1)
    solved = _exact(matrices[rest], block[rest])
    values, vectors = values.clone(), vectors.clone()
    values[rest], vectors[rest], block[rest] = solved.values, solved.vectors, solved.block
    return Eigenpairs(values, vectors, block, solved.exact)


def largest_eigenpairs(
    matrices: Tensor,
    *,
    block: Tensor | None = None,
    bound: Tensor | None = None,
    tolerance: float = 1e-7,
    iterations: int = 12,
) -> Eigenpairs:
    """Largest eigenpair of each symmetric matrix of a batch, as the smallest of −A.

    Args:
        matrices: shape (B, n, n).
        block: warm start.
        bound: shape (B,), hoped to lie just above the spectrum; default ‖A‖_F,
            which always is. See `smallest_eigenpairs` for the rest.
        tolerance: see `smallest_eigenpairs`.
        iterations: see `smallest_eigenpairs`.
    """
    if bound is None:
        bound = torch.linalg.matrix_norm(matrices) * (1 + 1e-3)
    pairs = smallest_eigenpairs(
        -matrices, block=block, shift=-bound, tolerance=tolerance, iterations=iterations
    )
    return pairs._replace(values=-pairs.values)


def _exact(matrices: Tensor, block: Tensor) -> Eigenpairs:
    values, vectors = torch.linalg.eigh(matrices)
    return Eigenpairs(
        values[:, 0], vectors[..., 0], vectors[..., : block.shape[-1]].clone(), len(matrices)
    )
