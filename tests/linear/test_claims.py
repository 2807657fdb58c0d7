"""What the claims of the documents do not cover, shown by an example of each."""

import numpy as np
import pytest
import torch

from hessian_spectrum import immunizability_limit, range_factor
from immunization.data.download import Place
from immunization.linear.datasets import digits
from immunization.linear.methods import erase
from immunization.linear.sufficient_statistics import (
    select_tasks,
    stack_statistics,
    task_statistics,
)

from .conftest import defaults, task_set


def kappa(x):
    values = np.linalg.svd(x, compute_uv=False)
    values = values[values > 1e-12 * values[0]]
    return (values[0] / values[-1]) ** 2


def limit(p, h):
    return immunizability_limit(*(range_factor(torch.from_numpy(x)) for x in (p, h)))


@pytest.mark.parametrize("small", [0.1, 1e-3])
def test_a_singular_extractor_exceeds_the_limit(small):
    p, h = np.eye(3), np.diag([1.0, 1, 0])[:2]
    theta = np.array([[1.0, 0, 0], [0, small, 0], [0, 1, 0]])
    assert limit(p, h) == pytest.approx(1)
    assert kappa(h @ theta) / kappa(p @ theta) > 0.9 / small**2


def test_a_column_of_ones_exceeds_the_limit_of_features_without_it():
    random = np.random.default_rng(183)
    p = random.normal(size=(20, 3)) + random.normal(size=3) * 2
    h = random.normal(size=(15, 3)) + random.normal(size=3) * 2
    with_one = [np.c_[x, np.ones(len(x))] for x in (p, h)]
    best = 0.0
    for scale in (1e-3, 1e-2, 0.1, 1, 10):
        for _ in range(400):
            theta = np.eye(4)  # an extractor of the features, beside a constant that stays
            theta[:3, :3] = random.normal(size=(3, 3)) * scale
            after, before = ([kappa(x @ t) for x in with_one] for t in (theta, np.eye(4)))
            best = max(best, after[1] / before[1] / (after[0] / before[0]))
    assert limit(p, h) == pytest.approx(17.6, abs=0.1)
    assert best > 100


def test_erasure_holds_only_for_probes_that_weigh_all_rows_equally():
    tasks = task_set(
        digits.load({}, Place(None, None)), "one_vs_rest", pairs=[[1, 8], [0, 9], [4, 3]]
    )
    equal, unequal = [], []
    for pair in range(3):
        task = tasks.tasks[int(tasks.task_index[0, pair, 1])]
        x, v = (tasks.features(rows) for rows in (task.train_rows, task.test_rows))
        y, truth = task.train_labels, task.test_labels.numpy() > 0
        batch = select_tasks(stack_statistics([task_statistics(x, y)]), torch.tensor([0]))
        theta = erase.erasers(batch, defaults("methods", "erase")["tolerance"]).theta
        z, w = ((part @ theta[0]).numpy() for part in (x, v))
        mean, deviation = z.mean(0), z.std(0)
        deviation[deviation < 1e-11 * deviation.max()] = np.inf
        z, w = (np.c_[(a - mean) / deviation, np.ones(len(a))] for a in (z, w))
        sizes = (z**2).sum(1)

        def hit(weights, z=z, w=w, y=y, truth=truth):
            gram = (z * weights[:, None]).T @ z
            gram += 1e-6 * np.trace(gram) / len(gram) * np.eye(len(gram))
            probe = np.linalg.solve(gram, (z * weights[:, None]).T @ y.numpy())
            return ((w @ probe > 0) == truth).mean()

        equal.append(hit(np.ones(len(y))))
        unequal.append(hit((sizes <= np.quantile(sizes, 0.7)) * 1.0))
    assert np.mean(equal) < 0.65
    assert np.mean(unequal) > 0.8
