"""Stage 2: run one method on all pairs and seeds of all data sets of a study.

    python -m immunization.immunize --label alg1 --method alg1 --parameters '{"digits": {…}}' \\
        --tasks tasks/digits.safetensors --out immunized/alg1/digits.safetensors \\
        --trajectories immunized/alg1/digits.parquet --progress FOLDER

Pairs go through a method in batches (`immunization.batches`): on a CPU they are spread over
threads, on a GPU they run one after the other, on several GPUs side by side. A method that draws
nothing runs once for seeds that share their tasks. Finished batches are kept in the progress folder
every minute, and when the job is asked to end; one that was killed goes on from there.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from itertools import islice
from pathlib import Path
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
from immunization.files import read_table, read_tensors, write_table, write_tensors
from immunization.methods._descent import Immunized
from immunization.progress import Pieces
from immunization.provenance import essence, provenance
from immunization.registry import load
from immunization.seals import content_of
from immunization.tasks import Problem, TaskSet, load_task_set

SCALING = ("columns", "scale", "scaling")
"""What a table's task set tells of its features."""


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


class Batches:
    """Keeps a batch in a file of tensors and a table (see `immunization.progress`)."""

    def paths(self, stem: Path) -> list[Path]:
        """See `Keeper`."""
        return [stem.with_suffix(suffix) for suffix in (".safetensors", ".parquet")]

    def write(self, stem: Path, result: Batch) -> None:
        """See `Keeper`."""
        tensors, table = self.paths(stem)
        told = {"members": result.members, "singular": result.singular}
        write_tensors(tensors, {"theta": result.theta}, told)
        write_table(table, result.trajectory)

    def read(self, stem: Path) -> Batch:
        """See `Keeper`."""
        path, table = self.paths(stem)
        tensors, told = read_tensors(path)
        members = [(seed, pair) for seed, pair in told["members"]]
        return Batch(members, tensors["theta"], read_table(table), told["singular"])


class Plan(NamedTuple):
    """What there is to do for one data set.

    Attributes:
        task_set: its tasks.
        parameters: of the method.
        sources: the pair whose θ each pair takes, mostly itself.
        parts: the pairs that are computed, in batches.
    """

    task_set: TaskSet
    parameters: dict[str, Any]
    sources: dict[Member, Member]
    parts: list[list[Member]]


def plan(method: ModuleType, parameters: dict[str, Any], task_set: TaskSet, device: str) -> Plan:
    """Cut the pairs of a data set into batches.

    Args:
        method: module.
        parameters: of the method.
        task_set: the data set.
        device: where they will run.
    """
    members = [member for seed in task_set.seeds for member in task_set.members(seed)]
    sources = {member: member for member in members}
    if hasattr(method, "draws") and not method.draws(parameters):
        sources = task_set.distinct_members()
    distinct = list(dict.fromkeys(sources.values()))
    parts = split(distinct, task_set.inputs.shape[1], device)
    return Plan(task_set, parameters, sources, parts)


def run_part(
    label: str, method: ModuleType, todo: Plan, device: str, members: list[Member]
) -> Batch:
    """Run the method on one batch, in halves where a GPU's memory does not suffice."""
    run = partial(immunize_batch, label, method, todo.parameters, todo.task_set, device)
    if device == "cpu":
        return run(members)
    found = [batch for _, batch in run_within_memory(run, members)]
    if len(found) == 1:
        return found[0]
    return Batch(
        members,
        torch.cat([batch.theta for batch in found]),
        pd.concat([batch.trajectory for batch in found], ignore_index=True),
        any(batch.singular for batch in found),
    )


def assemble(
    todo: Plan, batches: list[Batch]
) -> tuple[dict[int, Tensor], dict[int, int], pd.DataFrame, bool]:
    """What the batches of a data set come to.

    Returns:
        θ by seed, shape (B, D, D), of the seeds that own one; the owner of each seed's θ; the
        trajectories of all seeds; and whether θ has lost directions on purpose.
    """
    task_set, sources = todo.task_set, todo.sources
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


def immunize(
    label: str, method: ModuleType, parameters: dict[str, Any], task_set: TaskSet, device: str,
    threads: int,
) -> tuple[dict[int, Tensor], dict[int, int], pd.DataFrame, bool]:  # fmt: skip
    """All pairs and seeds of a data set, without files; see `assemble` for what it gives."""
    todo = plan(method, parameters, task_set, device)
    work = partial(run_part, label, method, todo, device)
    return assemble(todo, stage.map_threads(work, todo.parts, threads if device == "cpu" else 1))


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
    parser.add_argument("--progress", type=Path, required=True, help="own folder of the job")
    parser.add_argument("--checkpoint-seconds", type=float, default=60.0)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    stage.one_thread_each()
    device = stage.choose_device(options.device)
    method = load("methods", options.method)
    code = ["immunization.immunize", f"immunization.methods.{options.method}"]
    contents = dict(zip(options.tasks, map(content_of, options.tasks), strict=True))
    plans = []
    keys: list[Any] = []
    for path in options.tasks:
        task_set = load_task_set(path)
        parameters = options.parameters[task_set.name]
        plans.append(plan(method, parameters, task_set, device))
        keys += [[task_set.name, parameters, part, contents[path]] for part in plans[-1].parts]
    jobs = [(todo, part) for todo in plans for part in todo.parts]

    def work(number: int) -> Batch:
        todo, part = jobs[number]
        return run_part(options.label, method, todo, device, part)

    started = time.perf_counter()
    record = provenance(code, {"label": options.label, "method": options.method}, device)
    pieces = Pieces(options.progress, Batches(), essence(record), options.checkpoint_seconds)
    threads = options.threads if device == "cpu" else 1
    batches = iter(pieces.run(keys, work, threads))
    seconds = time.perf_counter() - started
    for todo, out, path in zip(plans, options.out, options.trajectories, strict=True):
        name = todo.task_set.name
        thetas, owners, rows, singular = assemble(todo, list(islice(batches, len(todo.parts))))
        own = record | {"parameters": record["parameters"] | todo.parameters}
        rows.insert(0, "method", options.label)
        rows.insert(0, "dataset", name)
        rows.attrs["provenance"] = own
        write_table(path, rows)
        about = {"dataset": name, "singular": singular, "intercept": todo.task_set.intercept}
        # The features that θ holds for: names, and what they were scaled by.
        scaling = {k: todo.task_set.info[k] for k in SCALING if k in todo.task_set.info}
        save_extractors(out, thetas, owners, own | about | scaling)
    pieces.tidy()
    stage.LOG.info("%s: %.1f s", options.label, seconds)


if __name__ == "__main__":
    stage.run(main)
