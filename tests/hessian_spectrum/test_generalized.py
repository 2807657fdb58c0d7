"""The limit against scipy, against random extractors, and the closed form that reaches it."""

import pytest
import scipy.linalg
import torch

from hessian_spectrum import (
    condition_number,
    factor_condition,
    generalized_spectrum,
    immunizability_limit,
    optimal_extractor,
    probe_spectrum,
    range_factor,
)


def draw(rows, size, generator, inside=None):
    x = torch.randn(rows, size, dtype=torch.float64, generator=generator)
    return x if inside is None else x @ inside.mT @ inside


def kappa(factor, theta):
    ranks = torch.tensor([factor.rank])
    zeros = torch.zeros(1, factor.rank, dtype=torch.float64)
    spectrum = probe_spectrum(factor.matrix[None], zeros, ranks, theta[None])
    return float(condition_number(spectrum.eigenvalues, ranks))


def rir(primary, harmful, theta):
    i = kappa(harmful, theta) / factor_condition(harmful)
    return i / (kappa(primary, theta) / factor_condition(primary))


def test_eigenvalues_agree_with_scipy(generator):
    x_p, x_h = draw(30, 7, generator), draw(25, 7, generator)
    spectrum = generalized_spectrum(range_factor(x_p), range_factor(x_h))
    expected = scipy.linalg.eigh((x_h.mT @ x_h).numpy(), (x_p.mT @ x_p).numpy(), eigvals_only=True)
    torch.testing.assert_close(spectrum.eigenvalues, torch.from_numpy(expected), rtol=1e-9, atol=0)


@pytest.mark.parametrize("harmful_rows", [20, 4])
def test_no_extractor_beats_the_limit_and_the_closed_form_reaches_it(harmful_rows, generator):
    primary = range_factor(draw(40, 6, generator))
    harmful = range_factor(draw(harmful_rows, 6, generator))
    limit = immunizability_limit(primary, harmful)
    for _ in range(100):
        theta = torch.randn(6, 6, dtype=torch.float64, generator=generator)
        assert rir(primary, harmful, theta) <= limit * (1 + 1e-9)
    spectrum = generalized_spectrum(primary, harmful)
    for budget in (1.0, 37.0, factor_condition(primary)):
        theta = optimal_extractor(spectrum, budget)
        assert kappa(primary, theta) == pytest.approx(budget, rel=1e-8)
        assert rir(primary, harmful, theta) == pytest.approx(limit, rel=1e-7)


def test_proportional_tasks_cannot_be_immunized(generator):
    x = draw(20, 5, generator)
    assert immunizability_limit(range_factor(x), range_factor(3 * x)) == pytest.approx(1, rel=1e-9)


def test_limit_is_infinite_where_the_harmful_range_sticks_out(generator):
    seen = torch.linalg.qr(torch.randn(6, 4, dtype=torch.float64, generator=generator)).Q.mT
    primary = range_factor(draw(30, 6, generator, inside=seen))
    outside = range_factor(draw(30, 6, generator))
    contained = range_factor(draw(30, 6, generator, inside=seen))
    assert immunizability_limit(primary, outside) == float("inf")
    assert immunizability_limit(primary, contained) < float("inf")
    assert 0 < generalized_spectrum(primary, outside).outside < 1
    assert generalized_spectrum(primary, contained).outside == 0


@pytest.mark.parametrize("budget", [1.0, 50.0])
def test_with_a_floor_the_optimum_keeps_the_budget_and_grows_as_the_floor_falls(budget, generator):
    seen = torch.linalg.qr(torch.randn(6, 4, dtype=torch.float64, generator=generator)).Q.mT
    primary = range_factor(draw(30, 6, generator, inside=seen))
    harmful = range_factor(draw(30, 6, generator))
    reached = []
    for floor in (1e-1, 1e-3, 1e-5):
        spectrum = generalized_spectrum(primary, harmful, unseen_floor=floor)
        theta = optimal_extractor(spectrum, budget)
        assert torch.linalg.cond(theta) < 1e12
        assert kappa(primary, theta) <= budget * (1 + 1e-8)
        reached.append(rir(primary, harmful, theta))
    assert reached == sorted(reached)
    assert reached[-1] > 100 * reached[0]


def test_a_singular_benign_task_needs_a_floor(generator):
    seen = torch.linalg.qr(torch.randn(5, 3, dtype=torch.float64, generator=generator)).Q.mT
    primary = range_factor(draw(20, 5, generator, inside=seen))
    harmful = range_factor(draw(20, 5, generator, inside=seen))
    with pytest.raises(ValueError, match="unseen_floor"):
        optimal_extractor(generalized_spectrum(primary, harmful), 1.0)


def test_a_budget_below_one_and_unequal_sizes_are_refused(generator):
    primary, harmful = range_factor(draw(9, 3, generator)), range_factor(draw(9, 3, generator))
    with pytest.raises(ValueError, match="at least 1"):
        optimal_extractor(generalized_spectrum(primary, harmful), 0.5)
    with pytest.raises(ValueError, match="same number of features"):
        generalized_spectrum(primary, range_factor(draw(9, 4, generator)))


def test_limit_does_not_change_under_rotation_scaling_and_permutation(generator):
    x_p, x_h = draw(30, 5, generator), draw(20, 5, generator)
    limit = immunizability_limit(range_factor(x_p), range_factor(x_h))
    q = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=generator)).Q
    rotated = immunizability_limit(range_factor(7 * x_p @ q), range_factor(0.1 * x_h @ q))
    order = torch.randperm(30, generator=generator)
    shuffled = immunizability_limit(range_factor(x_p[order]), range_factor(x_h))
    assert rotated == pytest.approx(limit, rel=1e-8)
    assert shuffled == pytest.approx(limit, rel=1e-8)
