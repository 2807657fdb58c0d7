"""Table: ratios of condition numbers by each definition, the limit and the optimality.

Every mean is over pairs first and then over seeds; ± is the standard deviation over seeds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from immunization.linear.results import Results
from immunization.linear.tables._over_seeds import over_seeds
from immunization.reporting.text import format_number, plus_minus

CAPTION = (
    "Condition numbers after immunization over those before, one row a method. (i) harmful task, "
    "wanted large; (ii) benign task, wanted at most 1; RIR = (i)/(ii), wanted large. Means over "
    "pairs, ± standard deviation over seeds; a few pairs can carry a mean, so the median stands "
    "beside it. The released κ is that of the paper's code, with the share of pairs on which it "
    "is its own floor; the ridge κ adds a small multiple of the largest eigenvalue. The limit is "
    "the RIR that no invertible linear extractor exceeds, for a squared-loss probe without an "
    "intercept, and beside it for one with an intercept; optimality is log RIR over log limit, on "
    "pairs where the limit is finite."
)
REPORT = 1
"""Place in the report."""


def ratios_table(ratios: pd.DataFrame) -> pd.DataFrame:
    """(i), (ii) and RIR by each definition of κ, the limit, and the optimality."""
    parts = [
        over_seeds(ratios, column)
        for column in (
            "ratio_i", "ratio_ii", "rir", "released_ratio_i", "released_ratio_ii",
            "released_rir", "ridge_rir", "optimality",
        )
    ]  # fmt: skip
    keys = [ratios["dataset"], ratios["method"]]
    infinite = np.isinf(ratios["limit"])
    medians = ratios["rir"].groupby([*keys, ratios["seed"]]).median().groupby(["dataset", "method"])
    parts += [
        medians.mean().rename("rir_median"),
        medians.std(ddof=1).rename("rir_median_std"),
        ratios["optimality"].groupby(keys).min().rename("optimality_min"),
        ratios["released_floored"].groupby(keys).mean().rename("released_floored_share"),
        ratios["limit"].mask(infinite).groupby(keys).median().rename("limit_median_finite"),
        infinite.groupby(keys).mean().rename("limit_infinite_share"),
        *with_intercept(ratios),
        ratios["harmful_energy_outside"]
        .where(infinite)
        .groupby(keys)
        .median()
        .rename("harmful_energy_outside_median_infinite"),
    ]
    return pd.concat(parts, axis=1).reset_index()


def with_intercept(ratios: pd.DataFrame) -> list[pd.Series]:
    """The limit for probes with an intercept: median where it is finite, and share where not."""
    keys = [ratios["dataset"], ratios["method"]]
    limit = ratios["limit_intercept"]
    infinite = np.isinf(limit)
    return [
        limit.mask(infinite).groupby(keys).median().rename("limit_intercept_median_finite"),
        infinite.groupby(keys).mean().rename("limit_intercept_infinite_share"),
    ]


def with_published(
    table: pd.DataFrame, published: pd.DataFrame, order: dict[str, Any]
) -> pd.DataFrame:
    """`ratios_table` with the published figure of each row, where there is one."""
    sources = pd.DataFrame(
        [(label, *stands_for) for label, stands_for in order["datasets"].items()],
        columns=["dataset", "source", "task"],
    )
    uses = table["method"].map(order["methods"])
    keys = table[["dataset"]].merge(sources, how="left").assign(use=uses.to_numpy())
    ratios = published[published["quantity"].isin(["ratio_i", "ratio_ii", "rir"])]
    for quantity, figures in ratios.groupby("quantity"):
        known = figures.set_index(["source", "task", "method"])["value"]
        wanted = pd.MultiIndex.from_frame(keys[["source", "task", "use"]])
        table[f"published_{quantity}"] = known.reindex(wanted).to_numpy()
    return table


def show(table: pd.DataFrame) -> pd.DataFrame:
    """`ratios_table` for people."""
    shown = table[["dataset", "method"]].copy()
    for column, title in (
        ("ratio_i", "(i) κ_H"),
        ("ratio_ii", "(ii) κ_P"),
        ("rir", "RIR"),
        ("released_rir", "RIR, released κ"),
        ("ridge_rir", "RIR, ridge κ"),
        ("optimality", "optimality"),
    ):
        means, deviations = table[f"{column}_mean"], table[f"{column}_std"]
        if column == "optimality":  # a share, whose round-off around 0 says nothing
            means, deviations = means.round(6), deviations.round(6)
        shown[title] = [plus_minus(m, d) for m, d in zip(means, deviations, strict=True)]
        if f"published_{column}" in table and table[f"published_{column}"].notna().any():
            shown[f"{title}, published"] = table[f"published_{column}"].map(format_number)
        if column == "rir":
            medians = zip(table["rir_median"], table["rir_median_std"], strict=True)
            shown["median RIR"] = [plus_minus(m, d) for m, d in medians]
    shown["released κ on its floor"] = table["released_floored_share"].map("{:.0%}".format)
    for kind, title in (("limit", "limit (median)"), ("limit_intercept", "limit, intercept")):
        limit = table[f"{kind}_median_finite"].map(format_number)
        share = table[f"{kind}_infinite_share"]
        shown[title] = np.select(
            [share == 0, share == 1],
            [limit, "∞"],
            limit + share.map(" (∞ on {:.0%})".format),
        )
    return shown


def table(results: Results) -> pd.DataFrame:
    """See `ratios_table`."""
    published = with_published(ratios_table(results.ratios), results.published, results.order)
    return results.arrange(published)
