"""Many softmax probes on cached features as one tensor program.

A group is a feature matrix: one network's features on some of the images, after some repair. A
member is an optimiser with a learning rate. All members of all groups take a step together: one
product for the logits and one for the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from immunization.runtime.seeding import seeded

REPAIRS = ("none", "standardise", "whiten")
RIDGE = 1e-4
"""Share of the largest eigenvalue that whitening adds to each."""
BYTES = 4 * 2**30
"""Most bytes of logits at a time when accuracies are taken."""


class Repair(NamedTuple):
    """x ↦ (x − centre) @ matrix, what an attacker does to features before anything else.

    Attributes:
        centre: shape (D,).
        matrix: shape (D, D), or (D,) for a diagonal one.
    """

    centre: Tensor
    matrix: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Repaired features, (N, D)."""
        moved = features - self.centre
        return moved * self.matrix if self.matrix.ndim == 1 else moved @ self.matrix


def repair(features: Tensor, kind: str) -> Repair:
    """A repair from the attacker's own rows.

    Args:
        features: (N, D).
        kind: none (divide all by their root mean square), standardise (centre, and divide each
            dimension by its deviation), or whiten (centre, and decorrelate, with a ridge).
    """
    wide = features.to(torch.float64)
    centre = torch.zeros_like(wide[0])
    if kind == "none":
        matrix = torch.ones_like(centre) / wide.square().mean().sqrt().clamp_min(1e-30)
    else:
        centre = wide.mean(dim=0)
        moved = wide - centre
        if kind == "standardise":
            deviation = moved.square().mean(dim=0).sqrt()
            # A dimension that does not vary stays as it is, which is zero.
            floor = 1e-9 * deviation.max().clamp_min(1e-30)
            matrix = torch.where(deviation > floor, 1 / deviation.clamp_min(floor), 0.0)
        elif kind == "whiten":
            values, vectors = torch.linalg.eigh(moved.mT @ moved / len(moved))
            values = values.clamp_min(0)
            matrix = vectors / (values + RIDGE * values[-1].clamp_min(1e-30)).sqrt()
        else:
            raise ValueError(f"Repairs are {', '.join(REPAIRS)}. Got {kind!r}.")
    return Repair(centre.to(features.dtype), matrix.to(features.dtype))


@dataclass(frozen=True)
class Grid:
    """What is tried.

    Attributes:
        sgd: learning rates of SGD with Nesterov momentum 0.9, in units of 1/L, L = ½σ_max(ZᵀZ)/N
            of the repaired features Z.
        adam: learning rates of Adam.
        ridges: of closed-form least squares on ±1 targets, relative to the largest eigenvalue.
        steps: budget.
        batch: images a step.
        records: steps after which accuracy is taken.
    """

    sgd: list[float]
    adam: list[float]
    ridges: list[float]
    steps: int
    batch: int
    records: list[int]

    @property
    def names(self) -> list[tuple[str, float]]:
        """Members that take steps, in the order of the results."""
        return [("sgd", rate) for rate in self.sgd] + [("adam", rate) for rate in self.adam]


def sweep(
    groups: list[Tensor],
    labels: list[Tensor],
    tests: list[Tensor],
    test_labels: Tensor,
    classes: int,
    grid: Grid,
    key: tuple[object, ...],
) -> tuple[Tensor, Tensor]:
    """Train every member on every group.

    Args:
        groups: repaired features of G groups, each (N_g, D).
        labels: theirs, each (N_g,).
        tests: held-out features of each group, (T, D).
        test_labels: (T,).
        classes: C.
        grid: what is tried.
        key: of the draws; groups of the same N see the same order.

    Returns:
        Held-out accuracies, shape (records, G, members), and the last training losses of the
        minibatch, (G, members).
    """
    device, dtype = groups[0].device, groups[0].dtype
    count, width = len(groups), groups[0].shape[1]
    first, members = len(grid.sgd), len(grid.names)
    # Rows of all groups one below the other; a batch is drawn by places within each.
    table, answers = torch.cat(groups), torch.cat(labels)
    sizes = [len(g) for g in groups]
    starts = torch.tensor([sum(sizes[:g]) for g in range(count)], device=device)
    order = torch.stack([_order(n, grid, key).to(device) for n in sizes])
    smooth = torch.stack([_smoothness(g) for g in groups])
    rates = torch.tensor([rate for _, rate in grid.names], dtype=dtype, device=device)
    rates = rates.repeat(count, 1)
    rates[:, :first] /= smooth[:, None].to(dtype)
    rates = rates[:, None, :, None]

    weights = torch.zeros(count, width + 1, members, classes, dtype=dtype, device=device)
    speed = torch.zeros_like(weights[:, :, :first])
    mean = torch.zeros_like(weights[:, :, first:])
    square = torch.zeros_like(mean)
    targets = torch.eye(classes, dtype=dtype, device=device)
    accuracies = []
    losses = torch.zeros(count, members, dtype=dtype, device=device)
    for step in range(grid.steps):
        rows = order[:, step] + starts[:, None]
        inputs = _with_one(table[rows])
        logits = (inputs @ weights.flatten(2)).unflatten(2, (members, classes))
        wanted = targets[answers[rows]][:, :, None]
        if step == grid.steps - 1:
            chosen = (logits * wanted).sum(dim=-1)
            losses = (logits.logsumexp(dim=-1) - chosen).mean(dim=1)
        error = (logits.softmax(dim=-1) - wanted) / rows.shape[1]
        slope = (inputs.mT @ error.flatten(2)).unflatten(2, (members, classes))
        if first:
            speed.mul_(0.9).add_(slope[:, :, :first])
            moved = slope[:, :, :first] + 0.9 * speed
            weights[:, :, :first] -= rates[:, :, :first] * moved
        if members > first:
            mean.lerp_(slope[:, :, first:], 0.1)
            square.lerp_(slope[:, :, first:].square(), 0.001)
            corrected_rates = rates[:, :, first:] / (1 - 0.9 ** (step + 1))
            deviation = (square / (1 - 0.999 ** (step + 1))).sqrt_().add_(1e-8)
            weights[:, :, first:] -= corrected_rates * mean / deviation
        if step + 1 in grid.records:
            accuracies.append(_accuracy(weights, tests, test_labels))
    return torch.stack(accuracies), losses


def least_squares(
    groups: list[Tensor],
    labels: list[Tensor],
    tests: list[Tensor],
    test_labels: Tensor,
    classes: int,
    ridges: list[float],
) -> Tensor:
    """Held-out accuracies of closed-form ridge regression on ±1 targets, shape (G, ridges).

    Args:
        groups, labels, tests, test_labels, classes: as in `sweep`.
        ridges: relative to the largest eigenvalue of ZᵀZ.
    """
    solutions = []
    for features, group_labels, test in zip(groups, labels, tests, strict=True):
        wide = _with_one(features.to(torch.float64))
        targets = 2 * torch.nn.functional.one_hot(group_labels, classes).to(torch.float64) - 1
        values, vectors = torch.linalg.eigh(wide.mT @ wide)
        inside = vectors.mT @ (wide.mT @ targets)
        row = []
        for ridge in ridges:
            probe = vectors @ (inside / (values.clamp_min(0) + ridge * values[-1])[:, None])
            answer = (_with_one(test.to(torch.float64)) @ probe).argmax(dim=1)
            row.append((answer == test_labels).double().mean())
        solutions.append(torch.stack(row))
    return torch.stack(solutions)


def _with_one(features: Tensor) -> Tensor:
    """Features with a last dimension of ones, for the bias."""
    return torch.nn.functional.pad(features, (0, 1), value=1.0)


def _order(count: int, grid: Grid, key: tuple[object, ...]) -> Tensor:
    """Places of each step's batch, (steps, batch); every image once before any again."""
    wanted = grid.steps * grid.batch
    rounds = [
        torch.randperm(count, generator=seeded(*key, count, epoch))
        for epoch in range(-(-wanted // count))
    ]
    return torch.cat(rounds)[:wanted].reshape(grid.steps, grid.batch)


def _smoothness(features: Tensor) -> Tensor:
    """L = ½σ_max of the second moment, the bias included."""
    wide = _with_one(features.to(torch.float64))
    return 0.5 * torch.linalg.matrix_norm(wide.mT @ wide / len(wide), 2)


def _accuracy(weights: Tensor, tests: list[Tensor], labels: Tensor) -> Tensor:
    """Share of held-out rows that each member of each group gets right, (G, members)."""
    accuracies = []
    rows = max(1, BYTES // (weights[0, 0].numel() * weights.element_size()))
    for group_weights, test in zip(weights, tests, strict=True):
        correct = torch.zeros(
            group_weights.shape[1], dtype=torch.int64, device=group_weights.device
        )
        for part, wanted in zip(test.split(rows), labels.split(rows), strict=True):
            logits = (_with_one(part) @ group_weights.flatten(1)).unflatten(
                1, group_weights.shape[1:]
            )
            correct += (logits.argmax(dim=-1) == wanted[:, None]).sum(dim=0)
        accuracies.append(correct.double() / len(labels))
    return torch.stack(accuracies)
