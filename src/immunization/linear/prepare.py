"""Load a data set, make its task pairs, and reduce them to sufficient statistics."""

from __future__ import annotations

import torch

from immunization.data.download import Place, files_behind
from immunization.linear.files import save_task_set
from immunization.runtime.jobs.stage import Stage
from immunization.runtime.log import LOG
from immunization.study.components import component, import_component


def run(stage: Stage) -> None:
    """The stage: one data set."""
    torch.set_num_threads(stage.threads)
    name, config = stage.label, stage.config
    entry = config["datasets"][name]
    parameters, intercept = entry["parameters"], config["spectrum"]["intercept"]
    place = Place.of(stage.mirror, stage.cache)
    source = import_component("linear/datasets", entry["source"]).load(parameters, place)
    task_set = source.build(name, parameters, config["seeds"], intercept=intercept)
    asked = {
        "source": entry["source"], **parameters, "seeds": config["seeds"], "intercept": intercept,
    }  # fmt: skip
    module = component("linear/datasets", entry["source"]).module
    task_set.info.update(
        stage.record(asked, "prepare", components=[module])
        | {"files": files_behind(place, parameters.get("path"))}
    )
    save_task_set(stage.paths.tasks(name), task_set)
    ranks = task_set.statistics["ranks"]
    LOG.info(
        "%s: %d tasks, %d pairs a seed, %d features, ranks %d to %d",
        name, len(task_set.tasks), len(task_set.pair_names), task_set.inputs.shape[1],
        ranks.min(), ranks.max(),
    )  # fmt: skip
