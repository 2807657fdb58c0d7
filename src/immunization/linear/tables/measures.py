"""Table: further measures of each attacker on D_H."""

from __future__ import annotations

import numpy as np
import pandas as pd

from immunization.linear.results import Results
from immunization.linear.slowdowns import (
    selectivity,
)
from immunization.reporting.intervals_and_verdicts import rfd
from immunization.reporting.text import format_number

CAPTION = (
    "Further measures of each attacker on D_H: floating point operations to threshold, and "
    "seconds at the rate that the config names; the share of problems solved within a hundredth, "
    "a tenth and all of the budget; mean accuracy over the logarithm of the step; RFD (100 · mean "
    "|b − i|/b over recorded accuracies), and signed, negative where the model became easier to "
    "fine-tune; and selectivity, log slowdown on D_H minus the worst over benign third tasks: ≥ "
    "where the budget ran out on D_H, ≤ where it ran out on third tasks, ? where on both."
)


def measures_table(
    slowed: pd.DataFrame, curves: pd.DataFrame, uses: dict[str, str], rate: float
) -> pd.DataFrame:
    """Every measure of each attacker against each method on D_H.

    Args:
        slowed: of `with_best_and_slowdown`.
        curves: of the attack stage.
        uses: what labels stand for.
        rate: floating point operations a second, at which they become seconds.
    """
    keys = ["dataset", "attack", "method"]
    harmful = slowed[slowed["role"] == "H"]
    groups = harmful.groupby(keys, sort=False)
    raised = harmful["flops"].mask(harmful["censored"].astype(bool), np.inf)
    middle = groups["flops"].median()
    table = pd.DataFrame(
        {
            "flops_median": middle,
            "flops_bound": raised.groupby([harmful[k] for k in keys], sort=False).median() > middle,
            "seconds_median": middle / rate,
        }
    )
    for share in (0.01, 0.1, 1.0):
        within = harmful["steps"] <= np.ceil(share * harmful["budget"])
        reached = within & ~harmful["censored"].astype(bool)
        table[f"reached_{share:g}"] = reached.groupby([harmful[k] for k in keys]).mean()
    if "accuracy_area" in harmful:
        table["accuracy_area"] = groups["accuracy_area"].mean()
        table["accuracy_end"] = groups["accuracy_end"].mean()
    chosen = selectivity(slowed)
    if len(chosen):
        table["selectivity"] = chosen.groupby(keys)["selectivity"].median()
        table["selectivity_bound"] = _shared_bound(chosen, keys)
    table = table.reset_index()
    deviations = _deviations(curves, uses)
    if len(deviations):
        table = table.merge(deviations, on=keys, how="left")
    return table


def _shared_bound(chosen: pd.DataFrame, keys: list[str]) -> pd.Series:
    """What kind of bound a median of selectivities is: raise those from below, lower those from
    above, and see whether it moves."""
    up, down = chosen["bound"].isin(["≥", "?"]), chosen["bound"].isin(["≤", "?"])
    by = [chosen[key] for key in keys]
    middle = chosen["selectivity"].groupby(by).median()
    higher = chosen["selectivity"].mask(up, np.inf).groupby(by).median() > middle
    lower = chosen["selectivity"].mask(down, -np.inf).groupby(by).median() < middle
    signs = np.select([higher & lower, higher, lower], ["?", "≥", "≤"], default="")
    return pd.Series(signs, middle.index)


def _deviations(curves: pd.DataFrame, uses: dict[str, str]) -> pd.DataFrame:
    """RFD of every attacker and method, from mean accuracies; mean over seeds."""
    if "accuracy" not in curves:
        return pd.DataFrame()
    known = curves.dropna(subset=["accuracy"])
    known = known[(known["role"] == "H") & (known["step"] > 0)]
    rows = []
    for (dataset, attack), group in known.groupby(["dataset", "attack"], sort=False):
        wide = group.pivot_table(index=["seed", "step"], columns="method", values="accuracy")
        names = [m for m in wide.columns if uses[m] == "identity"]
        if not names:
            continue
        for method in wide.columns:
            both = [
                rfd(part[names[0]].to_numpy(), part[method].to_numpy())
                for _, part in wide.groupby("seed")
            ]
            unsigned, signed = np.mean(both, axis=0)
            rows.append(
                {"dataset": dataset, "attack": attack, "method": method}
                | {"rfd": unsigned, "rfd_signed": signed}
            )
    return pd.DataFrame(rows)


def show(table: pd.DataFrame) -> pd.DataFrame:
    """`measures_table` for people."""
    shown = table[["dataset", "attack", "method"]].copy()
    signs = table["flops_bound"].map({True: "≥ ", False: ""})
    shown["operations"] = signs + table["flops_median"].map(format_number)
    shown["seconds"] = signs + table["seconds_median"].map(format_number)
    for share, title in ((0.01, "budget / 100"), (0.1, "budget / 10"), (1, "budget")):
        shown[f"reached, {title}"] = table[f"reached_{share:g}"].map("{:.0%}".format)
    for name, title in (
        ("accuracy_area", "area under accuracy"),
        ("rfd", "RFD"),
        ("rfd_signed", "RFD, signed"),
        ("selectivity", "selectivity"),
    ):
        if name in table and table[name].notna().any():
            shown[title] = table[name].map(format_number)
            if name == "selectivity":
                kinds = {"≥": "≥ ", "≤": "≤ ", "?": "? "}
                signs = table["selectivity_bound"].map(kinds).fillna("")
                shown[title] = signs + shown[title]
    return shown


def table(results: Results) -> pd.DataFrame:
    """See `measures_table`."""
    uses, rate = results.order["methods"], results.order["flops_per_second"]
    return results.arrange(measures_table(results.all_slowed, results.curves, uses, rate))
