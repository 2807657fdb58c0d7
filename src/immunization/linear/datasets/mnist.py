"""MNIST, the paper's image study: 70,000 digits of 28×28 pixels, with its own test split."""

from __future__ import annotations

from typing import Any

import numpy as np

from immunization.data.download import Place
from immunization.data.mnist_files import FILES, read_idx
from immunization.linear.datasets._labelled import Labelled

EXTENDS = "_labelled"
CLASSES = 10
PARAMETERS = {
    "pixels": {
        "enum": ["normalised", "unit"],
        "default": "normalised",
        "description": "normalised: (x/255 − 0.1307)/0.3081, as in the released code. unit: x/255.",
    },
    "images": {
        "enum": ["train", "test"],
        "default": "train",
        "description": "which of MNIST's own two parts the tasks are made of; test for pairs that "
        "are held out from every figure, such as those that steps are tuned on.",
    },
}


def load(parameters: dict[str, Any], place: Place) -> Labelled:
    """Training images first, then the test images."""
    images, labels, test_images, test_labels = (read_idx(place.fetch(file)) for file in FILES)
    inputs = np.concatenate([images, test_images]).reshape(-1, 784)
    scale, shift = 1 / 255, 0.0
    if parameters["pixels"] == "normalised":
        scale, shift = 1 / 255 / 0.3081, -0.1307 / 0.3081
    first = np.arange(len(inputs)) < len(images)
    return Labelled(
        inputs,
        np.concatenate([labels, test_labels]).astype(np.int64),
        test=first if parameters["images"] == "test" else ~first,
        scale=scale,
        shift=shift,
    )
