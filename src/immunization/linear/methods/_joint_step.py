"""Algorithm 1 as printed, in coordinates where K_P and K_H are both diagonal.

A step takes two matrix products of the joint range's size (`hessian_spectrum.joint_range`). State
is one square matrix S = [φ; ωᵀ]: SSᵀ holds φφᵀ, from which both Hessians are read off, and φω, from
which the task loss has its gradients; the whole update is S ← MS. It is the same θ as by
Algorithm 1 line by line: to round-off with exact eigenpairs, within 1e-5 over 20 steps with those
of a tracker's tolerance (tested).
"""

from __future__ import annotations

import torch
from torch import Tensor

from hessian_spectrum import ExtremeTracker, JointRange, joint_range
from hessian_spectrum.kernels.cuda_graphs import CapturedFunction
from immunization.linear.methods._balance import balanced_weight
from immunization.linear.methods._descent import ExtremeEigenvalues, Iteration, start_of
from immunization.linear.methods._task_loss import initial_probe, task_curvature
from immunization.linear.tasks import Problem

ALIGNED = 8
"""Numbers of rows and columns that matrix units take without a remainder."""


class JointAlgorithm(Iteration):
    """State of Algorithm 1 on a batch of pairs; call `step` for each iteration.

    Attributes:
        pairs: places of the pairs in the problem.
        extremes: σ_1(H_P) and σ_k(H_H) that the last step used, each of shape (b,).

    Args:
        problem: all pairs.
        joint: their joint coordinates (`joint_of`).
        pairs: places of those in this batch, shape (b,).
        eta: η.
        lambda_p: λ_P, or None so that on the first step its term moves θ by η‖θ‖.
        lambda_h: λ_H, likewise.
        balance: factor on λ_H where that is None.
        start: identity or random, see `_descent.PARAMETERS`.
    """

    extremes: tuple[Tensor, Tensor]
    _state: Tensor
    _spare: Tensor
    _weights: Tensor

    def __init__(
        self,
        problem: Problem,
        joint: JointRange,
        pairs: Tensor,
        *,
        eta: float,
        lambda_p: float | None = None,
        lambda_h: float | None = None,
        balance: float = 1.0,
        start: str = "identity",
    ) -> None:
        self.pairs = pairs
        self._joint = joint = joint.select(pairs)
        self._eta = eta
        self._ranks = problem.harmful.ranks[pairs].to(joint.basis.dtype)
        self._dimension = problem.dimension
        size = joint.primary.shape[-1]
        # φ stands in the first m rows, ωᵀ in the last; rows of zeros between them only align.
        self._size = -(-(size + 1) // ALIGNED) * ALIGNED
        # √p and √h as rows, and both spectra.
        self._seen = torch.stack([self._padded(joint.primary), self._padded(joint.harmful)], dim=1)
        self._roots = self._seen.sqrt()
        self._low = ExtremeTracker("smallest", scale=self._roots[:, 1])
        self._top = ExtremeTracker("largest", scale=self._roots[:, 0])
        self._watch: list[ExtremeTracker] = []
        self._seen_now: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] | None = None
        self._blind = self._blind_sides()
        theta = None if start == "identity" else start_of(problem, start)[pairs]
        self._start(initial_probe(problem)[pairs, :, None], theta)
        self._set_loss(problem)
        self._weigh(lambda_p, lambda_h, balance)

    def step(self) -> None:
        """One iteration: both extreme eigenpairs, both gradients, the task loss, the update."""
        product, largest, _, vectors, square = self._look()
        self._seen_now = None
        # Each of the two states has an update of its own, which writes the other.
        (smallest,) = self._updates[0](product, self._state, self._spare, vectors, square)
        self.extremes = largest, smallest
        self._state, self._spare = self._spare, self._state
        self._updates.reverse()

    def _look(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """SSᵀ, σ_1(H_P), σ_k(H_H), and the rest of `_extremes`; once a state."""
        if self._seen_now is None:
            product = torch.bmm(self._state, self._state.mT, out=self._product)
            self._seen_now = product, *self._extremes(product)
        return self._seen_now

    def _update(
        self, product: Tensor, state: Tensor, spare: Tensor, vectors: Tensor, square: Tensor
    ) -> tuple[Tensor, ...]:
        """Write MS into the spare state; returns σ_k(H_H)."""
        size = self._joint.primary.shape[-1]
        pulled = self._loss_weight * product[:, :size, -1:]
        by_theta = self._metric @ pulled - self._loss_left
        by_probe = pulled.mT - self._loss_from
        move, smallest = self._moves(product, state, vectors, square, self._weights)
        move.diagonal(dim1=-2, dim2=-1).add_(1.0)
        torch.mul(by_probe, -self._eta, out=move[:, -1:, :size])
        torch.mul(by_theta, -self._eta, out=move[:, :size, -1:])
        torch.bmm(move, state, out=spare)
        return (smallest,)

    @property
    def phi(self) -> Tensor:
        """φ in joint coordinates, shape (b, m, m + 1)."""
        size = self._joint.primary.shape[-1]
        return self._state[:, :size, : size + 1]

    def extractor(self) -> Tensor:
        """θ, shape (b, D, D)."""
        theta = self._joint.extractor(self.phi, self._right)
        return theta if self._rest is None else theta + self._rest

    def ends(self) -> tuple[ExtremeEigenvalues, ExtremeEigenvalues]:
        """Both ends of √p·φφᵀ·√p and √h·φφᵀ·√h; two of them are what the next step starts with."""
        if not self._watch:
            self._watch = [
                ExtremeTracker("smallest", scale=self._roots[:, 0]),
                ExtremeTracker("largest", scale=self._roots[:, 1]),
            ]
        product, largest, smallest, _, square = self._look()
        low, top = (
            track(product, norms=square[:, role].sqrt()).values
            for role, track in enumerate(self._watch)
        )
        return ExtremeEigenvalues(largest, low, square[:, 0]), ExtremeEigenvalues(
            top, smallest, square[:, 1]
        )

    def task_loss(self) -> Tensor:
        """L_P of θ and the probe, shape (b,)."""
        size = self._joint.primary.shape[-1]
        pulled = self._state[:, :size] @ self._state[:, -1:].mT
        quadratic = 0.5 * self._loss_weight * pulled - self._loss_from.mT
        return (quadratic * pulled).sum(dim=(1, 2)) + self._loss_start

    def _padded(self, tensor: Tensor, axes: int = 1) -> Tensor:
        """Zeros after the last entries of the last axes, up to the size of the state."""
        pad = []
        for axis in range(1, axes + 1):
            pad += [0, self._size - tensor.shape[-axis]]
        return torch.nn.functional.pad(tensor, pad)

    def _start(self, probe: Tensor, theta: Tensor | None) -> None:
        """θ (None for I) and the initial probe in these coordinates."""
        joint = self._joint
        right, self._rest = joint.basis, None
        if theta is not None:
            # Columns that span the rows of Qᵀθ. What is outside of the joint range stays.
            inside = joint.basis.mT @ theta
            right = torch.linalg.qr(inside.mT).Q * (joint.basis != 0).any(dim=1, keepdim=True)
            self._rest = theta - joint.basis @ inside
            self._rest -= torch.eye(self._dimension).to(theta) - joint.basis @ joint.basis.mT
        # The probe is drawn in all of R^D; one more column on the right holds what is not in Q.
        outside = probe - right @ (right.mT @ probe)
        length = outside.norm(dim=-2, keepdim=True)
        seen = length > 1e-12 * probe.norm(dim=-2, keepdim=True)
        outside = torch.where(seen, outside / length, torch.zeros_like(outside))
        self._right = torch.cat([right, outside], dim=-1)
        phi = joint.coordinates(self._right if theta is None else theta @ self._right)
        self._state = self._padded(phi, axes=2)
        self._state[:, -1, : self._right.shape[-1]] = (self._right.mT @ probe).squeeze(-1)
        # Written anew at each step: fresh memory costs more than what is computed into it.
        self._spare, self._product = torch.empty_like(self._state), torch.empty_like(self._state)
        self._squares = torch.empty_like(self._state)
        self._updates = [CapturedFunction(self._update, fixed=3) for _ in range(2)]

    def _set_loss(self, problem: Problem) -> None:
        """What the task loss of D_P takes (`TaskLoss` says what it is).

        ∇_θL = QW·uωᵀ with u = W⁻¹W⁻ᵀ(w∘φω) − W⁻¹z, and ∇_ωL = φᵀ(w∘φω − Wᵀz), where w is p and z
        is QᵀX_Pᵀy, both over N and in units of the curvature.
        """
        joint, task = self._joint, problem.primary
        rows = task.rows[self.pairs, None, None]
        curvature = task_curvature(task)[self.pairs, None, None]
        moment = joint.basis.mT @ task.moment()[self.pairs, :, None] / (rows * curvature.sqrt())
        self._loss_weight = joint.primary[..., None] / curvature / rows
        self._metric = joint.inverse @ joint.inverse.mT
        self._loss_left = joint.inverse @ moment
        self._loss_from = moment.mT @ joint.transform
        self._loss_start = (task.target_energy / (2 * task.rows))[self.pairs]

    def _weigh(self, lambda_p: float | None, lambda_h: float | None, balance: float) -> None:
        """Fix λ_P and λ_H, from both gradients at the start in the original coordinates."""
        size = self._joint.primary.shape[-1]
        start = self.extractor()
        one = torch.ones(len(self.pairs), 1, 1, dtype=start.dtype, device=start.device)
        weights = []
        product = self._state @ self._state.mT
        _, _, vectors, square = self._extremes(product)
        for given, on in ((lambda_p, [one, 0 * one]), (lambda_h, [0 * one, one])):
            both = torch.cat(on, dim=1)
            move, _ = self._moves(product.clone(), self._state, vectors, square, both)
            gradient = self._joint.transform @ (move[:, :size, :size] @ self.phi) / -self._eta
            weights.append(balanced_weight(given, gradient, start))
        if lambda_h is None:
            weights[1] *= balance
        self._weights = torch.cat(weights, dim=1)

    def _extremes(self, product: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """σ_1(H_P), σ_k(H_H), √p∘g and √h∘v of both extreme eigenvectors (b, 2, n), and ‖H_P‖²,
        ‖H_H‖² (b, 2)."""
        square = self._square(product)
        norms = square.sqrt()
        low = self._low(product, norms=norms[:, 1])
        top = self._top(product, norms=norms[:, 0])
        vectors = self._roots * torch.stack([top.vectors, low.vectors], dim=1)
        return top.values, low.values, vectors, square

    def _square(self, product: Tensor) -> Tensor:
        """‖H_P‖² and ‖H_H‖², shape (b, 2)."""
        squares = torch.mul(product, product, out=self._squares)
        return ((self._seen @ squares) * self._seen).sum(dim=-1)

    def _moves(
        self, product: Tensor, state: Tensor, right: Tensor, square: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """−η(λ_PK_P⁺∇R_well + λ_HK_H⁺∇R_ill) = Lφ: L, (b, n, n), and σ_k(H_H).

        Without projectors R_well gives L = −2ηλ_Pφφᵀ(√p∘g(√p∘g)ᵀ − diag(p)/D), with g the largest
        eigenvector of √p·φφᵀ·√p, and R_ill likewise.

        Args:
            product: SSᵀ; overwritten.
            state: S.
            right: both vectors of `_extremes`.
            square: ‖H_P‖² and ‖H_H‖², shape (b, 2).
            weights: λ_P and λ_H, shape (b, 2, 1).
        """
        # σ_k as a sum of squares, which has the digits that the formed matrix has lost.
        smallest = (right[:, 1:] @ state).square().sum(dim=(1, 2))
        gap = square[:, 1] / (2 * self._ranks) - 0.5 * smallest.square()
        factor = 2 * self._eta * weights
        factor[:, 1] /= gap.square()[:, None]
        flat = factor * self._seen
        flat[:, 0] /= self._dimension
        flat[:, 1] /= self._ranks[:, None]
        left = (right @ product) * factor
        blind = None if self._blind is None else self._blind @ product
        move = product.mul_(flat.sum(dim=1, keepdim=True)).baddbmm_(left.mT, right, alpha=-1)
        if blind is not None:
            # Both projectors take from the rows that their matrix does not see.
            pulled = (blind @ right.mT) * factor.mT
            cut = self._blind_rows[0].stop
            for side, rows in enumerate(self._blind_rows):
                part = blind[:, :cut] if side == 0 else blind[:, cut:]
                inner = pulled[:, :cut, :1] if side == 0 else pulled[:, cut:, 1:]
                one = slice(side, side + 1)
                move[:, rows] += torch.addcmul(inner * right[:, one], part, flat[:, one], value=-1)
        return move, smallest

    def _blind_sides(self) -> Tensor | None:
        """Rows of W⁻¹ZZᵀW, (b, z, n), of both projectors I − ZZᵀ onto the ranges.

        Z spans the columns of W where p (or h) is zero, so that all other rows are zero. p is
        zero in the first coordinates, h in the last.
        """
        joint = self._joint
        size = joint.primary.shape[-1]
        zero_p, zero_h = joint.primary <= 0, joint.harmful <= 0
        places = torch.arange(size, device=zero_p.device)
        inside = places < joint.dimensions.to(places)[:, None]
        last = int((zero_p & inside).sum(dim=1).max())
        first = int((~zero_h).sum(dim=1).min())
        self._blind_rows = slice(0, last), slice(min(first, size), size)
        parts = []
        for blind, zero, rows in (
            (joint.blind_primary, zero_p, self._blind_rows[0]),
            (joint.blind_harmful, zero_h, self._blind_rows[1]),
        ):
            projector = joint.inverse[:, rows] @ (blind @ (blind.mT @ joint.transform))
            parts.append(projector * zero[:, rows, None])
        both = torch.cat(parts, dim=1)
        return self._padded(both) if both.shape[1] else None


def joint_of(problem: Problem) -> JointRange:
    """Joint coordinates of every pair of a problem.

    Those of the last batch are kept: on a GPU, under the next seed, it is often the same tasks.
    """
    cache = problem.source.cache
    device = problem.primary.factor.device
    key = device, tuple(problem.primary.tasks), tuple(problem.harmful.tasks)
    known = cache.joint
    joint = known[1] if known is not None and known[0] == key else None
    if joint is None:
        known = cache.joint = None  # its memory first
        primary = problem.primary.range_factors()
        # A task has one factor, whichever role it plays: its mirrored pair is known by that.
        factors = dict(zip(problem.primary.tasks, primary, strict=True))
        harmful = [
            factors.setdefault(task, factor)
            for task, factor in zip(
                problem.harmful.tasks, problem.harmful.range_factors(), strict=True
            )
        ]
        joint = joint_range(primary, harmful)
        cache.joint = key, joint
    return joint
