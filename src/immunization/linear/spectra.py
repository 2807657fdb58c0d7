"""Stage 3: spectra, condition numbers, ratios and limits of all methods of a study.

    python -m immunization.spectrum --tasks tasks/*.safetensors \\
        --thetas immunized/*/*.safetensors --parameters '{…}' --spectra … --ratios …

Writes one row a (data set, method, seed, pair, role) with the whole spectrum, and one row a
(data set, method, seed, pair) with ratios by each definition of κ.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from immunization import stage
from immunization.batches import split
from immunization.evaluate import (
    Limit,
    RoleReport,
    accuracy,
    definition,
    limits,
    optimality,
    reference_condition,
    report_role,
)
from immunization.extractors import open_extractors
from immunization.files import write_table
from immunization.provenance import provenance
from immunization.tasks import Problem, load_task_set


class Reference(NamedTuple):
    """A data set under one seed before immunization, shared by all methods."""

    problem: Problem
    primary: RoleReport
    harmful: RoleReport
    kappa_p: Tensor
    kappa_h: Tensor
    limit: Limit


def reference(problem: Problem, parameters: dict[str, Any], device: str = "cpu") -> Reference:
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


def evaluate(
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
    ridge = parameters["ridge"]
    options = {"ridge": ridge, "label_share": parameters["label_share"], "singular": singular}
    primary = report_role(problem.primary, theta, **options).host()
    harmful = report_role(problem.harmful, theta, **options).host()
    pairs = [pair for _, pair in problem.members]
    names = {
        "pair": pairs,
        "primary": [problem.source.pair_names[pair][0] for pair in pairs],
        "harmful": [problem.source.pair_names[pair][1] for pair in pairs],
    }

    spectra = []
    for role, task, report in (
        ("P", problem.primary, primary),
        ("H", problem.harmful, harmful),
    ):
        ranks = report.ranks.tolist()
        numbers = task.rows.to(torch.int64).cpu().numpy()
        # Ascending, zeros first: the last `rank` entries are the non-zero spectrum.
        spectra.append(
            pd.DataFrame(
                keys
                | names
                | {
                    "role": role,
                    "rows": numbers,
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
                    "eigenvalues": [
                        values[-rank:].numpy()
                        for values, rank in zip(report.spectrum.eigenvalues, ranks, strict=True)
                    ],
                    "label_coefficients": [
                        values[-rank:].numpy()
                        for values, rank in zip(report.spectrum.coefficients, ranks, strict=True)
                    ],
                }
            )
        )

    ratio_i, ratio_ii = harmful.kappa / before.kappa_h, primary.kappa / before.kappa_p
    rir = ratio_i / ratio_ii
    met = definition(
        ratio_i, ratio_ii, primary, before.primary, much_larger=parameters["much_larger"]
    )
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
        "outside": before.limit.outside,
        "reach_with_floor": before.limit.reach,
        # The limit binds what is invertible.
        "optimality": optimality(rir, before.limit.rir) * (torch.nan if singular else 1.0),
        "met_a": met.a,
        "met_b": met.b,
        "met_c": met.c,
        "resolved": (primary.spectrum.resolved == primary.ranks)
        & (harmful.spectrum.resolved == harmful.ranks),
        "best_loss_p_reference": before.primary.loss,
        "best_loss_p": primary.loss,
        "zero_loss_p": before.primary.energy,
    }
    for name in ("released", "ridge", "label"):
        i = getattr(harmful, name) / getattr(before.harmful, name)
        ii = getattr(primary, name) / getattr(before.primary, name)
        columns |= {f"{name}_ratio_i": i, f"{name}_ratio_ii": ii, f"{name}_rir": i / ii}
    columns["released_floored"] = (
        primary.floored | harmful.floored | before.primary.floored | before.harmful.floored
    )
    if problem.source.accuracy:
        for role, task, report in (
            ("p", problem.primary, primary),
            ("h", problem.harmful, harmful),
        ):
            coefficients = report.spectrum.coefficients.to(theta)
            probe = report.spectrum.vectors @ coefficients[..., None]
            hits = accuracy(problem, task, theta @ probe)
            columns[f"accuracy_{role}"] = hits.squeeze(-1).cpu()
    ratios = pd.DataFrame(keys | names | {k: v.numpy() for k, v in columns.items()})
    return pd.concat(spectra), ratios


def main(arguments: list[str] | None = None) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Spectra of all methods of a study.")
    parser.add_argument("--tasks", nargs="+", required=True, help="outputs of prepare")
    parser.add_argument("--thetas", nargs="+", required=True, help="outputs of immunize")
    parser.add_argument("--parameters", type=stage.parse_json, required=True, help="JSON object")
    parser.add_argument("--spectra", required=True, help="Parquet file to write")
    parser.add_argument("--ratios", required=True, help="Parquet file to write")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    stage.one_thread_each()
    device = stage.choose_device(options.device)
    # On a GPU the decompositions of one batch already run side by side.
    threads = options.threads if device == "cpu" else 1

    task_sets = {task_set.name: task_set for task_set in map(load_task_set, options.tasks)}
    # Seeds that share all their tasks share what is computed from them.
    owners = {
        (name, seed): (name, task_set.first_alike(seed))
        for name, task_set in task_sets.items()
        for seed in task_set.seeds
    }

    def parts_of(name: str) -> list[list[int]]:
        """Pairs that go together: on a CPU all, on a GPU as many as its memory takes."""
        task_set = task_sets[name]
        pairs = list(range(len(task_set.pair_names)))
        if device == "cpu":
            return [pairs]
        members = [(task_set.seeds[0], pair) for pair in pairs]
        parts = split(members, task_set.inputs.shape[1], device)
        return [[pair for _, pair in part] for part in parts]

    starts = list(dict.fromkeys(owners.values()))
    cut = {name: parts_of(name) for name in task_sets}
    problems = stage.map_threads(
        lambda key: [
            reference(
                task_sets[key[0]].batch([(key[1], pair) for pair in pairs]),
                options.parameters,
                device,
            )
            for pairs in cut[key[0]]
        ],
        starts,
        threads,
    )
    before = dict(zip(starts, problems, strict=True))

    def rows(path: str) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
        file = open_extractors(path)
        found = []
        for owner, seeds in file.sharing().items():
            keys = {"dataset": file.dataset, "method": file.label, "seed": owner}
            several = cut[file.dataset]
            evaluated = [
                evaluate(
                    own,
                    file.theta(owner, device, pairs if len(several) > 1 else None),
                    keys | {"code": file.code},
                    options.parameters,
                    device,
                    singular=file.singular,
                )
                for own, pairs in zip(before[owners[file.dataset, owner]], several, strict=True)
            ]
            parts = [pd.concat(frames) for frames in zip(*evaluated, strict=True)]
            found += [tuple(part.assign(seed=seed) for part in parts) for seed in seeds]
        return found

    parts = stage.map_threads(rows, options.thetas, threads)
    spectra, ratios = zip(*(pair for part in parts for pair in part), strict=True)
    record = provenance(["immunization.spectrum"], options.parameters, device)
    record["features"] = {
        name: {key: task_set.info[key] for key in ("columns", "scale")}
        for name, task_set in task_sets.items()
        if task_set.info.get("columns")
    }
    for path, frames in ((options.spectra, spectra), (options.ratios, ratios)):
        frame = pd.concat(frames, ignore_index=True)
        frame.attrs["provenance"] = record
        write_table(path, frame)
    stage.LOG.info("%d spectra, %d ratios", sum(map(len, spectra)), sum(map(len, ratios)))


if __name__ == "__main__":
    stage.run(main)
