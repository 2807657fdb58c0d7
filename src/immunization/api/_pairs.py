"""A user's tasks as the task sets that methods and attackers take.

The classes of a task, each against the rest, are so many pairs with the same features: κ, limits
and methods that read inputs alone see one of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from immunization.api._scaling import Scale, Scaler
from immunization.api.task import Task
from immunization.linear.tasks import Task as Rows
from immunization.linear.tasks import TaskSet, build_task_set
from immunization.runtime.errors import UserError
from immunization.runtime.seeding import seeded

HELD_OUT = 0.25
"""Share of the rows that attackers are tested on where a task has no test rows of its own."""
SEED = 0
"""Of the κ of both tasks, which no seed enters, and of methods that draw."""


def check_pair(benign: Task, harmful: Task) -> None:
    """Refuse two tasks that no extractor is common to.

    Raises:
        UserError: naming both widths.
    """
    if benign.width != harmful.width:
        raise UserError(
            f"the benign task has {benign.width} features and the harmful one {harmful.width}. "
            "Both come from one model, at the same layer."
        )


def pair_set(
    benign: Task, harmful: Task, scaler: Scaler, *, intercept: bool = False, seed: int = SEED
) -> TaskSet:
    """D_P and D_H with all of their rows: for κ, limits and methods."""
    check_pair(benign, harmful)
    columns = max(benign.targets.shape[1], harmful.targets.shape[1])
    index = torch.zeros(1, columns, 2, dtype=torch.int64)
    rows: list[Rows] = []
    start = 0
    for role, task in enumerate((benign, harmful)):
        targets = task.targets
        if intercept and task.kind == "none":  # of which nothing is reported; ones would be refused
            targets = torch.where(torch.arange(len(task)) % 2 == 0, 1.0, -1.0).double()[:, None]
        everything = torch.arange(len(task))
        index[0, :, role] = torch.arange(columns) % targets.shape[1] + len(rows)
        rows += _columns(task, targets, everything, everything[:0], start)
        start += len(task)
    tasks = benign, harmful
    scales = [scaler.of(role) for role in range(2)]
    regression = "regression" in (benign.kind, harmful.kind)
    return build_task_set(
        name="features",
        loss="regression" if regression and "none" not in (benign.kind, harmful.kind)
        else "classification",
        accuracy=False,
        inputs=torch.cat([scale(task.features) for scale, task in zip(scales, tasks, strict=True)]),
        tasks=rows,
        pair_names=[(f"benign {k}", f"harmful {k}") for k in range(columns)],
        task_index=index,
        seeds=[seed],
        offset=max(scale.offset(task.features) for scale, task in zip(scales, tasks, strict=True)),
        intercept=intercept,
        dtype=coarsest(benign, harmful),
    )  # fmt: skip


def attacked_set(task: Task, scale: Scale, *, intercept: bool = False, seeds: list[int]) -> TaskSet:
    """One task as attackers get it, in both roles: some rows are held out, drawn by each seed."""
    columns = task.targets.shape[1]
    labels, inputs = task.targets, scale(task.features)
    if task.test_features is not None and task.test_targets is not None:
        labels = torch.cat([labels, task.test_targets])
        inputs = torch.cat([inputs, scale(task.test_features)])
    index = torch.zeros(len(seeds), columns, 2, dtype=torch.int64)
    rows: list[Rows] = []
    for s, seed in enumerate(seeds):
        train, test = _split(task, seed)
        if s == 0 or task.test_features is None:
            first = len(rows)
            rows += _columns(task, labels, train, test, 0)
        index[s] = torch.arange(columns)[:, None] + first
    classes = task.kind == "classification"
    return build_task_set(
        name="features",
        loss="classification" if classes else "regression",
        accuracy=classes,
        inputs=inputs,
        tasks=rows,
        pair_names=[(f"{k}", f"{k}") for k in range(columns)],
        task_index=index,
        seeds=seeds,
        offset=scale.offset(task.features),
        intercept=intercept,
        dtype=task.features.dtype,
        class_roles=("P", "H") if task.is_multiclass else (),
    )


def coarsest(benign: Task, harmful: Task) -> torch.dtype:
    """The dtype of both that has fewer digits, at which both ranks are decided."""
    return max((benign.features.dtype, harmful.features.dtype), key=lambda d: torch.finfo(d).eps)


def _columns(task: Task, targets: Tensor, train: Tensor, test: Tensor, start: int) -> list[Rows]:
    """One task a column of the targets; all share one tensor of row numbers, and so one factor."""
    train_rows, test_rows = train + start, test + start
    return [
        Rows(
            task.column_name(number),
            train_rows,
            targets[train, number],
            test_rows,
            targets[test, number],
        )
        for number in range(targets.shape[1])
    ]  # fmt: skip


def _split(task: Task, seed: int) -> tuple[Tensor, Tensor]:
    """Rows for training, and rows to test on, as places in the rows and then the test rows."""
    count = len(task)
    if task.test_features is not None:
        return torch.arange(count), torch.arange(len(task.test_features)) + count
    order = torch.randperm(count, generator=seeded("held out", seed))
    held_out = round(HELD_OUT * count)
    test, train = order[:held_out].sort().values, order[held_out:].sort().values
    for number in range(task.targets.shape[1]):
        labels = task.targets[train, number]
        if bool((labels == labels[0]).all()):
            raise UserError(
                f"{task.column_name(number)}: too few rows to hold a quarter of them out for "
                "tests. Give more rows, or rows to test on: Task(..., test=(features, labels))."
            )
    return train, test
