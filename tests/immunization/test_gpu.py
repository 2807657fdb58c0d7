"""On a CUDA device methods give what they give on the CPU."""

import numpy as np
import pytest
import torch

from immunization.datasets._labelled import Labelled
from immunization.methods import alg1

from .conftest import defaults, task_set

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("profile", ["paper", "corrected", "released"])
def test_algorithm_1(profile):
    """On matrices large enough for warm starts, of classes that see different columns."""
    random = np.random.default_rng(3)
    labels = np.repeat(np.arange(3), 100)
    inputs = random.normal(size=(300, 40)) * np.linspace(0.2, 2, 40)
    inputs[labels == 0, :3] = 0
    inputs[labels == 1, -2:] = 0
    problem = {
        device: task_set(Labelled(inputs, labels)).problem(0, device) for device in ("cpu", "cuda")
    }
    parameters = defaults("methods", "alg1", profile=profile, steps=30, epochs=3)
    here, there = (alg1.immunize(problem[device], parameters) for device in ("cpu", "cuda"))
    if profile != "released":
        here, there = here.theta, there.theta
    there = there.cpu()
    torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-6)
