"""Measures of resistance on hand-made results."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from immunization import measures, resistance
from immunization.measures import BEST

USES = {"identity": "identity", "strong": "alg1", "hidden": "erase"}


def steps_of(rows):
    """Rows of (method, seed, pair, role, third, attack, steps, censored)."""
    names = ["method", "seed", "pair", "role", "third", "attack", "steps", "censored"]
    frame = pd.DataFrame(rows, columns=names)
    return frame.assign(
        dataset="d", loss="squared", fraction=1.0, fresh=False, repair="none", budget=1000,
        threshold=1e-3, flops=frame["steps"] * 10.0,
    )  # fmt: skip


@pytest.fixture
def steps():
    rows = []
    for seed in (0, 1):
        for pair in (0, 1, 2):
            for method, slow, quick in (
                ("identity", 100, 10), ("strong", 900, 10 + seed), ("hidden", 1000, 1000),
            ):  # fmt: skip
                stuck = method == "hidden"
                rows.append((method, seed, pair, "H", "", "slow", slow, stuck))
                rows.append((method, seed, pair, "H", "", "quick", quick, stuck))
                rows.append((method, seed, pair, "P", "", "slow", 100, False))
            rows.append(("identity", seed, pair, "T", "7", "slow", 50, False))
            rows.append(("identity", seed, pair, "T", "8", "slow", 50, False))
            rows.append(("strong", seed, pair, "T", "7", "slow", 100, False))
            rows.append(("strong", seed, pair, "T", "8", "slow", 150, False))
    return steps_of(rows)


def test_slowdown_is_against_no_immunization_and_unknown_where_that_never_ended(steps):
    slowed = measures.with_slowdown(steps, USES)
    strong = slowed[(slowed["method"] == "strong") & (slowed["role"] == "H")]
    assert set(strong.loc[strong["attack"] == "slow", "slowdown"]) == {9.0}
    unknown = steps.assign(
        censored=steps["censored"] | ((steps["method"] == "identity") & (steps["pair"] == 0))
    )
    slowed = measures.with_slowdown(unknown, USES)
    assert slowed.loc[slowed["pair"] == 0, "slowdown"].isna().all()
    assert slowed.loc[slowed["pair"] != 0, "slowdown"].notna().all()


def test_the_best_attacker_is_chosen_problem_by_problem_and_others_rows_do_not_compete(steps):
    best = measures.best_of_all(steps)
    harmful = best[best["role"] == "H"].groupby("method")["steps"].max()
    assert harmful.to_dict() == {"identity": 10, "strong": 11, "hidden": 1000}
    few = steps[steps["attack"] == "quick"].assign(steps=1.0, fraction=0.1, attack="few")
    best = measures.best_of_all(pd.concat([steps, few]))
    assert best.loc[best["method"] == "identity", "steps"].min() == 10


def test_broken_is_what_cannot_be_told_from_one_and_withstood_what_never_ended(steps):
    slowed = resistance.resisted(steps, USES)
    table = resistance.resistance_table(slowed, steps, pd.DataFrame(), USES).set_index("method")
    assert table.loc["strong", "verdict"] == "broken"
    # Seeds give 1.0 and 1.1: their geometric mean, and Student's interval around it.
    assert table.loc["strong", "slowdown"] == pytest.approx(1.1**0.5)
    half = np.log(1.1) / 2 * 12.706  # t with one degree of freedom
    assert table.loc["strong", "slowdown_low"] == pytest.approx(1.1**0.5 / np.exp(half), rel=1e-3)
    assert table.loc["hidden", "verdict"] == "withstood"
    assert table.loc["hidden", "slowdown"] == pytest.approx(100)
    assert table.loc["hidden", "withstood_share"] == 1
    assert table.loc["identity", "verdict"] == ""


def test_verdicts_tell_seeds_whose_budget_ran_out_apart():
    none, some, every = [False, False], [True, False], [True, True]
    assert measures.verdict(float("nan"), float("nan"), none) == "unknown"
    assert measures.verdict(1.3, 0.9, every) == "withstood"  # however lower bounds scatter
    assert measures.verdict(1.3, 0.9, some) == "undecided"
    assert measures.verdict(1.3, 0.9, none) == "broken"
    assert measures.verdict(1.3, 1.1, some) == "slowed"
    assert measures.verdict(3.0, 2.0, none) == "slowed"
    assert measures.verdict(1.04, 1.01, none) == "broken"
    assert measures.verdict(3.0, float("nan"), [False]) == "slowed"  # one seed


def test_a_median_over_censored_values_is_a_bound():
    values = pd.Series([10.0, 100.0, 100.0, 5.0])
    assert measures.median(values, pd.Series([False, True, True, False])) == (55.0, False)
    assert measures.median(values, pd.Series([True, False, False, False])) == (55.0, True)


def test_rfd_with_and_without_a_sign():
    unsigned, signed = measures.rfd(np.array([0.8, 0.5]), np.array([0.4, 0.75]))
    assert unsigned == pytest.approx(50)
    assert signed == pytest.approx(0)  # half less, then half more: easier is not hidden


def test_best_of_k_is_the_mean_over_all_draws():
    steps = np.array([[7.0, 1.0, 4.0, 4.0]])
    ours = measures.best_of_k(steps)[0]
    from itertools import combinations

    for k in range(1, 5):
        expected = np.mean([min(draw) for draw in combinations(steps[0], k)])
        assert ours[k - 1] == pytest.approx(expected)


def test_selectivity_is_against_the_worst_third_task(steps):
    slowed = measures.with_slowdown(steps, USES)
    found = measures.selectivity(slowed)
    strong = found[found["method"] == "strong"]
    # 9 times on D_H, 2 and 3 times on the two third tasks.
    assert strong["selectivity"].to_numpy() == pytest.approx(np.log(9 / 3))


def test_rank_correlations_are_scipys(steps):
    random = np.random.default_rng(0)
    count = 60
    keys = {
        "dataset": "d", "seed": 0, "pair": range(count), "attack": "slow",
        "method": np.repeat(["strong", "hidden"], count // 2), "censored": False,
    }  # fmt: skip
    values = {name: random.lognormal(size=count) for name in measures.PREDICTORS}
    both = pd.DataFrame(keys | values)
    both["slowdown"] = both["rir"] * random.lognormal(size=count)
    found = measures.rank_correlations(both).set_index("predictor")
    for name in measures.PREDICTORS:
        assert found.loc[name, "spearman"] == pytest.approx(
            spearmanr(both[name], both["slowdown"]).statistic
        )
    inside = [
        spearmanr(part["rir"], part["slowdown"]).statistic for _, part in both.groupby("method")
    ]
    assert found.loc["rir", "spearman_within"] == pytest.approx(np.mean(inside))


def test_the_table_of_measures_counts_budgets_and_turns_operations_into_seconds(steps):
    slowed = resistance.resisted(steps, USES)
    curves = pd.DataFrame(
        [
            ("d", "slow", m, s, "H", t, a)
            for m, a in (("identity", 0.8), ("strong", 0.6))
            for s in (0, 1)
            for t in (0, 1, 10)
        ],
        columns=["dataset", "attack", "method", "seed", "role", "step", "accuracy"],
    )
    table = resistance.measures_table(slowed, curves, USES, 1e3)
    row = table.set_index(["attack", "method"]).loc[("slow", "strong")]
    assert (row["reached_0.01"], row["reached_0.1"], row["reached_1"]) == (0, 0, 1)
    quick = table.set_index(["attack", "method"]).loc[("quick", "identity")]
    assert (quick["reached_0.01"], quick["reached_0.1"]) == (1, 1)
    assert row["flops_median"] == 9000
    assert row["seconds_median"] == 9
    assert (row["rfd"], row["rfd_signed"]) == (pytest.approx(25), pytest.approx(25))
    assert BEST in set(table["attack"])
