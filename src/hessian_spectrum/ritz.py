"""Largest eigenpairs of a batch by Rayleigh–Ritz steps from good start vectors, and their proof."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

BLOCKS = 4
"""Krylov blocks at most."""


class RitzPairs(NamedTuple):
    """What the Krylov space holds.

    Attributes:
        values: the largest Ritz value, shape (B,).
        residuals: ‖Av − θv‖ of its vector v, shape (B,).
        rows: the q leading Ritz vectors, (B, q, n), v first.
        converged: where v is accepted on its residual, shape (B,).
        dominant: where it is, and nothing exceeds θ by more than was to be certified.
        depth: Krylov blocks beside the first that were taken.
    """

    values: Tensor
    residuals: Tensor
    rows: Tensor
    converged: Tensor
    dominant: Tensor
    depth: int


def largest_ritz_pairs(
    product: Callable[[Tensor], Tensor],
    rows: Tensor,
    norms: Tensor,
    *,
    tolerance: float,
    certified: float,
    depth: int = 1,
) -> RitzPairs:
    """Rayleigh–Ritz in a growing block Krylov space, until every residual is small enough.

    Args:
        product: A on rows, (B, q, n) → (B, q, n), A symmetric.
        rows: start vectors, (B, q, n).
        norms: ‖A‖_F, shape (B,).
        tolerance: accept where ‖Av − θv‖ ≤ tolerance·|θ|, or 8·eps·‖A‖_F.
        certified: share of θ by which another eigenvalue may exceed it unproven.
        depth: blocks to take before the first look.
    """
    width, n = rows.shape[1:]
    floor = torch.finfo(rows.dtype).eps * norms
    basis = orthonormal_rows(rows)
    rest = image = product(basis)
    for number in range(1, BLOCKS):
        # Twice, as images of a cold start all lean towards the first pair.
        new = orthonormal_rows(orthonormal_rows(rest, beside=basis))
        rest = product(new)
        basis = torch.cat([basis, new], dim=1)
        image = torch.cat([image, rest], dim=1)
        last = number + 1 == BLOCKS or (number + 2) * width > n
        if number < depth and not last:
            continue
        ritz, rotation = torch.linalg.eigh(image @ basis.mT)
        rotation = rotation[..., -width:].flip(-1).mT
        ritz = ritz[:, -width:].flip(-1)
        best = rotation @ basis
        rest = rotation @ image - ritz[..., None] * best
        lengths = rest.norm(dim=-1)
        values, residuals = ritz[:, 0], lengths[:, 0]
        done = residuals <= torch.maximum(tolerance * values.abs(), 8 * floor)
        if last or bool(done.all()):
            break
    # A basis that lost its orthogonality shows in the Ritz vectors. Less than a thousandth of what
    # is certified does no harm.
    eye = torch.eye(width, dtype=best.dtype, device=best.device)
    slip = (best @ best.mT - eye).abs().amax(dim=(1, 2))
    done &= slip < max(1e-9, 1e-3 * certified)
    dominant = done & _dominant(norms, ritz, lengths, certified)
    # The Rayleigh quotient of the vector as it is.
    first = best[:, 0]
    energy = first.square().sum(dim=-1)
    values = (first * rest[:, 0]).sum(dim=-1) / energy + values
    best = best / best.norm(dim=-1, keepdim=True).clamp_min(1e-300)
    return RitzPairs(values, residuals, best, done, dominant, number)


def _dominant(norms: Tensor, ritz: Tensor, lengths: Tensor, certified: float) -> Tensor:
    """Where nothing exceeds the first Ritz value by more than is certified.

    With the first j Ritz vectors V, AV = VΘ + R and V ⊥ R, what is orthogonal to V has the
    Frobenius norm c² = ‖A‖_F² − ‖Θ‖_F² − 2‖R‖_F², and xᵀAx on a unit vector with parts of length a
    in V and b beside it is at most θ_1a² + 2‖R‖ab + cb². Any j will do.
    """
    rest = lengths.square().cumsum(-1)
    beside = norms.square()[:, None] - ritz.square().cumsum(-1) - 2 * rest
    # What cancels is known to round-off of ‖A‖_F².
    noise = 64 * torch.finfo(norms.dtype).eps * norms.square()
    beside = (beside.clamp(min=0) + noise[:, None]).sqrt()
    top = ritz[:, :1]
    bound = (top + beside) / 2 + (((top - beside) / 2).square() + rest).sqrt()
    # Squares of numbers beyond 1e±140 leave the range of float64, and prove nothing.
    inside_range = (norms > 1e-140) & (norms < 1e140)
    return inside_range & (bound.amin(dim=-1) <= ritz[:, 0] * (1 + certified))


def orthonormal_rows(rows: Tensor, *, beside: Tensor | None = None) -> Tensor:
    """An orthonormal basis of the rows of each of a batch, (B, q, n), in their order.

    Cholesky QR with a trace of a ridge, so that it never fails: rows that depend on those before
    them come out short, which a caller sees in what it finds with them.

    Args:
        rows: what is to be spanned.
        beside: orthonormal rows (B, p, n), to which the basis shall be orthogonal.
    """
    if beside is not None:
        rows = rows - (rows @ beside.mT) @ beside
        # Little may be left, and of that little round-off is a large part.
        rows = rows / rows.norm(dim=-1, keepdim=True).clamp_min(1e-300)
        rows = rows - (rows @ beside.mT) @ beside
    rows = rows / rows.norm(dim=-1, keepdim=True).clamp_min(1e-300)
    inner = rows @ rows.mT
    inner.diagonal(dim1=-2, dim2=-1).add_(1e-14)
    factor = torch.linalg.cholesky_ex(inner).L
    return torch.linalg.solve_triangular(factor, rows, upper=False)
