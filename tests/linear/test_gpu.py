"""On a CUDA device methods and attackers give what they give on the CPU."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from immunization.linear import batching, immunize
from immunization.linear.attacks import (
    adam,
    chebyshev,
    conjugate_gradients,
    gradient_descent,
    heavy_ball,
    lbfgs,
    nesterov,
    newton,
)
from immunization.linear.attacks._dense_objectives import GramObjective, likelihood, reference_loss
from immunization.linear.attacks._objective import AttackPlan
from immunization.linear.attacks._quadratic import Quadratic
from immunization.linear.datasets._labelled import Labelled
from immunization.linear.methods import alg1
from immunization.runtime import environment as environment_
from immunization.runtime.files.io import read_table, read_tensors
from immunization.runtime.gpus import claims
from tests import HANG
from tests.studies import arguments, run_stage, write_study

from .conftest import defaults, task_set

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("profile", ["paper", "corrected", "released"])
def test_algorithm_1(profile):
    """On matrices large enough for warm starts, of classes that see different columns."""
    random = np.random.default_rng(3)
    labels = np.repeat(np.arange(3), 100)
    inputs = random.normal(size=(300, 40)) * np.linspace(0.2, 2, 40)
    inputs[labels == 0, :3] = 0
    inputs[labels == 1, -2:] = 0
    problem = {
        device: task_set(Labelled(inputs, labels)).problem(0, device) for device in ("cpu", "cuda")
    }
    parameters = defaults("methods", "alg1", profile=profile, steps=30, epochs=3)
    here, there = (alg1.immunize(problem[device], parameters) for device in ("cpu", "cuda"))
    if profile != "released":
        here, there = here.theta, there.theta
    there = there.cpu()
    torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-6)


ATTACKERS = {
    "line search": (gradient_descent, {"step": "line_search", "factor": [1.0]}),
    "heavy ball": (heavy_ball, {"momentum": [0.5, 0.9]}),
    "heavy ball, optimal": (heavy_ball, {"momentum": "optimal"}),
    "nesterov": (nesterov, {"momentum": "schedule"}),
    "nesterov, optimal": (nesterov, {"momentum": "optimal"}),
    "chebyshev": (chebyshev, {"lowest": [0.0, 0.01]}),
    "cg": (conjugate_gradients, {}),
    "l-bfgs": (lbfgs, {"memory": 15}),
    "adam": (
        adam,
        {
            "learning_rate": [0.01, 0.1], "weight_decay": [0.0, 0.01], "warm_up": [0.0, 30.0],
            "schedule": "cosine",
        },
    ),
}  # fmt: skip


def on(device, parameters):
    """Lists as the grids that families expect."""
    return {
        key: torch.tensor(value, dtype=torch.float64, device=device)[:, None]
        if isinstance(value, list) else value
        for key, value in parameters.items()
    }  # fmt: skip


def attackers(parameters):
    return max(len(v) for v in [[0], *parameters.values()] if isinstance(v, list))


@pytest.mark.parametrize("name", ATTACKERS)
def test_steps_in_a_graph(name):
    """Of attackers that are done at different times, past what runs before any graph."""
    family, parameters = ATTACKERS[name]
    random = torch.Generator().manual_seed(5)
    eigenvalues = torch.stack([torch.logspace(-d, 0, 12) for d in (1, 2, 2.5, 3, 3, 4)]).double()
    best = torch.randn(6, 12, generator=random).double()
    outcomes = []
    for device in ("cpu", "cuda"):
        values, coefficients = eigenvalues.to(device), best.to(device)
        if family is adam:
            moment = values * coefficients
            objective = GramObjective(
                torch.diag_embed(values),
                moment[:, None],
                (moment * coefficients).sum(1, keepdim=True),
                torch.ones(6, 1, 1, dtype=torch.float64, device=device),
            )
        else:
            objective = Quadratic.build(values, coefficients)
        plan = AttackPlan(1003, 1e-3, [0, 5, 40, 133, 1000], attackers(parameters))
        outcomes.append(family.attack(objective, on(device, parameters), plan))
    here, there = outcomes
    assert len(here.steps.unique()) > 2
    assert there.steps.cpu().sub(here.steps).abs().max() <= 1
    torch.testing.assert_close(there.gaps.cpu(), here.gaps, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("loss", ["logistic", "softmax"])
@pytest.mark.parametrize("name", ["gradient descent", "nesterov", "cg", "l-bfgs", "adam", "newton"])
def test_probable_losses(name, loss):
    """Against rows, of problems that are done at different times."""
    family, parameters = {
        **ATTACKERS,
        "gradient descent": (gradient_descent, {"step": "inverse_l", "factor": [0.5, 1.9]}),
        "newton": (newton, {}),
    }[name]
    random = torch.Generator().manual_seed(6)
    rows = torch.randn(5, 80, 6, dtype=torch.float64, generator=random)
    rows *= torch.stack([torch.logspace(-d, 0, 6) for d in (0, 0.3, 0.6, 0.9, 1.2)])[:, None]
    noise = torch.randn(5, 80, dtype=torch.float64, generator=random)
    labels = (rows.sum(-1) + noise).sign()
    mask = torch.ones(5, 80, dtype=torch.bool)
    mask[2, 70:] = False
    lowest = reference_loss(likelihood(rows, labels, mask, loss=loss), 1e-4)
    outcomes = []
    for device in ("cpu", "cuda"):
        problem = likelihood(
            *(tensor.to(device) for tensor in (rows, labels, mask)),
            loss=loss, lowest=lowest.to(device),
        )  # fmt: skip
        plan = AttackPlan(
            203, 1e-3, [0, 5, 40, 133, 200], attackers(parameters), finished_gap=torch.inf
        )
        outcomes.append(family.attack(problem, on(device, parameters), plan))
    here, there = outcomes
    assert name == "newton" or len(here.steps.unique()) > 1
    assert there.steps.cpu().sub(here.steps).abs().max() <= 1
    reached = here.steps <= 203
    torch.testing.assert_close(
        there.gaps.cpu()[~reached], here.gaps[~reached], rtol=1e-5, atol=1e-7
    )


STUDY = {
    "study": "digits", "seeds": [0, 1, 2, 3], "device": "cuda",
    "datasets": {"digits": {"task": "one_vs_rest", "pairs": "all"}},
    "methods": {"identity": {}, "a": {"use": "alg1", "profile": "paper", "steps": 20}},
    "attacks": {"gradient_descent": {}},
}  # fmt: skip


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Folder with the tasks of all pairs of digits, three seeds."""
    folder = tmp_path_factory.mktemp("digits")
    run_stage("prepare", write_study(folder, STUDY), "digits")
    return folder / "tasks"


def immunize_digits(tasks, out, **environment):
    study = write_study(out, STUDY)
    if not (out / "tasks").exists():
        shutil.copytree(tasks, out / "tasks")
    done = subprocess.run(
        [sys.executable, "-m", "immunization.stages.immunize", *arguments(study, "a")],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), **environment},
        capture_output=True, text=True, check=False, timeout=HANG,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    theta = out / "immunized" / "a" / "digits.safetensors"
    return done.stderr, theta, read_table(theta.with_suffix(".parquet"))


NEIGHBOUR = """
import torch
from immunization.runtime.gpus import claims, memory
claims.claim()
memory.limit_memory()
try:
    torch.empty(memory.own_memory() + 2**30, dtype=torch.uint8, device="cuda")
except torch.OutOfMemoryError:
    print("held to its part", flush=True)
a = torch.ones(4096, 4096, device="cuda")
while True:
    a @ a
    torch.cuda.synchronize()
"""


@pytest.mark.parametrize(("jobs", "waits"), [("4", False), ("1", True)])
def test_jobs_share_a_gpu_only_where_the_config_says_so(digits, tmp_path, jobs, waits):
    """Beside a neighbour at work that took a quarter."""
    _, alone, expected = immunize_digits(digits, tmp_path / "alone")
    gpu = claims.visible_gpus()[0]
    shared = {
        "CUDA_VISIBLE_DEVICES": gpu.uuid,
        environment_.LEDGER: str(tmp_path / "ledger"),
        "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
    }
    neighbour = subprocess.Popen(
        [sys.executable, "-c", NEIGHBOUR],
        env=os.environ | shared | {environment_.JOBS_PER_GPU: "4"},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = threading.Timer(20, neighbour.kill)
    try:
        assert neighbour.stdout.readline() == "held to its part\n"
        if waits:
            end.start()
        told, beside, rows = immunize_digits(
            digits, tmp_path / "beside", **shared, **{environment_.JOBS_PER_GPU: jobs}
        )
        assert ("waiting for a GPU" in told) == waits
        assert (neighbour.poll() is None) != waits
    finally:
        end.cancel()
        neighbour.kill()
        neighbour.communicate()
    pd.testing.assert_frame_equal(rows, expected, rtol=1e-6)
    for name, theta in read_tensors(beside)[0].items():
        torch.testing.assert_close(theta, read_tensors(alone)[0][name], rtol=1e-6, atol=1e-9)


@pytest.fixture
def little_memory(monkeypatch):
    """This process held to 1.5 GiB of the GPU."""

    def hold():
        monkeypatch.setattr(batching, "own_memory", lambda device: int(1.5 * 2**30))
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(1.5 * 2**30 / total)

    yield hold
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.fixture(scope="module")
def wide():
    """Two hundred pairs of 400 features: some 8 GiB at once, by `batching.MATRICES_PER_PAIR`."""
    random = np.random.default_rng(4)
    labels = np.repeat(np.arange(2), 500)
    inputs = random.normal(size=(1000, 400)) * np.linspace(0.5, 2, 400)
    return task_set(Labelled(inputs, labels), seeds=tuple(range(100)))


@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")  # one that ran out of memory
def test_a_study_larger_than_its_memory_splits_its_batches(wide, little_memory):
    parameters = defaults("methods", "alg1", profile="paper", steps=5)
    expected, *_ = immunize.immunize("a", alg1, parameters, wide, "cuda", 1)
    torch.cuda.empty_cache()
    little_memory()
    assert len(immunize.plan(alg1, parameters, wide, "cuda").parts) > 5
    found, *_ = immunize.immunize("a", alg1, parameters, wide, "cuda", 1)
    for seed, theta in expected.items():
        # Batches of another size round otherwise; entries are of order one.
        torch.testing.assert_close(found[seed], theta, rtol=1e-6, atol=1e-6)


def test_a_job_that_is_killed_on_a_gpu_goes_on(digits, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    study = write_study(tmp_path, STUDY)
    shutil.copytree(digits, tmp_path / "tasks")
    command = [
        sys.executable, "-c",
        "import immunization.linear.batching as b; b.MAX_THETA_ENTRIES = 1e5\n"
        "from immunization.runtime.jobs.command import run_command\n"
        "from immunization.stages import immunize; run_command(immunize.main)",
        *arguments(study, "a"),
    ]  # fmt: skip
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    lines = [process.stderr.readline() for _ in range(3)]
    assert all("unit" in line for line in lines), lines
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=HANG)
    assert process.returncode == 143
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert int(again.stderr.split(" of them saved")[0].split()[-1]) >= 3
