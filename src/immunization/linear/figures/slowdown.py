"""Slowdown of every attacker by every method, as a heat map."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from immunization.linear.figures._attacks import attacker, in_order, listed
from immunization.linear.results import Results
from immunization.linear.slowdowns import BEST, full_data_linear_attackers
from immunization.linear.tables.attacks import attacks_table
from immunization.reporting.intervals_and_verdicts import MAX_BROKEN_SLOWDOWN
from immunization.reporting.style import nothing, title
from immunization.reporting.text import format_number

CAPTION = (
    "How many times as many steps each attacker (row) needs to solve the harmful task after each "
    "method (column), median over pairs and seeds. Blue slows the attacker, red speeds it up. ≥: "
    "the budget ran out, so the figure is a lower bound. –: it ran out without immunization too, "
    "and the slowdown is unknown. div: the attacker diverged on most pairs. The last rows let each"
    " pair's best attacker count against the best without immunization; a method that is at 1 "
    "there is broken."
)
LIMIT = 3.0
"""Colours end at a thousandfold."""


def draw(results: Results, dataset: str) -> Figure:
    """Median slowdown on D_H."""
    table = attacks_table(results.slowed(dataset))
    methods = [m for m in results.unswept() if m != "identity"]
    attacks = in_order(results, table["attack"])
    if not methods or not attacks:
        return nothing("This study has no method or no attacker to show.")
    grid = np.full((len(attacks), len(methods)), np.nan)
    figure, axis = plt.subplots(figsize=(2.6 + 0.62 * len(methods), 1.6 + 0.2 * len(attacks)))
    for row in table[table["method"].isin(methods)].itertuples():
        value, place = row.slowdown_median_H, (attacks.index(row.attack), methods.index(row.method))
        grid[place] = np.log10(value)
        text = (
            "–"
            if value != value
            else ("≥" if row.slowdown_is_lower_bound_H else "") + format_number(value)
        )
        if 2 * row.diverged_H > row.problems_H:
            text = "div"
        dark = value == value and abs(np.log10(value)) > 0.6 * LIMIT
        axis.text(
            place[1], place[0], text, ha="center", va="center", fontsize=5.5,
            color="white" if dark else "black",
        )  # fmt: skip
    image = axis.imshow(grid, cmap="RdBu", vmin=-LIMIT, vmax=LIMIT, aspect="auto")
    axis.set_xticks(range(len(methods)), [title(m) for m in methods], rotation=45, ha="right")
    axis.set_yticks(range(len(attacks)), [attacker(a) for a in attacks], fontsize=6.5)
    axis.tick_params(length=0)
    first = next((i for i, a in enumerate(attacks) if a.startswith(BEST)), None)
    if first is not None:
        axis.axhline(first - 0.5, color="black", linewidth=0.8)
    bar = figure.colorbar(image, ax=axis, extend="both", shrink=0.6, pad=0.02)
    bar.set_label("log₁₀ slowdown on D_H")
    return figure


def says(results: Results, dataset: str) -> str:
    """How many attackers break each method, and which method the fewest do."""
    table = attacks_table(full_data_linear_attackers(results.slowed(dataset)))
    methods = [m for m in results.unswept() if m != "identity"]
    attackers = table[table["method"].isin(methods) & table["slowdown_median_H"].notna()]
    attackers = attackers[~attackers["attack"].str.startswith(BEST)]
    bound = attackers["slowdown_is_lower_bound_H"]
    fast = (attackers["slowdown_median_H"] <= MAX_BROKEN_SLOWDOWN) & ~bound
    known = attackers.groupby("method").size().reindex(methods, fill_value=0)
    broken = fast.groupby(attackers["method"]).sum().reindex(methods, fill_value=0)
    if not known.any():
        return "No slowdown is known here: without immunization every attacker ran out of steps."
    names = [m for m in methods if broken[m] == broken.min()]
    most = str(broken.idxmax())
    return (
        f"Of the {known.max()} attackers whose slowdown is known, {broken.min()} are not slowed "
        f"by {listed(names)}, and {broken[most]} are not slowed by {title(most)}."
    )
