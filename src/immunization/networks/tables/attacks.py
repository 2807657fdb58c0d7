"""Table: every attacker against every method."""

from __future__ import annotations

import pandas as pd

from immunization.networks.results import Results
from immunization.networks.slowdowns import (
    PLACE,
    attacker_kind,
    largest_share_tuned,
    slowdowns,
    steps_to_goal,
    with_goal,
)
from immunization.networks.tables._keys import in_order
from immunization.networks.tables.resistance import show_slowdown
from immunization.reporting.intervals_and_verdicts import rfd
from immunization.reporting.text import format_number, plus_minus

CAPTION = (
    "Every attacker, each with a goal of its own, on D_H and on third tasks: best held-out "
    "accuracy, steps to the goal, slowdown over θ₀ with its 95 % interval over seeds, RFD (100 · "
    "mean |b − i|/b over recorded accuracies) and signed, negative where the network became "
    "easier to fine-tune."
)
REPORT = 4
"""Place in the report."""


def attacks_table(curves: pd.DataFrame, uses: dict[str, str], target: float) -> pd.DataFrame:
    """Every attacker against every method, each attacker with a goal of its own."""
    tuned = with_goal(largest_share_tuned(curves), uses, target, "attack")
    table = slowdowns(steps_to_goal(tuned, "attack"), "attack")
    table["attacker_kind"] = table["attack"].map(uses).map(attacker_kind)
    return table.merge(deviations(tuned), how="left", on=[*PLACE, "method", "attack"])


def deviations(curves: pd.DataFrame) -> pd.DataFrame:
    """RFD of each attacker's best member, unsigned and signed."""
    keys = [*PLACE, "method", "attack", "seed"]
    area = curves.groupby([*keys, "member"], sort=False)["accuracy"].agg(["mean", "size"])
    # Closed forms have a single record, and no curve.
    area = area[area["size"] > 1]["mean"].reset_index()
    best = area.loc[area.groupby(keys)["mean"].idxmax(), [*keys, "member"]]
    chosen = curves.merge(best, on=[*keys, "member"])
    reference = chosen[chosen["method"] == "identity"]
    index = ["network", "task", "attack", "seed", "step"]
    base = reference.drop_duplicates(index).set_index(index)["accuracy"]
    rows = []
    for group, part in chosen.groupby([*PLACE, "method", "attack"], sort=False):
        before = base.reindex(pd.MultiIndex.from_frame(part[index])).to_numpy()
        both = before > 0
        deviation = rfd(before[both], part["accuracy"].to_numpy()[both])
        rows.append(
            dict(zip([*PLACE, "method", "attack"], group, strict=True))
            | {"rfd": deviation[0], "rfd_signed": deviation[1]}
        )
    return pd.DataFrame(rows, columns=[*PLACE, "method", "attack", "rfd", "rfd_signed"])


def show(table: pd.DataFrame) -> pd.DataFrame:
    """For people."""
    shown = table[["network", "harmful", "task", "attack", "method"]].copy()
    pairs = zip(100 * table["accuracy"], 100 * table["accuracy_std"], strict=True)
    shown["best accuracy (%)"] = [plus_minus(m, s) for m, s in pairs]
    shown["steps"] = [
        f"{'≥ ' if bound else ''}{format_number(steps)}"
        for steps, bound in zip(table["steps"], table["is_lower_bound"], strict=True)
    ]
    shown["slowdown"] = [show_slowdown(row) for row in table.itertuples()]
    shown["RFD"] = table["rfd"].map(format_number)
    shown["signed RFD"] = table["rfd_signed"].map(format_number)
    shown["fastest"] = table["fastest"].str.split(": ").str[1]
    return shown


def table(results: Results) -> pd.DataFrame:
    """Rows in the order of the config."""
    attacked = attacks_table(results.curves, results.uses, results.target)
    return in_order(attacked, results.order)
