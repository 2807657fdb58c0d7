"""Sentences that say what a study's numbers show, computed from the tables."""

from __future__ import annotations

from typing import Any

import pandas as pd

from immunization.linear.slowdowns import BEST
from immunization.reporting.intervals_and_verdicts import (
    MAX_BENIGN_LOSS,
    MAX_BROKEN_SLOWDOWN,
    MIN_WITHSTOOD_SHARE,
)
from immunization.reporting.text import display_label, format_number, percent

HIDDEN = 0.02
"""A spread of accuracies over methods below two points says that nothing is hidden."""


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
    sentences = [*_limit(ratios, order), *_ratio(ratios, _of(tables["definition"], dataset), order)]
    sentences += _floor(ratios)
    sentences += _resolved(_of(tables["definition"], dataset))
    sentences += _resistance(_of(tables["resistance"], dataset), order)
    sentences += _failing(_of(tables["attacks"], dataset), order)
    sentences += _breakers(
        _of(tables["attacks"], dataset), _of(tables["resistance"], dataset), order
    )
    sentences += _attack(_of(tables["attacks"], dataset), order, threshold)
    sentences += _accuracy(tables["accuracy"], dataset)
    return sentences


def _of(table: pd.DataFrame, dataset: str) -> pd.DataFrame:
    return table[table["dataset"] == dataset].set_index("method")


def _count(value: float) -> str:
    """A count that is a mean over seeds; a whole number only where it is one."""
    return f"{value:.1f}".removesuffix(".0")


def _limit(ratios: pd.DataFrame, order: dict[str, Any]) -> list[str]:
    """What the limit is, and whom it binds."""
    first = ratios.iloc[0]
    share, middle = first["limit_infinite_share"], format_number(first["limit_median_finite"])
    intercept = "with" if order.get("intercept") else "without"
    probe = f"a squared-loss probe {intercept} an intercept"
    if share == 0:
        sentence = (
            f"Every pair has a finite limit; its median is {middle}: for {probe}, no invertible "
            "linear extractor can have a larger RIR."
        )
    else:
        tail = f" On the others the median limit for {probe} is {middle}." if share < 1 else ""
        outside = format_number(first["harmful_energy_outside_median_infinite"])
        sentence = (
            f"On {share:.0%} of the pairs the limit is infinite: the harmful inputs use directions "
            "that the benign inputs do not have (median share of the harmful energy there: "
            f"{outside}), and those can be scaled at will.{tail}"
        )
    if order.get("intercept"):
        return [sentence]
    other = first["limit_intercept_infinite_share"]
    words = [f"infinite on {other:.0%} of the pairs"] if other else []
    if other < 1:
        words.insert(0, f"{format_number(first['limit_intercept_median_finite'])} in the median")
    return [
        sentence,
        "With an intercept, which most attackers have, the limit binds the κ of centred features: "
        f"it is {', and '.join(words)}.",
    ]


def _ratio(ratios: pd.DataFrame, met: pd.DataFrame, order: dict[str, Any]) -> list[str]:
    sentences = []
    names = [
        method
        for method in ratios.index
        if order["methods"][method] not in ("identity", "optimum")
        and met.loc[method, "resolved"] == met.loc[method, "pairs"]
    ]
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
        sentences.append(
            f"Apart from the closed form, {_name(best)} has the largest median RIR, "
            f"{format_number(row['rir_median'])}{share}. Its RIR is above 1 on "
            f"{_count(counts['rir_above_1'])} of {_count(counts['pairs'])} pairs; the harmful κ "
            f"grew and the benign one did not on {_count(counts['i_above_1_ii_at_most_1'])}."
        )
        kept = met.loc[names]
        full = kept[kept["i_above_1_ii_at_most_1"] >= kept["pairs"]].index
        sentences.append(
            f"The harmful κ grew while the benign one did not on every pair with {_list(full)}."
            if len(full)
            else "No such method makes the harmful κ grow on every pair without the benign one "
            "growing on some."
        )
    for method in ratios.index:
        worst = ratios.loc[method, "optimality_min"]
        if order["methods"][method] == "optimum" and worst >= 0.999:
            sentences.append(
                f"The closed form ({_name(method)}) reaches the limit wherever it is finite "
                f"(optimality {worst:.4f} or more); median RIR "
                f"{format_number(ratios.loc[method, 'rir_median'])}."
            )
    return sentences


def _floor(ratios: pd.DataFrame) -> list[str]:
    share = ratios["released_floored_share"].mean()
    if share == 0:
        return ["The released κ is never on its floor here."]
    return [
        f"The condition number of the released code is set by its own floor, on at least one side "
        f"of the ratio, in {share:.0%} of the results."
    ]


def _resolved(met: pd.DataFrame) -> list[str]:
    lost = met[met["resolved"] < met["pairs"]]
    if lost.empty:
        return []
    counts = [
        f"{_name(method)} on {_count(row['pairs'] - row['resolved'])} of "
        f"{_count(row['pairs'])} pairs"
        for method, row in lost.iterrows()
    ]
    return [
        "Some θ are numerically singular though their methods do not declare it, so that their κ "
        f"is beyond float64 and the limit does not bind them: {', '.join(counts)}."
    ]


def _attack(attacks: pd.DataFrame, order: dict[str, Any], threshold: float) -> list[str]:
    sentences = []
    # Those that also train D_P: slow on D_H counts only where D_P stays as fast as it was.
    both = attacks.loc[attacks["steps_median_P"].notna(), "attack"].unique()
    single = attacks[attacks["attack"].isin(both) & ~attacks["attack"].str.startswith(BEST)]
    goal = f"to a loss gap of {threshold:g}"
    for attack, part in single.groupby("attack", sort=False):
        reference = part.loc["identity"]
        methods = part[_protected(part, order)]
        if methods.empty or reference["steps_median_H"] <= 1:
            continue
        label = _name(attack)
        if reference["slowdown_median_H"] != reference["slowdown_median_H"]:
            sentences.append(
                f"With {label}, the budget ran out without immunization on half of the pairs or "
                f"more before D_H was trained {goal}; no slowdown can be stated."
            )
            continue
        before = f"{reference['steps_median_H']:.0f} steps without immunization, {goal}"
        if methods["slowdown_median_P"].isna().all():
            sentences.append(f"Against {label} it is unknown which methods slow D_P ({before}).")
            continue
        good = methods[methods["slowdown_median_P"] <= MAX_BROKEN_SLOWDOWN]
        good = good[good["slowdown_median_H"] > MAX_BROKEN_SLOWDOWN]
        if good.empty:
            sentences.append(f"Against {label} no method slows D_H without slowing D_P ({before}).")
            continue
        bounds = good[good["slowdown_is_lower_bound_H"].astype(bool)]
        if len(bounds):  # which of them is the slowest is not known
            least = format_number(bounds["slowdown_median_H"].min())
            sentences.append(
                f"Against {label}, among methods that do not slow D_P, the budget runs out on D_H "
                f"with {_list(bounds.index)}: at least {least} times as many "
                f"steps in the median ({before})."
            )
            continue
        slowest = good["slowdown_median_H"].idxmax()
        most = format_number(good.loc[slowest, "slowdown_median_H"])
        sentences.append(
            f"Against {label}, among methods that do not slow D_P, {_name(slowest)} slows D_H "
            f"most: {most} times as many steps in the median ({before})."
        )
    return sentences


def _resistance(table: pd.DataFrame, order: dict[str, Any]) -> list[str]:
    """Best against best, in words."""
    sentences = []
    for loss, part in table.groupby("loss", sort=False):
        part = part[_protected(part, order)]
        named = {name: part[part["verdict"] == name] for name in part["verdict"].unique()}
        parts = []
        if "broken" in named:
            whole = len(named["broken"]) == len(part)
            broken = _list(named["broken"].index)
            parts.append("every method is broken" if whole else f"broken are {broken}")
        if "slowed" in named:
            parts.append(f"slowed by {_with_numbers(named['slowed'])}")
        if "withstood" in named:
            stands = named["withstood"]
            least = stands["never_reached_share"].min()
            share = "every pair" if least == 1 else f"at least {least:.0%} of the pairs"
            parts.append(
                f"with {_list(stands.index)} no attacker of this kind solved {share} within the "
                "budget (withstood)"
            )
        if "not shown" in named:
            parts.append(
                f"a slowdown is not shown for {_with_numbers(named['not shown'])}, whose intervals "
                "over seeds hold 1 or whose slowdowns are bounds no higher"
            )
        if "destroyed" in named:
            parts.append(f"destroyed the benign task: {_losses(named['destroyed'])}")
        if "no verdict" in named:
            parts.append(f"one seed gives no verdict; {_with_numbers(named['no verdict'])}")
            gone = part[part["benign_lost"] > MAX_BENIGN_LOSS]
            if len(gone):
                parts.append(f"the benign task was lost: {_losses(gone)}")
        back = part[
            (part["never_reached_share"] >= MIN_WITHSTOOD_SHARE)
            & ~part["verdict"].isin(["withstood"])
        ]
        if len(back) and "accuracy_linear" in back and back["accuracy_linear"].notna().any():
            words = [f"{_name(m)} ({percent(v)})" for m, v in back["accuracy_linear"].items()]
            parts.append(
                f"no attacker reached the loss with {', '.join(words)}, yet linear ones that weigh "
                "rows unequally get the held-out accuracy in brackets, so that none of them "
                "withstood"
            )
        if parts:
            sentences.append(
                f"Best attacker against best attacker, {loss} loss: {'; '.join(parts)}."
            )
    return sentences


def _losses(part: pd.DataFrame) -> str:
    return ", ".join(f"{_name(m)} ({v:.0%} lost)" for m, v in part["benign_lost"].items())


def _with_numbers(part: pd.DataFrame) -> str:
    """Methods with their slowdowns, which may be lower bounds or unknown."""
    return ", ".join(
        f"{_name(row.Index)} "
        + (
            "(S unknown)"
            if row.slowdown != row.slowdown
            else f"({'at least ' if row.slowdown_is_lower_bound else ''}"
            f"{format_number(row.slowdown)} times)"
        )
        for row in part.itertuples()
    )


def _failing(attacks: pd.DataFrame, order: dict[str, Any]) -> list[str]:
    """Attackers that fail without immunization, and those that diverge."""
    attackers = attacks[~attacks["attack"].str.startswith(BEST)]
    sentences = []
    plain = attackers[~_protected(attackers, order)]
    fails = plain[plain["censored_share_H"] + plain["diverged_H"] / plain["problems_H"] > 0.5]
    if len(fails):
        sentences.append(
            "Without immunization these attackers fail too, on more than half of the pairs, and "
            f"tell nothing: {_some(list(fails['attack']), 12)}."
        )
    diverged = attackers.groupby("attack", sort=False)[["diverged_H", "problems_H"]].sum()
    diverged = diverged[diverged["diverged_H"] > 0]
    if len(diverged):
        names = [
            f"{_name(row.Index)} on {row.diverged_H:.0f} of {row.problems_H:.0f}"
            for row in diverged.itertuples()
        ]
        sentences.append(f"Attackers that diverged: {', '.join(names)} problems.")
    return sentences


def _protected(table: pd.DataFrame, order: dict[str, Any]) -> pd.Series:
    """Which rows are of a method; with its type also where there are none."""
    immunized = [order["methods"][m] != "identity" for m in table.index]
    return pd.Series(immunized, index=table.index, dtype=bool)


def _breakers(attacks: pd.DataFrame, resistance: pd.DataFrame, order: dict[str, Any]) -> list[str]:
    """Which attackers are as fast as without immunization, against which method."""
    attackers = attacks[
        ~attacks["attack"].str.startswith(BEST) & attacks["slowdown_median_H"].notna()
    ]
    attackers = attackers[_protected(attackers, order)]
    fast = attackers[
        (attackers["slowdown_median_H"] <= MAX_BROKEN_SLOWDOWN)
        & ~attackers["slowdown_is_lower_bound_H"].astype(bool)
    ]
    against = {m: list(fast.loc[[m], "attack"]) if m in fast.index else [] for m in attackers.index}
    broken = set(resistance.index[resistance["verdict"] == "broken"]) & set(against)
    others = [m for m in against if m not in broken]
    sentences = []
    if broken:
        every = [a for a in attackers["attack"].unique() if all(a in against[m] for m in broken)]
        if every:
            sentences.append(f"None of the broken methods slows {_list(pd.Index(every))}.")
        alike: dict[tuple[str, ...], list[str]] = {}
        for method in [m for m in against if m in broken]:
            rest = tuple(a for a in against[method] if a not in every)
            alike.setdefault(rest, []).append(method)
        for rest, methods in alike.items():
            if rest:
                verb = ("is" if len(methods) == 1 else "are") + (" also" if every else "")
                names = _list(pd.Index(methods))
                sentences.append(f"{_first_up(names)} {verb} broken by {_some(list(rest))}.")
    for method in others:
        if against[method]:
            sentences.append(
                f"{_first_up(_name(method))} is not broken in the sense above, yet does not slow "
                f"{_some(against[method])}."
            )
    return sentences


def _accuracy(table: pd.DataFrame, dataset: str) -> list[str]:
    part = table[table["dataset"] == dataset]
    if part.empty or "accuracy_p_mean" not in part:
        return []
    part = part.set_index("method")
    ranges = {
        role: (part[f"accuracy_{role}_mean"].min(), part[f"accuracy_{role}_mean"].max())
        for role in "ph"
    }
    low, high = ranges["h"]
    sentences = [
        f"With the best probe, held-out accuracy on D_P lies between {percent(ranges['p'][0])} "
        f"and {percent(ranges['p'][1])}, and on D_H between {percent(low)} and {percent(high)}"
        + (": nothing is hidden from the best probe." if high - low < HIDDEN else ".")
    ]
    columns = [c for c in part.columns if "_H_" in c and part[c].notna().all()]
    columns = [c for c in columns if not c.startswith("least_squares")]
    if columns and "identity" in part.index:
        last = max(columns, key=lambda c: int(c.rsplit("_", 1)[1]))
        attack, _, step = last.rsplit("_", 2)
        benign = f"{attack}_P_{step}"
        lowest = part[last].idxmin()
        sentences.append(
            f"After {step} steps of {_name(attack)} a probe has, without immunization, "
            f"{percent(part.loc['identity', last])} on D_H and "
            f"{percent(part.loc['identity', benign])} on D_P; with {_name(lowest)}, the lowest "
            f"on D_H, {percent(part.loc[lowest, last])} and {percent(part.loc[lowest, benign])}."
        )
    return sentences


def replicated(table: pd.DataFrame) -> str:
    """How many published figures are reproduced, in words."""
    if table.empty:
        return ""
    comparable = table.dropna(subset=["published"])
    near = int(comparable["verdict"].str.startswith("reproduced").sum())
    order = int(comparable["verdict"].str.startswith("same order").sum())
    return (
        f"{near} of the {len(comparable)} rows below are reproduced within a quarter "
        f"(counts within five pairs) by one of the three, {order} more within a factor of "
        "three. A count of successes has a row for each reading of success."
    )


def _name(label: object) -> str:
    return display_label(str(label))


def _first_up(text: str) -> str:
    return text[:1].upper() + text[1:]


def _some(labels: list[str], most: int = 5) -> str:
    """The first few, and how many more."""
    if len(labels) <= most + 1:
        return _list(pd.Index(labels))
    return ", ".join(map(_name, labels[:most])) + f" and {len(labels) - most} more"


def _list(labels: pd.Index) -> str:
    names = [_name(label) for label in labels]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
