"""Your own images: a folder, or a .tar or .zip of it, with one folder a class, and a hold-out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from immunization.data.download import Place
from immunization.networks.datasets._archive import read_archive
from immunization.networks.datasets._folders import list_folder
from immunization.networks.datasets._images import (
    Images,
    Listing,
    in_memory,
    of_arrays,
    stored_size,
    stratified,
)
from immunization.networks.datasets._tree import has_parts
from immunization.runtime.errors import UserError

EXTENDS = "_images"
PARAMETERS: dict[str, dict[str, Any]] = {
    "path": {
        "type": "string",
        "description": "a folder with one folder a class, or with train/ and test/ of such; or a "
        ".tar (compressed or not) or .zip archive of such a folder.",
    },
    "test_fraction": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 0.9,
        "default": 0.25,
        "description": "share of each class that is held out where the folder has no test part.",
    },
    "split_seed": {
        "type": "integer",
        "minimum": 0,
        "default": 0,
        "description": "seed of the hold-out, the same for all seeds of the study.",
    },
}


def load(parameters: dict[str, Any], place: Place, size: int) -> Images | Listing:
    """The folder's own parts, or a stratified hold-out."""
    path = Path(parameters["path"])
    if path.is_file():
        return split_archive(path, parameters, stored_size(size))
    if not path.is_dir():
        raise UserError(
            f"data set key 'path': {path} is neither a folder nor an archive. Images are looked "
            "for in one folder a class."
        )
    if has_parts((entry.name for entry in path.iterdir() if entry.is_dir()), str(path)):
        train, classes = list_folder(path / "train")
        test, _ = list_folder(path / "test", classes)
        return in_memory(Listing(train, test, classes), parameters, stored_size(size))
    rows, classes = list_folder(path)
    labels = np.array([label for _, label in rows])
    held = stratified(labels, parameters["test_fraction"], parameters["split_seed"])
    train = [row for row, out in zip(rows, held, strict=True) if not out]
    test = [row for row, out in zip(rows, held, strict=True) if out]
    return in_memory(Listing(train, test, classes), parameters, stored_size(size))


def split_archive(path: Path, parameters: dict[str, Any], side: int) -> Images:
    """An archive of small images, stored at a side: its own parts, or a stratified hold-out."""
    parts = read_archive(path, side)
    pixels, labels, classes = parts[0]
    if len(parts) > 1:
        test, test_labels, _ = parts[1]
        return of_arrays(pixels, labels, test, test_labels, classes, parameters, side)
    held = stratified(labels, parameters["test_fraction"], parameters["split_seed"])
    return of_arrays(
        pixels[~held], labels[~held], pixels[held], labels[held], classes, parameters, side
    )
