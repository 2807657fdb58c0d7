"""Training losses on the features, for attackers and losses that no eigenbasis serves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot

from hessian_spectrum import contrasts
from immunization.linear.attacks._objective import Objective, ratio_or_zero

SEARCH = 12
"""Safeguarded Newton steps of a line search, which end at round-off on a convex function."""


@dataclass(frozen=True)
class GramObjective(Objective):
    """Squared loss in the axes of the features, from their Gram matrix.

    Attributes:
        gram: G = ZᵀZ, shape (M, D, D).
        moment: Zᵀy, shape (M, 1, D).
        explained: N·2(L_0 − L*) without immunization, shape (M, 1).
        rows: N, shape (M, 1, 1).
        initial: weights to start at, shape (M, G, D); None for zero.
        data: features (M, N, D) and labels (M, N), rows of padding zero, where a family needs them.
    """

    gram: Tensor
    moment: Tensor
    explained: Tensor
    rows: Tensor
    initial: Tensor | None = None
    data: tuple[Tensor, Tensor] | None = None
    replays = True

    @property
    def smoothness(self) -> Tensor:  # type: ignore[override]
        """σ_1(G)/N."""
        return torch.linalg.eigvalsh(self.gram)[:, -1:, None] / self.rows

    @property
    def convexity(self) -> Tensor:  # type: ignore[override]
        """σ_k(G)/N, the smallest eigenvalue that float64 resolves."""
        values = torch.linalg.eigvalsh(self.gram)
        cut = values.shape[-1] * torch.finfo(values.dtype).eps * values[:, -1:]
        seen = torch.where(values > cut, values, torch.inf).min(dim=-1).values
        return seen[:, None, None] / self.rows

    def start(self, attackers: int) -> Tensor:
        """Zero, or the initial weights."""
        if self.initial is not None:
            return self.initial.clone()
        return self.moment.new_zeros(len(self.gram), attackers, self.gram.shape[-1])

    def evaluate(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Loss gap and gradient."""
        gradient = weights @ self.gram - self.moment
        excess = torch.linalg.vecdot(weights, gradient - self.moment)
        gap = torch.where(
            self.explained > 0, 1 + ratio_or_zero(excess, self.explained), torch.zeros_like(excess)
        )
        return gap, gradient / self.rows

    def to_minimum(self, weights: Tensor, gradient: Tensor, direction: Tensor) -> Tensor:
        """Exact: −gᵀd/dᵀHd."""
        curvature = torch.linalg.vecdot(direction @ self.gram, direction) / self.rows[..., 0]
        return ratio_or_zero(-torch.linalg.vecdot(gradient, direction), curvature)[..., None]

    @cached_property
    def inverse(self) -> Tensor:
        """G⁺."""
        return torch.linalg.pinv(self.gram, hermitian=True)

    def newton(self, weights: Tensor, gradient: Tensor) -> Tensor:
        """−H⁺g."""
        return -(gradient * self.rows) @ self.inverse

    def distance(self, weights: Tensor) -> Tensor:
        """Not measured here."""
        return torch.full_like(weights[..., 0], torch.nan)

    def select(self, problems: Tensor) -> GramObjective:
        """Some problems."""
        return replace(
            self,
            gram=self.gram[problems],
            moment=self.moment[problems],
            explained=self.explained[problems],
            rows=self.rows[problems],
            initial=None if self.initial is None else self.initial[problems],
            data=None if self.data is None else (self.data[0][problems], self.data[1][problems]),
        )


@dataclass(frozen=True)
class LikelihoodObjective(Objective):
    """Mean logistic loss, or cross-entropy of a softmax over C classes.

    Weights of C classes lie one class after the other, k = C·D; a logistic probe has C = 1.

    Attributes:
        features: Z, shape (M, N, D), rows of padding zero.
        targets: one-hot classes, shape (M, 1, C, N); for a logistic probe ±1 with C = 1.
        share: 1/N for each row, 0 for padding, shape (M, 1, N).
        lowest: L* without immunization, shape (M, 1).
        largest: σ_1(ZᵀZ), shape (M,).
        initial: weights to start at, shape (M, G, k); None for zero.
        latest: the weights that were evaluated last, which must not change in place, and their
            logits.
    """

    features: Tensor
    targets: Tensor
    share: Tensor
    lowest: Tensor
    largest: Tensor
    initial: Tensor | None = None
    latest: list[Tensor] = field(init=False, default_factory=list, repr=False, compare=False)
    replays = True

    @property
    def classes(self) -> int:
        """C."""
        return self.targets.shape[2]

    @property
    def zero_loss(self) -> float:
        """Of the zero probe."""
        return math.log(max(2, self.classes))

    @property
    def smoothness(self) -> Tensor:  # type: ignore[override]
        """σ_1(ZᵀZ)/4N, or over 2N for a softmax: bounds on the curvature anywhere."""
        bound = 4.0 if self.classes == 1 else 2.0
        return (self.largest * self.share.amax(dim=(1, 2)) / bound)[:, None, None]

    @property
    def convexity(self) -> None:  # type: ignore[override]
        """None: the curvature falls to zero for weights far out."""
        return

    def start(self, attackers: int) -> Tensor:
        """Zero, or the initial weights."""
        if self.initial is not None:
            return self.initial.clone()
        size = self.classes * self.features.shape[-1]
        return self.features.new_zeros(len(self.features), attackers, size)

    def logits(self, weights: Tensor) -> Tensor:
        """ZW, shape (M, G, C, N)."""
        problems, attackers, _ = weights.shape
        rows = weights.reshape(problems, attackers * self.classes, -1) @ self.features.mT
        return rows.reshape(problems, attackers, self.classes, -1)

    def losses(self, logits: Tensor) -> Tensor:
        """Of each row, shape (M, G, N)."""
        if self.classes == 1:
            return -logsigmoid(self.targets * logits)[:, :, 0]
        return logits.logsumexp(dim=2) - (logits * self.targets).sum(dim=2)

    def loss(self, logits: Tensor) -> Tensor:
        """Mean over rows, shape (M, G)."""
        return (self.losses(logits) * self.share).sum(dim=-1)

    def slopes(self, logits: Tensor) -> Tensor:
        """Derivative of each row's loss by its logits, shape (M, G, C, N)."""
        if self.classes == 1:
            return -self.targets * torch.sigmoid(-self.targets * logits)
        return logits.softmax(dim=2) - self.targets

    def line(self, at: Tensor, along: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """First and second derivative of the loss by the step length, as functions of it.

        Args:
            at: logits at step length 0, shape (M, G, C, N).
            along: their change with it.
        """
        if self.classes == 1:  # with u = −yz the loss of a row is log(1 + eᵘ)
            start, change = -(self.targets * at)[:, :, 0], -(self.targets * along)[:, :, 0]
            tilt = change * self.share
            curve = tilt * change

            def logistic(length: Tensor) -> tuple[Tensor, Tensor]:
                p = torch.sigmoid(torch.addcmul(start, change, length[..., None]))
                return torch.linalg.vecdot(p, tilt), torch.linalg.vecdot(p * (1 - p), curve)

            return logistic
        fixed = (self.targets * along).sum(dim=2)

        def softmax(length: Tensor) -> tuple[Tensor, Tensor]:
            p = torch.addcmul(at, along, length[..., None, None]).softmax(dim=2)
            middle = (p * along).sum(dim=2)
            spread = (p * (along - middle[:, :, None]).square()).sum(dim=2)
            share = self.share.expand_as(middle)
            return torch.linalg.vecdot(middle - fixed, share), torch.linalg.vecdot(spread, share)

        return softmax

    def evaluate(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Loss gap and gradient."""
        logits = self.logits(weights)
        self.latest[:] = weights, logits
        gap = (self.loss(logits) - self.lowest) / (self.zero_loss - self.lowest)
        pull = self.slopes(logits) * self.share[:, :, None]
        gradient = pull.reshape(len(weights), -1, pull.shape[-1]) @ self.features
        return gap, gradient.reshape(weights.shape)

    def to_minimum(self, weights: Tensor, gradient: Tensor, direction: Tensor) -> Tensor:
        """By bracketed Newton steps; logits are linear in the step length, so each costs O(N)."""
        known = bool(self.latest) and self.latest[0] is weights
        at = self.latest[1] if known else self.logits(weights)
        slopes = self.line(at, self.logits(direction))
        replayed = weights.is_cuda and torch.cuda.is_current_stream_capturing()
        low = torch.zeros_like(gradient[..., 0])
        high = torch.full_like(low, torch.inf)
        length = torch.zeros_like(low)
        for _ in range(SEARCH):
            slope, bend = slopes(length)
            low = torch.where(slope < 0, torch.maximum(low, length), low)
            high = torch.where(slope > 0, torch.minimum(high, length), high)
            newton = length - ratio_or_zero(slope, bend)
            # A separable direction has no minimum; four times further at most.
            newton = torch.where(
                (length > 0) & torch.isinf(high), newton.clamp_max(4 * length), newton
            )
            # At round-off a bracket may close on the minimum itself, and must not be halved.
            at_minimum = (newton - length).abs() <= 1e-9 * length
            at_minimum &= (bend > 0) | (slope == 0)
            inside = at_minimum | ((newton > low) & (newton < high))
            fallback = torch.where(torch.isinf(high), 2 * length, (low + high) / 2)
            new = torch.where(inside, newton, fallback)
            before, length = length, new
            if not replayed and bool(((new - before).abs() <= 1e-9 * new).all()):
                break
        return length[..., None]

    def newton(self, weights: Tensor, gradient: Tensor) -> Tensor:
        """−(H + δ·diag H)⁻¹g, δ as small as a Cholesky factor takes; −g where none passes.

        The diagonal is made one first, so that features of different size cost no accuracy.

        A softmax does not change when the weights of all classes move alike, so the step is sought
        orthogonally to that, in C − 1 of the C dimensions.
        """
        basis = None
        if self.classes > 1:
            basis = contrasts(self.classes).to(gradient)
            gradient = (basis.mT @ gradient.unflatten(2, (self.classes, -1))).flatten(2)
        hessian = self.hessian(weights, basis)
        diagonal = hessian.diagonal(dim1=-2, dim2=-1)
        scale = torch.where(diagonal > 0, torch.where(diagonal > 0, diagonal, 1.0).rsqrt(), 1.0)
        hessian = hessian * scale[..., None] * scale[..., None, :]
        eye = torch.eye(hessian.shape[-1], dtype=hessian.dtype, device=hessian.device)
        pull = -(scale * gradient)[..., None]
        direction = -gradient
        left = torch.ones_like(direction[..., 0], dtype=torch.bool)
        for power in (-14, -12, -10, -8):
            factor, info = torch.linalg.cholesky_ex(hessian + 10.0**power * eye)
            solved = scale * torch.cholesky_solve(pull, factor).squeeze(-1)
            passed = left & (info == 0) & torch.isfinite(solved).all(-1)
            direction = torch.where(passed[..., None], solved, direction)
            left &= ~passed
            if not bool(left.any()):
                break
        if basis is not None:
            direction = (basis @ direction.unflatten(2, (basis.shape[1], -1))).flatten(2)
        return direction

    def hessian(self, weights: Tensor, basis: Tensor | None = None) -> Tensor:
        """Σ_n (diag p − ppᵀ) ⊗ zzᵀ/N, shape (M, G, k, k).

        Args:
            weights: where.
            basis: Q, shape (C, c), for Qᵀ(diag p − ppᵀ)Q in place of the middle.
        """
        problems, attackers, size = weights.shape
        logits, count = self.logits(weights), self.classes
        width = size // count
        if count == 1:
            p = torch.sigmoid(logits)
            blocks = (p * (1 - p))[:, :, :, None]
        else:
            p = logits.softmax(dim=2)
            blocks = (
                torch.diag_embed(p.transpose(2, 3), dim1=2, dim2=3)
                - p[:, :, :, None] * p[:, :, None]
            )
            if basis is not None:
                blocks = torch.einsum("ac,mgabn,bd->mgcdn", basis, blocks, basis)
        blocks = blocks * self.share[:, :, None, None]
        count = blocks.shape[2]
        out = weights.new_zeros(problems, attackers, count, width, count, width)
        for one in range(count):
            for two in range(one, count):
                scaled = blocks[:, :, one, two, :, None] * self.features[:, None]
                part = scaled.mT @ self.features[:, None]
                out[:, :, one, :, two] = part
                out[:, :, two, :, one] = part.mT
        return out.reshape(problems, attackers, count * width, count * width)

    def stationary(self, gradient: Tensor) -> Tensor:
        """g² ≤ 1e-26·L: even along curvatures of 1e-13·L the loss has 1e-13 to lose."""
        return gradient.square().sum(-1) <= 1e-26 * self.smoothness[..., 0]

    def distance(self, weights: Tensor) -> Tensor:
        """Not measured: the minimum may lie at infinity."""
        return torch.full_like(weights[..., 0], torch.nan)

    def select(self, problems: Tensor) -> LikelihoodObjective:
        """Some problems."""
        return replace(
            self,
            features=self.features[problems],
            targets=self.targets[problems],
            share=self.share[problems],
            lowest=self.lowest[problems],
            largest=self.largest[problems],
            initial=None if self.initial is None else self.initial[problems],
        )


def likelihood(
    features: Tensor, labels: Tensor, mask: Tensor, *, loss: str, lowest: Tensor | None = None
) -> LikelihoodObjective:
    """A logistic or softmax probe on labels.

    Args:
        features: Z, shape (M, N, D); an intercept is a column of ones.
        labels: ±1, or class numbers 0 … C − 1 for a softmax (±1 count as 1 and 0), shape (M, N).
        mask: which rows are data and no padding, shape (M, N), boolean.
        loss: "logistic" or "softmax".
        lowest: L* without immunization, shape (M,); zero by default.
    """
    share = mask / mask.sum(dim=1, keepdim=True)
    if loss == "logistic":
        targets = labels[:, None, None]
    else:
        classes = labels.clamp_min(0).to(torch.int64)
        targets = one_hot(classes, max(2, int(classes.max()) + 1)).to(features).mT[:, None]
    if lowest is None:
        lowest = features.new_zeros(len(features))
    features = features * mask[..., None]
    largest = torch.linalg.eigvalsh(features.mT @ features)[:, -1]
    return LikelihoodObjective(
        features, targets, share.to(features)[:, None], lowest[:, None], largest
    )


def reference_loss(objective: LikelihoodObjective, ridge: float) -> Tensor:
    """L* without immunization: the mean loss of the ridge-regularised probe, shape (M,).

    Classes that can be separated have no best probe without a ridge, and no loss to come close to.

    Args:
        objective: on the features as they were.
        ridge: relative to σ_1(ZᵀZ)/N.
    """
    size = 4.0 if objective.classes == 1 else 2.0
    strength = (ridge * size * objective.smoothness)[..., 0]
    weights = objective.start(1)
    eye = torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)

    def total(at: Tensor) -> Tensor:
        return objective.loss(objective.logits(at)) + strength / 2 * at.square().sum(-1)

    for _ in range(100):
        _, gradient = objective.evaluate(weights)
        gradient = gradient + strength[..., None] * weights
        hessian = objective.hessian(weights) + strength[..., None, None] * eye
        step = torch.linalg.solve(hessian, gradient[..., None]).squeeze(-1)
        decrement = torch.linalg.vecdot(gradient, step)
        length, now = torch.ones_like(decrement), total(weights)
        for _ in range(30):  # half the step where it does not lower the loss enough
            short = total(weights - length[..., None] * step) > now - 0.1 * length * decrement
            short &= decrement > 1e-20
            if not bool(short.any()):
                break
            length = torch.where(short, length / 2, length)
        weights = weights - length[..., None] * step
        if bool((decrement < 1e-20).all()):
            break
    return objective.loss(objective.logits(weights))[:, 0]
