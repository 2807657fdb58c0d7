"""Table: the Hessian of D_P's loss on the trainable part."""

from __future__ import annotations

import pandas as pd

from immunization.networks.results import Results
from immunization.networks.tables._keys import KEYS, in_order, over_seeds
from immunization.reporting.text import plus_minus

CAPTION = (
    "The Hessian of D_P's loss on the part of the network that was trained, by Lanczos: it tells "
    "how sharp the released network is for those who fine-tune it."
)
REPORT = 6
"""Place in the report."""


def hessians_table(densities: pd.DataFrame) -> pd.DataFrame:
    """The Hessian of D_P's loss on the trainable part."""
    columns = [
        "hessian_largest", "hessian_smallest", "hessian_trace", "hessian_parameters", "accuracy_p",
    ]  # fmt: skip
    return over_seeds(densities, columns)


def show(table: pd.DataFrame) -> pd.DataFrame:
    """For people."""
    shown = table[KEYS].copy()
    for column, title in (
        ("hessian_largest", "largest eigenvalue"), ("hessian_smallest", "smallest eigenvalue"),
        ("hessian_trace", "trace (estimate)"),
    ):  # fmt: skip
        pairs = zip(table[f"{column}_mean"], table[f"{column}_std"], strict=True)
        shown[title] = [plus_minus(m, s) for m, s in pairs]
    shown["parameters"] = table["hessian_parameters_mean"].map("{:.0f}".format)
    return shown


def table(results: Results) -> pd.DataFrame:
    """Rows in the order of the config."""
    return in_order(hessians_table(results.densities), results.order)
