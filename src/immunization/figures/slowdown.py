"""Slowdown of every attacker by every method, as a heat map."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from immunization.figures._attacks import BEST, attacker, in_order, listed, slowed
from immunization.figures._results import Results
from immunization.figures._style import nothing, title
from immunization.formats import number
from immunization.measures import SAME, median_slowdown

CAPTION = (
    "How many times as many steps each attacker (row) needs to solve the harmful task after each "
    "method (column), median over pairs and seeds. Blue slows the attacker, red speeds it up. "
    "≥: the budget ran out, so the figure is a lower bound. –: it ran out without immunization "
    "too, and the slowdown is unknown. The last rows let each pair's best attacker count against "
    "the best without immunization; a method that is at 1 there is broken."
)
LIMIT = 3.0
"""Colours end at a thousandfold."""


def draw(results: Results, dataset: str) -> Figure:
    """Median slowdown on D_H."""
    rows = slowed(results, dataset)
    rows = rows[rows["role"] == "H"]
    methods = [m for m in results.unswept() if m != "identity"]
    attacks = in_order(results, rows["attack"])
    if not methods or not attacks:
        return nothing("This study has no method or no attacker to show.")
    grid = np.full((len(attacks), len(methods)), np.nan)
    figure, axis = plt.subplots(figsize=(2.6 + 0.62 * len(methods), 1.6 + 0.2 * len(attacks)))
    for (attack, method), group in rows.groupby(["attack", "method"], sort=False):
        if method not in methods:
            continue
        value, bound = median_slowdown(group)
        place = attacks.index(attack), methods.index(method)
        grid[place] = np.log10(value)
        text = "–" if value != value else ("≥" if bound else "") + number(value)
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
    rows = slowed(results, dataset)
    rows = rows[(rows["role"] == "H") & ~rows["attack"].str.startswith(BEST)]
    rows = rows[(rows["fraction"] == 1) & ~rows["fresh"].astype(bool)]
    methods = [m for m in results.unswept() if m != "identity"]
    broken, known = dict.fromkeys(methods, 0), dict.fromkeys(methods, 0)
    for (_, method), group in rows.groupby(["attack", "method"], sort=False):
        value, bound = median_slowdown(group)
        if method in broken and value == value:
            known[method] += 1
            broken[method] += value <= SAME and not bound
    if not any(known.values()):
        return "No slowdown is known here: without immunization every attacker ran out of steps."
    fewest = min(broken.values())
    names = [m for m in methods if broken[m] == fewest]
    most = max(methods, key=lambda m: broken[m])
    return (
        f"Of the {max(known.values())} attackers whose slowdown is known, {fewest} are not slowed "
        f"by {listed(names)}, and {broken[most]} are not slowed by {title(most)}."
    )
