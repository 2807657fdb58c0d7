"""The generalized spectrum of (K_H, K_P): what immunization can reach, and how to reach it.

For every invertible θ, with c_1 ≥ … ≥ c_r > 0 the non-zero generalized eigenvalues,

    κ(θᵀK_Hθ) ≤ (c_1/c_r) · κ(θᵀK_Pθ)    if range(K_H) ⊆ range(K_P),

and no such bound exists otherwise: a direction that K_P does not see can be scaled at will.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hessian_spectrum.factor import RangeFactor
from hessian_spectrum.svd import svd_of_one


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
        contained: whether range(K_H) ⊆ range(K_P) at the tolerance of K_H's rank.
        unseen_floor: δ, or None when the null space of K_P is left out.
    """

    eigenvalues: Tensor
    vectors: Tensor
    scaling: Tensor
    outside: float
    contained: bool
    unseen_floor: float | None

    @property
    def spread(self) -> float:
        """c_1/c_r, the factor between κ(H_H) and κ(H_P) at the optimum."""
        return float(self.eigenvalues[-1] / self.eigenvalues[0])


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
            smallest non-zero eigenvalue, which makes the spectrum finite when K_H sticks out.

    Returns:
        The spectrum; see `immunizability_limit` and `optimal_extractor` for its use.
    """
    dimension = primary.basis.shape[0]
    if harmful.basis.shape[0] != dimension:
        raise ValueError(
            f"Both tasks need the same number of features. Got {dimension} for D_P and "
            f"{harmful.basis.shape[0]} for D_H."
        )
    f_h = harmful.matrix
    seen = primary.basis.mT @ f_h
    _, stray, _ = svd_of_one(f_h - primary.basis @ seen)
    energy = harmful.singular_values.square().sum()
    contained = bool(stray[0] <= harmful.tolerance * harmful.singular_values[0])
    outside = float(stray.square().sum() / energy)

    scaling = primary.basis / primary.singular_values
    if unseen_floor is not None and primary.rank < dimension:
        complement = torch.linalg.qr(primary.basis, mode="complete").Q[:, primary.rank :]
        floor = primary.singular_values[-1] * unseen_floor**0.5
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
    return GeneralizedSpectrum(
        eigenvalues=values[:count].square().flip(0),
        vectors=vectors,
        scaling=scaling,
        outside=0.0 if contained else outside,
        contained=contained,
        unseen_floor=unseen_floor,
    )


def immunizability_limit(primary: RangeFactor, harmful: RangeFactor) -> float:
    """The largest RIR any invertible θ can have, (c_1/c_r)·κ(K_P)/κ(K_H).

    Returns:
        The limit, ``inf`` where range(K_H) sticks out of range(K_P) at the tolerance of K_H.
    """
    spectrum = generalized_spectrum(primary, harmful)
    if not spectrum.contained:
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
