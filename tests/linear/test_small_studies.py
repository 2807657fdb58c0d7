"""Studies in which nothing varies, or nothing is slowed: tables stay, findings say nothing."""

import pandas as pd

from immunization.linear.findings import _breakers
from immunization.linear.prediction import PREDICTORS, rank_correlations


def test_slowdowns_that_are_all_alike_are_correlated_with_nothing():
    both = pd.DataFrame(
        {
            "dataset": "d", "method": ["a", "b"], "seed": 0, "pair": 0, "attack": "gd",
            "slowdown": 2.0, "censored": True, **dict.fromkeys(PREDICTORS, 1.0),
        }
    )  # fmt: skip
    assert rank_correlations(both).empty


def test_without_any_slowdown_no_attacker_is_told_to_break_anything():
    attacks = pd.DataFrame(
        {
            "attack": ["gd"],
            "slowdown_median_H": [float("nan")],
            "slowdown_is_lower_bound_H": [False],
        },
        index=pd.Index(["alg1"], name="method"),
    )
    resistance = pd.DataFrame({"verdict": ["unknown"]}, index=pd.Index(["alg1"], name="method"))
    assert _breakers(attacks, resistance, {"methods": {"alg1": "alg1"}}) == []
