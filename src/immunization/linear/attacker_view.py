"""What an attacker sees: which rows of a task it has, and its features after repair.

Two forms of the same: statistics in the eigenbasis for the spectral simulator, and the features
themselves for everything else.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hessian_spectrum import ROUND_OFF, ProbeSpectrum, probe_spectrum, resolved_only
from hessian_spectrum.kernels.svd import robust_svd
from immunization.linear.sufficient_statistics import TaskBatch, centred_statistics
from immunization.linear.tasks import Task, TaskSet, gather
from immunization.runtime.seeding import seeded


class AttackerView(NamedTuple):
    """Rows and repair.

    Attributes:
        fraction: share of the training rows.
        unseen_rows: half of the held-out rows instead, tested on the others.
        repair: see ``attacks/_data.py``; ``intercept`` where nothing is repaired, but all probes of
            the study have one.
        ridge: of ridge_whiten.
    """

    fraction: float = 1.0
    unseen_rows: bool = False
    repair: str = "none"
    ridge: float = 1e-6

    @classmethod
    def of(cls, parameters: dict[str, Any]) -> AttackerView:
        """From an attacker's parameters."""
        return cls(
            float(parameters.get("fraction", 1.0)),
            bool(parameters.get("unseen_rows", False)),
            parameters.get("repair", "none"),
            float(parameters.get("repair_ridge", 1e-6)),
        )

    @property
    def row_selection(self) -> tuple[float, bool]:
        """What decides the rows."""
        return self.fraction, self.unseen_rows

    @property
    def uses_all_rows_unrepaired(self) -> bool:
        """Whether all training rows and the features as they are."""
        return self.row_selection == (1.0, False) and self.repair in ("none", "intercept")

    @property
    def whitens(self) -> bool:
        """Whether principal directions are needed."""
        return self.repair in ("pca_whiten", "zca_whiten", "ridge_whiten")

    @property
    def decomposition_key(self) -> str:
        """Which decomposition it takes: whitening only rescales that of the centred features."""
        return self.repair if self.repair in ("none", "scale") else "centre"


def choose_rows(task: Task, view: AttackerView, seed: int) -> Task:
    """The task with the rows that the attacker has, and those it is tested on.

    Rows are drawn within each label where there are two of them, at least two of each.
    """
    if view.row_selection == (1.0, False):
        return task
    draw = seeded("rows", seed, task.name, view.fraction, view.unseen_rows)
    if view.unseen_rows:
        places = _stratified(task.test_labels, 0.5, draw)
        chosen = torch.zeros(len(task.test_rows), dtype=torch.bool)
        chosen[places] = True
        task = Task(
            task.name,
            task.test_rows[chosen],
            task.test_labels[chosen],
            task.test_rows[~chosen],
            task.test_labels[~chosen],
        )
    if view.fraction < 1:
        places = _stratified(task.train_labels, view.fraction, draw)
        task = Task(
            task.name,
            task.train_rows[places],
            task.train_labels[places],
            task.test_rows,
            task.test_labels,
        )
    return task


def _stratified(labels: Tensor, share: float, draw: torch.Generator) -> Tensor:
    """Places of a share of the rows, ascending."""
    values = labels.unique()
    groups = [labels == value for value in values] if len(values) == 2 else [labels == labels]
    chosen = []
    for group in groups:
        places = group.nonzero().squeeze(1)
        count = min(len(places), max(2, math.ceil(share * len(places))))
        chosen.append(places[torch.randperm(len(places), generator=draw)[:count]])
    return torch.cat(chosen).sort().values


class Decomposition(NamedTuple):
    """Repaired features of B problems in the eigenbasis of their Gram matrix.

    Attributes:
        eigenvalues: σ², shape (B, k), those of padding and beyond round-off zero.
        coefficients: w* in the eigenbasis, shape (B, k).
        to_inputs: maps a probe in the eigenbasis to weights on the inputs, shape (B, D, k).
        intercept: whether the last coordinate is one.
        mean: of the inputs, shape (B, D), which the intercept takes off; zero without.
    """

    eigenvalues: Tensor
    coefficients: Tensor
    to_inputs: Tensor
    intercept: bool
    mean: Tensor

    def on_inputs(self, probes: Tensor) -> tuple[Tensor, Tensor]:
        """Weights on the inputs (B, D, m) and offsets (B, m) of probes (B, m, k)."""
        weights = self.to_inputs @ probes.mT
        offset = -(self.mean[:, None] @ weights).squeeze(1)
        if self.intercept:
            offset = offset + probes[..., -1]
        return weights, offset


def decompose(
    task: TaskBatch, theta: Tensor, view: AttackerView, *, singular: bool
) -> Decomposition:
    """One SVD a problem, and what the repair makes of it.

    Args:
        task: D_P or D_H, or some rows of it.
        theta: θ, shape (B, D, D).
        view: the repair.
        singular: whether θ has lost directions on purpose, so that what round-off leaves of them
            is no part of the spectrum.
    """
    if view.decomposition_key == "none":
        spectrum = probe_spectrum(task.factor, task.targets, task.ranks, theta)
        if singular:
            spectrum = resolved_only(spectrum)
        mean = torch.zeros_like(theta[:, :, 0])
        return Decomposition(
            spectrum.eigenvalues, spectrum.coefficients, theta @ spectrum.vectors, False, mean
        )
    return repair(task, *centred_spectrum(task, theta, view.decomposition_key), view)


def centred_spectrum(task: TaskBatch, theta: Tensor, basis: str) -> tuple[ProbeSpectrum, Tensor]:
    """Spectrum of the centred, or scaled, features; and θ with the scaling in it."""
    middle = centred_statistics(task)
    if basis == "scale":
        deviation = (middle.factor.mT @ theta).square().sum(1).sqrt()
        least = ROUND_OFF * deviation.amax(dim=1, keepdim=True)
        safe = torch.where(deviation > least, deviation, 1.0)
        theta = theta * torch.where(deviation > least, 1 / safe, 0.0)[:, None]
        theta = theta * task.rows.sqrt()[:, None, None]
    spectrum = probe_spectrum(middle.factor, middle.targets, middle.ranks, theta)
    return resolved_only(spectrum), theta


def repair(
    task: TaskBatch, spectrum: ProbeSpectrum, theta: Tensor, view: AttackerView
) -> Decomposition:
    """Whiten the centred spectrum where that is asked for, and add the intercept."""
    squares, rows = spectrum.eigenvalues, task.rows[:, None]
    old = squares.sqrt()
    new = old
    if view.repair in ("pca_whiten", "zca_whiten"):
        new = torch.where(old > 0, rows.sqrt(), 0.0)
    elif view.repair == "ridge_whiten":
        ridge = view.ridge * squares.amax(dim=1, keepdim=True)
        new = rows.sqrt() * old / (squares + ridge).sqrt()
    stretch = torch.where(old > 0, new / torch.where(old > 0, old, 1.0), 0.0)
    shrink = torch.where(stretch > 0, 1 / torch.where(stretch > 0, stretch, 1.0), 0.0)
    to_inputs = (theta @ spectrum.vectors) * stretch[:, None]
    constant = (task.target_sum / task.rows)[:, None]
    return Decomposition(
        eigenvalues=torch.cat([new.square(), rows], dim=1),
        coefficients=torch.cat([spectrum.coefficients * shrink, constant], dim=1),
        to_inputs=torch.nn.functional.pad(to_inputs, (0, 1)),
        intercept=True,
        mean=task.mean,
    )


class Features(NamedTuple):
    """Repaired features of P problems, padded with zero rows.

    Attributes:
        train: shape (P, N, D).
        labels: shape (P, N).
        mask: rows that are data, shape (P, N).
        test: shape (P, n, D).
        test_labels: shape (P, n), NaN for padding.
    """

    train: Tensor
    labels: Tensor
    mask: Tensor
    test: Tensor
    test_labels: Tensor


def repaired_features(
    source: TaskSet,
    tasks: list[Task],
    theta: Tensor,
    view: AttackerView,
    root: Tensor | None = None,
) -> Features:
    """Features xᵀθ of the tasks' rows, repaired by what the training rows say.

    Args:
        source: where rows are.
        tasks: one a problem, with the rows that the attacker has.
        theta: θ, shape (P, D, D).
        view: the repair.
        root: R with RᵀR the Gram matrix of the centred features, shape (P, k, D), for whitening;
            by default it is taken from the rows.
    """
    train, labels, mask = gather(source, [(t.train_rows, t.train_labels) for t in tasks], theta)
    test, test_labels, seen = gather(source, [(t.test_rows, t.test_labels) for t in tasks], theta)
    train, test = train @ theta, test @ theta
    if view.repair != "none":
        count = mask.sum(1).to(train)[:, None, None]
        mean = (train * mask[..., None]).sum(1, keepdim=True) / count
        train, test = (train - mean) * mask[..., None], test - mean
        change = _change(train, count, view, root)
        train, test = (
            (train * change, test * change) if change.ndim == 3 and change.shape[1] == 1
            else (train @ change, test @ change)
        )  # fmt: skip
    else:
        train = train * mask[..., None]
    return Features(train, labels, mask, test, test_labels.masked_fill(~seen, torch.nan))


def _change(centred_rows: Tensor, count: Tensor, view: AttackerView, root: Tensor | None) -> Tensor:
    """What centred features are multiplied by: (P, 1, D) for scales, else (P, D, D)."""
    if view.repair in ("centre", "intercept"):
        return torch.ones_like(centred_rows[:, :1])
    if view.repair == "scale":
        deviation = (centred_rows.square().sum(1, keepdim=True) / count).sqrt()
        least = ROUND_OFF * deviation.amax(dim=2, keepdim=True)
        return torch.where(deviation > least, 1 / deviation.clamp_min(1e-300), 0.0)
    if root is None:  # R has the singular values too
        tall = centred_rows.shape[1] > 2 * centred_rows.shape[2]
        root = torch.linalg.qr(centred_rows, mode="r").R if tall else centred_rows
    _, values, right = robust_svd(root)
    squares = values.square()[:, None] / count
    largest = squares.amax(dim=2, keepdim=True)
    cut = ROUND_OFF**2 * largest
    ridge = view.ridge * largest if view.repair == "ridge_whiten" else torch.zeros_like(largest)
    factor = torch.where(squares > cut, (squares + ridge).clamp_min(1e-300).rsqrt(), 0.0)
    if view.repair == "pca_whiten":
        return right.mT * factor
    return (right.mT * factor) @ right
