"""Every published figure beside ours, with a verdict: the replication table.

Three columns are ours. *released* is the released profile where a method has one, by the released
κ (floor and all); *paper* is the method as printed and *corrected* at its best, both by the κ over
the non-zero spectrum. `replication` in a study's config says which label stands for which.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from immunization.linear.results import Results
from immunization.linear.tolerances import UNCHANGED
from immunization.reporting.text import format_number, plus_minus

CAPTION = (
    "Every figure that the paper prints on these data beside ours. Released: as the released "
    "program trains where a method has such a profile, by its own floored κ. Paper: the method as "
    "printed, and corrected: at its best, both by the κ over the non-zero spectrum. Means over "
    "pairs, ± standard deviation over seeds; the limit is that of RIR, median. Reproduced means "
    "within a quarter, or five pairs. The paper does not say what it counts as a success, so each "
    "reading has a row."
)

PROFILES = ("released", "paper", "corrected")
CLOSE = 1.25
"""A figure within this factor counts as reproduced: seeds and λ's are not published."""
SAME_ORDER = 3.0
ALIKE = 0.7
TELLING = 0.3
"""A correlation, and its difference to the other way round, from which on it is believed."""
READINGS = {
    "RIR > 1": lambda rows, i, ii: rows[i] / rows[ii] > 1 + UNCHANGED,
    "(i) > 1 and (ii) ≤ 1": lambda rows, i, ii: (
        (rows[i] > 1 + UNCHANGED) & (rows[ii] <= 1 + UNCHANGED)
    ),
    "(i) ≥ 10 and (ii) ≤ 1": lambda rows, i, ii: (rows[i] >= 10) & (rows[ii] <= 1 + UNCHANGED),
}
"""What the paper's "succeeds" may mean, of (i) and (ii); it does not say."""
COLUMNS = [
    "published_in", "dataset", "method", "quantity", "published",
    *(f"{profile}{part}" for profile in PROFILES for part in ("_label", "_mean", "_std")),
    "limit", "verdict",
]  # fmt: skip


def replication_table(
    ratios: pd.DataFrame, published: pd.DataFrame, grids: pd.DataFrame, order: dict[str, Any]
) -> pd.DataFrame:
    """One row a published figure.

    Args:
        ratios: rows of the spectrum stage.
        published: columns source, task, method, quantity, value, note and explanation; quantity is
            ratio_i, ratio_ii, rir, or success (a number of pairs).
        grids: Fig. 2, columns method, row, column and log_rir.
        order: of study.json, with ``replication``.

    Returns:
        The table; empty where no data set of the study is one of the paper's.
    """
    rows: list[dict[str, Any]] = []
    for dataset, (source, task) in order["datasets"].items():
        ours = ratios[ratios["dataset"] == dataset]
        known = published[(published["source"] == source) & (published["task"] == task)]
        for figure in known.itertuples():
            labels = order["replication"].get(figure.method, {})
            start = {"published_in": figure.note, "dataset": dataset, "method": figure.method}
            if figure.quantity == "success":
                for reading in READINGS:
                    rows.append(
                        start
                        | {"quantity": f"pairs with {reading}", "published": figure.value}
                        | _limit(ours)
                        | _row(ours, labels, lambda r, p, reading=reading: _count(r, p, reading))
                    )
                    rows[-1]["verdict"] = _count_verdict(rows[-1], figure.explanation)
                continue
            rows.append(
                start
                | {"quantity": figure.quantity, "published": figure.value}
                | _limit(ours)
                | _row(ours, labels, lambda r, p, q=figure.quantity: _mean(r, p, q))
            )
            rows[-1]["verdict"] = _verdict(rows[-1], figure.explanation)
        if source == "mnist" and task == "digit":
            for method, grid in grids.groupby("method", sort=False):
                rows += _figure_2(dataset, str(method), ours, grid, order)
    return pd.DataFrame(rows, columns=COLUMNS)


def _limit(ours: pd.DataFrame) -> dict[str, float]:
    """Median limit of RIR over pairs: nothing above it can be had."""
    limit = ours.drop_duplicates("pair")["limit"]
    return {"limit": float(limit.median()) if len(limit) else np.nan}


def _row(ours: pd.DataFrame, labels: dict[str, str], statistic: Any) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for profile in PROFILES:
        label = labels.get(profile)
        rows = ours[ours["method"] == label]
        by_seed = statistic(rows, profile) if len(rows) else pd.Series(dtype=float)
        row[f"{profile}_label"] = label if len(rows) else ""
        row[f"{profile}_mean"] = by_seed.mean() if len(by_seed) else np.nan
        row[f"{profile}_std"] = by_seed.std(ddof=1) if len(by_seed) else np.nan
    return row


def _names(profile: str) -> tuple[str, str, str]:
    prefix = "released_" if profile == "released" else ""
    return f"{prefix}ratio_i", f"{prefix}ratio_ii", f"{prefix}rir"


def _mean(rows: pd.DataFrame, profile: str, quantity: str) -> pd.Series:
    name = dict(zip(("ratio_i", "ratio_ii", "rir"), _names(profile), strict=True))[quantity]
    return rows.groupby("seed")[name].mean()


def _count(rows: pd.DataFrame, profile: str, reading: str) -> pd.Series:
    i, ii, _ = _names(profile)
    return READINGS[reading](rows, i, ii).groupby(rows["seed"]).sum().astype(float)


def _figure_2(
    dataset: str, method: str, ours: pd.DataFrame, grid: pd.DataFrame, order: dict[str, Any]
) -> list[dict[str, Any]]:
    """Fig. 2 of one method: its mean, and how its pairs go with ours, either way round."""
    theirs = grid[grid["row"] != grid["column"]]
    labels = order["replication"].get(method, {})
    start = {"published_in": "Fig. 2", "dataset": dataset, "method": method} | _limit(ours)
    rows = [
        start
        | {"quantity": "mean log RIR", "published": theirs["log_rir"].mean()}
        | _row(
            ours,
            labels,
            lambda r, p: np.log(r[_names(p)[2]]).groupby(r["seed"]).mean(),
        )
    ]
    difference = {
        p: abs(rows[0][f"{p}_mean"] - rows[0]["published"])
        for p in PROFILES
        if np.isfinite(rows[0][f"{p}_mean"])
    }
    rows[0]["verdict"] = ""
    if difference:
        best = _nearest(difference)
        rows[0]["verdict"] = (
            f"reproduced within {difference[best]:.2f} ({best})"
            if difference[best] <= np.log(CLOSE)
            else f"nearest is {best}, {difference[best]:.1f} away"
        )
    for axis, (p_axis, h_axis) in {
        "rows as D_P": ("row", "column"),
        "rows as D_H": ("column", "row"),
    }.items():
        index = pd.MultiIndex.from_frame(theirs[[p_axis, h_axis]].astype(str))
        values = pd.Series(theirs["log_rir"].to_numpy(), index)

        def correlation(rows_: pd.DataFrame, profile: str, values: pd.Series = values) -> pd.Series:
            logs = np.log(rows_[_names(profile)[2]])
            mine = logs.groupby([rows_["primary"], rows_["harmful"]]).mean()
            both = pd.concat([mine.rename("ours"), values.rename("theirs")], axis=1).dropna()
            return pd.Series([both["ours"].corr(both["theirs"])]) if len(both) > 2 else pd.Series()

        rows.append(
            start
            | {"quantity": f"correlation of log RIR, {axis}", "published": np.nan, "verdict": ""}
            | _row(ours, labels, correlation)
        )
    rows[1]["verdict"] = _axes(rows[1], rows[2])
    return rows


def _axes(as_p: dict[str, Any], as_h: dict[str, Any]) -> str:
    """Which axis of Fig. 2 is D_P, judged by our own results."""
    best = [
        max((row[f"{p}_mean"] for p in PROFILES if np.isfinite(row[f"{p}_mean"])), default=np.nan)
        for row in (as_p, as_h)
    ]
    if not np.isfinite(best).all() or max(best) < ALIKE or abs(best[0] - best[1]) < TELLING:
        return "does not tell the axes apart"
    return f"rows are {'D_P' if best[0] > best[1] else 'D_H'}"


def _nearest(off: dict[str, float]) -> str:
    """The profile that is least off; among equals the paper's, then the corrected one."""
    order = ("paper", "corrected", "released")
    return min((p for p in order if p in off), key=lambda profile: round(off[profile], 2))


def _verdict(row: dict[str, Any], explanation: str) -> str:
    """Which of ours comes nearest to a positive figure, and how near."""
    factors = {
        profile: float(np.exp(abs(np.log(row[f"{profile}_mean"] / row["published"]))))
        for profile in PROFILES
        if row[f"{profile}_mean"] > 0 and np.isfinite(row[f"{profile}_mean"])
    }
    if not factors:
        return "not run"
    best = _nearest(factors)
    factor = factors[best]
    if factor <= CLOSE:
        return f"reproduced within {factor - 1:.0%} ({best})"
    near = (
        f"same order, ×{format_number(factor)} off at best ({best})"
        if factor <= SAME_ORDER
        else f"differs, ×{format_number(factor)} off at best ({best})"
    )
    return f"{near}: {explanation}" if explanation else near


def _count_verdict(row: dict[str, Any], explanation: str) -> str:
    """The same for a number of pairs."""
    missed = {
        profile: abs(row[f"{profile}_mean"] - row["published"])
        for profile in PROFILES
        if np.isfinite(row[f"{profile}_mean"])
    }
    if not missed:
        return "not run"
    best = _nearest(missed)
    if missed[best] <= 5:
        off = "exactly" if missed[best] == 0 else f"within {format_number(missed[best])} pairs"
        return f"reproduced {off} ({best})"
    near = f"nearest is {best}, {format_number(missed[best])} pairs off"
    return f"{near}: {explanation}" if explanation else near


def show(table: pd.DataFrame) -> pd.DataFrame:
    """`replication_table` for people."""
    shown = table[["published_in", "dataset", "method", "quantity"]].copy()
    names = {"ratio_i": "(i)", "ratio_ii": "(ii)", "rir": "RIR"}
    shown["quantity"] = shown["quantity"].replace(names)
    shown["published"] = [format_number(value) for value in table["published"]]
    for profile in PROFILES:
        means, deviations = table[f"{profile}_mean"], table[f"{profile}_std"]
        shown[f"ours, {profile}"] = [
            plus_minus(m, d) for m, d in zip(means, deviations, strict=True)
        ]
    shown["limit"] = [format_number(value) for value in table["limit"]]
    shown["verdict"] = table["verdict"].fillna("")
    return shown.rename(columns={"published_in": "published in"})


def table(results: Results) -> pd.DataFrame:
    """See `replication_table`."""
    # In the order of the paper.
    return replication_table(results.ratios, results.published, results.grids, results.order)
