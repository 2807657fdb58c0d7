"""A study off the beaten track, through every stage in one process."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from immunization.linear.methods import optimum
from tests.studies import run_study

LOST = 7  # budget of the method that loses everything
FIGURES = [
    "slowdown", "frontier", "survival", "convergence", "fine_tuning", "best_of_k", "prediction",
    "selectivity", "heat_map", "spectra", "limit", "trajectory",
]  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """One seed, dollars in names, probes with an intercept, no non-linear attacker."""
    folder = tmp_path_factory.mktemp("odd")
    random = np.random.default_rng(0)
    data = {"tax_$": ["a$b$"] * 40 + ["$c"] * 40}
    data |= {c: random.normal(size=80) for c in ("x_$", "y", "z")}
    data |= {"sales_$": random.normal(size=80), "cost": random.normal(size=80)}
    data["colour"] = random.choice(["red", "green"], 80)
    pd.DataFrame(data).to_csv(folder / "t.csv", index=False)
    mine = {
        "source": "csv_table", "path": str(folder / "t.csv"), "split_column": "tax_$",
        "primary_values": ["a$b$"], "harmful_values": ["$c"], "primary_target": "sales_$",
        "harmful_target": "cost", "categories": ["colour"], "test_fraction": 0.25,
    }  # fmt: skip
    solve = optimum.immunize
    config = {
        "study": "mini",
        "seeds": [0],
        "datasets": {
            "mine": mine,
            "binary": {"source": "digits", "task": "one_vs_rest", "pairs": [[3, 8], [1, 7]],
                       "rows_per_class": 60},
        },
        "methods": {"identity": {}, "optimum": {}, "zero": {"use": "optimum", "budget": LOST}},
        "attacks": {
            "gradient_descent": {}, "least_squares": {},
            "float32": {"use": "low_precision"},
        },
        "attack": {"budget": 50, "curve_steps": 20, "sampled_pairs": 2},
        "spectrum": {"intercept": True},
        "figures": {name: {} for name in FIGURES},
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:  # θ of zeros: nothing is left of either task
        patch.setattr(
            optimum, "immunize",
            lambda problem, p: solve(problem, p) * (p["budget"] != LOST),
        )  # fmt: skip
        return run_study(folder / "mini", config)


def test_no_sentence_says_nan_and_every_figure_is_drawn(odd):
    for figure in FIGURES:
        for name in ("mine", "binary"):
            told = (odd / f"figures/{figure}.{name}.txt").read_text()
            assert not re.search(r"\bnan\b", told, re.IGNORECASE), (figure, told)
            assert (odd / f"figures/{figure}.{name}.svg").stat().st_size > 500
    page = (odd / "report.html").read_text()
    text = re.sub(r"<[^>]*>", " ", re.sub(r'src="data:[^"]*"', "", page))
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)
    assert "$c" in (odd / "figures/spectra.mine.svg").read_text()


def test_one_seed_has_no_verdict_and_a_theta_of_zeros_lost_the_benign_task(odd):
    table = pd.read_csv(odd / "tables/resistance.csv").set_index(["dataset", "method"])
    for name in ("mine", "binary"):
        assert table.loc[(name, "optimum"), "verdict"] == "no verdict"
        assert table.loc[(name, "zero"), "verdict"] == "no verdict"
        assert table.loc[(name, "zero"), "benign_lost"] == pytest.approx(1)
    page = (odd / "report.html").read_text()
    assert "numerically singular though their methods do not declare it" in page
    assert "one seed gives no verdict" in page
    assert "the benign task was lost: zero (100% lost)" in page


def test_the_report_tells_the_columns_and_scale_of_a_users_table(odd):
    page = (odd / "report.html").read_text()
    assert "x_$, y, z, colour=green, colour=red (scale: joint)" in page
    from immunization.runtime.files.io import read_metadata

    about = read_metadata(odd / "immunized/optimum/mine.safetensors")
    assert about["columns"] == ["x_$", "y", "z", "colour=green", "colour=red"]
    assert about["intercept"] is True
    assert len(about["scaling"]["0"]["mean"]) == 5


def test_limits_and_kappa_are_those_of_probes_with_an_intercept(odd):
    ratios = pd.read_parquet(odd / "spectrum/ratios.parquet")
    np.testing.assert_allclose(ratios["limit"], ratios["limit_intercept"])
    assert "for a squared-loss probe with an intercept" in (odd / "report.html").read_text()
    assert json.loads((odd / "study.json").read_text())["order"]["intercept"] is True
    # A constant among the features would be the intercept: one direction less than the columns.
    own = ratios[(ratios["dataset"] == "mine") & (ratios["method"] == "optimum")]
    assert own["resolved"].all()
