"""Largest eigenpairs of a batch by Rayleigh–Ritz steps from good start vectors, and their proof."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hessian_spectrum.kernels.cuda_graphs import CapturedFunction

GROWTHS = 4
"""Krylov blocks at most that are added to the start."""

ROWS = 32
"""Vectors kept at once: up to that size GPU libraries decompose small matrices as a batch, past
it one after another."""


class RitzPairs(NamedTuple):
    """What the Krylov space holds.

    Attributes:
        values: the largest Ritz value, shape (B,).
        residuals: ‖Av − θv‖ of its vector v, shape (B,).
        rows: the q leading Ritz vectors, (B, q, n), v first.
        converged: where v is accepted on its residual, shape (B,).
        dominant: where it is, and nothing exceeds θ by more than was to be certified.
        depth: Krylov blocks that were added.
    """

    values: Tensor
    residuals: Tensor
    rows: Tensor
    converged: Tensor
    dominant: Tensor
    depth: int


class LargestRitz:
    """Rayleigh–Ritz in a growing block Krylov space, until every residual is small enough.

    Args:
        product: (matrices, rows) ↦ A on rows, (B, q, n) → (B, q, n), A symmetric.
        tolerance: accept where ‖Av − θv‖ ≤ tolerance·|θ|, or 8·eps·‖A‖_F.
        certified: share of θ by which another eigenvalue may exceed it unproven.
    """

    def __init__(
        self,
        product: Callable[[Tensor, Tensor], Tensor],
        *,
        tolerance: float,
        certified: float,
    ) -> None:
        self._product = product
        self._tolerance = tolerance
        self._certified = certified
        self._starts: dict[int, CapturedFunction] = {}
        self._reads: dict[int, CapturedFunction] = {}

    def __call__(
        self, matrices: Tensor, rows: Tensor, norms: Tensor, *, depth: int = 1
    ) -> RitzPairs:
        """The pairs.

        Args:
            matrices: A, or what ``product`` makes it from.
            rows: start vectors, (B, q, n).
            norms: ‖A‖_F, shape (B,).
            depth: blocks to take before the first look.
        """
        width, n = rows.shape[1:]
        depth = max(1, min(depth, min(ROWS, n) // width - 1))
        if depth not in self._starts:
            self._starts[depth] = CapturedFunction(self._start, fixed=1, depth=depth)
        basis, image, inner = self._starts[depth](matrices, rows)
        while True:
            ritz, rotation = torch.linalg.eigh(inner)
            if basis.shape[1] not in self._reads:
                self._reads[basis.shape[1]] = CapturedFunction(self._read)
            read = self._reads[basis.shape[1]](basis, image, ritz, rotation, norms, rows)
            values, residuals, best, done, (sound, dominant), rest = read
            if depth >= GROWTHS or bool(done.all()) or 3 * width > n:
                done = done & sound
                return RitzPairs(values, residuals, best, done, done & dominant, depth)
            if basis.shape[1] + width > min(ROWS, n):
                basis, image = best, self._product(matrices, best)
            basis, image, _ = self._grown(matrices, basis, image, rest)
            inner = image @ basis.mT
            depth += 1

    def _start(self, matrices: Tensor, rows: Tensor, *, depth: int) -> tuple[Tensor, ...]:
        basis = orthonormal_rows(rows)
        rest = image = self._product(matrices, basis)
        for _ in range(depth):
            basis, image, rest = self._grown(matrices, basis, image, rest)
        return basis, image, image @ basis.mT

    def _grown(
        self, matrices: Tensor, basis: Tensor, image: Tensor, rest: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Basis and image with one more block, and the image of that."""
        # Twice, as images of a cold start all lean towards the first pair.
        new = orthonormal_rows(orthonormal_rows(rest, beside=basis))
        more = self._product(matrices, new)
        return torch.cat([basis, new], dim=1), torch.cat([image, more], dim=1), more

    def _read(
        self,
        basis: Tensor,
        image: Tensor,
        ritz: Tensor,
        rotation: Tensor,
        norms: Tensor,
        rows: Tensor,
    ) -> tuple[Tensor, ...]:
        """Ritz pairs, where they are accepted, where their basis is sound and they are proven."""
        width = rows.shape[1]
        floor = torch.finfo(rows.dtype).eps * norms
        rotation = rotation[..., -width:].flip(-1).mT
        ritz = ritz[:, -width:].flip(-1)
        best = rotation @ basis
        rest = rotation @ image - ritz[..., None] * best
        lengths = rest.norm(dim=-1)
        # A basis that lost its orthogonality shows in the Ritz vectors. Less than a thousandth of
        # what is certified does no harm.
        eye = torch.eye(width, dtype=best.dtype, device=best.device)
        slip = (best @ best.mT - eye).abs().amax(dim=(1, 2))
        sound = slip < max(1e-9, 1e-3 * self._certified)
        dominant = _dominant(norms, ritz, lengths, self._certified)
        # The Rayleigh quotient of the vector as it is.
        first = best[:, 0]
        values = (first * rest[:, 0]).sum(dim=-1) / first.square().sum(dim=-1) + ritz[:, 0]
        best = best / best.norm(dim=-1, keepdim=True).clamp_min(1e-300)
        done = lengths[:, 0] <= torch.maximum(self._tolerance * values.abs(), 8 * floor)
        return values, lengths[:, 0], best, done, torch.stack([sound, dominant]), rest


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
