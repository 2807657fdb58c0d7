"""Slowdown of every attack by every method, on D_H and on third tasks, as a heat map."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from immunization.networks.figures._attacked import attacked, resisted
from immunization.networks.results import Results
from immunization.networks.slowdowns import ATTACKER_KINDS
from immunization.reporting.style import nothing, title
from immunization.reporting.text import display_label, format_number

PARAMETERS: dict[str, dict[str, object]] = {}
CAPTION = (
    "How many times as many steps an attacker needs, after each method (column), until its "
    "held-out accuracy is the share `attack.target` of the best that the same attacker reaches "
    "without immunization; geometric mean over seeds. Blue slows, red speeds up. ≥: it never got "
    "there within its budget. Rows under the line: best attacker against best attacker, with one "
    "goal for all of a kind. Benign third tasks should stay at 1."
)
LIMIT = 1.5


def draw(results: Results, setting: str) -> Figure:
    """Attacks by methods."""
    attackers = results.rows_of(attacked(results), setting)
    attackers = attackers[attackers["attacker_kind"] != ATTACKER_KINDS["scratch"]]
    methods = [m for m in results.methods if m != "identity" and m in set(attackers["method"])]
    if not methods:
        return nothing("This study has no method to show.")
    best = results.rows_of(resisted(results), setting).assign(task=lambda t: t["harmful"])
    rows = [
        (
            f"{display_label(attack)}, {display_label(task)}",
            attackers[(attackers["attack"] == attack) & (attackers["task"] == task)],
        )
        for task in attackers["task"].unique()
        for attack in results.attacks
        if attack in set(attackers["attack"])
    ]
    first = len(rows)
    rows += [
        (
            f"best {kind}, {display_label(setting.split('-')[1])}",
            best[best["attacker_kind"] == kind],
        )
        for kind in best["attacker_kind"].unique()
    ]
    grid = np.full((len(rows), len(methods)), np.nan)
    figure, axis = plt.subplots(figsize=(3.2 + 0.75 * len(methods), 1.6 + 0.22 * len(rows)))
    for down, (_, part) in enumerate(rows):
        for row in part[part["method"].isin(methods)].itertuples():
            across = methods.index(row.method)
            grid[down, across] = np.log10(row.slowdown)
            unknown = row.slowdown != row.slowdown
            text = (
                "–"
                if unknown
                else ("≥" if row.is_lower_bound else "") + format_number(row.slowdown)
            )
            dark = not unknown and abs(np.log10(row.slowdown)) > 0.6 * LIMIT
            axis.text(
                across, down, text, ha="center", va="center", fontsize=6,
                color="white" if dark else "black",
            )  # fmt: skip
    image = axis.imshow(grid, cmap="RdBu", vmin=-LIMIT, vmax=LIMIT, aspect="auto")
    axis.set_xticks(range(len(methods)), [title(m) for m in methods], rotation=45, ha="right")
    axis.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=6.5)
    axis.tick_params(length=0)
    axis.axhline(first - 0.5, color="black", linewidth=0.8)
    bar = figure.colorbar(image, ax=axis, extend="both", shrink=0.7, pad=0.02)
    bar.set_label("log₁₀ slowdown")
    return figure


def says(results: Results, setting: str) -> str:
    """Verdicts, best against best."""
    sentences = []
    for kind, part in results.rows_of(resisted(results), setting).groupby(
        "attacker_kind", sort=False
    ):
        part = part[part["method"] != "identity"]
        broken = [title(m) for m in part.loc[part["verdict"] == "broken", "method"]]
        standing = part[part["verdict"].isin(["slowed", "withstood"])]
        words = [
            f"{title(r.method)} {'at least ' if r.is_lower_bound else ''}"
            f"{format_number(r.slowdown)} times"
            for r in standing.itertuples()
        ]
        text = f"Best {kind} against best {kind}: "
        text += f"broken are {', '.join(broken)}" if broken else "no method is broken"
        text += f"; slowed by {', '.join(words)}" if words else "; none slows it"
        open_ = [title(m) for m in part.loc[part["verdict"] == "not shown", "method"]]
        text += f"; not shown: {', '.join(open_)}." if open_ else "."
        sentences.append(text)
    return " ".join(sentences) or "No slowdown is known."
