"""What the tables of a study of networks say, in words."""

from __future__ import annotations

import pandas as pd

from immunization.reporting.text import display_label, format_number


def findings(tables: dict[str, pd.DataFrame]) -> list[str]:
    """What the tables of one network and D_H say, in words."""
    sentences = []
    claims = tables["claims"]
    for method, part in claims.groupby("method", sort=False):
        known = part.dropna(subset=["holds"])
        held = known["holds"].map(lambda v: str(v) == "True")
        lost, open_ = (
            [str(claim).split(" (")[0] for claim in undecided["claim"]]
            for undecided in (known[~held], part[part["holds"].isna()])
        )
        sentences.append(
            f"Of {len(part)} claims, {int(held.sum())} survive the strict measures with "
            f"{display_label(str(method))}"
            + (f"; lost: {'; '.join(lost)}" if lost else "")
            + (f"; not decided: {'; '.join(open_)}." if open_ else ".")
        )
    table = tables["table3"]
    reference = table[table["method"] == "identity"].iloc[0]
    others = table[table["method"] != "identity"]
    kept = others[others["accuracy_p_lost"] <= 0.01]
    sentences.append(
        f"θ₀ has {100 * reference['accuracy_p_mean']:.1f} % on D_P; within a point of it are "
        f"{', '.join(display_label(m) for m in kept['method']) or 'none of the methods'}."
    )
    good = kept[(kept["full_i_mean"] > 1) & (kept["full_ii_mean"] <= 1)]
    if len(good):
        words = [
            f"{display_label(r.method)} (RIR {format_number(r.full_rir_mean)})"
            for r in good.itertuples()
        ]
        sentences.append(f"Of these, κ grows on D_H and not on D_P with {', '.join(words)}.")
    resistance = tables["resistance"]
    for kind, part in resistance[resistance["method"] != "identity"].groupby(
        "attacker_kind", sort=False
    ):
        broken = [display_label(m) for m in part.loc[part["verdict"] == "broken", "method"]]
        slowed = part[part["verdict"].isin(["slowed", "withstood"])]
        words = [
            f"{display_label(r.method)} ({times(r.slowdown, r.is_lower_bound)}; to "
            f"{r.lower_target:.3g} of the best accuracy "
            f"{times(r.lower_slowdown, r.lower_is_lower_bound)}, {r.lower_verdict})"
            for r in slowed.itertuples()
        ]
        open_ = [display_label(m) for m in part.loc[part["verdict"] == "not shown", "method"]]
        gone = [display_label(m) for m in part.loc[part["verdict"] == "destroyed", "method"]]
        sentences.append(
            f"Best {kind} against best {kind}: broken are {', '.join(broken) or 'none'}; slower "
            f"with {', '.join(words) or 'none'}"
            + (f"; a slowdown is not shown for {', '.join(open_)}" if open_ else "")
            + (f"; destroyed D_P: {', '.join(gone)}" if gone else "")
            + "."
        )
    return [*sentences, *by_chance(resistance)]


def by_chance(resistance: pd.DataFrame) -> list[str]:
    """The number of intervals above 1 that chance alone would give."""
    tested = resistance[(resistance["method"] != "identity") & resistance["ci_low"].notna()]
    if tested.empty:
        return []
    count, seeds = len(tested), int(tested["seeds"].max())
    above = int((tested["ci_low"] > 1).sum())
    return [
        f"These are {count} intervals of 95 % from {seeds} seeds, not corrected for their number: "
        f"if no method changed anything, about {0.025 * count:.2g} would lie above 1 by chance and "
        f"as many below; {above} lie above."
    ]


def times(slowdown: float, bound: bool) -> str:
    return f"{'at least ' if bound else ''}{format_number(slowdown)} times"
