"""Fig. 1: how fast a probe converges on D_P and on D_H, one line a method."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from immunization.figures._results import Results
from immunization.figures._style import look, shared_legend, title

CAPTION = (
    "How fast a probe is trained on the benign task D_P (left) and on the harmful task D_H "
    "(right), for each attacker. The vertical axis is the squared distance of the probe's weights "
    "to the best ones, relative to the start (Eq. 16 of the paper): a line that falls late is a "
    "model that is slow to fine-tune. Immunization should push lines up on the right and not on "
    "the left. Medians over pairs of tasks, bands from the lower to the upper quartile."
)



def draw(results: Results, dataset: str) -> Figure:
    """Eq. 16 against the step: medians and quartiles over pairs, averaged over seeds."""
    curves = results.curves[results.curves["dataset"] == dataset]
    # An attacker that is done after one step has no curve to show.
    later = curves[curves["step"] > 0].groupby("attack")["convergence_ratio_q50"].max()
    attacks = [name for name in curves["attack"].unique() if later[name] > 0]
    figure, axes = plt.subplots(
        len(attacks), 2, figsize=(8, 0.9 + 2.5 * len(attacks)), sharex=True, sharey=True,
        squeeze=False,
    )  # fmt: skip
    styles = look(results.methods)
    handles = {}
    for row, attack in zip(axes, attacks, strict=True):
        for axis, (role, name) in zip(
            row, (("P", "benign task D_P"), ("H", "harmful task D_H")), strict=True
        ):
            part = curves[(curves["attack"] == attack) & (curves["role"] == role)]
            for method in results.methods:
                line = part[part["method"] == method].groupby("step").mean(numeric_only=True)
                line = line[line.index > 0]
                style = styles[method]
                (handles[method],) = axis.plot(
                    line.index, line["convergence_ratio_q50"], linewidth=1.4, **style
                )
                axis.fill_between(
                    line.index,
                    line["convergence_ratio_q25"].clip(lower=1e-12),
                    line["convergence_ratio_q75"].clip(lower=1e-12),
                    color=style["color"], alpha=0.08, linewidth=0,
                )  # fmt: skip
            axis.set(xscale="log", yscale="log", ylim=(1e-8, 2), title=f"{title(attack)}, {name}")
        row[0].set_ylabel("‖w$_t$ − w*‖² / ‖w$_0$ − w*‖²")
    for axis in axes[-1]:
        axis.set_xlabel("step")
    shared_legend(figure, list(handles.values()), [title(m) for m in handles])
    return figure
