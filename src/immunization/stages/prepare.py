"""Stage 1: load a data set, make its task pairs, and reduce them to sufficient statistics.

    python -m immunization.prepare --name digits --source digits --parameters '{…}' \\
        --seeds '[0, 1, 2]' --out tasks/digits.safetensors
"""

from __future__ import annotations

import argparse

import torch

from immunization import stage
from immunization.download import Place, files_behind
from immunization.provenance import provenance
from immunization.registry import load
from immunization.tasks import save_task_set


def main(arguments: list[str] | None = None) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Prepare the tasks of one data set.")
    parser.add_argument("--name", required=True, help="label of the data set in the study")
    parser.add_argument("--source", required=True, help="file in immunization/datasets")
    parser.add_argument("--parameters", type=stage.parse_json, required=True, help="JSON object")
    parser.add_argument("--seeds", type=stage.parse_json, required=True, help="JSON list")
    parser.add_argument("--mirror", default="", help="folder with the public files, if any")
    parser.add_argument("--cache", default=".cache/data", help="folder for downloads")
    parser.add_argument(
        "--intercept", type=stage.parse_json, default=False, help="whether probes have one, in JSON"
    )
    parser.add_argument("--out", required=True, help="safetensors file to write")
    parser.add_argument("--threads", type=int, default=1, help="tasks factored at a time")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)

    place = Place.of(options.mirror, options.cache)
    source = load("datasets", options.source).load(options.parameters, place)
    task_set = source.build(
        options.name, options.parameters, options.seeds, intercept=bool(options.intercept)
    )
    task_set.info.update(
        provenance(
            ["immunization.prepare", f"immunization.datasets.{options.source}"],
            {
                "source": options.source,
                **options.parameters,
                "seeds": options.seeds,
                "intercept": bool(options.intercept),
            },
        )
        | {"files": files_behind(place, options.parameters.get("path"))}
    )
    save_task_set(options.out, task_set)
    ranks = task_set.statistics["ranks"]
    stage.LOG.info(
        "%s: %d tasks, %d pairs a seed, %d features, ranks %d to %d",
        options.name, len(task_set.tasks), len(task_set.pair_names), task_set.inputs.shape[1],
        ranks.min(), ranks.max(),
    )  # fmt: skip


if __name__ == "__main__":
    stage.run(main)
