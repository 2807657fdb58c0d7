"""A user's tasks as the task sets that methods and attackers take.

The classes of a task, each against the rest, are so many pairs with the same features: κ, limits
and methods that read inputs alone see one of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from immunization.linear.own_tasks.scaling import Scale, Scaler
from immunization.linear.own_tasks.task import Task
from immunization.linear.tasks import Task as Rows
from immunization.linear.tasks import TaskSet, build_task_set
from immunization.runtime.errors import UserError
from immunization.runtime.seeding import seeded

HELD_OUT = 0.25
"""Share of the rows that attackers are tested on where a task has no test rows of its own."""
MOST_ENTRIES = 2**23
"""Features of an attacked task, all classes counted: 64 MiB, of which several copies are held."""
FEWEST_ROWS = 500
"""That an attacker gets however wide the features and many the classes are."""
SEED = 0
"""Of the κ of both tasks, which no seed enters, and of methods that draw."""


def require_task(task: object, role: str) -> None:
    """Refuse what is no task, such as an array.

    Raises:
        UserError: saying how to make one.
    """
    if not isinstance(task, Task):
        raise UserError(
            f"the {role} task is {type(task).__name__}; make a task of it: "
            "im.Task(features, labels), or im.Task(features) without labels."
        )


def check_pair(benign: Task, harmful: Task) -> None:
    """Refuse two tasks that no extractor is common to.

    Raises:
        UserError: naming both widths.
    """
    for role, task in (("benign", benign), ("harmful", harmful)):
        require_task(task, role)
    if benign.width != harmful.width:
        raise UserError(
            f"the benign task has {benign.width} features and the harmful one {harmful.width}. "
            "Both come from one model, at the same layer."
        )


def pair_set(
    benign: Task, harmful: Task, scaler: Scaler, *, intercept: bool = False, seed: int = SEED
) -> TaskSet:
    """D_P and D_H with all of their rows: for κ, limits and methods."""
    return study_set(
        "features", benign, harmful, scaler, seeds=[seed], intercept=intercept, held_out=0.0
    )


def study_set(
    name: str,
    benign: Task,
    harmful: Task,
    scaler: Scaler,
    *,
    seeds: list[int],
    intercept: bool = False,
    tolerance: float | None = None,
    held_out: float = HELD_OUT,
) -> TaskSet:
    """D_P and D_H as the task set of a study: one pair, or one a class where there are several.

    Args:
        name: of the data set.
        benign, harmful: the tasks.
        scaler: what is done to their features.
        seeds: each draws the rows that are held out.
        intercept: whether probes have one.
        tolerance: of the rank; by default what the dtype of the data allows.
        held_out: share of the rows of tasks without test rows of their own.
    """
    check_pair(benign, harmful)
    tasks = benign, harmful
    scales = [scaler.of(role) for role in range(2)]
    columns = max(task.targets.shape[1] for task in tasks)
    index = torch.zeros(len(seeds), columns, 2, dtype=torch.int64)
    rows: list[Rows] = []
    blocks: list[Tensor] = []
    start = 0
    for role, (task, scale) in enumerate(zip(tasks, scales, strict=True)):
        targets, features = all_rows(task, scale)
        if intercept and task.kind == "none":  # of which nothing is reported; ones would be refused
            targets = torch.where(torch.arange(len(targets)) % 2 == 0, 1.0, -1.0).double()[:, None]
        for s, seed in enumerate(seeds):
            train, test = _split(task, seed, held_out)
            if s == 0 or (held_out > 0 and task.test_features is None):
                first = len(rows)
                rows += _columns(task, targets, train, test, start)
            index[s, :, role] = torch.arange(columns) % targets.shape[1] + first
        blocks.append(features)
        start += len(features)
    kinds = {task.kind for task in tasks}
    return build_task_set(
        name=name,
        loss="regression" if "regression" in kinds and "none" not in kinds else "classification",
        accuracy=held_out > 0 and kinds == {"classification"},
        inputs=torch.cat(blocks),
        tasks=rows,
        pair_names=[(_column(benign, k), _column(harmful, k)) for k in range(columns)],
        task_index=index,
        seeds=seeds,
        offset=max(scale.offset(task.features) for scale, task in zip(scales, tasks, strict=True)),
        intercept=intercept,
        tolerance=tolerance,
        dtype=coarsest(benign, harmful),
        class_roles=class_roles(benign, harmful),
        info=scaler.info(),
    )


def _column(task: Task, number: int) -> str:
    return task.column_name(number % task.targets.shape[1])


def all_rows(task: Task, scale: Scale) -> tuple[Tensor, Tensor]:
    """Targets and scaled features of the rows, and behind them those of the test rows."""
    if task.test_features is None or task.test_targets is None:
        return task.targets, scale(task.features)
    return (
        torch.cat([task.targets, task.test_targets]),
        torch.cat([scale(task.features), scale(task.test_features)]),
    )


def attacked_set(task: Task, scale: Scale, *, intercept: bool = False, seeds: list[int]) -> TaskSet:
    """One task as attackers get it, in both roles: some rows are held out, drawn by each seed.

    Of a large task they get as many rows as `MOST_ENTRIES` takes, drawn by the seed too.
    """
    columns = task.targets.shape[1]
    labels, inputs = all_rows(task, scale)
    index = torch.zeros(len(seeds), columns, 2, dtype=torch.int64)
    rows: list[Rows] = []
    most = max(FEWEST_ROWS, MOST_ENTRIES // (task.width * columns))
    for s, seed in enumerate(seeds):
        train, test = (_at_most(rows_, most, seed) for rows_ in _split(task, seed, HELD_OUT))
        if s == 0 or task.test_features is None or len(task) > most:
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


def class_roles(benign: Task, harmful: Task) -> tuple[str, ...]:
    """Roles of which every pair holds a class (see `TaskSet`)."""
    tasks = (("P", benign), ("H", harmful))
    return tuple(role for role, task in tasks if task.is_multiclass)


def _at_most(rows: Tensor, most: int, seed: int) -> Tensor:
    """All of some rows, or so many of them, drawn by a seed, ascending."""
    if len(rows) <= most:
        return rows
    drawn = torch.randperm(len(rows), generator=seeded("rows of an attacker", seed))[:most]
    return rows[drawn.sort().values]


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


def _split(task: Task, seed: int, share: float) -> tuple[Tensor, Tensor]:
    """Rows for training, and rows to test on, as places in the rows and then the test rows."""
    count = len(task)
    if task.test_features is not None:
        return torch.arange(count), torch.arange(len(task.test_features)) + count
    if share == 0:
        return torch.arange(count), torch.arange(0)
    order = torch.randperm(count, generator=seeded("held out", seed))
    held_out = round(share * count)
    test, train = order[:held_out].sort().values, order[held_out:].sort().values
    for number in range(task.targets.shape[1]):
        labels = task.targets[train, number]
        if task.kind != "none" and bool((labels == labels[0]).all()):
            raise UserError(
                f"{task.column_name(number)}: too few rows to hold {share:.0%} of them out for "
                "tests. Give more rows, or rows to test on: Task(..., test=(features, labels))."
            )
    return train, test
