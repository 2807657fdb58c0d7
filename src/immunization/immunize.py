"""Stage 2: run one method on all pairs and seeds of all data sets of a study.

    python -m immunization.immunize --method alg1 --parameters '{"digits": {…}}' \\
        --tasks tasks/digits.safetensors --out immunized/alg1/digits.safetensors

All pairs of a seed form one batch; seeds are spread over threads.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from hessian_spectrum import NotFiniteError
from immunization import stage
from immunization.errors import UserError
from immunization.files import write_tensors
from immunization.provenance import provenance
from immunization.registry import load
from immunization.tasks import TaskSet, load_task_set


def immunize_seed(
    label: str, method: ModuleType, parameters: dict[str, Any], task_set: TaskSet, device: str,
    seed: int,
) -> Tensor:  # fmt: skip
    """θ of every pair of one data set and seed, on the CPU, shape (B, D, D).

    Raises:
        UserError: when the method diverges.
    """
    broken = None
    try:
        theta = method.immunize(task_set.problem(seed, device), parameters).cpu()
        lost = (~torch.isfinite(theta).flatten(1).all(1)).nonzero()
        broken = int(lost[0]) if len(lost) else None
    except NotFiniteError as error:  # noticed on the way
        broken = error.index
    if broken is not None:
        raise UserError(
            f"method '{label}' diverged on data set '{task_set.name}', seed {seed}, pair "
            f"{task_set.pair_names[broken]}: θ is not finite."
            + (
                " Lower its eta in the config (`overrides:` sets it for one data set)."
                if "eta" in parameters
                else ""
            )
        )
    return theta


def main(arguments: list[str] | None = None) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Immunize with one method.")
    parser.add_argument("--label", required=True, help="what the study calls the method")
    parser.add_argument("--method", required=True, help="file in immunization/methods")
    parser.add_argument(
        "--parameters", type=stage.parse_json, required=True, help="JSON, parameters a data set"
    )
    parser.add_argument("--tasks", nargs="+", required=True, help="outputs of prepare")
    parser.add_argument("--out", nargs="+", required=True, help="a file for each of --tasks")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    stage.one_thread_each()
    device = stage.choose_device(options.device)
    method = load("methods", options.method)

    for tasks_path, out in zip(options.tasks, options.out, strict=True):
        task_set = load_task_set(tasks_path)
        parameters = options.parameters[task_set.name]
        started = time.perf_counter()
        run = partial(immunize_seed, options.label, method, parameters, task_set, device)
        thetas = stage.map_threads(run, task_set.seeds, options.threads)
        seconds = time.perf_counter() - started
        write_tensors(
            out,
            {f"theta.{seed}": theta for seed, theta in zip(task_set.seeds, thetas, strict=True)},
            provenance(
                ["immunization.immunize", f"immunization.methods.{options.method}"],
                {"label": options.label, "method": options.method, **parameters},
            )
            | {"device": device, "dataset": task_set.name, "seeds": task_set.seeds},
        )
        stage.LOG.info("%s on %s: %.1f s", options.label, task_set.name, seconds)


if __name__ == "__main__":
    stage.run(main)
