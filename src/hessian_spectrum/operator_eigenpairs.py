"""Extreme eigenpairs of an operator, by block Davidson iteration with thick restarts.

Without a preconditioner the residuals span the next block of a Krylov space, so this is block
Lanczos with full reorthogonalisation; with one, it reaches the small end of a spectrum that
Lanczos would need thousands of products for. Every pair is accepted on its residual.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hessian_spectrum.lanczos import Progress, check_range, start_vectors
from hessian_spectrum.operators import SymmetricOperator


class OperatorEigenpairs(NamedTuple):
    """Extreme eigenpairs of one operator, from the extreme inwards.

    Attributes:
        values: shape (k,), float64.
        vectors: shape (n, k), unit norm.
        residuals: ‖Hv − λv‖, shape (k,); an eigenvalue lies that close to each value, and the
            error of a separate one goes like the square of it.
        products: how many vectors H was applied to.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    products: int


class NotConvergedError(RuntimeError):
    """The budget of products ran out before every residual was small enough.

    Attributes:
        found: the pairs as they stood.
    """

    def __init__(self, message: str, found: OperatorEigenpairs) -> None:
        super().__init__(message)
        self.found = found


def operator_eigenpairs(
    operator: SymmetricOperator,
    count: int = 1,
    *,
    generator: torch.Generator,
    end: Literal["largest", "smallest"] = "largest",
    tolerance: float = 1e-6,
    block: int | None = None,
    precondition: Callable[[Tensor], Tensor] | None = None,
    max_products: int = 2000,
    max_basis: int | None = None,
    progress: Progress | None = None,
) -> OperatorEigenpairs:
    """The ``count`` largest or smallest eigenpairs of H (by value, not by magnitude).

    Args:
        operator: H.
        count: k.
        generator: draws the start block.
        end: which.
        tolerance: on ‖Hv − λv‖/|λ|; 1e-6 leaves separate eigenvalues at about 1e-12. Residuals
            at the round-off of H, 10·eps·‖H‖, are accepted as well.
        block: vectors that grow together. Default k: a tie of up to that many copies is then
            seen whole. A single vector sees one copy of each eigenvalue.
        precondition: roughly H⁻¹ on a block of residuals, for the smallest end of a positive
            definite H.
        max_products: vectors that H may be applied to.
        max_basis: vectors kept before a restart, twice that in memory; default 4·block + 40, at
            least 4·block.
        progress: called after each product.

    Returns:
        The pairs.

    Raises:
        NotConvergedError: when the budget runs out; it carries what was found.
        ValueError: for k outside 1..n, or products that are not finite.
    """
    n = operator.dimension
    if not 1 <= count <= n:
        raise ValueError(f"An operator of dimension {n} has 1 to {n} eigenpairs. Got {count}.")
    if end not in ("largest", "smallest"):
        raise ValueError(f"An end of a spectrum is 'smallest' or 'largest'. Got {end!r}.")
    width = min(n, count if block is None else max(block, count))
    # With less room than this a restart would leave nothing to grow.
    room = min(n, max(max_basis or 4 * width + 40, 4 * width))
    sign = 1.0 if end == "smallest" else -1.0
    eps = torch.finfo(operator.dtype).eps

    basis = torch.linalg.qr(start_vectors(operator, width, generator)).Q
    image = sign * (operator @ basis)
    check_range(image, operator)
    products = width
    while True:
        inner = (basis.mT @ image).to(torch.float64)
        if not bool(torch.isfinite(inner).all()):
            raise ValueError(f"A product of the {operator.name} is not finite.")
        ritz, rotation = torch.linalg.eigh((inner + inner.mT) / 2)
        turned = rotation[:, :width].to(operator.dtype)
        vectors, moved = basis @ turned, image @ turned
        residual = moved - vectors * ritz[:width].to(operator.dtype)
        norms = residual.norm(dim=0).to(torch.float64)
        floor = 10 * eps * ritz.abs().max()
        open_ = norms > torch.maximum(tolerance * ritz[:width].abs(), floor)
        pairs = OperatorEigenpairs(sign * ritz[:count], vectors[:, :count], norms[:count], products)
        if progress is not None:
            progress(products, max_products)
        if not bool(open_[:count].any()) or basis.shape[1] >= n:
            return pairs
        if products >= max_products:
            raise NotConvergedError(
                f"{int(open_[:count].sum())} of {count} eigenpairs of the {operator.name} have not "
                f"converged after {products} products; the largest residual is "
                f"{float(norms[:count].max()):.3g}. Raise max_products, loosen the tolerance "
                f"({tolerance:g}), or precondition.",
                pairs,
            )
        if basis.shape[1] + int(open_.sum()) > room:
            kept = rotation[:, : min(room // 2, rotation.shape[1])].to(operator.dtype)
            basis, image = basis @ kept, image @ kept
        fresh = residual[:, open_]
        if precondition is not None:
            fresh = precondition(fresh)
        fresh = _orthonormal_rest(fresh, basis)
        if fresh.shape[1] == 0:
            # The space is exhausted but not closed: go on from a random direction.
            fresh = _orthonormal_rest(start_vectors(operator, 1, generator), basis)
        basis = torch.cat([basis, fresh], dim=1)
        image = torch.cat([image, sign * (operator @ fresh)], dim=1)
        products += fresh.shape[1]


def _orthonormal_rest(block: Tensor, basis: Tensor) -> Tensor:
    """Orthonormal columns for what of a block its basis does not hold; fewer where it does."""
    block = block / block.norm(dim=0).clamp_min(torch.finfo(block.dtype).tiny)
    for _ in range(2):
        block = block - basis @ (basis.mT @ block)
        # By way of QR: on a GPU libraries refuse an SVD with millions of rows.
        tall, triangle = torch.linalg.qr(block)
        left, values, _ = torch.linalg.svd(triangle)
        block = tall @ left[:, values > 100 * torch.finfo(block.dtype).eps]
    return block
