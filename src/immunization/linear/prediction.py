"""Does κ predict resistance? Rank correlations of predictors with slowdowns."""

from __future__ import annotations

import numpy as np
import pandas as pd

PREDICTORS = {
    "ratio_i": "(i), non-zero κ",
    "released_ratio_i": "(i), released κ",
    "ridge_ratio_i": "(i), ridge κ",
    "label_weighted_ratio_i": "(i), label-weighted κ",
    "rir": "RIR, non-zero κ",
    "released_rir": "RIR, released κ",
    "ridge_rir": "RIR, ridge κ",
    "label_weighted_rir": "RIR, label-weighted κ",
}


def join_predictors(
    ratios: pd.DataFrame, steps: pd.DataFrame, uses: dict[str, str]
) -> pd.DataFrame:
    """Every predictor beside the slowdown on D_H it should foretell; θ = I is left out.

    Args:
        ratios: of the spectrum stage.
        steps: with ``slowdown``.
        uses: what labels stand for.
    """
    keys = ["dataset", "method", "seed", "pair"]
    known = steps[(steps["role"] == "H") & (steps["method"].map(uses) != "identity")]
    known = known[(known["fraction"] == 1) & ~known["unseen_rows"].astype(bool)]
    known = known.dropna(subset=["slowdown"])[[*keys, "attack", "slowdown", "censored"]]
    return known.merge(ratios[[*keys, *PREDICTORS]], on=keys)


def rank_correlations(both: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rank correlation of each predictor with the slowdown, for each attacker.

    Over all methods, seeds and pairs; and within a method, the mean over methods, which says
    whether a predictor orders pairs that were treated alike. Censored slowdowns count at their
    bound.

    Args:
        both: of `join_predictors`.
    """
    place = ["dataset", "attack"]
    varied = both.groupby(place)["slowdown"].transform("nunique") > 1
    both = both[varied]
    if both.empty:
        return pd.DataFrame()
    both = both.assign(censored=both["censored"].astype(bool))
    overall = _correlations(both, place)
    inside = _correlations(both, [*place, "method"]).groupby(place, sort=False).mean()
    groups = both.groupby(place, sort=False)
    counts = pd.DataFrame(
        {
            "points": groups.size(),
            "censored_share": groups["censored"].mean(),
        }
    )
    long = {"id_vars": place, "var_name": "predictor"}
    rows = overall.reset_index().melt(**long, value_name="spearman")
    within = inside.reset_index().melt(**long, value_name="spearman_within")
    rows = rows.merge(within, on=[*place, "predictor"])
    return rows.merge(counts.reset_index(), on=place)


def _correlations(both: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Rank correlations with the slowdown, one row a group; NaN where nothing varies.

    Pairs of which either number is not known (a κ beyond float64, say) are left out of both ranks.
    """
    correlations = {}
    for name in PREDICTORS:
        known = both[both[name].notna() & both["slowdown"].notna()]
        by = [known[key] for key in keys]
        ranks = known[[name, "slowdown"]].groupby(by).rank()
        ranks = ranks - ranks.groupby(by).transform("mean")
        cross = (ranks[name] * ranks["slowdown"]).groupby(by, sort=False).sum()
        square = (ranks**2).groupby(by, sort=False).sum()
        under = np.sqrt(square[name] * square["slowdown"])
        correlations[name] = cross / under.where(under > 0)
    groups = both.groupby(keys, sort=False).size().index
    return pd.DataFrame(correlations).reindex(groups)
