"""Stanford Cars: 16,185 photographs of cars in 196 classes (Krause et al., 2013)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from immunization.data.download import File, Place
from immunization.networks.datasets._folders import public_folder
from immunization.networks.datasets._images import (
    Images,
    Listing,
    in_memory,
    stored_size,
    stratified,
)
from immunization.networks.datasets.image_folder import split_archive
from immunization.runtime.errors import UserError

EXTENDS = "_images"
PARAMETERS: dict[str, dict[str, Any]] = {
    "form": {
        "enum": ["photographs", "crops"],
        "default": "photographs",
        "description": "photographs: the official training and test images. crops: the training "
        "images alone, cut to their bounding boxes and squashed to a square, with a hold-out of "
        "their own; for small networks.",
    },
    "test_fraction": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 0.9,
        "default": 0.25,
        "description": "form crops only: share of each class that is held out.",
    },
    "split_seed": {
        "type": "integer",
        "minimum": 0,
        "default": 0,
        "description": "form crops only: seed of the hold-out, one for all seeds of the study.",
    },
}
CROPS = File(
    path="stanford-cars/cars_train64.tar.xz",
    sha256="7c0ed548a293dc896265667aa5247492cf541a918eb975fb24c79287a7187ee2",
    urls=(),
)
TOLD = (
    "The original download at ai.stanford.edu is gone. Get the data set from a copy that kept its "
    "layout (Kaggle and Hugging Face have some; search for 'stanford cars dataset devkit'), and "
    "put it so that there are stanford_cars/cars_train/*.jpg (8,144), "
    "stanford_cars/cars_test/*.jpg (8,041), stanford_cars/devkit/cars_meta.mat, "
    "stanford_cars/devkit/cars_train_annos.mat and stanford_cars/cars_test_annos_withlabels.mat, "
    "as torchvision.datasets.StanfordCars has them. For `form: crops` cars_train/ "
    "and the devkit are enough."
)


def load(parameters: dict[str, Any], place: Place, size: int) -> Images | Listing:
    """The official split, or crops of the training images with a stratified hold-out."""
    crops = parameters["form"] == "crops"
    if crops and (archive := place.find(CROPS)) is not None:
        return split_archive(archive, parameters, size)
    needed = ["cars_train", "devkit/cars_meta.mat", "devkit/cars_train_annos.mat"]
    if not crops:
        needed += ["cars_test", "cars_test_annos_withlabels.mat"]
    folder = public_folder(place.mirror, place.cache, "stanford_cars", needed, TOLD)
    classes = class_names(folder / "devkit" / "cars_meta.mat")
    train, boxes = annotated(
        folder / "devkit" / "cars_train_annos.mat", folder / "cars_train", len(classes)
    )
    if not crops:
        test, _ = annotated(
            folder / "cars_test_annos_withlabels.mat", folder / "cars_test", len(classes)
        )
        return in_memory(Listing(train, test, classes), parameters, stored_size(size))
    labels = np.array([label for _, label in train])
    held = stratified(labels, parameters["test_fraction"], parameters["split_seed"])
    kept = [row for row, out in zip(train, held, strict=True) if not out]
    out = [row for row, out in zip(train, held, strict=True) if out]
    # A crop ends at its box: nothing is left over for random crops, as in the archive of crops.
    return in_memory(Listing(kept, out, classes, boxes), parameters, size)


def _matlab(path: Path) -> Any:
    from scipy.io import loadmat

    try:
        return loadmat(path, squeeze_me=True)
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        raise UserError(f"{path}: not a readable .mat file ({error}). Fetch it again.") from error


def class_names(path: Path) -> list[str]:
    """Names of the 196 classes, in the order of their numbers."""
    return [str(name) for name in np.atleast_1d(_matlab(path)["class_names"])]


def annotated(
    path: Path, folder: Path, classes: int
) -> tuple[list[tuple[str, int]], dict[str, tuple[int, int, int, int]]]:
    """(path, class from 0) of every image that is annotated, and its bounding box.

    Raises:
        UserError: where labels are missing or an image is not there.
    """
    rows = np.atleast_1d(_matlab(path)["annotations"])
    if "class" not in (rows.dtype.names or ()):
        raise UserError(
            f"{path}: holds no classes. The test annotations come with labels in a file of their "
            "own, cars_test_annos_withlabels.mat."
        )
    labelled, boxes = [], {}
    for row in rows:
        image, label = str(folder / str(row["fname"])), int(row["class"]) - 1
        if not 0 <= label < classes:
            raise UserError(f"{path}: class {label + 1} of {row['fname']} is not in 1..{classes}.")
        labelled.append((image, label))
        left, upper, right, lower = (int(row[f"bbox_{side}"]) for side in ("x1", "y1", "x2", "y2"))
        boxes[image] = (left - 1, upper - 1, right, lower)
    absent = next((image for image, _ in labelled if not Path(image).is_file()), None)
    if absent is not None:
        raise UserError(f"{absent}: listed in {path.name} but missing. Unpack the images again.")
    return labelled, boxes
