"""Fig. 3: held-out accuracy on the harmful task against the fine-tuning step."""

from __future__ import annotations

from matplotlib.figure import Figure

from immunization.linear.figures._attacks import attacker, in_order, listed
from immunization.linear.results import Results
from immunization.reporting.style import look, nothing, panels, shared_legend, title
from immunization.reporting.text import percent

PARAMETERS = {
    "attacks": {
        "type": ["array", "null"],
        "items": {"type": "string"},
        "default": None,
        "description": "labels to draw; null for six, spread over those that record accuracies.",
    },
}
CAPTION = (
    "Held-out accuracy on the harmful task while a probe is trained on it, one panel an attacker, "
    "one line a method (the paper's Fig. 3). Means over pairs and seeds. A low line is an attacker "
    "who learns little; a line that only rises later is one who has to wait. Logistic attackers "
    "stop at their threshold, and keep the accuracy they had then."
)
PANELS = 6


def draw(results: Results, dataset: str) -> Figure:
    """Mean accuracy at the recorded steps."""
    curves = results.curves[results.curves["dataset"] == dataset]
    if "accuracy" not in curves or curves["accuracy"].isna().all():
        return nothing("Labels do not vary within a task here: there is no accuracy to follow.")
    curves = curves[(curves["role"] == "H") & (curves["step"] > 0)].dropna(subset=["accuracy"])
    # One that is there after its first step has no curve.
    varied = curves[curves["method"] == "identity"].groupby("attack")["accuracy"].nunique()
    seeds = curves["seed"].nunique()
    attacks = in_order(results, varied.index[varied > seeds].to_series())
    wanted = results.parameters.get("attacks")
    if wanted is None:
        pace = max(1, len(attacks) // PANELS)
        wanted = attacks[::pace][:PANELS]
    attacks = [a for a in attacks if a in wanted]
    if not attacks:
        return nothing("No attacker's accuracy changes after its first step.")
    figure, rows_of_axes, axes = panels(len(attacks))
    styles, handles = look(results.methods), {}
    for axis, attack in zip(axes, attacks, strict=True):
        part = curves[curves["attack"] == attack]
        for method in results.unswept():
            line = part[part["method"] == method].groupby("step")["accuracy"].mean()
            if len(line):
                (handles[method],) = axis.plot(
                    line.index, 100 * line, linewidth=1.3, **styles[method]
                )
        axis.set(xscale="log")
        axis.set_title(attacker(attack), fontsize=8)
    for row in rows_of_axes:
        row[0].set_ylabel("accuracy on D_H (%)")
    for axis in rows_of_axes[-1]:
        axis.set_xlabel("step")
    shared_legend(figure, list(handles.values()), [title(m) for m in handles])
    return figure


def says(results: Results, dataset: str) -> str:
    """Who is still learning less at the end of all recorded curves."""
    curves = results.curves[results.curves["dataset"] == dataset]
    if "accuracy" not in curves or curves["accuracy"].isna().all():
        return "There is no accuracy to follow here."
    curves = curves[(curves["role"] == "H") & ~curves["unseen_rows"].astype(bool)].dropna(
        subset=["accuracy"]
    )
    end = curves.sort_values("step").groupby(["attack", "method", "seed"])["accuracy"].last()
    if end.empty:
        return "There is no accuracy to follow here."
    wide = end.groupby(["attack", "method"]).mean().unstack()
    lost = (wide["identity"].max() - wide.max()).drop("identity")
    low = [str(m) for m in lost.index[lost > 0.05]]
    return (
        f"At the end of their curves the best of {len(wide)} attackers have "
        f"{percent(wide['identity'].max())} without immunization; more than five points less "
        f"only with {listed(low)}."
    )
