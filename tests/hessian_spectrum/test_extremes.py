"""Batched extreme eigenpairs against full eigendecompositions."""

import pytest
import torch

from hessian_spectrum import largest_eigenpairs, smallest_eigenpairs

from .matrices import matrix_of, spectra

SPECTRA = spectra()


@pytest.mark.parametrize("name", SPECTRA)
def test_both_ends_are_right(name, generator):
    h = torch.stack([matrix_of(SPECTRA[name], generator) for _ in range(3)])
    scale = SPECTRA[name][-1]
    for pairs, expected in (
        (smallest_eigenpairs(h), SPECTRA[name][0]),
        (largest_eigenpairs(h), SPECTRA[name][-1]),
        (largest_eigenpairs(h, block=largest_eigenpairs(h).block), SPECTRA[name][-1]),
    ):
        # Separate eigenvalues to round-off, those of a cluster to the width that it may have.
        room = 1e-8 * expected if name.startswith("clustered") else 0.0
        assert (pairs.values - expected).abs().max() <= room + 1e-13 * len(h[0]) * scale
        image = (h @ pairs.vectors[..., None]).squeeze(-1)
        residual = (image - pairs.values[:, None] * pairs.vectors).norm(dim=-1)
        torch.testing.assert_close(residual, pairs.residuals, rtol=1e-3, atol=1e-13 * float(scale))
        assert (residual <= 1e-8 * pairs.values.abs() + 1e-13 * scale).all()
        torch.testing.assert_close(pairs.vectors.norm(dim=-1), torch.ones(3, dtype=torch.float64))


def test_relative_accuracy_is_what_the_matrix_allows(generator):
    """λ_min of a formed matrix is known to eps·κ of itself, and no solver can do better."""
    for name, accuracy in (("spread 1e4", 1e-11), ("spread 1e9", 1e-6)):
        h = matrix_of(SPECTRA[name], generator)[None]
        assert smallest_eigenpairs(h).values[0] == pytest.approx(
            float(SPECTRA[name][0]), rel=accuracy
        )


@pytest.mark.parametrize("order", [False, True])
def test_a_diagonal_matrix_exhausts_the_krylov_space_and_is_still_right(order, generator):
    """Coordinate directions are its eigenvectors: the space stops growing short of the wanted."""
    values = torch.logspace(-3, 0, 30, dtype=torch.float64).flip(0 if order else ())
    h = torch.diag(values)[None]
    assert smallest_eigenpairs(h).values[0] == pytest.approx(1e-3, rel=1e-12)
    block = torch.eye(30, 4, dtype=torch.float64)[None]
    assert largest_eigenpairs(h, block=block).values[0] == pytest.approx(1, rel=1e-12)


def test_zero_matrices_have_a_zero_eigenvalue():
    h = torch.zeros(2, 20, 20, dtype=torch.float64)
    assert smallest_eigenpairs(h).values.tolist() == [0, 0]
    assert largest_eigenpairs(h).values.tolist() == [0, 0]


def test_a_larger_eigenvalue_that_the_block_misses_is_found(generator):
    """The warm start holds the old largest vectors only; a new one rose beside them."""
    values = torch.linspace(0.01, 0.1, 30, dtype=torch.float64)
    values[-1] = 10
    before = matrix_of(values, generator)
    vectors = torch.linalg.eigh(before).eigenvectors
    block = vectors[:, -4:][None]
    after = before + 11 * vectors[:, :1] @ vectors[:, :1].mT
    found = largest_eigenpairs(after[None], block=block.flip(-1))
    assert found.values[0] == pytest.approx(11.01, rel=1e-12)


def test_sizes_at_the_edges(generator):
    none = torch.zeros(0, 20, 20, dtype=torch.float64)
    assert largest_eigenpairs(none, block=none[..., :4]).values.shape == (0,)
    h = matrix_of(torch.linspace(1, 2, 20).double(), generator)[None]
    again = largest_eigenpairs(1e-170 * h, block=torch.eye(20, 4).double()[None])
    assert float(again.values[0]) == pytest.approx(2e-170, rel=1e-9)
    for bad in (torch.eye(5).double(), torch.zeros(2, 0, 0).double(), torch.eye(9).long()[None]):
        for solve in (largest_eigenpairs, smallest_eigenpairs):
            with pytest.raises(ValueError, match="Expected"):
                solve(bad)
    for block in (torch.zeros(2, 20, 4).double(), torch.zeros(1, 20, 4)):
        for solve in (largest_eigenpairs, smallest_eigenpairs):
            with pytest.raises(ValueError, match="Expected a warm start"):
                solve(h, block=block)


def test_a_warm_start_that_misses_the_extreme_does_not_hide_it(generator):
    """After the extreme direction changed, a stale block must not be believed."""
    before = matrix_of(torch.linspace(1, 2, 30), generator)
    pairs = smallest_eigenpairs(before[None])
    block = pairs.block
    # A new smallest direction, orthogonal to all that the block holds.
    q = torch.linalg.qr(
        torch.cat([block[0], torch.randn(30, 26, dtype=torch.float64, generator=generator)], 1)
    ).Q
    hidden = q[:, -1]
    after = before - before @ hidden[:, None] @ hidden[None] * 0.99
    after = (after + after.mT) / 2 + 0.05 * torch.eye(30, dtype=torch.float64)
    found = smallest_eigenpairs(after[None], block=block, shift=torch.tensor([-1.0]).double())
    expected = torch.linalg.eigvalsh(after)[0]
    assert found.values[0] == pytest.approx(float(expected), abs=1e-10)


@pytest.mark.parametrize(("low", "exact"), [(1.0, 0), (-2.0, 0)])
def test_a_shift_inside_the_spectrum_is_noticed_and_a_safe_one_taken(low, exact, generator):
    h = matrix_of(torch.linspace(low, 5, 20), generator)[None]
    pairs = smallest_eigenpairs(h, shift=torch.tensor([3.0 if low > 0 else -0.5]).double())
    assert pairs.exact == exact
    assert pairs.values[0] == pytest.approx(low)


def test_what_no_shift_serves_is_solved_exactly(generator):
    h = matrix_of(torch.linspace(-2, 5, 20), generator)[None]
    pairs = smallest_eigenpairs(h, shift=torch.tensor([3.0]).double())
    assert pairs.exact == 1
    assert pairs.values[0] == pytest.approx(-2)


def test_a_warm_start_needs_no_exact_fallback(generator):
    h = torch.stack([matrix_of(torch.logspace(-4, 0, 40), generator) for _ in range(5)])
    first = smallest_eigenpairs(h)
    again = smallest_eigenpairs(h * 1.01, block=first.block, iterations=4)
    assert again.exact == 0
    torch.testing.assert_close(again.values, first.values * 1.01, rtol=1e-9, atol=0)


def test_batched_equals_one_by_one(generator):
    h = torch.stack([matrix_of(torch.logspace(-k, 1, 25), generator) for k in range(1, 5)])
    batch = smallest_eigenpairs(h)
    for i in range(len(h)):
        alone = smallest_eigenpairs(h[i : i + 1])
        assert batch.values[i] == pytest.approx(float(alone.values[0]), rel=1e-9)


@pytest.mark.parametrize("bad", [torch.ones(2, 3, 4), torch.ones(3, 3)])
def test_what_is_not_a_batch_of_square_matrices_is_refused(bad):
    with pytest.raises(ValueError, match="square"):
        smallest_eigenpairs(bad)


def test_a_matrix_that_is_not_finite_is_named():
    h = torch.eye(12, dtype=torch.float64).repeat(3, 1, 1)
    h[1, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="Matrix 1 "):
        smallest_eigenpairs(h)
