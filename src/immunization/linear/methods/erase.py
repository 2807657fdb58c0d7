"""LEACE: erase the harmful label in closed form, so that no linear probe beats a constant.

Belrose et al., *LEACE: Perfect linear concept erasure in closed form* (NeurIPS 2023, arXiv
2306.03819): r(x) = x − W⁺PW(x − μ), with W = Σ_XX^{-1/2} on D_H and P the orthogonal projection
onto the column space of WΣ_XZ, Z the harmful labels. Not in the immunization paper, and not in its
setting: θ is no longer invertible, and the harmful labels are needed, where the other methods take
inputs alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hessian_spectrum import range_factor
from hessian_spectrum.kernels.cuda_streams import map_streams
from immunization.linear.methods import alg1, optimum
from immunization.linear.methods._descent import Immunized
from immunization.linear.sufficient_statistics import (
    TaskBatch,
    centred_statistics,
    select_tasks,
    stack_statistics,
)
from immunization.linear.tasks import Problem
from immunization.study.components import components

NEEDS_HARMFUL_LABELS = True
PARAMETERS = {
    "then": {
        "enum": ["nothing", "optimum", "alg1"],
        "default": "nothing",
        "description": "method that is run on the erased features, with its own defaults.",
    },
    "tolerance": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 1e-10,
        "description": "share of the labels' energy that features must explain linearly for there "
        "to be anything to erase; with one constant label there is none, and θ = I.",
    },
}

ROUND_OFF = 1e-13
"""Share of the labels' energy that may be left of it about the mean where they are constant."""
MIN_ENTRY_SHARE = 1e-12
"""Entries of an eraser's two vectors that are this small beside the largest are round-off."""


def depends_on_seed(parameters: dict[str, Any]) -> bool:
    """Whether θ depends on the seed beyond the tasks."""
    return parameters["then"] == "alg1"


class Erasure(NamedTuple):
    """What is erased from each task's features, which centred are JX = USVᵀ."""

    theta: Tensor
    """θ, shape (B, D, D)."""
    gone: Tensor
    """The direction that features lose, of unit length, shape (B, D); zero where none."""
    basis: Tensor
    """V, shape (B, D, k)."""
    values: Tensor
    """S, shape (B, k)."""
    label: Tensor
    """Uᵀy of unit length, shape (B, k); zero where nothing is erased."""
    ranks: Tensor
    """Rank of JX, shape (B,)."""


def immunize(problem: Problem, parameters: dict[str, Any]) -> Immunized:
    """Returns θ of each pair, shape (B, D, D).

    Where the harmful task has several classes they are erased one after the other, each from what
    the ones before have left: a linear map keeps what has been erased erased. The last is a
    combination of the others, up to what round-off left, and is erased too.
    """
    *others, last = harmful_classes(problem)
    if not others:
        return erase_one(problem, parameters)
    before = problem.identity()
    for task in others:
        seen = transformed(task, before)
        erasure = erasers(seen, parameters["tolerance"])
        before = before @ traceless(seen, erasure, problem.identity())
    after = replace(
        problem, primary=transformed(problem.primary, before), harmful=transformed(last, before)
    )
    rest = erase_one(after, parameters)
    return replace(rest, theta=before @ rest.theta)


def harmful_classes(problem: Problem) -> list[TaskBatch]:
    """D_H of each pair, once for each of its classes against the rest."""
    source = problem.source
    if "H" not in source.class_roles:
        return [problem.harmful]
    rows = [source.seeds.index(seed) for seed, _ in problem.members]
    columns = source.task_index[rows, :, 1]
    count = len(columns[0].unique())
    device = problem.harmful.factor.device.type
    return [source.role(columns[:, number], device) for number in range(count)]


def erase_one(problem: Problem, parameters: dict[str, Any]) -> Immunized:
    """The same for a single column of labels."""
    erasure = erasers(problem.harmful, parameters["tolerance"])
    theta = erasure.theta
    if parameters["then"] == "nothing":
        eye = torch.eye(theta.shape[-1], dtype=theta.dtype, device=theta.device)
        result = traceless(problem.harmful, erasure, eye.expand_as(theta))
        return Immunized(result, singular=True)
    method = {"optimum": optimum, "alg1": alg1}[parameters["then"]]
    rules = components("linear/methods")[parameters["then"]].parameters
    after = replace(
        problem,
        primary=transformed(problem.primary, theta),
        harmful=transformed(problem.harmful, theta),
    )
    result = method.immunize(after, {name: rule["default"] for name, rule in rules.items()})
    # The erased direction has nothing left but round-off, which must not be scaled up again.
    rest = without(getattr(result, "theta", result).mT, erasure.gone).mT
    return Immunized(traceless(problem.harmful, erasure, rest), singular=True)


def traceless(task: TaskBatch, erasure: Erasure, rest: Tensor) -> Tensor:
    """θ·rest, in other coordinates where its own rounding would leave a trace of what was erased.

    Columns that differ by a part δ in the label's direction make entries of θ of the size 1/δ.
    Rounded to float64 they leave eps/δ of every direction in the features, the erased one among
    them, which a probe scales up again: at δ = 1e-8 half of the label's R² comes back. Where that
    trace is above the tolerance of the rank, θ·rest is multiplied by an orthogonal matrix from the
    right (which no rotation-invariant attacker notices), the right singular vectors of what D_H's
    features become. Its columns are then the directions that these have, each computed from
    θ = VS⁻¹N·(NᵀSVᵀ·rest), N all but the label's direction, so that it is rounded relative to
    itself; and those that they have not, which are cleared of all that D_H spans.

    Args:
        task: D_H.
        erasure: of `erasers`; where nothing was erased nothing is done.
        rest: what follows θ, shape (B, D, D).
    """
    erased = erasure.theta @ rest
    eps = torch.finfo(erased.dtype).eps
    for index, rank in enumerate(erasure.ranks.tolist()):
        label, scale = erasure.label[index, :rank], erasure.values[index, :rank]
        if rank < 2 or not bool(label.any()):
            continue
        basis = cleaned(erasure.basis[index, :, :rank])
        others = torch.linalg.qr(label[:, None], mode="complete").Q[:, 1:]
        image = others.mT @ (scale[:, None] * basis.mT) @ rest[index]
        _, values, right = torch.linalg.svd(image, full_matrices=True)
        largest = scale[0] * torch.linalg.matrix_norm(erased[index], 2)
        if not bool(eps * largest > task.tolerances[index] * values[0]):
            continue
        had = basis @ ((others @ (image @ right[: rank - 1].mT)) / scale[:, None])
        unseen = erased[index] @ right[rank - 1 :].mT
        for _ in range(2):
            unseen = unseen - basis @ (basis.mT @ unseen)
        erased[index] = torch.cat([had, unseen], dim=1)
    return erased


def without(matrix: Tensor, direction: Tensor) -> Tensor:
    """M(I − ddᵀ), twice, so that what is left is round-off of the second kind.

    Args:
        matrix: M, shape (B, D, D).
        direction: d of unit length, or zero, shape (B, D).
    """
    for _ in range(2):
        matrix = matrix - (matrix @ direction[..., None]) * direction[:, None]
    return matrix


def erasers(task: TaskBatch, tolerance: float) -> Erasure:
    """θ = (I − W⁺PW)ᵀ for each task, and what it takes from its features.

    With centred features JX = USVᵀ one has WΣ_XZ ∝ V·Uᵀy, so P = uuᵀ with u = VUᵀy/‖Uᵀy‖ and
    W⁺PW = (VSVᵀu)(VS⁻¹Vᵀu)ᵀ: two vectors, from the singular values of the data themselves.

    Args:
        task: D_H.
        tolerance: share of the labels' energy about their mean under which nothing is erased.
    """
    middle = centred_statistics(task)
    left, values, right = torch.linalg.svd(middle.factor, full_matrices=False)
    index = torch.arange(values.shape[-1], device=values.device)
    seen = index < middle.ranks[:, None]
    # The factor of centred features is F_c, with JX = Q F_cᵀ: its V are the left vectors here.
    labels = (right @ middle.targets[..., None]).squeeze(-1) * seen
    energy = labels.square().sum(-1, keepdim=True)
    # What is left of constant labels is round-off of the second sum.
    spread = task.target_energy - task.target_sum.square() / task.rows
    spread = torch.maximum(spread, ROUND_OFF * task.target_energy)
    known = energy > tolerance * spread[:, None]
    unit = torch.where(known, labels / energy.clamp_min(1e-300).sqrt(), 0.0)
    safe = torch.where(seen, values, 1.0)
    out = (left @ (unit * values)[..., None]).squeeze(-1)
    back = (left @ (unit * seen / safe)[..., None]).squeeze(-1)
    out, back = cleaned(out), cleaned(back)
    eye = torch.eye(len(out[0]), dtype=out.dtype, device=out.device)
    # r(x) = (I − out backᵀ)x, and features are xᵀθ: orthogonal to `back`, up to round-off that
    # grows with κ. Projected once more, they are so to the last digits.
    gone = back / torch.linalg.vector_norm(back, dim=-1, keepdim=True).clamp_min(1e-300)
    theta = without(eye - back[:, :, None] * out[:, None], gone)
    return Erasure(theta, gone, left, values, unit, middle.ranks)


def cleaned(vectors: Tensor) -> Tensor:
    """Without entries that are round-off: dead inputs must not come to carry the label."""
    return torch.where(
        vectors.abs() > MIN_ENTRY_SHARE * vectors.abs().amax(-1, keepdim=True), vectors, 0.0
    )


def transformed(task: TaskBatch, theta: Tensor) -> TaskBatch:
    """A task seen through θ: the factors of its features xᵀθ."""

    def one(index: int) -> dict[str, Tensor]:
        rank = int(task.ranks[index])
        factor = task.factor[index, :, :rank]
        # Rows of Fᵀθ span what rows of Xθ do; labels and ones follow by the left vectors.
        kept = range_factor(factor.mT @ theta[index], tolerance=float(task.tolerances[index]))
        assert kept.left is not None
        ones = kept.left.mT @ task.ones[index, :rank]
        return {
            "basis": kept.basis,
            "singular_values": kept.singular_values,
            "targets": kept.left.mT @ task.targets[index, :rank],
            "target_energy": task.target_energy[index],
            "ones": ones,
            "ones_apart": task.ones_apart[index]
            + (task.ones[index, :rank] - kept.left @ ones).square().sum(),
            "mean": task.mean[index] @ theta[index],
            "target_sum": task.target_sum[index],
            "rows": task.rows[index],
            "tolerances": task.tolerances[index],
            "ranks": torch.tensor(kept.rank, device=factor.device),
        }

    numbers = list(range(len(theta)))
    parts = map_streams(one, numbers, theta.device)
    stacked = stack_statistics(parts)
    batch = select_tasks(stacked, torch.tensor(numbers, device=theta.device), theta.device.type)
    return replace(batch, tasks=task.tasks)
