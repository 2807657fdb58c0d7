"""Tables of what immunized extractors withstand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from immunization.formats import number
from immunization.measures import (
    BEST,
    PREDICTORS,
    best_label,
    best_of_all,
    interval,
    linear,
    median,
    median_slowdown,
    predicted,
    rank_correlations,
    rfd,
    selectivity,
    verdict,
    with_slowdown,
)


def resisted(steps: pd.DataFrame, uses: dict[str, str]) -> pd.DataFrame:
    """Rows of all attackers that take steps, and of the best of them, with slowdowns.

    Steps and slowdown are NaN where an attacker diverged.
    """
    walked = steps["steps"].notna()
    if "diverged" in steps:
        walked |= steps["diverged"].fillna(value=False).astype(bool)
    iterative = steps[walked]
    both = pd.concat([iterative, best_of_all(iterative)], ignore_index=True)
    return with_slowdown(both, uses)


def attacks_table(slowed: pd.DataFrame) -> pd.DataFrame:
    """Steps to threshold and slowdown against no immunization, for each attacker and the best.

    Where T(θ) was censored a slowdown is a lower bound, with T(θ) at the budget; where T(I) was
    censored it is unknown and left out, and no median is stated where that is so on half of the
    pairs or more. The same goes for pairs on which the attacker diverged, which are counted.

    Args:
        slowed: of `resisted`.
    """
    keys = ["dataset", "attack", "method", "role"]
    rows = slowed[slowed["role"] != "T"]
    by = [rows[key] for key in keys]
    censored = rows["censored"].astype(bool)
    known = rows["slowdown"].notna()
    enough = known.groupby(by).transform("mean") > 0.5
    diverged = rows["steps"].isna()
    parts = {
        "censored_share": censored.groupby(by).mean(),
        "diverged": diverged.groupby(by).sum(),
        "problems": diverged.groupby(by).size(),
    }
    for name, values in (("steps", rows["steps"]), ("slowdown", rows["slowdown"].where(enough))):
        middle = values.groupby(by).median()
        parts[f"{name}_median"] = middle
        # A bound where larger censored values would move it, as in `measures.median`.
        raised = values.mask(censored & values.notna(), np.inf).groupby(by).median()
        parts[f"{name}_bound"] = raised > middle
    wide = pd.DataFrame(parts).unstack("role")
    wide.columns = [f"{name}_{role}" for name, role in wide.columns]
    for name in ("steps_bound_P", "slowdown_bound_P"):  # most attackers leave D_P alone
        if name in wide:
            wide[name] = wide[name].fillna(value=False).astype(bool)
    return wide.reset_index()


def show_attacks(table: pd.DataFrame) -> pd.DataFrame:
    """`attacks_table` for people: the slowdown on D_H, one column a method."""
    shown = table.assign(
        cell=table["slowdown_bound_H"].map({True: "≥ ", False: ""})
        + table["slowdown_median_H"].map(number)
        + [
            f" (diverged on {k:.0f} of {n:.0f})" if k else ""
            for k, n in zip(table["diverged_H"], table["problems_H"], strict=True)
        ]
    )
    order = list(dict.fromkeys(zip(table["dataset"], table["attack"], strict=True)))
    methods = list(dict.fromkeys(table["method"]))
    wide = shown.pivot(index=["dataset", "attack"], columns="method", values="cell").reindex(order)
    reference = shown[shown["method"] == "identity"].set_index(["dataset", "attack"])
    signs = reference["steps_bound_H"].map({True: "≥ ", False: ""})
    counts = reference["steps_median_H"].map(lambda v: "–" if v != v else f"{v:.0f}")
    steps = (signs + counts).reindex(order)
    wide = wide[[m for m in methods if m != "identity"]].fillna("")
    wide.insert(0, "steps without", steps)
    return wide.reset_index()


def resistance_table(
    slowed: pd.DataFrame, steps: pd.DataFrame, ratios: pd.DataFrame, uses: dict[str, str]
) -> pd.DataFrame:
    """The best attacker against the protected model over the best against the unprotected one.

    Args:
        slowed: of `resisted`.
        steps: of all attackers, the non-linear ones among them.
        ratios: of the spectrum stage, for benign accuracies.
        uses: what labels stand for.
    """
    rows = []
    lost, accuracies = benign_lost(ratios), best_accuracies(steps)
    back = regained(accuracies.get("accuracy_linear"), uses)
    losses = linear(slowed)["loss"].unique()
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
                    "slowdown_low": low,
                    "slowdown_high": high,
                    "slowdown_bound": bound,
                    "slowdown_flops": flops,
                    "slowdown_flops_bound": flops_bound,
                    "withstood_share": float(np.mean(never)),
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
    other = known["fresh"].astype(bool) | (known["fraction"] < 1)
    parts = {
        "accuracy_linear": known[(known["loss"] != "none") & ~other],
        "accuracy_nonlinear": known[known["loss"] == "none"],
        "accuracy_other_rows": known[(known["loss"] != "none") & other],
    }
    found = {}
    for name, part in parts.items():
        mean = part.groupby([*keys, "attack"])["accuracy_end"].mean()
        found[name] = mean.groupby(keys).max()
    return found


def regained(accuracy: pd.Series | None, uses: dict[str, str]) -> dict[tuple[str, str], float]:
    """Share of what the best linear attacker has above chance without immunization that the best
    one gets with it; empty where no accuracy is known.

    Args:
        accuracy: over (dataset, method), of balanced binary tasks.
        uses: what labels stand for.
    """
    if accuracy is None:
        return {}
    table = accuracy.rename("accuracy").reset_index()
    before = table[table["method"].map(uses) == "identity"].set_index("dataset")["accuracy"]
    table["back"] = (table["accuracy"] - 0.5) / (table["dataset"].map(before) - 0.5)
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
    alone = linear(steps).dropna(subset=["steps"])
    alone = alone[(alone["role"] == "H") & ~alone["attack"].str.startswith(BEST)]
    alone = alone.assign(censored=alone["censored"].astype(bool))
    keys = ["dataset", "method", "seed", "pair"]
    cost = alone.sort_values(["censored", "flops"], kind="stable").drop_duplicates(keys)
    cost = cost[[*keys, "flops", "censored"]]
    reference = cost[(cost["method"].map(uses) == "identity") & ~cost["censored"]]
    reference = reference.drop(columns=["method", "censored"])
    both = cost.merge(reference, on=["dataset", "seed", "pair"], suffixes=("", "_before"))
    both = both.assign(ratio=both["flops"] / both["flops_before"])
    found = {}
    for (dataset, method), part in both.groupby(["dataset", "method"], sort=False):
        pairs = steps[(steps["dataset"] == dataset) & (steps["method"] == method)]
        pairs = pairs[pairs["role"] == "H"].drop_duplicates(keys)
        enough = 2 * len(part) > len(pairs)
        middle = median(part["ratio"], part["censored"]) if enough else (float("nan"), False)
        found[str(dataset), str(method)] = middle
    return found


def show_resistance(table: pd.DataFrame) -> pd.DataFrame:
    """`resistance_table` for people."""
    shown = table[["dataset", "method", "loss"]].copy()
    cells = []
    for row in table.itertuples(index=False):
        sign = "≥ " if row.slowdown_bound else ""
        text = sign + number(row.slowdown)
        if row.slowdown_low == row.slowdown_low:
            text += f" [{number(row.slowdown_low)}, {number(row.slowdown_high)}]"
        cells.append(text)
    shown["slowdown S, best against best"] = cells
    signs = table["slowdown_flops_bound"].map({True: "≥ ", False: ""})
    shown["the same in operations"] = signs + table["slowdown_flops"].map(number)
    shown["never reached"] = table["withstood_share"].map("{:.0%}".format)
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


def measures_table(
    slowed: pd.DataFrame, curves: pd.DataFrame, uses: dict[str, str], rate: float
) -> pd.DataFrame:
    """Every measure of each attacker against each method on D_H.

    Args:
        slowed: of `resisted`.
        curves: of the attack stage.
        uses: what labels stand for.
        rate: floating point operations a second, at which they become seconds.
    """
    keys = ["dataset", "attack", "method"]
    harmful = slowed[slowed["role"] == "H"]
    groups = harmful.groupby(keys, sort=False)
    raised = harmful["flops"].mask(harmful["censored"].astype(bool), np.inf)
    middle = groups["flops"].median()
    table = pd.DataFrame(
        {
            "flops_median": middle,
            "flops_bound": raised.groupby([harmful[k] for k in keys], sort=False).median() > middle,
            "seconds_median": middle / rate,
        }
    )
    for share in (0.01, 0.1, 1.0):
        within = harmful["steps"] <= np.ceil(share * harmful["budget"])
        reached = within & ~harmful["censored"].astype(bool)
        table[f"reached_{share:g}"] = reached.groupby([harmful[k] for k in keys]).mean()
    if "accuracy_area" in harmful:
        table["accuracy_area"] = groups["accuracy_area"].mean()
        table["accuracy_end"] = groups["accuracy_end"].mean()
    chosen = selectivity(slowed)
    if len(chosen):
        table["selectivity"] = chosen.groupby(keys)["selectivity"].median()
        table["selectivity_bound"] = _shared_bound(chosen, keys)
    table = table.reset_index()
    deviations = _deviations(curves, uses)
    if len(deviations):
        table = table.merge(deviations, on=keys, how="left")
    return table


def _shared_bound(chosen: pd.DataFrame, keys: list[str]) -> pd.Series:
    """What kind of bound a median of selectivities is: raise those from below, lower those from
    above, and see whether it moves."""
    up, down = chosen["bound"].isin(["≥", "?"]), chosen["bound"].isin(["≤", "?"])
    by = [chosen[key] for key in keys]
    middle = chosen["selectivity"].groupby(by).median()
    higher = chosen["selectivity"].mask(up, np.inf).groupby(by).median() > middle
    lower = chosen["selectivity"].mask(down, -np.inf).groupby(by).median() < middle
    signs = np.select([higher & lower, higher, lower], ["?", "≥", "≤"], default="")
    return pd.Series(signs, middle.index)


def _deviations(curves: pd.DataFrame, uses: dict[str, str]) -> pd.DataFrame:
    """RFD of every attacker and method, from mean accuracies; mean over seeds."""
    if "accuracy" not in curves:
        return pd.DataFrame()
    known = curves.dropna(subset=["accuracy"])
    known = known[(known["role"] == "H") & (known["step"] > 0)]
    rows = []
    for (dataset, attack), group in known.groupby(["dataset", "attack"], sort=False):
        wide = group.pivot_table(index=["seed", "step"], columns="method", values="accuracy")
        names = [m for m in wide.columns if uses[m] == "identity"]
        if not names:
            continue
        for method in wide.columns:
            both = [
                rfd(part[names[0]].to_numpy(), part[method].to_numpy())
                for _, part in wide.groupby("seed")
            ]
            unsigned, signed = np.mean(both, axis=0)
            rows.append(
                {"dataset": dataset, "attack": attack, "method": method}
                | {"rfd": unsigned, "rfd_signed": signed}
            )
    return pd.DataFrame(rows)


def show_measures(table: pd.DataFrame) -> pd.DataFrame:
    """`measures_table` for people."""
    shown = table[["dataset", "attack", "method"]].copy()
    signs = table["flops_bound"].map({True: "≥ ", False: ""})
    shown["operations"] = signs + table["flops_median"].map(number)
    shown["seconds"] = signs + table["seconds_median"].map(number)
    for share, title in ((0.01, "budget / 100"), (0.1, "budget / 10"), (1, "budget")):
        shown[f"reached, {title}"] = table[f"reached_{share:g}"].map("{:.0%}".format)
    for name, title in (
        ("accuracy_area", "area under accuracy"),
        ("rfd", "RFD"),
        ("rfd_signed", "RFD, signed"),
        ("selectivity", "selectivity"),
    ):
        if name in table and table[name].notna().any():
            shown[title] = table[name].map(number)
            if name == "selectivity":
                kinds = {"≥": "≥ ", "≤": "≤ ", "?": "? "}
                signs = table["selectivity_bound"].map(kinds).fillna("")
                shown[title] = signs + shown[title]
    return shown


def prediction_table(
    ratios: pd.DataFrame, slowed: pd.DataFrame, uses: dict[str, str]
) -> pd.DataFrame:
    """Rank correlation of every predictor with the slowdown, for each attacker."""
    found = rank_correlations(predicted(ratios, slowed, uses))
    return found if len(found) else pd.DataFrame({"dataset": [], "attack": []})


def show_prediction(table: pd.DataFrame) -> pd.DataFrame:
    """`prediction_table` for people: one column a predictor, all points and within a method."""
    if table.empty or "predictor" not in table:
        return table
    order = list(dict.fromkeys(zip(table["dataset"], table["attack"], strict=True)))
    cells = table.assign(
        cell=table["spearman"].map(two_digits)
        + " ("
        + table["spearman_within"].map(two_digits)
        + ")"
    )
    wide = cells.pivot(index=["dataset", "attack"], columns="predictor", values="cell")
    wide = wide.reindex(order)[[p for p in PREDICTORS if p in wide]].rename(columns=PREDICTORS)
    first = table.groupby(["dataset", "attack"])["censored_share"].first().reindex(order)
    wide["bounds"] = first.map("{:.0%}".format)
    return wide.reset_index()


def two_digits(value: float) -> str:
    """A correlation, with its sign."""
    return "–" if value != value else f"{value:+.2f}"


def tables(
    ratios: pd.DataFrame, steps: pd.DataFrame, curves: pd.DataFrame, order: dict[str, Any]
) -> dict[str, tuple[pd.DataFrame, Any]]:
    """All tables of this module by name, each with its form for people."""
    uses = order["methods"]
    slowed = resisted(steps, uses)
    return {
        "resistance": (resistance_table(slowed, steps, ratios, uses), show_resistance),
        "attacks": (attacks_table(slowed), show_attacks),
        "measures": (
            measures_table(slowed, curves, uses, order["flops_per_second"]),
            show_measures,
        ),
        "prediction": (prediction_table(ratios, slowed, uses), show_prediction),
    }
