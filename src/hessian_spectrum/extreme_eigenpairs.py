"""Extreme eigenpairs of a batch of symmetric matrices, warm-started, for use inside a loop.

Shift-invert block Lanczos with full reorthogonalisation: with s below the spectrum of A, the
Cholesky factor of A − s·I exists (which also proves that nothing lies below s), and each solve
with it multiplies the wanted direction by 1/(λ_1 − s) against 1/(λ_{m+1} − s) for what a block of
m vectors does not hold. A pair is accepted on its residual, and on a Cholesky factorisation just
below it, which proves that no smaller eigenvalue was overlooked: a small residual alone also comes
from a stale warm start. What fails either is recomputed exactly, so a small gap costs time, never
accuracy.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

BLOCK = 4
"""Vectors kept a matrix: enough to step over a tie or a small cluster at the extreme."""


class NotFiniteError(ValueError):
    """A matrix of a batch holds NaN or infinity, as after an optimisation that diverged.

    Attributes:
        index: place of the first such matrix in the batch.
    """

    def __init__(self, index: int) -> None:
        super().__init__(f"Matrix {index} of the batch is not finite, or its norm overflows.")
        self.index = index


class Eigenpairs(NamedTuple):
    """One extreme eigenpair for each matrix of a batch.

    Attributes:
        values: shape (B,).
        vectors: shape (B, n), unit norm.
        block: shape (B, n, m), the warm start for the next call.
        residuals: ‖Av − λv‖, shape (B,).
        exact: how many of the B were finished by a full eigendecomposition.
        dominated: how many largest pairs of a tracker needed no factorisation.
    """

    values: Tensor
    vectors: Tensor
    block: Tensor
    residuals: Tensor
    exact: int
    dominated: int = 0


def smallest_eigenpairs(
    matrices: Tensor,
    *,
    block: Tensor | None = None,
    shift: Tensor | None = None,
    tolerance: float = 1e-8,
    certified: float = 1e-6,
    iterations: int = 8,
) -> Eigenpairs:
    """Smallest eigenpair of each symmetric matrix of a batch.

    Args:
        matrices: shape (B, n, n), symmetric, float64.
        block: warm start from an earlier call, shape (B, n, m); default coordinate directions.
        shift: shape (B,), hoped to lie just below the spectrum; the closer, the faster. Default
            0, right for positive definite matrices. A shift that lies inside the spectrum is
            noticed, and a safe one tried: 0 for a positive one, −‖A‖_F otherwise.
        tolerance: accept a pair where ‖Av − λv‖ ≤ tolerance·|λ|, or at the round-off of the
            product, 8·eps·‖A‖_F, where that is larger. The error of λ goes like the square of
            the residual, so 1e-8 leaves a separate one at round-off; it never exceeds the residual.
        certified: no eigenvalue lies further below an accepted one than this share of it (or
            64·eps·‖A‖_F, the round-off of a Cholesky factorisation, where that is larger). Where
            the shift is that close already, no second factorisation is needed.
        iterations: solves with a block before a matrix is handed to the exact solver; 8 span
            32 dimensions, and a matrix left over is not lost.

    Returns:
        The pairs.

    Raises:
        ValueError: for matrices that are not square.
        NotFiniteError: for matrices that are not finite.
    """
    check_batch(matrices, block)
    count, n, _ = matrices.shape
    norm = torch.linalg.matrix_norm(matrices)
    if not bool(norm_in_range(norm).all()):
        return _rescaled(
            matrices,
            block=block,
            shift=shift,
            tolerance=tolerance,
            certified=certified,
            iterations=iterations,
        )
    if n <= 2 * BLOCK or count == 0:
        return _exact(matrices, min(BLOCK, n))
    if shift is None:
        shift = matrices.new_zeros(count)
    factor, shift, below = _factor_below(matrices, shift, norm)

    if block is None:
        block = torch.eye(n, BLOCK, dtype=matrices.dtype, device=matrices.device)
        block = block.expand(count, -1, -1)
    block = _refreshed(block)
    floor = torch.finfo(matrices.dtype).eps * norm
    values, block, residuals, done = _iterate(
        matrices, factor, block, floor, tolerance=tolerance, iterations=iterations
    )
    done &= below
    margin = torch.maximum(certified * values.abs(), 64 * floor)
    done = _certify(matrices, values - margin, shift, done)
    vectors = block[..., 0]
    if bool(done.all()):
        return Eigenpairs(values, vectors, block, residuals, 0)
    rest = (~done).nonzero().squeeze(-1)
    solved = _exact(matrices[rest], block.shape[-1])
    # The places are few, and what is returned must not alias what is overwritten.
    vectors = vectors.clone()
    values[rest], vectors[rest] = solved.values, solved.vectors
    block[rest], residuals[rest] = solved.block, solved.residuals
    return Eigenpairs(values, vectors, block, residuals, solved.exact)


def largest_eigenpairs(
    matrices: Tensor,
    *,
    block: Tensor | None = None,
    bound: Tensor | None = None,
    tolerance: float = 1e-8,
    certified: float = 1e-6,
    iterations: int = 8,
) -> Eigenpairs:
    """Largest eigenpair of each symmetric matrix of a batch, as the smallest of −A.

    Args:
        matrices: shape (B, n, n).
        block: warm start from an earlier call.
        bound: shape (B,), hoped to lie just above the spectrum; default ‖A‖_F, which always does
            (or the largest sum over a row, where squares leave the range). See
            `smallest_eigenpairs` for the rest.
        tolerance: see `smallest_eigenpairs`.
        certified: see `smallest_eigenpairs`.
        iterations: see `smallest_eigenpairs`.
    """
    check_batch(matrices, block)
    if bound is None:
        bound = torch.linalg.matrix_norm(matrices) * (1 + 1e-3)
        if not bool(norm_in_range(bound).all()):
            # There a norm bounds nothing; sums over rows do.
            bound = matrices.abs().sum(dim=-1).amax(dim=-1) * (1 + 1e-3)
    pairs = smallest_eigenpairs(
        -matrices,
        block=block,
        shift=-bound,
        tolerance=tolerance,
        certified=certified,
        iterations=iterations,
    )
    return pairs._replace(values=-pairs.values)


def norm_in_range(norms: Tensor) -> Tensor:
    """Where squares of a matrix's entries, and of small residuals, keep their digits."""
    info = torch.finfo(norms.dtype)
    return (norms > info.tiny**0.45) & (norms < info.max**0.45)


def _rescaled(
    matrices: Tensor, *, block: Tensor | None, shift: Tensor | None, **options: Any
) -> Eigenpairs:
    """`smallest_eigenpairs` of each matrix over the power of two at its largest entry."""
    peak = matrices.abs().amax(dim=(1, 2))
    if not bool(torch.isfinite(peak).all()):
        raise NotFiniteError(int((~torch.isfinite(peak)).nonzero()[0]))
    zero, ones = peak == 0, torch.ones_like(peak)
    exponent = torch.where(zero, ones, peak).frexp().exponent.to(peak)
    exponent = exponent.clamp(-0.99 * _exponents(peak), 0.99 * _exponents(peak))
    down, up = torch.exp2(-exponent), torch.exp2(exponent)
    # A zero matrix becomes the identity, whose eigenpairs are as good.
    identity = torch.diag_embed(zero.to(ones)[:, None].expand(-1, matrices.shape[-1]))
    raised = matrices * down[:, None, None] + identity
    if shift is not None:
        shift = torch.where(zero, torch.zeros_like(shift), shift * down)
    pairs = smallest_eigenpairs(raised, block=block, shift=shift, **options)
    values = torch.where(zero, torch.zeros_like(peak), pairs.values * up)
    residuals = torch.where(zero, torch.zeros_like(peak), pairs.residuals * up)
    return pairs._replace(values=values, residuals=residuals)


def _exponents(values: Tensor) -> float:
    """The largest power of two that a dtype holds."""
    return math.log2(torch.finfo(values.dtype).max)


def check_batch(matrices: Tensor, block: Tensor | None) -> None:
    """Refuse what is no batch of square matrices, or a warm start that does not fit it."""
    if matrices.ndim != 3 or matrices.shape[-1] != matrices.shape[-2] or matrices.shape[-1] == 0:
        raise ValueError(f"Expected a batch of square matrices. Got {tuple(matrices.shape)}.")
    if matrices.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"Expected matrices of float64 or float32. Got {matrices.dtype}.")
    if block is not None and (
        block.ndim != 3 or block.shape[:2] != matrices.shape[:2] or block.dtype != matrices.dtype
    ):
        raise ValueError(
            f"Expected a warm start for matrices of {tuple(matrices.shape)}, {matrices.dtype}. Got "
            f"a block of {tuple(block.shape)}, {block.dtype}."
        )


def orthonormalised(block: Tensor) -> Tensor:
    """Orthonormal basis of a batch of thin blocks, (B, n, m).

    Cholesky QR, twice, since it is made of batched products on any device; where a block is too
    dependent for that, Householder QR.
    """
    once, spread = _cholesky_qr(block / block.norm(dim=-2, keepdim=True).clamp_min(1e-300))
    # Past a condition number of 1e7 a second pass no longer restores orthogonality; under 30 the
    # first has left less than 1e-13.
    if spread > 1e-7:
        return once if spread > 0.03 else _cholesky_qr(once)[0]
    return torch.linalg.qr(block).Q


def _cholesky_qr(block: Tensor) -> tuple[Tensor, float]:
    """One pass, and the smallest entry on the diagonals of R (of columns of length one)."""
    factor, info = torch.linalg.cholesky_ex(block.mT @ block)
    spread = float(factor.diagonal(dim1=-2, dim2=-1).amin())
    if not spread > 1e-7 or bool((info != 0).any()):
        return block, 0.0
    return torch.linalg.solve_triangular(factor.mT, block, upper=True, left=False), spread


@lru_cache(maxsize=64)
def fresh_direction(n: int, dtype: torch.dtype, device: torch.device, number: int = 1) -> Tensor:
    """Fixed pseudo-random directions, so that no extreme can hide from a stale warm start."""
    i = torch.arange(1, n + 1, dtype=torch.float64, device=device)
    column = torch.sin(12.9898 * number * i) + torch.cos(78.233 * i * i / n + number)
    return column.to(dtype).unsqueeze(-1)


def _refreshed(block: Tensor) -> Tensor:
    """A warm start with the fresh direction in place of its last column."""
    fresh = fresh_direction(block.shape[-2], block.dtype, block.device)
    return torch.cat([block[..., :-1], fresh.expand(len(block), -1, -1)], dim=-1)


def _shifted(matrices: Tensor, shift: Tensor) -> Tensor:
    moved = matrices.clone()
    moved.diagonal(dim1=-2, dim2=-1).sub_(shift[:, None])
    return moved


def _factor_below(matrices: Tensor, shift: Tensor, norm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cholesky factors of A − s·I, the shifts that were used, and where they exist."""
    factor, info = torch.linalg.cholesky_ex(_shifted(matrices, shift))
    below = info == 0
    if bool(below.all()):
        return factor, shift, below
    rest = (~below).nonzero().squeeze(-1)
    safe = torch.where(shift[rest] > 0, torch.zeros_like(norm[rest]), -1.001 * norm[rest])
    again, info = torch.linalg.cholesky_ex(_shifted(matrices[rest], safe))
    again[info != 0] = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    shift = shift.clone()
    factor[rest], shift[rest], below[rest] = again, safe, info == 0
    return factor, shift, below


def _iterate(
    matrices: Tensor,
    factor: Tensor,
    block: Tensor,
    floor: Tensor,
    *,
    tolerance: float,
    iterations: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rayleigh–Ritz in a growing Krylov space of the inverse; what is done leaves the batch."""
    count, n, width = block.shape
    values = matrices.new_zeros(count)
    blocks = block
    residuals = matrices.new_full((count,), torch.inf)
    done = torch.zeros(count, dtype=torch.bool, device=matrices.device)
    places: Tensor | None = None
    basis = newest = orthonormalised(_solved(factor, block))
    image = _times(matrices, basis)
    for left in reversed(range(iterations)):
        ritz, rotation = torch.linalg.eigh(basis.mT @ image)
        rotation = rotation[..., :width]
        best, moved = basis @ rotation, image @ rotation
        value = ritz[:, 0]
        residual = (moved[..., 0] - value[:, None] * best[..., 0]).norm(dim=-1)
        ok = residual <= torch.maximum(tolerance * value.abs(), 8 * floor)
        # An exhausted Krylov space leaves columns of zeros, whose residual is zero as well.
        ok &= (best[..., 0].norm(dim=-1) - 1).abs() < 1e-6
        if places is None:
            values, blocks = value.clone(), best
            residuals, done = residual, ok
        else:
            values[places], blocks[places] = value, best
            residuals[places], done[places] = residual, ok
        if left == 0 or bool(ok.all()) or basis.shape[-1] + width > n:
            break
        keep = (~ok).nonzero().squeeze(-1)
        places = keep if places is None else places[keep]
        if len(keep) < len(ok):
            matrices, factor, floor = (x[keep] for x in (matrices, factor, floor))
            basis, image, newest = (x[keep] for x in (basis, image, newest))
        newest = _solved(factor, newest)
        for _ in range(2):
            newest = orthonormalised(newest - basis @ (basis.mT @ newest))
        basis = torch.cat([basis, newest], dim=-1)
        image = torch.cat([image, _times(matrices, newest)], dim=-1)
    return values, blocks, residuals, done


def _times(matrices: Tensor, block: Tensor) -> Tensor:
    """A·block for symmetric A, with the thin side in front, which CPU libraries do faster."""
    return (block.mT @ matrices).mT


def _solved(factor: Tensor, block: Tensor) -> Tensor:
    """(LLᵀ)⁻¹·block; unlike ``cholesky_solve`` without a copy of L."""
    half = torch.linalg.solve_triangular(factor, block, upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True)


def _certify(matrices: Tensor, bound: Tensor, shift: Tensor, done: Tensor) -> Tensor:
    """Keep as done what has a Cholesky factor at its bound, or was factored above it already."""
    check = (done & (shift < bound)).nonzero().squeeze(-1)
    if len(check) == 0:
        return done
    part = matrices if len(check) == len(done) else matrices[check]
    info = torch.linalg.cholesky_ex(_shifted(part, bound[check])).info
    done = done.clone()
    done[check] = info == 0
    return done


def _exact(matrices: Tensor, width: int) -> Eigenpairs:
    values, vectors = torch.linalg.eigh(matrices)
    first = vectors[..., 0]
    residual = (matrices @ first.unsqueeze(-1)).squeeze(-1) - values[:, :1] * first
    return Eigenpairs(
        values[:, 0],
        first.clone(),
        vectors[..., :width].clone(),
        residual.norm(dim=-1),
        len(matrices),
    )
