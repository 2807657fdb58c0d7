"""Algorithm 1 as printed, in coordinates where K_P and K_H are both diagonal.

A step takes two matrix products of the joint range's size (see `hessian_spectrum.joint`): φφᵀ,
from which both Hessians are read off, and the row operation that moves φ. It is exact: the same θ
as by Algorithm 1 line by line, up to round-off (tested).
"""

from __future__ import annotations

import torch
from torch import Tensor

from hessian_spectrum import ExtremeTracker, JointRange, joint_range
from immunization.methods._balance import balanced
from immunization.methods._task_loss import initial_probe, task_curvature
from immunization.tasks import Problem, TaskBatch


class JointLoss:
    """The task loss of D_P in the joint coordinates; `TaskLoss` says what it is."""

    def __init__(self, joint: JointRange, task: TaskBatch, pairs: Tensor) -> None:
        rows = task.rows[pairs, None, None]
        curvature = task_curvature(task)[pairs, None, None]
        moment = joint.basis.mT @ task.moment()[pairs, :, None] / (rows * curvature.sqrt())
        self._weight = joint.primary[..., None] / curvature / rows
        self._metric = joint.inverse @ joint.inverse.mT
        self._left = joint.inverse @ moment
        self._right = joint.transform.mT @ moment

    def gradients(self, phi: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
        """Columns u (B, m, 1) with ∇_θL = QW·u·ωᵀ, and ∇_ωL, both in joint coordinates."""
        # Vectors stand in front of symmetric matrices: CPU libraries are faster that way.
        pulled = self._weight * (probe.mT @ phi.mT).mT
        by_theta = (pulled.mT @ self._metric).mT - self._left
        return by_theta, ((pulled - self._right).mT @ phi).mT


class JointAlgorithm:
    """State of Algorithm 1 on a batch of pairs; call `step` for each iteration.

    Attributes:
        phi, probe: φ (b, m, m + 1) and ω (b, m + 1, 1) in joint coordinates.
        pairs: places of the pairs in the problem.
        extremes: σ_1(H_P) and σ_k(H_H) that the last step used, each of shape (b,).

    Args:
        problem: all pairs.
        joint: their joint coordinates (`joint_of`).
        pairs: places of those in this batch, shape (b,).
        eta: η.
        lambda_p: λ_P, or None so that on the first step its term moves θ by η‖θ‖.
        lambda_h: λ_H, likewise.
    """

    phi: Tensor
    probe: Tensor
    extremes: tuple[Tensor, Tensor]
    _weights: tuple[Tensor, Tensor]

    def __init__(
        self,
        problem: Problem,
        joint: JointRange,
        pairs: Tensor,
        *,
        eta: float,
        lambda_p: float | None = None,
        lambda_h: float | None = None,
    ) -> None:
        self.eta = eta
        self.joint = joint = joint.select(pairs)
        self.pairs = pairs
        self._ranks = problem.harmful.ranks[pairs].to(joint.basis.dtype)
        self._dimension = problem.dimension
        self._roots = joint.primary.sqrt()[..., None], joint.harmful.sqrt()[..., None]
        self._scales = tuple(root * root.mT for root in self._roots)
        # Written anew at each step: fresh memory costs more than what is computed into it.
        self._product = torch.empty_like(self._scales[0])
        self._hessians = torch.empty_like(self._product), torch.empty_like(self._product)
        self._unseen = (joint.harmful <= 0).to(joint.basis.dtype)
        self._top, self._low = ExtremeTracker("largest"), ExtremeTracker("smallest")
        self._blind = _blind_sides(joint)
        self._start(initial_probe(problem)[pairs, :, None])
        self._loss = JointLoss(joint, problem.primary, pairs)
        self._weigh(lambda_p, lambda_h)

    def step(self) -> None:
        """One iteration: both extreme eigenpairs, both gradients, the task loss, the update."""
        product = torch.bmm(self.phi, self.phi.mT, out=self._product)
        move = self._moves(product, self._weights[0], self._weights[1])
        by_theta, by_probe = self._loss.gradients(self.phi, self.probe)
        phi = torch.baddbmm(self.phi, move, self.phi, alpha=-self.eta)
        self.phi = phi.addcmul_(by_theta, self.probe.mT, value=-self.eta)
        self.probe = self.probe - self.eta * by_probe

    def extractor(self) -> Tensor:
        """θ, shape (b, D, D)."""
        return self.joint.extractor(self.phi, self.right)

    def _start(self, probe: Tensor) -> None:
        """θ = I and the initial probe in these coordinates."""
        joint = self.joint
        # The probe is drawn in all of R^D; one more column on the right holds what is not in Q.
        outside = probe - joint.basis @ (joint.basis.mT @ probe)
        length = outside.norm(dim=-2, keepdim=True)
        seen = length > 1e-12 * probe.norm(dim=-2, keepdim=True)
        outside = torch.where(seen, outside / length, torch.zeros_like(outside))
        self.right = torch.cat([joint.basis, outside], dim=-1)
        self.phi = joint.coordinates(self.right)
        self.probe = self.right.mT @ probe

    def _weigh(self, lambda_p: float | None, lambda_h: float | None) -> None:
        """Fix λ_P and λ_H, from both gradients at θ = I in the original coordinates."""
        product = self.phi @ self.phi.mT
        one = torch.ones_like(product[:, :1, :1])
        start = self.extractor()
        weights = []
        for given, on in ((lambda_p, (one, 0 * one)), (lambda_h, (0 * one, one))):
            gradient = self.joint.transform @ (self._moves(product.clone(), *on) @ self.phi)
            weights.append(balanced(given, gradient, start))
        self._weights = weights[0], weights[1]

    def _moves(self, product: Tensor, by_p: Tensor, by_h: Tensor) -> Tensor:
        """L with λ_PK_P⁺∇R_well + λ_HK_H⁺∇R_ill = Lφ, (B, m, m); overwrites ``product``.

        Without projectors L = φφᵀ(√p·g(√p·g)ᵀ − diag(p)/D) for R_well, g the largest eigenvector
        of √p·φφᵀ·√p, and likewise for R_ill.
        """
        harmful = torch.mul(product, self._scales[1], out=self._hessians[1])
        square = torch.linalg.matrix_norm(harmful).square()
        # What K_H does not see gets the trace on the diagonal, out of the way of the smallest.
        diagonal = harmful.diagonal(dim1=-2, dim2=-1)
        diagonal.add_(self._unseen * diagonal.sum(-1, keepdim=True))
        low = self._low(harmful)
        top = self._top(torch.mul(product, self._scales[0], out=self._hessians[0]))
        # σ_k as a sum of squares, which has the digits that the formed matrix has lost.
        right_h = self._roots[1] * low.vectors[..., None]
        smallest = (right_h.mT @ self.phi).square().sum(dim=(1, 2))
        self.extremes = top.values, smallest
        gap = square / (2 * self._ranks) - 0.5 * smallest.square()
        by_p = 2 * by_p
        by_h = 2 * by_h / gap.square()[:, None, None]

        right = torch.cat([self._roots[0] * top.vectors[..., None], right_h], dim=-1)
        factor = torch.cat([by_p, by_h], dim=-1)
        left = (right.mT @ product).mT * factor
        flat_p = by_p / self._dimension * self.joint.primary[:, None, :]
        flat_h = by_h / self._ranks[:, None, None] * self.joint.harmful[:, None, :]
        if self._blind is not None:
            # ZᵀW·L of each side, to be taken away by its projector I − ZZᵀ.
            unseen, rows, cut = self._blind
            seen = rows @ product
            inner = rows @ left
            part_p = inner[:, :cut, :1] * right[..., :1].mT - seen[:, :cut] * flat_p
            part_h = inner[:, cut:, 1:] * right[..., 1:].mT - seen[:, cut:] * flat_h
            left = torch.cat([left, unseen], dim=-1)
            right = torch.cat([right, part_p.mT, part_h.mT], dim=-1)
        return product.mul_(flat_p + flat_h).baddbmm_(left, right.mT, beta=-1)


def joint_of(problem: Problem) -> JointRange:
    """Joint coordinates of every pair of a problem."""
    pairs = range(problem.size)
    return joint_range(
        [problem.primary.range_factor(i) for i in pairs],
        [problem.harmful.range_factor(i) for i in pairs],
    )


def _blind_sides(joint: JointRange) -> tuple[Tensor, Tensor, int] | None:
    """−W⁻¹Z (B, m, z) and ZᵀW (B, z, m) of both projectors, and how many are of K_P."""
    both = torch.cat([joint.blind_primary, joint.blind_harmful], dim=-1)
    if both.shape[-1] == 0:
        return None
    return -joint.inverse @ both, both.mT @ joint.transform, joint.blind_primary.shape[-1]
