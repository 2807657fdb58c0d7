"""R_well and R_ill: closed forms against autograd, and Theorem 4.3 on random draws."""

import pytest
import torch

from hessian_spectrum import (
    condition_number,
    probe_spectrum,
    r_ill,
    r_ill_gradient,
    r_well,
    r_well_gradient,
    range_factor,
)
from immunization.linear.methods._alg1_released import left_preconditioned

DRAWS = 200


def singular_psd(rank, size, generator):
    x = torch.randn(rank, size, dtype=torch.float64, generator=generator)
    return x.mT @ x


@pytest.mark.parametrize(("rank", "size"), [(6, 6), (4, 7), (1, 3)])
def test_gradients_equal_autograd(rank, size, generator):
    s = singular_psd(rank, size, generator).requires_grad_(True)
    values, vectors = torch.linalg.eigh(s)
    (auto,) = torch.autograd.grad(r_well(s, values[-1]), s, retain_graph=True)
    ours = r_well_gradient(s.detach(), values[-1].detach(), vectors[:, -1].detach())
    torch.testing.assert_close(auto, ours)
    if rank > 1:
        (auto,) = torch.autograd.grad(r_ill(s, values[size - rank], rank), s)
        low = vectors[:, size - rank].detach()
        ours = r_ill_gradient(s.detach(), values[size - rank].detach(), low, rank)
        torch.testing.assert_close(auto, ours)


def test_both_are_extreme_on_a_multiple_of_the_identity():
    s = 3 * torch.eye(4, dtype=torch.float64)
    three = torch.tensor(3.0, dtype=torch.float64)
    assert r_well(s, three) == 0
    assert r_ill(s, three, 4) == float("inf")


def problem(seed):
    """A random singular Gram matrix, a random invertible θ near the identity."""
    generator = torch.Generator().manual_seed(seed)
    size, rows = 8, 6 if seed % 2 else 20
    x = torch.randn(rows, size, dtype=torch.float64, generator=generator)
    theta = torch.eye(size, dtype=torch.float64)
    theta = theta + 0.3 * torch.randn(size, size, dtype=torch.float64, generator=generator)
    return x, theta


def kappa(x, theta):
    factor = range_factor(x)
    ranks = torch.tensor([factor.rank])
    targets = torch.zeros(1, factor.rank, dtype=torch.float64)
    spectrum = probe_spectrum(factor.matrix[None], targets, ranks, theta[None])
    return float(condition_number(spectrum.eigenvalues, ranks))


def gradients(x, theta):
    """θ∇R_well and θ∇R_ill at S = θᵀKθ, from a dense eigendecomposition."""
    k = x.mT @ x
    s = theta.mT @ k @ theta
    values, vectors = torch.linalg.eigh(s)
    rank = range_factor(x).rank
    well = r_well_gradient(s, values[-1], vectors[:, -1])
    ill = r_ill_gradient(s, values[-rank], vectors[:, -rank], rank)
    return k, well, ill


def small_step(theta, direction):
    return theta - 1e-4 * direction * theta.norm() / direction.norm()


def test_theorem_4_3_holds_on_the_right_side():
    """A small step of K⁺∇_θR lowers κ for R_well and raises it for R_ill, in every draw."""
    for seed in range(DRAWS):
        x, theta = problem(seed)
        k, well, ill = gradients(x, theta)
        inverse = torch.linalg.pinv(k, hermitian=True)
        before = kappa(x, theta)
        assert kappa(x, small_step(theta, inverse @ (2 * k @ theta @ well))) < before, seed
        assert kappa(x, small_step(theta, inverse @ (2 * k @ theta @ ill))) > before, seed


def test_the_released_side_fails_some_draws():
    """The released code multiplies ∇W from the left, W = θᵀ: not what the theorem is about."""
    failures = {"well": 0, "ill": 0}
    for seed in range(DRAWS):
        x, theta = problem(seed)
        k, well, ill = gradients(x, theta)
        before = kappa(x, theta)
        for name, gradient in (("well", well), ("ill", ill)):
            by_weight = (2 * k @ theta @ gradient).mT  # ∇W, outputs by inputs
            step = left_preconditioned(by_weight[None], x[None], 1e-7)[0].mT
            after = kappa(x, small_step(theta, step))
            failures[name] += after >= before if name == "well" else after <= before
    assert failures["well"] > DRAWS // 20
    assert failures["ill"] > DRAWS // 20
