"""Measures of resistance on hand-made results."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from immunization.linear import slowdowns
from immunization.linear.prediction import PREDICTORS, rank_correlations
from immunization.linear.slowdowns import BEST, with_best_and_slowdown
from immunization.linear.tables import resistance
from immunization.linear.tables.attacks import attacks_table
from immunization.linear.tables.attacks import show as show_attacks
from immunization.linear.tables.measures import measures_table
from immunization.reporting.intervals_and_verdicts import best_of_k, rfd, verdict

USES = {"identity": "identity", "strong": "alg1", "hidden": "erase"}


def steps_of(rows):
    """Rows of (method, seed, pair, role, third, attack, steps, censored)."""
    names = ["method", "seed", "pair", "role", "third", "attack", "steps", "censored"]
    frame = pd.DataFrame(rows, columns=names)
    return frame.assign(
        dataset="d", loss="squared", fraction=1.0, unseen_rows=False, repair="none", budget=1000,
        threshold=1e-3, flops=frame["steps"] * 10.0, diverged=False,
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


def test_slowdown_is_unknown_where_the_reference_never_ended(steps):
    slowed = slowdowns.with_slowdown(steps, USES)
    strong = slowed[(slowed["method"] == "strong") & (slowed["role"] == "H")]
    assert set(strong.loc[strong["attack"] == "slow", "slowdown"]) == {9.0}
    unknown = steps.assign(
        censored=steps["censored"] | ((steps["method"] == "identity") & (steps["pair"] == 0))
    )
    slowed = slowdowns.with_slowdown(unknown, USES)
    assert slowed.loc[slowed["pair"] == 0, "slowdown"].isna().all()
    assert slowed.loc[slowed["pair"] != 0, "slowdown"].notna().all()


def test_the_best_attacker_is_chosen_for_each_problem(steps):
    best = slowdowns.best_of_all(steps)
    harmful = best[best["role"] == "H"].groupby("method")["steps"].max()
    assert harmful.to_dict() == {"identity": 10, "strong": 11, "hidden": 1000}
    few = steps[steps["attack"] == "quick"].assign(steps=1.0, fraction=0.1, attack="few")
    best = slowdowns.best_of_all(pd.concat([steps, few]))
    assert best.loc[best["method"] == "identity", "steps"].min() == 10


def test_broken_is_no_slower_and_withstood_what_never_ended(steps):
    slowed = with_best_and_slowdown(steps, USES)
    table = resistance.resistance_table(slowed, steps, pd.DataFrame(), USES).set_index("method")
    assert table.loc["strong", "verdict"] == "broken"
    # Seeds give 1.0 and 1.1: their geometric mean, and Student's interval around it.
    assert table.loc["strong", "slowdown"] == pytest.approx(1.1**0.5)
    half = np.log(1.1) / 2 * 12.706  # t with one degree of freedom
    assert table.loc["strong", "slowdown_ci_low"] == pytest.approx(
        1.1**0.5 / np.exp(half), rel=1e-3
    )
    assert table.loc["hidden", "verdict"] == "withstood"
    assert table.loc["hidden", "slowdown"] == pytest.approx(100)
    assert table.loc["hidden", "never_reached_share"] == 1
    assert table.loc["identity", "verdict"] == ""


def test_verdicts_say_what_was_measured():
    nan, none, some, every = float("nan"), [0.0, 0.0], [1.0, 0.0], [1.0, 1.0]
    assert verdict(nan, nan, none) == "unknown"
    assert verdict(1.3, 0.9, every, bound=True) == "withstood"  # however bounds scatter
    assert verdict(1.3, 0.9, some, bound=True) == "not shown"
    assert verdict(1.3, 0.9, none) == "not shown"  # 1 is in the interval
    assert verdict(1.3, 1.1, some, bound=True) == "slowed"
    assert verdict(3.0, 2.0, none) == "slowed"
    assert verdict(3.0, 0.5, none) == "not shown"
    assert verdict(1.04, 1.01, none) == "broken"
    assert verdict(0.7, 0.5, none) == "broken"
    assert verdict(1.0, 1.0, some, bound=True) == "not shown"  # S may be larger
    assert verdict(3.0, nan, [0.0]) == "no verdict"  # one seed
    assert verdict(3.0, nan, [0.0], lost=1.0) == "no verdict"  # only numbers
    assert verdict(2000, 2000, every, bound=True, lost=1.0) == "destroyed"
    assert verdict(2000, 2000, [0.96, 0.95]) == "withstood"
    assert verdict(2000, 2000, [0.96, 0.94]) == "slowed"


@pytest.mark.parametrize(
    ("values", "censored", "expected"),
    [
        ([10, 100, 100, 5], [0, 1, 1, 0], (55, True)),  # the upper middle one is open
        ([10, 100, 100, 5], [1, 0, 0, 0], (55, True)),
        ([2] * 45 + [200] * 45, [0] * 45 + [1] * 45, (101, True)),
        ([10, 20, 30], [0, 0, 1], (20, False)),  # above the middle, whatever it is
        ([10, 20, 30], [0, 1, 0], (20, True)),
        ([10, 20, 30], [1, 0, 0], (20, True)),  # it may lie above 20
        ([10, 20, 30, 40], [0, 0, 0, 1], (25, False)),
    ],
)
def test_a_median_is_a_bound_where_larger_censored_values_would_move_it(values, censored, expected):
    given = pd.Series(values, dtype=float), pd.Series(censored, dtype=bool)
    assert slowdowns.median(*given) == expected
    raised = given[0].mask(given[1], 1e9).median()
    assert (raised > given[0].median()) == expected[1]


def many(solved_by, pairs=90, seeds=3):
    """Steps of θ = I (10 or 500) and of a method, which solves a pair or is censored at 1,000."""
    rows = []
    for seed in range(seeds):
        for pair in range(pairs):
            rows.append(("identity", seed, pair, "H", "", "quick", 500 if pair == 0 else 10, False))
            steps = solved_by(seed, pair)
            rows.append(("strong", seed, pair, "H", "", "quick", steps or 1000, steps is None))
    return steps_of(rows)


def verdict_of(steps, ratios=None):
    slowed = with_best_and_slowdown(steps, USES)
    ratios = pd.DataFrame() if ratios is None else ratios
    table = resistance.resistance_table(slowed, steps, ratios, USES)
    return table.set_index("method").loc["strong"]


def test_one_unsolved_pair_of_ninety_does_not_make_a_seed_withstand():
    row = verdict_of(many(lambda seed, pair: None if pair == 0 else 30 + seed))
    assert row["verdict"] == "slowed"
    assert row["slowdown"] == pytest.approx((3 * 3.1 * 3.2) ** (1 / 3))
    assert not row["slowdown_is_lower_bound"]
    row = verdict_of(many(lambda seed, pair: 30 if pair == 5 else None))
    assert row["verdict"] == "withstood"  # 89 of 90
    assert row["never_reached_share"] == pytest.approx(89 / 90)
    row = verdict_of(many(lambda seed, pair: 30 if pair < 9 else None))
    assert row["verdict"] == "slowed"  # nine of ten are under the stated share
    assert row["slowdown_is_lower_bound"]


def test_operations_of_those_that_survived_are_a_bound():
    row = verdict_of(many(lambda seed, pair: 110 if pair % 3 == 0 else None, pairs=9))
    assert row["slowdown_is_lower_bound"]
    assert row["slowdown_flops_is_lower_bound"]
    assert row["slowdown_flops"] == pytest.approx(100)
    row = verdict_of(many(lambda seed, pair: 110, pairs=9))
    assert not row["slowdown_flops_is_lower_bound"]
    assert row["slowdown_flops"] == pytest.approx(11)


def test_a_lost_benign_task_is_destroyed_whatever_the_attackers_do():
    steps = many(lambda seed, pair: None, pairs=3)
    ratios = pd.DataFrame(
        [
            {"dataset": "d", "method": m, "seed": s, "pair": p, "best_loss_p_reference": 0.1,
             "best_loss_p": 0.5 if m == "strong" else 0.1, "zero_loss_p": 0.5}
            for m in ("identity", "strong") for s in range(3) for p in range(3)
        ]
    )  # fmt: skip
    row = verdict_of(steps, ratios)
    assert row["verdict"] == "destroyed"
    assert row["benign_lost"] == 1
    # A loss that is no number, and one pair of three lost whole, are lost.
    some = (ratios["method"] == "strong") & (ratios["pair"] == 0)
    for loss, share in ((np.nan, 1 / 3), (0.5, 1 / 3), (1e9, 1 / 3)):
        partly = ratios.assign(best_loss_p=np.where(some, loss, 0.1))
        row = verdict_of(steps, partly)
        assert row["verdict"] == "destroyed"
        assert row["benign_lost"] == pytest.approx(share)
    kept = ratios.assign(best_loss_p=0.1 + 1e-3)
    assert verdict_of(steps, kept)["verdict"] == "withstood"


def test_problems_on_which_every_attacker_diverged_stay_without_a_number():
    steps = many(lambda seed, pair: 30, pairs=9)
    lost = (steps["method"] == "strong") & (steps["pair"] < 5)
    steps = steps.assign(steps=steps["steps"].where(~lost), diverged=lost)
    slowed = with_best_and_slowdown(steps, USES)
    best = slowed[(slowed["attack"] == slowdowns.BEST) & (slowed["method"] == "strong")]
    assert len(best) == 27
    assert best["steps"].isna().sum() == 15
    row = verdict_of(steps)
    assert row["verdict"] == "unknown"
    assert np.isnan(row["slowdown"])
    assert np.isnan(row["slowdown_flops"])


def test_one_seed_gives_numbers_and_no_verdict():
    row = verdict_of(many(lambda seed, pair: 30, seeds=1))
    assert row["verdict"] == "no verdict"
    assert row["slowdown"] == pytest.approx(3)


def test_attackers_that_diverge_are_counted_as_that_and_never_as_censored():
    steps = many(lambda seed, pair: 30, pairs=4)
    wild = steps[steps["method"] == "strong"].assign(attack="wild", steps=np.nan, diverged=True)
    wild.loc[wild["pair"] == 0, ["steps", "diverged"]] = (20.0, False)
    plain = steps[steps["method"] == "identity"].assign(attack="wild")
    steps = pd.concat([steps, wild, plain], ignore_index=True)
    slowed = with_best_and_slowdown(steps, USES)
    table = attacks_table(slowed).set_index(["attack", "method"])
    row = table.loc[("wild", "strong")]
    assert (row["diverged_H"], row["problems_H"], row["censored_share_H"]) == (9, 12, 0)
    assert np.isnan(row["slowdown_median_H"])
    assert not row["slowdown_is_lower_bound_H"]
    shown = show_attacks(attacks_table(slowed)).set_index("attack")
    assert shown.loc["wild", "strong"] == "– (diverged on 9 of 12)"
    # The best attacker is one that did not, where it was quicker.
    best = slowdowns.best_of_all(steps)
    strong = best[best["method"] == "strong"]
    assert set(strong.loc[strong["pair"] == 0, "steps"]) == {20.0}
    assert set(strong.loc[strong["pair"] != 0, "steps"]) == {30.0}
    assert verdict_of(steps)["never_reached_share"] == 0


@pytest.mark.parametrize(
    ("harmful", "third", "sign"),
    [(False, False, ""), (True, False, "≥"), (False, True, "≤"), (True, True, "?")],
)
def test_selectivity_is_a_bound_where_the_budget_ran_out(harmful, third, sign):
    rows = []
    for pair in range(3):
        rows += [("identity", 0, pair, "H", "", "gd", 10, False)]
        rows += [("identity", 0, pair, "T", t, "gd", 10, False) for t in "78"]
        rows += [("strong", 0, pair, "H", "", "gd", 1000, harmful)]
        rows += [("strong", 0, pair, "T", "7", "gd", 900, third)]
        rows += [("strong", 0, pair, "T", "8", "gd", 20, False)]
    steps = steps_of(rows)
    found = slowdowns.selectivity(slowdowns.with_slowdown(steps, USES))
    assert set(found.loc[found["method"] == "strong", "bound"]) == {sign}
    slowed = with_best_and_slowdown(steps, USES)
    table = measures_table(slowed, pd.DataFrame(), USES, 1e9)
    row = table.set_index(["attack", "method"]).loc[("gd", "strong")]
    assert row["selectivity_bound"] == sign
    assert row["flops_bound"] == harmful


def test_rfd_with_and_without_a_sign():
    unsigned, signed = rfd(np.array([0.8, 0.5]), np.array([0.4, 0.75]))
    assert unsigned == pytest.approx(50)
    assert signed == pytest.approx(0)  # half less, then half more: easier is not hidden


def test_best_of_k_is_the_mean_over_all_draws():
    steps = np.array([[7.0, 1.0, 4.0, 4.0]])
    ours = best_of_k(steps)[0]
    from itertools import combinations

    for k in range(1, 5):
        expected = np.mean([min(draw) for draw in combinations(steps[0], k)])
        assert ours[k - 1] == pytest.approx(expected)


def test_selectivity_is_against_the_worst_third_task(steps):
    slowed = slowdowns.with_slowdown(steps, USES)
    found = slowdowns.selectivity(slowed)
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
    values = {name: random.lognormal(size=count) for name in PREDICTORS}
    both = pd.DataFrame(keys | values)
    both["slowdown"] = both["rir"] * random.lognormal(size=count)
    found = rank_correlations(both).set_index("predictor")
    for name in PREDICTORS:
        assert found.loc[name, "spearman"] == pytest.approx(
            spearmanr(both[name], both["slowdown"]).statistic
        )
    inside = [
        spearmanr(part["rir"], part["slowdown"]).statistic for _, part in both.groupby("method")
    ]
    # Pairs of which a predictor is not known leave the ranks of the slowdown too.
    holed = both.assign(rir=both["rir"].mask(both.index % 3 == 0))
    kept = holed.dropna(subset=["rir"])
    again = rank_correlations(holed).set_index("predictor")
    assert again.loc["rir", "spearman"] == pytest.approx(
        spearmanr(kept["rir"], kept["slowdown"]).statistic
    )
    assert again.loc["ratio_i", "spearman"] == found.loc["ratio_i", "spearman"]
    assert found.loc["rir", "spearman_within"] == pytest.approx(np.mean(inside))


def test_the_table_of_measures_turns_operations_into_seconds(steps):
    slowed = with_best_and_slowdown(steps, USES)
    curves = pd.DataFrame(
        [
            ("d", "slow", m, s, "H", t, a)
            for m, a in (("identity", 0.8), ("strong", 0.6))
            for s in (0, 1)
            for t in (0, 1, 10)
        ],
        columns=["dataset", "attack", "method", "seed", "role", "step", "accuracy"],
    )
    table = measures_table(slowed, curves, USES, 1e3)
    row = table.set_index(["attack", "method"]).loc[("slow", "strong")]
    assert (row["reached_0.01"], row["reached_0.1"], row["reached_1"]) == (0, 0, 1)
    quick = table.set_index(["attack", "method"]).loc[("quick", "identity")]
    assert (quick["reached_0.01"], quick["reached_0.1"]) == (1, 1)
    assert row["flops_median"] == 9000
    assert row["seconds_median"] == 9
    assert (row["rfd"], row["rfd_signed"]) == (pytest.approx(25), pytest.approx(25))
    assert BEST in set(table["attack"])
