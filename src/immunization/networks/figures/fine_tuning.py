"""Fig. 3: held-out accuracy on the harmful task against the fine-tuning step, for every attack."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from immunization.networks.figures._attacked import attacked
from immunization.networks.results import Results
from immunization.networks.slowdowns import ATTACKER_KINDS, attacker_kind, full_data_tuned
from immunization.reporting.style import look, nothing, panels, shared_legend, title
from immunization.reporting.text import display_label, percent

PARAMETERS: dict[str, dict[str, object]] = {}
CAPTION = (
    "Held-out accuracy on D_H while an attacker trains on it, one panel an attack, one line a "
    "method (the paper's Fig. 3). Each line is the best attacker of its kind at that step "
    "(learning rates, optimisers, repairs), the mean over seeds; dotted: the same "
    "network trained from scratch."
)


def best_line(curves: pd.DataFrame) -> pd.Series:
    """Highest accuracy of any member at or before each recorded step, mean over seeds."""
    top = curves.groupby(["seed", "step"])["accuracy"].max().unstack("seed").sort_index()
    return top.cummax().mean(axis=1)


def draw(results: Results, setting: str) -> Figure:
    """One panel an attack."""
    curves = full_data_tuned(results.rows_of(results.curves, setting))
    curves = curves[curves["role"] == "H"]
    scratch = curves["attack"].map(results.uses).map(attacker_kind) == ATTACKER_KINDS["scratch"]
    control, curves = curves[scratch], curves[~scratch]
    attacks = [a for a in results.attacks if a in set(curves["attack"])]
    if not attacks:
        return nothing("No attacker trained on D_H here.")
    figure, rows, axes = panels(len(attacks))
    styles, handles = look(results.methods), {}
    for axis, attack in zip(axes, attacks, strict=True):
        part = curves[curves["attack"] == attack]
        for method in results.methods:
            line = best_line(part[part["method"] == method])
            if len(line):
                (handles[method],) = axis.plot(
                    line.index, 100 * line, linewidth=1.3, **styles[method]
                )
        if len(control) and results.uses[attack] != "linear_probe":
            line = best_line(control)
            (handles["from scratch"],) = axis.plot(
                line.index, 100 * line, linewidth=1.2, color="black", linestyle=":"
            )
        axis.set(xscale="log")
        axis.set_title(display_label(attack), fontsize=8)
    for row in rows:
        row[0].set_ylabel("accuracy on D_H (%)")
    for axis in rows[-1]:
        axis.set_xlabel("step")
    names = [m if m == "from scratch" else named(m) for m in handles]
    shared_legend(figure, list(handles.values()), names)
    return figure


def named(method: str) -> str:
    """A method, for people; the reference is θ₀ here."""
    return "no immunization (θ₀)" if method == "identity" else title(method)


def says(results: Results, setting: str) -> str:
    """Best accuracies without immunization, and where any method keeps attackers lower."""
    table = results.rows_of(attacked(results), setting)
    table = table[table["role"] == "H"]
    reference = table[table["method"] == "identity"].set_index("attack")["accuracy"]
    accuracies = [f"{display_label(a)} {percent(v)}" for a, v in reference.items()]
    others = table[
        (table["method"] != "identity") & (table["attacker_kind"] != ATTACKER_KINDS["scratch"])
    ]
    lost = others.assign(lost=reference.reindex(others["attack"]).to_numpy() - others["accuracy"])
    sentence = f"Best accuracies on D_H without immunization: {', '.join(accuracies)}."
    for group, part in lost.groupby("attacker_kind", sort=False):
        # An attacker takes whatever works best.
        best = part.groupby("method")["accuracy"].max()
        top = reference.reindex(part["attack"].unique()).max()
        worst = best.idxmin()
        sentence += (
            f" The best {group} is lowest with {named(str(worst))}, {percent(best.min())} "
            f"against {percent(top)}."
        )
    return sentence
