"""Class-labelled inputs, and the pairs of tasks made from their classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from immunization.linear.tasks import Task, TaskSet, build_task_set
from immunization.runtime.errors import UserError

PARAMETERS = {
    "task": {
        "enum": ["digit", "one_vs_rest"],
        "default": "digit",
        "description": "digit: the inputs of one class, with one constant label (the released "
        "setting). one_vs_rest: a balanced binary task for each pair, whose negatives avoid both "
        "classes and are not shared between D_P and D_H.",
    },
    "pairs": {
        "oneOf": [
            {"const": "all"},
            {
                "type": "array",
                "minItems": 1,
                "uniqueItems": True,
                "items": {
                    "type": "array",
                    "items": {"type": ["integer", "string"], "minimum": 0},
                    "minItems": 2,
                    "maxItems": 2,
                },
            },
        ],
        "default": "all",
        "description": "all ordered pairs of classes, or a list of [D_P, D_H].",
    },
    "rows_per_class": {
        "type": ["integer", "null"],
        "minimum": 2,
        "default": None,
        "description": "largest number of training rows of each class; null uses all.",
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
        "exclusiveMinimum": 0,
        "maximum": 0.9,
        "default": 0.25,
        "description": "share held out, stratified and drawn by the seed, where the source has "
        "no test split of its own.",
    },
}


@dataclass(frozen=True)
class Labelled:
    """Inputs with class labels.

    Attributes:
        inputs: shape (N, D).
        labels: integer classes, shape (N,).
        test: boolean mask of the source's own test split, or None.
        scale, shift: features are ``inputs * scale + shift``.
        names: of the classes by number, where labels are text.
        dtype, offset: of the data, see `hessian_spectrum.range_factor`.
        info: stored with the tasks.
    """

    inputs: NDArray[Any]
    labels: NDArray[np.int64]
    test: NDArray[np.bool_] | None = None
    scale: float = 1.0
    shift: float = 0.0
    names: tuple[str, ...] = ()
    dtype: torch.dtype | None = None
    offset: float = 1.0
    info: dict[str, Any] = field(default_factory=dict)

    def label(self, number: int) -> str:
        """What a class is called."""
        return self.names[number] if self.names else str(number)

    def build(
        self, name: str, parameters: dict[str, Any], seeds: list[int], *, intercept: bool = False
    ) -> TaskSet:
        """Make the task pairs of a study."""
        pairs = self._pairs(name, parameters["pairs"])
        binary = parameters["task"] == "one_vs_rest"
        tasks: list[Task] = []
        index = torch.zeros(len(seeds), len(pairs), 2, dtype=torch.int64)
        known: dict[tuple[Any, ...], int] = {}
        for s, seed in enumerate(seeds):
            train, test = self._split(name, seed, parameters)
            # Without a split of our own, "digit" tasks are the same for every seed.
            split_key = seed if self.test is None or parameters["rows_per_class"] else None
            for b, (p, h) in enumerate(pairs):
                if binary:
                    made = self._binary(name, p, h, seed, train, test)
                    index[s, b] = torch.tensor([len(tasks), len(tasks) + 1])
                    tasks += made
                    continue
                for role, label in enumerate((p, h)):
                    key = (split_key, label)
                    if key not in known:
                        known[key] = len(tasks)
                        tasks.append(_one_class(self.label(label), train[label], test[label]))
                    index[s, b, role] = known[key]
        return build_task_set(
            name=name,
            loss="classification",
            accuracy=binary,
            inputs=torch.from_numpy(np.ascontiguousarray(self.inputs)),
            scale=self.scale,
            shift=self.shift,
            tasks=tasks,
            pair_names=[(self.label(p), self.label(h)) for p, h in pairs],
            task_index=index,
            seeds=seeds,
            tolerance=parameters["tolerance"],
            intercept=intercept,
            dtype=self.dtype,
            offset=self.offset,
            info=dict(self.info),
        )

    def _pairs(self, name: str, wanted: Any) -> list[tuple[int, int]]:
        classes = [int(label) for label in np.unique(self.labels)]
        if wanted == "all":
            return [(p, h) for p in classes for h in classes if p != h]
        if self.names:
            known = {name: number for number, name in enumerate(self.names)}
            for pair in wanted:
                if missing := [str(name) for name in pair if str(name) not in known]:
                    raise UserError(
                        f"data set '{name}', key 'pairs': there is no class {missing[0]!r}; the "
                        f"classes are {', '.join(self.names[:20])}."
                    )
            wanted = [[known[str(p)], known[str(h)]] for p, h in wanted]
        for p, h in wanted:
            if p not in classes or h not in classes or p == h:
                raise UserError(
                    f"data set '{name}', key 'pairs': [{p}, {h}] is not a pair of two different "
                    f"classes; the classes are {classes}."
                )
        return [(p, h) for p, h in wanted]

    def _split(
        self, name: str, seed: int, parameters: dict[str, Any]
    ) -> tuple[dict[int, NDArray[np.int64]], dict[int, NDArray[np.int64]]]:
        """Row numbers of each class, for training and held out."""
        random = np.random.default_rng([seed, 1])
        limit = parameters["rows_per_class"]
        train, test = {}, {}
        for label in (int(value) for value in np.unique(self.labels)):
            rows = np.flatnonzero(self.labels == label)
            if self.test is None:
                rows = random.permutation(rows)
                held_out = round(len(rows) * parameters["test_fraction"])
                test[label], rows = np.sort(rows[:held_out]), np.sort(rows[held_out:])
            else:
                test[label], rows = rows[self.test[rows]], rows[~self.test[rows]]
            if limit is not None and len(rows) > limit:
                rows = np.sort(random.choice(rows, limit, replace=False))
            if len(rows) == 0:
                raise UserError(f"data set '{name}': class {label} has no training rows.")
            train[label] = rows
        return train, test

    def _binary(
        self,
        name: str,
        p: int,
        h: int,
        seed: int,
        train: dict[int, NDArray[np.int64]],
        test: dict[int, NDArray[np.int64]],
    ) -> list[Task]:
        """The two balanced one-vs-rest tasks of a pair, with disjoint negatives."""
        random = np.random.default_rng([seed, 2, p, h])
        parts: dict[str, list[NDArray[np.int64]]] = {"train": [], "test": []}
        for part, rows in (("train", train), ("test", test)):
            others = [rows[label] for label in sorted(rows) if label not in (p, h)]
            pool = random.permutation(np.concatenate(others)) if others else np.array([], int)
            need_p, need_h = len(rows[p]), len(rows[h])
            if len(pool) < need_p + need_h:
                raise UserError(
                    f"data set '{name}', pair ({p}, {h}): one_vs_rest needs {need_p + need_h} "
                    f"{part} rows of other classes as negatives and there are {len(pool)}. "
                    "Lower rows_per_class, add classes, or use task: digit."
                )
            parts[part] = [pool[:need_p], pool[need_p : need_p + need_h]]
        made = []
        for role, label in enumerate((p, h)):
            rows_and_labels = []
            for part, rows in (("train", train), ("test", test)):
                negatives = parts[part][role]
                rows_and_labels += [
                    torch.from_numpy(np.concatenate([rows[label], negatives])),
                    torch.cat([torch.ones(len(rows[label])), -torch.ones(len(negatives))]).double(),
                ]
            made.append(Task(f"{self.label(label)} or not", *rows_and_labels))
        return made


def _one_class(name: str, train: NDArray[np.int64], test: NDArray[np.int64]) -> Task:
    return Task(
        name,
        torch.from_numpy(train),
        torch.ones(len(train), dtype=torch.float64),
        torch.from_numpy(test),
        torch.ones(len(test), dtype=torch.float64),
    )
