"""Table: steps to threshold and slowdown of every attacker."""

from __future__ import annotations

import numpy as np
import pandas as pd

from immunization.linear.results import Results
from immunization.reporting.text import format_number

CAPTION = (
    "Slowdown of each attacker on the harmful task: median over pairs and seeds of steps to "
    "threshold with θ over steps without immunization, which stand in the second column. '≥' "
    "marks a lower bound, because the budget ran out on pairs that the median rests on; '–' a "
    "slowdown that is unknown, because it ran out without immunization. An attacker that diverged "
    "is counted as that, and not among bounds. 'best of all' lets each pair's fastest attacker "
    "count."
)
REPORT = 4
"""Place in the report."""


def attacks_table(slowed: pd.DataFrame) -> pd.DataFrame:
    """Steps to threshold and slowdown against no immunization, for each attacker and the best.

    Where T(θ) was censored a slowdown is a lower bound, with T(θ) at the budget; where T(I) was
    censored it is unknown and left out, and no median is stated where that is so on half of the
    pairs or more. The same goes for pairs on which the attacker diverged, which are counted.

    Args:
        slowed: of `with_best_and_slowdown`.
    """
    keys = ["dataset", "attack", "method", "role"]
    rows = slowed[slowed["role"] != "T"]
    by = [rows[key] for key in keys]
    censored = rows["censored"].astype(bool)
    known = rows["slowdown"].notna()
    enough = known.groupby(by).transform("mean") > 0.5
    diverged = rows["steps"].isna()
    parts = {
        "censored_share": censored.groupby(by).mean(),
        "diverged": diverged.groupby(by).sum(),
        "problems": diverged.groupby(by).size(),
    }
    for name, values in (("steps", rows["steps"]), ("slowdown", rows["slowdown"].where(enough))):
        middle = values.groupby(by).median()
        parts[f"{name}_median"] = middle
        # A bound where larger censored values would move it, as in `measures.median`.
        raised = values.mask(censored & values.notna(), np.inf).groupby(by).median()
        parts[f"{name}_is_lower_bound"] = raised > middle
    wide = pd.DataFrame(parts).unstack("role")
    wide.columns = [f"{name}_{role}" for name, role in wide.columns]
    for name in (
        "steps_is_lower_bound_P",
        "slowdown_is_lower_bound_P",
    ):  # most attackers leave D_P alone
        if name in wide:
            wide[name] = wide[name].fillna(value=False).astype(bool)
    return wide.reset_index()


def show(table: pd.DataFrame) -> pd.DataFrame:
    """`attacks_table` for people: the slowdown on D_H, one column a method."""
    shown = table.assign(
        cell=table["slowdown_is_lower_bound_H"].map({True: "≥ ", False: ""})
        + table["slowdown_median_H"].map(format_number)
        + [
            f" (diverged on {k:.0f} of {n:.0f})" if k else ""
            for k, n in zip(table["diverged_H"], table["problems_H"], strict=True)
        ]
    )
    order = list(dict.fromkeys(zip(table["dataset"], table["attack"], strict=True)))
    methods = list(dict.fromkeys(table["method"]))
    wide = shown.pivot(index=["dataset", "attack"], columns="method", values="cell").reindex(order)
    reference = shown[shown["method"] == "identity"].set_index(["dataset", "attack"])
    signs = reference["steps_is_lower_bound_H"].map({True: "≥ ", False: ""})
    counts = reference["steps_median_H"].map(lambda v: "–" if v != v else f"{v:.0f}")
    steps = (signs + counts).reindex(order)
    wide = wide[[m for m in methods if m != "identity"]].fillna("")
    wide.insert(0, "steps without", steps)
    return wide.reset_index()


def table(results: Results) -> pd.DataFrame:
    """See `attacks_table`."""
    return results.arrange(attacks_table(results.all_slowed))
