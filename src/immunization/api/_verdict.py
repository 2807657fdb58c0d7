"""What numbers of an assessment amount to, in a word and in three sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from immunization.api.attacking import IMMUNIZED, PLAIN, AttackResults, geometric
from immunization.linear.own_tasks.task import Task
from immunization.linear.slowdowns import full_data_linear_attackers
from immunization.reporting.intervals_and_verdicts import interval, verdict
from immunization.reporting.text import display_label, format_number

HIDDEN = 0.02
"""A loss of accuracy of less than two points is not told."""


def best_of_classes(steps: pd.DataFrame) -> pd.DataFrame:
    """The best attacker of each class before and after: by steps, and by accuracy among those that
    take none or are not done.

    Returns:
        ``class``, and with ``_before`` and ``_after`` each of ``attacker``, ``steps`` (geometric
        mean over seeds), ``bound`` (the budget ran out), ``accuracy``; and ``slowdown``.
    """
    rows = []
    for name, group in steps.groupby("class", sort=False):
        row: dict[str, Any] = {"class": name}
        for when, kind in (("before", PLAIN), ("after", IMMUNIZED)):
            part = group[group["extractor"] == kind]
            known = part.groupby("attacker", sort=False).agg(
                steps=("steps", geometric),
                bound=("censored", "any"),
                accuracy=("accuracy", "mean"),
            )
            known["missing"] = known["steps"].isna()
            by = ["missing", "bound", "steps", "accuracy"]
            best = known.sort_values(by, ascending=[True, True, True, False], kind="stable").iloc[0]
            row |= {f"{key}_{when}": best[key] for key in ("steps", "bound", "accuracy")}
            row[f"attacker_{when}"] = str(best.name)
        known_before = not row["bound_before"] and row["steps_before"] == row["steps_before"]
        row["slowdown"] = row["steps_after"] / row["steps_before"] if known_before else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def chance(task: Task) -> float:
    """Accuracy without looking: the share of the largest class."""
    if task.is_multiclass:
        return float((task.targets > 0).double().mean(0).max())
    share = float((task.targets > 0).double().mean())
    return max(share, 1 - share)


def best_accuracy(steps: pd.DataFrame, kind: str) -> float:
    """The largest mean accuracy of an attacker; NaN where none is known."""
    part = steps[steps["extractor"] == kind]
    return float(part.groupby("attacker")["accuracy"].mean().max())


def of_all(steps: pd.DataFrame) -> tuple[np.ndarray, bool, list[float]]:
    """Of attackers with a squared loss on all rows, the best after over the best before, by seed;
    whether that is a lower bound; and by seed whether nobody was done."""
    part = full_data_linear_attackers(steps)
    values, bound, never = [], False, []
    for _, group in part[part["loss"] == "squared"].groupby("seed", sort=False):
        best = {}
        for kind, some in group.groupby("extractor", sort=False):
            some = some.dropna(subset=["steps"]).sort_values(["steps", "censored"])
            best[kind] = (np.nan, True) if some.empty else tuple(
                some.iloc[0][["steps", "censored"]])  # fmt: skip
        (before, unknown), (after, open_) = best[PLAIN], best[IMMUNIZED]
        values.append(np.nan if unknown else max(after, 1) / max(before, 1))
        bound |= bool(open_)
        never.append(float(open_))
    return np.array(values, dtype=float), bound, never


def word(attacked: AttackResults, harmful: Task, lost: float) -> str:
    """The verdict, by the rule of the studies' tables (`immunization.reporting`)."""
    values, bound, never = of_all(attacked.steps)
    if len(values) < 2:
        return "no verdict"
    known = bool(np.isfinite(values).all())
    slowdown, low, _ = interval(values) if known else (float("nan"),) * 3
    back = 0.0
    if harmful.kind == "classification":
        guess = chance(harmful)
        linear = full_data_linear_attackers(attacked.steps)
        before, after = best_accuracy(linear, PLAIN), best_accuracy(linear, IMMUNIZED)
        back = (after - guess) / (before - guess) if before > guess else 0.0
    gone = 0.0 if lost != lost else lost
    return verdict(slowdown, low, never, bound=bound, lost=gone, back=back)


MEANING = {
    "broken": "the best such probe needs no more steps than before",
    "slowed": "the best such probe needs more steps than before",
    "not shown": "no slowdown can be told from the spread over draws of the rows",
    "withstood": "no such probe solved the task within the budget",
    "destroyed": "the benign task is lost, and so no other verdict is given",
    "unknown": "no such probe solved the task before immunization either",
    "no verdict": "at least two seeds with such attackers are needed",
}
"""Of linear probes with a squared loss on all rows, which the verdict is about."""


def sentences(
    kappas: pd.DataFrame,
    ratios: dict[str, float],
    attacked: AttackResults | None,
    benign: AttackResults | None,
    best: pd.DataFrame,
    word: str,
    harmful: Task,
    *,
    given: bool,
    singular: bool,
    resolved: bool,
    intercept: bool,
) -> list[str]:
    """Three: what happens, or could, to κ; what attackers make of it; what each task keeps."""
    return [
        _of_kappa(kappas, ratios, given=given, singular=singular, resolved=resolved,
                  intercept=intercept),
        _of_attackers(attacked, best, ratios, word, given=given, intercept=intercept),
        _of_accuracy(ratios, attacked, benign, harmful),
    ]  # fmt: skip


def _of_kappa(
    kappas: pd.DataFrame, ratios: dict[str, float], *, given: bool, singular: bool, resolved: bool,
    intercept: bool,
) -> str:  # fmt: skip
    which = "limit_intercept" if intercept else "limit"
    limit = ratios[which]
    if limit == float("inf"):
        outside = format_number(100 * ratios["harmful_energy_outside"])
        bound = (
            f"RIR has no limit, since {outside} % of the harmful energy lies in directions that "
            "the benign task does not use"
        )
    else:
        bound = f"no invertible linear layer can reach an RIR of more than {format_number(limit)}"
    if given:
        unresolved = "" if resolved else " (float64 does not resolve the smallest eigenvalues)"
        lead = (
            f"The layer multiplies the harmful κ by {format_number(ratios['ratio_i'])} and the "
            f"benign κ by {format_number(ratios['ratio_ii'])}, an RIR of "
            f"{format_number(ratios['rir'])}{unresolved}"
        )
        if singular:
            return f"{lead}; it has lost directions on purpose, and limits do not bind it."
        return f"{lead}; {bound}."
    before = kappas[kappas["state"] == "as released"].set_index("task")["kappa"]
    return (
        f"As released, κ is {format_number(before['harmful'])} for the harmful task and "
        f"{format_number(before['benign'])} for the benign one, and {bound}."
    )


def _of_attackers(
    attacked: AttackResults | None,
    best: pd.DataFrame,
    ratios: dict[str, float],
    word: str,
    *,
    given: bool,
    intercept: bool,
) -> str:
    if attacked is None:
        return "No attacker was run, since the harmful task has no labels."
    descent = best[best["class"] == "gradient descent"]
    parts = []
    if len(descent):
        row = descent.iloc[0]
        if row["slowdown"] == row["slowdown"]:
            sign = "at least " if row["bound_after"] else ""
            parts.append(
                f"gradient descent needs {sign}{format_number(row['slowdown'])} times as many steps"
            )
        elif row["bound_before"] and row["bound_after"]:
            parts.append(f"gradient descent is not done after {attacked.budget} steps either way")
    part = full_data_linear_attackers(attacked.steps)
    part = part[(part["extractor"] == IMMUNIZED) & (part["loss"] == "squared")]
    middle = part.groupby("attacker", sort=False).agg(
        steps=("steps", geometric), bound=("censored", "any")
    )
    middle = middle.dropna().sort_values(["bound", "steps"], kind="stable")
    if middle.empty:
        parts.append("no linear probe with a squared loss on all rows was run, or all diverged")
    elif bool(middle.iloc[0]["bound"]):
        parts.append(f"no linear probe on all rows is done within {attacked.budget} steps")
    else:
        count = f"{middle.iloc[0]['steps']:.0f}"
        name = display_label(str(middle.index[0]))
        parts.append(
            f"the best linear probe on all rows ({name}) is done after {count} "
            f"step{'s' * (count != '1')}"
        )
    subject = "Against the layer" if given else "Against the layer that `immunize` would make"
    limit = ratios["limit_intercept" if intercept else "limit"]
    if not given and np.isfinite(limit) and ratios["rir"] > 0.99 * limit:
        subject += ", which reaches that limit"
    return f"{subject}, {', and '.join(parts)}: {word} ({MEANING[word]})."


def _benign_descent(benign: AttackResults | None) -> str:
    """What plain gradient descent on the benign task loses, where that shows."""
    if benign is None:
        return ""
    rows = benign.steps[benign.steps["attacker"] == "gradient_descent"]
    means = rows.groupby("extractor")["accuracy"].mean()
    before, after = means.get(PLAIN, np.nan), means.get(IMMUNIZED, np.nan)
    if not before - after > HIDDEN:
        return ""
    return (
        f", but gradient descent of {benign.budget} steps gets {100 * after:.1f} % on it "
        f"({100 * before:.1f} % before)"
    )


def _of_accuracy(
    ratios: dict[str, float],
    attacked: AttackResults | None,
    benign: AttackResults | None,
    harmful: Task,
) -> str:
    parts = []
    if attacked is not None and harmful.kind == "classification":
        steps = attacked.steps
        guess = f"{100 * chance(harmful):.1f} %"
        told = []
        for name, some in (
            ("linear", steps[steps["loss"] != "none"]),
            ("non-linear", steps[steps["loss"] == "none"]),
        ):
            after, before = best_accuracy(some, IMMUNIZED), best_accuracy(some, PLAIN)
            if after == after:
                told.append(
                    f"the best {name} probe {100 * after:.1f} % ({100 * before:.1f} % before)"
                )
        parts.append(f"on held-out harmful rows guessing gets {guess}, {', '.join(told)}")
    lost = ratios["benign_loss_share"]
    if lost == lost:
        share = format_number(100 * lost)
        text = f"the best linear benign probe loses {share} % of what it explained"
        if lost < 1e-6:
            text = "the best linear benign probe explains as much as before"
        parts.append(text + _benign_descent(benign))
    if not parts:
        return "Give labels to see what each task keeps."
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."
