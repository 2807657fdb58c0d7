"""A miniature study of random classes, and what methods need to run on it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from immunization.linear.datasets._labelled import Labelled
from immunization.study.components import components


def defaults(kind: str, name: str, **given):
    """A component's parameters, defaults filled in."""
    schema = components(f"linear/{kind}")[name].parameters
    return {key: rule["default"] for key, rule in schema.items() if "default" in rule} | given


@pytest.fixture(scope="session")
def source() -> Labelled:
    """Four classes of 40 rows in 9 columns, two of which are dead, a third dead in class 0."""
    random = np.random.default_rng(7)
    labels = np.repeat(np.arange(4), 40)
    mixing = random.normal(size=(4, 9, 9)) * np.linspace(0.2, 2, 9)
    inputs = np.einsum("nd,nde->ne", random.normal(size=(160, 9)) + 1, mixing[labels])
    inputs[:, [3, 7]] = 0
    inputs[labels == 0, 5] = 0
    return Labelled(inputs, labels)


def task_set(source, task="digit", seeds=(0,), **given):
    parameters = defaults("datasets", "digits", task=task, **given)
    return source.build("mini", parameters, list(seeds))


@pytest.fixture(scope="session")
def digit(source):
    """All 12 pairs of one-class tasks."""
    return task_set(source)


@pytest.fixture(scope="session")
def one_vs_rest(source):
    """All 12 pairs of binary tasks, few enough rows that the negatives suffice."""
    return task_set(source, "one_vs_rest", rows_per_class=14, test_fraction=0.25)


@pytest.fixture(scope="session")
def gradient_methods():
    """Every method that moves θ step by step, with parameters that take a moment."""
    return {
        "r_ill_only": defaults("methods", "r_ill_only", steps=10),
        "imma": defaults("methods", "imma", steps=10),
        "opt_kappa": defaults("methods", "opt_kappa", steps=10),
        "paper": defaults("methods", "alg1", profile="paper", steps=10),
        "corrected": defaults("methods", "alg1", profile="corrected", steps=10),
        "released": defaults("methods", "alg1", profile="released", epochs=5),
    }


@pytest.fixture
def eye9():
    return torch.eye(9, dtype=torch.float64)
