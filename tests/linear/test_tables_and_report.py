"""Tables, findings, figures and the report, from small frames whose answers are known."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from immunization.linear import page
from immunization.linear.figures import best_of_k
from immunization.linear.findings import _breakers, _resistance, findings
from immunization.linear.results import Results
from immunization.linear.slowdowns import BEST, with_best_and_slowdown
from immunization.linear.tables import ratios, resistance
from immunization.linear.tables.accuracy import accuracy_table
from immunization.linear.tables.attacks import attacks_table
from immunization.linear.tables.attacks import show as show_attacks
from immunization.linear.tables.definition import definition_table
from immunization.linear.tables.measures import measures_table
from immunization.linear.tables.prediction import prediction_table
from immunization.reporting.draw import draw_all
from immunization.reporting.page import origin_of
from immunization.reporting.table import write_all
from immunization.runtime.errors import UserError
from immunization.runtime.files.io import read_csv, write_table
from immunization.study.components import components, import_component
from tests import HANG

ORDER = {
    "datasets": {"mnist": ["mnist", "digit"], "house": ["house_prices", "regression"]},
    "methods": {"identity": "identity", "mine": "alg1", "best": "optimum"},
    "attacks": {"gradient_descent": "gradient_descent", "least_squares": "least_squares"},
    "flops_per_second": 1e10,
    "figures": {"limit": "limit", "heat_map": "heat_map", "convergence": "convergence",
                "spectra": "spectra", "trajectory": "trajectory", "ridge": "ridge",
                "sensitivity": "sensitivity", "slowdown": "slowdown", "survival": "survival",
                "best_of_k": "best_of_k", "prediction": "prediction", "frontier": "frontier",
                "selectivity": "selectivity", "fine_tuning": "fine_tuning"},
    "sweeps": {"gain": {"kind": "methods", "parameters": ["eta"],
                        "members": {"mine": {"eta": 0.1}, "best": {"eta": 1.0}}},
               "start": {"kind": "methods", "parameters": ["start"],
                         "members": {"best": {"start": "a"}, "mine": {"start": "b"}}}},
    "replication": {"alg1": {"released": "mine", "paper": "mine"}, "imma": {},
                    "r_ill_only": {"paper": "mine", "corrected": "gone"}, "opt_kappa": {}},
}  # fmt: skip
STUDY = {
    "config": {
        "study": "small",
        "seeds": [0, 1],
        "attack": {"threshold": 1e-3},
        "spectrum": {"much_larger": 10},
    },
    "order": ORDER,
}
PARAMETERS = {
    "trajectory": {"paper_steps": {"mnist": 2}},
    "sensitivity": {"parameter": "eta"},
    "prediction": {"predictors": ["ratio_i", "rir"]},
}
GAIN = {"identity": (1.0, 1.0), "mine": (8.0, 0.5), "best": (100.0, 1.0)}


def frames():
    """Ratios, spectra, steps and curves of two data sets, three methods and two seeds."""
    ratios, spectra, steps, curves = [], [], [], []
    for dataset, pairs in (("mnist", [("0", "1"), ("1", "0")]), ("house", [("a", "b")])):
        for method, (i, ii) in GAIN.items():
            for seed in (0, 1):
                for pair, (p, h) in enumerate(pairs):
                    factor = 1 + 0.1 * seed if method != "identity" else 1
                    rir = factor * i / ii
                    limit = np.inf if dataset == "mnist" and pair == 1 else 110.0
                    keys = {"dataset": dataset, "method": method, "seed": seed, "pair": pair,
                            "primary": p, "harmful": h}  # fmt: skip
                    ratios.append(
                        keys
                        | {"ratio_i": factor * i, "ratio_ii": ii, "rir": rir}
                        | {f"released_{k}": 2.0 for k in ("ratio_i", "ratio_ii", "rir")}
                        | {
                            "ridge_rir": 1.5,
                            "ridge_ratio_i": i,
                            "label_weighted_ratio_i": i,
                            "label_weighted_rir": i,
                        }
                        | {"released_floored": dataset == "mnist"}
                        | {
                            "limit": limit,
                            "rir_with_unseen_floor": 110.0,
                            "harmful_energy_outside": 0.1,
                        }
                        | {"limit_intercept": 70.0, "zero_loss_p": 0.5}
                        | {"best_loss_p": 0.1, "best_loss_p_reference": 0.1}
                        | {"optimality": np.nan if limit == np.inf else np.log(rir) / np.log(110)}
                        | {
                            "definition_a_met": i >= 10,
                            "definition_b_met": ii <= 1,
                            "definition_c_met": True,
                        }
                        | {"resolved": method != "best"}
                        | ({"accuracy_p": 0.9, "accuracy_h": 0.8} if dataset == "mnist" else {})
                    )
                    for role in "PH":
                        spectra.append(keys | {"role": role, "eigenvalues": [0.1, 1.0 * i]})
                        slow = {"identity": 100, "mine": 400, "best": 5000}[method]
                        for attack, count in (
                            ("gradient_descent", slow if role == "H" else 100),
                            ("least_squares", 1),
                        ):
                            steps.append(
                                keys | {"role": role, "attack": attack, "steps": count,
                                        "censored": count == 5000, "third": "", "loss": "squared",
                                        "repair": "none", "fraction": 1.0, "unseen_rows": False,
                                        "flops": 10.0 * count, "budget": 5000}
                                | ({"accuracy_end": 0.8, "accuracy_area": 0.7}
                                   if dataset == "mnist" else {})
                            )  # fmt: skip
                for role in "PH":
                    for attack in ("gradient_descent", "least_squares"):
                        for step in (0, 1, 10, 100, 1000):
                            gap = (
                                1.0 if step == 0 else 0.0 if attack == "least_squares" else 1 / step
                            )
                            curves.append(
                                {"dataset": dataset, "method": method, "seed": seed, "role": role,
                                 "attack": attack, "step": step, "accuracy": 0.7,
                                 "unseen_rows": False}
                                | {f"{m}_q{q}": gap for m in ("convergence_ratio", "loss_gap")
                                   for q in (25, 50, 75)}
                            )  # fmt: skip
    curves = pd.DataFrame(curves)
    curves.loc[curves["dataset"] == "house", "accuracy"] = np.nan
    return pd.DataFrame(ratios), pd.DataFrame(spectra), pd.DataFrame(steps), curves


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Files of a whole small study, through the command lines of the last three stages."""
    folder = tmp_path_factory.mktemp("study")
    paths = {}
    for name, frame in zip(("ratios", "spectra", "steps", "curves"), frames(), strict=True):
        paths[name] = str(folder / f"{name}.parquet")
        write_table(paths[name], frame)
    (folder / "study.json").write_text(json.dumps(STUDY))
    (folder / "published.csv").write_text(
        "source,task,method,quantity,value,note,explanation\n"
        "mnist,digit,alg1,rir,17.0,Table 9,\n"
        'mnist,digit,alg1,ratio_i,80,Table 9,"of a reason, with a comma"\n'
        "mnist,digit,imma,rir,2,Table 9,\n"
        "mnist,digit,alg1,success,2,Fig. 9,\n"
    )
    (folder / "grid.csv").write_text(
        "method,row,column,log_rir\nalg1,0,0,0\nalg1,0,1,2.8\nalg1,1,0,2.9\n"
    )
    trajectories = []
    for method in ("mine", "best"):
        rows = pd.DataFrame(
            {"dataset": dataset, "method": method, "seed": seed, "pair": pair, "step": step,
             "kappa_p": 1.0, "kappa_h": 1.0, "ratio_i": 1.0 + step, "ratio_ii": 1.0,
             "rir": 1.0 + step, "r_well": 2.0, "r_ill": 3.0, "converged": step == 4}
            for dataset, count in (("mnist", 2), ("house", 1))
            for seed in (0, 1)
            for pair in range(count)
            for step in ((0, 1, 2, 4) if pair == 0 else (0, 1, 2))
        )  # fmt: skip
        trajectories.append(str(folder / f"{method}.parquet"))
        write_table(trajectories[-1], rows)
    paths |= {"curves": [paths["curves"]], "steps": [paths["steps"]], "trajectories": trajectories}
    ours = {"published": folder / "published.csv", "grids": folder / "grid.csv"}
    write_all("linear/tables", Results(paths | ours, ORDER), Tables(folder), {})
    files = []
    for name in ORDER["figures"]:
        outputs = [
            str(folder / f"{name}.{dataset}.{suffix}")
            for dataset in (["mnist"] if name == "heat_map" else ["mnist", "house"])
            for suffix in (("svg", "png", "txt") if name == "limit" else ("svg", "txt"))
        ]
        results = Results(paths, ORDER, PARAMETERS.get(name, {}))
        draw_all(import_component("linear/figures", name), results, outputs)
        files += outputs
    tables = {
        name: read_csv(folder / "tables" / f"{name}.csv") for name in components("linear/tables")
    }
    drawn = [Path(path) for path in files if path.endswith(".svg")]
    origin = origin_of(STUDY, paths["ratios"])
    (folder / "report.html").write_text(page.page(STUDY, tables, drawn, origin))
    return folder


class Tables:
    """Where tables go."""

    def __init__(self, folder):
        self.folder = folder

    def table(self, name, suffix):
        return self.folder / "tables" / f"{name}.{suffix}"


@pytest.mark.parametrize(("budget", "told"), [
    (5000, "With 1 of 2 attackers tried at random, every method falls in ten expected steps"),
    (10, "A budget of 10 steps is too small to show who falls in ten."),
])  # fmt: skip
def test_who_falls_in_ten_steps_is_told_only_beyond_a_budget_of_ten(tmp_path, budget, told):
    steps = frames()[2]
    steps = steps.assign(budget=budget, steps=10 if budget == 10 else 1, censored=budget == 10)
    write_table(tmp_path / "steps.parquet", steps)
    results = Results({"steps": [str(tmp_path / "steps.parquet")]}, ORDER)
    assert best_of_k.says(results, "mnist").startswith(told)


def read(study, name):
    return pd.read_csv(study / "tables" / f"{name}.csv")


def test_ratios_are_means_over_pairs_then_over_seeds(study):
    table = read(study, "ratios")
    assert table["dataset"].tolist() == ["mnist"] * 3 + ["house"] * 3
    assert table["method"].tolist() == ["identity", "mine", "best"] * 2
    mine = table[(table["dataset"] == "mnist") & (table["method"] == "mine")].iloc[0]
    assert mine["rir_mean"] == pytest.approx(16 * 1.05)
    assert mine["rir_std"] == pytest.approx(np.std([16, 17.6], ddof=1))
    assert mine["limit_infinite_share"] == 0.5
    assert mine["limit_median_finite"] == 110
    text = (study / "tables" / "ratios.md").read_text()
    assert "110 (∞ on 50%)" in text
    assert "RIR, published" in text
    assert table["published_rir"].dropna().tolist() == [17.0]
    assert "16.8 ± 1.13" in text


def test_slowdown_is_against_identity_and_least_squares_breaks_all(study):
    table = read(study, "attacks").set_index(["dataset", "attack", "method"])
    assert table.loc[("mnist", "gradient_descent", "mine"), "slowdown_median_H"] == 4
    assert table.loc[("mnist", "gradient_descent", "mine"), "slowdown_median_P"] == 1
    assert table.loc[("mnist", BEST, "mine"), "slowdown_median_H"] == 1
    shown = (study / "tables" / "attacks.md").read_text()
    assert "≥ 50" in shown
    resistance_ = read(study, "resistance").set_index(["dataset", "method"])
    assert (resistance_.loc[resistance_["verdict"].notna(), "verdict"] == "broken").all()
    assert resistance_["verdict"].notna().sum() == 4  # two methods on two data sets
    assert (study / "tables" / "resistance.md").read_text().count("broken") == 4


def test_a_slowdown_against_a_censored_reference_is_not_stated():
    steps = frames()[2]
    steps.loc[steps["method"] == "identity", ["steps", "censored"]] = [5000, True]
    table = attacks_table(with_best_and_slowdown(steps, ORDER["methods"]))
    unknown = table[table["attack"] == "gradient_descent"]
    assert unknown["slowdown_median_H"].isna().all()
    assert (show_attacks(unknown)[["mine", "best"]] == "–").all(axis=None)


def test_findings_name_who_breaks_what():
    def row(attack, method, slowdown, bound=False):
        return {"dataset": "d", "attack": attack, "method": method,
                "slowdown_median_H": slowdown, "slowdown_is_lower_bound_H": bound}  # fmt: skip

    methods = {"id": "identity", "one_weak": "a", "two_weak": "a", "firm": "a"}
    attacks = pd.DataFrame(
        [row(a, "id", 1.0) for a in ("solve", "step_0p1", "best of all")]
        + [row("solve", m, 1.0) for m in ("one_weak", "two_weak")]
        + [row("step_0p1", "one_weak", 1.04), row("step_0p1", "two_weak", 1.0, True)]
        + [row("best of all", m, 1.0) for m in ("one_weak", "two_weak", "firm")]
        + [row("solve", "firm", 9.0, True), row("step_0p1", "firm", 0.9)]
    )
    verdicts = ["", "broken", "broken", "withstood"]
    resistance = pd.DataFrame({"method": list(methods), "verdict": verdicts}).set_index("method")
    assert _breakers(attacks.set_index("method"), resistance, {"methods": methods}) == [
        "None of the broken methods slows solve.",
        "One weak is also broken by step 0.1.",
        "Firm is not broken in the sense above, yet does not slow step 0.1.",
    ]


def test_findings_tell_every_verdict_and_lower_bounds():
    names = ["identity", "a", "b", "c", "d"]
    table = pd.DataFrame(
        {
            "method": names, "loss": "squared", "slowdown": [1.0, 1.0, 9.0, 2.5, 1.3],
            "slowdown_is_lower_bound": [False, False, True, True, True], "never_reached_share": 1.0,
            "benign_lost": 0.0,
            "verdict": ["", "broken", "withstood", "slowed", "not shown"],
        }
    ).set_index("method")  # fmt: skip
    order = {"methods": {name: name for name in names}}
    (told,) = _resistance(table, order)
    assert "broken are a; slowed by c (at least 2.50 times); with b no attacker" in told
    assert "a slowdown is not shown for d (at least 1.30 times)" in told
    (told,) = _resistance(table.loc[["identity", "d"]], order)
    assert told.startswith("Best attacker against best attacker, squared loss: a slowdown is not")
    other = table.assign(verdict="no verdict")
    (told,) = _resistance(other.loc[["identity", "c"]], order)
    assert "one seed gives no verdict; c (at least 2.50 times)" in told
    other = table.assign(verdict="destroyed", benign_lost=0.93)
    (told,) = _resistance(other.loc[["identity", "b"]], order)
    assert "destroyed the benign task: b (93% lost)" in told


def small_tables(ratios, steps, curves):
    uses, slowed = ORDER["methods"], with_best_and_slowdown(steps, ORDER["methods"])
    return {
        "resistance": resistance.resistance_table(slowed, steps, ratios, uses),
        "attacks": attacks_table(slowed),
        "measures": measures_table(slowed, curves, uses, 1e10),
        "prediction": prediction_table(ratios, slowed, uses),
    }


def test_findings_do_not_round_a_mean_count_up():
    loaded = [frames()[0], frames()[2], frames()[3]]
    definition = definition_table(loaded[0])
    definition.loc[definition["method"] == "mine", "rir_above_1"] = 1.67
    ready = {
        "ratios": ratios.ratios_table(loaded[0]), "definition": definition,
        **small_tables(*loaded),
        "accuracy": accuracy_table(loaded[0], loaded[2]),
    }  # fmt: skip
    assert "above 1 on 1.7 of 2 pairs" in " ".join(findings("mnist", ready, ORDER, 1e-3))


def test_figures_with_nothing_to_draw_say_so(tmp_path):
    from immunization.linear.figures import convergence, heat_map

    ratios, _, _, curves = frames()
    write_table(tmp_path / "r.parquet", ratios[ratios["method"] == "identity"])
    write_table(tmp_path / "c.parquet", curves[curves["attack"] == "least_squares"])
    paths = {"ratios": tmp_path / "r.parquet", "curves": [tmp_path / "c.parquet"]}
    results = Results(paths, ORDER | {"methods": {"identity": "identity"}})
    assert "No attacker" in convergence.draw(results, "mnist").texts[0].get_text()
    assert "no method" in heat_map.draw(results, "mnist").texts[0].get_text()


def test_the_definition_table_counts_pairs(study):
    table = read(study, "definition").set_index(["dataset", "method"])
    assert table.loc[("mnist", "best"), "all_met"] == 2
    assert table.loc[("mnist", "mine"), "definition_a_met"] == 0
    assert table.loc[("mnist", "mine"), "i_above_1_ii_at_most_1"] == 2
    assert table.loc[("mnist", "best"), "resolved"] == 0


def test_published_figures_stand_beside_ours_with_a_verdict(study):
    table = read(study, "replication").set_index(["published_in", "method", "quantity"])
    row = table.loc[("Table 9", "alg1", "rir")]
    assert row["published"] == 17
    assert row["paper_mean"] == pytest.approx(16.8)
    assert row["paper_std"] == pytest.approx(np.std([16, 17.6], ddof=1))
    assert row["released_mean"] == 2.0  # by the released κ
    assert row["limit"] == np.inf  # the median of 110 and ∞
    assert row["verdict"] == "reproduced within 1% (paper)"
    row = table.loc[("Table 9", "alg1", "ratio_i")]
    assert row["verdict"] == "differs, ×9.52 off at best (paper): of a reason, with a comma"
    assert table.loc[("Table 9", "imma", "rir"), "verdict"] == "not run"


def test_counts_of_success_stand_under_each_reading(study):
    table = read(study, "replication")
    rows = table[table["published_in"] == "Fig. 9"].set_index("quantity")
    assert rows["paper_mean"].to_dict() == {
        "pairs with RIR > 1": 2,
        "pairs with (i) > 1 and (ii) ≤ 1": 2,
        "pairs with (i) ≥ 10 and (ii) ≤ 1": 0,
    }
    assert (rows["verdict"] == "reproduced exactly (paper)").tolist()[:2] == [True, True]
    assert rows.loc["pairs with RIR > 1", "released_mean"] == 0  # (i) = (ii) = 2


def test_a_published_grid_is_compared_either_way_round():
    from immunization.linear.tables.replication import replication_table

    pairs = [(p, h) for p in range(4) for h in range(4) if p != h]
    logs = {pair: 0.1 * place**2 for place, pair in enumerate(pairs)}
    ratios = pd.DataFrame(
        {"dataset": "m", "method": "x", "seed": seed, "pair": place, "primary": str(p),
         "harmful": str(h), "limit": 5.0, "ratio_i": np.exp(logs[p, h]), "ratio_ii": 1.0,
         "rir": np.exp(logs[p, h]), "released_ratio_i": 1.0, "released_ratio_ii": 1.0,
         "released_rir": 1.0}
        for seed in (0, 1)
        for place, (p, h) in enumerate(pairs)
    )  # fmt: skip
    grid = pd.DataFrame(
        [{"method": "alg1", "row": p, "column": h, "log_rir": 2 * logs[p, h] if p != h else 0}
         for p in range(4) for h in range(4) if p != h or p == 0]
    )  # fmt: skip
    order = {"datasets": {"m": ["mnist", "digit"]}, "replication": {"alg1": {"paper": "x"}}}
    none = pd.DataFrame(
        columns=["source", "task", "method", "quantity", "value", "note", "explanation"]
    )
    table = replication_table(ratios, none, grid, order).set_index("quantity")
    assert table.loc["mean log RIR", "paper_mean"] == pytest.approx(np.mean(list(logs.values())))
    assert table.loc["correlation of log RIR, rows as D_P", "paper_mean"] == pytest.approx(1)
    swapped = np.corrcoef([logs[p, h] for p, h in pairs], [logs[h, p] for p, h in pairs])[0, 1]
    found = table.loc["correlation of log RIR, rows as D_H", "paper_mean"]
    assert found == pytest.approx(swapped)
    assert swapped < 0.7
    assert table.loc["correlation of log RIR, rows as D_P", "verdict"] == "rows are D_P"


def test_steps_say_how_many_pairs_converged_and_when(study):
    table = read(study, "steps").set_index(["dataset", "method"])
    assert table.loc[("mnist", "mine"), "converged_share"] == 0.5
    assert table.loc[("mnist", "mine"), "steps_median"] == 3
    assert table.loc[("house", "best"), "steps_max"] == 4


def test_the_best_of_a_sweep_meets_the_definition_most_often():
    from immunization.tools.rank_sweeps import trials

    rows = [
        ("a", 2.0, 1.5, True), ("a", 2.0, 0.5, True),
        ("b", 2.0, 1.0, True), ("b", 2.0, 0.5, True),
        ("c", 4.0, 1.0, True), ("c", 8.0, 0.5, True),
        ("d", 1e9, 0.1, False), ("d", 1e9, 0.1, True),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["method", "ratio_i", "ratio_ii", "resolved"])
    frame["rir"] = frame["ratio_i"] / frame["ratio_ii"]
    sweep = {"kind": "methods", "members": {m: {"eta": n} for n, m in enumerate("abcd")}}
    table = trials(frame, {"s": sweep, "data": {"kind": "datasets", "members": {}}})
    assert table["parameters"].tolist() == ["eta: 2", "eta: 1", "eta: 3", "eta: 0"]
    assert table["(i) > 1 and (ii) ≤ 1"].tolist() == ["100%", "100%", "50%", "50%"]


def test_accuracies_are_there_only_where_labels_vary(study):
    table = read(study, "accuracy")
    assert table["dataset"].unique().tolist() == ["mnist"]
    assert table["gradient_descent_H_100"].tolist() == [0.7] * 3


def test_findings_say_what_the_numbers_say(study):
    names = ("ratios", "definition", "attacks", "resistance", "accuracy")
    loaded = {name: read(study, name) for name in names}
    text = " ".join(findings("mnist", loaded, ORDER, 1e-3))
    for sentence in (
        "On 50% of the pairs the limit is infinite",
        "mine has the largest median RIR, 16.8",
        "on every pair with mine",
        "is set by its own floor, on at least one side of the ratio, in 100%",
        "best on 2 of 2 pairs",
        "every method is broken",
        "After 1000 steps of gradient descent",
    ):
        assert sentence in text, text
    house = " ".join(findings("house", loaded, ORDER, 1e-3))
    assert "Every pair has a finite limit; its median is 110" in house
    assert "never on its floor" in house


def test_the_page_holds_everything_and_loads_nothing(study):
    html = (study / "report.html").read_text()
    for word in ("small", "Findings", "that is finite", "broken", "Table 9", "data:image/svg+xml"):
        assert word in html
    assert 'src="http' not in html
    assert html.count("<figure>") == 27


def test_the_page_shows_in_a_real_browser(study, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no Chromium here")
    picture = tmp_path / "page.png"
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1200,3000",
         f"--screenshot={picture}", (study / "report.html").as_uri()],
        capture_output=True, timeout=HANG, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    from matplotlib.image import imread

    pixels = imread(picture)
    assert pixels.shape[:2] == (3000, 1200)
    assert pixels.std() > 0.05  # not blank


def test_figures_are_the_same_for_the_same_data(study, tmp_path):
    again = tmp_path / "limit.mnist.svg"
    paths = {name: str(study / f"{name}.parquet") for name in ("ratios", "spectra")}
    draw_all(import_component("linear/figures", "limit"), Results(paths, ORDER), [str(again)])
    assert again.read_bytes() == (study / "limit.mnist.svg").read_bytes()


def test_every_figure_has_a_caption():
    for component in components("linear/figures").values():
        assert len(component.traits["CAPTION"]) > 100, component.path


def test_a_published_file_without_its_columns_is_refused(tmp_path):
    (tmp_path / "p.csv").write_text("a,b\n1,2\n")
    for name in ("published", "grids"):
        with pytest.raises(UserError, match="columns"):
            getattr(Results({name: tmp_path / "p.csv"}, ORDER), name)


def test_every_table_has_a_caption_and_its_place_in_the_report_is_its_own():
    for wing in ("linear", "networks"):
        found = components(f"{wing}/tables").values()
        assert all(len(component.traits["CAPTION"]) > 100 for component in found)
        places = [c.traits["REPORT"] for c in found if "REPORT" in c.traits]
        assert sorted(places) == list(range(1, len(places) + 1))
