"""Streaming Gram matrices and triangular factors against direct ones."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hessian_spectrum import (
    GramAccumulator,
    TriangularFactor,
    dual_gram,
    factor_of_gram,
    gram_eigenvalues,
    gram_matrix,
    numerical_rank,
    probe_hessian,
    range_factor,
    relative_tolerance,
)
from tests import HANG

from .matrices import features_of, rotation


def parts(features, sizes):
    return features.split(sizes, dim=-2)


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("stack", [False, True])
def test_batches_of_any_size_give_the_matrix_of_all_rows(centered, stack, generator):
    x = 3 + torch.randn(*((2,) if stack else ()), 100, 70, generator=generator).double()
    gram, triangle = GramAccumulator(centered=centered), TriangularFactor(centered=centered)
    for batch in parts(x, [1, 5, 60, 34]):
        gram.update(batch)
        triangle.update(batch)
    whole = x - x.mean(dim=-2, keepdim=True) if centered else x
    expected = whole.mT @ whole
    result = gram.result()
    torch.testing.assert_close(result.matrix, expected, rtol=1e-11, atol=1e-9)
    assert torch.equal(result.matrix, result.matrix.mT)
    assert result.rows == 100
    if centered:
        torch.testing.assert_close(result.mean, x.mean(dim=-2))
    else:
        assert result.mean is None
    r = triangle.result()
    torch.testing.assert_close(r.mT @ r, expected, rtol=1e-11, atol=1e-9)
    torch.testing.assert_close(gram_matrix(parts(x, [50, 50]), centered=centered), result.matrix)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.uint8])
def test_narrow_inputs_are_accumulated_in_float64(dtype, generator):
    x = (10 * torch.rand(3000, 20, generator=generator)).to(dtype)
    exact = x.double().mT @ x.double()
    assert (gram_matrix(x.split(7)) - exact).abs().max() <= 1e-12 * exact.max()


def test_centring_does_not_cancel(generator):
    """A mean of 1e6 beside a spread of 1: E[xx] − E[x]E[x] would keep four digits."""
    spread = torch.randn(4000, 6, dtype=torch.float64, generator=generator)
    x = 1e6 + spread
    centred = spread - spread.mean(dim=0)
    expected = centred.mT @ centred
    error = (gram_matrix(x.split(11), centered=True) - expected).abs().max()
    assert error <= 1e-9 * expected.abs().max()


def test_the_triangular_factor_keeps_digits_that_the_gram_matrix_loses(generator):
    values = torch.logspace(-14, 0, 12, dtype=torch.float64)
    x = features_of(values, 60, generator)
    triangle = TriangularFactor()
    for batch in x.split(13):
        triangle.update(batch)
    factor = triangle.range_factor()
    assert factor.rank == 12
    assert float(factor.singular_values[-1].square()) == pytest.approx(1e-14, rel=1e-7)
    gram = torch.linalg.eigvalsh(gram_matrix(x))[0]
    assert abs(float(gram) - 1e-14) > 1e-4 * 1e-14


@given(st.integers(1, 30), st.integers(0, 9999))
def test_rank_from_a_stream_a_gram_matrix_and_the_features_agree(rank, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.cat([torch.zeros(30 - rank), torch.logspace(-4, 0, rank)]).double()
    x = features_of(values, 50, generator)
    triangle = TriangularFactor()
    triangle.update(x)
    ranks = {range_factor(x).rank, triangle.range_factor().rank, factor_of_gram(x.mT @ x).rank}
    assert ranks == {rank}


def test_the_rank_of_float32_data_is_that_of_the_data(generator):
    """In float64 the noise of rounding to float32 would count as directions."""
    values = torch.cat([torch.zeros(20), torch.ones(10)])
    x = features_of(values, 40, generator).float()
    triangle = TriangularFactor()
    triangle.update(x)
    assert triangle.range_factor().rank == 10
    assert range_factor(x).rank == 10
    assert range_factor(x.double()).rank == 30


def test_the_dual_has_the_same_nonzero_spectrum(generator):
    x = torch.randn(7, 30, dtype=torch.float64, generator=generator)
    theta = torch.randn(30, 30, dtype=torch.float64, generator=generator)
    primal = torch.linalg.eigvalsh(x.mT @ x)
    torch.testing.assert_close(torch.linalg.eigvalsh(dual_gram(x)), primal[-7:])
    torch.testing.assert_close(gram_eigenvalues(x), primal[-7:])
    rotated = torch.linalg.eigvalsh(probe_hessian(x.mT @ x, theta))[-7:]
    torch.testing.assert_close(gram_eigenvalues(x, theta=theta), rotated)
    tall = torch.randn(50, 8, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(gram_eigenvalues(tall), torch.linalg.svdvals(tall).square().flip(0))


@given(st.integers(0, 9999), st.floats(1e-5, 1e5))
def test_the_spectrum_is_invariant_to_rotation_and_permutation(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(20, 6, dtype=torch.float64, generator=generator)
    plain = gram_eigenvalues(x)
    q = rotation(6, generator)
    rows = torch.randperm(20, generator=generator)
    columns = torch.randperm(6, generator=generator)
    for other in (x @ q, x[rows], x[:, columns]):
        torch.testing.assert_close(gram_eigenvalues(other), plain, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gram_eigenvalues(scale * x), scale**2 * plain, rtol=1e-9, atol=0)


def test_probe_hessian_is_what_autograd_finds(generator):
    x = torch.randn(12, 5, dtype=torch.float64, generator=generator)
    theta = torch.randn(5, 4, dtype=torch.float64, generator=generator)
    y = torch.randn(12, dtype=torch.float64, generator=generator)
    hessian = torch.func.hessian(lambda w: 0.5 * (x @ theta @ w - y).square().sum())(
        torch.zeros(4, dtype=torch.float64)
    )
    torch.testing.assert_close(probe_hessian(x.mT @ x, theta), hessian)


def test_a_gram_matrix_that_is_none_is_refused():
    with pytest.raises(ValueError, match="negative eigenvalue"):
        factor_of_gram(torch.diag(torch.tensor([1.0, -0.5], dtype=torch.float64)))
    with pytest.raises(ValueError, match="square"):
        factor_of_gram(torch.ones(2, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="zero"):
        factor_of_gram(torch.zeros(3, 3, dtype=torch.float64))


@pytest.mark.parametrize("accumulator", [GramAccumulator, TriangularFactor])
def test_bad_batches_are_named(accumulator):
    sums = accumulator()
    with pytest.raises(ValueError, match="at least one row"):
        sums.result()
    sums.update(torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"Batch 1 has \(3,\)"):
        sums.update(torch.ones(3, 3))
    bad = torch.ones(4, 2)
    bad[2, 1] = float("nan")
    with pytest.raises(ValueError, match="row 2, column 1 is not"):
        sums.update(bad)
    with pytest.raises(ValueError, match="overflows"):
        accumulator().update(torch.full((3, 2), 1e308, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        sums.update(torch.ones(3))


def test_a_refused_batch_leaves_nothing_behind(monkeypatch):
    import hessian_spectrum.gram as module

    monkeypatch.setattr(module, "SLICE", 8 * 2 * 10)
    bad = torch.ones(50, 2)
    bad[40, 0] = float("inf")
    for sums in (GramAccumulator(), TriangularFactor()):
        sums.update(torch.ones(5, 2))
        with pytest.raises(ValueError, match="row 40, column 0"):
            sums.update(bad)
        assert sums.rows == 5
        sums.update(torch.ones(3, 2))
        result = sums.result()
        matrix = result.matrix if isinstance(sums, GramAccumulator) else result.mT @ result
        torch.testing.assert_close(matrix, torch.full((2, 2), 8.0).double())


def test_a_mean_that_swallows_the_digits_counts_in_the_rank(generator):
    x = torch.randn(50, 3, dtype=torch.float64, generator=generator)
    x[:, 1] = 1e6 + 0.1
    triangle = TriangularFactor(centered=True)
    triangle.update(x)
    assert triangle.range_factor().rank == 2


def test_complex_and_skew_input_is_refused():
    unit = torch.tensor([[2, 1j], [-1j, 2]])
    for work in (range_factor, gram_matrix, gram_eigenvalues, factor_of_gram):
        with pytest.raises(ValueError, match="complex"):
            work(unit)
    with pytest.raises(ValueError, match="symmetric"):
        factor_of_gram(torch.tensor([[1.0, 5.0], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="finite"):
        gram_eigenvalues(torch.full((2, 5), float("nan")))
    with pytest.raises(ValueError, match="columns"):
        gram_matrix(torch.ones(4, 0))
    single = torch.randn(5, 70)
    assert factor_of_gram(single.mT @ single).rank == 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gram_matrix_of_features_can_be_differentiated(dtype, generator):
    x = torch.randn(30, 5, dtype=dtype, generator=generator, requires_grad=True)
    gram_matrix(x).trace().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach())


def test_a_range_factor_is_of_one_data_set():
    stack = TriangularFactor()
    stack.update(torch.ones(2, 5, 3))
    assert stack.result().shape == (2, 3, 3)
    with pytest.raises(ValueError, match="one data set"):
        stack.range_factor()


def test_tolerance_is_rounding_of_the_data_or_of_float64():
    assert relative_tolerance(10, 30, torch.float32) == pytest.approx(10**0.5 * 1.1920929e-07 / 2)
    assert relative_tolerance(10, 30, torch.float64) == 30 * torch.finfo(torch.float64).eps
    assert int(numerical_rank(torch.tensor([1.0, 1e-3, 0.0]), 1e-2)) == 1
    assert int(numerical_rank(torch.zeros(0), 1e-2)) == 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux")
@pytest.mark.parametrize("centered", [False, True])
def test_memory_stays_bounded_on_sixty_thousand_rows(centered):
    """Issue: at most 200 MiB above the inputs for 60,000 × 784 float32 rows."""
    # VmHWM starts anew with a program; ru_maxrss would begin at the peak of this process.
    code = f"""
import re, torch
from pathlib import Path
from hessian_spectrum import GramAccumulator
def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
x = torch.rand(60000, 784)
gram = GramAccumulator(centered={centered}); gram.update(x[:64])  # libraries warm up
before = peak()
gram.update(x); gram.result()
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=HANG
    )
    assert 0 < float(done.stdout) <= 200
