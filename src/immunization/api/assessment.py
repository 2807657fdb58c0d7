"""Is it immunized, what could be reached, and who breaks it: one answer for two tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from immunization.api import _verdict
from immunization.api._show import Shown
from immunization.api.attacking import (
    BUDGET,
    SEEDS,
    AttackResults,
    check_numbers,
    named,
    run,
    shown,
)
from immunization.api.extractor import Extractor, record_of
from immunization.api.immunizing import immunize
from immunization.linear.evaluation import report_role
from immunization.linear.own_tasks.pairs import check_pair, pair_set
from immunization.linear.own_tasks.task import Task
from immunization.linear.spectra import evaluate_identity, result_rows
from immunization.linear.tasks import TaskSet
from immunization.reporting.text import display_label, format_number
from immunization.runtime.errors import UserError
from immunization.study.kinds import schema

BENIGN = ("gradient_descent", "conjugate_gradients", "least_squares")
"""Attackers that also train the benign task, which should stay fast."""


@dataclass(frozen=True, repr=False)
class Assessment(Shown):
    """What `assess` found.

    Attributes:
        kappas: one row a task and state ("as released", "immunized" or "if immunized"): ``rank``,
            ``rows``, ``dimension``, κ by each definition (``kappa``, ``kappa_released`` and
            whether that is ``kappa_released_floored``, ``kappa_ridge``), ``rank_tolerance``.
        ratios: (i), (ii) and RIR by each definition, the limit without and with an intercept, the
            share of the harmful energy outside, and the optimality.
        attacks: on the harmful task; None where it has no labels.
        benign_attacks: on the benign task, likewise.
        best: the best attacker of each class before and after.
        verdict: "broken", "slowed", "not shown", "withstood", "destroyed", "unknown" or
            "no verdict" (one seed), as docs/science.md defines them; empty without an attack.
        sentences: three, in words.
        given: whether an extractor was given; without one, "after" is what `immunize` would make.
        record: how the numbers were made.
    """

    kappas: pd.DataFrame
    ratios: dict[str, float]
    attacks: AttackResults | None
    benign_attacks: AttackResults | None
    best: pd.DataFrame
    verdict: str
    sentences: list[str]
    given: bool
    record: Mapping[str, Any] = field(default_factory=dict)
    title = "Is it immunized?"

    def to_frame(self) -> pd.DataFrame:
        """Every number in one long table: ``part``, ``item``, ``quantity``, ``value``."""
        rows: list[tuple[str, str, str, Any]] = []
        for _, row in self.kappas.iterrows():
            item = f"{row['task']}, {row['state']}"
            rows += [("kappa", item, str(k), row[k]) for k in self.kappas.columns[2:]]
        rows += [("ratio", "", name, value) for name, value in self.ratios.items()]
        for part, results in (("harmful", self.attacks), ("benign", self.benign_attacks)):
            if results is not None:
                frame = results.to_frame()
                for _, row in frame.iterrows():
                    quantities = frame.columns.drop(["attacker", "class"])
                    rows += [(f"attack on {part}", row["attacker"], str(k), row[k])
                             for k in quantities]  # fmt: skip
        rows.append(("verdict", "", "verdict", self.verdict))
        return pd.DataFrame(rows, columns=["part", "item", "quantity", "value"])

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON; numbers that are not finite become text."""
        frames = {"kappas": self.kappas, "best": self.best}
        for name, results in (("attacks", self.attacks), ("benign_attacks", self.benign_attacks)):
            if results is not None:
                frames[name] = results.to_frame()
        made: dict[str, Any] = {n: frame.to_dict(orient="records") for n, frame in frames.items()}
        made |= {
            "ratios": self.ratios, "verdict": self.verdict, "sentences": self.sentences,
            "record": dict(self.record),
        }  # fmt: skip
        return plain_numbers(made)

    def _sentences(self) -> list[str]:
        return self.sentences

    def _legend(self) -> list[str]:
        tasks, numbers = self.record["tasks"], self.record["parameters"]
        return [
            "κ: largest over smallest non-zero eigenvalue of XᵀX. (i): κ of the harmful task after "
            "over before, wanted large. (ii): the same of the benign task, wanted at most 1.",
            f"Steps: to a loss gap of {numbers['threshold']:g}; ≥: the budget of "
            f"{numbers['budget']} steps ran out; –: it takes none. S: steps after over steps "
            f"before. {len(self.record['seeds'])} draws of held-out rows.",
            f"{tasks['benign']}. {tasks['harmful']}. Layer: "
            f"{self.record['extractor'].get('method', 'unknown')}, scale {self.record['scale']}. "
            f"immunization {self.record['immunization']}.",
        ]

    def _parts(self) -> list[tuple[str, pd.DataFrame]]:
        parts = [
            ("Condition numbers of the probe's Hessian", _shown_kappas(self.kappas)),
            ("Immunization", _shown_ratios(self.ratios)),
        ]
        if not self.best.empty:
            parts.append(
                ("Best attacker of each class on the harmful task", _shown_best(self.best))
            )
        if self.benign_attacks is not None:
            table = shown(self.benign_attacks.to_frame()).drop(columns="class")
            parts.append(("Attackers on the benign task", table))
        return parts


def plain_numbers(value: Any) -> Any:
    """Values that JSON has."""
    if isinstance(value, Mapping):
        return {str(key): plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_numbers(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value


def _layer_of(
    benign: Task, harmful: Task, extractor: Any, scale: str, intercept: bool | None
) -> tuple[Extractor, bool]:
    """The layer that was given, or the one that `immunize` would make; and whether κ is centred."""
    if extractor is None:
        layer = immunize(benign, harmful, scale=scale, intercept=bool(intercept))
        return layer, bool(intercept)
    layer = Extractor.of(extractor)
    if layer.width != benign.width:
        raise UserError(
            f"the extractor takes {layer.width} features and the tasks have {benign.width}."
        )
    if scale not in ("none", layer.scaler.kind):
        raise UserError(
            f"scale is {scale!r}, and the extractor was made with {layer.scaler.kind!r}. Scaling "
            "is a part of the layer; leave the argument out."
        )
    return layer, layer.intercept if intercept is None else intercept


def assess(
    benign: Task,
    harmful: Task,
    extractor: Any = None,
    *,
    scale: str = "none",
    intercept: bool | None = None,
    attackers: Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None,
    budget: int = BUDGET,
    threshold: float = 1e-3,
    seeds: Sequence[int] = SEEDS,
    ridge: float = 1e-6,
) -> Assessment:
    """Condition numbers, the limit, attackers and a verdict.

    >>> import numpy as np
    >>> import immunization as im
    >>> random = np.random.default_rng(0)
    >>> x, z = random.normal(size=(300, 6)), random.normal(size=(200, 6)) * np.geomspace(1, 3, 6)
    >>> benign = im.Task(x, (x[:, 0] > 0).astype(int), name="benign")
    >>> harmful = im.Task(z, (z[:, 0] > 0).astype(int), name="harmful")
    >>> found = im.assess(benign, harmful, seeds=[0, 1])
    >>> found.verdict
    'broken'

    Args:
        benign: the task that the model is released for, D_P.
        harmful: the task that it should be hard to fine-tune for, D_H.
        extractor: the layer that was released (see `Extractor.of`). Without one the features are
            assessed as they are, and beside them what `immunize` would make of them: the most that
            an invertible linear layer can reach.
        scale: as for `immunize`, where no extractor is given; an extractor brings its own.
        intercept: whether κ is that of centred features and every probe has an intercept; by
            default as the extractor was made. The limit is given for both.
        attackers, budget, threshold, seeds: see `attack`.
        ridge: of the ridge condition number, relative to the largest eigenvalue.

    Returns:
        Numbers, tables and a verdict; it shows itself in a notebook.

    Raises:
        UserError: for tasks that do not fit together or an extractor of another width.

    κ, ranks and the limit are of all rows. Attackers train on three quarters of the harmful rows
    and are tested on the rest, with a draw for each seed, unless the task has test rows of its own.
    The verdict holds for linear probes with a squared loss on all rows, behind the layer; the table
    names other classes.
    """
    check_pair(benign, harmful)
    whole = check_numbers(budget, threshold, seeds)
    given = extractor is not None
    layer, centred = _layer_of(benign, harmful, extractor, scale, intercept)
    state = "immunized" if given else "if immunized"
    parameters = {
        key: rule["default"]
        for key, rule in schema()["properties"]["spectrum"]["properties"].items()
    } | {"ridge": ridge}
    tasks = pair_set(benign, harmful, layer.scaler, intercept=centred)
    before = evaluate_identity(tasks.batch(tasks.members(tasks.seeds[0])[:1]), parameters)
    eye = before.problem.identity()
    spectra, _ = result_rows(before, eye, {"state": "as released"}, parameters)
    after, ratios = result_rows(
        before, layer.theta[None], {"state": state}, parameters, singular=layer.singular
    )
    lost = _benign_lost(benign, tasks, layer)
    options = named(attackers)
    attacked = attacked_benign = None
    if harmful.kind != "none":
        attacked = run(harmful, layer, options, budget, threshold, centred, whole,
                       scale=layer.scaler.of(1))  # fmt: skip
    if benign.kind != "none":
        attacked_benign = run(benign, layer, named(BENIGN), budget, threshold, centred,
                              whole, scale=layer.scaler.of(0))  # fmt: skip
    row = {str(name): value for name, value in ratios.iloc[0].items()}
    numbers = {name: float(row[name]) for name in RATIOS} | {"benign_loss_share": lost}
    kappas = _kappas(pd.concat([spectra, after]))
    best = pd.DataFrame() if attacked is None else _verdict.best_of_classes(attacked.steps)
    word = "" if attacked is None else _verdict.word(attacked, harmful, lost)
    sentences = _verdict.sentences(
        kappas, numbers, attacked, attacked_benign, best, word, harmful,
        given=given, singular=layer.singular, resolved=bool(row["resolved"]), intercept=centred,
    )  # fmt: skip
    record = record_of(
        "assess", {"budget": budget, "threshold": threshold, "ridge": ridge},
        intercept=centred, scale=layer.scaler.kind, seeds=whole,
        extractor=dict(layer.record), tasks={"benign": repr(benign), "harmful": repr(harmful)},
        kappa="non-zero spectrum; rank decided from the data by a relative tolerance",
    )  # fmt: skip
    return Assessment(
        kappas, numbers, attacked, attacked_benign, best, word, sentences, given, record
    )


RATIOS = (
    "ratio_i", "ratio_ii", "rir", "limit", "limit_intercept", "harmful_energy_outside",
    "rir_with_unseen_floor", "optimality", "released_ratio_i", "released_ratio_ii", "released_rir",
    "ridge_ratio_i", "ridge_ratio_ii", "ridge_rir",
)  # fmt: skip


def _benign_lost(benign: Task, tasks: TaskSet, layer: Extractor) -> float:
    """Share of what the best benign probe explained that is gone, over all classes."""
    if benign.kind == "none":
        return float("nan")
    seed, count = tasks.seeds[0], benign.targets.shape[1]
    problem = tasks.batch(tasks.members(seed)[:count])
    eye = problem.identity()
    theta = layer.theta.expand(count, -1, -1)

    def explained(matrix: Tensor, *, singular: bool = False) -> Tensor:
        report = report_role(problem.primary, matrix, ridge=1e-6, singular=singular)
        return (report.energy - report.loss).sum()

    whole = explained(eye)
    return float(((whole - explained(theta, singular=layer.singular)) / whole).clamp(0, 1))


def _kappas(spectra: pd.DataFrame) -> pd.DataFrame:
    columns = [
        "rank", "rows", "dimension", "kappa", "kappa_released", "kappa_released_floored",
        "kappa_ridge", "effective_rank", "rank_tolerance", "resolved",
    ]  # fmt: skip
    frame = spectra.assign(task=spectra["role"].map({"P": "benign", "H": "harmful"}))
    frame = frame.sort_values("task", kind="stable")
    return frame[["task", "state", *columns]].reset_index(drop=True)


def _shown_kappas(kappas: pd.DataFrame) -> pd.DataFrame:
    table = kappas[["task", "state"]].copy()
    table["rank"] = [
        f"{rank} of {dimension}"
        for rank, dimension in zip(kappas["rank"], kappas["dimension"], strict=True)
    ]
    table["κ"] = kappas["kappa"].map(format_number)
    floors = kappas["kappa_released_floored"].map({True: " (floor)", False: ""})
    table["κ, released code"] = kappas["kappa_released"].map(format_number) + floors
    table["κ, ridge"] = kappas["kappa_ridge"].map(format_number)
    return table


def _shown_ratios(ratios: dict[str, float]) -> pd.DataFrame:
    rows = []
    for prefix, name in (("", "non-zero spectrum"), ("released_", "released code"),
                         ("ridge_", "ridge")):  # fmt: skip
        rows.append(
            [f"κ by {name}"]
            + [format_number(ratios[f"{prefix}{part}"]) for part in ("ratio_i", "ratio_ii", "rir")]
        )
    table = pd.DataFrame(rows, columns=["", "(i) harmful", "(ii) benign", "RIR = (i)/(ii)"])
    limits = pd.DataFrame(
        [
            ["limit of RIR, no intercept", "", "", format_number(ratios["limit"])],
            ["limit of RIR, intercept", "", "", format_number(ratios["limit_intercept"])],
            ["harmful energy outside D_P", "", "",
             f"{100 * ratios['harmful_energy_outside']:.3g} %"],
        ],
        columns=table.columns,
    )  # fmt: skip
    return pd.concat([table, limits], ignore_index=True)


def _shown_best(best: pd.DataFrame) -> pd.DataFrame:
    table = best[["class"]].copy()
    for when in ("before", "after"):
        table[f"{when}: attacker"] = best[f"attacker_{when}"].map(display_label)
        steps = best[f"steps_{when}"].map(lambda v: "–" if v != v else f"{v:.0f}")
        table["steps" + " " * (when == "after")] = (
            best[f"bound_{when}"].map({True: "≥ ", False: ""}) + steps
        )
        if best[f"accuracy_{when}"].notna().any():
            table["accuracy %" + " " * (when == "after")] = best[f"accuracy_{when}"].map(
                lambda v: "–" if v != v else f"{100 * v:.1f}"
            )
    table["S"] = [
        "–" if s != s else ("≥ " if b else "") + format_number(s)
        for s, b in zip(best["slowdown"], best["bound_after"], strict=True)
    ]
    return table
