"""Stage 2: run one method on all pairs and seeds of all data sets of a study.

    python -m immunization.immunize --label alg1 --method alg1 --parameters '{"digits": {…}}' \\
        --tasks tasks/digits.safetensors --out immunized/alg1/digits.safetensors \\
        --trajectories immunized/alg1/digits.parquet

Pairs go through a method in batches (`immunization.batches`): on a CPU they are spread over
threads, on a GPU they run one after the other. A method that draws nothing runs once for seeds that
share their tasks.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from hessian_spectrum import NotFiniteError
from immunization import stage
from immunization.batches import Member, run_within_memory, split
from immunization.errors import UserError
from immunization.evaluate import reference_condition
from immunization.extractors import save_extractors
from immunization.files import write_table
from immunization.methods._descent import Immunized
from immunization.provenance import provenance
from immunization.registry import load
from immunization.tasks import Problem, TaskSet, load_task_set


class Batch(NamedTuple):
    """What a method gave for some pairs, on the CPU.

    Attributes:
        members: (seed, number) of each pair.
        theta: θ, shape (b, D, D).
        trajectory: rows of the trajectory, empty where the method keeps none.
        singular: whether θ has lost directions on purpose.
    """

    members: list[Member]
    theta: Tensor
    trajectory: pd.DataFrame
    singular: bool


def immunize_batch(
    label: str, method: ModuleType, parameters: dict[str, Any], task_set: TaskSet, device: str,
    members: list[Member],
) -> Batch:  # fmt: skip
    """Run the method on some pairs.

    Raises:
        UserError: when the method diverges.
    """
    problem = task_set.batch(members, device)
    broken = None
    try:
        found = method.immunize(problem, parameters)
        if not isinstance(found, Immunized):
            found = Immunized(found)
        theta = found.theta.cpu()
        lost = (~torch.isfinite(theta).flatten(1).all(1)).nonzero()
        broken = int(lost[0]) if len(lost) else None
    except NotFiniteError as error:  # noticed on the way
        broken = error.index
    if broken is not None:
        seed, pair = members[broken]
        raise UserError(
            f"method '{label}' diverged on data set '{task_set.name}', seed {seed}, pair "
            f"{task_set.pair_names[pair]}: θ is not finite."
            + (
                " Lower its eta in the config (`overrides:` sets it for one data set)."
                if "eta" in parameters
                else ""
            )
        )
    return Batch(members, theta, trajectory(problem, found), found.singular)


def trajectory(problem: Problem, found: Immunized) -> pd.DataFrame:
    """One row a pair and recorded step: κ, ratios, both regularizers and the loss on D_P."""
    before = {
        role: reference_condition(task).cpu().numpy()
        for role, task in (("p", problem.primary), ("h", problem.harmful))
    }
    frames = []
    for record in found.records:
        places = record.pairs.numpy()
        members = [problem.members[place] for place in places]
        columns = {name: values.numpy() for name, values in record.columns.items()}
        frame = pd.DataFrame(
            {
                "seed": [seed for seed, _ in members],
                "pair": [pair for _, pair in members],
                "primary": [problem.source.pair_names[pair][0] for _, pair in members],
                "harmful": [problem.source.pair_names[pair][1] for _, pair in members],
                "step": record.step,
                "kappa_p": torch.from_numpy(columns.pop("log_kappa_p")).exp().numpy(),
                "kappa_h": torch.from_numpy(columns.pop("log_kappa_h")).exp().numpy(),
                **columns,
                "converged": record.converged.numpy(),
            }
        )
        frame["ratio_i"] = frame["kappa_h"] / before["h"][places]
        frame["ratio_ii"] = frame["kappa_p"] / before["p"][places]
        frame["rir"] = frame["ratio_i"] / frame["ratio_ii"]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def immunize(
    label: str, method: ModuleType, parameters: dict[str, Any], task_set: TaskSet, device: str,
    threads: int,
) -> tuple[dict[int, Tensor], dict[int, int], pd.DataFrame, bool]:  # fmt: skip
    """All pairs and seeds of a data set.

    Returns:
        θ by seed, shape (B, D, D), of the seeds that own one; the owner of each seed's θ; the
        trajectories of all seeds; and whether θ has lost directions on purpose.
    """
    members = [member for seed in task_set.seeds for member in task_set.members(seed)]
    sources = {member: member for member in members}
    if hasattr(method, "draws") and not method.draws(parameters):
        sources = task_set.distinct_members()
    distinct = list(dict.fromkeys(sources.values()))
    run = partial(immunize_batch, label, method, parameters, task_set, device)
    parts = split(distinct, task_set.inputs.shape[1], device)
    if device == "cpu":
        batches = stage.map_threads(run, parts, threads)
    else:
        batches = [batch for part in parts for _, batch in run_within_memory(run, part)]
    whole = {tuple(batch.members): batch.theta for batch in batches}
    found = {
        member: theta
        for batch in batches
        for member, theta in zip(batch.members, batch.theta, strict=True)
    }
    rows = pd.concat([batch.trajectory for batch in batches], ignore_index=True)

    thetas, owners, frames = {}, {}, []
    for seed in task_set.seeds:
        own = [sources[member] for member in task_set.members(seed)]
        first = own[0][0]
        shared = first != seed and own == task_set.members(first)
        owners[seed] = first if shared else seed
        if not shared:
            theta = whole.get(tuple(own))  # mostly a batch of its own, which needs no copy
            thetas[seed] = torch.stack([found[m] for m in own]) if theta is None else theta
        if not rows.empty:
            wanted = pd.DataFrame(own, columns=["seed", "pair"])
            frames.append(wanted.merge(rows, on=["seed", "pair"]).assign(seed=seed))
    singular = any(batch.singular for batch in batches)
    return thetas, owners, pd.concat(frames, ignore_index=True) if frames else rows, singular


def main(arguments: list[str] | None = None) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Immunize with one method.")
    parser.add_argument("--label", required=True, help="what the study calls the method")
    parser.add_argument("--method", required=True, help="file in immunization/methods")
    parser.add_argument(
        "--parameters", type=stage.parse_json, required=True, help="JSON, parameters a data set"
    )
    parser.add_argument("--tasks", nargs="+", required=True, help="outputs of prepare")
    parser.add_argument("--out", nargs="+", required=True, help="a file for each of --tasks")
    parser.add_argument(
        "--trajectories", nargs="+", required=True, help="a Parquet file for each of --tasks"
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    stage.one_thread_each()
    device = stage.choose_device(options.device)
    method = load("methods", options.method)

    for tasks_path, out, path in zip(options.tasks, options.out, options.trajectories, strict=True):
        task_set = load_task_set(tasks_path)
        parameters = options.parameters[task_set.name]
        started = time.perf_counter()
        thetas, owners, rows, singular = immunize(
            options.label, method, parameters, task_set, device, options.threads
        )
        seconds = time.perf_counter() - started
        record = provenance(
            ["immunization.immunize", f"immunization.methods.{options.method}"],
            {"label": options.label, "method": options.method, **parameters},
        ) | {"device": device, "dataset": task_set.name, "singular": singular}
        rows.insert(0, "method", options.label)
        rows.insert(0, "dataset", task_set.name)
        rows.attrs["provenance"] = record
        write_table(path, rows)
        save_extractors(out, thetas, owners, record)
        stage.LOG.info("%s on %s: %.1f s", options.label, task_set.name, seconds)


if __name__ == "__main__":
    stage.run(main)
