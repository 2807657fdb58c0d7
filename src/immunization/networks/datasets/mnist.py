"""MNIST as images: 70,000 digits in grey, padded to a square that a network takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from immunization.data.download import Place
from immunization.data.mnist_files import FILES, read_idx
from immunization.networks.datasets._images import Images, of_arrays

EXTENDS = "_images"
PARAMETERS: dict[str, dict[str, Any]] = {
    "flip": {
        "type": "boolean",
        "default": False,
        "description": "whether augmentation may mirror an image; a mirrored digit is another "
        "shape.",
    },
}


def load(parameters: dict[str, Any], place: Place, size: int) -> Images:
    """28×28 pixels with a black border of two, in three equal channels."""
    images, labels, test_images, test_labels = (read_idx(place.fetch(file)) for file in FILES)

    def three(pixels: Any) -> Any:
        padded = np.pad(pixels, ((0, 0), (2, 2), (2, 2)))
        return np.repeat(padded[:, None], 3, axis=1)

    return of_arrays(
        three(images), labels.astype(np.int64), three(test_images), test_labels.astype(np.int64),
        [str(digit) for digit in range(10)], parameters, size,
    )  # fmt: skip
