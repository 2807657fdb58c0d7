"""Condition numbers: known values and their behaviour under scaling."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hessian_spectrum import (
    condition_number,
    effective_rank,
    extreme_eigenvalues,
    released_condition,
    ridge_condition,
)

spectra = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8).map(sorted)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def test_condition_number_skips_as_many_zeros_as_the_rank_says():
    values = tensor([[0.0, 0.0, 2.0, 8.0], [1.0, 2.0, 4.0, 8.0]])
    assert condition_number(values, torch.tensor([2, 4])).tolist() == [4.0, 8.0]


def test_condition_number_is_infinite_where_the_rank_is_not_there():
    assert condition_number(tensor([0.0, 1.0]), 2) == float("inf")


def test_ranks_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"1\.\.2"):
        extreme_eigenvalues(tensor([1.0, 2.0]), 3)


@given(spectra, st.floats(1e-6, 1e6))
def test_scaling_leaves_nonzero_and_ridge_kappa_and_effective_rank_alone(values, scale):
    plain, scaled = tensor(values), tensor(values) * scale
    k = len(values)
    assert float(condition_number(scaled, k)) == pytest.approx(
        float(condition_number(plain, k)), rel=1e-12
    )
    assert float(ridge_condition(scaled, k, 1e-3)) == pytest.approx(
        float(ridge_condition(plain, k, 1e-3)), rel=1e-12
    )
    assert float(effective_rank(scaled)) == pytest.approx(float(effective_rank(plain)), rel=1e-9)


@given(spectra, st.floats(1.0, 1e4))
def test_released_kappa_of_a_singular_matrix_grows_with_the_scale(values, scale):
    plain = released_condition(tensor(values), dimension=len(values) + 1)
    scaled = released_condition(tensor(values) * scale, dimension=len(values) + 1)
    assert bool(plain.floored)
    assert bool(scaled.floored)
    # σ_max/1e-6 + 1
    assert float(scaled.value - 1) == pytest.approx(scale * float(plain.value - 1), rel=1e-9)


def test_released_kappa_of_a_regular_matrix_is_not_floored():
    result = released_condition(tensor([1.0, 10.0]), dimension=2)
    assert not bool(result.floored)
    assert result.value == pytest.approx(10.0, rel=1e-5)


def test_released_kappa_agrees_with_its_formula_on_a_dense_singular_matrix(generator):
    x = torch.randn(5, 9, dtype=torch.float64, generator=generator)
    h = x.mT @ x
    values = torch.linalg.eigvalsh(h + 1e-6 * torch.eye(9, dtype=torch.float64))
    # The rule, up to the round-off that decides which eigenvalue near 1e-6 it takes.
    formula = values[-1] / values[values > 1e-6].min()
    ours = released_condition(torch.linalg.svdvals(x).square().flip(0), dimension=9)
    assert ours.value == pytest.approx(float(formula), rel=1e-6)


@given(spectra)
def test_ridge_kappa_lies_between_one_and_its_cap(values):
    ridge = 1e-2
    result = float(ridge_condition(tensor(values), len(values), ridge))
    assert 1 - 1e-12 <= result <= (1 + ridge) / ridge + 1e-9
    assert result <= float(condition_number(tensor(values), len(values))) * (1 + 1e-12)


def test_a_ridge_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        ridge_condition(tensor([1.0]), 1, 0.0)


@pytest.mark.parametrize(("values", "expected"), [([1, 1, 1, 1], 4.0), ([0, 0, 5], 1.0)])
def test_effective_rank_of_flat_and_of_rank_one(values, expected):
    assert effective_rank(tensor(values).double()) == pytest.approx(expected)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e306])
def test_the_effective_rank_is_the_same_in_any_units(scale):
    values = scale * torch.linspace(1, 20, 100, dtype=torch.float64)
    shares = [(1 + 19 * k / 99) / sum(1 + 19 * j / 99 for j in range(100)) for k in range(100)]
    exact = math.exp(-sum(s * math.log(s) for s in shares))
    assert float(effective_rank(values)) == pytest.approx(exact, rel=1e-12)
