"""What a family attacks: a training loss on M problems, seen through a few functions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor


class AttackPlan(NamedTuple):
    """What to run and record.

    Attributes:
        budget: largest number of steps.
        threshold: ε; an attacker is done when the loss gap is at most ε.
        record: ascending steps, the first 0, at which curves are kept.
        attackers: G, the size of the grid.
        keep: whether weights are kept at the recorded steps, for accuracies.
        finished_gap: a problem whose attackers are done leaves before the last record once its
            loss is this close to the best of its features; later records repeat what it had then.
            Infinite: it leaves at the threshold.
    """

    budget: int
    threshold: float
    record: list[int]
    attackers: int = 1
    keep: bool = True
    finished_gap: float = 1e-10


class Attack(NamedTuple):
    """Outcome of G attackers on M problems.

    Attributes:
        steps: first step with a loss gap ≤ ε, shape (M, G), integer; budget + 1 if never.
        gaps: loss gap at the R recorded steps, shape (M, G, R).
        distances: ‖w − w*‖² at the recorded steps, shape (M, G, R); NaN where w* is not known.
        weights: at the recorded steps, shape (M, G, R, k), as the objective holds them; None
            where they were not to be kept.
    """

    steps: Tensor
    gaps: Tensor
    distances: Tensor
    weights: Tensor | None

    def part(self, problems: slice) -> Attack:
        """Of some problems."""
        weights = None if self.weights is None else self.weights[problems]
        return Attack(self.steps[problems], self.gaps[problems], self.distances[problems], weights)


class Objective(ABC):
    """A training loss on M problems, on each of which G attackers work; weights are (M, G, k).

    The loss gap is (L − L*)/(L_0 − L*) with L_0 the loss of the zero probe and L* the best loss
    **without immunization**: what counts is how well the harmful task is solved, not how close an
    attacker comes to whatever the immunized features allow.

    Attributes:
        smoothness: L, largest curvature, shape (M, 1, 1).
        convexity: μ, smallest non-zero curvature, likewise; None where it is not known.
        replays: whether its functions always launch the same operations, as a CUDA graph wants.
    """

    smoothness: Tensor
    convexity: Tensor | None
    replays: ClassVar[bool] = False

    @abstractmethod
    def start(self, attackers: int) -> Tensor:
        """Weights at step 0, shape (M, G, k); a tensor of its own."""

    @abstractmethod
    def evaluate(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Loss gap (M, G) and gradient (M, G, k)."""

    @abstractmethod
    def to_minimum(self, weights: Tensor, gradient: Tensor, direction: Tensor) -> Tensor:
        """Step length to the minimum along a descent direction, shape (M, G, 1)."""

    @abstractmethod
    def newton(self, weights: Tensor, gradient: Tensor) -> Tensor:
        """Newton direction −H⁺g, shape (M, G, k)."""

    @abstractmethod
    def distance(self, weights: Tensor) -> Tensor:
        """‖w − w*‖², shape (M, G)."""

    def reachable_gap(self, gap: Tensor) -> Tensor:
        """Part of a loss gap that these features can still lose, at least; shape of the gap."""
        return gap

    def stationary(self, gradient: Tensor) -> Tensor:
        """Whether a gradient (M, G, k) is so small that no step can gain anything, shape (M, G)."""
        return torch.zeros_like(gradient[..., 0], dtype=torch.bool)

    @abstractmethod
    def select(self, problems: Tensor) -> Objective:
        """The same on some of the problems."""


def ratio_or_zero(over: Tensor, under: Tensor) -> Tensor:
    """over/under, and 0 where under is not positive."""
    positive = under > 0
    return torch.where(positive, over / torch.where(positive, under, torch.ones_like(under)), 0.0)
