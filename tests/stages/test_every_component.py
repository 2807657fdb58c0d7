"""All components of linear studies at once, so that none is documented and broken."""

import copy
import json

import pandas as pd

from immunization.runtime.files.io import read_table
from immunization.study.components import components
from tests.studies import run_study
from tests.workflow.conftest import MINIATURE


def test_every_component_that_ships_goes_through_the_stages(tmp_path):
    """All components at once, so that none is documented and broken."""
    config = copy.deepcopy(MINIATURE) | {"seeds": [3]}
    config["methods"] = {
        name: {key: 2 for key in ("steps", "epochs", "inner_steps") if key in component.parameters}
        for name, component in components("linear/methods").items()
    } | {"released": {"use": "alg1", "profile": "released", "epochs": 2}}  # has no trajectory
    config["attacks"] = {name: {} for name in components("linear/attacks")} | {
        "logistic": {"use": "lbfgs", "loss": "logistic"},
        "softmax": {"use": "newton", "loss": "softmax", "repair": "scale"},
        "unseen_rows": {"use": "least_squares", "ridge": 0.001, "unseen_rows": True},
        "starts": {"use": "nesterov", "restarts": 2},
        "grid": {"use": "adam", "sweep": {"learning_rate": [0.01, 0.1], "warm_up": [0, 5]}},
    }
    config["attack"] |= {"budget_likelihood": 20, "sampled_pairs": 2}
    config["figures"] = {
        name: {"datasets": ["binary"]} | ({"parameter": "eta"} if name == "sensitivity" else {})
        for name in components("linear/figures")
    } | {"heat_map": {"datasets": "pairs"}}
    digits = {"source": "digits", "rows_per_class": 20}
    config["datasets"] = {
        "digits": digits | {"pairs": "all"},
        "binary": digits | {"task": "one_vs_rest", "pairs": [[3, 8]], "rows_per_class": 30},
    }
    folder = run_study(tmp_path / "mini", config)
    table = pd.read_csv(folder / "tables/ratios.csv")
    assert set(table["method"]) == {*components("linear/methods"), "released"}
    figures = folder / "figures"
    assert (figures / "heat_map.digits.svg").is_file()
    assert "best linear attacker reaches" in (figures / "frontier.binary.txt").read_text()
    steps = read_table(folder / "attack/binary.trained.steps.parquet")
    grid = {f"grid_learning_rate_{rate}_warm_up_{t}" for rate in ("0p01", "0p1") for t in (0, 5)}
    assert set(steps["attack"]) == {"adam", "logistic", "low_precision", "softmax"} | grid
    resistance = pd.read_csv(folder / "tables/resistance.csv")
    resistance = resistance.set_index(["dataset", "method", "loss"])
    assert resistance.loc[("binary", "optimum", "squared"), "slowdown"] <= 1.05
    assert resistance.loc[("binary", "erase", "squared"), "never_reached_share"] == 1
    assert resistance.loc[("binary", "erase", "squared"), "verdict"] == "no verdict"  # one seed
    study = json.loads((folder / "study.json").read_text())
    assert study["config"]["seeds"] == [3]
    listed = {line[66:] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert {f"tables/{name}.csv" for name in components("linear/tables")} <= listed
