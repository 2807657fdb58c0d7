"""Fig. 1: how fast a probe converges on D_P and on D_H, one line a method."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from immunization.figures._results import Results
from immunization.figures._style import look, nothing, shared_legend, title

CAPTION = (
    "How fast a probe is trained on the benign task D_P (left) and on the harmful task D_H "
    "(right), for each attacker. Two measures, both relative to the start: the squared distance of "
    "the probe's weights to the best ones (Eq. 16 of the paper), and the loss above the best. A "
    "line that falls late is a model that is slow to fine-tune. Immunization should push lines up "
    "on the right and not on the left. Weights along tiny eigenvalues hardly matter to the loss "
    "and hardly move, so the two can tell different stories. Lines are held where the loss has "
    "come within 1e-10 of the best. Medians over pairs of tasks, bands "
    "from the lower to the upper quartile; a line that leaves at the bottom has converged."
)


MEASURES = (
    ("convergence_ratio", "‖w$_t$ − w*‖² / ‖w$_0$ − w*‖²"),
    ("loss_gap", "(L$_t$ − L*) / (L$_0$ − L*)"),
)
LOWEST = 1e-10


def draw(results: Results, dataset: str) -> Figure:
    """Eq. 16 and the loss gap against the step: quartiles over pairs, averaged over seeds."""
    curves = results.curves[results.curves["dataset"] == dataset]
    # Attackers of both tasks with squared loss, for which w* is known.
    curves = curves[curves["attack"].isin(curves.loc[curves["role"] == "P", "attack"])]
    # An attacker that is done after one step has no curve to show.
    later = curves[curves["step"] > 0].groupby("attack")["loss_gap_q50"].max()
    attacks = [name for name in curves["attack"].unique() if later[name] > 0]
    if not attacks:
        return nothing("No attacker of this study takes more than one step.")
    figure, axes = plt.subplots(
        2 * len(attacks), 2, figsize=(8, 0.9 + 4.2 * len(attacks)), sharex=True, sharey="row",
        squeeze=False,
    )  # fmt: skip
    styles = look(results.methods)
    handles = {}
    rows = [(attack, *measure) for attack in attacks for measure in MEASURES]
    for row, (attack, measure, label) in zip(axes, rows, strict=True):
        lowest = 1.0
        for axis, (role, name) in zip(
            row, (("P", "benign task D_P"), ("H", "harmful task D_H")), strict=True
        ):
            part = curves[(curves["attack"] == attack) & (curves["role"] == role)]
            for method in results.methods:
                line = part[part["method"] == method].groupby("step").mean(numeric_only=True)
                line = line[line.index > 0].clip(lower=LOWEST)
                middle, style = line[f"{measure}_q50"], styles[method]
                (handles[method],) = axis.plot(middle.index, middle, linewidth=1.4, **style)
                axis.fill_between(
                    line.index, line[f"{measure}_q25"], line[f"{measure}_q75"],
                    color=style["color"], alpha=0.08, linewidth=0,
                )  # fmt: skip
                unfinished = middle[middle > 10 * LOWEST]
                lowest = min(lowest, float(unfinished.min()) if len(unfinished) else 1.0)
            axis.set(xscale="log", yscale="log", title=f"{title(attack)}, {name}")
        row[0].set(ylabel=label, ylim=(max(lowest / 3, LOWEST), 2))
    for axis in axes[-1]:
        axis.set_xlabel("step")
    shared_legend(figure, list(handles.values()), [title(m) for m in handles])
    return figure
