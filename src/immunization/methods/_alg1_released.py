"""Algorithm 1 as the released program runs it, all pairs in one batch.

Facts of the program (Zheng et al., ICML 2025, code of June 2025), kept here although the theory
asks otherwise: θ starts random and has a bias; minibatches of 64 paired rows, shuffled each
epoch, the rest dropped; Adam; logistic loss on class tasks; the preconditioner multiplies ∇W
from the left, W = θᵀ, with a ridge of 1 for D_P; σ_k is the smallest eigenvalue above 1e-6 of
S + 1e-6·I and k is the number of features, not the rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hessian_spectrum import largest_eigenpairs, smallest_eigenpairs
from hessian_spectrum.condition import RELEASED_FLOOR
from hessian_spectrum.tracking import TOLERANCE
from immunization.tasks import Problem

BATCH = 64
PRIMARY_RIDGE = 1.0
WEIGHT_DRAW, PROBE_DRAW = 3, 4


def released(
    problem: Problem,
    *,
    eta: float,
    epochs: int,
    lambda_p: float,
    lambda_h: float,
    ridge: float,
) -> Tensor:
    """Train as the released program does.

    Args:
        problem: the pairs.
        eta: Adam's learning rate.
        epochs: passes over min(N_P, N_H) paired rows.
        lambda_p: weight of R_well, absolute.
        lambda_h: weight of R_ill, absolute.
        ridge: of the harmful preconditioner, absolute.

    Returns:
        θ = Wᵀ, shape (B, D, D). The bias is trained and left out: κ is that of θᵀKθ.
    """
    count, dimension = problem.size, problem.dimension
    like = problem.primary.factor
    bound = dimension**-0.5
    draw = problem.generator(WEIGHT_DRAW)
    weight = _uniform((count, dimension, dimension), bound, draw)
    bias = _uniform((count, dimension), bound, draw)
    probe = torch.randn(
        count, dimension, dtype=torch.float64, generator=problem.generator(PROBE_DRAW)
    )
    state = [weight.to(like), bias.to(like), probe.to(like)]
    optimiser = Adam(state, eta)
    streams = [_minibatches(problem, pair, epochs) for pair in range(count)]
    for batch, active in _batches(streams):
        features_p = problem.source.features(torch.from_numpy(batch.rows_p)).to(like)
        features_h = problem.source.features(torch.from_numpy(batch.rows_h)).to(like)
        labels = torch.from_numpy(batch.labels).to(like)
        gradients = _gradients(
            state, features_p, labels, features_h, problem.loss, lambda_p, lambda_h, ridge
        )
        optimiser.step(gradients, torch.from_numpy(active).to(like.device))
    return state[0].mT.contiguous()


class Batch(NamedTuple):
    """One minibatch of one pair, or of all pairs stacked."""

    rows_p: NDArray[np.int64]
    labels: NDArray[np.float64]
    rows_h: NDArray[np.int64]


class Adam:
    """Adam (Kingma and Ba, 2015) with its usual constants, in place, on the active pairs only.

    torch.optim's gives the same numbers (see the tests); importing it takes two seconds, and it
    can't leave a part of a batch alone.
    """

    def __init__(self, state: list[Tensor], rate: float) -> None:
        self.state = state
        self.rate = rate
        self.steps = 0
        self.first = [torch.zeros_like(value) for value in state]
        self.second = [torch.zeros_like(value) for value in state]

    def step(self, gradients: Sequence[Tensor], active: Tensor) -> None:
        """One update; pairs that are not active stay as they are from here on."""
        self.steps += 1
        correction = (1 - 0.999**self.steps) ** 0.5
        rate = self.rate / (1 - 0.9**self.steps)
        for value, gradient, first, second in zip(
            self.state, gradients, self.first, self.second, strict=True
        ):
            first.lerp_(gradient, 0.1)
            second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            update = rate * first / (second.sqrt() / correction + 1e-8)
            value -= update * active.reshape(-1, *[1] * (value.ndim - 1))


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(shape, dtype=torch.float64, generator=generator) * 2 - 1) * bound


def _minibatches(problem: Problem, pair: int, epochs: int) -> Iterator[Batch]:
    """The minibatches of one pair, drawn by the seed and its two places in the task list."""
    number_p, number_h = problem.primary.tasks[pair], problem.harmful.tasks[pair]
    task_p, task_h = problem.source.tasks[number_p], problem.source.tasks[number_h]
    random = np.random.default_rng([problem.seed, 4, number_p, number_h])
    size = min(len(task_p.train_rows), len(task_h.train_rows))
    if problem.loss == "classification":
        take_p = random.choice(len(task_p.train_rows), size, replace=False)
        take_h = random.choice(len(task_h.train_rows), size, replace=False)
    else:  # the tables are paired row by row from the top
        take_p = take_h = np.arange(size)
    rows_p, rows_h = task_p.train_rows.numpy()[take_p], task_h.train_rows.numpy()[take_h]
    labels = task_p.train_labels.numpy()[take_p]
    length = min(BATCH, size)
    for _ in range(epochs):
        order = random.permutation(size)
        for start in range(0, size - length + 1, length):
            chosen = order[start : start + length]
            yield Batch(rows_p[chosen], labels[chosen], rows_h[chosen])


def _batches(streams: list[Iterator[Batch]]) -> Iterator[tuple[Batch, NDArray[np.bool_]]]:
    """Advance all pairs together; a pair that has ended repeats its last batch, inactive."""
    last = [next(stream) for stream in streams]
    active = np.ones(len(streams), dtype=bool)
    while active.any():
        # Stacking needs one length; a pair with fewer than 64 rows sets it.
        length = min(len(batch.rows_p) for batch in last)
        stacked = (np.stack([part[:length] for part in parts]) for parts in zip(*last, strict=True))
        yield Batch(*stacked), active
        following = [next(stream, None) for stream in streams]
        active = np.array([batch is not None for batch in following])
        last = [new or old for new, old in zip(following, last, strict=True)]


def _gradients(
    state: list[Tensor],
    features_p: Tensor,
    labels: Tensor,
    features_h: Tensor,
    loss: str,
    lambda_p: float,
    lambda_h: float,
    ridge: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients that Adam sees: of the loss plainly, of the regularizers preconditioned."""
    weight, bias, probe = state
    hidden_p = features_p @ weight.mT + bias[:, None, :]
    hidden_h = features_h @ weight.mT + bias[:, None, :]

    output = (hidden_p @ probe[..., None]).squeeze(-1)
    if loss == "classification":
        by_output = (torch.sigmoid(output) - (labels + 1) / 2) / output.shape[1]
    else:
        by_output = 2 * (output - labels) / output.shape[1]
    by_probe = (hidden_p.mT @ by_output[..., None]).squeeze(-1)
    by_hidden = by_output[..., None] * probe[:, None, :]
    by_weight = by_hidden.mT @ features_p
    by_bias = by_hidden.sum(1)

    # The bias adds one to the rank of the features; dead columns take from it.
    used = (features_h != 0).any(1).sum(-1)
    singular = bool((used + 1 < features_h.shape[-1]).all())
    for by_hidden, features, shift in (
        (lambda_p * 2 * _times_well_gradient(hidden_p), features_p, PRIMARY_RIDGE),
        (lambda_h * 2 * _times_ill_gradient(hidden_h, singular), features_h, ridge),
    ):
        plain = by_hidden.mT @ features
        by_weight = by_weight + left_preconditioned(plain, features, shift)
        by_bias = by_bias + by_hidden.sum(1)
    return by_weight, by_bias, by_probe


def left_preconditioned(gradient: Tensor, features: Tensor, ridge: float) -> Tensor:
    """(XᵀX + ridge·I)⁻¹∇W: the released side.

    With fewer rows than columns by the identity of Woodbury, from the small XXᵀ. What cancels in
    it is the row space of X, which the ridge leaves a million times smaller than the rest.

    Args:
        gradient: ∇W, shape (B, D, D), outputs by inputs.
        features: X, shape (B, n, D).
        ridge: absolute.
    """
    rows, columns = features.shape[-2:]
    if rows >= columns:
        shifted = features.mT @ features
        shifted.diagonal(dim1=-2, dim2=-1).add_(ridge)
        return torch.cholesky_solve(gradient, torch.linalg.cholesky(shifted))
    shifted = features @ features.mT
    shifted.diagonal(dim1=-2, dim2=-1).add_(ridge)
    inner = torch.cholesky_solve(features @ gradient, torch.linalg.cholesky(shifted))
    return (gradient - features.mT @ inner) / ridge


def _times_well_gradient(hidden: Tensor) -> Tensor:
    """Z(σ_1v_1v_1ᵀ − S/D) for S = ZᵀZ, through the smaller of S and ZZᵀ."""
    rows, columns = hidden.shape[-2:]
    if rows < columns:  # v_1 = Zᵀu_1/√σ_1, so σ_1 Z v_1v_1ᵀ = σ_1 u_1u_1ᵀZ
        gram = hidden @ hidden.mT
        pairs = largest_eigenpairs(gram, tolerance=TOLERANCE)
        first = pairs.vectors[..., None]
        return pairs.values[:, None, None] * first @ (first.mT @ hidden) - gram @ hidden / columns
    gram = hidden.mT @ hidden
    pairs = largest_eigenpairs(gram, tolerance=TOLERANCE)
    first = pairs.vectors[..., None]
    return pairs.values[:, None, None] * (hidden @ first) @ first.mT - hidden @ gram / columns


def _times_ill_gradient(hidden: Tensor, singular: bool) -> Tensor:
    """Z(σ_kv_kv_kᵀ − S/D)/(‖S‖²/2D − σ_k²/2)², with the released σ_k and k = D.

    Args:
        hidden: Z, shape (B, n, D).
        singular: whether every S = ZᵀZ is known to be singular; with n < D it is anyway.
    """
    rows, columns = hidden.shape[-2:]
    small = rows < columns
    gram = hidden @ hidden.mT if small else hidden.mT @ hidden
    scatter = gram @ hidden if small else hidden @ gram
    energy = gram.square().sum((-2, -1))
    if small or singular:
        # The program picks round-off at its floor, whose vector carries no weight.
        smallest = hidden.new_full((len(hidden),), RELEASED_FLOOR)
        pull: Tensor | float = 0.0
    else:
        shifted = gram.clone()
        shifted.diagonal(dim1=-2, dim2=-1).add_(RELEASED_FLOOR)
        pairs = smallest_eigenpairs(shifted, tolerance=TOLERANCE)
        smallest = pairs.values.clamp_min(RELEASED_FLOOR)
        last = pairs.vectors[..., None]
        pull = smallest[:, None, None] * (hidden @ last) @ last.mT
    gap = energy / (2 * columns) - smallest.square() / 2
    return (pull - scatter / columns) / gap.square()[:, None, None]
