"""Closed-form gradients of condition numbers against autograd and finite differences."""

import pytest
import torch
from torch.autograd import gradcheck

from hessian_spectrum import (
    condition_gradient,
    condition_number,
    effective_rank,
    effective_rank_gradient,
    log_condition_gradient,
    log_pseudo_determinant,
    probe_extreme_eigenvalues,
    probe_extremes,
    released_condition,
    released_condition_gradient,
    ridge_condition,
    ridge_condition_gradient,
)

from .matrices import matrix_of, rotation

RIDGE = 1e-2


def definite(generator, n=6):
    return matrix_of(torch.linspace(0.5, 3, n, dtype=torch.float64), generator)


def symmetric(h):
    """gradcheck moves one entry at a time; eigvalsh reads one triangle only."""
    return (h + h.mT) / 2


DEFINITIONS = {
    "nonzero": lambda values, n: condition_number(values, n),
    "log nonzero": lambda values, n: condition_number(values, n).log(),
    "ridge": lambda values, n: ridge_condition(values, n, RIDGE),
    "released": lambda values, n: released_condition(values, n).value,
    "effective rank": lambda values, n: effective_rank(values),
    "log pseudo-determinant": lambda values, n: log_pseudo_determinant(values, n),
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_every_definition_passes_gradcheck(name, generator):
    h = definite(generator).requires_grad_()
    assert gradcheck(
        lambda h: DEFINITIONS[name](torch.linalg.eigvalsh(symmetric(h)), len(h)), (h,), rtol=1e-5
    )


def extremes_of(h):
    root = torch.linalg.cholesky(h).mT
    return probe_extremes(root[None], len(h))


@pytest.mark.parametrize("name", ["nonzero", "log nonzero", "ridge", "released", "effective rank"])
def test_closed_forms_equal_autograd(name, generator):
    h = definite(generator)
    at = h.clone().requires_grad_()
    value = DEFINITIONS[name](torch.linalg.eigvalsh(symmetric(at)), len(h))
    (expected,) = torch.autograd.grad(value, at)
    pairs = extremes_of(h)
    found = {
        "nonzero": lambda: condition_gradient(pairs)[0],
        "log nonzero": lambda: log_condition_gradient(pairs)[0],
        "ridge": lambda: ridge_condition_gradient(pairs, RIDGE)[0],
        "released": lambda: released_condition_gradient(pairs, singular=False)[0],
        "effective rank": lambda: effective_rank_gradient(h),
    }[name]()
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)


def test_a_singular_matrix_has_gradients_within_its_range(generator):
    """Along directions that keep the null space, against finite differences at the given rank."""
    values = torch.tensor([0.0, 0.0, 0.3, 0.7, 1.1, 2.0], dtype=torch.float64)
    q = rotation(6, generator)
    h = q @ torch.diag(values) @ q.mT
    a = q[:, 2:].mT * values[2:, None].sqrt()
    move = torch.randn(4, 4, dtype=torch.float64, generator=generator)
    direction = q[:, 2:] @ (move + move.mT) @ q[:, 2:].mT
    pairs = probe_extremes(a[None], 4)
    step = 1e-6

    def along(name, gradient):
        ends = []
        for sign in (1, -1):
            spectrum = torch.linalg.eigvalsh(h + sign * step * direction)
            ends.append(
                {
                    "nonzero": lambda s: condition_number(s, 4),
                    "ridge": lambda s: ridge_condition(s, 4, RIDGE),
                    "effective rank": lambda s: effective_rank(s[2:]),
                    "released": lambda s: released_condition(s[2:], 6).value,
                }[name](spectrum)
            )
        return float((ends[0] - ends[1]) / (2 * step)), float((gradient * direction).sum())

    for name, gradient in (
        ("nonzero", condition_gradient(pairs)[0]),
        ("ridge", ridge_condition_gradient(pairs, RIDGE)[0]),
        ("effective rank", effective_rank_gradient(h)),
        ("released", released_condition_gradient(pairs, singular=True)[0]),
    ):
        difference, derivative = along(name, gradient)
        assert derivative == pytest.approx(difference, rel=1e-5), name


def test_differentiable_extremes_pass_gradcheck_on_mixed_ranks(generator):
    image = torch.randn(3, 10, 12, dtype=torch.float64, generator=generator)
    ranks = torch.tensor([10, 7, 1])
    image *= (torch.arange(10) < ranks[:, None])[..., None]
    inside = (torch.arange(10) < ranks[:, None])[..., None].double()

    def both(a):
        return probe_extreme_eigenvalues(a * inside, ranks)

    assert gradcheck(both, (image.requires_grad_(),), rtol=1e-4)
    smallest, largest = both(image.detach())
    image = image.detach()
    for i, rank in enumerate(ranks.tolist()):
        dense = torch.linalg.eigvalsh(image[i].mT @ image[i])[-rank:]
        assert float(smallest[i]) == pytest.approx(float(dense[0]), rel=1e-9)
        assert float(largest[i]) == pytest.approx(float(dense[-1]), rel=1e-9)


def test_tied_extremes_give_a_finite_gradient(generator):
    """eigh's own backward is NaN there; here it is that of one of the tied vectors."""
    image = rotation(9, generator)[None].clone().requires_grad_()
    smallest, largest = probe_extreme_eigenvalues(image, 9)
    (largest - smallest).log1p().sum().backward()
    assert torch.isfinite(image.grad).all()


def test_effective_rank_has_a_finite_gradient_at_zero_eigenvalues():
    values = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    effective_rank(values).backward()
    assert torch.isfinite(values.grad).all()


def test_the_nonzero_condition_has_no_nan_gradient_where_it_is_infinite():
    values = torch.tensor([[0.0, 1.0], [1.0, 3.0]], dtype=torch.float64, requires_grad=True)
    condition_number(values, 2)[1].backward()
    assert torch.isfinite(values.grad).all()
