"""Table: on how many pairs each part of Definition 3.1 is met."""

from __future__ import annotations

import pandas as pd

from immunization.linear.results import Results
from immunization.linear.tolerances import UNCHANGED

CAPTION = (
    "On how many pairs of tasks each part of the paper's Definition 3.1 is met (mean over seeds): "
    "(a) the harmful condition number grew by the factor that the config names, (b) the benign "
    "one did not grow, (c) the best loss on the benign task is kept. Two weaker readings of "
    "success stand beside it. κ is resolved where every non-zero eigenvalue stands above the "
    "round-off of float64; elsewhere θ is numerically singular and κ a number without meaning "
    "beyond 'very large'."
)
REPORT = 2
"""Place in the report."""


def definition_table(ratios: pd.DataFrame) -> pd.DataFrame:
    """On how many pairs each part of Definition 3.1, and each reading of success, is met."""
    kept = ratios["ratio_ii"] <= 1 + UNCHANGED
    met = ratios.assign(
        pairs=1,
        rir_above_1=ratios["rir"] > 1 + UNCHANGED,
        i_above_1_ii_at_most_1=(ratios["ratio_i"] > 1 + UNCHANGED) & kept,
        all_met=ratios["definition_a_met"]
        & ratios["definition_b_met"]
        & ratios["definition_c_met"],
    )
    columns = [
        "pairs", "rir_above_1", "i_above_1_ii_at_most_1", "definition_a_met", "definition_b_met",
        "definition_c_met", "all_met",
        "resolved",
    ]  # fmt: skip
    by_seed = met.groupby(["dataset", "method", "seed"])[columns].sum()
    return by_seed.groupby(["dataset", "method"]).mean().reset_index()


def show(table: pd.DataFrame) -> pd.DataFrame:
    """`definition_table` for people; counts are means over seeds."""
    titles = {
        "pairs": "pairs",
        "rir_above_1": "RIR > 1",
        "i_above_1_ii_at_most_1": "(i) > 1 and (ii) ≤ 1",
        "definition_a_met": "(a) met",
        "definition_b_met": "(b) met",
        "definition_c_met": "(c) met",
        "all_met": "(a), (b) and (c)",
        "resolved": "κ resolved",
    }
    shown = table.rename(columns=titles)
    for title in titles.values():
        shown[title] = (
            shown[title].map("{:g}".format)
            if title == "pairs"
            else shown[title].map(lambda v: f"{v:.1f}".removesuffix(".0"))
        )
    return shown


def table(results: Results) -> pd.DataFrame:
    """See `definition_table`."""
    return results.arrange(definition_table(results.ratios))
