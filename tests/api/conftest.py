"""A publisher's two feature matrices, smaller."""

from __future__ import annotations

import numpy as np
import pytest

import immunization as im


def publisher(rows: int, classes: int, scale: np.ndarray, seed: int, width: int = 16):
    """Correlated float32 features with a mean, and labels, as a model gives them."""
    mixing = np.random.default_rng(7).normal(size=(width, width)) / width**0.5
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=rows)
    centres = random.normal(size=(classes, width)) * 0.7
    features = (centres[labels] + random.normal(size=(rows, width))) * scale @ mixing + 3.0
    return features.astype(np.float32), labels


@pytest.fixture(scope="session")
def raw():
    """Arrays: benign features and labels, harmful features and labels."""
    return (
        *publisher(400, 3, np.geomspace(1, 0.1, 16), 1),
        *publisher(300, 4, np.geomspace(0.3, 1, 16), 2),
    )


@pytest.fixture(scope="session")
def tasks(raw):
    """The same as tasks."""
    x, y, z, c = raw
    return im.Task(x, y, name="benign"), im.Task(z, c, name="harmful")
