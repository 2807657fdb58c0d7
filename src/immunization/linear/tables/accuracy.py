"""Table: held-out accuracies of probes and attackers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from immunization.linear.results import Results
from immunization.linear.tables._over_seeds import over_seeds

CAPTION = (
    "Held-out accuracy in percent where labels vary within a task: of the best probe on each "
    "task, and of an attacker of the harmful task who stops after the given number of steps."
)
REPORT = 6
"""Place in the report."""

ACCURACY_STEPS = (10, 100, 1000)


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


def show(table: pd.DataFrame) -> pd.DataFrame:
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


def table(results: Results) -> pd.DataFrame:
    """See `accuracy_table`."""
    return results.arrange(accuracy_table(results.ratios, results.curves))
