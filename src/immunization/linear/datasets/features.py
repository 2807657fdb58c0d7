"""Your own features, as a model gives them: .npy, .npz, .safetensors or Parquet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from immunization.data.download import Place
from immunization.linear.datasets._labelled import Labelled
from immunization.linear.own_tasks.feature_file import read_features, read_labels
from immunization.linear.own_tasks.pairs import study_set
from immunization.linear.own_tasks.scaling import Scaler
from immunization.linear.own_tasks.task import Task
from immunization.linear.tasks import TaskSet
from immunization.runtime.errors import UserError

EXTENDS = "_labelled"
PARAMETERS: dict[str, dict[str, Any]] = {
    "path": {
        "type": "string",
        "description": "file with the features, one row a sample, before any probe: .npy, .npz, "
        ".safetensors or .parquet. With `harmful_path` these are D_P's; otherwise tasks are made "
        "of the classes in it, as for digits.",
    },
    "harmful_path": {
        "type": ["string", "null"],
        "default": None,
        "description": "file with the features of D_H; null if tasks are made of the classes of "
        "one file.",
    },
    "labels": {
        "type": ["string", "null"],
        "default": None,
        "description": "file with the labels of `path`, one a row: .csv with a header line, or "
        "as above; null if `label_column` is a column of `path` itself, or if there are none.",
    },
    "label_column": {
        "type": ["string", "null"],
        "default": None,
        "description": "column, or name of the array, of the labels; null where there is one.",
    },
    "harmful_labels": {
        "type": ["string", "null"],
        "default": None,
        "description": "as `labels`, of `harmful_path`.",
    },
    "harmful_label_column": {
        "type": ["string", "null"],
        "default": None,
        "description": "as `label_column`, of `harmful_path`.",
    },
    "array": {
        "type": ["string", "null"],
        "default": None,
        "description": "name of the features in an .npz or .safetensors file with several arrays.",
    },
    "harmful_array": {
        "type": ["string", "null"],
        "default": None,
        "description": "as `array`, of `harmful_path`.",
    },
    "kind": {
        "enum": ["auto", "classification", "regression"],
        "default": "auto",
        "description": "what labels are. auto: text, booleans and whole numbers are classes, "
        "other numbers the target of a regression; what may be either is refused.",
    },
    "test_fraction": {
        "type": "number",
        "minimum": 0,
        "maximum": 0.9,
        "default": 0.25,
        "description": "share of the rows held out, drawn by the seed, that accuracies are taken "
        "on; 0 for none, and κ of all rows.",
    },
    "scale": {
        "enum": ["none", "joint", "within"],
        "default": "none",
        "description": "none: features as they are, so that θ is linear on what the model gives. "
        "joint: by mean and deviation of D_P's rows (of all rows, for tasks made of classes). "
        "within: each of two files by its own; θ then holds on features that were scaled so.",
    },
}


@dataclass(frozen=True)
class TwoFiles:
    """D_P and D_H from a file each."""

    benign: Task
    harmful: Task
    scale: str

    def build(
        self, name: str, parameters: dict[str, Any], seeds: list[int], *, intercept: bool = False
    ) -> TaskSet:
        """One pair for each seed, or one a class where there are several."""
        for key in ("pairs", "rows_per_class"):
            if parameters[key] not in ("all", None):
                raise UserError(
                    f"data set '{name}', key '{key}': is for tasks made of the classes of one "
                    "file, and there are two."
                )
        scaler = Scaler.fit(self.scale, self.benign.features, self.harmful.features)
        return study_set(
            name, self.benign, self.harmful, scaler, seeds=seeds, intercept=intercept,
            tolerance=parameters["tolerance"], held_out=parameters["test_fraction"],
        )  # fmt: skip


def load(parameters: dict[str, Any], place: Place) -> Labelled | TwoFiles:
    """Two tasks, or labelled inputs whose classes make tasks."""
    features, labels = _read(parameters, "")
    if parameters["harmful_path"] is not None:
        kind = None if parameters["kind"] == "auto" else parameters["kind"]
        other, other_labels = _read(parameters, "harmful_")
        benign = Task(features, labels, kind=kind if labels is not None else None, name="benign")
        harmful = Task(
            other, other_labels, kind=kind if other_labels is not None else None, name="harmful"
        )
        return TwoFiles(benign, harmful, parameters["scale"])
    for key in ("harmful_labels", "harmful_label_column", "harmful_array"):
        if parameters[key] is not None:
            raise UserError(f"data set key '{key}': there is no harmful_path that it belongs to.")
    if labels is None:
        raise UserError(
            f"{parameters['path']}: tasks are made of classes, and there are no labels. Name them "
            "(labels, label_column), or the features of D_H (harmful_path)."
        )
    if parameters["test_fraction"] == 0 and parameters["task"] == "one_vs_rest":
        raise UserError("data set key 'test_fraction': one_vs_rest tasks need rows to test on.")
    if parameters["scale"] == "within":
        raise UserError("data set key 'scale': within is for two files; joint scales all rows.")
    task = Task(features, labels, kind="classification", name=Path(parameters["path"]).stem)
    scaler = Scaler.fit(parameters["scale"], features, features)
    scale = scaler.of(0)
    values = scale(features)
    codes = np.searchsorted(np.array(task.classes), labels).astype(np.int64)
    text = any(not isinstance(value, int) for value in task.classes)
    whole = codes if text else np.asarray(labels, dtype=np.int64)
    half = values.dtype in (torch.bfloat16, torch.float16)
    return Labelled(
        (values.float() if half else values).numpy(),
        whole,
        names=tuple(map(str, task.classes)) if text else (),
        dtype=features.dtype,
        offset=scale.offset(features),
        info=scaler.info(),
    )


def _read(parameters: dict[str, Any], role: str) -> tuple[torch.Tensor, np.ndarray | None]:
    path, column = parameters[f"{role}path"], parameters[f"{role}label_column"]
    separate = parameters[f"{role}labels"]
    inside = separate is None and column is not None
    without = [column] if inside and path.endswith(".parquet") else []
    features = read_features(path, parameters[f"{role}array"], without=without)
    if separate is None and column is None:
        return features, None
    labels = read_labels(path if inside else separate, column)
    if len(labels) != len(features):
        raise UserError(
            f"{path}: {len(features)} rows of features, and {len(labels)} labels in "
            f"{path if inside else separate}."
        )
    return features, labels
