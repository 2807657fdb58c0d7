"""Task pairs (D_P, D_H) of a data set, their files, and what a method immunizes in one batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from immunization.linear.cache import TaskCache
from immunization.linear.sufficient_statistics import (
    TaskBatch,
    label_statistics,
    select_tasks,
    stack_statistics,
)
from immunization.runtime.errors import UserError
from immunization.runtime.seeding import seed_of
from immunization.runtime.threads import map_threads


@dataclass(frozen=True)
class Task:
    """Rows of one data set, with labels, for training and held out.

    Attributes:
        name: for messages and tables, such as ``"3"`` or ``"women: blood sugar"``.
        train_rows, test_rows: integer row numbers into the study's inputs.
        train_labels, test_labels: float64, in the order of the rows.
    """

    name: str
    train_rows: Tensor
    train_labels: Tensor
    test_rows: Tensor
    test_labels: Tensor


@dataclass(frozen=True)
class Problem:
    """Pairs of one data set, under one seed or several: what a method immunizes in one batch.

    Attributes:
        primary, harmful: the two roles, batched alike.
        loss: "classification" or "regression".
        members: seed and number of each pair in ``source.pair_names``.
        source: where rows and labels can be had, for methods that draw minibatches.
    """

    primary: TaskBatch
    harmful: TaskBatch
    loss: str
    members: list[tuple[int, int]]
    source: TaskSet

    @property
    def size(self) -> int:
        """B, the number of pairs."""
        return self.primary.factor.shape[0]

    @property
    def dimension(self) -> int:
        """D, the number of features."""
        return self.primary.factor.shape[1]

    def to(self, device: str) -> Problem:
        """The same pairs on a device."""
        if self.primary.factor.device == torch.device(device):
            return self
        return self.source.batch(self.members, device)

    def identity(self) -> Tensor:
        """θ = I for each pair, shape (B, D, D)."""
        factor = self.primary.factor
        eye = torch.eye(self.dimension, dtype=factor.dtype, device=factor.device)
        return eye.repeat(self.size, 1, 1)

    def generators(self, purpose: int) -> list[torch.Generator]:
        """A fresh generator for each pair, on the CPU so that every device draws the same.

        It depends on the seed, ``purpose`` and the names of the two tasks only: a pair draws the
        same alone, in any batch and in a subset of a study.
        """
        return [torch.Generator().manual_seed(number) for number in self.drawing_seeds(purpose)]

    def drawing_seeds(self, purpose: int) -> list[int]:
        """A number for each pair that seeds what is drawn for a purpose, 63 bits."""
        names = self.source.pair_names
        return [seed_of(seed, purpose, *names[pair]) for seed, pair in self.members]

    def normal(self, purpose: int, *shape: int) -> Tensor:
        """Standard normal draws in float64, shape (B, *shape), on the device of the factors."""
        drawn = [
            torch.randn(*shape, dtype=torch.float64, generator=generator)
            for generator in self.generators(purpose)
        ]
        return torch.stack(drawn).to(self.primary.factor)


@dataclass(frozen=True)
class TaskSet:
    """A data set of a study: inputs, tasks, pairs for each seed, and their statistics.

    Attributes:
        name: its label in the config.
        loss: "classification" (labels ±1) or "regression".
        accuracy: whether labels vary within a task, so that an accuracy means something.
        inputs: raw inputs, shape (N, D), float64, or uint8 for images.
        scale, shift: the features are ``inputs * scale + shift``.
        pair_names: (name of D_P, name of D_H) for each pair.
        task_index: shape (S, B, 2), the tasks of each seed and pair.
        seeds: the S seeds.
        tasks: all distinct tasks.
        statistics: padded tensors over tasks, as in `TaskBatch`.
        intercept: whether probes have one, so that K is that of centred features.
        class_roles: roles whose tasks, those of all pairs together, are the classes of one task,
            each against the rest; an accuracy is then that of the class with the largest score.
        info: parameters and provenance, stored with the file.
        cache: what batches of the same pairs may reuse while the program runs; not stored.
    """

    name: str
    loss: str
    accuracy: bool
    inputs: Tensor
    scale: float
    shift: float
    pair_names: list[tuple[str, str]]
    task_index: Tensor
    seeds: list[int]
    tasks: list[Task]
    statistics: dict[str, Tensor]
    intercept: bool = False
    class_roles: tuple[str, ...] = ()
    info: dict[str, Any] = field(default_factory=dict)
    cache: TaskCache = field(default_factory=TaskCache, repr=False, compare=False)

    def features(self, rows: Tensor) -> Tensor:
        """Features of some rows in float64, shape (..., D)."""
        return self.inputs[rows].to(torch.float64) * self.scale + self.shift

    def inputs_on(self, device: torch.device) -> Tensor:
        """Raw inputs on a device, sent there once: rows by rows, again and again, take longer."""
        if device.type == "cpu":
            return self.inputs
        if device not in self.cache.inputs:
            self.cache.inputs[device] = self.inputs.to(device)
        return self.cache.inputs[device]

    def members(self, seed: int) -> list[tuple[int, int]]:
        """All pairs under one of the seeds, as (seed, number of the pair)."""
        return [(seed, pair) for pair in range(len(self.pair_names))]

    def distinct_members(self) -> dict[tuple[int, int], tuple[int, int]]:
        """For every pair and seed the first that has the same two tasks, often itself.

        Tasks that no seed enters, as MNIST's with its own split, are the same under all of them.
        """
        first: dict[tuple[int, int], tuple[int, int]] = {}
        owners = {}
        for row, seed in enumerate(self.seeds):
            for pair in range(len(self.pair_names)):
                p, h = self.task_index[row, pair].tolist()
                owners[seed, pair] = first.setdefault((p, h), (seed, pair))
        return owners

    def first_alike(self, seed: int) -> int:
        """The first seed that has the same tasks in all of its pairs."""
        wanted = self.task_index[self.seeds.index(seed)]
        return next(
            other
            for other, tasks in zip(self.seeds, self.task_index, strict=True)
            if torch.equal(wanted, tasks)
        )

    def problem(self, seed: int, device: str = "cpu") -> Problem:
        """All pairs under one of the seeds, on a device."""
        return self.batch(self.members(seed), device)

    def batch(self, members: list[tuple[int, int]], device: str = "cpu") -> Problem:
        """Some pairs, given as (seed, number of the pair), on a device."""
        rows = [self.seeds.index(seed) for seed, _ in members]
        index = self.task_index[rows, [pair for _, pair in members]]
        primary, harmful = (self.role(index[:, role], device) for role in range(2))
        return Problem(primary, harmful, self.loss, members, self)

    def role(self, chosen: Tensor, device: str = "cpu") -> TaskBatch:
        """Some tasks, given by number, on a device."""
        return select_tasks(self.statistics, chosen, device)


def gather(
    source: TaskSet, parts: list[tuple[Tensor, Tensor]], like: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of several tasks as one padded batch, in the dtype and on the device of a tensor.

    Args:
        source: where the rows are.
        parts: row numbers and labels of each task.
        like: a tensor.

    Returns:
        Features (P, n, D), labels (P, n), and which rows are data (P, n).
    """
    longest = max(len(rows) for rows, _ in parts)
    index = torch.zeros(len(parts), longest, dtype=torch.int64)
    labels = torch.zeros(len(parts), longest, dtype=torch.float64)
    mask = torch.zeros(len(parts), longest, dtype=torch.bool)
    for i, (rows, values) in enumerate(parts):
        index[i, : len(rows)], labels[i, : len(rows)], mask[i, : len(rows)] = rows, values, True
    rows = source.inputs_on(like.device)[index.to(like.device)]
    features = rows.to(like.dtype) * source.scale + source.shift
    return features, labels.to(like), mask.to(like.device)


def held_out(source: TaskSet, tasks: list[Task], like: Tensor) -> tuple[Tensor, Tensor]:
    """Held-out features (P, n, D) and labels (P, n), NaN for padding; see `gather`."""
    features, labels, mask = gather(source, [(t.test_rows, t.test_labels) for t in tasks], like)
    return features, labels.masked_fill(~mask, torch.nan)


def check_task(dataset: str, task: Task, features: Tensor, varied: bool) -> None:
    """Refuse a task that has no meaning, before anything is computed from it.

    Raises:
        UserError: for an empty class, non-finite features or labels, or constant labels where
            they must vary.
    """
    where = f"data set '{dataset}', task '{task.name}'"
    if len(task.train_rows) == 0:
        raise UserError(
            f"{where}: no training rows (an empty class). Choose classes or a split column "
            "value that occur in the data."
        )
    if not bool(torch.isfinite(features).all()):
        row, column = (int(i) for i in (~torch.isfinite(features)).nonzero()[0])
        raise UserError(
            f"{where}: the feature in row {int(task.train_rows[row])}, column {column} is not "
            "finite. Remove or fill such values before the study."
        )
    if not bool(torch.isfinite(task.train_labels).all()):
        row = int((~torch.isfinite(task.train_labels)).nonzero()[0])
        raise UserError(
            f"{where}: the target in row {int(task.train_rows[row])} is not finite. Remove or "
            "fill such rows before the study."
        )
    if varied and bool((task.train_labels == task.train_labels[0]).all()):
        raise UserError(
            f"{where}: the target is constant ({float(task.train_labels[0]):g}), there is "
            "nothing to learn. Choose another target column or class."
        )


def build_task_set(
    *,
    name: str,
    loss: str,
    accuracy: bool,
    inputs: Tensor,
    tasks: list[Task],
    pair_names: list[tuple[str, str]],
    task_index: Tensor,
    seeds: list[int],
    scale: float = 1.0,
    shift: float = 0.0,
    info: dict[str, Any] | None = None,
    tolerance: float | None = None,
    offset: float = 1.0,
    intercept: bool = False,
    dtype: torch.dtype | None = None,
    class_roles: tuple[str, ...] = (),
) -> TaskSet:
    """Check every task, factor it, and collect the statistics (see `TaskSet` for arguments).

    ``tolerance``, ``offset`` and ``dtype`` are those of `range_factor`. Tasks that share one tensor
    of row numbers, as the classes of one task do, are factored once.
    """
    sharing: dict[int, list[int]] = {}
    for number, task in enumerate(tasks):
        sharing.setdefault(id(task.train_rows), []).append(number)

    def statistics(numbers: list[int]) -> list[dict[str, Tensor]]:
        task = tasks[numbers[0]]
        features = inputs[task.train_rows].to(torch.float64) * scale + shift
        for number in numbers:
            check_task(name, tasks[number], features, varied=loss == "regression" or accuracy)
        if intercept and bool((task.train_labels == task.train_labels[0]).all()):
            raise UserError(
                f"data set '{name}', task '{task.name}': all labels are alike, and a probe with an "
                "intercept has nothing to learn. Use `task: one_vs_rest`, or `spectrum: "
                "{intercept: false}`."
            )
        try:
            columns = [tasks[number].train_labels for number in numbers]
            parts = label_statistics(
                features, columns, tolerance, offset=offset, intercept=intercept, dtype=dtype
            )
        except ValueError as error:
            raise UserError(f"data set '{name}', task '{task.name}': {error}") from error
        if int(parts[0]["ranks"]) == 1:
            raise UserError(
                f"data set '{name}', task '{task.name}': the features have rank 1. With a single "
                "non-zero eigenvalue κ is 1 whatever the extractor, and there is nothing to "
                "immunize. Use more features or rows."
            )
        return parts

    # One thread a task, as many at a time as torch was given.
    groups = list(sharing.values())
    by_number: dict[int, dict[str, Tensor]] = {}
    for numbers, parts in zip(
        groups, map_threads(statistics, groups, torch.get_num_threads()), strict=True
    ):
        by_number |= dict(zip(numbers, parts, strict=True))
    return TaskSet(
        name=name,
        loss=loss,
        accuracy=accuracy,
        inputs=inputs,
        scale=scale,
        shift=shift,
        pair_names=pair_names,
        task_index=task_index,
        seeds=seeds,
        tasks=tasks,
        statistics=stack_statistics([by_number[number] for number in range(len(tasks))]),
        intercept=intercept,
        class_roles=class_roles,
        info=info or {},
    )
