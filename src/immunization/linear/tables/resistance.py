"""Tables of what immunized extractors withstand."""

from __future__ import annotations

import numpy as np
import pandas as pd

from immunization.linear.results import Results
from immunization.linear.slowdowns import (
    BEST,
    best_label,
    full_data_linear_attackers,
    median,
    median_slowdown,
)
from immunization.reporting.intervals_and_verdicts import interval, verdict
from immunization.reporting.text import format_number

CAPTION = (
    "The best attacker against the immunized model over the best attacker against the model as it "
    "was, by steps to threshold on D_H: geometric mean over seeds of the median over pairs, with "
    "its 95 % interval over seeds, for each training loss. ≥ marks lower bounds: the budget ran "
    "out on pairs that the number rests on. 'broken': S is at most 1.05. 'slowed': S is more, and "
    "its interval lies above 1. 'not shown': the interval holds 1. 'withstood': with every seed "
    "no attacker solved at least 95 % of the pairs within the budget. 'destroyed': more than a "
    "tenth of what the best benign probe explained is gone (Definition 3.1 (c) fails). 'no "
    "verdict': one seed. Beside it the same in floating point operations (cheapest against "
    "cheapest), and held-out accuracies: of the best linear attacker on all rows of D_H, of the "
    "best non-linear probe, of a linear attacker with few of the rows or with rows that the "
    "publisher never saw, and of the best probe on D_P."
)
REPORT = 3
"""Place in the report."""


def resistance_table(
    slowed: pd.DataFrame, steps: pd.DataFrame, ratios: pd.DataFrame, uses: dict[str, str]
) -> pd.DataFrame:
    """The best attacker against the protected model over the best against the unprotected one.

    Args:
        slowed: of `with_best_and_slowdown`.
        steps: of all attackers, the non-linear ones among them.
        ratios: of the spectrum stage, for benign accuracies.
        uses: what labels stand for.
    """
    rows = []
    lost, accuracies = benign_lost(ratios), best_accuracies(steps)
    back = regained(accuracies.get("accuracy_linear"), uses, chance(ratios))
    losses = full_data_linear_attackers(slowed)["loss"].unique()
    for loss in losses:
        best = slowed[(slowed["attack"] == best_label(loss)) & (slowed["role"] == "H")]
        cost = _cheapest(slowed[slowed["loss"] == loss], uses)
        for (dataset, method), group in best.groupby(["dataset", "method"], sort=False):
            by_seed = [median_slowdown(part) for _, part in group.groupby("seed")]
            values = np.array([value for value, _ in by_seed])
            bound = any(flag for _, flag in by_seed)
            never = group["censored"].astype(bool).groupby(group["seed"]).mean().tolist()
            known = bool(np.isfinite(values).all())
            slowdown, low, high = interval(values) if known else (float("nan"),) * 3
            flops, flops_bound = cost.get((dataset, method), (float("nan"), False))
            gone = lost.get((dataset, method), 0.0)
            rows.append(
                {
                    "dataset": dataset,
                    "method": method,
                    "loss": loss,
                    "slowdown": slowdown,
                    "slowdown_ci_low": low,
                    "slowdown_ci_high": high,
                    "slowdown_is_lower_bound": bound,
                    "slowdown_flops": flops,
                    "slowdown_flops_is_lower_bound": flops_bound,
                    "never_reached_share": float(np.mean(never)),
                    "benign_lost": gone,
                    "verdict": ""
                    if uses[method] == "identity"
                    else verdict(
                        slowdown,
                        low,
                        never,
                        bound=bound,
                        lost=gone,
                        back=back.get((dataset, method), 0.0),
                    ),
                }
            )
    table = pd.DataFrame(rows)
    keys = ["dataset", "method"]
    for name, values in accuracies.items():
        table = table.merge(values.rename(name).reset_index(), on=keys, how="left")
    if "accuracy_p" in ratios:
        benign = ratios.groupby([*keys, "seed"])["accuracy_p"].mean().groupby(keys).mean()
        table = table.merge(benign.rename("accuracy_benign").reset_index(), on=keys, how="left")
    return table


def best_accuracies(steps: pd.DataFrame) -> dict[str, pd.Series]:
    """Held-out accuracy on D_H of the attacker that is best by its mean over pairs and seeds.

    Chosen for the whole study, not pair by pair, where the largest of many would be luck.

    Returns:
        Series over (dataset, method): linear attackers with all rows of the task, non-linear ones,
        and linear ones that have other rows: a few of the task's, or some the publisher never saw.
    """
    if "accuracy_end" not in steps:
        return {}
    keys = ["dataset", "method"]
    known = steps[(steps["role"] == "H") & steps["accuracy_end"].notna()]
    other = known["unseen_rows"].astype(bool) | (known["fraction"] < 1)
    parts = {
        "accuracy_linear": known[(known["loss"] != "none") & ~other],
        "accuracy_nonlinear": known[known["loss"] == "none"],
        "accuracy_other_rows": known[(known["loss"] != "none") & other],
    }
    best = {}
    for name, part in parts.items():
        mean = part.groupby([*keys, "attack"])["accuracy_end"].mean()
        best[name] = mean.groupby(keys).max()
    return best


def chance(ratios: pd.DataFrame) -> dict[str, float]:
    """Accuracy on D_H without looking, by data set; empty where none is known."""
    if "chance_h" not in ratios:
        return {}
    return dict(ratios.groupby("dataset")["chance_h"].mean())


def regained(
    accuracy: pd.Series | None, uses: dict[str, str], guess: dict[str, float] | None = None
) -> dict[tuple[str, str], float]:
    """Share of what the best linear attacker has above chance without immunization that the best
    one gets with it; empty where no accuracy is known.

    Args:
        accuracy: over (dataset, method).
        uses: what labels stand for.
        guess: accuracy without looking, by data set; a half where it is not given.
    """
    if accuracy is None:
        return {}
    table = accuracy.rename("accuracy").reset_index()
    before = table[table["method"].map(uses) == "identity"].set_index("dataset")["accuracy"]
    low = table["dataset"].map(guess or {}).fillna(0.5)
    table["back"] = (table["accuracy"] - low) / (table["dataset"].map(before) - low)
    return dict(table.set_index(["dataset", "method"])["back"].fillna(0.0))


def benign_lost(ratios: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Share of what the best probe explained on D_P that is gone; mean over pairs, worst seed.

    Zero where the best loss is kept, as Definition 3.1 (c) asks; one where no probe is better than
    a zero one, or where the loss is no number. A mean, so that a few pairs lost whole count.
    """
    if "zero_loss_p" not in ratios:
        return {}
    explained = ratios["zero_loss_p"] - ratios["best_loss_p_reference"]
    gone = (ratios["best_loss_p"] - ratios["best_loss_p_reference"]) / explained
    gone = gone.clip(0, 1).fillna(1.0).where(explained > 0, 0.0)
    keys = [ratios["dataset"], ratios["method"]]
    return dict(gone.groupby([*keys, ratios["seed"]]).mean().groupby(level=[0, 1]).max())


def _cheapest(
    steps: pd.DataFrame, uses: dict[str, str]
) -> dict[tuple[str, str], tuple[float, bool]]:
    """Median over pairs of the cheapest attack's operations over those without immunization, and
    whether it is a lower bound: where no attacker solved a pair, each spent its budget on it.

    NaN where the cost without immunization is known on half of the pairs or fewer.
    """
    alone = full_data_linear_attackers(steps).dropna(subset=["steps"])
    alone = alone[(alone["role"] == "H") & ~alone["attack"].str.startswith(BEST)]
    alone = alone.assign(censored=alone["censored"].astype(bool))
    keys = ["dataset", "method", "seed", "pair"]
    cost = alone.sort_values(["censored", "flops"], kind="stable").drop_duplicates(keys)
    cost = cost[[*keys, "flops", "censored"]]
    reference = cost[(cost["method"].map(uses) == "identity") & ~cost["censored"]]
    reference = reference.drop(columns=["method", "censored"])
    both = cost.merge(reference, on=["dataset", "seed", "pair"], suffixes=("", "_before"))
    both = both.assign(ratio=both["flops"] / both["flops_before"])
    cheapest = {}
    for (dataset, method), part in both.groupby(["dataset", "method"], sort=False):
        pairs = steps[(steps["dataset"] == dataset) & (steps["method"] == method)]
        pairs = pairs[pairs["role"] == "H"].drop_duplicates(keys)
        enough = 2 * len(part) > len(pairs)
        middle = median(part["ratio"], part["censored"]) if enough else (float("nan"), False)
        cheapest[str(dataset), str(method)] = middle
    return cheapest


def show(table: pd.DataFrame) -> pd.DataFrame:
    """`resistance_table` for people."""
    shown = table[["dataset", "method", "loss"]].copy()
    cells = []
    for row in table.itertuples(index=False):
        sign = "≥ " if row.slowdown_is_lower_bound else ""
        text = sign + format_number(row.slowdown)
        if row.slowdown_ci_low == row.slowdown_ci_low:
            text += (
                f" [{format_number(row.slowdown_ci_low)}, {format_number(row.slowdown_ci_high)}]"
            )
        cells.append(text)
    shown["slowdown S, best against best"] = cells
    signs = table["slowdown_flops_is_lower_bound"].map({True: "≥ ", False: ""})
    shown["the same in operations"] = signs + table["slowdown_flops"].map(format_number)
    shown["never reached"] = table["never_reached_share"].map("{:.0%}".format)
    for name, title in (
        ("accuracy_linear", "D_H, best linear %"),
        ("accuracy_nonlinear", "D_H, best non-linear %"),
        ("accuracy_other_rows", "D_H, linear, other rows %"),
        ("accuracy_benign", "D_P %"),
    ):
        if name in table and table[name].notna().any():
            shown[title] = (100 * table[name]).map(
                lambda value: "–" if value != value else f"{value:.1f}"
            )
    shown["of D_P lost"] = table["benign_lost"].map("{:.1%}".format)
    shown["verdict"] = table["verdict"].fillna("")  # empty for θ = I, which a CSV file forgets
    return shown


def table(results: Results) -> pd.DataFrame:
    """See `resistance_table`."""
    uses = results.order["methods"]
    resisted = resistance_table(results.all_slowed, results.steps, results.ratios, uses)
    return results.arrange(resisted)
