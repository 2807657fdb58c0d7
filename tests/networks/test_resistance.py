"""Steps to a goal, best attacker against best, and the tables and claims that rest on them."""

import numpy as np
import pandas as pd
import pytest

from immunization.networks.results import trimmed_condition
from immunization.networks.slowdowns import plain_sgd, steps_to
from immunization.networks.tables.attacks import attacks_table
from immunization.networks.tables.claims import claims_table
from immunization.networks.tables.resistance import resistance_table

USES = {"probe": "linear_probe", "tail": "last_stage", "scratch": "scratch"}


def curve(method, attack, member, accuracies, role="H", seed=0, **more):
    task = "harm" if role == "H" else "third"
    return [
        {
            "network": "n", "harmful": "harm", "task": task, "role": role, "method": method,
            "seed": seed, "attack": attack, "member": member, "fraction": 1.0, "tuned": True,
            "step": 10**i, "accuracy": a,
        } | more
        for i, a in enumerate(accuracies)
    ]  # fmt: skip


@pytest.fixture
def curves():
    rows = []
    for seed in (0, 1):
        rows += curve("identity", "probe", "sgd 1, none", [0.1, 0.5, 0.6], seed=seed)
        rows += curve("identity", "probe", "adam 1, whiten", [0.4, 0.8, 0.8], seed=seed)
        rows += curve("identity", "tail", "adamw 1", [0.1, 0.9, 0.9], seed=seed)
        rows += curve("identity", "probe", "adam 1, whiten", [0.4, 0.8, 0.8], "T", seed)
        rows += curve("made", "probe", "sgd 1, none", [0.1, 0.1, 0.2], seed=seed)
        rows += curve("made", "probe", "adam 1, whiten", [0.1, 0.2, 0.75], seed=seed)
        rows += curve("made", "tail", "adamw 1", [0.1, 0.9, 0.9], seed=seed)
        rows += curve("made", "tail", "adamw 9", [0.9, 0.9, 0.9], seed=seed, tuned=False)
        rows += curve("made", "probe", "adam 1, whiten", [0.4, 0.8, 0.8], "T", seed)
        rows += curve("made", "probe", "adam 1, whiten", [0.1, 0.2, 0.3], seed=seed, fraction=0.1)
        rows += curve("identity", "scratch", "adamw 1", [0.0, 0.1, 0.2], seed=seed)
    return pd.DataFrame(rows)


def test_a_crossing_lies_between_records_on_a_logarithmic_scale():
    steps, accuracies = np.array([1, 10, 100]), np.array([0.0, 0.2, 0.6])
    assert steps_to(steps, accuracies, 0.4) == (pytest.approx(10**1.5), False)
    assert steps_to(steps, accuracies, 0.0) == (1.0, False)
    assert steps_to(steps, accuracies, 0.7) == (100.0, True)


def test_the_best_attacker_counts_on_each_side(curves):
    table = resistance_table(curves, USES, 0.9).set_index(["attacker_kind", "method"])
    probe = table.loc[("linear probe", "made")]
    # Goal 0.72: at 10^(0.8) of the reference's best, at 10^(1 + 0.52/0.55) of the other's.
    wanted = 10 ** (1 + 0.52 / 0.55) / 10**0.8
    assert probe["slowdown"] == pytest.approx(wanted)
    assert probe["verdict"] == "slowed"
    assert not probe["is_lower_bound"]
    assert probe["fastest"].startswith("probe: adam")
    assert probe["selectivity"] == pytest.approx(np.log(wanted))
    assert probe["accuracy_few"] == pytest.approx(0.3)
    assert table.loc[("fine-tuning", "made"), "verdict"] == "broken"
    assert table.loc[("fine-tuning", "identity"), "verdict"] == "reference"
    assert "from scratch" not in set(table.index.get_level_values("attacker_kind"))


def test_who_keeps_attackers_just_under_the_goal_is_seen_at_a_lower_one(curves):
    near = curves["method"].eq("made") & curves["role"].eq("H") & curves["attack"].eq("probe")
    curves.loc[near, "accuracy"] = curves.loc[near, "accuracy"].clip(upper=0.7)  # the goal is 0.72
    table = resistance_table(curves, USES, 0.9, 0.7).set_index(["attacker_kind", "method"])
    probe = table.loc[("linear probe", "made")]
    assert probe["is_lower_bound"]
    assert probe["verdict"] == "withstood"
    # Goal 0.56: at 10^0.4 of the reference's best, at 10^(1 + 0.36/0.5) of the other's.
    assert probe["lower_slowdown"] == pytest.approx(10 ** (1 + 0.36 / 0.5) / 10**0.4)
    assert not probe["lower_is_lower_bound"]
    assert probe["lower_verdict"] == "slowed"
    assert table["lower_target"].eq(0.7).all()


def test_an_unreached_goal_names_the_nearest_run_and_the_largest_budget(curves):
    near = curves["method"].eq("made") & curves["role"].eq("H") & curves["attack"].eq("probe")
    curves = pd.concat(
        [
            curves[~(near & curves["step"].eq(100) & curves["member"].str.startswith("adam"))],
            pd.DataFrame(curve("made", "probe", "ridge", [0.7])),
            pd.DataFrame(curve("made", "probe", "ridge", [0.7], seed=1)),
        ]
    )
    probe = resistance_table(curves, USES, 0.9).set_index(["attacker_kind", "method"])
    probe = probe.loc[("linear probe", "made")]
    assert probe["fastest"] == "probe: ridge"
    assert probe["steps"] == 100


def test_trimming_leaves_the_smallest_hundredth_out():
    values = np.arange(1.0, 201.0)
    assert trimmed_condition(values) == 200 / 3
    assert trimmed_condition(values[:50]) == 50 / 2
    assert trimmed_condition(np.array([1.0, 4.0])) == 1


def test_a_goal_that_is_never_reached_is_a_lower_bound(curves):
    naive = plain_sgd(curves, USES, 0.9).set_index("method")
    assert naive.loc["identity", "verdict"] == "reference"
    assert naive.loc["identity", "goal"] == pytest.approx(0.54)  # its own, not the best one's
    assert bool(naive.loc["made", "is_lower_bound"])
    assert naive.loc["made", "verdict"] == "withstood"


def test_every_attacker_has_a_goal_of_its_own_and_signed_deviations(curves):
    table = attacks_table(curves, USES, 0.9)
    own = table[(table["role"] == "H") & (table["method"] == "made")].set_index("attack")
    assert own.loc["tail", "slowdown"] == pytest.approx(1)
    assert own.loc["tail", "rfd_signed"] == pytest.approx(0)
    best = np.array([0.4, 0.8, 0.8]), np.array([0.1, 0.2, 0.75])
    wanted = 100 * np.mean((best[0] - best[1]) / best[0])
    assert own.loc["probe", "rfd_signed"] == pytest.approx(wanted)
    assert set(table["attacker_kind"]) == {"linear probe", "fine-tuning", "from scratch"}


def test_a_study_without_probes_or_with_few_images_alone_has_its_tables(curves):
    tail = curves[curves["attack"] == "tail"]
    assert plain_sgd(tail, USES, 0.9).empty
    assert set(resistance_table(tail, USES, 0.9)["attacker_kind"]) == {"fine-tuning"}
    few = tail.assign(fraction=0.1)
    assert resistance_table(few, USES, 0.9).empty
    assert len(attacks_table(few, USES, 0.9)) == len(attacks_table(tail, USES, 0.9))
    scratch = curves[curves["attack"] == "scratch"]
    assert resistance_table(scratch, USES, 0.9).empty
    assert attacks_table(scratch, USES, 0.9)["method"].tolist() == ["identity"]


def test_claims_are_held_to_both_measures(curves):
    table3 = pd.DataFrame(
        [
            {
                "network": "n", "harmful": "harm", "method": m, "groups_released_i_mean": 2.0,
                "groups_released_ii_mean": 0.5, "groups_released_rir_mean": 40.0,
                "full_i_mean": 0.5, "full_ii_mean": 0.5, "full_rir_mean": 1.0,
                "trimmed_rir_mean": 20.0,
                "accuracy_p_lost": 0.02, "rank_kept_share": 1.0,
            }
            for m in ("identity", "made")
        ]
    )  # fmt: skip
    order = {"methods": {"identity": "identity", "made": "alg1"}}
    table = claims_table(
        table3, resistance_table(curves, USES, 0.9), plain_sgd(curves, USES, 0.9), order
    )
    assert set(table["method"]) == {"made"}
    verdicts = table.set_index(table["claim"].str.split(" ").str[:3].str.join(" "))
    assert verdicts.loc["(i) > 1:", "holds_by_paper"]
    assert not verdicts.loc["(i) > 1:", "holds"]
    assert verdicts.loc["(ii) ≤ 1:", "holds"]
    assert verdicts.loc["RIR much larger", ["holds_by_paper", "holds"]].tolist() == [True, False]
    assert not verdicts.loc["accuracy on D_P", "holds"]
    assert verdicts.loc["a linear probe", ["holds_by_paper", "holds"]].tolist() == [True, True]
    assert not verdicts.loc["fine-tuning of more", "holds"]
    assert verdicts.loc["it slows D_H", "holds"]


def test_one_seed_is_not_enough_for_the_verdict_destroyed():
    from immunization.networks.tables.resistance import with_destroyed

    keys = {"network": ["n"] * 3, "harmful": ["h"] * 3, "method": ["kept", "lost", "once"]}
    table3 = pd.DataFrame(
        keys | {"accuracy_p_mean": [0.79, 0.5, 0.5], "accuracy_p_lost": [0.01, 0.3, 0.3]}
    )
    given = pd.DataFrame(keys | {"verdict": ["slowed", "withstood", "no verdict"]})
    found = with_destroyed(given, table3)["verdict"].tolist()
    assert found == ["slowed", "destroyed", "no verdict"]
