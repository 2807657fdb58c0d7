"""Batched extreme eigenpairs against full eigendecompositions."""

import pytest
import torch

from hessian_spectrum import largest_eigenpairs, smallest_eigenpairs


def symmetric(eigenvalues, generator):
    values = torch.as_tensor(eigenvalues, dtype=torch.float64)
    n = len(values)
    q = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=generator)).Q
    h = q @ torch.diag(values) @ q.mT
    return (h + h.mT) / 2


SPECTRA = {
    "spread": torch.logspace(-6, 3, 40),
    "flat": torch.ones(40),
    "tied at both ends": torch.tensor([1e-3] * 5 + [1.0] * 30 + [7.0] * 5),
    "cluster at both ends": torch.cat(
        [1e-3 * (1 + 1e-9 * torch.arange(6)), torch.linspace(1, 2, 28), 9 - 1e-9 * torch.arange(6)]
    ),
    "tiny": 1e-10 * torch.logspace(-3, 0, 40),
    "huge": 1e10 * torch.logspace(-3, 0, 40),
    "small": torch.tensor([1.0, 2.0, 3.0]),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_both_ends_are_right(name, generator):
    h = torch.stack([symmetric(SPECTRA[name], generator) for _ in range(3)])
    dense = torch.linalg.eigvalsh(h)
    for pairs, expected in (
        (smallest_eigenpairs(h), dense[:, 0]),
        (largest_eigenpairs(h), dense[:, -1]),
    ):
        scale = dense[:, -1].abs().max()
        assert (pairs.values - expected).abs().max() <= 1e-12 * scale
        residual = (h @ pairs.vectors[..., None]).squeeze(-1) - pairs.values[
            :, None
        ] * pairs.vectors
        assert residual.norm(dim=-1).max() <= 1e-6 * scale
        torch.testing.assert_close(pairs.vectors.norm(dim=-1), torch.ones(3, dtype=torch.float64))


def test_a_warm_start_that_misses_the_extreme_does_not_hide_it(generator):
    """After the extreme direction changed, a stale block must not be believed."""
    before = symmetric(torch.linspace(1, 2, 30), generator)
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


def test_a_shift_inside_the_spectrum_is_noticed_and_solved_exactly(generator):
    h = symmetric(torch.linspace(1, 5, 20), generator)[None]
    pairs = smallest_eigenpairs(h, shift=torch.tensor([3.0], dtype=torch.float64))
    assert pairs.exact == 1
    assert pairs.values[0] == pytest.approx(1.0)


def test_a_warm_start_needs_no_exact_fallback(generator):
    h = torch.stack([symmetric(torch.logspace(-4, 0, 40), generator) for _ in range(5)])
    first = smallest_eigenpairs(h)
    again = smallest_eigenpairs(h * 1.01, block=first.block, iterations=4)
    assert again.exact == 0
    torch.testing.assert_close(again.values, first.values * 1.01, rtol=1e-9, atol=0)


def test_batched_equals_one_by_one(generator):
    h = torch.stack([symmetric(torch.logspace(-k, 1, 25), generator) for k in range(1, 5)])
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
