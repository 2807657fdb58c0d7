"""What comes out of an engine: accuracies, and rows of both tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from immunization.linear.attacks import _flops
from immunization.linear.attacks._objective import Attack
from immunization.linear.attacks._quadratic import convergence_ratio
from immunization.linear.engines._job import Attacker, AttackTarget, Job
from immunization.linear.returned import call, check_flops

Row = dict[str, Any]
LARGEST = 1e150
"""Recorded gaps are drawn up to this; squares of more would overflow."""
DIVERGED = 1e12
"""An attacker has diverged when its loss gap ends this many times above where it began. Momentum
on a spectrum of κ 1e14 rises by seven powers of ten before it falls."""
RISEN, STEEP = 1e4, 64.0
"""One whose gap ends `RISEN` times above where it began has too if it grew by more than `STEEP` in
the second half of its steps. Growth without end is exponential, and then that factor is the root of
all of it; momentum rises like a square on its way, by four."""


def frames(
    job: Job, target: AttackTarget, group: list[Attacker], outcome: Attack,
    accuracies: Tensor | None,
    budget: int, rows: Tensor,
) -> tuple[list[Row], list[Row]]:  # fmt: skip
    """Rows of both tables for one target, for `table`.

    Args:
        job: the job.
        target: its problems.
        group: G attackers.
        outcome: on the M problems of the target.
        accuracies: held-out accuracy at the recorded steps, shape (M, G, R); None where
            labels do not vary.
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
    first, last = outcome.gaps[..., 0], outcome.gaps[..., -1]
    risen = last / first.clamp_min(1.0)
    halfway = max(place for place, step in enumerate(record) if 2 * step <= record[-1])
    steep = last > STEEP * outcome.gaps[..., halfway]
    diverged = ~reached & (~(risen <= DIVERGED) | ((risen > RISEN) & steep))  # NaN too
    # No step count stands for one that diverged: it is neither solved nor censored.
    steps = outcome.steps.clamp(max=budget).double().masked_fill(diverged, torch.nan).cpu().numpy()
    columns = {
        "censored": (~reached & ~diverged).cpu().numpy(),
        "diverged": diverged.cpu().numpy(),
        "gap_end": last.cpu().numpy(),
    }
    if accuracies is not None:
        columns["accuracy_end"] = accuracies[..., -1].cpu().numpy()
        columns["accuracy_area"] = area(accuracies, record).cpu().numpy()
        mean_accuracies = accuracies.mean(0).cpu().numpy()
    steps_rows, curve_rows = [], []
    for place, attacker in enumerate(group):
        setup, each = check_flops(
            attacker.family,
            call(attacker.family, "flops", count, dimension, attacker.parameters),
        )
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
        if accuracies is not None:
            curve["accuracy"] = mean_accuracies[place]
        curve_rows.append(keys | curve)
    return [row | {"seed": seed} for row in steps_rows for seed in target.seeds], [
        row | {"seed": seed} for row in curve_rows for seed in target.seeds
    ]


def table(rows: list[Row]) -> pd.DataFrame:
    """One frame from rows of columns; a number or a text fills a whole column."""
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


def _places(job: Job, target: AttackTarget) -> Row:
    names = [job.task_set.pair_names[pair] for pair in target.pairs]
    return {
        "pair": np.array(target.pairs),
        "primary": np.array([p for p, _ in names], dtype=object),
        "harmful": np.array([h for _, h in names], dtype=object),
        "third": np.array(target.third, dtype=object),
    }


def _keys(job: Job, target: AttackTarget, attacker: Attacker) -> dict[str, Any]:
    view = attacker.view
    return {
        "dataset": job.task_set.name,
        "method": target.file.label,
        "role": target.role,
        "attack": attacker.label,
        "loss": attacker.loss,
        "repair": view.repair,
        "fraction": view.fraction,
        "unseen_rows": view.unseen_rows,
    }


def nonlinear_frames(job: Job, target: AttackTarget, attacker: Attacker, accuracies: Tensor) -> Row:
    """Rows of an attacker that takes no steps, of one seed: accuracies alone."""
    columns = _keys(job, target, attacker) | _places(job, target)
    return columns | {"accuracy_end": accuracies.cpu().numpy()}


def area(accuracies: Tensor, record: list[int]) -> Tensor:
    """Mean accuracy over the logarithm of the step, from the first to the last recorded.

    Args:
        accuracies: at the recorded steps, shape (…, R).
        record: the R steps, the first 0, which is left out.
    """
    if len(record) < 3:
        return accuracies[..., -1]
    time = torch.tensor(record[1:], dtype=accuracies.dtype, device=accuracies.device).log()
    return torch.trapezoid(accuracies[..., 1:], time, dim=-1) / (time[-1] - time[0])
