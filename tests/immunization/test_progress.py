"""A sweep that is killed goes on where it stopped, and ends with the same numbers."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from immunization.linear.files import save_extractors, save_task_set
from immunization.runtime.files.io import read_table
from tests import HANG

from .conftest import defaults, task_set

SETTINGS = {
    "budget": 3000, "threshold": 1e-3, "curve_steps": 100, "benign": None,
    "budget_likelihood": 200, "goal_ridge": 1e-3, "sample": 4, "third_tasks": 2,
    "nonlinear_rows": 100,
}  # fmt: skip


def attackers(use, **given):
    return {"use": use, "parameters": defaults("attacks", use, **given)}


LADDER = {
    "simulated": {
        "search": attackers("gradient_descent", step="line_search"),
        "nesterov": attackers("nesterov"),
        "whitened": attackers("gradient_descent", repair="pca_whiten"),
        "few": attackers("conjugate_gradients", fraction=0.5),
        "starts": attackers("gradient_descent", restarts=3),
    },
    "trained": {
        "adam": attackers("adam", learning_rate=0.1),
        "logistic": attackers("lbfgs", loss="logistic"),
        "softmax": attackers("newton", loss="softmax"),
    },
    "nonlinear": {"kernel": attackers("kernel_ridge"), "mlp": attackers("mlp", steps=20)},
}


@pytest.fixture(scope="module")
def inputs(source, tmp_path_factory):
    """Task set and four θ files on disk."""
    folder = tmp_path_factory.mktemp("inputs")
    tasks = task_set(source, "one_vs_rest", (0, 1), rows_per_class=14, test_fraction=0.25)
    save_task_set(folder / "tasks.safetensors", tasks)
    generator = torch.Generator().manual_seed(3)
    for number, label in enumerate(("identity", "a", "b", "c")):
        spread = 0.2 * number
        thetas = {
            seed: torch.eye(9, dtype=torch.float64)
            + spread * torch.randn(12, 9, 9, dtype=torch.float64, generator=generator)
            for seed in (0, 1)
        }
        metadata = {"dataset": "mini", "code": "", "parameters": {"label": label}}
        save_extractors(folder / f"{label}.safetensors", thetas, {0: 0, 1: 1}, metadata)
    return folder


def command(inputs, out, engine):
    files = [str(inputs / f"{label}.safetensors") for label in ("identity", "a", "b", "c")]
    return [
        sys.executable, "-m", "immunization.linear.attack", "--engine", engine,
        "--attackers", json.dumps(LADDER[engine]), "--settings", json.dumps(SETTINGS),
        "--tasks", str(inputs / "tasks.safetensors"), "--thetas", *files, "--device", "cpu",
        "--progress", str(out / "progress"),
        "--steps", str(out / "steps.parquet"), "--curves", str(out / "curves.parquet"),
    ]  # fmt: skip


@pytest.fixture
def small_pieces(tmp_path):
    """An environment in which pieces are one target each, so that there are many to kill."""
    (tmp_path / "sitecustomize.py").write_text(
        "import immunization.linear.engines.simulated as s, immunization.linear.engines.trained as t\n"
        "s.ENTRIES['cpu'] = 1\nt.BYTES['cpu'] = 1\n"
    )
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(tmp_path), str(root / "src")])
    return os.environ | {"PYTHONPATH": path}


def run(arguments, environment):
    return subprocess.run(
        arguments, env=environment, capture_output=True, text=True, timeout=HANG, check=False
    )


@pytest.mark.slow
def test_killed_five_times_at_random_it_repeats_one_piece_at_most_and_ends_the_same(
    inputs, tmp_path, small_pieces
):
    whole = tmp_path / "whole"
    done = run(command(inputs, whole, "simulated"), small_pieces)
    assert done.returncode == 0, done.stderr
    count = done.stderr.count(" done\n") - 1
    assert count > 20
    killed = tmp_path / "killed"
    draw = random.Random(11)
    finished, logged = 0, 0
    for _ in range(5):
        process = subprocess.Popen(
            command(inputs, killed, "simulated"),
            env=small_pieces,
            stderr=subprocess.PIPE,
            text=True,
        )
        # At a random moment after a random number of further pieces.
        assert process.stderr is not None
        for _ in range(draw.randint(1, 4)):
            assert "piece" in process.stderr.readline()
        time.sleep(draw.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0] or ""
        assert process.returncode == -signal.SIGKILL, rest
        kept = len(list((killed / "progress").glob("*.steps.parquet")))
        assert kept > finished
        finished = kept
    assert not (killed / "steps.parquet").exists()
    last = run(command(inputs, killed, "simulated"), small_pieces)
    assert last.returncode == 0, last.stderr
    logged = last.stderr.count("piece ")
    # A piece is two files; one that was killed between them is done again.
    assert count - finished <= logged <= count - finished + 1
    for name in ("steps.parquet", "curves.parquet"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert all(path.suffix == ".seal" for path in (killed / "progress").glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["trained", "nonlinear"])
def test_a_second_run_keeps_every_piece_and_a_changed_setting_none(
    inputs, tmp_path, small_pieces, engine, monkeypatch
):
    first = run(command(inputs, tmp_path, engine), small_pieces)
    assert first.returncode == 0, first.stderr
    before = read_table(tmp_path / "steps.parquet")
    second = run(command(inputs, tmp_path, engine), small_pieces)
    assert "piece " not in second.stderr
    assert read_table(tmp_path / "steps.parquet").equals(before)
    monkeypatch.setitem(SETTINGS, "sample", 3)
    third = run(command(inputs, tmp_path, engine), small_pieces)
    assert ", 0 of them kept" in third.stderr


@pytest.mark.slow
def test_results_do_not_depend_on_threads_or_on_the_size_of_pieces(inputs, tmp_path, small_pieces):
    plain = os.environ | {"PYTHONPATH": small_pieces["PYTHONPATH"].split(os.pathsep)[-1]}
    tables = []
    for name, environment, threads in (
        ("a", small_pieces, "1"),
        ("b", small_pieces, "2"),
        ("c", plain, "1"),
    ):
        done = run(
            [*command(inputs, tmp_path / name, "simulated"), "--threads", threads], environment
        )
        assert done.returncode == 0, done.stderr
        keys = ["method", "seed", "role", "third", "attack", "pair"]
        tables.append(
            read_table(tmp_path / name / "steps.parquet").sort_values(keys).reset_index(drop=True)
        )
    assert tables[0].equals(tables[1])
    assert (tables[0]["steps"] == tables[2]["steps"]).all()


def test_a_damaged_piece_is_done_again(inputs, tmp_path, small_pieces):
    assert run(command(inputs, tmp_path, "nonlinear"), small_pieces).returncode == 0
    before = (tmp_path / "steps.parquet").read_bytes()
    piece = sorted((tmp_path / "progress").glob("*.steps.parquet"))[0]
    piece.write_bytes(piece.read_bytes()[:40])
    again = run(command(inputs, tmp_path, "nonlinear"), small_pieces)
    assert again.stderr.count("piece ") == 1
    assert (tmp_path / "steps.parquet").read_bytes() == before
