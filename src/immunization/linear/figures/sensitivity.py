"""How a swept parameter moves (i), (ii) and RIR."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from immunization.linear.results import Results
from immunization.reporting.style import look, nothing, shared_legend, title

PARAMETERS = {
    "parameter": {
        "type": "string",
        "description": "the parameter of methods or of the data set; every sweep over it alone is "
        "drawn.",
    },
}
CAPTION = (
    "(i), (ii) and RIR of a sweep over one parameter: medians over pairs and seeds, bars from the "
    "lower to the upper quartile; at the right, the share of pairs on which (i) > 1 and (ii) ≤ 1. "
    "A good choice has (ii) at most 1 and RIR large, and is no cliff's edge."
)
PANELS = (("ratio_i", "(i)"), ("ratio_ii", "(ii)"), ("rir", "RIR"))


def draw(results: Results, dataset: str) -> Figure:
    """One line a sweep; numbers on a logarithmic axis, choices side by side."""
    parameter = results.parameters["parameter"]
    lines = {**_of_methods(results, dataset, parameter), **_of_data(results, dataset, parameter)}
    if not lines:
        return nothing(f"No sweep of this study is over {parameter} alone.")
    values = list(dict.fromkeys(value for line in lines.values() for value in line))
    numbers = [value for value in values if value is not None]
    # Choices, and numbers that a logarithmic axis has no place for, stand side by side.
    numeric = bool(numbers) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        for value in numbers
    )
    places: dict[Any, float] = {value: place for place, value in enumerate(values)}
    if numeric:
        numbers.sort()
        places = {value: float(value) for value in numbers}
        if None in values:
            places[None] = numbers[0] / 10  # the default of a number that may be null
    figure, axes = plt.subplots(1, 4, figsize=(11, 3.2))
    styles = look(list(lines))
    handles = []
    for name, line in lines.items():
        at = np.array([places[value] for value in line])
        order = np.argsort(at)
        style = styles[name] | {"marker": "o", "markersize": 3, "linewidth": 1.2}
        for axis, (column, _) in zip(axes, PANELS, strict=False):
            parts = [frame[column].quantile([0.25, 0.5, 0.75]) for frame in line.values()]
            low, middle, high = np.array(parts)[order].T
            (handle,) = axis.plot(at[order], middle, **style)
            axis.vlines(at[order], low, high, color=style["color"], linewidth=0.8)
        met = [
            ((f["ratio_i"] > 1 + 1e-6) & (f["ratio_ii"] <= 1 + 1e-6)).mean() for f in line.values()
        ]
        axes[3].plot(at[order], np.array(met)[order], **style)
        handles.append(handle)
    for axis, label in zip(axes, [*(label for _, label in PANELS), "(i) > 1 and (ii) ≤ 1"],
                           strict=True):  # fmt: skip
        axis.set(title=label, xlabel=parameter)
        if label != "(i) > 1 and (ii) ≤ 1":
            axis.set_yscale("log")
            axis.axhline(1, color="black", linewidth=0.5, linestyle=":")
        else:
            axis.set_ylim(-0.03, 1.03)
        if numeric:
            axis.set_xscale("log")
            if None in places:
                axis.set_xticks(
                    [places[None], *numbers], ["default", *(f"{v:g}" for v in numbers)],
                    rotation=60, fontsize=7,
                )  # fmt: skip
                axis.minorticks_off()
        else:
            axis.set_xticks(list(places.values()), [str(value) for value in places])
            axis.set_xlim(-0.3, len(places) - 0.7)
    shared_legend(figure, handles, [title(name) for name in lines])
    return figure


Lines = dict[str, dict[Any, pd.DataFrame]]


def _of_methods(results: Results, dataset: str, parameter: str) -> Lines:
    ratios = results.ratios[results.ratios["dataset"] == dataset]
    return {
        label: {
            values[parameter]: ratios[ratios["method"] == member]
            for member, values in sweep["members"].items()
        }
        for label, sweep in results.order["sweeps"].items()
        if sweep["kind"] == "methods" and sweep["parameters"] == [parameter]
    }


def _of_data(results: Results, dataset: str, parameter: str) -> Lines:
    """One line a method that is itself not swept, over the data sets of the sweep."""
    lines: Lines = {}
    for sweep in results.order["sweeps"].values():
        alone = sweep["kind"] == "datasets" and sweep["parameters"] == [parameter]
        if not alone or dataset not in sweep["members"]:
            continue
        for method in results.unswept():
            if method == "identity":
                continue
            ratios = results.ratios[results.ratios["method"] == method]
            lines[method] = {
                values[parameter]: ratios[ratios["dataset"] == member]
                for member, values in sweep["members"].items()
            }
    return lines
