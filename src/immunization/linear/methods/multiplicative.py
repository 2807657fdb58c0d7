"""Multiplicative iteration to the limit: whiten H_P, then stretch H_H as far as H_P may follow.

Not in the paper. Every step multiplies θ from the right by a polynomial of the Hessians:

    whiten   θ ← θ·ρ(3I − ρ²H_P)/2 until H_P = I (Newton–Schulz, scaled; Chen and Chow, 2014),
    stretch  θ ← θ·(I + τX(X − rI)/(1 − r)), X = H_H/σ_1(H_H), r = 1/κ(H_H), until κ(H_P) has
             grown to its budget.

Once H_P = I, H_H has the generalized eigenvalues c of (K_H, K_P) for its spectrum, and the two
Hessians commute: a stretch leaves the least c, and what D_H does not use, where they are, and moves
each other one by a factor that grows with it. So κ(H_H) = (c_1/c_r)·κ(H_P) all along, the limit
that no invertible θ exceeds (`hessian_spectrum.immunizability`). Only matrix products are taken,
all pairs at once, and the number of steps follows from the data before the first. (c) of Definition
3.1 holds as θ stays invertible.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from immunization.linear.methods._descent import Immunized, ThetaIteration, descend
from immunization.linear.sufficient_statistics import TaskBatch
from immunization.linear.tasks import Problem

EXTENDS = "_kappa_budget"
PARAMETERS = {
    "resolved": {
        "type": "number",
        "minimum": 1,
        "default": 1e14,
        "description": "κ(H_H) beyond which no direction is stretched further: in float64 the "
        "result would look singular.",
    },
    "steps": {
        "type": "integer",
        "minimum": 1,
        "default": 200,
        "description": "largest number of steps; about log κ(K_P) are needed.",
    },
}
FASTEST = 1.5
"""Largest ρ. At √3 the largest singular value would be sent to nothing, with its digits."""
CLOSE = 1e-9
"""Singular values within this of 1 are within round-off after one more step."""
ROOM = 1e-4
"""Share of the budget that is left, so that no round-off is counted as more than allowed."""


def depends_on_seed(parameters: dict[str, Any]) -> bool:
    """Whether θ depends on the seed beyond the tasks."""
    return False


def immunize(problem: Problem, parameters: dict[str, Any]) -> Immunized:
    """θ, shape (B, D, D), and its trajectory."""
    make = partial(Multiplicative, problem, parameters)
    return descend(problem, [make], steps=parameters["steps"], stop=None)


class Multiplicative(ThetaIteration):
    """State of the iteration on all pairs of a problem."""

    def __init__(self, problem: Problem, parameters: dict[str, Any]) -> None:
        super().__init__(problem, "identity")
        self._factor = completed_factor(problem.primary, parameters["unseen_floor"])
        self._harmful = problem.harmful.factor
        values, ranks = problem.primary.singular_values, problem.primary.ranks
        largest = values[:, 0]
        smallest = values.gather(1, ranks[:, None] - 1).squeeze(1)
        self._reference = (largest / smallest).square()
        given = parameters["budget"]
        budget = self._reference if given == "reference" else torch.full_like(largest, given)
        self._budget = (budget * (1 - ROOM)).clamp(min=1)
        self._most = parameters["resolved"]
        self.theta = self.theta / largest[:, None, None]
        full = ranks == problem.dimension
        floor = torch.where(full, 1.0, parameters["unseen_floor"] ** 0.5)
        # The smallest singular value is known from the data at every step: nothing is measured.
        self._plan = [float(value) for value in (smallest * floor / largest).tolist()]
        self._stretched: Tensor | None = None
        self._closed = False

    def step(self) -> None:
        if not self._closed:
            self._whiten()
            return
        if self._stretched is None:
            self._measure()
        self._stretch()

    def finished(self) -> Tensor | None:
        if not self._closed:
            return None
        if self._stretched is None:
            return self._budget <= 1
        return self._done

    def _whiten(self) -> None:
        """One scaled Newton–Schulz step, the same for all pairs that are close already."""
        scales = [min(FASTEST, (3 / (1 + low + low * low)) ** 0.5) for low in self._plan]
        self._closed = all(low > 1 - CLOSE for low in self._plan)
        self._plan = [
            min(1.0, scale * low * (3 - (scale * low) ** 2) / 2)
            for scale, low in zip(scales, self._plan, strict=True)
        ]
        scale = torch.tensor(scales, dtype=torch.float64).to(self.theta)[:, None, None]
        image = self._factor.mT @ self.theta
        move = (image.mT @ image).mul_(-0.5 * scale**3)
        move.diagonal(dim1=-2, dim2=-1).add_(1.5 * scale[:, 0])
        self.theta = self.theta @ move

    def _measure(self) -> None:
        """Both ends of H_H at H_P = I: from there on they are known."""
        _, harmful = self.ends()
        self._largest = harmful.largest
        self._ratio = (harmful.smallest / harmful.largest).clamp(min=0)
        self._stretched = torch.ones_like(self._largest)
        self._done = torch.zeros_like(self._largest, dtype=torch.bool)

    def _stretch(self) -> None:
        """θ(I + τX(X − rI)/(1 − r)) with X = H_H/σ_1 and r its least, τ = 1 but for the last."""
        assert self._stretched is not None
        ratio = self._ratio
        # Both κ grow by (1 + τ)². The last step ends on the budget.
        room = (self._budget / self._stretched).sqrt()
        allowed = torch.minimum(room, (self._most * ratio).clamp(min=1).sqrt())
        self._done = allowed <= 2
        factor = allowed.clamp(max=2.0)
        flat = ratio >= 1  # nothing to stretch
        weight = torch.where(flat, 0.0, (factor - 1) / torch.where(flat, 1.0, 1 - ratio))
        image = (self._harmful.mT @ self.theta) / self._largest.sqrt()[:, None, None]
        once = (self.theta @ image.mT) @ image
        twice = (once @ image.mT) @ image
        move = twice - ratio[:, None, None] * once
        self.theta = self.theta + weight[:, None, None] * move
        self._largest = self._largest * factor.square()
        self._ratio = ratio / factor.square()
        self._stretched = self._stretched * factor.square()


def completed_factor(task: TaskBatch, floor: float) -> Tensor:
    """F̃ with F̃F̃ᵀ = K + δγ_k(I − VVᵀ), shape (B, D, D): unseen directions get a little energy.

    Args:
        task: D_P, with K = V diag(s²) Vᵀ of rank k and γ_k = s_k².
        floor: δ.
    """
    known: dict[int, Tensor] = {}
    for number, factor in zip(task.tasks, task.range_factors(), strict=True):
        if number not in known:
            rest = torch.linalg.qr(factor.basis, mode="complete").Q[:, factor.rank :]
            small = factor.singular_values[-1] * floor**0.5
            known[number] = torch.cat([factor.matrix, small * rest], dim=1)
    return torch.stack([known[number] for number in task.tasks])
