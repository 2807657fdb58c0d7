"""The limit against scipy, against random extractors, and the closed form that reaches it."""

import numpy as np
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
def test_the_optimum_with_a_floor_keeps_the_budget(budget, generator):
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


@pytest.mark.parametrize("big", [1, 10, 10**3, 10**5, 10**7])
def test_equal_ranges_are_contained_at_any_condition_number(big, generator):
    """Integers with the same linear relations; the pair compressed by their Cholesky factor."""
    mix = torch.tensor([[1, 0], [0, 1], [1, 1], [1, -1]])
    root = torch.linalg.cholesky((torch.eye(4) + mix @ mix.T).double())
    a = torch.randint(-50, 50, (60, 4), generator=generator)
    b = torch.randint(-50, 50, (50, 4), generator=generator)
    a[:, 0] *= big
    exact = immunizability_limit(range_factor(a.double() @ root), range_factor(b.double() @ root))
    primary = range_factor(torch.cat([a, a @ mix], 1))
    harmful = range_factor(torch.cat([b, b @ mix], 1))
    assert immunizability_limit(primary, harmful) == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("stray", [1e-3, 1e-6, 1e-9])
def test_a_direction_outside_is_noticed_beside_a_large_condition_number(stray, generator):
    """The slack is for directions that K_P holds faintly, and no more than D_H uses of them."""
    p = torch.randn(40, 4, dtype=torch.float64, generator=generator)
    p = torch.nn.functional.pad(p * torch.tensor([1, 1, 1, 1e-5]), (0, 1))
    h = torch.randn(30, 5, dtype=torch.float64, generator=generator)
    h = h * torch.tensor([1, 1, 1, 1e-5, stray])
    assert immunizability_limit(range_factor(p), range_factor(h)) == float("inf")


@pytest.mark.parametrize("stray", [1e-6, 1e-10])
def test_a_faint_direction_is_held_against_errors_of_its_own_size(stray, generator):
    """Not against those of the direction that both tasks hold most faintly."""
    p = torch.randn(60, 3, dtype=torch.float64, generator=generator)
    p = torch.nn.functional.pad(p * torch.tensor([1, 1, 1e-5]), (0, 1))
    h = torch.randn(60, 3, dtype=torch.float64, generator=generator)
    h = torch.stack([h[:, 0], 0 * h[:, 0], h[:, 1], stray * h[:, 2]], dim=1)
    primary, harmful = range_factor(p), range_factor(h)
    assert (primary.rank, harmful.rank) == (3, 3)
    assert immunizability_limit(primary, harmful) == float("inf")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_rounded_features_of_one_subspace_are_contained(dtype, generator):
    """θ = I has RIR 1, so no limit lies below that."""
    inside = torch.linalg.qr(torch.randn(20, 5, dtype=torch.float64, generator=generator)).Q
    scale = torch.logspace(0, -1, 5, dtype=torch.float64)
    p, h = (
        torch.randn(200, 5, dtype=torch.float64, generator=generator) * s @ inside.mT
        for s in (scale, scale.flip(0))
    )
    both = range_factor(p.to(dtype)), range_factor(h.to(dtype))
    assert (both[0].rank, both[1].rank) == (5, 5)
    assert 1 <= immunizability_limit(*both) < float("inf")
    p, h = (torch.randn(200, 9, generator=generator) * torch.logspace(0, -1, 9) for _ in range(2))
    p[:, -1] = 0
    assert immunizability_limit(range_factor(p.to(dtype)), range_factor(h.to(dtype))) == float(
        "inf"
    )


@pytest.mark.parametrize("inside", [True, False])
def test_one_harmful_direction_has_the_benign_condition_number_as_limit(inside):
    """κ(H_H) is 1 whatever θ is, and κ(H_P) can be brought to 1."""
    primary = range_factor(torch.tensor([[2.0, 0, 0], [0, 1, 0]]))
    harmful = range_factor(torch.tensor([[1.0, 1, 0] if inside else [0.0, 0, 1]]))
    assert immunizability_limit(primary, harmful) == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("one", "two"), [(1e-160, 1), (1, 1e-160), (1e150, 1e-150), (1e-200, 1e-200)]
)
def test_the_limit_is_the_same_in_any_units(one, two, generator):
    x = torch.randn(9, 3, dtype=torch.float64, generator=generator)
    exact = immunizability_limit(range_factor(x), range_factor(x[:5]))
    found = immunizability_limit(range_factor(x * one), range_factor(x[:5] * two))
    assert found == pytest.approx(exact, rel=1e-9)


def test_a_probe_with_an_intercept_has_the_limit_of_centred_features():
    """Random invertible θ exceed the limit of plain features once the probe has an intercept."""
    random = np.random.default_rng(183)
    p = random.normal(size=(20, 3)) + random.normal(size=3) * 2
    h = random.normal(size=(15, 3)) + random.normal(size=3) * 2

    def kappa(x):
        values = np.linalg.svd(x, compute_uv=False)
        return (values[0] / values[-1]) ** 2

    def limit(a, b):
        return immunizability_limit(*(range_factor(torch.from_numpy(v)) for v in (a, b)))

    centred_p, centred_h = p - p.mean(0), h - h.mean(0)
    best = 0.0
    for scale in (1e-3, 1e-2, 0.1, 1, 10):
        for _ in range(100):
            theta = random.normal(size=(3, 3)) * scale
            ratio = kappa(centred_h @ theta) / kappa(centred_h)
            best = max(best, ratio / (kappa(centred_p @ theta) / kappa(centred_p)))
    assert best <= limit(centred_p, centred_h) * (1 + 1e-9)
    assert limit(p, h) != pytest.approx(limit(centred_p, centred_h), rel=0.1)
