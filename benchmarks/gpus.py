"""A sweep of jobs one after another on one GPU, and side by side: on several GPUs, or sharing one.

    python benchmarks/gpus.py --data FOLDER                     # three jobs share a GPU
    python benchmarks/gpus.py --data FOLDER --gpus 2 --share 1  # a job on each of two

Jobs are the pipeline's own command lines in processes of their own, as Snakemake starts them, each
of which claims a GPU or its part (`immunization.runtime.gpus.claims`). Times are of whole jobs,
imports and files included; each form twice, in turn, and the better time counts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from timing import record

from immunization.runtime import environment as names_
from immunization.runtime.gpus import claims
from immunization.study.resolve import resolve
from immunization.study.whole import whole

ETAS, BALANCES = (0.002, 0.005, 0.01, 0.02), (1, 3)


def stage(name: str, arguments: list[str], environment: dict[str, str]) -> None:
    """One job."""
    done = subprocess.run(
        [sys.executable, "-m", f"immunization.stages.{name}", *arguments],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder with mnist/")
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--share", type=int, default=3, help="jobs that share a GPU")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path(".gpus"), help="removed at the end")
    options = parser.parse_args()
    names = [device.uuid for device in claims.visible_gpus()]
    if len(names) < options.gpus:
        sys.exit(f"{options.gpus} GPUs are wanted, and {len(names)} can be seen.")
    options.work.mkdir(parents=True)
    members = [(eta, balance) for eta in ETAS for balance in BALANCES]
    methods = {
        f"alg1_{number}": {
            "use": "alg1", "profile": "corrected", "steps": 200, "eta": eta, "balance": balance,
        }
        for number, (eta, balance) in enumerate(members)
    }  # fmt: skip
    raw = {
        "study": "gpus", "seeds": list(range(options.seeds)), "device": "cuda",
        "datasets": {"mnist": {"task": "digit", "pixels": "normalised"}},
        "methods": {"identity": {}} | methods, "attacks": {"gradient_descent": {}},
    }  # fmt: skip
    study = options.work / "study.json"
    study.write_text(json.dumps(whole(resolve(raw), raw)))
    prepared = options.work / "prepared"
    stage(
        "prepare",
        [str(study), "mnist", f"--results={prepared}", f"--mirror={options.data}", "--threads=8"],
        {},
    )

    def immunize(label: str, folder: Path, environment: dict[str, str]) -> None:
        stage("immunize", [str(study), label, f"--results={folder}"], environment)

    forms = {"one after another": (1, 1), "side by side": (options.gpus, options.share)}
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for name in [*forms, *forms]:
        gpus, share = forms[name]
        folder = options.work / "sweep"
        shutil.copytree(prepared, folder)
        environment = {
            names_.JOBS_PER_GPU: str(share),
            names_.LEDGER: str(folder / "locks"),
            "CUDA_VISIBLE_DEVICES": ",".join(names[:gpus]),
        }
        started = time.perf_counter()
        with ThreadPoolExecutor(gpus * share) as pool:
            for job in [pool.submit(immunize, label, folder, environment) for label in methods]:
                job.result()
        seconds[name].append(time.perf_counter() - started)
        print(name, seconds[name], flush=True)
        shutil.rmtree(folder)
    shutil.rmtree(options.work)
    best = {name: min(times) for name, times in seconds.items()}
    ratio = best["one after another"] / best["side by side"]
    print(f"ratio {ratio:.2f}")
    record(
        f"gpus.{options.gpus}x{options.share}.cuda",
        {
            "what": f"{len(members)} members of Algorithm 1, corrected, 90 MNIST pairs, 200 steps, "
            f"{options.seeds} seeds, a job each",
            "seconds": seconds,
            "ratio": ratio,
        },
    )


if __name__ == "__main__":
    main()
