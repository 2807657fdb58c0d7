"""Files of extractors: what the immunize stage writes and the later stages read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from immunization.linear.tasks import Task, TaskSet
from immunization.runtime.files.io import (
    read_metadata,
    read_tensor,
    read_tensors,
    refuse_nan,
    write_tensors,
)


@dataclass(frozen=True)
class Extractors:
    """θ of one method on one data set, read seed by seed.

    Attributes:
        path: the file.
        label: what the study calls the method.
        dataset: label of the data set.
        code: fingerprint of the code that made it.
        owners: for each seed the one whose θ it has, itself but where seeds share their tasks and
            the method draws nothing.
        singular: whether θ has lost directions on purpose, as by erasure.
    """

    path: str
    label: str
    dataset: str
    code: str
    owners: dict[int, int]
    singular: bool = False

    def theta(self, seed: int, device: str = "cpu", pairs: Sequence[int] | None = None) -> Tensor:
        """θ of some pairs, given by number, or of all, shape (B, D, D).

        Raises:
            UserError: when it is damaged or not finite.
        """
        name = f"theta.{self.owners[seed]}"
        return refuse_nan(self.path, name, read_tensor(self.path, name, device, pairs))

    def sharing(self) -> dict[int, list[int]]:
        """Seeds by the one that owns their θ."""
        seeds_of_owner: dict[int, list[int]] = {}
        for seed, owner in self.owners.items():
            seeds_of_owner.setdefault(owner, []).append(seed)
        return seeds_of_owner


def save_extractors(
    path: Path | str,
    thetas: dict[int, Tensor],
    owners: dict[int, int],
    metadata: dict[str, Any],
) -> None:
    """Write θ of each seed that owns one.

    Args:
        path: safetensors file.
        thetas: θ by seed.
        owners: see `Extractors`.
        metadata: provenance, with ``dataset``.
    """
    write_tensors(
        path,
        {f"theta.{seed}": theta for seed, theta in thetas.items()},
        metadata | {"seeds": list(owners), "owners": list(owners.values())},
        metadata,
    )


def open_extractors(path: str) -> Extractors:
    """Read a file's metadata."""
    metadata = read_metadata(path)
    return Extractors(
        path=path,
        label=metadata["parameters"]["label"],
        dataset=metadata["dataset"],
        code=metadata["code"],
        owners=dict(zip(metadata["seeds"], metadata["owners"], strict=True)),
        singular=metadata.get("singular", False),
    )


def save_task_set(path: Path | str, task_set: TaskSet) -> None:
    """Write a task set to one safetensors file."""
    tensors: dict[str, Tensor] = {"inputs": task_set.inputs, "task_index": task_set.task_index}
    tensors |= task_set.statistics
    for part in ("train_rows", "train_labels", "test_rows", "test_labels"):
        pieces = [getattr(task, part) for task in task_set.tasks]
        tensors[part] = torch.cat(pieces)
        tensors[f"{part}_length"] = torch.tensor([len(piece) for piece in pieces])
    metadata = {
        "name": task_set.name,
        "loss": task_set.loss,
        "accuracy": task_set.accuracy,
        "scale": task_set.scale,
        "shift": task_set.shift,
        "intercept": task_set.intercept,
        "class_roles": task_set.class_roles,
        "pair_names": task_set.pair_names,
        "seeds": task_set.seeds,
        "task_names": [task.name for task in task_set.tasks],
        "info": task_set.info,
    }
    write_tensors(path, tensors, metadata, task_set.info)


def load_task_set(path: Path | str) -> TaskSet:
    """Read what `save_task_set` wrote."""
    tensors, metadata = read_tensors(path)
    parts = {
        part: tensors.pop(part).split(tensors.pop(f"{part}_length").tolist())
        for part in ("train_rows", "train_labels", "test_rows", "test_labels")
    }
    tasks = [
        Task(name, **{part: parts[part][i] for part in parts})
        for i, name in enumerate(metadata["task_names"])
    ]
    return TaskSet(
        name=metadata["name"],
        loss=metadata["loss"],
        accuracy=metadata["accuracy"],
        inputs=tensors.pop("inputs"),
        scale=metadata["scale"],
        shift=metadata["shift"],
        pair_names=[(p, h) for p, h in metadata["pair_names"]],
        task_index=tensors.pop("task_index"),
        seeds=metadata["seeds"],
        tasks=tasks,
        statistics=tensors,
        intercept=metadata["intercept"],
        class_roles=tuple(metadata["class_roles"]),
        info=metadata["info"],
    )
