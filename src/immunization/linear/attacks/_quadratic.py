"""The spectral simulator: a squared-loss probe in the eigenbasis of its Hessian.

With errors e = w − w* in the eigenbasis, the loss above the best is Σσ²e²/(2N) and its gradient
σ²e/N: every attacker whose steps do not depend on the axes follows exactly from the eigenvalues σ²
and the coefficients of w*, at O(k) a step and without the data. N only scales the step length and
is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from immunization.linear.attacks._objective import Objective, ratio_or_zero


@dataclass(frozen=True)
class Quadratic(Objective):
    """M problems, padded with zeros to k. Weights are held as errors e.

    Attributes:
        eigenvalues: over the largest of each problem, shape (M, 1, k).
        coefficients: w* in the eigenbasis, shape (M, 1, k).
        energy: 2N(L_0 − L*) without immunization, over the largest σ², shape (M, 1).
        floor: share of it that no probe on these features explains, shape (M, 1); negative where
            they explain more.
        initial: weights that attackers start at, shape (M, G, k); None for zero.
    """

    eigenvalues: Tensor
    coefficients: Tensor
    energy: Tensor
    floor: Tensor
    initial: Tensor | None = None
    replays = True

    @cached_property
    def unit(self) -> Tensor:
        """1/``energy``, and 0 where there is none."""
        return ratio_or_zero(torch.ones_like(self.energy), self.energy)

    @classmethod
    def build(
        cls,
        eigenvalues: Tensor,
        coefficients: Tensor,
        explained: Tensor | None = None,
        initial: Tensor | None = None,
    ) -> Quadratic:
        """From σ² and w* of each problem, shape (M, k).

        Args:
            eigenvalues: σ².
            coefficients: of w*.
            explained: ‖y‖² − 2N·L* without immunization, shape (M,); by default what these
                features explain.
            initial: see the class.
        """
        scale = eigenvalues.max(dim=1, keepdim=True).values
        explained_by_rows = (eigenvalues * coefficients.square()).sum(dim=1, keepdim=True)
        reference = explained_by_rows if explained is None else explained[:, None]
        return cls(
            eigenvalues=(eigenvalues / scale)[:, None],
            coefficients=coefficients[:, None],
            energy=reference / scale,
            floor=ratio_or_zero(reference - explained_by_rows, reference),
            initial=initial,
        )

    @property
    def smoothness(self) -> Tensor:  # type: ignore[override]
        """1: eigenvalues are relative."""
        return torch.ones_like(self.eigenvalues[..., :1])

    @property
    def convexity(self) -> Tensor:  # type: ignore[override]
        """Smallest non-zero eigenvalue."""
        positive = torch.where(self.eigenvalues > 0, self.eigenvalues, torch.inf)
        return positive.min(dim=-1, keepdim=True).values

    def start(self, attackers: int) -> Tensor:
        """−w*, or that plus the initial weights."""
        errors = -self.coefficients.expand(-1, attackers, -1)
        return errors.clone() if self.initial is None else errors + self.initial

    def gap(self, errors: Tensor) -> Tensor:
        """Loss gap, shape (M, …) for errors (M, …, k)."""
        shape = [len(errors)] + [1] * (errors.ndim - 2)
        loss = (self.eigenvalues.reshape(*shape, -1) * errors.square()).sum(-1)
        return self.floor.reshape(shape) + ratio_or_zero(loss, self.energy.reshape(shape))

    def evaluate(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Loss gap and gradient."""
        gradient = self.eigenvalues * weights
        loss = torch.linalg.vecdot(gradient, weights)
        return self.floor + loss * self.unit, gradient

    def to_minimum(self, weights: Tensor, gradient: Tensor, direction: Tensor) -> Tensor:
        """Exact: −gᵀd/dᵀHd."""
        slope = torch.linalg.vecdot(gradient, direction)
        curvature = torch.linalg.vecdot(self.eigenvalues * direction, direction)
        return ratio_or_zero(-slope, curvature)[..., None]

    def newton(self, weights: Tensor, gradient: Tensor) -> Tensor:
        """−e on the range."""
        return torch.where(self.eigenvalues > 0, -weights, 0.0)

    def distance(self, weights: Tensor) -> Tensor:
        """‖e‖²."""
        return weights.square().sum(-1)

    def reachable_gap(self, gap: Tensor) -> Tensor:
        """Without the floor."""
        return gap - self.floor

    def select(self, problems: Tensor) -> Quadratic:
        """Some problems."""
        return replace(
            self,
            eigenvalues=self.eigenvalues[problems],
            coefficients=self.coefficients[problems],
            energy=self.energy[problems],
            floor=self.floor[problems],
            initial=None if self.initial is None else self.initial[problems],
        )


def convergence_ratio(distances: Tensor) -> Tensor:
    """‖w_t − w*‖²/‖w_0 − w*‖² along the last axis (Zheng et al., ICML 2025, Eq. 16)."""
    return distances / distances[..., :1].clamp_min(torch.finfo(distances.dtype).tiny)
