"""Stage 1 of a study of networks: images of one data set, checked and at one size.

    python -m immunization.networks.prepare --name cars --source stanford_cars \\
        --parameters '{…}' --size 32 --mirror FOLDER --cache FOLDER --out images/cars.safetensors
"""

from __future__ import annotations

import argparse

from immunization import stage
from immunization.download import Place, files_behind
from immunization.networks.images._images import Images
from immunization.networks.store import write_images
from immunization.provenance import provenance
from immunization.registry import load


def main(arguments: list[str] | None = None) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Prepare the images of one data set.")
    parser.add_argument("--name", required=True, help="label in the config")
    parser.add_argument("--source", required=True, help="file in networks/images")
    parser.add_argument("--parameters", type=stage.parse_json, required=True, help="JSON object")
    parser.add_argument("--size", type=int, required=True, help="side of a network's input")
    parser.add_argument("--mirror", default="", help="folder with the public files")
    parser.add_argument("--cache", default=".cache/data", help="folder for downloads")
    parser.add_argument("--out", required=True, help="safetensors file to write")
    options = parser.parse_args(arguments)
    place = Place.of(options.mirror, options.cache)
    found = load("networks/images", options.source).load(options.parameters, place, options.size)
    write_images(
        options.out,
        found,
        name=options.name,
        size=options.size,
        flip=options.parameters["flip"],
        record=provenance(
            ["immunization.networks.prepare", f"immunization.networks.images.{options.source}"],
            options.parameters,
        )
        | {"files": files_behind(place, options.parameters.get("path"))},
    )
    stage.LOG.info(
        "%s: %d training and %d test images of %d classes, %s",
        options.name, len(found.train), len(found.test), len(found.classes),
        "in memory" if isinstance(found, Images) else "decoded while training",
    )  # fmt: skip


if __name__ == "__main__":
    stage.run(main)
