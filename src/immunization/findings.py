"""Sentences that say what a study's numbers show, computed from the tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from immunization.tables import BEST, SAME, number


def findings(
    dataset: str, tables: dict[str, pd.DataFrame], order: dict[str, Any], threshold: float
) -> list[str]:
    """What the study shows on one data set, a sentence or two a finding.

    Args:
        dataset: its label.
        tables: the CSV tables by name.
        order: labels of the study and what they stand for.
        threshold: loss gap at which an attacker is done.
    """
    ratios = _of(tables["ratios"], dataset)
    told = [*_limit(ratios), *_ratio(ratios, _of(tables["definition"], dataset), order)]
    told += _floor(ratios)
    told += _resolved(_of(tables["definition"], dataset))
    told += _attack(_of(tables["attacks"], dataset), order, threshold)
    told += _accuracy(tables["accuracy"], dataset)
    return told


def _of(table: pd.DataFrame, dataset: str) -> pd.DataFrame:
    return table[table["dataset"] == dataset].set_index("method")


def _limit(ratios: pd.DataFrame) -> list[str]:
    first = ratios.iloc[0]
    share = first["limit_infinite_share"]
    if share == 0:
        return [
            f"Every pair has a finite limit; its median is {number(first['limit_median_finite'])}: "
            "no invertible linear extractor can have a larger RIR."
        ]
    tail = (
        f" On the others its median is {number(first['limit_median_finite'])}." if share < 1 else ""
    )
    return [
        f"On {share:.0%} of the pairs the limit is infinite: the harmful inputs use directions "
        f"that the benign inputs do not have (median share of the harmful energy there: "
        f"{number(first['outside_median'])}), and those can be scaled at will.{tail}"
    ]


def _gradient_methods(order: dict[str, Any], present: pd.Index) -> list[str]:
    return [m for m in present if order["methods"][m] not in ("identity", "optimum")]


def _ratio(ratios: pd.DataFrame, met: pd.DataFrame, order: dict[str, Any]) -> list[str]:
    told = []
    names = _gradient_methods(order, ratios.index)
    if names:
        best = ratios.loc[names, "rir_median"].idxmax()
        row = ratios.loc[best]
        counts = met.loc[best]
        reach = row["optimality_mean"]
        share = (
            f", {reach:.0%} of the limit on a logarithmic scale where that is finite"
            if reach == reach
            else ""
        )
        told.append(
            f"Among methods that follow a gradient, {_name(best)} has the largest median RIR, "
            f"{number(row['rir_median'])}{share}. Its RIR is above 1 on "
            f"{counts['rir_above_1']:.0f} of {counts['pairs']:.0f} pairs; the harmful κ grew and "
            f"the benign one did not on {counts['i_above_1_ii_at_most_1']:.0f}."
        )
        kept = met.loc[names]
        full = kept[kept["i_above_1_ii_at_most_1"] >= kept["pairs"]].index
        told.append(
            f"The harmful κ grew while the benign one did not on every pair with {_list(full)}."
            if len(full)
            else "No such method makes the harmful κ grow on every pair without the benign one "
            "growing on some."
        )
    for method in ratios.index:
        if order["methods"][method] == "optimum" and ratios.loc[method, "optimality_mean"] > 0.999:
            told.append(
                f"The closed form ({_name(method)}) reaches the limit wherever it is finite "
                f"(optimality {ratios.loc[method, 'optimality_mean']:.4f}); median RIR "
                f"{number(ratios.loc[method, 'rir_median'])}."
            )
    return told


def _floor(ratios: pd.DataFrame) -> list[str]:
    share = ratios["released_floored_share"].mean()
    if share < 0.005:
        return ["The released κ is never on its floor here: the matrices have full rank."]
    return [
        f"The condition number of the released code is its own floor on {share:.0%} of the "
        "results, so ratios by that definition compare largest eigenvalues only."
    ]


def _resolved(met: pd.DataFrame) -> list[str]:
    lost = met[met["resolved"] < met["pairs"]]
    if lost.empty:
        return []
    counts = [
        f"{_name(method)} on {row['pairs'] - row['resolved']:.0f} of {row['pairs']:.0f} pairs"
        for method, row in lost.iterrows()
    ]
    return [
        f"Some extractors are numerically singular, and their κ is beyond float64: "
        f"{', '.join(counts)}."
    ]


def _attack(attacks: pd.DataFrame, order: dict[str, Any], threshold: float) -> list[str]:
    told = []
    single = attacks[attacks["attack"] != BEST]
    for attack, part in single.groupby("attack", sort=False):
        gradient = [m for m in part.index if order["methods"][m] != "identity"]
        if not gradient or part.loc["identity", "steps_median_H"] <= 1:
            continue
        if part.loc["identity", "censored_share_H"] > 0.5:
            told.append(
                f"{_name(attack).capitalize()} does not reach a loss gap of {threshold:g} on D_H "
                f"within {part.loc['identity', 'steps_median_H']:.0f} steps even without "
                "immunization, on more than half of the pairs; no slowdown can be stated."
            )
            continue
        good = part.loc[gradient]
        # Slow on D_H counts only where D_P stays as fast as it was.
        good = good[good["slowdown_median_P"] <= SAME]
        before = f"{part.loc['identity', 'steps_median_H']:.0f}"
        good = good[good["slowdown_median_H"] > SAME]
        if good.empty:
            told.append(
                f"Against {_name(attack)} ({before} steps on D_H without immunization, to a loss "
                f"gap of {threshold:g}) no method slows D_H without slowing D_P."
            )
            continue
        slowest = good["slowdown_median_H"].idxmax()
        row = good.loc[slowest]
        more = "at least " if row["censored_share_H"] > 0.5 else ""
        told.append(
            f"Against {_name(attack)}, among methods that do not slow D_P, {_name(slowest)} slows "
            f"D_H most: {more}{number(row['slowdown_median_H'])} times as many steps in the "
            f"median (without immunization: {before}, to a loss gap of {threshold:g})."
        )
    best = attacks[attacks["attack"] == BEST]
    best = best[[order["methods"][m] != "identity" for m in best.index]]
    broken = best.index[best["slowdown_median_H"] <= SAME]
    if len(broken) == len(best) and len(best):
        told.append(
            "Against the best attacker every method is broken: closed-form least squares solves "
            "the harmful task in one step, whatever the condition number."
            if (best["steps_median_H"] <= 1).all()
            else "Against the best attacker every method is broken."
        )
    elif len(broken):
        told.append(f"Against the best attacker these are broken: {_list(broken)}.")
    return told


def _accuracy(table: pd.DataFrame, dataset: str) -> list[str]:
    part = table[table["dataset"] == dataset]
    if part.empty or "accuracy_p_mean" not in part:
        return []
    part = part.set_index("method")
    low = part["accuracy_p_mean"].idxmin()
    told = [
        f"With the best probe, held-out accuracy on D_P stays between "
        f"{100 * part['accuracy_p_mean'].min():.1f} % ({_name(low)}) and "
        f"{100 * part['accuracy_p_mean'].max():.1f} %, and on D_H between "
        f"{100 * part['accuracy_h_mean'].min():.1f} % and "
        f"{100 * part['accuracy_h_mean'].max():.1f} %: a linear extractor that stays invertible "
        "hides nothing from the best probe."
    ]
    steps = [c for c in part.columns if c.startswith("gradient_descent_H_")]
    if steps and "identity" in part.index:
        last = max(steps, key=lambda c: int(c.rsplit("_", 1)[1]))
        benign = last.replace("_H_", "_P_")
        lowest = part[last].idxmin()
        told.append(
            f"After {last.rsplit('_', 1)[1]} steps of gradient descent a probe has, without "
            f"immunization, {100 * part.loc['identity', last]:.1f} % on D_H and "
            f"{100 * part.loc['identity', benign]:.1f} % on D_P; with {_name(lowest)}, the lowest "
            f"on D_H, {100 * part.loc[lowest, last]:.1f} % and "
            f"{100 * part.loc[lowest, benign]:.1f} %."
        )
    return told


def published(table: pd.DataFrame) -> str:
    """How far our figures lie from the published ones, in words."""
    if table.empty:
        return ""
    ours, theirs = table["ours_mean"].to_numpy(), table["published"].to_numpy()
    factor = np.exp(np.abs(np.log(ours / theirs)))
    near = int((factor <= 2).sum())
    return (
        f"{near} of {len(table)} rows agree with the published figure within a factor of two by "
        "the non-zero condition number."
    )


def _name(label: object) -> str:
    return str(label).replace("_", " ")


def _list(labels: pd.Index) -> str:
    names = [_name(label) for label in labels]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
