"""Algorithm 1 as the released program runs it, all pairs in one batch.

Facts of the program (Zheng et al., ICML 2025, code of June 2025), kept here although the theory
asks otherwise: θ starts random and has a bias; minibatches of 64 paired rows, shuffled each
epoch, the rest dropped; Adam; logistic loss on class tasks; the preconditioner multiplies ∇W
from the left, W = θᵀ, with a ridge of 1 for D_P; σ_k is the smallest eigenvalue above 1e-6 of
S + 1e-6·I; and both k and p are the length of the input's last axis, not the rank: the number of
columns of a table, but 28 for MNIST, whose images are flattened later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hessian_spectrum import NotFiniteError, largest_eigenpairs, smallest_eigenpairs
from hessian_spectrum.condition import RELEASED_FLOOR
from hessian_spectrum.kernels.cuda_graphs import CapturedFunction
from hessian_spectrum.tracking import TOLERANCE
from immunization.linear.methods._adam import Adam, FusedAdam
from immunization.linear.tasks import Problem

BATCH = 64
PRIMARY_RIDGE = 1.0
WEIGHT_DRAW, BATCH_DRAW = 3, 4
SQUARINGS = 16
"""2^16 power steps leave a residual of at most 1/(e·2^16) = 6e-6 of σ_1, whatever the gap."""


def released(
    problem: Problem,
    *,
    eta: float,
    epochs: int,
    lambda_p: float,
    lambda_h: float,
    ridge: float,
    last_axis: int | None = None,
) -> Tensor:
    """Train as the released program does.

    Args:
        problem: the pairs.
        eta: Adam's learning rate.
        epochs: passes over min(N_P, N_H) paired rows.
        lambda_p: weight of R_well, absolute.
        lambda_h: weight of R_ill, absolute.
        ridge: of the harmful preconditioner, absolute.
        last_axis: k and p of the regularizers; None for D.

    Returns:
        θ = Wᵀ, shape (B, D, D). The bias is trained and left out: κ is that of θᵀKθ.
    """
    weight, _ = released_layer(
        problem,
        eta=eta,
        epochs=epochs,
        lambda_p=lambda_p,
        lambda_h=lambda_h,
        ridge=ridge,
        last_axis=last_axis,
    )
    return weight.mT.contiguous()


def released_layer(
    problem: Problem,
    *,
    eta: float,
    epochs: int,
    lambda_p: float,
    lambda_h: float,
    ridge: float,
    last_axis: int | None = None,
) -> tuple[Tensor, Tensor]:
    """W, shape (B, D, D), and the bias, shape (B, D), that `released` ends with."""
    places = [_places(problem, pair, epochs) for pair in range(problem.size)]
    state = _initial(problem)
    # One minibatch length at a time; within it the longest run first, so that those which still
    # run stay the first of the batch.
    lengths = sorted({rows.shape[-1] for rows, _ in places})
    for length in lengths:
        chosen = [pair for pair, (rows, _) in enumerate(places) if rows.shape[-1] == length]
        chosen.sort(key=lambda pair: -len(places[pair][0]))
        part = [value[chosen] for value in state]
        run = Training(
            problem, chosen, part, [places[pair] for pair in chosen],
            eta=eta, weights=(lambda_p, lambda_h), ridge=ridge,
            size=last_axis or problem.dimension,
        )  # fmt: skip
        try:
            run.run()
        except NotFiniteError as error:  # its place here is not that in the problem
            raise NotFiniteError(chosen[error.index]) from error
        for whole, value in zip(state, part, strict=True):
            whole[chosen] = value
    return state[0], state[1]


class Training:
    """The training loop of some pairs, in place on their state.

    Args:
        problem: all pairs.
        pairs: places of those trained here, the longest run first.
        state: W, bias and probe of these, overwritten.
        places: rows (T, 2, n) and labels (T, n) of each pair's minibatches.
        eta: Adam's learning rate.
        weights: of R_well and R_ill, absolute.
        ridge: of the harmful preconditioner, absolute.
        size: k and p of the regularizers.
    """

    def __init__(
        self,
        problem: Problem,
        pairs: list[int],
        state: list[Tensor],
        places: list[tuple[NDArray[np.int32], NDArray[np.float64]]],
        *,
        eta: float,
        weights: tuple[float, float],
        ridge: float,
        size: int,
    ) -> None:
        self.state = state
        self._size = size
        self._loss = problem.loss
        self._weights, self._ridge = weights, ridge
        self._steps = [len(rows) for rows, _ in places]
        device = state[0].device
        # All minibatches at once, (T, b, 2, n); runs that are shorter are filled up and not used.
        total, shape = self._steps[0], places[0][0].shape[1:]
        rows = np.zeros((total, len(pairs), *shape), dtype=np.int32)
        labels = np.zeros((total, len(pairs), shape[-1]), dtype=np.float64)
        for place, (inputs, targets) in enumerate(places):
            rows[: len(inputs), place], labels[: len(inputs), place] = inputs, targets
        self._rows, self._labels = torch.from_numpy(rows).to(device), torch.from_numpy(labels)
        self._labels = self._labels.to(device)
        self._source = problem.source
        self._inputs = problem.source.inputs_on(device)
        self._adam: Any = (FusedAdam if device.type == "cuda" else Adam)(state, eta)

    def run(self) -> None:
        """All steps of all pairs; once."""
        step = 0
        for last in sorted(set(self._steps)):
            running = sum(length >= last for length in self._steps)
            self._parts = [value[:running] for value in self.state]
            self._adam.keep(running)
            # Where there are no more columns than rows, a step decides on the way and can't be
            # captured.
            wide = self.state[0].shape[-1] > self._labels.shape[-1]
            update: Any = None  # a graph's memory is given back when nothing holds it
            self._give_back()
            update = CapturedFunction(self._update) if wide else self._update
            while step < last:
                update(self._rows[step, :running], self._labels[step, :running])
                step += 1
        del update
        self._adam.keep(0)
        self._give_back()

    def _give_back(self) -> None:
        if self.state[0].is_cuda:
            torch.cuda.empty_cache()

    def _update(self, rows: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        # Rows of both tasks in one go: (b, 2n, D).
        features = self._inputs[rows.flatten(1)].to(self.state[0].dtype)
        features = features * self._source.scale + self._source.shift
        gradients = _gradients(
            self._parts, features, labels, self._loss, self._weights, self._ridge, self._size
        )
        self._adam.step(gradients)
        return ()


def _initial(problem: Problem) -> list[Tensor]:
    """W and bias uniform in ±1/√D as torch's linear layer draws them, the probe normal."""
    dimension = problem.dimension
    bound = dimension**-0.5
    parts: list[list[Tensor]] = [[], [], []]
    for generator in problem.generators(WEIGHT_DRAW):

        def uniform(*shape: int, generator: torch.Generator = generator) -> Tensor:
            drawn = torch.rand(shape, dtype=torch.float64, generator=generator)
            return (drawn * 2 - 1) * bound

        parts[0].append(uniform(dimension, dimension))
        parts[1].append(uniform(dimension))
        parts[2].append(torch.randn(dimension, dtype=torch.float64, generator=generator))
    return [torch.stack(part).to(problem.primary.factor) for part in parts]


def _places(
    problem: Problem, pair: int, epochs: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Rows of D_P and D_H, (T, 2, n), and labels, (T, n), of the minibatches of one pair."""
    task_p = problem.source.tasks[problem.primary.tasks[pair]]
    task_h = problem.source.tasks[problem.harmful.tasks[pair]]
    random = np.random.default_rng(problem.drawing_seeds(BATCH_DRAW)[pair])
    size = min(len(task_p.train_rows), len(task_h.train_rows))
    if problem.loss == "classification":
        take_p = random.choice(len(task_p.train_rows), size, replace=False)
        take_h = random.choice(len(task_h.train_rows), size, replace=False)
    else:  # the tables are paired row by row from the top
        take_p = take_h = np.arange(size)
    length = min(BATCH, size)
    count = size // length
    order = np.concatenate(
        [random.permutation(size)[: count * length].reshape(count, length) for _ in range(epochs)]
    )
    rows = [task_p.train_rows.numpy()[take_p][order], task_h.train_rows.numpy()[take_h][order]]
    labels = task_p.train_labels.numpy()[take_p][order]
    return np.stack(rows, axis=1).astype(np.int32), labels


def _gradients(
    state: Sequence[Tensor],
    features: Tensor,
    labels: Tensor,
    loss: str,
    weights: tuple[float, float],
    ridge: float,
    size: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients that Adam sees: of the loss plainly, of the regularizers preconditioned.

    Every ∇W is YᵀX with Y of a minibatch's rows; the preconditioner, on the left, meets Yᵀ first.

    Args:
        state: W, bias and probe.
        features: of D_P, then of D_H, shape (b, 2n, D).
        labels: of D_P, shape (b, n).
        loss: "classification" or "regression".
        weights: of R_well and R_ill.
        ridge: of the harmful preconditioner.
        size: k and p of the regularizers.
    """
    weight, bias, probe = state
    rows = labels.shape[1]
    features_p, features_h = features[:, :rows], features[:, rows:]
    hidden = features @ weight.mT + bias[:, None, :]
    hidden_p, hidden_h = hidden[:, :rows], hidden[:, rows:]

    output = (hidden_p @ probe[..., None]).squeeze(-1)
    if loss == "classification":
        by_output = (torch.sigmoid(output) - (labels + 1) / 2) / rows
    else:
        by_output = 2 * (output - labels) / rows
    by_probe = (hidden_p.mT @ by_output[..., None]).squeeze(-1)
    by_hidden = by_output[..., None] * probe[:, None, :]

    by_well = weights[0] * 2 * _times_well_gradient(hidden_p, size)
    by_ill = weights[1] * 2 * _times_ill_gradient(hidden_h, features_h, size)
    by_bias = by_hidden.sum(1) + by_well.sum(1) + by_ill.sum(1)
    left = torch.cat(
        [
            by_hidden.mT + left_preconditioned(by_well.mT, features_p, PRIMARY_RIDGE),
            left_preconditioned(by_ill.mT, features_h, ridge),
        ],
        dim=2,
    )
    return left @ features, by_bias, by_probe


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
        return _solve(features.mT @ features, ridge, gradient)
    inner = _solve(features @ features.mT, ridge, features @ gradient)
    return (gradient - features.mT @ inner) / ridge


def _solve(matrices: Tensor, ridge: float, right: Tensor) -> Tensor:
    """(A + ridge·I)⁻¹B, without a synchronisation."""
    matrices.diagonal(dim1=-2, dim2=-1).add_(ridge)
    factor = torch.linalg.cholesky_ex(matrices).L
    half = torch.linalg.solve_triangular(factor, right, upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True)


def _largest(gram: Tensor) -> tuple[Tensor, Tensor]:
    """σ_1 (b,) and its unit vector (b, n).

    On a GPU by repeated squaring, which needs no decision on the way and so no synchronisation.
    """
    if not gram.is_cuda:
        pairs = largest_eigenpairs(gram, tolerance=TOLERANCE)
        return pairs.values, pairs.vectors
    power = gram
    for _ in range(SQUARINGS):
        power = power / power.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None].clamp_min(1e-300)
        power = power @ power
    # The column that the vector is largest in has the most digits of it.
    best = power.diagonal(dim1=-2, dim2=-1).argmax(-1)
    vector = power.gather(2, best[:, None, None].expand(-1, power.shape[1], 1)).squeeze(-1)
    vector = vector / vector.norm(dim=-1, keepdim=True).clamp_min(1e-300)
    return ((gram @ vector[..., None]).squeeze(-1) * vector).sum(-1), vector


def _times_well_gradient(hidden: Tensor, size: int) -> Tensor:
    """Z(σ_1v_1v_1ᵀ − S/p) for S = ZᵀZ, through the smaller of S and ZZᵀ."""
    rows, columns = hidden.shape[-2:]
    if rows < columns:  # v_1 = Zᵀu_1/√σ_1, so σ_1 Z v_1v_1ᵀ = σ_1 u_1u_1ᵀZ
        gram = hidden @ hidden.mT
        value, vector = _largest(gram)
        first = vector[..., None]
        return value[:, None, None] * first @ (first.mT @ hidden) - gram @ hidden / size
    gram = hidden.mT @ hidden
    value, vector = _largest(gram)
    first = vector[..., None]
    return value[:, None, None] * (hidden @ first) @ first.mT - hidden @ gram / size


def _times_ill_gradient(hidden: Tensor, features: Tensor, size: int) -> Tensor:
    """Z(σ_kv_kv_kᵀ − S/k)/(‖S‖²/2k − σ_k²/2)², with the released σ_k.

    Args:
        hidden: Z, shape (b, n, D).
        features: X of Z = XWᵀ + bias, shape (b, n, D).
        size: k.
    """
    rows, columns = hidden.shape[-2:]
    small = rows < columns
    gram = hidden @ hidden.mT if small else hidden.mT @ hidden
    scatter = gram @ hidden if small else hidden @ gram
    energy = gram.square().sum((-2, -1))
    if small or _dead_columns(features):
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
    gap = energy / (2 * size) - smallest.square() / 2
    return (pull - scatter / size) / gap.square()[:, None, None]


def _dead_columns(features: Tensor) -> bool:
    """Whether every S is known to be singular: the bias adds one to the rank, dead columns take
    from it."""
    used = (features != 0).any(1).sum(-1)
    return bool((used + 1 < features.shape[-1]).all())
