"""Images of one data set, checked and at one size."""

from __future__ import annotations

from immunization.data.download import Place, files_behind
from immunization.networks.datasets._images import Images
from immunization.networks.image_store import write_images
from immunization.runtime.jobs.stage import Stage
from immunization.runtime.log import LOG
from immunization.study.components import component, import_component


def run(stage: Stage) -> None:
    """The stage: one data set."""
    name, size = stage.label, stage.config["size"]
    entry = stage.config["datasets"][name]
    parameters = entry["parameters"]
    place = Place.of(stage.mirror, stage.cache)
    images = import_component("networks/datasets", entry["source"]).load(parameters, place, size)
    module = component("networks/datasets", entry["source"]).module
    record = stage.record(parameters, "prepare", components=[module])
    record["files"] = files_behind(place, parameters.get("path"))
    write_images(
        stage.paths.images(name), images, name=name, size=size, flip=parameters["flip"],
        record=record,
    )  # fmt: skip
    LOG.info(
        "%s: %d training and %d test images of %d classes, %s",
        name, len(images.train), len(images.test), len(images.classes),
        "in memory" if isinstance(images, Images) else "decoded while training",
    )  # fmt: skip
