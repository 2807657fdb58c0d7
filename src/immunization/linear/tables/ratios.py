"""Stage 5: tables as CSV (numbers), Markdown and LaTeX (for people).

    python -m immunization.tables --ratios … --steps … --curves … --published … \\
        --grids … --trajectories … --study study.json --folder tables

Every mean is over pairs first and then over seeds; ± is the standard deviation over seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from immunization import stage
from immunization.errors import UserError
from immunization.files import read_json, read_table, read_tables, write_text
from immunization.formats import csv_text, latex, markdown, number, plus_minus
from immunization.measures import BEST
from immunization.provenance import provenance
from immunization.replication import replication_table, show_replication
from immunization.resistance import tables as resistance_tables

UNCHANGED = 1e-6
"""Slack for "not larger than", as in `immunization.evaluate`."""
ACCURACY_STEPS = (10, 100, 1000)


def over_seeds(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mean over pairs for each seed, then mean and standard deviation over seeds."""
    by_seed = frame.groupby(["dataset", "method", "seed"])[column].mean()
    grouped = by_seed.groupby(["dataset", "method"])
    return pd.DataFrame({f"{column}_mean": grouped.mean(), f"{column}_std": grouped.std(ddof=1)})


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
        ratios["outside"].where(infinite).groupby(keys).median().rename("outside_median_infinite"),
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


def show_ratios(table: pd.DataFrame) -> pd.DataFrame:
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
            shown[f"{title}, published"] = table[f"published_{column}"].map(number)
        if column == "rir":
            medians = zip(table["rir_median"], table["rir_median_std"], strict=True)
            shown["median RIR"] = [plus_minus(m, d) for m, d in medians]
    shown["released κ on its floor"] = table["released_floored_share"].map("{:.0%}".format)
    for kind, title in (("limit", "limit (median)"), ("limit_intercept", "limit, intercept")):
        limit = table[f"{kind}_median_finite"].map(number)
        share = table[f"{kind}_infinite_share"]
        shown[title] = np.select(
            [share == 0, share == 1],
            [limit, "∞"],
            limit + share.map(" (∞ on {:.0%})".format),
        )
    return shown


def definition_table(ratios: pd.DataFrame) -> pd.DataFrame:
    """On how many pairs each part of Definition 3.1, and each reading of success, is met."""
    kept = ratios["ratio_ii"] <= 1 + UNCHANGED
    met = ratios.assign(
        pairs=1,
        rir_above_1=ratios["rir"] > 1 + UNCHANGED,
        i_above_1_ii_at_most_1=(ratios["ratio_i"] > 1 + UNCHANGED) & kept,
        all_met=ratios["met_a"] & ratios["met_b"] & ratios["met_c"],
    )
    columns = [
        "pairs", "rir_above_1", "i_above_1_ii_at_most_1", "met_a", "met_b", "met_c", "all_met",
        "resolved",
    ]  # fmt: skip
    by_seed = met.groupby(["dataset", "method", "seed"])[columns].sum()
    return by_seed.groupby(["dataset", "method"]).mean().reset_index()


def show_definition(table: pd.DataFrame) -> pd.DataFrame:
    """`definition_table` for people; counts are means over seeds."""
    titles = {
        "pairs": "pairs",
        "rir_above_1": "RIR > 1",
        "i_above_1_ii_at_most_1": "(i) > 1 and (ii) ≤ 1",
        "met_a": "(a) met",
        "met_b": "(b) met",
        "met_c": "(c) met",
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


def accuracy_table(ratios: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Held-out accuracies: of the best probe, and of an attacker after some steps.

    Empty where no data set has labels that vary within a task.
    """
    if "accuracy_p" not in ratios:
        return pd.DataFrame({"dataset": [], "method": []})
    labelled = ratios.dropna(subset=["accuracy_p"])
    parts = [over_seeds(labelled, column) for column in ("accuracy_p", "accuracy_h")]
    table = pd.concat(parts, axis=1)
    known = curves.dropna(subset=["accuracy"])
    known = known[(known["step"] > 0) & known["role"].isin(["H", "P"])]
    # Attackers of both tasks; the report's figures have the others.
    known = known[known["attack"].isin(known.loc[known["role"] == "P", "attack"])]
    for (attack, role), frame in known.groupby(["attack", "role"], sort=False):
        recorded = np.sort(frame["step"].unique())
        for wanted in ACCURACY_STEPS:
            step = int(recorded[recorded <= wanted].max())
            at = frame[frame["step"] == step]
            name = f"{attack}_{role}_{step}"
            table[name] = at.groupby(["dataset", "method"])["accuracy"].mean()
    return table.reset_index()


def show_accuracy(table: pd.DataFrame) -> pd.DataFrame:
    """`accuracy_table` for people, in percent."""
    shown = table[["dataset", "method"]].copy()
    for role in "ph":
        if f"accuracy_{role}_mean" in table:
            means = 100 * table[f"accuracy_{role}_mean"]
            deviations = 100 * table[f"accuracy_{role}_std"]
            shown[f"D_{role.upper()}, best probe"] = [
                f"{m:.1f} ± {d:.1f}" if d == d else f"{m:.1f}"
                for m, d in zip(means, deviations, strict=True)
            ]
    for column in table.columns[2:]:
        if column.startswith("accuracy_") or table[column].isna().all():
            continue
        attack, role, step = column.rsplit("_", 2)
        # The first steps are in the CSV; least squares is the best probe at any step.
        if attack == "least_squares" or int(step) < 100:
            continue
        title = f"D_{role}, {attack.replace('_', ' ')}, {step} steps"
        shown[title] = (100 * table[column]).map("{:.1f}".format)
    return shown


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


def show_steps(table: pd.DataFrame) -> pd.DataFrame:
    """`steps_table` for people."""
    shown = table[["dataset", "method"]].copy()
    if not table.empty:
        shown["steps, median"] = table["steps_median"].map("{:.0f}".format)
        shown["steps, most"] = table["steps_max"].map("{:.0f}".format)
        shown["converged"] = table["converged_share"].map("{:.0%}".format)
    return shown


def arrange(table: pd.DataFrame, order: dict[str, Any]) -> pd.DataFrame:
    """Rows in the order of the config."""
    ranks = {
        "dataset": list(order["datasets"]),
        "attack": [*order["attacks"], BEST, f"{BEST}, logistic", f"{BEST}, softmax"],
        "method": list(order["methods"]),
    }
    columns = [name for name in ranks if name in table.columns]
    keys = table[columns].apply(lambda column: column.map(ranks[str(column.name)].index))
    return table.loc[keys.sort_values(columns, kind="stable").index].reset_index(drop=True)


def _csv(path: str, wanted: tuple[str, ...]) -> pd.DataFrame:
    table = pd.read_csv(path)
    if missing := set(wanted) - set(table):
        raise UserError(f"{path}: columns {sorted(missing)} are missing.")
    return table


def main(arguments: list[str] | None = None) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Tables of a study.")
    parser.add_argument("--ratios", required=True, help="from the spectrum stage")
    parser.add_argument("--steps", nargs="+", required=True, help="from the attack stage")
    parser.add_argument("--curves", nargs="+", required=True, help="from the attack stage")
    parser.add_argument("--published", required=True, help="CSV of published figures")
    parser.add_argument("--grids", required=True, help="CSV of the published Fig. 2")
    parser.add_argument("--trajectories", nargs="+", required=True, help="from the immunize stage")
    parser.add_argument("--study", required=True, help="study.json")
    parser.add_argument("--folder", required=True, help="folder for the tables")
    options = parser.parse_args(arguments)

    order = read_json(options.study)["order"]
    ratios = read_table(options.ratios)
    steps, curves = read_tables(options.steps), read_tables(options.curves)
    published = _csv(
        options.published, ("source", "task", "method", "quantity", "value", "note", "because")
    )
    published["because"] = published["because"].fillna("")
    grids = _csv(options.grids, ("method", "row", "column", "log_rir"))
    trajectories = read_tables(options.trajectories)

    main_table = with_published(ratios_table(ratios), published, order)
    tables: dict[str, tuple[pd.DataFrame, Callable[[pd.DataFrame], pd.DataFrame]]] = {
        "ratios": (main_table, show_ratios),
        "definition": (definition_table(ratios), show_definition),
        **resistance_tables(ratios, steps, curves, order),
        "accuracy": (accuracy_table(ratios, curves), show_accuracy),
        "steps": (steps_table(trajectories), show_steps),
        "replication": (replication_table(ratios, published, grids, order), show_replication),
    }
    record = provenance(["immunization.tables"], {})
    folder = Path(options.folder)
    for name, (table, show) in tables.items():
        if name != "replication":  # which stands in the paper's order
            table = arrange(table, order)
        shown = show(table)
        write_text(folder / f"{name}.csv", csv_text(table), record)
        write_text(folder / f"{name}.md", markdown(shown), record)
        write_text(folder / f"{name}.tex", latex(shown), record)


if __name__ == "__main__":
    stage.run(main)
