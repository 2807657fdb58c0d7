"""Harmful accuracy under the best attacker against the benign accuracy that remains."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from immunization.linear.results import Results
from immunization.linear.tables.resistance import best_accuracies
from immunization.reporting.style import look, nothing, shared_legend, title
from immunization.reporting.text import percent

CAPTION = (
    "Held-out accuracy on the harmful task that the best attacker reaches (up, wanted low), "
    "against the accuracy of the best probe on the benign task (right, wanted high). Filled: the "
    "best linear attacker that has all rows of the task. Hollow: the best non-linear one. "
    "Triangle: a linear one that has a few of the rows, or rows that the publisher never saw. The "
    "best attacker has the highest mean over pairs and seeds; where attackers that go through the "
    "data run on a sample of the pairs, the best of so many means lies above the truth by about "
    "their noise. The dotted line is chance."
)
MARKS = {"accuracy_linear": "o", "accuracy_nonlinear": "D", "accuracy_other_rows": "^"}


def points(results: Results, dataset: str) -> pd.DataFrame:
    """One row a method; empty where labels do not vary."""
    steps = results.steps[results.steps["dataset"] == dataset]
    ratios = results.ratios[results.ratios["dataset"] == dataset]
    if "accuracy_p" not in ratios or ratios["accuracy_p"].isna().all():
        return pd.DataFrame()
    points = pd.DataFrame(
        {name: values.droplevel("dataset") for name, values in best_accuracies(steps).items()}
    )
    benign = ratios.groupby(["method", "seed"])["accuracy_p"].mean().groupby("method").mean()
    return points.assign(benign=benign)


def draw(results: Results, dataset: str) -> Figure:
    """One colour a method, one mark a kind of attacker."""
    by_method = points(results, dataset)
    if by_method.empty:
        return nothing("Labels do not vary within a task here: there is no accuracy to keep.")
    figure, axis = plt.subplots(figsize=(9, 5.4))
    styles, handles = look(results.methods), {}
    for method in results.unswept():
        row, colour = by_method.loc[method], styles[method]["color"]
        for name, mark in MARKS.items():
            if name in row and row[name] == row[name]:
                drawn = axis.scatter(
                    100 * row["benign"], 100 * row[name], marker=mark, s=38, edgecolors=colour,
                    facecolors="none" if mark == "D" else colour,
                )  # fmt: skip
                if mark == "o":
                    handles[method] = drawn
        shown = [row[name] for name in MARKS if name in row and row[name] == row[name]]
        if len(shown) > 1:
            axis.plot(
                [100 * row["benign"]] * 2, [100 * min(shown), 100 * max(shown)],
                color=colour, linewidth=0.6, alpha=0.6,
            )  # fmt: skip
    axis.axhline(50, color="black", linewidth=0.6, linestyle=":")
    axis.set(xlabel="accuracy on D_P, best probe (%)", ylabel="accuracy on D_H, best attacker (%)")
    shared_legend(figure, list(handles.values()), [title(m) for m in handles])
    return figure


def says(results: Results, dataset: str) -> str:
    """The method that leaves least to a linear attacker, and what others get back."""
    by_method = points(results, dataset)
    if by_method.empty:
        return "There is no accuracy to keep or lose here."
    if "accuracy_linear" not in by_method or by_method["accuracy_linear"].isna().all():
        return "No linear attacker with all rows has a known accuracy here."
    lowest = str(by_method["accuracy_linear"].idxmin())
    row, before = by_method.loc[lowest], by_method.loc["identity"]
    sentence = (
        f"With {title(lowest)} the best linear attacker reaches "
        f"{percent(row['accuracy_linear'])} on D_H ({percent(before['accuracy_linear'])} without "
        f"immunization), and D_P keeps {percent(row['benign'])} of {percent(before['benign'])}"
    )
    for name, words in (
        ("accuracy_nonlinear", "; the best non-linear probe gets back"),
        ("accuracy_other_rows", "; a linear one with fewer or other rows gets back"),
    ):
        if name in row and row[name] == row[name]:
            sentence += f"{words} {percent(row[name])}"
    return sentence + "."
