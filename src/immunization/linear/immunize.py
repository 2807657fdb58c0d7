"""Run one method on all pairs and seeds of all data sets of a study.

Pairs go through a method in batches (`immunization.linear.batching`): on a CPU they are spread over
threads, on a GPU they run one after the other. A deterministic method runs once for all seeds with
identical tasks. Finished batches are saved every minute, and when the job is asked to end; one that
was killed goes on from there."""

from __future__ import annotations

import time
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from hessian_spectrum import NotFiniteError
from immunization.linear.batching import Member, split
from immunization.linear.contracts import DEPENDS_ON_SEED, MethodComponent
from immunization.linear.evaluation import reference_condition
from immunization.linear.files import load_task_set, save_extractors
from immunization.linear.methods._descent import Immunized
from immunization.linear.returned import call, check_theta
from immunization.linear.tasks import Problem, TaskSet
from immunization.runtime.errors import UserError
from immunization.runtime.files.checksums import content_hash
from immunization.runtime.files.io import read_table, read_tensors, write_table, write_tensors
from immunization.runtime.gpus.memory import halves, run_within_memory
from immunization.runtime.jobs.resumable import ResumableUnits
from immunization.runtime.jobs.stage import Stage, write_tables
from immunization.runtime.log import LOG
from immunization.runtime.record.provenance import essence
from immunization.runtime.threads import map_threads
from immunization.study.components import component, import_component

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
    label: str, method: MethodComponent, parameters: dict[str, Any], task_set: TaskSet, device: str,
    members: list[Member],
) -> Batch:  # fmt: skip
    """Run the method on some pairs.

    Raises:
        UserError: when the method diverges.
    """
    problem = task_set.batch(members, device)
    broken = None
    try:
        returned = call(method, "immunize", problem, parameters)
        immunized = check_theta(method, returned, problem.size, problem.primary.factor)
        theta = immunized.theta.cpu()
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
    return Batch(members, theta, trajectory(problem, immunized), immunized.singular)


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
    """Keeps a batch in a file of tensors and a table (see `ResultStore`)."""

    def paths(self, stem: Path) -> list[Path]:
        """See `Keeper`."""
        return [stem.with_suffix(suffix) for suffix in (".safetensors", ".parquet")]

    def write(self, stem: Path, result: Batch) -> None:
        """See `Keeper`."""
        tensors, table = self.paths(stem)
        metadata = {"members": result.members, "singular": result.singular}
        write_tensors(tensors, {"theta": result.theta}, metadata)
        write_table(table, result.trajectory)

    def read(self, stem: Path) -> Batch:
        """See `Keeper`."""
        path, table = self.paths(stem)
        tensors, metadata = read_tensors(path)
        members = [(seed, pair) for seed, pair in metadata["members"]]
        return Batch(members, tensors["theta"], read_table(table), metadata["singular"])


class BatchPlan(NamedTuple):
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


def plan(
    method: MethodComponent, parameters: dict[str, Any], task_set: TaskSet, device: str
) -> BatchPlan:
    """Cut the pairs of a data set into batches.

    Args:
        method: module.
        parameters: of the method.
        task_set: the data set.
        device: where they will run.

    Raises:
        UserError: for a method that declares what earlier versions asked for.
    """
    members = [member for seed in task_set.seeds for member in task_set.members(seed)]
    sources = {member: member for member in members}
    if task_set.class_roles:  # classes of one task, and one θ
        sources = {(seed, pair): (seed, 0) for seed, pair in members}
    if hasattr(method, "draws"):
        raise UserError(
            f"{getattr(method, '__file__', 'method')}: declares `draws`, which is now called "
            f"`{DEPENDS_ON_SEED}`."
        )
    depends = getattr(method, DEPENDS_ON_SEED, None)
    if depends is not None and not depends(parameters):
        alike = task_set.distinct_members()
        sources = {member: alike[source] for member, source in sources.items()}
    distinct = list(dict.fromkeys(sources.values()))
    parts = split(distinct, task_set.inputs.shape[1], device)
    return BatchPlan(task_set, parameters, sources, parts)


def run_part(
    label: str, method: MethodComponent, todo: BatchPlan, device: str, members: list[Member]
) -> Batch:
    """Run the method on one batch, in halves where a GPU's memory does not suffice."""
    run = partial(immunize_batch, label, method, todo.parameters, todo.task_set, device)
    if device == "cpu":
        return run(members)
    batches = [batch for _, batch in run_within_memory(run, members, halves)]
    if len(batches) == 1:
        return batches[0]
    return Batch(
        members,
        torch.cat([batch.theta for batch in batches]),
        pd.concat([batch.trajectory for batch in batches], ignore_index=True),
        any(batch.singular for batch in batches),
    )


def assemble(
    todo: BatchPlan, batches: list[Batch]
) -> tuple[dict[int, Tensor], dict[int, int], pd.DataFrame, bool]:
    """What the batches of a data set come to.

    Returns:
        θ by seed, shape (B, D, D), of the seeds that own one; the owner of each seed's θ; the
        trajectories of all seeds; and whether θ has lost directions on purpose.
    """
    task_set, sources = todo.task_set, todo.sources
    whole = {tuple(batch.members): batch.theta for batch in batches}
    theta_of_member = {
        member: theta
        for batch in batches
        for member, theta in zip(batch.members, batch.theta, strict=True)
    }
    rows = pd.concat([batch.trajectory for batch in batches], ignore_index=True)

    thetas, owners, frames = {}, {}, []
    for seed in task_set.seeds:
        sources_of_seed = [sources[member] for member in task_set.members(seed)]
        first = sources_of_seed[0][0]
        shared = first != seed and sources_of_seed == task_set.members(first)
        owners[seed] = first if shared else seed
        if not shared:
            theta = whole.get(
                tuple(sources_of_seed)
            )  # mostly a batch of its own, which needs no copy
            thetas[seed] = (
                torch.stack([theta_of_member[m] for m in sources_of_seed])
                if theta is None
                else theta
            )
        if not rows.empty:
            wanted = pd.DataFrame(sources_of_seed, columns=["seed", "pair"])
            frames.append(wanted.merge(rows, on=["seed", "pair"]).assign(seed=seed))
    singular = any(batch.singular for batch in batches)
    return thetas, owners, pd.concat(frames, ignore_index=True) if frames else rows, singular


def immunize(
    label: str, method: MethodComponent, parameters: dict[str, Any], task_set: TaskSet, device: str,
    threads: int,
) -> tuple[dict[int, Tensor], dict[int, int], pd.DataFrame, bool]:  # fmt: skip
    """All pairs and seeds of a data set, without files; see `assemble` for what it gives."""
    todo = plan(method, parameters, task_set, device)
    work = partial(run_part, label, method, todo, device)
    return assemble(todo, map_threads(work, todo.parts, threads if device == "cpu" else 1))


def run(stage: Stage) -> None:
    """The stage: one method on every data set of the study."""
    device, threads = stage.batched_device()
    label, entry = stage.label, stage.config["methods"][stage.label]
    method: MethodComponent = import_component("linear/methods", entry["use"])
    plans = []
    keys: list[Any] = []
    for dataset in stage.paths.datasets:
        path, parameters = stage.paths.tasks(dataset), entry["parameters"][dataset]
        plans.append(plan(method, parameters, load_task_set(path), device))
        content = content_hash(path)
        keys += [[dataset, parameters, part, content] for part in plans[-1].parts]
    jobs = [(todo, part) for todo in plans for part in todo.parts]

    def work(number: int) -> Batch:
        todo, part = jobs[number]
        return run_part(label, method, todo, device, part)

    started = time.perf_counter()
    about = {"label": label, "method": entry["use"]}
    module = component("linear/methods", entry["use"]).module
    record = stage.record(about, "immunize", device=device, components=[module])
    units = ResumableUnits(stage.progress, Batches(), essence(record), stage.checkpoint_seconds)
    batches = iter(units.run(keys, work, threads))
    seconds = time.perf_counter() - started
    outputs = zip(plans, stage.paths.thetas(label), stage.paths.trajectories(label), strict=True)
    for todo, out, path in outputs:
        record_of_method = record | {"parameters": about | todo.parameters}
        write(todo, list(islice(batches, len(todo.parts))), label, record_of_method, out, path)
    units.delete_others()
    LOG.info("%s: %.1f s", label, seconds)


def write(
    todo: BatchPlan, batches: list[Batch], label: str, record: dict[str, Any], out: str, path: str
) -> None:
    """Write θ and trajectories of one data set."""
    task_set = todo.task_set
    thetas, owners, rows, singular = assemble(todo, batches)
    rows.insert(0, "method", label)
    rows.insert(0, "dataset", task_set.name)
    write_tables([path], [rows], record)
    about = {"dataset": task_set.name, "singular": singular, "intercept": task_set.intercept}
    # The features that θ holds for: names, and what they were scaled by.
    scaling = {key: task_set.info[key] for key in SCALING if key in task_set.info}
    save_extractors(out, thetas, owners, record | about | scaling)
