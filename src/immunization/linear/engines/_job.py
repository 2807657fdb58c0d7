"""What the engines share: the job, its targets, and how both are cut into units and grids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from immunization.linear.attacker_view import AttackerView, choose_rows
from immunization.linear.attacks._objective import Attack, AttackPlan
from immunization.linear.evaluation import correct, correct_class
from immunization.linear.files import Extractors
from immunization.linear.sufficient_statistics import (
    TaskBatch,
    select_tasks,
    stack_statistics,
    task_statistics,
)
from immunization.linear.tasks import Task, TaskSet
from immunization.runtime.gpus.memory import run_within_memory
from immunization.runtime.jobs.resumable import Frames
from immunization.runtime.seeding import seeded


class Attacker(NamedTuple):
    """One entry of the config's ``attacks``.

    Attributes:
        label: what the study calls it.
        use: family.
        family: its module, an `AttackerComponent` or a `PredictorComponent`.
        parameters: complete.
    """

    label: str
    use: str
    family: Any
    parameters: dict[str, Any]

    @property
    def view(self) -> AttackerView:
        """Rows and repair."""
        return AttackerView.of(self.parameters)

    @property
    def loss(self) -> str:
        """What the probe is trained on."""
        return str(self.parameters.get("loss", "none"))

    @property
    def restarts(self) -> int:
        """Number of random starts; 0 for one at zero."""
        return int(self.parameters.get("restarts", 0))


class AttackTarget(NamedTuple):
    """Problems of one θ file under one seed and in one role; the lists have one entry a problem.

    Attributes:
        file: θ of a method.
        owner: seed that owns θ.
        seeds: seeds that share it.
        role: "H" harmful, "P" benign, "T" a third task that is neither.
        pairs: number of the pair whose θ is attacked.
        tasks: number of the task.
        third: name of the task where the role is "T", else "".
    """

    file: Extractors
    owner: int
    seeds: list[int]
    role: str
    pairs: list[int]
    tasks: list[int]
    third: list[str]


@dataclass(frozen=True)
class Job:
    """Everything that an engine needs.

    Attributes:
        task_set: one data set.
        files: θ of every method on it, that of the identity among them.
        attackers: of this engine.
        settings: the config's ``attack``.
        device: "cpu" or "cuda".
    """

    task_set: TaskSet
    files: list[Extractors]
    attackers: list[Attacker]
    settings: dict[str, Any]
    device: str

    @cached_property
    def factors(self) -> dict[str, Tensor]:
        """Statistics of all tasks, on the device: every method is attacked on the same."""
        return {name: v.to(self.device) for name, v in self.task_set.statistics.items()}

    @cached_property
    def record(self) -> list[int]:
        """Steps at which curves are recorded."""
        return record_steps(min(self.settings["curve_steps"], self.settings["budget"]))

    def benign(self) -> list[Attacker]:
        """Attackers of D_P and third tasks."""
        plain = [a for a in self.attackers if a.view.uses_all_rows_unrepaired and not a.restarts]
        wanted = self.settings["benign"]
        return plain if wanted is None else [a for a in plain if a.label in wanted]

    def sample(self) -> list[int]:
        """Numbers of the pairs in the stated sample, evenly over all."""
        count = len(self.task_set.pair_names)
        wanted = min(count, self.settings["sampled_pairs"] or count)
        return sorted({round(i) for i in np.linspace(0, count - 1, wanted)})

    def targets(self, role: str, pairs: list[int]) -> list[AttackTarget]:
        """One target a θ that differs, in the order of the files."""
        targets = []
        source = self.task_set
        for file in self.files:
            for owner, seeds in file.sharing().items():
                row = source.seeds.index(owner)
                if role == "T":
                    chosen = [
                        (pair, task) for pair in pairs for task in self.third_tasks(row, pair)
                    ]
                else:
                    place = 0 if role == "P" else 1
                    tasks = source.task_index[row, :, place].tolist()
                    chosen = [(pair, tasks[pair]) for pair in pairs]
                names = [source.tasks[t].name if role == "T" else "" for _, t in chosen]
                if chosen:
                    numbers = [pair for pair, _ in chosen], [task for _, task in chosen]
                    targets.append(AttackTarget(file, owner, seeds, role, *numbers, names))
        return targets

    def third_tasks(self, row: int, pair: int) -> list[int]:
        """Benign tasks of other classes than the pair's, for seed number ``row``."""
        source = self.task_set
        if source.loss != "classification":
            return []
        classes = source.pair_names[pair]
        first: dict[str, int] = {}
        for other, (name, _) in enumerate(source.pair_names):
            if name not in classes:
                first.setdefault(name, int(source.task_index[row, other, 0]))
        names = sorted(first)
        # From another place for each pair, so that all classes take their turn.
        turned = names[pair % max(1, len(names)) :] + names[: pair % max(1, len(names))]
        return [first[name] for name in turned[: self.settings["third_tasks"]]]

    def rows_of(self, view: AttackerView, numbers: list[int], seed: int) -> list[Task]:
        """Tasks with the rows that an attacker has."""
        return [choose_rows(self.task_set.tasks[n], view, seed) for n in numbers]

    def statistics(self, view: AttackerView, numbers: list[int], seed: int) -> TaskBatch:
        """The same as statistics."""
        if view.row_selection == (1.0, False):
            return select_tasks(self.factors, torch.tensor(numbers), self.device)
        distinct = sorted(set(numbers))
        known = self.task_set.cache.statistics
        for number in distinct:
            if (view.row_selection, seed, number) not in known:
                (task,) = self.rows_of(view, [number], seed)
                rows = self.task_set.features(task.train_rows).to(self.device)
                # The rank of a few rows is decided at the tolerance of all.
                tolerance = float(self.task_set.statistics["tolerances"][number])
                part = task_statistics(
                    rows,
                    task.train_labels.to(self.device),
                    tolerance,
                    intercept=self.task_set.intercept,
                )
                known[view.row_selection, seed, number] = {
                    name: v.cpu() for name, v in part.items()
                }
        stacked = stack_statistics([known[view.row_selection, seed, number] for number in distinct])
        chosen = torch.tensor([distinct.index(number) for number in numbers])
        return select_tasks(stacked, chosen, self.device)

    def accuracies(self, target: AttackTarget, scores: Tensor, labels: Tensor) -> Tensor:
        """Held-out accuracy of a target's M problems, shape (M, …).

        Args:
            target: its problems.
            scores: of the held-out rows, shape (M, …, n).
            labels: broadcast to the scores, NaN for padding.
        """
        several = target.role in self.task_set.class_roles
        return (correct_class if several else correct)(scores, labels)

    def has_rows(self, view: AttackerView) -> bool:
        """Whether the data set has the rows that a view takes."""
        enough = min(len(task.test_rows) for task in self.task_set.tasks)
        return not view.unseen_rows or enough >= 8


def record_steps(last: int, count: int = 25) -> list[int]:
    """0 and about ``count`` whole numbers up to ``last``, evenly spaced on a logarithmic axis."""
    spaced = torch.logspace(0, torch.tensor(float(last)).log10().item(), count, dtype=torch.float64)
    return sorted({0, *spaced.round().to(torch.int64).tolist()})


def within_memory(
    run: Callable[[list[AttackTarget], list[Attacker]], Frames],
    targets: list[AttackTarget],
    attackers: list[Attacker],
) -> Frames:
    """Run attackers on some targets, in halves where the GPU runs out of memory.

    Args:
        run: an engine's, of targets and attackers.
        targets: of a unit of work.
        attackers: likewise.

    Raises:
        UserError: when a single problem does not fit.
    """
    done = run_within_memory(lambda some: run(some, attackers), targets, halved, "problem")
    parts = [frames for _, frames in done]
    if len(parts) == 1:
        return parts[0]
    steps, curves = (
        pd.concat([part[place] for part in parts], ignore_index=True) for place in range(2)
    )
    return steps, curves


def halved(targets: list[AttackTarget]) -> tuple[list[AttackTarget], list[AttackTarget]] | None:
    """Targets in two halves, a single one by its problems; None for a single problem."""
    if len(targets) > 1:
        half = len(targets) // 2
        return targets[:half], targets[half:]
    (target,) = targets
    half = len(target.pairs) // 2
    if half == 0:
        return None
    first, second = (
        target._replace(pairs=target.pairs[s], tasks=target.tasks[s], third=target.third[s])
        for s in (slice(half), slice(half, None))
    )
    return [first], [second]


def group_targets(targets: list[AttackTarget], most: float) -> list[list[AttackTarget]]:
    """Targets in groups, each closed when it has more than `most` problems."""
    groups: list[list[AttackTarget]] = []
    problems = 0
    for target in targets:
        if not groups or problems > most:
            groups.append([])
            problems = 0
        groups[-1].append(target)
        problems += len(target.pairs)
    return groups


def target_key(group: list[AttackTarget]) -> list[Any]:
    """The part of a unit's key that identifies its targets."""
    return [[t.file.label, t.owner, t.seeds] for t in group]


def random_starts(
    job: Job, targets: list[AttackTarget], group: list[Attacker], like: Tensor
) -> Tensor:
    """Weights that each attacker's restarts begin at, shape (M, G·K, k), entries N(0, 1/(3D)).

    A problem's are the same for every method and attacker.

    Args:
        job: the job.
        targets: with M problems in all.
        group: G attackers of K restarts.
        like: gives k, dtype and device.
    """
    names = job.task_set.pair_names
    drawn = [
        torch.randn(
            group[0].restarts, like.shape[-1], dtype=torch.float64,
            generator=seeded("start", target.owner, *names[pair], third),
        )
        for target in targets
        for pair, third in zip(target.pairs, target.third, strict=True)
    ]  # fmt: skip
    scale = (3 * job.task_set.inputs.shape[1]) ** -0.5
    return torch.stack(drawn).to(like).repeat(1, len(group), 1) * scale


def batchable_groups(attackers: list[Attacker]) -> list[list[Attacker]]:
    """Attackers that differ in numbers of their family's grid only, and so run together."""
    groups: dict[str, list[Attacker]] = {}
    for attacker in attackers:
        grid = attacker.family.GRID
        static = {
            name: value
            for name, value in attacker.parameters.items()
            if name not in grid or isinstance(value, str)
        }
        groups.setdefault(f"{attacker.use} {sorted(static.items())}", []).append(attacker)
    return list(groups.values())


def grid_parameters(group: list[Attacker], like: Tensor) -> dict[str, Any]:
    """Parameters of a group, those of the grid as tensors (G, 1); restarts repeat each attacker."""
    repeat = max(1, group[0].restarts)
    parameters = dict(group[0].parameters)
    for name in group[0].family.GRID:
        if not isinstance(parameters[name], str):
            values = [float(a.parameters[name]) for a in group for _ in range(repeat)]
            parameters[name] = torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]
    return parameters


def attack_plan(
    job: Job, group: list[Attacker], budget: int, *, keep: bool, finished_gap: float = 1e-10
) -> AttackPlan:
    """What a group runs."""
    repeat = max(1, group[0].restarts)
    record = [step for step in job.record if step <= budget]
    return AttackPlan(
        budget, job.settings["threshold"], record, len(group) * repeat, keep, finished_gap
    )


def fastest_start(outcome: Attack, restarts: int) -> Attack:
    """Of each attacker's random starts the one that is done first; of equals the first."""
    if restarts <= 1:
        return outcome
    problems = len(outcome.steps)
    steps = outcome.steps.reshape(problems, -1, restarts)
    best = steps.min(dim=2, keepdim=True)
    place = (steps == best.values).to(torch.int8).argmax(dim=2)

    def pick(values: Tensor) -> Tensor:
        apart = values.reshape(*steps.shape, *values.shape[2:])
        index = place.reshape(*place.shape, 1, *[1] * (values.ndim - 2))
        return apart.gather(2, index.expand(-1, -1, 1, *values.shape[2:])).squeeze(2)

    weights = None if outcome.weights is None else pick(outcome.weights)
    return Attack(pick(outcome.steps), pick(outcome.gaps), pick(outcome.distances), weights)
