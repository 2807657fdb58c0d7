"""A squared-loss probe in the eigenbasis of its Hessian: what an attacker starts from.

With errors e = v − w* in the eigenbasis, the loss above the best is Σσ²e²/(2N) and its gradient
σ²e/N: first-order attacks follow exactly from the eigenvalues σ² and the coefficients of w*, at
O(k) a step. N only scales the step length and is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Quadratic(NamedTuple):
    """M problems, padded with zeros to k.

    Attributes:
        eigenvalues: σ², shape (M, k), ascending.
        coefficients: w* in the eigenbasis, shape (M, k). The attacker starts at zero, so the
            first error is their negative.
    """

    eigenvalues: Tensor
    coefficients: Tensor

    def scaled(self) -> Tensor:
        """Eigenvalues over the largest, shape (M, k): no attacker here depends on the scale."""
        return self.eigenvalues / self.eigenvalues[:, -1:]

    def start(self) -> Tensor:
        """Errors at step 0, shape (M, k)."""
        return -self.coefficients


class Plan(NamedTuple):
    """What to run and record.

    Attributes:
        budget: largest number of steps.
        threshold: ε; an attacker is done when the loss gap is at most ε.
        record: ascending steps, the first 0, at which errors are kept.
    """

    budget: int
    threshold: float
    record: list[int]


class Attack(NamedTuple):
    """Outcome of one attacker on M problems.

    Attributes:
        steps: first step with a loss gap ≤ ε, shape (M,), integer; budget + 1 if never.
        errors: at the recorded steps, shape (M, R, k).
    """

    steps: Tensor
    errors: Tensor


def loss_gap(scaled: Tensor, errors: Tensor, start: Tensor) -> Tensor:
    """(L_t − L*)/(L_0 − L*), shape (M, …); 0 where L_0 = L*.

    Args:
        scaled: eigenvalues over the largest, shape (M, k) or (M, 1, k) to match ``errors``.
        errors: shape (M, k) or (M, R, k).
        start: errors at step 0, shape like ``errors``.
    """
    first = (scaled * start.square()).sum(-1)
    now = (scaled * errors.square()).sum(-1)
    return torch.where(first > 0, now / first.clamp_min(torch.finfo(now.dtype).tiny), 0.0)


def convergence_ratio(errors: Tensor) -> Tensor:
    """‖w_t − w*‖²/‖w_0 − w*‖² (Zheng et al., ICML 2025, Eq. 16) at recorded steps, (M, R)."""
    square = errors.square().sum(-1)
    return square / square[:, :1].clamp_min(torch.finfo(square.dtype).tiny)
