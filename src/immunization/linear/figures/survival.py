"""The share of pairs that are not yet solved at each step, for each attacker."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from immunization.linear.figures._attacks import attacker, in_order
from immunization.linear.results import Results
from immunization.linear.slowdowns import BEST
from immunization.reporting.style import look, nothing, panels, shared_legend, title
from immunization.reporting.text import format_number

PARAMETERS = {
    "attacks": {
        "type": ["array", "null"],
        "items": {"type": "string"},
        "default": None,
        "description": "labels to draw; null for those that also train D_P, and the best of all.",
    },
}
CAPTION = (
    "Share of harmful tasks (pairs and seeds) not yet solved to the threshold at each step. "
    "A line that stays up is resistance to that attacker; all end at the budget, where what is "
    "left is censored. The last panel lets each pair's best attacker count."
)


def chosen(results: Results, dataset: str) -> list[str]:
    """Attackers of the figure."""
    rows = results.slowed(dataset)
    wanted = results.parameters.get("attacks")
    if wanted is None:
        wanted = [*rows.loc[rows["role"] == "P", "attack"].unique(), BEST]
    there = rows[(rows["role"] == "H") & rows["attack"].isin(wanted)]
    return in_order(results, there["attack"])


def draw(results: Results, dataset: str) -> Figure:
    """One panel an attacker."""
    rows = results.slowed(dataset)
    attacks = chosen(results, dataset)
    if not attacks:
        return nothing("This study has no attacker to show.")
    figure, rows_of_axes, axes = panels(len(attacks))
    styles, handles = look(results.methods), {}
    for axis, attack in zip(axes, attacks, strict=True):
        part = rows[(rows["role"] == "H") & (rows["attack"] == attack)]
        budget = float(part["budget"].max())
        for method in results.unswept():
            runs = part[part["method"] == method]
            if runs.empty:
                continue
            ended = ~runs["censored"].astype(bool) & runs["steps"].notna()  # nor diverged
            ends = np.sort(runs.loc[ended, "steps"].to_numpy(float))
            left = 1 - np.arange(1, len(ends) + 1) / len(runs)
            x = np.concatenate([[0.5], np.maximum(ends, 0.5), [budget]])
            y = np.concatenate([[1.0], left, [left[-1] if len(left) else 1.0]])
            (handles[method],) = axis.step(x, y, where="post", linewidth=1.3, **styles[method])
        axis.set(xscale="log", xlim=(0.5, budget), ylim=(-0.02, 1.03))
        axis.set_title(attacker(attack), fontsize=8)
    for row in rows_of_axes:
        row[0].set_ylabel("share not solved")
    for axis in rows_of_axes[-1]:
        axis.set_xlabel("step")
    shared_legend(figure, list(handles.values()), [title(m) for m in handles])
    return figure


def says(results: Results, dataset: str) -> str:
    """What is left at the budget, under the best attacker."""
    rows = results.slowed(dataset)
    best = rows[(rows["role"] == "H") & (rows["attack"] == BEST)]
    left = best.groupby("method")["censored"].mean()
    standing = left[left > 0.5]
    if len(standing) == 0:
        return (
            "Under the best attacker most harmful tasks are solved within the budget, whatever the "
            "method."
        )
    names = ", ".join(f"{title(m)} ({format_number(100 * v)} %)" for m, v in standing.items())
    return (
        f"Under the best attacker these leave most harmful tasks unsolved at the budget: {names}."
    )
