"""8×8 handwritten digits that ship with scikit-learn (1,797 images, 10 classes)."""

from __future__ import annotations

from typing import Any

import numpy as np

from immunization.data.download import Place
from immunization.linear.datasets._labelled import Labelled

EXTENDS = "_labelled"
CLASSES = 10
SHIPPED = True
PARAMETERS: dict[str, Any] = {}


def load(parameters: dict[str, Any], place: Place) -> Labelled:
    """Pixels from 0 to 16, scaled to [0, 1]."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return Labelled(data.data.astype(np.uint8), data.target.astype(np.int64), scale=1 / 16)
