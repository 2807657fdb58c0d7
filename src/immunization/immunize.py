"""Stage 2: run one method on all pairs and seeds of all data sets of a study.

    python -m immunization.immunize --method alg1 --parameters '{"digits": {…}}' \\
        --tasks tasks/digits.safetensors --out immunized/alg1/digits.safetensors

All pairs of a seed form one batch; seeds are spread over threads.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

from immunization import stage
from immunization.errors import UserError
from immunization.files import write_tensors
from immunization.provenance import provenance
from immunization.registry import load
from immunization.tasks import load_task_set


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

        def immunize(seed: int) -> Tensor:
            problem = task_set.problem(seed, device)  # noqa: B023  (used within the iteration)
            return method.immunize(problem, parameters).cpu()  # noqa: B023

        thetas = stage.map_threads(immunize, task_set.seeds, options.threads)
        for seed, theta in zip(task_set.seeds, thetas, strict=True):
            broken = (~torch.isfinite(theta).flatten(1).all(1)).nonzero().flatten().tolist()
            if broken:
                pair = task_set.pair_names[broken[0]]
                raise UserError(
                    f"method '{options.label}' diverged on data set '{task_set.name}', seed "
                    f"{seed}, pair {pair} ({len(broken)} pairs): θ is not finite. Lower its eta "
                    "in the config (`overrides:` sets it for one data set)."
                )
        seconds = time.perf_counter() - started
        write_tensors(
            out,
            {f"theta.{seed}": theta for seed, theta in zip(task_set.seeds, thetas, strict=True)},
            provenance(
                f"immunization.methods.{options.method}",
                {"label": options.label, "method": options.method, **parameters},
            )
            | {"device": device, "dataset": task_set.name, "seeds": task_set.seeds},
        )
        stage.LOG.info("%s on %s: %.1f s", options.label, task_set.name, seconds)


if __name__ == "__main__":
    stage.run(main)
