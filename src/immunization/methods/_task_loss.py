"""Squared loss of a probe on D_P or D_H, from sufficient statistics only."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from immunization.tasks import Problem, TaskBatch

PROBE_DRAW = 1
"""Purpose that seeds the initial probe, the same for every method."""


def initial_probe(problem: Problem) -> Tensor:
    """ω_0 ~ N(0, I/D), shape (B, D); drawn once a seed so that methods start alike."""
    draw = torch.randn(
        problem.size,
        problem.dimension,
        dtype=torch.float64,
        generator=problem.generator(PROBE_DRAW),
    )
    return (draw / problem.dimension**0.5).to(problem.primary.factor)


class TaskLoss(NamedTuple):
    """L(θ, ω) = ‖Xθω − y‖²/(2N), as K, Xᵀy, ‖y‖² and N."""

    gram: Tensor
    moment: Tensor
    energy: Tensor
    rows: Tensor

    @classmethod
    def of(cls, task: TaskBatch, gram: Tensor | None = None) -> TaskLoss:
        """Loss of one role; ``gram`` saves forming K again."""
        return cls(
            task.gram() if gram is None else gram, task.moment(), task.target_energy, task.rows
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
