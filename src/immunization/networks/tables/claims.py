"""Which claims of the paper survive scale control and tuned attackers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from immunization.networks.results import Results
from immunization.networks.slowdowns import plain_sgd
from immunization.networks.tables._keys import in_order
from immunization.reporting.text import format_number

CAPTION = (
    "Which claims of the paper survive: for every profile of Algorithm 1, a claim by the paper's "
    "own measure (released κ on 20 groups of 100 images; SGD on the features as they are) and by "
    "the strict one (κ over the non-zero spectrum on many more images than features, which no "
    "scaling changes; the best tuned attacker against the best without immunization)."
)
REPORT = 1
"""Place in the report."""

POINT = 0.01
"""Accuracy on D_P counts as kept within one point."""
LARGE = 10.0
"""What "much larger than one" stands for."""


def claims_table(
    table3: pd.DataFrame,
    resistance: pd.DataFrame,
    plain: pd.DataFrame,
    order: dict[str, Any],
) -> pd.DataFrame:
    """One row a (network, D_H, method, claim), for every profile of Algorithm 1.

    Args:
        table3, resistance: tables of the same names.
        plain: slowdowns of SGD on unrepaired features.
        order: what labels stand for.

    Returns:
        Columns network, harmful, method, claim, theirs (by the paper's measure), ours (by the
        strict one), holds_theirs, holds.
    """
    rows: list[dict[str, Any]] = []
    uses = order["methods"]
    for keys, row in table3.set_index(["network", "harmful", "method"]).iterrows():
        network, harmful, method = keys
        if uses[method] != "alg1":
            continue
        place = {"network": network, "harmful": harmful, "method": method}

        def add(
            claim: str,
            theirs: float,
            ours: float,
            good: Any,
            note: str = "",
            place: Any = place,
            strict: Any = None,
        ) -> None:
            rows.append(
                place
                | {
                    "claim": claim, "theirs": theirs, "ours": ours,
                    "holds_theirs": _truth(good, theirs),
                    "holds": _truth(strict or good, ours),
                    "note": note,
                }
            )  # fmt: skip

        paper, full = "groups_released", "full"
        share = 1 - float(row["rank_kept_share"])
        lost_rank = f"features lost rank with {share:.0%} of the seeds" if share else ""
        add("(i) > 1: the harmful κ grows", row[f"{paper}_i_mean"], row[f"{full}_i_mean"],
            lambda v: v > 1, lost_rank)  # fmt: skip
        add("(ii) ≤ 1: the benign κ does not", row[f"{paper}_ii_mean"], row[f"{full}_ii_mean"],
            lambda v: v <= 1, lost_rank)  # fmt: skip
        add(f"RIR much larger than 1 (> {LARGE:g})", row[f"{paper}_rir_mean"],
            row[f"{full}_rir_mean"], lambda v: v > LARGE, lost_rank)  # fmt: skip
        add(f"RIR without the smallest hundredth of eigenvalues much larger than 1 (> {LARGE:g})",
            float("nan"), row["trimmed_rir_mean"], lambda v: v > LARGE, lost_rank)  # fmt: skip
        lost = 100 * float(row["accuracy_p_lost"])
        add("accuracy on D_P kept within a point (points lost)", lost, lost,
            lambda v: v <= 100 * POINT)  # fmt: skip
        own = _pick(plain, place | {"role": "H"})
        best = _pick(resistance, place | {"kind": "linear probe"})
        naive = float(own["slowdown"]) if own is not None else float("nan")

        def slower(found: Any) -> bool | None:
            if found is None or found["verdict"] in ("not shown", "no verdict", "unknown"):
                return None
            return found["verdict"] in ("slowed", "withstood")

        if own is not None or best is not None:
            add("a linear probe trains slowly (slowdown: SGD; best of all)", naive,
                float(best["slowdown"]) if best is not None else float("nan"),
                lambda v, f=own: slower(f), strict=lambda v, f=best: slower(f),
                note=_bound(own, best))  # fmt: skip
        fine = _pick(resistance, place | {"kind": "fine-tuning"})
        if fine is not None:
            add("fine-tuning of more than a probe is slow (slowdown, best of all)", float("nan"),
                float(fine["slowdown"]), lambda v, f=fine: slower(f),
                note=_bound(None, fine))  # fmt: skip
        if best is not None and best["selectivity"] == best["selectivity"]:
            add("it slows D_H more than benign third tasks (selectivity, linear probe)",
                float("nan"), float(best["selectivity"]),
                lambda v, f=best: slower(f) and v > 0,
                note="" if slower(best) else "counts where the best linear probe is slowed",
            )  # fmt: skip
    columns = [
        "network", "harmful", "method", "claim", "theirs", "ours", "holds_theirs", "holds", "note",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def _truth(rule: Any, value: float) -> bool | None:
    """Whether a claim holds; None where that is not known or not decided."""
    found = rule(value) if value == value else None
    return None if found is None else bool(found)


def _pick(table: pd.DataFrame, keys: dict[str, str]) -> Any:
    if table.empty:
        return None
    chosen = table
    for column, value in keys.items():
        chosen = chosen[chosen[column] == value]
    return None if chosen.empty else chosen.iloc[0]


def _bound(own: Any, best: Any) -> str:
    told = []
    for what, found in (("SGD", own), ("best", best)):
        if found is not None and found["bound"]:
            told.append(f"{what}: a lower bound, the budget ran out")
        if found is not None and found["low"] == found["low"]:
            told.append(
                f"{what}: 95 % interval {format_number(found['low'])} to {format_number(found['high'])}"
            )
    return "; ".join(told)


def show(table: pd.DataFrame) -> pd.DataFrame:
    """For people."""
    said = {True: "yes", False: "no", None: "–"}

    def words(value: Any) -> str:
        return said[None if value is None or value != value else bool(value)]

    shown = table[["network", "harmful", "method", "claim"]].copy()
    shown["by the paper's measure"] = table["theirs"].map(format_number)
    shown["holds there"] = table["holds_theirs"].map(words)
    shown["by the strict one"] = table["ours"].map(format_number)
    shown["survives"] = table["holds"].map(words)
    shown["note"] = table["note"].fillna("")
    return shown


def table(results: Results) -> pd.DataFrame:
    """Rows in the order of the config."""
    found = claims_table(
        results.table("table3"),
        results.table("resistance"),
        plain_sgd(results.curves, results.uses, results.target),
        results.order,
    )
    return in_order(found, results.order)
