"""What the engines share: the job, its targets, and the rows that come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from immunization.attacks import _flops
from immunization.attacks._objective import Attack, Plan
from immunization.attacks._quadratic import convergence_ratio
from immunization.extractors import Extractors
from immunization.tasks import Task, TaskBatch, TaskSet, collect, stack_statistics, task_statistics
from immunization.views import View, choose_rows

Frames = tuple[pd.DataFrame, pd.DataFrame]
Row = dict[str, Any]
NO_SCORE = 1e-10
"""Scores of probes that could not learn anything were seen up to 1e-12."""
LARGEST = 1e150
"""A recorded gap beyond this has diverged; squares of more would overflow."""


class Attacker(NamedTuple):
    """One entry of the config's ``attacks``.

    Attributes:
        label: what the study calls it.
        use: family.
        family: its module.
        parameters: complete.
    """

    label: str
    use: str
    family: ModuleType
    parameters: dict[str, Any]

    @property
    def view(self) -> View:
        """Rows and repair."""
        return View.of(self.parameters)

    @property
    def loss(self) -> str:
        """What the probe is trained on."""
        return str(self.parameters.get("loss", "none"))

    @property
    def restarts(self) -> int:
        """Number of random starts; 0 for one at zero."""
        return int(self.parameters.get("restarts", 0))


class Unit(NamedTuple):
    """A piece of work.

    Attributes:
        key: what it depends on besides files and code, as JSON.
        run: gives the rows of both tables.
    """

    key: dict[str, Any]
    run: Callable[[], Frames]


class Target(NamedTuple):
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
    def record(self) -> list[int]:
        """Steps at which curves are kept."""
        return record_steps(min(self.settings["curve_steps"], self.settings["budget"]))

    def benign(self) -> list[Attacker]:
        """Attackers of D_P and third tasks."""
        plain = [a for a in self.attackers if a.view.whole and not a.restarts]
        wanted = self.settings["benign"]
        return plain if wanted is None else [a for a in plain if a.label in wanted]

    def sample(self) -> list[int]:
        """Numbers of the pairs in the stated sample, evenly over all."""
        count = len(self.task_set.pair_names)
        wanted = min(count, self.settings["sample"] or count)
        return sorted({round(i) for i in np.linspace(0, count - 1, wanted)})

    def targets(self, role: str, pairs: list[int]) -> list[Target]:
        """One target a θ that differs, in the order of the files."""
        found = []
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
                    found.append(Target(file, owner, seeds, role, *numbers, names))
        return found

    def third_tasks(self, row: int, pair: int) -> list[int]:
        """Benign tasks of other classes than the pair's, for seed number ``row``."""
        source = self.task_set
        if source.loss != "classification":
            return []
        own = source.pair_names[pair]
        first: dict[str, int] = {}
        for other, (name, _) in enumerate(source.pair_names):
            if name not in own:
                first.setdefault(name, int(source.task_index[row, other, 0]))
        names = sorted(first)
        # From another place for each pair, so that all classes take their turn.
        turned = names[pair % max(1, len(names)) :] + names[: pair % max(1, len(names))]
        return [first[name] for name in turned[: self.settings["third_tasks"]]]

    def rows_of(self, view: View, numbers: list[int], seed: int) -> list[Task]:
        """Tasks with the rows that an attacker has."""
        return [choose_rows(self.task_set.tasks[n], view, seed) for n in numbers]

    def statistics(self, view: View, numbers: list[int], seed: int) -> TaskBatch:
        """The same as statistics."""
        if view.rows == (1.0, False):
            return self.task_set.role(torch.tensor(numbers), self.device)
        distinct = sorted(set(numbers))
        known = self.task_set.shared
        for number in distinct:
            if (view.rows, seed, number) not in known:
                (task,) = self.rows_of(view, [number], seed)
                rows = self.task_set.features(task.train_rows).to(self.device)
                part = task_statistics(rows, task.train_labels.to(self.device))
                known[view.rows, seed, number] = {name: v.cpu() for name, v in part.items()}
        stacked = stack_statistics([known[view.rows, seed, number] for number in distinct])
        chosen = torch.tensor([distinct.index(number) for number in numbers])
        return collect(stacked, chosen, self.device)

    def has_rows(self, view: View) -> bool:
        """Whether the data set has the rows that a view takes."""
        enough = min(len(task.test_rows) for task in self.task_set.tasks)
        return not view.fresh or enough >= 8


def record_steps(last: int, count: int = 25) -> list[int]:
    """0 and about ``count`` whole numbers up to ``last``, evenly spaced on a logarithmic axis."""
    spaced = torch.logspace(0, torch.tensor(float(last)).log10().item(), count, dtype=torch.float64)
    return sorted({0, *spaced.round().to(torch.int64).tolist()})


def grids(attackers: list[Attacker]) -> list[list[Attacker]]:
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
    found = dict(group[0].parameters)
    for name in group[0].family.GRID:
        if not isinstance(found[name], str):
            values = [float(a.parameters[name]) for a in group for _ in range(repeat)]
            found[name] = torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]
    return found


def plan_of(
    job: Job, group: list[Attacker], budget: int, *, keep: bool, settled: float = 1e-10
) -> Plan:
    """What a group runs."""
    repeat = max(1, group[0].restarts)
    record = [step for step in job.record if step <= budget]
    return Plan(budget, job.settings["threshold"], record, len(group) * repeat, keep, settled)


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


def frames(
    job: Job, target: Target, group: list[Attacker], outcome: Attack, hits: Tensor | None,
    budget: int, rows: Tensor,
) -> tuple[list[Row], list[Row]]:  # fmt: skip
    """Rows of both tables for one target, for `table`.

    Args:
        job: the job.
        target: its problems.
        group: G attackers.
        outcome: on the M problems of the target.
        hits: held-out accuracy at the recorded steps, shape (M, G, R); None where labels do not
            vary.
        budget: of these attackers.
        rows: N of each problem, shape (M,).
    """
    reached = outcome.steps <= budget
    record = [step for step in job.record if step <= budget]
    distances = convergence_ratio(outcome.distances)
    count, dimension = int(rows.double().mean()), job.task_set.inputs.shape[1]
    levels = torch.tensor([0.25, 0.5, 0.75], dtype=outcome.gaps.dtype, device=outcome.gaps.device)
    quartiles = [
        values.nan_to_num(nan=torch.nan, posinf=LARGEST).quantile(levels, dim=0).cpu().numpy()
        for values in (distances, outcome.gaps)
    ]
    steps = outcome.steps.clamp(max=budget).double().cpu().numpy()
    columns = {"censored": (~reached).cpu().numpy(), "gap_end": outcome.gaps[..., -1].cpu().numpy()}
    if hits is not None:
        columns["accuracy_end"] = hits[..., -1].cpu().numpy()
        columns["accuracy_area"] = area(hits, record).cpu().numpy()
        mean_hits = hits.mean(0).cpu().numpy()
    steps_rows, curve_rows = [], []
    for place, attacker in enumerate(group):
        setup, each = attacker.family.flops(count, dimension, attacker.parameters)
        setup += _flops.repair(attacker.view.repair, count, dimension)
        keys = _keys(job, target, attacker)
        steps_rows.append(
            keys
            | _places(job, target)
            | {
                "steps": steps[:, place],
                "flops": setup + steps[:, place] * each,
                "budget": budget,
                "threshold": job.settings["threshold"],
            }
            | {name: values[:, place] for name, values in columns.items()}
        )
        curve: dict[str, Any] = {"step": np.array(record)}
        for name, values in zip(("convergence_ratio", "loss_gap"), quartiles, strict=True):
            for level, row in zip((25, 50, 75), values[:, place], strict=True):
                curve[f"{name}_q{level}"] = row
        if hits is not None:
            curve["accuracy"] = mean_hits[place]
        curve_rows.append(keys | curve)
    return [row | {"seed": seed} for row in steps_rows for seed in target.seeds], [
        row | {"seed": seed} for row in curve_rows for seed in target.seeds
    ]


def table(rows: list[Row]) -> pd.DataFrame:
    """One frame of rows of columns; a number or a text stands for a whole column."""
    if not rows:
        return pd.DataFrame()
    lengths = [max(len(v) for v in row.values() if isinstance(v, np.ndarray)) for row in rows]
    columns = {}
    for name in rows[0]:
        parts = [
            row[name]
            if isinstance(row[name], np.ndarray)
            else np.full(length, row[name], dtype=object if isinstance(row[name], str) else None)
            for row, length in zip(rows, lengths, strict=True)
        ]
        columns[name] = np.concatenate(parts)
    return pd.DataFrame(columns)


def _places(job: Job, target: Target) -> Row:
    names = [job.task_set.pair_names[pair] for pair in target.pairs]
    return {
        "pair": np.array(target.pairs),
        "primary": np.array([p for p, _ in names], dtype=object),
        "harmful": np.array([h for _, h in names], dtype=object),
        "third": np.array(target.third, dtype=object),
    }


def _keys(job: Job, target: Target, attacker: Attacker) -> dict[str, Any]:
    view = attacker.view
    return {
        "dataset": job.task_set.name,
        "method": target.file.label,
        "role": target.role,
        "attack": attacker.label,
        "loss": attacker.loss,
        "repair": view.repair,
        "fraction": view.fraction,
        "fresh": view.fresh,
    }


def nonlinear_frames(job: Job, target: Target, attacker: Attacker, hits: Tensor) -> Row:
    """Rows of an attacker that takes no steps, of one seed: accuracies alone."""
    found = _keys(job, target, attacker) | _places(job, target)
    return found | {"accuracy_end": hits.cpu().numpy()}


def area(hits: Tensor, record: list[int]) -> Tensor:
    """Mean accuracy over the logarithm of the step, from the first to the last recorded.

    Args:
        hits: accuracies, shape (…, R).
        record: the R steps, the first 0, which is left out.
    """
    if len(record) < 3:
        return hits[..., -1]
    time = torch.tensor(record[1:], dtype=hits.dtype, device=hits.device).log()
    return torch.trapezoid(hits[..., 1:], time, dim=-1) / (time[-1] - time[0])


def correct(scores: Tensor, labels: Tensor) -> Tensor:
    """Share of rows whose sign is right; scores (…, n), labels broadcast, NaN for padding.

    A score of round-off is no prediction, and counts half: labels and logits are of order one.
    """
    valid = ~labels.isnan()
    right = torch.where(scores.abs() <= NO_SCORE, 0.5, ((scores > 0) == (labels > 0)).double())
    return (right * valid).sum(-1) / valid.sum(-1)
