"""Rank and range factors, on matrices built from a known spectrum."""

import pytest
import torch

from hessian_spectrum import factor_condition, numerical_rank, range_factor, relative_tolerance


def features(singular_values, rows, columns, generator):
    """X = U diag(s) Vᵀ with random orthonormal U and V."""
    k = len(singular_values)
    u = torch.linalg.qr(torch.randn(rows, k, dtype=torch.float64, generator=generator)).Q
    v = torch.linalg.qr(torch.randn(columns, k, dtype=torch.float64, generator=generator)).Q
    return u @ torch.diag(torch.tensor(singular_values, dtype=torch.float64)) @ v.mT


@pytest.mark.parametrize(("rows", "columns"), [(40, 12), (12, 40), (20, 20), (200, 10)])
def test_rank_and_spectrum_of_a_rank_deficient_matrix_are_found(rows, columns, generator):
    values = [3.0, 1.0, 1.0, 1e-3, 1e-6]
    factor = range_factor(features(values, rows, columns, generator))
    assert factor.rank == 5
    torch.testing.assert_close(
        factor.singular_values, torch.tensor(values, dtype=torch.float64), rtol=1e-8, atol=0
    )
    assert factor_condition(factor) == pytest.approx((3 / 1e-6) ** 2, rel=1e-8)


def test_factor_reproduces_the_gram_matrix_and_projects_targets(generator):
    x = features([2.0, 1.0, 0.5], 30, 8, generator)
    y = torch.randn(30, dtype=torch.float64, generator=generator)
    factor = range_factor(x)
    torch.testing.assert_close(factor.matrix @ factor.matrix.mT, x.mT @ x)
    torch.testing.assert_close(factor.matrix @ (factor.left.mT @ y), x.mT @ y)


def test_a_condition_number_that_the_gram_matrix_loses_is_kept(generator):
    x = features([1.0, 1e-9], 50, 6, generator)  # κ(K) = 1e18, beyond float64 in XᵀX
    assert factor_condition(range_factor(x)) == pytest.approx(1e18, rel=1e-5)


def test_float32_data_are_judged_by_their_own_precision(generator):
    x = features([1.0, 1e-3, 1e-9], 50, 6, generator).to(torch.float32)
    assert range_factor(x).rank == 2
    assert range_factor(x).tolerance == relative_tolerance(50, 6, torch.float32)


def test_integers_count_as_exact():
    x = torch.tensor([[1, 0], [0, 255], [1, 255]], dtype=torch.uint8)
    assert range_factor(x).tolerance == relative_tolerance(3, 2, torch.float64)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(3, 3), "zero"),
        (torch.ones(3), "two dimensions"),
        (torch.tensor([[1.0, 2.0], [float("nan"), 1.0]]), "Row 1, column 0"),
    ],
)
def test_what_has_no_spectrum_is_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        range_factor(bad)


def test_rank_counts_relative_to_the_largest_and_handles_zero():
    values = torch.tensor([[1e10, 1.0, 1e-9], [0.0, 0.0, 0.0]], dtype=torch.float64)
    assert numerical_rank(values, 1e-12).tolist() == [2, 0]
    assert numerical_rank(torch.empty(2, 0), 1e-12).tolist() == [0, 0]
