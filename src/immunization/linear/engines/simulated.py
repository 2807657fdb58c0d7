"""Squared loss, exactly from eigenvalues and label coefficients; the data enter for accuracies."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from immunization.linear.attacker_view import (
    AttackerView,
    Decomposition,
    centred_spectrum,
    decompose,
    repair,
)
from immunization.linear.attacks._quadratic import Quadratic
from immunization.linear.engines._job import (
    Attacker,
    AttackTarget,
    Job,
    attack_plan,
    batchable_groups,
    fastest_start,
    grid_parameters,
    group_targets,
    random_starts,
    target_key,
    within_memory,
)
from immunization.linear.engines._rows import Row, frames, table
from immunization.linear.returned import call, check_attack
from immunization.linear.tasks import held_out
from immunization.runtime.jobs.resumable import Frames, WorkUnit

ENTRIES = {"cpu": 2**15, "cuda": 2**20}
"""Numbers in the errors of all problems of a unit, about: what stays in a processor's cache, or
keeps a GPU busy."""
BYTES = {"cpu": 2**28, "cuda": 5 * 2**30}
"""What the eigenvectors of a unit may take."""


def units(job: Job) -> list[WorkUnit]:
    """One a (role, rows, basis, few targets)."""
    units = []
    everyone = list(range(len(job.task_set.pair_names)))
    by_basis: dict[tuple[Any, ...], list[Attacker]] = {}
    for attacker in job.attackers:
        if job.has_rows(attacker.view):
            key = (
                attacker.view.fraction,
                attacker.view.unseen_rows,
                attacker.view.decomposition_key,
            )
            by_basis.setdefault(key, []).append(attacker)
    for attackers in by_basis.values():
        # Other rows need a factor of their own for each task: on the stated sample.
        whole = attackers[0].view.row_selection == (1.0, False)
        units += _units(job, "H", everyone if whole else job.sample(), attackers)
    plain = job.benign()
    if plain:
        units += _units(job, "P", everyone, plain)
        units += _units(job, "T", job.sample(), plain)
    return units


def _units(job: Job, role: str, pairs: list[int], attackers: list[Attacker]) -> list[WorkUnit]:
    dimension = job.task_set.inputs.shape[1]
    rank = int(job.task_set.statistics["ranks"].max())
    view = attackers[0].view
    each = 8 * dimension * (rank + dimension)
    most = min(ENTRIES[job.device] / rank, BYTES[job.device] / each)
    return [
        WorkUnit(
            {
                "role": role,
                "rows": view.row_selection,
                "basis": view.decomposition_key,
                "targets": target_key(group),
                "pairs": pairs,
                "attackers": [[a.label, a.use, a.parameters] for a in attackers],
            },
            partial(within_memory, partial(run, job), group, attackers),
        )
        for group in group_targets(job.targets(role, pairs), most)
    ]


def run(job: Job, targets: list[AttackTarget], attackers: list[Attacker]) -> Frames:
    """Decompose every target once, then run all attackers on all of them together."""
    view = attackers[0].view
    tasks = [job.statistics(view, t.tasks, t.owner) for t in targets]
    thetas = [t.file.theta(t.owner, job.device, t.pairs) for t in targets]
    bases = [
        centred_spectrum(task, theta, view.decomposition_key)
        if view.decomposition_key != "none"
        else None
        for task, theta in zip(tasks, thetas, strict=True)
    ]
    explained = torch.cat([task.targets.square().sum(-1) for task in tasks])
    tests = [
        _test_rows(job, target, theta, view) for target, theta in zip(targets, thetas, strict=True)
    ]
    steps_rows: list[Row] = []
    curve_rows: list[Row] = []
    by_view: dict[AttackerView, list[Attacker]] = {}
    for attacker in attackers:
        by_view.setdefault(attacker.view, []).append(attacker)
    for attacker_view, members in by_view.items():
        parts = [
            decompose(task, theta, attacker_view, singular=target.file.singular)
            if basis is None
            else repair(task, *basis, attacker_view)
            for task, theta, target, basis in zip(tasks, thetas, targets, bases, strict=True)
        ]
        problem = _stack(parts, explained)
        for group in batchable_groups(members):
            budget = job.settings["budget"]
            plan = attack_plan(job, group, budget, keep=job.task_set.accuracy)
            objective = problem
            if group[0].restarts:  # normal in any rotated axes
                drawn = random_starts(job, targets, group, problem.eigenvalues)
                objective = replace(problem, initial=drawn * (problem.eigenvalues > 0))
            given = grid_parameters(group, problem.energy)
            outcome = call(group[0].family, "attack", objective, given, plan)
            check_attack(group[0].family, outcome, plan, objective.start(plan.attackers))
            outcome = fastest_start(outcome, group[0].restarts)
            offset = 0
            for target, part, task, test in zip(targets, parts, tasks, tests, strict=True):
                place = slice(offset, offset + len(target.pairs))
                offset = place.stop
                mine = outcome.part(place)
                accuracies = None
                if test is not None and mine.weights is not None:
                    accuracies = _accuracies(job, target, part, mine.weights, *test)
                rows = frames(job, target, group, mine, accuracies, budget, task.rows)
                steps_rows += rows[0]
                curve_rows += rows[1]
    return table(steps_rows), table(curve_rows)


def _stack(parts: list[Decomposition], explained: Tensor) -> Quadratic:
    """All problems of a unit, padded in front (eigenvalues ascend, zeros come first)."""
    width = max(part.eigenvalues.shape[-1] for part in parts)

    def pad(values: Tensor) -> Tensor:
        return torch.nn.functional.pad(values, (width - values.shape[-1], 0))

    return Quadratic.build(
        torch.cat([pad(part.eigenvalues) for part in parts]),
        torch.cat([pad(part.coefficients) for part in parts]),
        explained,
    )


def _test_rows(
    job: Job, target: AttackTarget, theta: Tensor, view: AttackerView
) -> tuple[Tensor, Tensor] | None:
    """Inputs (M, n, D) and labels (M, n) that accuracies are taken on."""
    if not job.task_set.accuracy:
        return None
    tasks = job.rows_of(view, target.tasks, target.owner)
    return held_out(job.task_set, tasks, theta)


def _accuracies(
    job: Job, target: AttackTarget, part: Decomposition, errors: Tensor, inputs: Tensor,
    labels: Tensor,
) -> Tensor:  # fmt: skip
    """Held-out accuracy at each recorded step, shape (M, G, R)."""
    width = part.coefficients.shape[-1]
    probes = part.coefficients[:, None, None] + errors[..., errors.shape[-1] - width :]
    weights, offset = part.on_inputs(probes.flatten(1, 2))
    scores = (inputs @ weights).mT + offset[..., None]
    return job.accuracies(target, scores, labels[:, None]).reshape(errors.shape[:3])
