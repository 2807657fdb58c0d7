"""Table: the paper's Table 3, by each definition of κ, with the published figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from immunization.networks.results import Results
from immunization.networks.tables._keys import KEYS, in_order, over_seeds, show_rank
from immunization.reporting.text import format_number, plus_minus

CAPTION = (
    "The paper's Table 3. (i) κ on D_H over its value at θ₀, wanted large; (ii) the same on D_P, "
    "wanted at most 1; RIR = (i)/(ii). Over the non-zero spectrum on many more images than "
    "features; trimmed, without the smallest hundredth of the eigenvalues, which few directions "
    "can't sway; on 20 groups of 100 images (where FᵀF has rank 100 at most); and by the paper's "
    "protocol, where the released κ is its floor, so that its ratio is one of feature energies. "
    "Where the rank fell, κ compares different spaces. Means over seeds ± standard deviation. "
    "Published figures stand beside ours where data and network are the same."
)
REPORT = 2
"""Place in the report."""

DEFINITIONS = {
    "kappa": "full",
    "kappa_groups": "groups",
    "kappa_groups_released": "groups_released",
    "kappa_released": "released",
    "kappa_released_unit": "released_unit",
    "kappa_ridge": "ridge",
    "kappa_trimmed": "trimmed",
}


def ratios(spectra: pd.DataFrame) -> pd.DataFrame:
    """(i), (ii) and RIR by each definition of κ, one row a (network, D_H, method, seed)."""
    wide = spectra.set_index([*KEYS, "seed", "role"])
    rows = []
    for (network, harmful, method, seed), _ in spectra.groupby([*KEYS, "seed"], sort=False):
        row: dict[str, Any] = {
            "network": network, "harmful": harmful, "method": method, "seed": seed,
        }  # fmt: skip

        def of(
            role: str, column: str, method: str = method, at: Any = (network, harmful, seed)
        ) -> float:
            return float(wide.loc[(at[0], at[1], method, at[2], role), column])

        for column, name in DEFINITIONS.items():
            i = of("H", column) / of("H", column, "identity")
            ii = of("P", column) / of("P", column, "identity")
            row |= {f"{name}_i": i, f"{name}_ii": ii, f"{name}_rir": i / ii}
        for role in "HP":
            row[f"rank_{role}"] = of(role, "rank")
            row[f"rank_{role}_reference"] = of(role, "rank", "identity")
            row[f"lambda_max_{role}"] = of(role, "lambda_max") / of(role, "lambda_max", "identity")
            row[f"rms_{role}"] = of(role, "feature_rms") / of(role, "feature_rms", "identity")
            row[f"effective_rank_{role}"] = of(role, "effective_rank")
        row["dimension"] = of("H", "dimension")
        row["groups_floored"] = of("H", "groups_floored")
        rows.append(row)
    return pd.DataFrame(rows)


def ratios_and_accuracy(
    found: pd.DataFrame, densities: pd.DataFrame, published: pd.DataFrame, order: dict[str, Any]
) -> pd.DataFrame:
    """The paper's Table 3: (i), (ii), RIR and accuracy on D_P, with the published figures where the
    data are the same."""
    frame = found.merge(densities[[*KEYS, "seed", "accuracy_p"]], on=[*KEYS, "seed"])
    frame["rank_kept"] = (frame["rank_H"] == frame["rank_H_reference"]) & (
        frame["rank_P"] == frame["rank_P_reference"]
    )
    names = [f"{name}_{q}" for name in DEFINITIONS.values() for q in ("i", "ii", "rir")]
    table = over_seeds(frame, [*names, "accuracy_p", "rank_H", "rank_P"])
    reference = table[table["method"] == "identity"].set_index(["network", "harmful"])
    index = pd.MultiIndex.from_frame(table[["network", "harmful"]])
    table["accuracy_p_lost"] = (
        reference["accuracy_p_mean"].reindex(index).to_numpy() - table["accuracy_p_mean"]
    )
    kept = frame.groupby(KEYS, sort=False)["rank_kept"].mean().rename("rank_kept_share")
    table = table.merge(kept.reset_index(), on=KEYS)
    table["dimension"] = table["network"].map(found.groupby("network")["dimension"].first())
    # Published figures hold for the paper's own data and networks.
    sources = table["harmful"].map(order["datasets"])
    same = (table["harmful"].map(order["forms"]) != "crops") & (
        order["datasets"].get(order["primary"]) == "imagenet"
    )
    base = table["network"].map(order["networks"]).str.split(".").str[0]
    keys = pd.MultiIndex.from_arrays([sources, base, table["method"].map(order["methods"])])
    # The paper's Algorithm 1 is the one as printed.
    same &= table["method"].map(order["profiles"]) != "corrected"
    known = published.set_index(["harmful", "network", "method"])
    for column in ("ratio_i", "ratio_ii", "rir", "accuracy"):
        values = known[column].reindex(keys).to_numpy(float)
        table[f"published_{column}"] = np.where(same, values, np.nan)
    return table


def show(table: pd.DataFrame) -> pd.DataFrame:
    """For people."""
    shown = table[KEYS].copy()
    for name, title, unit in (
        ("full_i", "(i) κ_H", 1), ("full_ii", "(ii) κ_P", 1), ("full_rir", "RIR", 1),
        ("accuracy_p", "accuracy on D_P (%)", 100),
        ("trimmed_rir", "RIR, trimmed", 1),
        ("groups_rir", "RIR, 20 × 100", 1), ("groups_released_i", "(i), paper's protocol", 1),
        ("groups_released_ii", "(ii), paper's protocol", 1),
        ("groups_released_rir", "RIR, paper's protocol", 1),
    ):  # fmt: skip
        pairs = zip(unit * table[f"{name}_mean"], unit * table[f"{name}_std"], strict=True)
        shown[title] = [plus_minus(m, s) for m, s in pairs]
    ranks = zip(table["rank_H_mean"], table["rank_P_mean"], table["dimension"], strict=True)
    shown["rank H, P"] = [
        f"{', '.join(show_rank(r) for r in ranks_of_roles)} of {d:.0f}"
        for *ranks_of_roles, d in ranks
    ]
    for column, title in (
        ("ratio_i", "(i)"), ("ratio_ii", "(ii)"), ("rir", "RIR"), ("accuracy", "accuracy"),
    ):  # fmt: skip
        if table[f"published_{column}"].notna().any():
            shown[f"{title}, published"] = table[f"published_{column}"].map(format_number)
    return shown


def table(results: Results) -> pd.DataFrame:
    """Rows in the order of the config."""
    ratios_of_methods = ratios_and_accuracy(
        ratios(results.trimmed), results.densities, results.published, results.order
    )
    return in_order(ratios_of_methods, results.order)
