"""Table: rank correlations of predictors with measured slowdowns."""

from __future__ import annotations

import pandas as pd

from immunization.linear.prediction import PREDICTORS, join_predictors, rank_correlations
from immunization.linear.results import Results

CAPTION = (
    "Does κ predict resistance? Spearman's rank correlation between each predictor and the "
    "measured slowdown on D_H, for every attacker whose slowdown varies: over all methods, pairs "
    "and seeds, and in brackets the mean within a method. Lower bounds count at their bound; the "
    "last column is their share."
)
REPORT = 5
"""Place in the report."""


def prediction_table(
    ratios: pd.DataFrame, slowed: pd.DataFrame, uses: dict[str, str]
) -> pd.DataFrame:
    """Rank correlation of every predictor with the slowdown, for each attacker."""
    correlations = rank_correlations(join_predictors(ratios, slowed, uses))
    return correlations if len(correlations) else pd.DataFrame({"dataset": [], "attack": []})


def show(table: pd.DataFrame) -> pd.DataFrame:
    """`prediction_table` for people: one column a predictor, all points and within a method."""
    if table.empty or "predictor" not in table:
        return table
    order = list(dict.fromkeys(zip(table["dataset"], table["attack"], strict=True)))
    cells = table.assign(
        cell=table["spearman"].map(two_digits)
        + " ("
        + table["spearman_within"].map(two_digits)
        + ")"
    )
    wide = cells.pivot(index=["dataset", "attack"], columns="predictor", values="cell")
    wide = wide.reindex(order)[[p for p in PREDICTORS if p in wide]].rename(columns=PREDICTORS)
    first = table.groupby(["dataset", "attack"])["censored_share"].first().reindex(order)
    wide["bounds"] = first.map("{:.0%}".format)
    return wide.reset_index()


def two_digits(value: float) -> str:
    """A correlation, with its sign."""
    return "–" if value != value else f"{value:+.2f}"


def table(results: Results) -> pd.DataFrame:
    """See `prediction_table`."""
    uses = results.order["methods"]
    return results.arrange(prediction_table(results.ratios, results.all_slowed, uses))
