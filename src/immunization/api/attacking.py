"""Attack a task through an extractor, and without one, with many attackers at once."""

from __future__ import annotations

import importlib
import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from immunization.api._show import Shown
from immunization.api.attackers import ONE_SOLVE, class_of, standard
from immunization.api.extractor import Extractor
from immunization.linear.attack import with_intercept
from immunization.linear.engines._job import Attacker, Job
from immunization.linear.own_tasks.pairs import attacked_set, require_task
from immunization.linear.own_tasks.scaling import Scale
from immunization.linear.own_tasks.task import Task
from immunization.reporting.text import display_label, format_number
from immunization.runtime.errors import UserError
from immunization.runtime.threads import map_threads
from immunization.study.components import import_component
from immunization.study.derived import engine
from immunization.study.kinds import schema
from immunization.study.parameters import completed

BUDGET = 2000
"""Steps after which an attacker gives up, as in the default study."""
SEEDS = (0, 1, 2)
"""Draws of the rows that are held out; intervals are over them."""
PLAIN, IMMUNIZED = "as released", "immunized"


@dataclass(frozen=True)
class HeldTheta:
    """θ in memory, where stages read it from a file (`immunization.linear.files.Extractors`)."""

    label: str
    matrix: Tensor
    seeds: Sequence[int]
    singular: bool = False

    def theta(self, seed: int, device: str = "cpu", pairs: Sequence[int] | None = None) -> Tensor:
        """θ of each pair, shape (B, D, D)."""
        count = 1 if pairs is None else len(pairs)
        return self.matrix.to(device).expand(count, -1, -1).contiguous()

    def sharing(self) -> dict[int, list[int]]:
        """Seeds by the one that owns their θ: the rows of each are others."""
        return {seed: [seed] for seed in self.seeds}


@dataclass(frozen=True, repr=False)
class AttackResults(Shown):
    """What attackers needed and got.

    Attributes:
        steps: one row an extractor, attacker and seed: ``extractor``, ``attacker``, ``class``,
            ``loss``, ``fraction`` of the rows, ``unseen_rows``, ``seed``, ``steps`` (NaN where it
            diverged or takes none), ``censored``, ``diverged``, ``accuracy`` on held-out rows (NaN
            for a regression), ``flops``.
        budget: steps after which an attacker gave up.
        threshold: share of the loss gap at which one is done.
    """

    steps: pd.DataFrame
    budget: int
    threshold: float

    def to_frame(self) -> pd.DataFrame:
        """Means over seeds, one row an attacker: steps, slowdown S and accuracy.

        Steps are the geometric mean over seeds; ``bound`` marks those at which the budget ran out.
        """
        return summary(self.steps)

    def _parts(self) -> list[tuple[str, pd.DataFrame]]:
        return [("", shown(self.to_frame()))]


def attack(
    harmful: Task,
    extractor: Any = None,
    *,
    attackers: Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None,
    budget: int = BUDGET,
    threshold: float = 1e-3,
    intercept: bool | None = None,
    seeds: Sequence[int] = SEEDS,
) -> AttackResults:
    """Train probes on a task by many attackers, through an extractor and without.

    >>> import numpy as np
    >>> import immunization as im
    >>> random = np.random.default_rng(0)
    >>> x = random.normal(size=(200, 5))
    >>> harmful = im.Task(x, (x[:, 0] > 0).astype(int))
    >>> layer = np.diag([0.1, 1, 1, 1, 1])
    >>> got = im.attack(harmful, layer, attackers=["gradient_descent", "least_squares"], seeds=[0])
    >>> frame = got.to_frame().set_index("attacker")
    >>> bool(frame.loc["gradient_descent", "slowdown"] > frame.loc["least_squares", "slowdown"])
    True

    Args:
        harmful: the task. With several classes a probe is one for each class against the rest, an
            attacker is done when all of them are, and its accuracy is that of the largest score.
        extractor: see `Extractor.of`; None attacks the features as they are.
        attackers: names of families (files of ``linear/attacks``) or of `standard` attackers; or a
            mapping from labels to entries as in a config, such as
            ``{"slow": {"use": "gradient_descent", "factor": 0.1}}``. None takes the standard ones.
        budget: steps after which an attacker gives up.
        threshold: share of the loss gap at which it is done.
        intercept: whether every probe has one; by default as the extractor was made.
        seeds: draws of the rows that are held out.

    Raises:
        UserError: for a task without labels, widths that do not fit, an unknown attacker or
            parameter.

    Results hold for the attackers that are named, on a linear or non-linear probe behind the
    extractor; whoever can change the extractor itself is not among them.
    """
    require_task(harmful, "harmful")
    whole = check_numbers(budget, threshold, seeds)
    if harmful.kind == "none":
        raise UserError("attackers learn labels, and this task has none.")
    layer = None if extractor is None else Extractor.of(extractor)
    if layer is not None and layer.width != harmful.width:
        raise UserError(
            f"the extractor takes {layer.width} features and the task has {harmful.width}."
        )
    given = named(attackers)
    centred = intercept if intercept is not None else bool(layer and layer.intercept)
    scale = layer.scaler.of(1) if layer else None
    return run(harmful, layer, given, budget, threshold, centred, whole, scale=scale)


def check_numbers(budget: int, threshold: float, seeds: Sequence[int]) -> list[int]:
    """The seeds as whole numbers, where they, the budget and the threshold mean something.

    Raises:
        UserError: naming the number and what is allowed.
    """
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
        raise UserError(f"budget is {budget!r}; a whole number of at least 1 step is needed.")
    if not 0 < threshold < 1:
        raise UserError(f"threshold is {threshold!r}; a share between 0 and 1 is needed.")
    try:
        whole = [operator.index(seed) for seed in seeds]  # numpy's too
    except TypeError:
        whole = []
    if not whole or min(whole) < 0 or len(set(whole)) < len(whole):
        raise UserError(
            f"seeds are {list(seeds)!r}; different whole numbers from 0, at least one, are needed."
        )
    return whole


def named(
    attackers: Sequence[str] | Mapping[str, Mapping[str, Any]] | None,
) -> dict[str, dict[str, Any]]:
    """Entries of attackers by label, as in a config.

    Raises:
        UserError: for none, and for a single string, which would be read letter by letter.
    """
    known = standard()
    if attackers is None:
        return known
    if isinstance(attackers, str):
        raise UserError(f"attackers: give a list, such as [{attackers!r}].")
    if not len(attackers):
        raise UserError("attackers: the list is empty; None takes the standard ones.")
    if isinstance(attackers, Mapping):
        return {label: dict(entry) for label, entry in attackers.items()}
    return {label: known.get(label, {}) for label in attackers}


def run(
    task: Task,
    layer: Extractor | None,
    attackers: dict[str, dict[str, Any]],
    budget: int,
    threshold: float,
    intercept: bool,
    seeds: list[int],
    *,
    scale: Any = None,
) -> AttackResults:
    """All attackers against the features as they are (after the layer's own scaling), and θ."""
    tasks = attacked_set(task, scale or Scale(), intercept=intercept, seeds=seeds)
    eye = torch.eye(task.width, dtype=torch.float64)
    files = [HeldTheta(PLAIN, eye, seeds)]
    if layer is not None:
        files.append(HeldTheta(IMMUNIZED, layer.theta, seeds, layer.singular))
    settings = {
        key: rule["default"] for key, rule in schema()["properties"]["attack"]["properties"].items()
    } | {
        "budget": budget, "threshold": threshold, "benign": [], "third_tasks": 0,
        "sampled_pairs": None, "budget_likelihood": min(budget, 300),
        "nonlinear_rows": nonlinear_rows(task),
    }  # fmt: skip
    engines: dict[str, list[Attacker]] = {}
    classes = {}
    for label, entry in attackers.items():
        parameters = dict(entry)
        use = str(parameters.pop("use", label))
        complete = completed("linear/attacks", "attacker", use, parameters)
        classes[label] = class_of(label, entry)
        if task.is_multiclass and complete.get("loss") == "softmax":
            raise UserError(
                f"attacker '{label}': a softmax probe of {len(task.classes)} classes is not "
                "available; loss='logistic' takes each class against the rest."
            )
        member = Attacker(
            label, use, import_component("linear/attacks", use),
            with_intercept(complete) if intercept else complete,
        )  # fmt: skip
        name = engine({"use": use, "parameters": complete | {"loss": member.loss}})
        engines.setdefault(name, []).append(member)
    work: list[Any] = []
    for name, members in engines.items():
        job = Job(tasks, files, members, settings, "cpu")  # type: ignore[arg-type]
        work += importlib.import_module(f"immunization.linear.engines.{name}").units(job)
    before, threads = torch.get_num_threads(), _threads()
    try:
        torch.set_num_threads(1)
        parts = map_threads(lambda unit: unit.run()[0], work, threads)
    finally:
        torch.set_num_threads(before)
    rows = [part for part in parts if len(part)]
    if not rows:
        raise UserError(
            f"none of the attackers {', '.join(attackers)} works on a {task.kind}: probes with "
            "another loss than the squared one, and those that predict, need classes."
        )
    return AttackResults(together(pd.concat(rows, ignore_index=True), classes), budget, threshold)


def nonlinear_rows(task: Task) -> int:
    """Rows of a non-linear probe: 2,000 as in a study, fewer where many features and classes would
    make minutes of it."""
    return max(500, min(2000, 2_000_000 // (task.width * task.targets.shape[1])))


def _threads() -> int:
    """Cores that this process may use; no more than torch was given threads."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = len(allowed(0)) if allowed else os.cpu_count() or 1
    return max(1, min(cores, torch.get_num_threads()))


def together(frame: pd.DataFrame, classes: dict[str, str]) -> pd.DataFrame:
    """One row an extractor, attacker and seed: an attacker is done when it is with every class."""
    columns = [
        "extractor", "attacker", "class", "loss", "fraction", "unseen_rows", "seed", "steps",
        "censored", "diverged", "accuracy", "flops",
    ]  # fmt: skip
    for name in ("steps", "flops", "accuracy_end"):
        if name not in frame:
            frame[name] = float("nan")
    for name in ("censored", "diverged"):
        known = frame[name] if name in frame else pd.Series(False, frame.index)
        frame[name] = known.eq(True)
    groups = frame.groupby(
        ["method", "attack", "loss", "fraction", "unseen_rows", "seed"], sort=False
    )
    made = pd.DataFrame(
        {
            "steps": groups["steps"].max(),
            "censored": groups["censored"].any(),
            "diverged": groups["diverged"].any(),
            "accuracy": groups["accuracy_end"].mean(),
            "flops": groups["flops"].sum(min_count=1),
        }
    ).reset_index()
    made["steps"] = made["steps"].mask(made["diverged"])
    made = made.rename(columns={"method": "extractor", "attack": "attacker"})
    made["class"] = made["attacker"].map(classes)
    order = {label: place for place, label in enumerate(classes)}
    made = made.iloc[made["attacker"].map(order).argsort(kind="stable")]
    return made[columns].reset_index(drop=True)


def geometric(steps: pd.Series) -> float:
    """Geometric mean of steps over seeds; NaN where one is not known."""
    return float(np.exp(np.log(steps.clip(lower=1)).mean())) if steps.notna().all() else np.nan


def summary(steps: pd.DataFrame) -> pd.DataFrame:
    """See `AttackResults.to_frame`."""
    rows = []
    for label, group in steps.groupby("attacker", sort=False):
        row: dict[str, Any] = {"attacker": label, "class": group["class"].iloc[0]}
        counts = {}
        for kind, part in group.groupby("extractor", sort=False):
            counts[kind] = geometric(part["steps"])
            row |= {
                f"steps, {kind}": counts[kind],
                f"bound, {kind}": bool(part["censored"].any()),
                f"diverged, {kind}": bool(part["diverged"].any()),
                f"accuracy, {kind}": float(part["accuracy"].mean()),
            }
        if IMMUNIZED in counts and not row.get(f"bound, {PLAIN}"):
            row["slowdown"] = counts[IMMUNIZED] / counts[PLAIN]
        elif IMMUNIZED in counts:
            row["slowdown"] = np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """`summary` for people."""
    table = pd.DataFrame({"attacker": frame["attacker"].map(display_label)})
    table["class"] = frame["class"]
    kinds = [kind for kind in (PLAIN, IMMUNIZED) if f"steps, {kind}" in frame]
    for kind in kinds:
        cells = []
        for _, row in frame.iterrows():
            value = row[f"steps, {kind}"]
            if row[f"diverged, {kind}"]:
                cells.append("diverged")
            elif value != value:
                cells.append("–")
            elif row[f"bound, {kind}"] and row["class"] == ONE_SOLVE:
                cells.append("not done")
            else:
                bound = "≥ " if row[f"bound, {kind}"] else ""
                cells.append(bound + (f"{value:.0f}" if value >= 10 else format_number(value)))
        table[f"steps, {kind}"] = cells
    if "slowdown" in frame:
        bounds = frame[f"bound, {IMMUNIZED}"].map({True: "≥ ", False: ""})
        table["slowdown S"] = [
            "–" if value != value else sign + format_number(value)
            for sign, value in zip(bounds, frame["slowdown"], strict=True)
        ]
    for kind in kinds:
        accuracies = frame[f"accuracy, {kind}"]
        if accuracies.notna().any():
            table[f"accuracy %, {kind}"] = [
                "–" if value != value else f"{100 * value:.1f}" for value in accuracies
            ]
    return table
