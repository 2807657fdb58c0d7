"""A sweep that is killed goes on where it stopped, and ends with the same numbers."""

import os
import random
import shutil
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
from tests.linear.conftest import task_set
from tests.studies import arguments, write_study

SETTINGS = {
    "budget": 3000, "threshold": 1e-3, "curve_steps": 100, "budget_likelihood": 200,
    "sampled_pairs": 4,
    "third_tasks": 2, "nonlinear_rows": 100,
}  # fmt: skip
LADDER = {
    "search": {"use": "gradient_descent", "step": "line_search"},
    "nesterov": {},
    "whitened": {"use": "gradient_descent", "repair": "pca_whiten"},
    "few": {"use": "conjugate_gradients", "fraction": 0.5},
    "starts": {"use": "gradient_descent", "restarts": 3},
    "adam": {"learning_rate": 0.1},
    "logistic": {"use": "lbfgs", "loss": "logistic"},
    "softmax": {"use": "newton", "loss": "softmax"},
    "kernel": {"use": "kernel_ridge"},
    "mlp": {"steps": 20},
}
METHODS = ("identity", "a", "b", "c")


@pytest.fixture(scope="module")
def inputs(source, tmp_path_factory):
    """Task set and four θ files on disk."""
    folder = tmp_path_factory.mktemp("inputs")
    tasks = task_set(source, "one_vs_rest", (0, 1), rows_per_class=14, test_fraction=0.25)
    save_task_set(folder / "tasks" / "mini.safetensors", tasks)
    generator = torch.Generator().manual_seed(3)
    for number, label in enumerate(METHODS):
        spread = 0.2 * number
        thetas = {
            seed: torch.eye(9, dtype=torch.float64)
            + spread * torch.randn(12, 9, 9, dtype=torch.float64, generator=generator)
            for seed in (0, 1)
        }
        metadata = {"dataset": "mini", "code": "", "parameters": {"label": label}}
        save_extractors(
            folder / f"immunized/{label}/mini.safetensors", thetas, {0: 0, 1: 1}, metadata
        )
    return folder


def command(inputs, out, engine):
    raw = {
        "study": "mini", "seeds": [0, 1], "datasets": {"mini": {"source": "digits"}},
        "methods": {label: {"use": "identity"} for label in METHODS},
        "attacks": LADDER, "attack": SETTINGS,
    }  # fmt: skip
    study = write_study(out, raw)
    for folder in ("tasks", "immunized"):
        if not (out / folder).exists():
            shutil.copytree(inputs / folder, out / folder)
    return [
        sys.executable, "-m", "immunization.stages.attack",
        *arguments(study, "mini", engine, device="cpu"),
    ]  # fmt: skip


def progress(out, engine):
    """Folder with finished units."""
    return out / "progress" / "attack" / "mini" / engine


def written(out, engine, kind="steps"):
    """A result."""
    return out / "attack" / f"mini.{engine}.{kind}.parquet"


@pytest.fixture
def small_pieces(tmp_path):
    """An environment in which pieces are one target each, so that there are many to kill."""
    (tmp_path / "sitecustomize.py").write_text(
        "import immunization.linear.engines.simulated as s\n"
        "import immunization.linear.engines.trained as t\n"
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
def test_five_random_kills_repeat_at_most_one_piece_each(inputs, tmp_path, small_pieces):
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
            assert "unit" in process.stderr.readline()
        time.sleep(draw.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0] or ""
        assert process.returncode == -signal.SIGKILL, rest
        kept = len(list(progress(killed, "simulated").glob("*.steps.parquet")))
        assert kept > finished
        finished = kept
    assert not written(killed, "simulated").exists()
    last = run(command(inputs, killed, "simulated"), small_pieces)
    assert last.returncode == 0, last.stderr
    logged = last.stderr.count("unit ")
    # A piece is two files; one that was killed between them is done again.
    assert count - finished <= logged <= count - finished + 1
    for kind in ("steps", "curves"):
        found, wanted = (written(out, "simulated", kind) for out in (killed, whole))
        assert found.read_bytes() == wanted.read_bytes()
    hidden = progress(killed, "simulated").glob(".*")
    assert all(path.suffix == ".seal" for path in hidden)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["trained", "nonlinear"])
def test_a_second_run_keeps_every_piece_and_a_changed_setting_none(
    inputs, tmp_path, small_pieces, engine, monkeypatch
):
    first = run(command(inputs, tmp_path, engine), small_pieces)
    assert first.returncode == 0, first.stderr
    before = read_table(written(tmp_path, engine))
    second = run(command(inputs, tmp_path, engine), small_pieces)
    assert "unit " not in second.stderr
    assert read_table(written(tmp_path, engine)).equals(before)
    monkeypatch.setitem(SETTINGS, "sampled_pairs", 3)
    third = run(command(inputs, tmp_path, engine), small_pieces)
    assert ", 0 of them saved" in third.stderr


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
            read_table(written(tmp_path / name, "simulated"))
            .sort_values(keys)
            .reset_index(drop=True)
        )
    assert tables[0].equals(tables[1])
    assert (tables[0]["steps"] == tables[2]["steps"]).all()


def test_a_damaged_piece_is_done_again(inputs, tmp_path, small_pieces):
    assert run(command(inputs, tmp_path, "nonlinear"), small_pieces).returncode == 0
    before = written(tmp_path, "nonlinear").read_bytes()
    piece = sorted(progress(tmp_path, "nonlinear").glob("*.steps.parquet"))[0]
    piece.write_bytes(piece.read_bytes()[:40])
    again = run(command(inputs, tmp_path, "nonlinear"), small_pieces)
    assert again.stderr.count("unit ") == 1
    assert written(tmp_path, "nonlinear").read_bytes() == before
