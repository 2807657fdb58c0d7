"""The stages by their command lines, without Snakemake."""

import json
import sys

import pytest
import torch

from immunization.linear import attack, immunize, spectra
from immunization.runtime.errors import UserError
from immunization.runtime.files.io import read_table, read_tables, read_tensors
from immunization.runtime.gpus.device import acquire_device
from immunization.runtime.jobs import command
from immunization.runtime.threads import map_threads
from immunization.stages import prepare

from .conftest import defaults


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two small data sets, two methods, spectra and attacks."""
    base = tmp_path_factory.mktemp("stages")
    sources = {
        "binary": ("digits", defaults("datasets", "digits", task="one_vs_rest",
                                      pairs=[[1, 2], [2, 1]], rows_per_class=40)),
        "diabetes": ("diabetes", defaults("datasets", "diabetes", test_fraction=0.25)),
    }  # fmt: skip
    tasks = []
    for name, (source, parameters) in sources.items():
        tasks.append(str(base / f"{name}.safetensors"))
        prepare.main(
            ["--name", name, "--source", source, "--parameters", json.dumps(parameters),
             "--seeds", "[0, 1]", "--out", tasks[-1]]
        )  # fmt: skip
    thetas = []
    for label, method, given in (
        ("identity", "identity", {}),
        ("mine", "alg1", {"profile": "paper", "steps": 3}),
    ):
        outputs = [str(base / f"{label}.{name}.safetensors") for name in sources]
        parameters = {name: defaults("methods", method, **given) for name in sources}
        immunize.main(
            ["--label", label, "--method", method, "--parameters", json.dumps(parameters),
             "--tasks", *tasks, "--out", *outputs, "--trajectories",
             *(path.replace(".safetensors", ".parquet") for path in outputs),
             "--progress", str(base / "progress" / label), "--device", "cpu", "--threads", "2"]
        )  # fmt: skip
        thetas += outputs
    settings = {"ridge": 1e-6, "unseen_floor": 1e-3, "much_larger": 10, "label_share": 1e-3}
    spectra.main(
        ["--tasks", *tasks, "--thetas", *thetas, "--parameters", json.dumps(settings),
         "--spectra", str(base / "spectra.parquet"), "--ratios", str(base / "ratios.parquet"),
         "--threads", "2"]
    )  # fmt: skip
    attackers = {
        "gd": {
            "use": "gradient_descent",
            "parameters": defaults("attacks", "gradient_descent", step="line_search"),
        }
    }
    settings = {"budget": 100, "threshold": 0.01, "curve_steps": 20, "benign": None,
                "budget_likelihood": 20, "goal_ridge": 1e-3, "sample": None, "third_tasks": 2,
                "nonlinear_rows": 100}  # fmt: skip
    for place, path in enumerate(tasks):
        attack.main(
            ["--engine", "simulated", "--attackers", json.dumps(attackers),
             "--settings", json.dumps(settings), "--tasks", path, "--thetas", *thetas[place::2],
             "--progress", str(base / f"progress.{place}"),
             "--steps", str(base / f"steps.{place}.parquet"),
             "--curves", str(base / f"curves.{place}.parquet")]
        )  # fmt: skip
    return base


def test_the_reference_has_ratios_of_one_and_the_method_has_not(folder):
    ratios = read_table(folder / "ratios.parquet")
    reference = ratios[ratios["method"] == "identity"]
    for column in ("ratio_i", "ratio_ii", "rir", "released_rir", "ridge_rir"):
        assert reference[column].to_numpy() == pytest.approx(1, rel=1e-6), column
    assert (ratios.loc[ratios["method"] == "mine", "rir"] != 1).all()
    assert ratios["met_c"].all()
    assert ratios["resolved"].all()


def test_kappa_of_a_row_equals_a_dense_computation_from_the_stored_theta(folder):
    from immunization.linear.files import load_task_set

    tasks = load_task_set(folder / "diabetes.safetensors")
    tensors, _ = read_tensors(folder / "mine.diabetes.safetensors")
    theta = tensors["theta.1"][0]
    task = tasks.tasks[int(tasks.task_index[1, 0, 1])]
    x = tasks.features(task.train_rows)
    values = torch.linalg.eigvalsh(theta.mT @ x.mT @ x @ theta)
    ratios = read_table(folder / "ratios.parquet").query(
        "dataset == 'diabetes' and method == 'mine' and seed == 1"
    )
    assert ratios["kappa_h"].item() == pytest.approx(float(values[-1] / values[0]), rel=1e-9)
    identity = torch.linalg.eigvalsh(x.mT @ x)
    before = float(identity[-1] / identity[0])
    assert ratios["kappa_h_reference"].item() == pytest.approx(before, rel=1e-9)


def test_attacks_are_told_for_both_roles_with_accuracies_where_there_are_labels(folder):
    steps = read_tables(folder / f"steps.{place}.parquet" for place in range(2))
    assert len(steps) == 2 * 2 * 2 * (2 + 1)  # methods, seeds, roles, pairs
    assert steps.loc[steps["dataset"] == "binary", "accuracy_end"].between(0.5, 1).all()
    assert steps.loc[steps["dataset"] == "diabetes", "accuracy_end"].isna().all()
    curves = read_tables(folder / f"curves.{place}.parquet" for place in range(2))
    assert set(curves["step"]) >= {0, 1, 20}
    start = curves.loc[curves["step"] == 0, "loss_gap_q50"].to_numpy()
    assert start == pytest.approx(1, rel=1e-12)


def test_work_on_threads_comes_back_in_order():
    items = list(range(7))
    assert map_threads(lambda x: x * x, items, 3) == [x * x for x in items]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_auto_takes_the_cpu_and_cuda_is_refused_where_there_is_no_gpu():
    assert acquire_device("auto") == "cpu"
    with pytest.raises(UserError, match="torch sees no GPU"):
        acquire_device("cuda")


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu(digit):
    from immunization.linear.methods import alg1

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for profile in (alg1.paper, alg1.corrected):
        here = profile(digit.problem(0), eta=0.005, steps=20).theta
        there = profile(digit.problem(0, "cuda"), eta=0.005, steps=20).theta.cpu()
        torch.testing.assert_close(here, there, rtol=1e-6, atol=1e-8)


def test_a_users_mistake_becomes_one_line_and_exit_code_2(capsys, monkeypatch):
    def wrong(arguments):
        raise UserError("key 'x' is wrong")

    with pytest.raises(SystemExit) as exit_:
        command.run_command(wrong)
    assert exit_.value.code == 2
    assert capsys.readouterr().err.strip() == "error: key 'x' is wrong"


def test_arguments_that_are_not_json_are_refused(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["spectrum"])
    with pytest.raises(SystemExit):
        spectra.main(["--tasks", "a", "--thetas", "b", "--parameters", "{", "--spectra", "c",
                       "--ratios", "d"])  # fmt: skip
    assert "not JSON" in capsys.readouterr().err
