"""What an attacker gains by trying more attacks: expected steps of the best of k."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from immunization.linear.results import Results
from immunization.linear.slowdowns import BEST, full_data_linear_attackers
from immunization.reporting.intervals_and_verdicts import best_of_k
from immunization.reporting.style import look, nothing, shared_legend, title

FEW = 10
"""Steps within which a method counts as fallen."""
CAPTION = (
    "Expected steps to threshold of the fastest of k attackers drawn at random from those of the "
    "study with squared loss, on the harmful task; median over pairs and seeds, censored attackers "
    "at the budget. An attacker who knows nothing of the method and tries k settings pays this "
    "much; where lines meet, immunization only asks for a few more tries."
)


def curves(results: Results, dataset: str) -> dict[str, np.ndarray]:
    """Steps for k = 1 … n, by method."""
    rows = full_data_linear_attackers(results.slowed(dataset))
    rows = rows[(rows["role"] == "H") & (rows["loss"] == "squared")]
    rows = rows[~rows["attack"].str.startswith(BEST)]
    medians = {}
    for method in results.unswept():
        attempts = rows[rows["method"] == method]
        # An attacker that diverged counts with its whole budget.
        attempts = attempts.assign(steps=attempts["steps"].fillna(attempts["budget"]))
        wide = attempts.pivot_table(index=["seed", "pair"], columns="attack", values="steps")
        wide = wide.dropna()  # pairs that all attackers have run on
        if wide.size:
            medians[method] = np.median(best_of_k(np.maximum(wide.to_numpy(float), 1)), axis=0)
    return medians


def draw(results: Results, dataset: str) -> Figure:
    """One line a method."""
    medians = curves(results, dataset)
    if not medians:
        return nothing("This study has no attacker to show.")
    figure, axis = plt.subplots(figsize=(9, 4.8))
    styles, handles = look(results.methods), {}
    for method, line in medians.items():
        x = np.arange(1, len(line) + 1)
        (handles[method],) = axis.plot(x, line, linewidth=1.4, **styles[method])
    axis.set(yscale="log", xlabel="k, attackers tried", ylabel="steps of the fastest, expected")
    axis.set_ylim(bottom=0.8)
    shared_legend(figure, list(handles.values()), [title(m) for m in handles])
    return figure


def says(results: Results, dataset: str) -> str:
    """How many tries bring each method down to `FEW` steps."""
    medians = curves(results, dataset)
    if not medians:
        return ""
    runs = results.slowed(dataset)
    budget = int(runs.loc[runs["loss"] == "squared", "budget"].min())
    if budget <= FEW:  # who ran out of it would count as having been that fast
        return f"A budget of {budget} steps is too small to show who falls in ten."
    total = len(next(iter(medians.values())))
    tries = {m: int((line <= FEW).argmax()) + 1 for m, line in medians.items() if line.min() <= FEW}
    never = [title(m) for m in medians if m not in tries]
    sentences = []
    if tries:
        hard = max(tries, key=lambda m: tries[m])
        sentences.append(
            f"With {tries[hard]} of {total} attackers tried at random, every method"
            f"{' but those named next' if never else ''} falls in ten expected steps or fewer "
            f"(the last is {title(hard)})."
        )
    if never:
        sentences.append(f"Never: {', '.join(never)}.")
    return " ".join(sentences)
