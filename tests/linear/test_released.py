"""The released profile against what the released program prints, in its own floored κ.

The program keeps the layer's bias in κ, so it is kept here too.
"""

import pytest
import torch

from hessian_spectrum import released_condition
from immunization.data.download import Place
from immunization.linear.datasets import house_prices, mnist
from immunization.linear.methods._alg1_released import released_layer

from .conftest import defaults


def released_ratios(problem, weight, bias):
    """(i) and (ii) of each member of a problem by the released κ of XWᵀ + bias over that of X."""
    found = []
    for role in (problem.harmful, problem.primary):
        task = problem.source.tasks[role.tasks[0]]
        x = problem.source.features(task.train_rows)
        kappa = []
        for z in [x, *(x @ w.mT + b for w, b in zip(weight, bias, strict=True))]:
            values = torch.linalg.eigvalsh(z.mT @ z).clamp(min=0)
            kappa.append(released_condition(values, z.shape[1]).value)
        found.append(torch.stack(kappa[1:]) / kappa[0])
    return found


def near(ours, theirs):
    """Whether one run of theirs lies within the spread of ours (three deviations, n draws)."""
    return abs(float(ours.mean()) - theirs) <= 3 * float(ours.std())


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("epochs", "i", "ii", "gap"), [(1, 7.302, 0.0692, 105.5), (2, 6.991, 0.0511, 136.9)]
)
def test_on_mnist_0_to_1_it_prints_the_same_within_the_spread_of_seeds(
    epochs, i, ii, gap, public_data
):
    parameters = defaults("datasets", "mnist", pairs=[[0, 1]])
    seeds = [0, 1, 2, 3]
    source = mnist.load(parameters, Place(public_data, public_data))
    problem = source.build("mnist", parameters, seeds).batch([(seed, 0) for seed in seeds])
    weight, bias = released_layer(
        problem, eta=1e-3, epochs=epochs, lambda_p=1.0, lambda_h=5e7, ridge=1e-7, last_axis=28
    )
    ours_i, ours_ii = released_ratios(problem, weight, bias)
    assert near(ours_i, i)
    assert near(ours_ii, ii)
    assert near(ours_i / ours_ii, gap)
    # Not a wide net: the three spreads are a few percent.
    assert ours_i.std() < 0.1 * i
    assert ours_ii.std() < 0.2 * ii
    assert (ours_i / ours_ii).std() < 0.2 * gap


@pytest.mark.data
def test_on_house_prices_it_prints_the_same_within_the_spread_of_seeds(public_data):
    parameters = defaults("datasets", "house_prices", rows=200)
    seeds = list(range(10))
    source = house_prices.load(parameters, Place(public_data, public_data))
    problem = source.build("house", parameters, seeds).batch([(seed, 0) for seed in seeds])
    weight, bias = released_layer(
        problem, eta=5e-3, epochs=10, lambda_p=100.0, lambda_h=1e7, ridge=1.0
    )
    ours_i, ours_ii = released_ratios(problem, weight, bias)
    assert near(ours_i, 0.353)
    assert near(ours_ii, 0.177)
    assert near(ours_i / ours_ii, 1.99)
    assert ours_i.std() < 0.05
    assert ours_ii.std() < 0.02
    assert (ours_i / ours_ii).std() < 0.5
