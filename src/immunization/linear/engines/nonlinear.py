"""Attackers that predict and take no steps: what they get back of a label that no linear probe sees
when all rows count alike.

Most are non-linear; some are linear and weigh rows unequally.
"""

from __future__ import annotations

from functools import partial

import pandas as pd

from immunization.linear.attacker_view import AttackerView, Features, repaired_features
from immunization.linear.engines._job import Attacker, AttackTarget, Job, target_key, within_memory
from immunization.linear.engines._rows import Row, nonlinear_frames, table
from immunization.linear.returned import call, check_scores
from immunization.runtime.jobs.resumable import Frames, WorkUnit
from immunization.runtime.seeding import seeded


def units(job: Job) -> list[WorkUnit]:
    """One a target, on the stated sample of pairs; none where labels do not vary."""
    attackers = [a for a in job.attackers if job.has_rows(a.view)]
    if not (job.task_set.accuracy and attackers):
        return []
    return [
        WorkUnit(
            {
                "engine": "nonlinear",
                "targets": target_key([target]),
                "pairs": job.sample(),
                "rows": job.settings["nonlinear_rows"],
                "attackers": [[a.label, a.use, a.parameters] for a in attackers],
            },
            partial(within_memory, partial(run, job), [target], attackers),
        )
        for target in job.targets("H", job.sample())
    ]


def run(job: Job, targets: list[AttackTarget], attackers: list[Attacker]) -> Frames:
    """All of them on a single target; non-linear ones on a part of more than ``nonlinear_rows``."""
    (target,) = targets
    most = job.settings["nonlinear_rows"]
    theta = target.file.theta(target.owner, job.device, target.pairs)
    all_rows: list[Row] = []
    known: dict[AttackerView, Features] = {}
    for attacker in attackers:
        view = attacker.view
        rows = max(len(task.train_rows) for task in job.rows_of(view, target.tasks, target.owner))
        if rows > most and attacker.loss == "none":
            view = view._replace(fraction=view.fraction * most / rows)
        if view not in known:
            tasks = job.rows_of(view, target.tasks, target.owner)
            known[view] = repaired_features(job.task_set, tasks, theta, view)
        seen = known[view]
        generators = [
            seeded("network", target.owner, *job.task_set.pair_names[pair]) for pair in target.pairs
        ]
        scores = call(
            attacker.family, "predict", seen.train, seen.labels, seen.mask, seen.test,
            attacker.parameters, generators,
        )  # fmt: skip
        check_scores(attacker.family, scores, seen.test_labels)
        accuracies = job.accuracies(target, scores, seen.test_labels)
        row = nonlinear_frames(job, target, attacker, accuracies)
        all_rows += [row | {"seed": seed} for seed in target.seeds]
    return table(all_rows), pd.DataFrame()
