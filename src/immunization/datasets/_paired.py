"""Two regression tasks on the same columns, made from the two parts of one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from immunization.errors import UserError
from immunization.tasks import Task, TaskSet, build_task_set

PARAMETERS = {
    "rows": {
        "type": ["integer", "null"],
        "minimum": 2,
        "default": None,
        "description": "use the first so many rows of each part (the released code uses 200); "
        "null for all.",
    },
    "tolerance": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "exclusiveMaximum": 1,
        "default": None,
        "description": "relative tolerance on singular values at which the rank is decided; null "
        "for max(N, D)·eps, what round-off allows.",
    },
    "test_fraction": {
        "type": "number",
        "minimum": 0,
        "maximum": 0.9,
        "default": 0.0,
        "description": "share of each part held out, drawn by the seed.",
    },
}


@dataclass(frozen=True)
class Part:
    """One of the two tasks: features (N, D), target (N,) and a name for people.

    ``offset`` is the Frobenius norm of the scaled features over that of the standardised ones,
    which counts the digits that their means took (see `hessian_spectrum.relative_tolerance`).
    """

    name: str
    features: NDArray[np.float64]
    target: NDArray[np.float64]
    offset: float = 1.0


@dataclass(frozen=True)
class Paired:
    """D_P and D_H as two parts of one table."""

    primary: Part
    harmful: Part

    def build(self, name: str, parameters: dict[str, Any], seeds: list[int]) -> TaskSet:
        """Make the one pair of tasks for each seed."""
        inputs = np.concatenate([self.primary.features, self.harmful.features])
        tasks: list[Task] = []
        index = torch.zeros(len(seeds), 1, 2, dtype=torch.int64)
        for s, seed in enumerate(seeds):
            offset = 0
            for role, part in enumerate((self.primary, self.harmful)):
                rows = np.arange(len(part.target))[: parameters["rows"]]
                if parameters["test_fraction"] > 0:
                    shuffled = np.random.default_rng([seed, 3, role]).permutation(rows)
                    held_out = round(len(rows) * parameters["test_fraction"])
                    test, rows = np.sort(shuffled[:held_out]), np.sort(shuffled[held_out:])
                else:
                    test = rows[:0]
                    if s > 0:  # nothing depends on the seed: share the task
                        index[s] = index[0]
                        continue
                index[s, 0, role] = len(tasks)
                tasks.append(
                    Task(
                        part.name,
                        torch.from_numpy(rows + offset),
                        torch.from_numpy(part.target[rows]),
                        torch.from_numpy(test + offset),
                        torch.from_numpy(part.target[test]),
                    )
                )
                offset += len(part.target)
        return build_task_set(
            name=name,
            loss="regression",
            accuracy=False,
            inputs=torch.from_numpy(inputs),
            tasks=tasks,
            pair_names=[(self.primary.name, self.harmful.name)],
            task_index=index,
            seeds=seeds,
            tolerance=parameters["tolerance"],
            offset=max(self.primary.offset, self.harmful.offset),
        )


def require_columns(frame: pd.DataFrame, columns: list[str], where: str) -> None:
    """Refuse a table that lacks a column, naming it and those that are there."""
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        present = ", ".join(map(str, frame.columns[:12])) + (" …" if frame.shape[1] > 12 else "")
        raise UserError(
            f"{where}: column {', '.join(map(repr, missing))} is missing. Its columns are: "
            f"{present}. Check the file, or the column names in the config."
        )


def _unusable(where: str, column: object, row: object, count: int) -> str:
    return (
        f"{where}, column {column!r}, row {row}: the value is missing or infinite ({count} such in "
        "this column). Fill or remove them; for a CSV table `missing: zero` fills missing features "
        "with 0."
    )


def standardised_part(
    frame: pd.DataFrame, *, name: str, target: str, exclude: list[str], where: str
) -> Part:
    """Standardise one part of a table: features and target to mean 0 and variance 1.

    Text columns become the rank of their value in alphabetical order. Means and variances
    (N − 1 in the denominator) are those of this part alone; a column that is constant in it
    becomes 0. Zheng et al., ICML 2025, standardise so, and so does their code for the target.

    Args:
        frame: the part's rows, without missing values.
        name: of the task, for people.
        target: column to predict.
        exclude: columns that are no features (besides the target).
        where: file and part, for messages.

    Raises:
        UserError: for no rows, missing or infinite values, or a constant target.
    """
    if frame.empty:
        raise UserError(
            f"{where}: no rows (an empty class). Choose values of the split column that occur."
        )
    numeric = {}
    for column in frame.columns:
        if column in exclude and column != target:
            continue
        values = frame[column]
        if (gaps := values.isna()).any():
            raise UserError(_unusable(where, column, frame.index[gaps][0], int(gaps.sum())))
        if not pd.api.types.is_numeric_dtype(values):
            if column == target:
                raise UserError(f"{where}, column {column!r}: the target is text, not a number.")
            values = pd.Series(np.unique(values.astype(str), return_inverse=True)[1], frame.index)
        values = values.astype(np.float64)
        if (bad := ~np.isfinite(values)).any():
            raise UserError(_unusable(where, column, frame.index[bad][0], int(bad.sum())))
        numeric[column] = values
    if set(numeric) <= {target}:
        raise UserError(f"{where}: no feature columns are left besides the target {target!r}.")
    table = pd.DataFrame(numeric)
    deviation = table.std(ddof=1)
    if not deviation[target] > 0:
        raise UserError(
            f"{where}, column {target!r}: the target is constant "
            f"({table[target].iloc[0]:g}), there is nothing to learn. Choose another column."
        )
    table = (table - table.mean()) / deviation.replace(0, 1)
    features = table.drop(columns=target).to_numpy(np.float64)
    return Part(name, np.ascontiguousarray(features), table[target].to_numpy(np.float64))
