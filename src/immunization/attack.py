"""Stage 4: run one family of attackers against all methods of a study.

    python -m immunization.attack --family gradient_descent --attackers '{"label": {…}}' \\
        --plan '{…}' --tasks … --thetas … --steps … --curves …

Both D_H and D_P are attacked: fine-tuning should become slow on one and stay fast on the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from hessian_spectrum import ProbeSpectrum, probe_spectrum
from immunization import stage
from immunization.attacks._quadratic import (
    Attack,
    Plan,
    Quadratic,
    convergence_ratio,
    loss_gap,
)
from immunization.evaluate import accuracy
from immunization.extractors import open_extractors
from immunization.files import write_table
from immunization.provenance import provenance
from immunization.registry import load
from immunization.tasks import Problem, TaskBatch, TaskSet, load_task_set

CHUNK_BYTES = {"cpu": 600 * 2**20, "cuda": 8 * 2**30}
"""What may be held at a time: enough to make tensors long, little beside a laptop's memory, or a
GPU's."""


class Target(NamedTuple):
    """One (method, θ, role) under attack, for one seed or all that share θ."""

    method: str
    seeds: list[int]
    problem: Problem
    role: str
    task: TaskBatch
    theta: Tensor
    spectrum: ProbeSpectrum


def record_steps(last: int, count: int = 25) -> list[int]:
    """0 and about ``count`` whole numbers up to ``last``, evenly spaced on a logarithmic axis."""
    spaced = torch.logspace(0, torch.tensor(float(last)).log10().item(), count, dtype=torch.float64)
    return sorted({0, *spaced.round().to(torch.int64).tolist()})


def targets(task_set: TaskSet, thetas: list[str], device: str) -> Iterator[Target]:
    """Everything to attack on one data set, decomposed one at a time."""
    for file in map(open_extractors, thetas):
        if file.dataset != task_set.name:
            continue
        for owner, seeds in file.sharing().items():
            problem, theta = task_set.problem(owner, device), file.theta(owner, device)
            for role, task in (("P", problem.primary), ("H", problem.harmful)):
                spectrum = probe_spectrum(task.factor, task.targets, task.ranks, theta)
                yield Target(file.label, seeds, problem, role, task, theta, spectrum)


def chunks(items: Iterator[Target]) -> Iterator[list[Target]]:
    """Group targets until their eigenvectors fill `CHUNK_BYTES`."""
    group: list[Target] = []
    size = 0
    for item in items:
        group.append(item)
        size += _bytes(item)
        if size > CHUNK_BYTES[item.theta.device.type]:
            yield group
            group, size = [], 0
    if group:
        yield group


def _bytes(target: Target) -> int:
    """What a target holds; its problem counts half, for the two roles share it."""
    problem = target.problem
    shared = sum(2 * task.factor.numel() for task in (problem.primary, problem.harmful)) // 2
    return 8 * (target.spectrum.vectors.numel() + target.theta.numel() + shared)


def _stack(group: list[Target]) -> Quadratic:
    """All problems of a group, padded in front (eigenvalues ascend, zeros come first)."""
    width = max(t.spectrum.eigenvalues.shape[-1] for t in group)

    def pad(values: Tensor) -> Tensor:
        return torch.nn.functional.pad(values, (width - values.shape[-1], 0))

    return Quadratic(
        torch.cat([pad(t.spectrum.eigenvalues) for t in group]),
        torch.cat([pad(t.spectrum.coefficients) for t in group]),
    )


def run_group(
    group: list[Target], family: Any, attackers: dict[str, dict[str, Any]], plan: Plan
) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
    """Run every attacker of the family on a group; rows of both tables.

    Args:
        group: targets of one data set.
        family: module with `attack`.
        attackers: parameters of each attacker by label.
        plan: budget, threshold and recorded steps.
    """
    quadratic = _stack(group)
    steps_rows, curve_rows = [], []
    for label, parameters in attackers.items():
        outcome: Attack = family.attack(quadratic, parameters, plan)
        gap = loss_gap(
            quadratic.scaled()[:, None], outcome.errors, quadratic.start()[:, None]
        )  # fmt: skip
        ratio = convergence_ratio(outcome.errors)
        offset = 0
        for target in group:
            part = slice(offset, offset + target.problem.size)
            offset = part.stop
            names = target.problem.source.pair_names
            keys = {
                "dataset": target.problem.source.name,
                "method": target.method,
                "role": target.role,
                "attack": label,
            }
            hits = None
            if target.problem.source.accuracy:
                hits = _accuracies(target, outcome.errors[part])
            steps = outcome.steps[part]
            frame = pd.DataFrame(
                keys
                | {
                    "pair": range(target.problem.size),
                    "primary": [p for p, _ in names],
                    "harmful": [h for _, h in names],
                    "steps": steps.clamp(max=plan.budget).cpu().numpy(),
                    "censored": (steps > plan.budget).cpu().numpy(),
                    "budget": plan.budget,
                    "threshold": plan.threshold,
                }
            )
            if hits is not None:
                frame["accuracy_end"] = hits[:, -1].cpu().numpy()
            curves = _curves(keys, plan, ratio[part], gap[part], hits)
            steps_rows += [frame.assign(seed=seed) for seed in target.seeds]
            curve_rows += [curves.assign(seed=seed) for seed in target.seeds]
    return steps_rows, curve_rows


def _accuracies(target: Target, errors: Tensor) -> Tensor:
    """Held-out accuracy at each recorded step, shape (B, R)."""
    spectrum = target.spectrum
    width = spectrum.coefficients.shape[-1]
    probes = spectrum.coefficients[:, None] + errors[..., errors.shape[-1] - width :]
    weights = target.theta @ (spectrum.vectors @ probes.mT)
    return accuracy(target.problem, target.task, weights)


def _curves(
    keys: dict[str, Any],
    plan: Plan,
    ratio: Tensor,
    gap: Tensor,
    hits: Tensor | None,
) -> pd.DataFrame:
    """Quartiles over pairs at each recorded step."""
    levels = torch.tensor([0.25, 0.5, 0.75], dtype=ratio.dtype, device=ratio.device)
    frame = {"step": plan.record}
    for name, values in (("convergence_ratio", ratio), ("loss_gap", gap)):
        for level, row in zip(levels.tolist(), values.quantile(levels, dim=0), strict=True):
            frame[f"{name}_q{round(100 * level)}"] = row.tolist()
    if hits is not None:
        frame["accuracy"] = hits.mean(0).tolist()
    return pd.DataFrame(keys | frame)


def main(arguments: list[str] | None = None) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Attack all methods of a study.")
    parser.add_argument("--family", required=True, help="file in immunization/attacks")
    parser.add_argument("--attackers", type=stage.parse_json, required=True, help="JSON object")
    parser.add_argument("--plan", type=stage.parse_json, required=True, help="JSON object")
    parser.add_argument("--tasks", nargs="+", required=True, help="outputs of prepare")
    parser.add_argument("--thetas", nargs="+", required=True, help="outputs of immunize")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--steps", required=True, help="Parquet file to write")
    parser.add_argument("--curves", required=True, help="Parquet file to write")
    options = parser.parse_args(arguments)
    stage.one_thread_each()
    device = stage.choose_device(options.device)
    family = load("attacks", options.family)
    settings = options.plan
    plan = Plan(
        settings["budget"],
        settings["threshold"],
        record_steps(min(settings["curve_steps"], settings["budget"])),
    )

    steps: list[pd.DataFrame] = []
    curves: list[pd.DataFrame] = []
    for path in options.tasks:
        task_set = load_task_set(path)
        for group in chunks(targets(task_set, options.thetas, device)):
            rows = run_group(group, family, options.attackers, plan)
            steps += rows[0]
            curves += rows[1]
        stage.LOG.info("%s on %s done", options.family, task_set.name)
    record = provenance(
        ["immunization.attack", f"immunization.attacks.{options.family}"],
        {"attackers": options.attackers, "plan": settings},
    )
    for out, frames in ((options.steps, steps), (options.curves, curves)):
        frame = pd.concat(frames, ignore_index=True)
        frame.attrs["provenance"] = record
        write_table(out, frame)


if __name__ == "__main__":
    stage.run(main)
