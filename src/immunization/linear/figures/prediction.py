"""Does κ predict resistance? Each predictor against the measured slowdown."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from immunization.linear.figures._attacks import attacker, in_order
from immunization.linear.prediction import PREDICTORS, join_predictors, rank_correlations
from immunization.linear.results import Results
from immunization.linear.slowdowns import BEST
from immunization.linear.tables.prediction import two_digits
from immunization.reporting.style import few_ticks, look, nothing, shared_legend, title

PARAMETERS = {
    "attacks": {
        "type": ["array", "null"],
        "items": {"type": "string"},
        "default": None,
        "description": "labels to draw; null for those that also train D_P.",
    },
    "predictors": {
        "type": "array",
        "items": {"type": "string"},
        "default": ["ratio_i", "label_weighted_ratio_i", "rir", "released_rir"],
        "description": "columns of the ratios that the slowdown is compared with.",
    },
}
CAPTION = (
    "What the condition number foretells against what happened: each predictor (column) beside "
    "the slowdown of each attacker (row) on the harmful task, one point a method, pair and seed. "
    "ρ is Spearman's rank correlation over all points, in brackets its mean within a method. "
    "Hollow points are lower bounds. The label-weighted κ counts directions only as far as the "
    "labels need them."
)
MOST = 4000
"""Points drawn in a panel; of more every n-th."""


def draw(results: Results, dataset: str) -> Figure:
    """Predictors across, attackers down."""
    rows = results.slowed(dataset)
    wanted = results.parameters.get("attacks")
    if wanted is None:
        wanted = list(rows.loc[rows["role"] == "P", "attack"].unique())
    ratios = results.ratios[results.ratios["dataset"] == dataset]
    both = join_predictors(ratios, rows[rows["attack"].isin(wanted)], results.order["methods"])
    both = both[~both["attack"].str.startswith(BEST) & both["method"].isin(results.unswept())]
    varied = both.groupby("attack")["slowdown"].nunique()
    attacks = in_order(results, varied.index[varied > 1].to_series())
    predictors = [p for p in results.parameters.get("predictors", []) if p in PREDICTORS]
    if not attacks or not predictors:
        return nothing("No attacker whose slowdown is known and varies.")
    figure, axes = plt.subplots(
        len(attacks), len(predictors), figsize=(2.5 * len(predictors), 2.1 * len(attacks) + 0.9),
        sharex="col", sharey="row", squeeze=False,
    )  # fmt: skip
    numbers = rank_correlations(both).set_index(["attack", "predictor"])
    styles, handles = look(results.methods), {}
    for row, attack in zip(axes, attacks, strict=True):
        part = both[both["attack"] == attack]
        part = part.iloc[:: 1 + len(part) // MOST]
        for axis, predictor in zip(row, predictors, strict=True):
            for method in results.unswept():
                runs = part[part["method"] == method]
                bound = runs["censored"].astype(bool)
                colour = styles[method]["color"]
                axis.scatter(
                    runs.loc[bound, predictor], runs.loc[bound, "slowdown"], s=5,
                    facecolors="none", edgecolors=colour, linewidths=0.4, rasterized=True,
                )  # fmt: skip
                handles[method] = axis.scatter(
                    runs.loc[~bound, predictor], runs.loc[~bound, "slowdown"], s=5,
                    color=colour, linewidths=0, rasterized=True,
                )  # fmt: skip
            correlations = numbers.loc[(attack, predictor)]
            rho, within = (
                two_digits(correlations[name]) for name in ("spearman", "spearman_within")
            )
            axis.set_title(f"ρ = {rho} ({within})", fontsize=7)
            axis.set(xscale="log", yscale="log")
            few_ticks(axis)
        row[0].set_ylabel(f"slowdown\n{attacker(attack)}", fontsize=7)
    for axis, predictor in zip(axes[-1], predictors, strict=True):
        axis.set_xlabel(PREDICTORS[predictor], fontsize=8)
    handles.pop("identity", None)
    shared_legend(figure, list(handles.values()), [title(m) for m in handles])
    return figure


def says(results: Results, dataset: str) -> str:
    """The predictor with the highest mean rank correlation over attackers, beside the raw κ."""
    rows = results.slowed(dataset)
    ratios = results.ratios[results.ratios["dataset"] == dataset]
    correlations = rank_correlations(join_predictors(ratios, rows, results.order["methods"]))
    if correlations.empty:
        return "No attacker's slowdown varies, so there is nothing to predict."
    correlations = correlations[~correlations["attack"].str.startswith(BEST)]
    mean = correlations.groupby("predictor")["spearman"].mean()
    mean = mean[np.isfinite(mean)]
    inside = correlations.groupby("predictor")["spearman_within"].mean()
    if mean.empty:
        return "No attacker's slowdown varies, so there is nothing to predict."
    best = mean.idxmax()
    raw, ratio = (float(mean.get(name, float("nan"))) for name in ("ratio_i", "rir"))
    return (
        f"Over {correlations['attack'].nunique()} attackers whose slowdown varies, the mean rank "
        f"correlation with {PREDICTORS['ratio_i']} is {two_digits(raw)}, with "
        f"{PREDICTORS['rir']} {two_digits(ratio)}; the best predictor is "
        f"{PREDICTORS[str(best)]} with {two_digits(mean[best])}"
        + (
            f", and {two_digits(float(inside[best]))} within a method, where pairs were treated "
            "alike."
            if inside.get(best, float("nan")) == inside.get(best, float("nan"))
            else "."
        )
    )
