"""Spectra, condition numbers, ratios and limits of all methods of a study.

One row a (data set, method, seed, pair, role) with the whole spectrum, and one row a (data set,
method, seed, pair) with ratios by each definition of κ."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from immunization.linear.batching import split
from immunization.linear.evaluation import (
    Limit,
    RoleReport,
    accuracy,
    definition,
    limits,
    optimality,
    reference_condition,
    report_role,
)
from immunization.linear.files import load_task_set, open_extractors
from immunization.linear.sufficient_statistics import TaskBatch
from immunization.linear.tasks import Problem, TaskSet
from immunization.runtime.jobs.stage import Stage, write_tables
from immunization.runtime.log import LOG
from immunization.runtime.threads import map_threads


class Reference(NamedTuple):
    """A data set under one seed before immunization, shared by all methods."""

    problem: Problem
    primary: RoleReport
    harmful: RoleReport
    kappa_p: Tensor
    kappa_h: Tensor
    limit: Limit


def evaluate_identity(
    problem: Problem, parameters: dict[str, Any], device: str = "cpu"
) -> Reference:
    """Evaluate θ = I and the limit.

    Args:
        problem: on the CPU, where it stays.
        parameters: of the stage.
        device: where to compute.
    """
    host, problem = problem, problem.to(device)
    eye = problem.identity()
    options = {"ridge": parameters["ridge"], "label_share": parameters["label_share"]}
    return Reference(
        host,
        report_role(problem.primary, eye, **options).host().without_vectors(),
        report_role(problem.harmful, eye, **options).host().without_vectors(),
        reference_condition(problem.primary),
        reference_condition(problem.harmful),
        limits(problem, unseen_floor=parameters["unseen_floor"]),
    )


def result_rows(
    before: Reference,
    theta: Tensor,
    keys: dict[str, Any],
    parameters: dict[str, Any],
    device: str = "cpu",
    *,
    singular: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of both tables for one method on one data set and seed; θ is on the device."""
    problem = before.problem.to(device)
    options = {
        "ridge": parameters["ridge"], "label_share": parameters["label_share"],
        "singular": singular,
    }  # fmt: skip
    primary = report_role(problem.primary, theta, **options).host()
    harmful = report_role(problem.harmful, theta, **options).host()
    pairs = [pair for _, pair in problem.members]
    keys = keys | {
        "pair": pairs,
        "primary": [problem.source.pair_names[pair][0] for pair in pairs],
        "harmful": [problem.source.pair_names[pair][1] for pair in pairs],
    }
    spectra = [
        _spectrum_rows(problem, role, task, report, keys, parameters["ridge"])
        for role, task, report in (
            ("P", problem.primary, primary), ("H", problem.harmful, harmful),
        )
    ]  # fmt: skip
    columns = _ratio_columns(before, primary, harmful, parameters["much_larger"], singular)
    if problem.source.accuracy:
        columns["accuracy_p"] = _best_accuracy(problem, "P", primary, theta)
        columns["accuracy_h"] = _best_accuracy(problem, "H", harmful, theta)
        columns["chance_h"] = _chance(problem)
    ratios = pd.DataFrame(keys | {name: values.numpy() for name, values in columns.items()})
    return pd.concat(spectra), ratios


def _spectrum_rows(
    problem: Problem, role: str, task: TaskBatch, report: RoleReport, keys: dict[str, Any],
    ridge: float,
) -> pd.DataFrame:  # fmt: skip
    """One row a pair: the whole spectrum of one role, and κ by each definition."""
    ranks = report.ranks.tolist()

    def nonzero(tensor: Tensor) -> list[Any]:
        """Of each pair: ascending, zeros first, so the last `rank` entries."""
        return [values[-rank:].numpy() for values, rank in zip(tensor, ranks, strict=True)]

    return pd.DataFrame(
        keys
        | {
            "role": role,
            "rows": task.rows.to(torch.int64).cpu().numpy(),
            "dimension": problem.dimension,
            "rank": ranks,
            "rank_tolerance": task.tolerances.cpu().numpy(),
            "resolved": report.spectrum.resolved.numpy(),
            "kappa": report.kappa.numpy(),
            "kappa_label": report.label.numpy(),
            "kappa_released": report.released.numpy(),
            "kappa_released_floored": report.floored.numpy(),
            "kappa_ridge": report.ridge.numpy(),
            "ridge": ridge,
            "effective_rank": report.effective_rank.numpy(),
            "best_loss": report.loss.numpy(),
            "eigenvalues": nonzero(report.spectrum.eigenvalues),
            "label_coefficients": nonzero(report.spectrum.coefficients),
        }
    )


def _ratio_columns(
    before: Reference, primary: RoleReport, harmful: RoleReport, much_larger: float, singular: bool
) -> dict[str, Tensor]:
    """Ratios by each definition of κ, the limit, and what is met of Definition 3.1; (B,) each."""
    ratio_i, ratio_ii = harmful.kappa / before.kappa_h, primary.kappa / before.kappa_p
    rir = ratio_i / ratio_ii
    met = definition(ratio_i, ratio_ii, primary, before.primary, much_larger=much_larger)
    columns: dict[str, Tensor] = {
        "kappa_p_reference": before.kappa_p,
        "kappa_h_reference": before.kappa_h,
        "kappa_p": primary.kappa,
        "kappa_h": harmful.kappa,
        "ratio_i": ratio_i,
        "ratio_ii": ratio_ii,
        "rir": rir,
        "limit": before.limit.rir,
        "limit_intercept": before.limit.intercept,
        "harmful_energy_outside": before.limit.outside,
        "rir_with_unseen_floor": before.limit.reach,
        # The limit binds what is invertible.
        "optimality": optimality(rir, before.limit.rir) * (torch.nan if singular else 1.0),
        "definition_a_met": met.a,
        "definition_b_met": met.b,
        "definition_c_met": met.c,
        "resolved": (primary.spectrum.resolved == primary.ranks)
        & (harmful.spectrum.resolved == harmful.ranks),
        "best_loss_p_reference": before.primary.loss,
        "best_loss_p": primary.loss,
        "zero_loss_p": before.primary.energy,
    }
    for name, kind in (("released", "released"), ("ridge", "ridge"), ("label", "label_weighted")):
        i = getattr(harmful, name) / getattr(before.harmful, name)
        ii = getattr(primary, name) / getattr(before.primary, name)
        columns |= {f"{kind}_ratio_i": i, f"{kind}_ratio_ii": ii, f"{kind}_rir": i / ii}
    columns["released_floored"] = (
        primary.floored | harmful.floored | before.primary.floored | before.harmful.floored
    )
    return columns


def _chance(problem: Problem) -> Tensor:
    """Accuracy on D_H without looking, by the training rows: the share of the largest class, (B,).

    Where the pairs are the classes of one task, that of the task, repeated.
    """
    source = problem.source
    positive = torch.tensor(
        [float((source.tasks[n].train_labels > 0).double().mean()) for n in problem.harmful.tasks],
        dtype=torch.float64,
    )
    if "H" in source.class_roles:
        return positive.max().expand_as(positive)
    return torch.maximum(positive, 1 - positive)


def _best_accuracy(problem: Problem, role: str, report: RoleReport, theta: Tensor) -> Tensor:
    """Held-out accuracy of the best probe of each pair, shape (B,)."""
    task = problem.primary if role == "P" else problem.harmful
    probe = report.spectrum.vectors @ report.spectrum.coefficients.to(theta)[..., None]
    several = role in problem.source.class_roles
    return accuracy(problem, task, theta @ probe, several=several).squeeze(-1).cpu()


def run(stage: Stage) -> None:
    """The stage: every method of the study."""
    device, threads = stage.batched_device()
    parameters, paths = stage.config["spectrum"], stage.paths
    task_sets = {name: load_task_set(paths.tasks(name)) for name in paths.datasets}
    before = References(task_sets, parameters, device)
    before.compute(threads)
    parts = map_threads(before.rows_of, paths.all_thetas(), threads)
    spectra, ratios = zip(*(pair for part in parts for pair in part), strict=True)
    record = stage.record(parameters, "spectra", device=device)
    record["features"] = {
        name: {key: task_set.info[key] for key in ("columns", "scale")}
        for name, task_set in task_sets.items()
        if task_set.info.get("columns")
    }
    frames = [pd.concat(tables, ignore_index=True) for tables in (spectra, ratios)]
    write_tables([paths.spectra, paths.ratios], frames, record)
    LOG.info("%d spectra, %d ratios", *map(len, frames))


class References:
    """Data sets before immunization, in parts that fit the device, computed once.

    Args:
        task_sets: by name.
        parameters: of the stage.
        device: where to compute.
    """

    def __init__(
        self, task_sets: dict[str, TaskSet], parameters: dict[str, Any], device: str
    ) -> None:
        self.task_sets, self.parameters, self.device = task_sets, parameters, device
        self.parts = {name: self._split(task_set) for name, task_set in task_sets.items()}
        self._known: dict[tuple[str, int], list[Reference]] = {}

    def _split(self, task_set: TaskSet) -> list[list[int]]:
        """Pairs that go together: on a CPU all, on a GPU as many as its memory takes."""
        pairs = list(range(len(task_set.pair_names)))
        if self.device == "cpu" or task_set.class_roles:  # classes of one task stay together
            return [pairs]
        members = [(task_set.seeds[0], pair) for pair in pairs]
        parts = split(members, task_set.inputs.shape[1], self.device)
        return [[pair for _, pair in part] for part in parts]

    def _owner(self, name: str, seed: int) -> tuple[str, int]:
        """Seeds that share all their tasks share what is computed from them."""
        return name, self.task_sets[name].first_alike(seed)

    def compute(self, threads: int) -> None:
        """Evaluate θ = I on all of them, in batches."""
        seeds = [
            (name, seed) for name, task_set in self.task_sets.items() for seed in task_set.seeds
        ]
        owners = list(dict.fromkeys(self._owner(*each) for each in seeds))
        reports = map_threads(self._evaluate, owners, threads)
        self._known = dict(zip(owners, reports, strict=True))

    def _evaluate(self, owner: tuple[str, int]) -> list[Reference]:
        name, seed = owner
        task_set = self.task_sets[name]
        return [
            evaluate_identity(
                task_set.batch([(seed, pair) for pair in pairs]), self.parameters, self.device
            )
            for pairs in self.parts[name]
        ]

    def rows_of(self, path: str) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
        """Rows of both tables for one file of θ, one pair of frames a seed."""
        file = open_extractors(path)
        several = self.parts[file.dataset]
        rows = []
        for owner, seeds in file.sharing().items():
            keys = {"dataset": file.dataset, "method": file.label, "seed": owner, "code": file.code}
            evaluated = [
                result_rows(
                    before,
                    file.theta(owner, self.device, pairs if len(several) > 1 else None),
                    keys,
                    self.parameters,
                    self.device,
                    singular=file.singular,
                )
                for before, pairs in zip(
                    self._known[self._owner(file.dataset, owner)], several, strict=True
                )
            ]
            spectra, ratios = (pd.concat(frames) for frames in zip(*evaluated, strict=True))
            rows += [(spectra.assign(seed=seed), ratios.assign(seed=seed)) for seed in seeds]
        return rows
