"""Stage 6 of a study of networks: tables as CSV (numbers), Markdown and LaTeX (for people).

    python -m immunization.networks.tables --spectra … --densities … --curves … --published … \\
        --study study.json --folder tables
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from immunization import stage
from immunization.errors import UserError
from immunization.files import read_json, read_table, read_tables, write_text
from immunization.formats import csv_text, latex, markdown, number, plus_minus
from immunization.measures import LOST
from immunization.networks.claims import claims_table, show_claims
from immunization.networks.resistance import (
    FINE,
    KINDS,
    attacks_table,
    plain_sgd,
    resistance_table,
)
from immunization.provenance import provenance

KEYS = ["network", "harmful", "method"]
ORDER_OF_KINDS = [KINDS["linear_probe"], FINE, KINDS["scratch"]]
DEFINITIONS = {
    "kappa": "full",
    "kappa_groups": "groups",
    "kappa_groups_released": "groups_released",
    "kappa_released": "released",
    "kappa_released_unit": "released_unit",
    "kappa_ridge": "ridge",
    "kappa_trimmed": "trimmed",
}


def trimmed_condition(eigenvalues: np.ndarray) -> float:
    """κ without the smallest hundredth of the eigenvalues, at least one: what is left when a few
    directions are given up.

    Args:
        eigenvalues: positive, ascending, at least two.
    """
    cut = math.ceil(len(eigenvalues) / 100)
    return float(eigenvalues[-1] / eigenvalues[min(cut, len(eigenvalues) - 1)])


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
            row[f"sigma_max_{role}"] = of(role, "sigma_max") / of(role, "sigma_max", "identity")
            row[f"rms_{role}"] = of(role, "feature_rms") / of(role, "feature_rms", "identity")
            row[f"effective_rank_{role}"] = of(role, "effective_rank")
        row["dimension"] = of("H", "dimension")
        row["groups_floored"] = of("H", "groups_floored")
        rows.append(row)
    return pd.DataFrame(rows)


def over_seeds(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Mean and standard deviation over seeds of each column."""
    grouped = frame.groupby(KEYS, sort=False)[columns]
    mean = grouped.mean().add_suffix("_mean")
    return mean.join(grouped.std(ddof=1).add_suffix("_std")).reset_index()


def table3(
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
    sources = table["harmful"].map(order["images"])
    same = (table["harmful"].map(order["forms"]) != "crops") & (
        order["images"].get(order["primary"]) == "imagenet"
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


def show_table3(table: pd.DataFrame) -> pd.DataFrame:
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
    shown["rank H, P"] = [f"{', '.join(_rank(r) for r in found)} of {d:.0f}" for *found, d in ranks]
    for column, title in (
        ("ratio_i", "(i)"), ("ratio_ii", "(ii)"), ("rir", "RIR"), ("accuracy", "accuracy"),
    ):  # fmt: skip
        if table[f"published_{column}"].notna().any():
            shown[f"{title}, published"] = table[f"published_{column}"].map(number)
    return shown


def _rank(mean: float) -> str:
    """A mean rank: one seed of three that lost one direction is to be seen."""
    return f"{mean:.1f}".removesuffix(".0")


def spectra_table(spectra: pd.DataFrame) -> pd.DataFrame:
    """κ itself on each task by each definition, and what scale and shape the features have."""
    columns = [
        "kappa", "kappa_trimmed", "kappa_ridge", "kappa_groups", "kappa_groups_released",
        "kappa_released", "kappa_released_unit", "rank", "dimension", "rows", "effective_rank",
        "sigma_max", "feature_rms", "groups_floored", "probe_kappa", "probe_largest", "probe_trace",
    ]  # fmt: skip
    keys = ["network", "harmful", "role", "method"]
    for column in columns:
        if column not in spectra:
            spectra = spectra.assign(**{column: np.nan})
    spectra = spectra.assign(**{c: spectra[c].astype(float) for c in columns})
    return spectra.groupby(keys, sort=False)[columns].mean().reset_index()


def show_spectra(table: pd.DataFrame) -> pd.DataFrame:
    """For people."""
    shown = table[["network", "harmful", "role", "method"]].copy()
    for column, title in (
        ("kappa", "κ"), ("rank", "rank"), ("kappa_trimmed", "κ, trimmed"),
        ("kappa_ridge", "ridge κ"), ("kappa_groups", "κ, 20 × 100"),
        ("kappa_groups_released", "released κ, 20 × 100"),
        ("kappa_released_unit", "released κ, unit scale"), ("effective_rank", "effective rank"),
        ("sigma_max", "σ_max/N"), ("feature_rms", "feature r.m.s."),
        ("probe_largest", "softmax probe: λ_max"), ("probe_trace", "softmax probe: trace"),
        ("probe_kappa", "softmax probe: κ"),
    ):  # fmt: skip
        shown[title] = table[column].map(_rank if column == "rank" else number)
    return shown


def show_attacks(table: pd.DataFrame) -> pd.DataFrame:
    """For people."""
    shown = table[["network", "harmful", "task", "attack", "method"]].copy()
    pairs = zip(100 * table["accuracy"], 100 * table["accuracy_std"], strict=True)
    shown["best accuracy (%)"] = [plus_minus(m, s) for m, s in pairs]
    shown["steps"] = [
        f"{'≥ ' if bound else ''}{number(steps)}"
        for steps, bound in zip(table["steps"], table["bound"], strict=True)
    ]
    shown["slowdown"] = [_slowdown(row) for row in table.itertuples()]
    shown["RFD"] = table["rfd"].map(number)
    shown["signed RFD"] = table["rfd_signed"].map(number)
    shown["fastest"] = table["fastest"].str.split(": ").str[1]
    return shown


def _slowdown(row: Any, prefix: str = "") -> str:
    names = ("slowdown", "low", "high", "bound")
    slowdown, low, high, bound = (getattr(row, f"{prefix}{name}") for name in names)
    if slowdown != slowdown:
        return "–"
    sign = "≥ " if bound else ""
    if low != low:
        return f"{sign}{number(slowdown)}"
    return f"{sign}{number(slowdown)} [{number(low)}, {number(high)}]"


def show_resistance(table: pd.DataFrame) -> pd.DataFrame:
    """For people."""
    shown = table[["network", "harmful", "kind", "method"]].copy()
    shown["verdict"] = table["verdict"]
    shown["S"] = [_slowdown(row) for row in table.itertuples()]
    for share in table["lower_target"].unique():
        shown[f"S at {100 * share:.3g} %"] = [
            _slowdown(row, "lower_") for row in table.itertuples()
        ]
    shown["selectivity"] = table["selectivity"].map(number)
    shown["best accuracy (%)"] = (100 * table["accuracy"]).map(number)
    shown["with few images"] = (100 * table["accuracy_few"]).map(number)
    shown["fastest"] = table["fastest"]
    return shown


def hessians_table(densities: pd.DataFrame) -> pd.DataFrame:
    """The Hessian of D_P's loss on the trainable part."""
    columns = [
        "hessian_largest", "hessian_smallest", "hessian_trace", "hessian_parameters", "accuracy_p",
    ]  # fmt: skip
    return over_seeds(densities, columns)


def show_hessians(table: pd.DataFrame) -> pd.DataFrame:
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


SHOW: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "claims": show_claims,
    "table3": show_table3,
    "resistance": show_resistance,
    "attacks": show_attacks,
    "spectra": show_spectra,
    "hessians": show_hessians,
}


def tables(
    spectra: pd.DataFrame,
    densities: pd.DataFrame,
    curves: pd.DataFrame,
    published: pd.DataFrame,
    study: dict[str, Any],
) -> dict[str, pd.DataFrame]:
    """All tables by name."""
    config = study["config"]
    order = study["order"] | {"primary": config["primary"]}
    target = config["attack"]["target"]
    spectra = spectra.assign(kappa_trimmed=spectra["eigenvalues"].map(trimmed_condition))
    found = ratios(spectra)
    made = {
        "table3": table3(found, densities, published, order),
        "spectra": spectra_table(spectra),
        "attacks": attacks_table(curves, order["attacks"], target),
        "resistance": resistance_table(
            curves, order["attacks"], target, config["attack"]["lower_target"]
        ),
        "hessians": hessians_table(densities),
    }
    made["resistance"] = with_destroyed(made["resistance"], made["table3"])
    made["claims"] = claims_table(
        made["table3"], made["resistance"], plain_sgd(curves, order["attacks"], target), order
    )
    return {name: in_order(table, order) for name, table in made.items()}


def with_destroyed(resistance: pd.DataFrame, table3: pd.DataFrame) -> pd.DataFrame:
    """The verdict *destroyed* where more than `LOST` of θ₀'s accuracy on D_P is gone, by more than
    one seed."""
    keys = ["network", "harmful", "method"]
    before = table3["accuracy_p_mean"] + table3["accuracy_p_lost"]
    gone = (table3["accuracy_p_lost"] / before).set_axis(pd.MultiIndex.from_frame(table3[keys]))
    lost = gone.reindex(pd.MultiIndex.from_frame(resistance[keys])).to_numpy() > LOST
    columns = [name for name in ("verdict", "lower_verdict") if name in resistance]
    return resistance.assign(
        **{
            name: resistance[name].mask(lost & (resistance[name] != "no verdict"), "destroyed")
            for name in columns
        }
    )


def in_order(table: pd.DataFrame, order: dict[str, Any]) -> pd.DataFrame:
    """Rows in the order of the config."""
    for column, places in (
        ("method", order["methods"]),
        ("attack", order["attacks"]),
        ("kind", ORDER_OF_KINDS),
        ("network", order["networks"]),
    ):
        if column in table:
            rank = {label: place for place, label in enumerate(places)}
            table = table.sort_values(column, key=lambda c, rank=rank: c.map(rank), kind="stable")
    return table.reset_index(drop=True)


def main(arguments: list[str] | None = None) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Tables of a study of networks.")
    parser.add_argument("--spectra", required=True)
    parser.add_argument("--densities", required=True)
    parser.add_argument("--curves", nargs="+", required=True)
    parser.add_argument("--published", required=True, help="config/published_networks.csv")
    parser.add_argument("--study", required=True, help="study.json")
    parser.add_argument("--folder", required=True, help="where tables go")
    options = parser.parse_args(arguments)
    try:
        published = pd.read_csv(options.published)
    except (OSError, ValueError) as error:
        raise UserError(f"{options.published}: cannot be read ({error}).") from error
    made = tables(
        read_table(options.spectra),
        read_table(options.densities),
        read_tables(options.curves),
        published,
        read_json(options.study),
    )
    record = provenance(["immunization.networks.tables"], {})
    for name, table in made.items():
        base = Path(options.folder) / name
        people = SHOW[name](table)
        write_text(f"{base}.csv", csv_text(table), record)
        write_text(f"{base}.md", markdown(people), record)
        write_text(f"{base}.tex", latex(people), record)


if __name__ == "__main__":
    stage.run(main)
