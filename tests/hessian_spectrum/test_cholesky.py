"""Batched Cholesky factors and solves, against dense ones."""

import pytest
import torch

from hessian_spectrum.kernels.cholesky import BlockCholesky, LibraryCholesky, cholesky_for

from .matrices import matrix_of


def positive(size, generator, count=3):
    spectrum = torch.logspace(-3, 2, size).double()
    return torch.stack([matrix_of(spectrum, generator) for _ in range(count)])


@pytest.mark.parametrize("size", [1, 15, 16, 17, 50])
def test_solves_equal_dense_ones_whatever_the_blocks(size, generator):
    a = positive(size, generator)
    rows = torch.randn(3, 2, size, dtype=torch.float64, generator=generator)
    expected = torch.linalg.solve(a, rows.mT).mT
    for cholesky in (BlockCholesky(a, tile=16), LibraryCholesky(a)):
        assert cholesky.factor(a).tolist() == [True] * 3
        torch.testing.assert_close(cholesky.solve(rows), expected, rtol=1e-9, atol=1e-9)


def test_memory_is_used_again_and_the_input_kept(generator):
    a, b = positive(40, generator), positive(40, generator)
    kept = a.clone()
    rows = torch.randn(3, 4, 40, dtype=torch.float64, generator=generator)
    cholesky = BlockCholesky(a, tile=16)
    cholesky.factor(b)
    cholesky.factor(a)
    assert torch.equal(a, kept)
    torch.testing.assert_close(cholesky.solve(rows) @ a, rows, rtol=0, atol=1e-9)


@pytest.mark.parametrize("place", [0, 20, 39])
def test_what_is_not_positive_definite_is_named_and_spoils_no_neighbour(place, generator):
    a = positive(40, generator)
    a[1, place, place] = -1.0
    a[2, place, place] = float("nan")
    rows = torch.randn(3, 4, 40, dtype=torch.float64, generator=generator)
    for cholesky in (BlockCholesky(a, tile=16), LibraryCholesky(a)):
        assert cholesky.factor(a).tolist() == [True, False, False]
        torch.testing.assert_close(cholesky.solve(rows)[0] @ a[0], rows[0], rtol=0, atol=1e-9)


def test_a_cpu_takes_the_library(generator):
    assert isinstance(cholesky_for(positive(300, generator, 1)), LibraryCholesky)
