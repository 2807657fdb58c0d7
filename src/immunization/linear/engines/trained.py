"""Attackers trained on the features: other losses, and methods that depend on the axes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from immunization.linear.attacker_view import AttackerView, Features, repaired_features
from immunization.linear.attacks._dense_objectives import (
    GramObjective,
    LikelihoodObjective,
    likelihood,
    reference_loss,
)
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
from immunization.linear.sufficient_statistics import centred_statistics
from immunization.linear.tasks import Task
from immunization.runtime.jobs.resumable import Frames, WorkUnit

BYTES = {"cpu": 2**22, "cuda": 2**32}
"""Features of a unit: as many as stay in a processor's cache, or a GPU holds easily."""
Tests = tuple[Tensor, Tensor]
"""Held-out features (M, n, D) and labels (M, n), NaN for padding."""


def units(job: Job) -> list[WorkUnit]:
    """One a (view, loss, few targets), on the stated sample of pairs."""
    by_view: dict[tuple[AttackerView, str], list[Attacker]] = {}
    for attacker in job.attackers:
        needs_labels = attacker.loss != "squared"
        if job.has_rows(attacker.view) and (job.task_set.accuracy or not needs_labels):
            by_view.setdefault((attacker.view, attacker.loss), []).append(attacker)
    rows = max(len(task.train_rows) for task in job.task_set.tasks)
    units = []
    for (view, loss), attackers in by_view.items():
        # A squared loss keeps the Gram matrix only.
        each = job.task_set.inputs.shape[1] if loss == "squared" else rows
        most = BYTES[job.device] / (8 * each * job.task_set.inputs.shape[1])
        for group in group_targets(job.targets("H", job.sample()), most):
            key = {
                "engine": "trained",
                "view": view,
                "loss": loss,
                "targets": target_key(group),
                "pairs": job.sample(),
                "attackers": [[a.label, a.use, a.parameters] for a in attackers],
            }
            units.append(WorkUnit(key, partial(within_memory, partial(run, job), group, attackers)))
    return units


def run(job: Job, targets: list[AttackTarget], attackers: list[Attacker]) -> Frames:
    """Every attacker of one view and loss on some targets."""
    view, loss = attackers[0].view, attackers[0].loss
    budget = job.settings["budget" if loss == "squared" else "budget_likelihood"]
    problem: GramObjective | LikelihoodObjective
    if loss == "squared":  # of whose rows the Gram matrix is mostly all that is kept
        kept = any(getattr(attacker.family, "ROWS", False) for attacker in attackers)
        problem, tests, rows = concatenate([squared_problem(job, t, view, kept) for t in targets])
    else:
        problem, tests, rows = likelihood_problem(job, targets, view, loss)
    labelled = job.task_set.accuracy
    steps_rows: list[Row] = []
    curve_rows: list[Row] = []
    for group in batchable_groups(attackers):
        plan = attack_plan(job, group, budget, keep=labelled, finished_gap=torch.inf)
        objective = problem
        if group[0].restarts:
            drawn = random_starts(job, targets, group, problem.start(1))
            objective = replace(problem, initial=drawn)
        given = grid_parameters(group, rows)
        outcome = call(group[0].family, "attack", objective, given, plan)
        check_attack(group[0].family, outcome, plan, objective.start(plan.attackers))
        outcome = fastest_start(outcome, group[0].restarts)
        if labelled:
            assert outcome.weights is not None
            test_scores = scores(problem, tests[0], outcome.weights)
        offset = 0
        for target in targets:
            place = slice(offset, offset + len(target.pairs))
            offset = place.stop
            accuracies = None
            if labelled:
                labels = tests[1][place, None, None]
                accuracies = job.accuracies(target, test_scores[place], labels)
            part = frames(job, target, group, outcome.part(place), accuracies, budget, rows[place])
            steps_rows += part[0]
            curve_rows += part[1]
    return table(steps_rows), table(curve_rows)


def squared_problem(
    job: Job, target: AttackTarget, view: AttackerView, kept: bool = False
) -> tuple[GramObjective, Tests, Tensor]:
    """Squared loss on one target, with its rows if they are to be kept; its held-out rows; N of
    each problem."""
    tasks = job.rows_of(view, target.tasks, target.owner)
    theta = target.file.theta(target.owner, job.device, target.pairs)
    seen = repaired_features(job.task_set, tasks, theta, view, roots(job, [target], theta, view))
    explained = job.statistics(view, target.tasks, target.owner).targets.square().sum(-1)
    seen = with_intercept(seen) if view.repair != "none" else seen
    objective = gram_objective(seen, explained)
    if kept:
        objective = replace(objective, data=(seen.train, seen.labels * seen.mask))
    return objective, (seen.test, seen.test_labels), seen.mask.sum(1).double()


def concatenate(
    parts: list[tuple[GramObjective, Tests, Tensor]],
) -> tuple[GramObjective, Tests, Tensor]:
    """The same of several targets as one; held-out rows are padded to the longest."""
    problems, tests, rows = zip(*parts, strict=True)
    longest = max(test.shape[1] for test, _ in tests)
    inputs, labels = [], []
    for test, known in tests:
        more = longest - test.shape[1]
        inputs.append(torch.nn.functional.pad(test, (0, 0, 0, more)))
        labels.append(torch.nn.functional.pad(known, (0, more), value=torch.nan))
    gram, moment, explained, counts = (
        torch.cat([getattr(part, name) for part in problems])
        for name in ("gram", "moment", "explained", "rows")
    )
    data = padded_rows([part.data for part in problems])
    problem = GramObjective(gram, moment, explained, counts, data=data)
    return problem, (torch.cat(inputs), torch.cat(labels)), torch.cat(rows)


def padded_rows(parts: list[tuple[Tensor, Tensor] | None]) -> tuple[Tensor, Tensor] | None:
    """Features and labels of several targets, padded with zero rows to the longest."""
    kept = [part for part in parts if part is not None]
    if not kept:
        return None
    longest = max(features.shape[1] for features, _ in kept)
    more = [longest - features.shape[1] for features, _ in kept]
    pad = torch.nn.functional.pad
    return (
        torch.cat([pad(part[0], (0, 0, 0, n)) for part, n in zip(kept, more, strict=True)]),
        torch.cat([pad(part[1], (0, n)) for part, n in zip(kept, more, strict=True)]),
    )


def likelihood_problem(
    job: Job, targets: list[AttackTarget], view: AttackerView, loss: str
) -> tuple[LikelihoodObjective, Tests, Tensor]:
    """The same for logistic and softmax losses."""
    tasks = [task for t in targets for task in job.rows_of(view, t.tasks, t.owner)]
    theta = torch.cat([t.file.theta(t.owner, job.device, t.pairs) for t in targets])
    features = repaired_features(job.task_set, tasks, theta, view, roots(job, targets, theta, view))
    seen = with_intercept(features)
    lowest = _lowest(job, tasks, theta, loss)
    problem = likelihood(seen.train, seen.labels, seen.mask, loss=loss, lowest=lowest)
    return problem, (seen.test, seen.test_labels), seen.mask.sum(1).double()


def roots(
    job: Job, targets: list[AttackTarget], theta: Tensor, view: AttackerView
) -> Tensor | None:
    """R with RᵀR the Gram matrix of the centred features, shape (M, k, D), where they are whitened.

    From the factors of the tasks, which all methods share: R by a QR decomposition of the rows
    themselves takes longer than anything else there.
    """
    if not view.whitens:
        return None
    tasks = [centred_statistics(job.statistics(view, t.tasks, t.owner)).factor.mT for t in targets]
    most = max(task.shape[1] for task in tasks)
    padded = [torch.nn.functional.pad(task, (0, 0, 0, most - task.shape[1])) for task in tasks]
    return torch.cat(padded) @ theta


def _lowest(job: Job, tasks: list[Task], theta: Tensor, loss: str) -> Tensor:
    """Loss to come close to, of each problem; a task is solved once for all methods."""
    # By all of its rows: tasks of one class share its own and differ in the others.
    ridge, known = job.settings["goal_ridge"], job.task_set.cache.goals
    names = [(loss, ridge, task.name, task.train_rows.numpy().tobytes()) for task in tasks]
    eye = torch.eye(theta.shape[-1], dtype=theta.dtype, device=theta.device)[None]
    for name, task in zip(names, tasks, strict=True):
        if name not in known:  # one at a time, so that what is kept from before changes nothing
            plain = with_intercept(repaired_features(job.task_set, [task], eye, AttackerView()))
            reference = likelihood(plain.train, plain.labels, plain.mask, loss=loss)
            known[name] = reference_loss(reference, ridge)[0]
    return torch.stack([known[name] for name in names])


def with_intercept(seen: Features) -> Features:
    """A column of ones behind the features; zero for padding."""
    ones = seen.mask[..., None].to(seen.train)
    test = torch.nn.functional.pad(seen.test, (0, 1), value=1.0)
    return seen._replace(train=torch.cat([seen.train, ones], dim=-1), test=test)


def gram_objective(seen: Features, explained: Tensor) -> GramObjective:
    """Squared loss on features."""
    labels = (seen.labels * seen.mask)[:, None]
    return GramObjective(
        gram=seen.train.mT @ seen.train,
        moment=labels @ seen.train,
        explained=explained[:, None],
        rows=seen.mask.sum(1).to(seen.train)[:, None, None],
    )


def scores(problem: GramObjective | LikelihoodObjective, test: Tensor, weights: Tensor) -> Tensor:
    """Of the held-out rows, positive for the label 1, shape (M, G, R, n)."""
    if isinstance(problem, LikelihoodObjective) and problem.classes > 1:
        apart = weights.reshape(*weights.shape[:3], problem.classes, -1)
        weights = apart[..., 1, :] - apart[..., 0, :]
    flat = weights.flatten(1, 2) @ test.mT
    return flat.reshape(*weights.shape[:3], -1)
