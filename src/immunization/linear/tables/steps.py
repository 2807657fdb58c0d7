"""Table: steps that each method took."""

from __future__ import annotations

import pandas as pd

from immunization.linear.results import Results

CAPTION = (
    "Steps that each method took, and the share of pairs on which it had converged by then: half "
    "as many steps again, twice in a row, moved neither log κ by more than `stop`."
)
REPORT = 7
"""Place in the report."""


def steps_table(trajectories: pd.DataFrame) -> pd.DataFrame:
    """How many steps each method took, and on how many pairs it converged by its criterion."""
    if trajectories.empty:
        return pd.DataFrame({"dataset": [], "method": []})
    keys = ["dataset", "method", "seed", "pair"]
    last = trajectories.sort_values("step", kind="stable").groupby(keys).last()
    groups = last.groupby(["dataset", "method"])
    return pd.DataFrame(
        {
            "steps_median": groups["step"].median(),
            "steps_max": groups["step"].max(),
            "converged_share": groups["converged"].mean(),
        }
    ).reset_index()


def show(table: pd.DataFrame) -> pd.DataFrame:
    """`steps_table` for people."""
    shown = table[["dataset", "method"]].copy()
    if not table.empty:
        shown["steps, median"] = table["steps_median"].map("{:.0f}".format)
        shown["steps, most"] = table["steps_max"].map("{:.0f}".format)
        shown["converged"] = table["converged_share"].map("{:.0%}".format)
    return shown


def table(results: Results) -> pd.DataFrame:
    """See `steps_table`."""
    return results.arrange(steps_table(results.trajectories))
