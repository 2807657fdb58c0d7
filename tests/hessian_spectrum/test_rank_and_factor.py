"""Rank and range factors, on matrices built from a known spectrum."""

import numpy as np
import pytest
import torch

from hessian_spectrum import (
    GramAccumulator,
    Spectrum,
    TriangularFactor,
    factor_condition,
    factor_of_gram,
    numerical_rank,
    range_factor,
    relative_tolerance,
)


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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rows", [10, 100, 10_000, 1_000_000])
@pytest.mark.parametrize("streamed", [False, True])
def test_the_rank_of_graded_features_is_that_of_the_numbers_that_came(
    dtype, rows, streamed, generator
):
    """max(N, D)·eps of the data's dtype made 200,000 float32 rows of κ 9,914 one of 716."""
    deep = {torch.float64: -6.0, torch.float32: -5.0, torch.float16: -2.0, torch.bfloat16: -1.0}
    grades = torch.logspace(0, deep[dtype], 8)
    x = (torch.randn(rows, 8, generator=generator) * grades).to(dtype)
    values = np.linalg.svd(np.linalg.qr(x.double().numpy(), mode="r"), compute_uv=False)
    if streamed:
        triangle = TriangularFactor()
        for batch in x.split(max(1, rows // 5)):
            triangle.update(batch)
        factor = triangle.range_factor()
    else:
        factor = range_factor(x)
    assert factor.rank == 8
    assert factor_condition(factor) == pytest.approx((values[0] / values[-1]) ** 2, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("rows", "columns", "rank"), [(10, 8, 3), (3000, 8, 3), (60, 90, 20)])
def test_what_rounding_adds_to_low_rank_features_is_no_rank(dtype, rows, columns, rank, generator):
    """The exact rank is that of the product before it was rounded to the dtype."""
    left = torch.randn(rows, rank, dtype=torch.float64, generator=generator)
    right = torch.randn(rank, columns, dtype=torch.float64, generator=generator)
    x = (left @ right).to(dtype)
    assert range_factor(x).rank == rank
    gram = GramAccumulator()
    gram.update(x)
    assert gram.result().range_factor().rank == rank


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_matrix_in_a_narrow_dtype_is_not_zero(dtype):
    """D·eps of bfloat16 is 1 at D = 128: every matrix was zero."""
    values = torch.linspace(0.2, 1, 400)
    found = Spectrum.of_matrix(torch.diag(values).to(dtype))
    assert found.rank == 400
    assert found.condition == pytest.approx(5, rel=0.02)
    assert factor_of_gram(torch.diag(values).to(dtype)).rank == 400


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("gram", [False, True])
def test_equal_columns_with_an_offset_are_one_direction(offset, gram, generator):
    """Rounding is relative to what the numbers were before their mean was taken off."""
    base = torch.randn(200, 2, dtype=torch.float64, generator=generator)
    x = torch.cat([base, base[:, :1] + offset], dim=1)
    found = (GramAccumulator if gram else TriangularFactor)(centered=True)
    found.update(x)
    factor = found.result().range_factor() if gram else found.range_factor()
    assert factor.rank == 2
    exact = np.linalg.svd(base.numpy() - base.numpy().mean(0), compute_uv=False)
    assert factor_condition(factor) < 10 * (exact[0] / exact[-1]) ** 2


@pytest.mark.parametrize("value", [0.1, 3.3, 1e8])
@pytest.mark.parametrize("rows", [10, 30, 60, 100, 207, 235])
@pytest.mark.parametrize("parts", [1, 4])
def test_a_constant_column_has_no_deviations_whatever_its_mean_rounds_to(value, rows, parts):
    x = torch.full((rows, 3), value, dtype=torch.float64)
    x[:, 0] = 1e-9 * torch.arange(rows)
    for kind in (GramAccumulator, TriangularFactor):
        found = kind(centered=True)
        for batch in x.split(-(-rows // parts)):
            found.update(batch)
        matrix = found.result()
        factor = matrix.range_factor() if kind is GramAccumulator else found.range_factor()
        assert (matrix.matrix if kind is GramAccumulator else matrix)[:, 1:].abs().max() == 0
        assert factor.rank == 1


@pytest.mark.parametrize("kind", [GramAccumulator, TriangularFactor])
@pytest.mark.parametrize("centered", [False, True])
def test_an_empty_batch_changes_nothing(kind, centered, generator):
    x = torch.randn(20, 3, generator=generator)
    with_empty, without = kind(centered=centered), kind(centered=centered)
    for batch in (x[:0], x[:7], x[7:7], x[7:]):
        with_empty.update(batch)
    for batch in (x[:7], x[7:]):
        without.update(batch)
    one, two = with_empty.result(), without.result()
    assert torch.equal(*((r.matrix if kind is GramAccumulator else r) for r in (one, two)))
    assert with_empty.rows == without.rows == 20


def test_a_mean_of_many_deviations_costs_no_rank(generator):
    """Of float64 data 5e5 deviations leave ten digits."""
    x = torch.randn(1000, 5, dtype=torch.float64, generator=generator)
    x = x * torch.logspace(0, -4, 5) + 5e5
    found = TriangularFactor(centered=True)
    found.update(x)
    exact = np.linalg.svd((x - x.mean(0)).numpy(), compute_uv=False)
    factor = found.range_factor()
    assert factor.rank == 5
    assert factor_condition(factor) == pytest.approx((exact[0] / exact[-1]) ** 2, rel=1e-4)


def test_data_of_which_rounding_is_all_are_not_called_zero(generator):
    x = torch.randn(40, 30, generator=generator).to(torch.bfloat16)
    with pytest.raises(ValueError, match="Rounding of this feature matrix"):
        range_factor(x, offset=1e3)
    with pytest.raises(ValueError, match="feature matrix is zero"):
        range_factor(0 * x)
