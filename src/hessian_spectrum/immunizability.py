"""The generalized spectrum of (K_H, K_P): what immunization can reach, and how to reach it.

For every invertible θ, with c_1 ≥ … ≥ c_r > 0 the non-zero generalized eigenvalues,

    κ(θᵀK_Hθ) ≤ (c_1/c_r) · κ(θᵀK_Pθ)    if range(K_H) ⊆ range(K_P),

and no such bound exists otherwise: a direction that K_P does not see can be scaled at will. (Unless
K_H has rank one: its κ is 1 whatever θ is.) It binds invertible linear θ, and a squared-loss probe
without an intercept on features as they come; for one with an intercept take factors of centred
features. A singular θ may exceed it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hessian_spectrum.kernels.svd import svd_of_one
from hessian_spectrum.range_factor import RangeFactor

ROOM = 4.0
"""Tolerances bound what errors do to singular values. They turn directions by that to first order;
the rest is in this factor."""


@dataclass(frozen=True)
class GeneralizedSpectrum:
    """Generalized eigenvalues of (K_H, K_P), and what of K_H lies outside range(K_P).

    Attributes:
        eigenvalues: the non-zero c, ascending; with ``unseen_floor`` set, those of
            (K_H, K_P + δγ_r·(projector on the null space of K_P)), γ_r the smallest non-zero
            eigenvalue of K_P.
        vectors: U, shape (D, D) or (r, r), orthonormal, columns in the order of all generalized
            eigenvalues (zeros first).
        scaling: W with θ = W U diag(s) the extractor; shape (D, D) or (D, r).
        outside: share of the harmful energy tr(K_H) that lies outside range(K_P), in [0, 1].
        contained: whether range(K_H) ⊆ range(K_P), see `is_contained`.
        unseen_floor: δ, or None when the null space of K_P is left out.
        spread: c_1/c_r, the factor between κ(H_H) and κ(H_P) at the optimum; 1 where K_H has rank
            one. It is right also where the c themselves leave the range of float64.
    """

    eigenvalues: Tensor
    vectors: Tensor
    scaling: Tensor
    outside: float
    contained: bool
    unseen_floor: float | None
    spread: float


def generalized_spectrum(
    primary: RangeFactor, harmful: RangeFactor, *, unseen_floor: float | None = None
) -> GeneralizedSpectrum:
    """Generalized eigenvalues of (K_H, K_P) from the two range factors.

    They are the squared singular values of diag(s_P)⁻¹V_PᵀF_H, so neither Gram matrix is formed
    and no matrix is inverted but a diagonal one.

    Args:
        primary: factor of D_P, K_P = F_P F_Pᵀ.
        harmful: factor of D_H, of the same D.
        unseen_floor: δ > 0 gives directions that D_P does not see an energy of δ times its
            smallest non-zero eigenvalue, which makes the spectrum finite where K_H is not contained
            in range(K_P).

    Returns:
        The spectrum; see `immunizability_limit` and `optimal_extractor` for its use.
    """
    dimension = primary.basis.shape[0]
    if harmful.basis.shape[0] != dimension:
        raise ValueError(
            f"Both tasks need the same number of features. Got {dimension} for D_P and "
            f"{harmful.basis.shape[0]} for D_H."
        )
    # Divided by its σ_1: squares of what is left stay within the range of float64.
    f_h = harmful.matrix / harmful.singular_values[0]
    seen = primary.basis.mT @ f_h
    stray = f_h - primary.basis @ seen
    energy = (harmful.singular_values / harmful.singular_values[0]).square().sum()
    outside = float(stray.square().sum() / energy)
    contained = is_contained(primary, harmful)

    relative = primary.singular_values / primary.singular_values[0]
    scaling = primary.basis / relative
    if unseen_floor is not None and primary.rank < dimension:
        complement = torch.linalg.qr(primary.basis, mode="complete").Q[:, primary.rank :]
        floor = relative[-1] * unseen_floor**0.5
        scaling = torch.cat([complement / floor, scaling], dim=1)
    whitened = scaling.mT @ f_h
    vectors, values, _ = svd_of_one(whitened)
    if vectors.shape[1] < len(vectors):
        rest = torch.linalg.qr(vectors, mode="complete").Q[:, vectors.shape[1] :]
        vectors = torch.cat([vectors, rest], dim=1)
    # Ascending, so that the directions harmful data does not use (c = 0) come first.
    vectors = vectors.flip(-1)
    count = min(harmful.rank, whitened.shape[0])
    if unseen_floor is None and not contained:
        # Outside the range of K_P some of the c are round-off; count those that are not.
        count = int((values > harmful.tolerance * values[0]).sum())
    kept = values[:count].flip(0)
    units = harmful.singular_values[0] / primary.singular_values[0]
    return GeneralizedSpectrum(
        eigenvalues=(kept * units).square(),
        vectors=vectors,
        scaling=scaling / primary.singular_values[0],
        outside=0.0 if contained else outside,
        contained=contained,
        unseen_floor=unseen_floor,
        spread=float((kept[-1] / kept[0]).square()) if len(kept) > 1 else 1.0,
    )


def is_contained(primary: RangeFactor, harmful: RangeFactor) -> bool:
    """Whether range(K_H) ⊆ range(K_P), as far as data can tell.

    Both factors are known up to errors of their tolerances t, which turn each direction of their
    ranges, the more the smaller the singular value that holds it. With V_Hy a unit direction of
    range(K_H) and S = diag(σ)/σ_1, errors in X_H turn it by up to t_H·|S_H⁻¹y|, and those in X_P
    turn what of range(K_P) is nearest to it by up to t_P·|S_P⁻¹V_PᵀV_Hy|. The range is contained
    where it has no more directions than that of K_P, and none lies outside by more than `ROOM` of
    what errors do to it.

    Args:
        primary, harmful: the factors.
    """
    if harmful.rank > primary.rank:
        return False
    across = primary.basis.mT @ harmful.basis
    stray = harmful.basis - primary.basis @ across
    stray = stray - primary.basis @ (primary.basis.mT @ stray)
    harmful_errors = harmful.singular_values[0] / harmful.singular_values * harmful.tolerance
    other = primary.singular_values[0] / primary.singular_values * primary.tolerance
    upper = torch.linalg.qr(torch.cat([torch.diag(harmful_errors), other[:, None] * across])).R
    turned = torch.linalg.solve_triangular(upper.mT, stray.mT, upper=False)
    return bool(torch.linalg.matrix_norm(turned, 2) <= ROOM)


def immunizability_limit(primary: RangeFactor, harmful: RangeFactor) -> float:
    """The largest RIR any invertible θ can have, (c_1/c_r)·κ(K_P)/κ(K_H).

    For a squared-loss probe without an intercept; for one with an intercept give factors of
    centred features. A singular θ may exceed it.

    >>> import torch
    >>> from hessian_spectrum import range_factor
    >>> benign = range_factor(torch.diag(torch.tensor([2.0, 1.0, 1.0])))
    >>> harmful = range_factor(torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]))
    >>> round(immunizability_limit(benign, harmful), 9)
    16.0

    Returns:
        The limit, ``inf`` where range(K_H) is not contained in range(K_P), see
        `is_contained`. For K_H of rank one it is κ(K_P), contained or not: κ(H_H) is 1.
    """
    spectrum = generalized_spectrum(primary, harmful)
    if not spectrum.contained and harmful.rank > 1:
        return float("inf")
    return limit_from_spread(spectrum.spread, primary, harmful)


def limit_from_spread(spread: float, primary: RangeFactor, harmful: RangeFactor) -> float:
    """RIR_max from c_1/c_r and the two condition numbers before immunization."""
    return spread * factor_condition(primary) / factor_condition(harmful)


def factor_condition(factor: RangeFactor) -> float:
    """κ(K) over its non-zero spectrum, from a range factor."""
    return float((factor.singular_values[0] / factor.singular_values[-1]).square())


def optimal_extractor(spectrum: GeneralizedSpectrum, budget: float) -> Tensor:
    """θ* that reaches the limit: κ(H_P) = ``budget`` and κ(H_H) = ``budget``·c_1/c_r.

    θ* = Q Γ^{-1/2} U diag(s), with s² spread geometrically from 1 to the budget in the order of
    the non-zero c, so that the harmful spectrum is stretched evenly between its two ends;
    directions that D_H does not use keep s = 1.

    Args:
        spectrum: of (K_H, K_P). Where K_P is singular it needs an ``unseen_floor``, or θ* would
            not be square.
        budget: allowed κ(H_P), ≥ 1.

    Returns:
        θ*, shape (D, D), invertible.
    """
    if not budget >= 1:
        raise ValueError(f"A condition number budget is at least 1. Got {budget}.")
    size = spectrum.vectors.shape[0]
    if spectrum.scaling.shape[0] != size:
        raise ValueError(
            f"K_P has rank {size} of {spectrum.scaling.shape[0]}: give the generalized spectrum "
            "an unseen_floor to say how unseen directions are scaled."
        )
    device = spectrum.vectors.device
    used = spectrum.eigenvalues.shape[0]
    exponents = torch.zeros(size, dtype=torch.float64, device=device)
    exponents[size - used :] = torch.linspace(0, 1, used, dtype=torch.float64, device=device)
    scales = torch.as_tensor(budget, dtype=torch.float64) ** (exponents / 2)
    return spectrum.scaling @ (spectrum.vectors * scales)
