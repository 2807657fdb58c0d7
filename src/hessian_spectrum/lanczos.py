"""Lanczos with full reorthogonalisation, from several start vectors at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hessian_spectrum.operators import SymmetricOperator

Progress = Callable[[int, int], None]
"""Called with (products done, products planned)."""


class Krylov(NamedTuple):
    """Tridiagonal matrices T = QᵀHQ, one for each of s start vectors.

    Attributes:
        diagonal: shape (s, j), float64; past a breakdown, zero.
        off: shape (s, j), entries under the diagonal; the last is what did not fit, the norm of
            the remainder, and zero after a breakdown.
        lengths: steps before a breakdown, shape (s,).
        basis: Q, shape (s, j, n), orthonormal rows; None where it was not asked for.
    """

    diagonal: Tensor
    off: Tensor
    lengths: Tensor
    basis: Tensor | None

    def ritz(self) -> tuple[Tensor, Tensor]:
        """Ritz values, ascending, and vectors in the Krylov basis, of each start: (s, j) and
        (s, j, j). Entries past a breakdown are decoupled zeros; their weight is zero."""
        inner = torch.diag_embed(self.diagonal)
        if self.off.shape[1] > 1:
            below = torch.diag_embed(self.off[:, :-1], offset=-1)
            inner = inner + below + below.mT
        values, vectors = torch.linalg.eigh(inner.cpu())
        return values.to(self.off.device), vectors.to(self.off.device)


def start_vectors(
    operator: SymmetricOperator, count: int, generator: torch.Generator, *, signs: bool = False
) -> Tensor:
    """Random vectors of length √n, shape (n, count).

    Args:
        operator: for dimension, dtype and device.
        count: how many.
        generator: every draw comes from it; on the CPU, so that devices draw alike.
        signs: ±1 entries (Rademacher) in place of normal ones: of least variance for traces.
    """
    size = operator.dimension
    if signs:
        # Thirty-two signs a number: drawing is slow on a CPU, and so is the way to a GPU.
        words = torch.randint(
            -(2**31),
            2**31,
            (count, -(-size // 32)),
            dtype=torch.int32,
            generator=generator,
            device=generator.device,
        ).to(operator.device)
        bits = torch.arange(32, dtype=torch.int32, device=operator.device)
        drawn = (words[..., None] >> bits).bitwise_and_(1).reshape(count, -1)[:, :size]
        return drawn.to(operator.dtype).mul_(2).sub_(1).mT
    draw = torch.randn((size, count), generator=generator, device=generator.device)
    draw = draw * (operator.dimension**0.5 / draw.norm(dim=0))
    return draw.to(operator.dtype).to(operator.device)


def lanczos(
    operator: SymmetricOperator,
    start: Tensor,
    steps: int,
    *,
    progress: Progress | None = None,
) -> Krylov:
    """Run Lanczos from each start vector, with full reorthogonalisation.

    Without it copies of extreme eigenvalues appear ("ghosts") and counts of eigenvalues mean
    nothing. A second pass is made where the first removed much ("twice is enough"; Parlett). A
    Krylov space is exhausted where the remainder is round-off relative to the matrix, at
    √n·eps·‖T‖: an absolute threshold fails for tiny and huge matrices, and for the identity.

    Args:
        operator: H.
        start: shape (n, s), any length but zero; all s run through one product together.
        steps: j, at most n; fewer where the space is exhausted.
        progress: called after each product.

    Returns:
        The tridiagonal matrices and the basis.

    Raises:
        ValueError: for a zero start vector, or a product that is not finite.
    """
    if start.ndim != 2 or steps < 1:
        raise ValueError(
            f"Lanczos takes start vectors of shape (n, s) and at least one step. Got "
            f"{tuple(start.shape)} and {steps}."
        )
    n, count = start.shape
    norms = start.norm(dim=0)
    if not bool((norms > 0).all()):
        raise ValueError("A start vector of Lanczos must not be zero.")
    steps = min(steps, n)
    basis = start.new_empty(count, steps, n)
    basis[:, 0] = (start / norms).mT
    diagonal = torch.zeros(count, steps, dtype=torch.float64, device=start.device)
    off = torch.zeros_like(diagonal)
    lengths = torch.full((count,), steps, device=start.device)
    alive = torch.ones(count, dtype=torch.bool, device=start.device)
    scale = torch.zeros(count, dtype=torch.float64, device=start.device)
    breakdown = n**0.5 * torch.finfo(start.dtype).eps
    done = 0
    for j in range(steps):
        image = (operator @ basis[:, j].mT).mT
        if j == 0:
            check_range(image, operator)
        alpha = (image * basis[:, j]).sum(dim=1)
        rest = image - alpha[:, None] * basis[:, j]
        if j:
            rest -= off[:, j - 1 : j].to(start.dtype) * basis[:, j - 1]
        rest, beta = _orthogonal_rest(rest, basis[:, : j + 1])
        if not bool(torch.isfinite(beta).all()):
            raise ValueError(
                f"Product {j + 1} of the {operator.name} is not finite. Its matrix holds NaN, "
                "infinity, or values beyond the range of its dtype."
            )
        diagonal[:, j] = torch.where(alive, alpha.to(torch.float64), 0.0)
        scale = torch.maximum(scale, alpha.abs() + beta)
        ended = alive & (beta <= breakdown * scale)
        lengths[ended] = j + 1
        alive = alive & ~ended
        off[:, j] = torch.where(alive, beta.to(torch.float64), 0.0)
        done = j + 1
        if progress is not None:
            progress(done, steps)
        if not bool(alive.any()):
            break
        if j + 1 < steps:
            basis[:, j + 1] = torch.where(alive[:, None], rest / beta.clamp_min(1e-300)[:, None], 0)
    return Krylov(diagonal[:, :done], off[:, :done], lengths, basis[:, :done])


def check_range(image: Tensor, operator: SymmetricOperator) -> None:
    """Refuse products whose squares leave the range of their dtype, and with them every norm.

    Raises:
        ValueError: saying so.
    """
    largest = float(image.abs().max())
    info = torch.finfo(image.dtype)
    if 0 < largest < 1e3 * info.tiny**0.5 or largest > 1e-3 * info.max**0.5:
        raise ValueError(
            f"The {operator.name} has products of size {largest:.3g}, whose squares leave the "
            f"range of {image.dtype}. Scale it: condition numbers do not change."
        )


def _orthogonal_rest(image: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """What of each image its basis does not hold, and its norm."""
    before = image.norm(dim=1)
    for _ in range(3):
        inside = torch.bmm(basis, image[..., None])
        image = torch.baddbmm(image[:, None], inside.mT, basis, alpha=-1).squeeze(1)
        after = image.norm(dim=1)
        # A norm that fell by more than half holds a trace of what was removed.
        if bool((after >= 0.5 * before).all()):
            break
        before = after
    return image, after
