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
        Columns network, harmful, method, claim, paper_value (by the paper's measure), strict_value,
        holds_by_paper, holds, note.
    """
    uses = order["methods"]
    rows = []
    for keys, row in table3.set_index(["network", "harmful", "method"]).iterrows():
        place = dict(zip(("network", "harmful", "method"), keys, strict=True))
        if uses[place["method"]] == "alg1":
            claims = [*_of_condition(row), *_of_attackers(place, resistance, plain)]
            rows += [place | claim for claim in claims]
    columns = [
        "network", "harmful", "method", "claim", "paper_value", "strict_value", "holds_by_paper",
        "holds", "note",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def _claim(
    claim: str, paper: float, strict: float, good: Any, note: str = "", by_strict: Any = None
) -> dict[str, Any]:
    """One row: values by the paper's measure and by the strict one, and whether each holds."""
    return {
        "claim": claim, "paper_value": paper, "strict_value": strict,
        "holds_by_paper": _truth(good, paper), "holds": _truth(by_strict or good, strict),
        "note": note,
    }  # fmt: skip


def _of_condition(row: Any) -> list[dict[str, Any]]:
    """Claims on κ and on the accuracy on D_P, from a row of `table3`."""
    nan, paper = float("nan"), "groups_released"
    share = 1 - float(row["rank_kept_share"])
    note = f"features lost rank with {share:.0%} of the seeds" if share else ""
    lost = 100 * float(row["accuracy_p_lost"])
    return [
        _claim(
            "(i) > 1: the harmful κ grows", row[f"{paper}_i_mean"], row["full_i_mean"],
            lambda v: v > 1, note,
        ),
        _claim(
            "(ii) ≤ 1: the benign κ does not", row[f"{paper}_ii_mean"], row["full_ii_mean"],
            lambda v: v <= 1, note,
        ),
        _claim(
            f"RIR much larger than 1 (> {LARGE:g})", row[f"{paper}_rir_mean"], row["full_rir_mean"],
            lambda v: v > LARGE, note,
        ),
        _claim(
            f"RIR without the smallest hundredth of eigenvalues much larger than 1 (> {LARGE:g})",
            nan, row["trimmed_rir_mean"], lambda v: v > LARGE, note,
        ),
        _claim(
            "accuracy on D_P kept within a point (points lost)", lost, lost,
            lambda v: v <= 100 * POINT,
        ),
    ]  # fmt: skip


def _of_attackers(
    place: dict[str, str], resistance: pd.DataFrame, plain: pd.DataFrame
) -> list[dict[str, Any]]:
    """Claims on slowdowns and selectivity."""
    nan = float("nan")
    plain_row = _pick(plain, place | {"role": "H"})
    best = _pick(resistance, place | {"attacker_kind": "linear probe"})
    fine = _pick(resistance, place | {"attacker_kind": "fine-tuning"})
    rows = []
    if plain_row is not None or best is not None:
        rows.append(
            _claim(
                "a linear probe trains slowly (slowdown: SGD; best of all)",
                nan if plain_row is None else float(plain_row["slowdown"]),
                nan if best is None else float(best["slowdown"]),
                lambda v: _slower(plain_row),
                note=_bound(plain_row, best),
                by_strict=lambda v: _slower(best),
            )
        )
    if fine is not None:
        rows.append(
            _claim(
                "fine-tuning of more than a probe is slow (slowdown, best of all)",
                nan,
                float(fine["slowdown"]),
                lambda v: _slower(fine),
                note=_bound(None, fine),
            )
        )
    if best is not None and best["selectivity"] == best["selectivity"]:
        rows.append(
            _claim(
                "it slows D_H more than benign third tasks (selectivity, linear probe)",
                nan,
                float(best["selectivity"]),
                lambda v: _slower(best) and v > 0,
                note="" if _slower(best) else "counts where the best linear probe is slowed",
            )
        )
    return rows  # fmt: skip


def _slower(found: Any) -> bool | None:
    """Whether a verdict says that attackers were slowed; None where it does not say."""
    if found is None or found["verdict"] in ("not shown", "no verdict", "unknown"):
        return None
    return found["verdict"] in ("slowed", "withstood")


def _truth(rule: Any, value: float) -> bool | None:
    """Whether a claim holds; None where that is not known or not decided."""
    holds = rule(value) if value == value else None
    return None if holds is None else bool(holds)


def _pick(table: pd.DataFrame, keys: dict[str, str]) -> Any:
    if table.empty:
        return None
    chosen = table
    for column, value in keys.items():
        chosen = chosen[chosen[column] == value]
    return None if chosen.empty else chosen.iloc[0]


def _bound(own: Any, best: Any) -> str:
    bounds = []
    for what, slowdown in (("SGD", own), ("best", best)):
        if slowdown is not None and slowdown["is_lower_bound"]:
            bounds.append(f"{what}: a lower bound, the budget ran out")
        if slowdown is not None and slowdown["ci_low"] == slowdown["ci_low"]:
            bounds.append(
                f"{what}: 95 % interval {format_number(slowdown['ci_low'])} to "
                f"{format_number(slowdown['ci_high'])}"
            )
    return "; ".join(bounds)


def show(table: pd.DataFrame) -> pd.DataFrame:
    """For people."""
    said = {True: "yes", False: "no", None: "–"}

    def words(value: Any) -> str:
        return said[None if value is None or value != value else bool(value)]

    shown = table[["network", "harmful", "method", "claim"]].copy()
    shown["by the paper's measure"] = table["paper_value"].map(format_number)
    shown["holds there"] = table["holds_by_paper"].map(words)
    shown["by the strict one"] = table["strict_value"].map(format_number)
    shown["survives"] = table["holds"].map(words)
    shown["note"] = table["note"].fillna("")
    return shown


def table(results: Results) -> pd.DataFrame:
    """Rows in the order of the config."""
    claims = claims_table(
        results.table("table3"),
        results.table("resistance"),
        plain_sgd(results.curves, results.uses, results.target),
        results.order,
    )
    return in_order(claims, results.order)
