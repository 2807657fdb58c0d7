"""Squared loss of a probe on D_P or D_H, from sufficient statistics only."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from immunization.linear.sufficient_statistics import TaskBatch
from immunization.linear.tasks import Problem

PROBE_DRAW = 1
"""Purpose that seeds the initial probe, the same for every method."""


def initial_probe(problem: Problem) -> Tensor:
    """ω_0 ~ N(0, I/D), shape (B, D); the same start for every method."""
    return problem.normal(PROBE_DRAW, problem.dimension) / problem.dimension**0.5


def task_curvature(task: TaskBatch) -> Tensor:
    """c² = σ_1(K)/N, shape (B,)."""
    return task.singular_values[:, 0].square() / task.rows


class TaskLoss(NamedTuple):
    """L(θ, ω) = ‖Xθω/c − y‖²/(2N), as K/c², Xᵀy/c, ‖y‖² and N.

    c² = σ_1(K)/N makes the curvature at θ = I one, so that η means the same on pixels and on
    prices: with raw normalised pixels, full-batch steps of the paper's η = 0.005 diverge.
    Condition numbers do not see c.
    """

    gram: Tensor
    moment: Tensor
    energy: Tensor
    rows: Tensor

    @classmethod
    def of(cls, task: TaskBatch) -> TaskLoss:
        """Loss of one role."""
        curvature = task_curvature(task)
        return cls(
            task.gram() / curvature[:, None, None],
            task.moment() / curvature.sqrt()[:, None],
            task.target_energy,
            task.rows,
        )

    def value(self, theta: Tensor, probe: Tensor) -> Tensor:
        """L, shape (B,)."""
        weights = (theta @ probe[..., None]).squeeze(-1)
        image = (self.gram @ weights[..., None]).squeeze(-1)
        square = (weights * (image - 2 * self.moment)).sum(-1) + self.energy
        return square / (2 * self.rows)

    def gradients(self, theta: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
        """∇_θL = Xᵀrωᵀ/N and ∇_ωL = θᵀXᵀr/N with r the residual."""
        weights = theta @ probe[..., None]
        residual = ((self.gram @ weights).squeeze(-1) - self.moment) / self.rows[:, None]
        by_theta = residual[..., None] * probe[:, None, :]
        by_probe = (theta.mT @ residual[..., None]).squeeze(-1)
        return by_theta, by_probe
