"""The MNIST sweep on one GPU and on two: jobs side by side, and one job that takes both.

    python benchmarks/two_gpus.py --data FOLDER --gpus 2

Jobs are the pipeline's own command lines in processes of their own, as Snakemake starts them, as
many at a time as there are GPUs, each of which claims one (`immunization.devices`). One job with
`gpus: 2` shares its pieces between two processes (`immunization.workers`). Times are of whole jobs,
imports and files included.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from timing import record

from immunization import devices
from immunization.registry import components

ETAS, BALANCES = (0.002, 0.005, 0.01, 0.02), (1, 3)


def defaults(kind: str, name: str, **given: Any) -> dict[str, Any]:
    """Parameters of a component, complete."""
    known = components(kind)[name].parameters
    return {key: rule["default"] for key, rule in known.items() if "default" in rule} | given


def study(seeds: int, sweep: bool, profile: str = "corrected") -> dict[str, Any]:
    """A study of MNIST: a sweep over Algorithm 1, or one method."""
    alg1 = {"profile": profile, "steps": 200}
    members = [{"eta": eta, "balance": w} for eta in ETAS for w in BALANCES] if sweep else [{}]
    return {
        "seeds": list(range(seeds)),
        "data": defaults("datasets", "mnist", task="digit", pixels="normalised"),
        "methods": {
            f"alg1_{number}": ("alg1", defaults("methods", "alg1", **alg1, **member))
            for number, member in enumerate(members)
        }
        | {"identity": ("identity", defaults("methods", "identity"))},
        "attacks": {
            label: {"use": use, "parameters": defaults("attacks", use, **given)}
            for label, use, given in (
                ("gradient_descent", "gradient_descent", {}),
                ("line_search", "gradient_descent", {"step": "line_search"}),
                ("heavy_ball", "heavy_ball", {}),
                ("nesterov", "nesterov", {}),
                ("conjugate_gradients", "conjugate_gradients", {}),
                ("lbfgs", "lbfgs", {}),
            )
        },
        "attack": {
            "budget": 20000, "budget_likelihood": 1000, "threshold": 1e-3, "curve_steps": 1000,
            "benign": None, "goal_ridge": 1e-3, "sample": None, "third_tasks": 2,
            "nonlinear_rows": 2000,
        },
    }  # fmt: skip


class Stages:
    """Command lines of the stages, in a folder.

    Args:
        config: the study.
        folder: for results.
        gpus: that one job takes.
        visible: GPUs that there are.
    """

    def __init__(self, config: dict[str, Any], folder: Path, gpus: int, visible: list[str]) -> None:
        self.config, self.folder = config, folder
        self.environment = os.environ | {
            devices.COUNT: str(gpus),
            devices.LEDGER: str(folder / "ledger"),
            "CUDA_VISIBLE_DEVICES": ",".join(visible),
        }
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, module: str, *arguments: str) -> None:
        """One job."""
        log = (
            self.folder / f"{module}.{hashlib.sha256(repr(arguments).encode()).hexdigest()[:8]}.log"
        )
        with log.open("w") as out:
            done = subprocess.run(
                [sys.executable, "-m", f"immunization.{module}", *arguments],
                env=self.environment, stderr=out, check=False,
            )  # fmt: skip
        if done.returncode:
            sys.exit(f"{module} failed:\n{log.read_text()}")

    def prepare(self, mirror: str) -> str:
        """The tasks."""
        out = self.folder / "mnist.safetensors"
        self.run(
            "prepare", "--name", "mnist", "--source", "mnist", "--mirror", mirror,
            "--parameters", json.dumps(self.config["data"]),
            "--seeds", json.dumps(self.config["seeds"]), "--threads", "8", "--out", str(out),
        )  # fmt: skip
        return str(out)

    def immunize(self, label: str, tasks: str) -> str:
        """θ of one method."""
        use, parameters = self.config["methods"][label]
        out = self.folder / f"{label}.safetensors"
        self.run(
            "immunize", "--label", label, "--method", use,
            "--parameters", json.dumps({"mnist": parameters}), "--tasks", tasks, "--out", str(out),
            "--trajectories", str(out.with_suffix(".parquet")), "--device", "cuda",
            "--progress", str(self.folder / "progress" / label),
        )  # fmt: skip
        return str(out)

    def attack(self, thetas: list[str], tasks: str) -> None:
        """The simulated attackers on all methods."""
        self.run(
            "attack", "--engine", "simulated", "--attackers", json.dumps(self.config["attacks"]),
            "--settings", json.dumps(self.config["attack"]), "--tasks", tasks, "--thetas", *thetas,
            "--device", "cuda", "--progress", str(self.folder / "progress" / "attack"),
            "--steps", str(self.folder / "steps.parquet"),
            "--curves", str(self.folder / "curves.parquet"),
        )  # fmt: skip


def timed(work: Any) -> float:
    """Seconds of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder with mnist/")
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--what", choices=["sweep", "immunize", "attack"], default="sweep")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--work", type=Path, default=Path(".two_gpus"), help="removed at the end")
    options = parser.parse_args()
    names = [device.uuid for device in devices.visible()]
    if len(names) < options.gpus:
        sys.exit(f"{options.gpus} GPUs are wanted, and {len(names)} can be seen.")
    found = (sweep if options.what == "sweep" else job)(options, names)
    shutil.rmtree(options.work)
    record(f"two_gpus.{options.what}.cuda", {"gpus": options.gpus} | found)


def sweep(options: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    """Jobs side by side, as many as there are GPUs."""
    config = study(options.seeds, sweep=True)
    tasks = Stages(config, options.work / "tasks", 1, names).prepare(options.data)
    members = [label for label in config["methods"] if label != "identity"]
    seconds = {}
    for gpus in (options.gpus, 1):
        stages = Stages(config, options.work / f"sweep{gpus}", 1, names[:gpus])
        with ThreadPoolExecutor(gpus) as pool:

            def run(stages: Stages = stages, pool: ThreadPoolExecutor = pool) -> None:
                list(pool.map(lambda label: stages.immunize(label, tasks), members))

            seconds[gpus] = timed(run)
        shutil.rmtree(options.work / f"sweep{gpus}")
    return told(
        "sweep",
        f"{len(members)} members of Algorithm 1, corrected, 90 pairs, 200 steps, "
        f"{options.seeds} seeds each, a job each",
        seconds,
    )


def job(options: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    """One job that takes all GPUs."""
    # As printed it draws its first probe, and so runs for every seed.
    profile = "paper" if options.what == "immunize" else "corrected"
    config = study(options.seeds, sweep=False, profile=profile)
    tasks = Stages(config, options.work / "tasks", 1, names).prepare(options.data)
    seconds: dict[int, float] = {}
    for gpus in (options.gpus, 1):
        stages = Stages(config, options.work / f"job{gpus}", gpus, names[:gpus])
        started = time.perf_counter()
        thetas = [stages.immunize("alg1_0", tasks)]
        seconds[gpus] = time.perf_counter() - started
        if options.what == "attack":
            thetas.append(stages.immunize("identity", tasks))
            seconds[gpus] = timed(lambda stages=stages, thetas=thetas: stages.attack(thetas, tasks))
        shutil.rmtree(options.work / f"job{gpus}")
    what = f"one job, 90 pairs, {options.seeds} seeds"
    if options.what == "attack":
        return told("attack", f"{what}, 6 simulated attackers, 2 methods", seconds)
    return told("immunize", f"{what}, Algorithm 1 as printed, 200 steps", seconds)


def told(name: str, what: str, seconds: dict[int, float]) -> dict[str, Any]:
    """One line of the record, printed."""
    most = max(seconds)
    found = {name: {"what": what, "seconds": seconds, "ratio": seconds[1] / seconds[most]}}
    print(json.dumps(found), flush=True)
    return found


if __name__ == "__main__":
    main()
