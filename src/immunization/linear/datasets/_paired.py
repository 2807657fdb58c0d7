"""Two regression tasks on the same columns, made from the two parts of one table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from immunization.linear.datasets._scaling import Scaling, fitted, without_round_off
from immunization.linear.tasks import Task, TaskSet, build_task_set
from immunization.runtime.errors import UserError

PARAMETERS = {
    "rows": {
        "type": ["integer", "null"],
        "minimum": 2,
        "default": None,
        "description": "number of rows of each part, the first ones (the released code uses 200); "
        "null uses all.",
    },
    "tolerance": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "exclusiveMaximum": 1,
        "default": None,
        "description": "relative tolerance on singular values at which the rank is decided; null "
        "for what rounding of the data and round-off allow (docs/hessian_spectrum.md).",
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

    def rows(self, chosen: NDArray[np.int64]) -> Part:
        """Some rows."""
        return replace(self, features=self.features[chosen], target=self.target[chosen])


@dataclass(frozen=True)
class Paired:
    """D_P and D_H as two parts of one table.

    Attributes:
        primary, harmful: scaled on all of their rows.
        raw: the same before scaling, where each seed scales by its own training rows of D_P.
        columns: names of the features.
        scale: "within", "joint" or "none".
    """

    primary: Part
    harmful: Part
    raw: tuple[Part, Part] | None = None
    columns: list[str] = field(default_factory=list)
    scale: str = "within"

    def build(
        self, name: str, parameters: dict[str, Any], seeds: list[int], *, intercept: bool = False
    ) -> TaskSet:
        """Make the one pair of tasks for each seed.

        Rows of the inputs are those of D_P and D_H, once for all seeds that scale them alike.
        """
        tasks: list[Task] = []
        index = torch.zeros(len(seeds), 1, 2, dtype=torch.int64)
        blocks: list[NDArray[np.float64]] = []
        scalings: dict[str, Any] = {}
        offset = 1.0
        start = 0
        for s, seed in enumerate(seeds):
            shares = parameters["test_fraction"] > 0
            if s > 0 and not shares:  # nothing depends on the seed: share the tasks
                index[s] = index[0]
                continue
            rows = [
                split(len(part.target), parameters, seed, role)
                for role, part in enumerate((self.primary, self.harmful))
            ]
            parts, scaling = self._scaled([train for train, _ in rows])
            if scaling is not None:
                scalings[str(seed)] = {
                    "mean": scaling.mean.tolist(), "deviation": scaling.deviation.tolist(),
                }  # fmt: skip
            if s == 0 or scaling is not None:
                start = sum(map(len, blocks))
                blocks += [part.features for part in parts]
            first = start
            for role, (part, (train, test)) in enumerate(zip(parts, rows, strict=True)):
                index[s, 0, role] = len(tasks)
                tasks.append(
                    Task(
                        part.name,
                        torch.from_numpy(train + first),
                        torch.from_numpy(part.target[train]),
                        torch.from_numpy(test + first),
                        torch.from_numpy(part.target[test]),
                    )
                )
                first += len(part.target)
                offset = max(offset, part.offset)
        return build_task_set(
            name=name,
            loss="regression",
            accuracy=False,
            inputs=torch.from_numpy(np.concatenate(blocks)),
            tasks=tasks,
            pair_names=[(self.primary.name, self.harmful.name)],
            task_index=index,
            seeds=seeds,
            tolerance=parameters["tolerance"],
            intercept=intercept,
            offset=offset,
            info={"columns": self.columns, "scale": self.scale, "scaling": scalings},
        )

    def _scaled(self, train: list[NDArray[np.int64]]) -> tuple[tuple[Part, Part], Scaling | None]:
        """Both parts, and what they were scaled by where training rows decide it."""
        if self.raw is None:
            return (self.primary, self.harmful), None
        return jointly(self.raw, train)


def split(
    count: int, parameters: dict[str, Any], seed: int, role: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows for training, and those held out."""
    rows = np.arange(count)[: parameters["rows"]]
    if parameters["test_fraction"] == 0:
        return rows, rows[:0]
    shuffled = np.random.default_rng([seed, 3, role]).permutation(rows)
    held_out = round(len(rows) * parameters["test_fraction"])
    if held_out >= len(rows):
        raise UserError(
            f"data set key 'test_fraction': {parameters['test_fraction']} of {len(rows)} rows "
            "leaves none for training. Lower it, or give more rows."
        )
    return np.sort(shuffled[held_out:]), np.sort(shuffled[:held_out])


def jointly(
    raw: tuple[Part, Part], train: list[NDArray[np.int64]] | None = None
) -> tuple[tuple[Part, Part], Scaling]:
    """Features of both parts by mean and deviation of D_P's training rows; each target by its own.

    So a θ that is made on them holds for other rows of either task, scaled by the same numbers.
    """
    chosen = train or [np.arange(len(part.target)) for part in raw]
    known = [part.rows(rows) for part, rows in zip(raw, chosen, strict=True)]
    scaling = fitted(known[0].features, known[1].features)
    parts = []
    for part, scaled_alone in zip(raw, known, strict=True):
        parts.append(scaled(part, scaling, fitted(scaled_alone.target[:, None])))
    return (parts[0], parts[1]), scaling


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


def checked(frame: pd.DataFrame, target: str, where: str) -> None:
    """Refuse a part without rows or features, with values that are not finite, or nothing to learn.

    Args:
        frame: numbers, the target among the columns, rows of the file as index.
        target: column to predict.
        where: file and part, for messages.

    Raises:
        UserError: for any of these.
    """
    if frame.empty:
        raise UserError(
            f"{where}: no rows (an empty class). Choose values of the split column that occur."
        )
    if set(frame.columns) <= {target}:
        raise UserError(f"{where}: no feature columns are left besides the target {target!r}.")
    for column in frame.columns:
        bad = ~np.isfinite(frame[column])
        if bad.any():
            raise UserError(_unusable(where, column, frame.index[bad][0], int(bad.sum())))
    if frame[target].min() == frame[target].max():
        raise UserError(
            f"{where}, column {target!r}: the target is constant "
            f"({frame[target].iloc[0]:g}), there is nothing to learn. Choose another column."
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
        numeric[column] = values.astype(np.float64)
    table = pd.DataFrame(numeric, index=frame.index)
    checked(table, target, where)
    features = table.drop(columns=target).to_numpy(np.float64)
    return within(Part(name, features, table[target].to_numpy(np.float64)))


def within(part: Part) -> Part:
    """A part standardised by itself."""
    return scaled(part, fitted(part.features), fitted(part.target[:, None]))


def scaled(part: Part, scaling: Scaling, target: Scaling) -> Part:
    """A part whose features and target are scaled."""
    offset = scaling.offset(part.features)
    features = without_round_off(scaling(part.features), offset)
    labels = target(part.target[:, None])[:, 0]
    return Part(part.name, np.ascontiguousarray(features), labels, offset)
