"""Probe spectra against dense Hessians and least squares."""

import torch

from hessian_spectrum import probe_spectrum, range_factor
from hessian_spectrum.kernels.svd import robust_svd


def test_spectrum_and_best_probe_equal_the_dense_ones(generator):
    x = torch.randn(20, 6, dtype=torch.float64, generator=generator)
    x[:, 5] = x[:, 0] + x[:, 1]  # rank 5
    y = torch.randn(20, dtype=torch.float64, generator=generator)
    theta = torch.randn(6, 6, dtype=torch.float64, generator=generator)
    factor = range_factor(x)
    result = probe_spectrum(
        factor.matrix[None], (factor.left.mT @ y)[None], torch.tensor([5]), theta[None]
    )
    dense = torch.linalg.eigvalsh(theta.mT @ x.mT @ x @ theta)
    torch.testing.assert_close(result.eigenvalues[0], dense[1:], rtol=1e-9, atol=0)
    best = result.vectors[0] @ result.coefficients[0]
    expected = torch.linalg.lstsq(x @ theta, y[:, None], driver="gelsd", rcond=1e-12).solution
    torch.testing.assert_close(best, expected[:, 0])
    loss = (x @ theta @ best - y).square().sum()
    torch.testing.assert_close(y.square().sum() - result.explained[0], loss)
    assert result.resolved.tolist() == [5]


def test_padding_leaves_a_smaller_task_alone(generator):
    factors = [
        range_factor(torch.randn(rows, 5, dtype=torch.float64, generator=generator))
        for rows in (9, 3)
    ]
    theta = torch.randn(2, 5, 5, dtype=torch.float64, generator=generator)
    padded = torch.zeros(2, 5, 5, dtype=torch.float64)
    targets = torch.zeros(2, 5, dtype=torch.float64)
    for i, factor in enumerate(factors):
        padded[i, :, : factor.rank] = factor.matrix
        targets[i, : factor.rank] = torch.randn(
            factor.rank, dtype=torch.float64, generator=generator
        )
    both = probe_spectrum(padded, targets, torch.tensor([5, 3]), theta)
    alone = probe_spectrum(padded[1:, :, :3], targets[1:, :3], torch.tensor([3]), theta[1:])
    assert (both.eigenvalues[1, :2] == 0).all()
    torch.testing.assert_close(both.eigenvalues[1, 2:], alone.eigenvalues[0])
    torch.testing.assert_close(both.explained[1], alone.explained[0])


def test_a_singular_extractor_is_unresolved_and_loses_directions(generator):
    factor = range_factor(torch.randn(9, 4, dtype=torch.float64, generator=generator))
    theta = torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64))
    targets = torch.ones(1, 4, dtype=torch.float64)
    whole = probe_spectrum(
        factor.matrix[None], targets, torch.tensor([4]), torch.eye(4).double()[None]
    )
    cut = probe_spectrum(factor.matrix[None], targets, torch.tensor([4]), theta[None])
    assert cut.resolved.tolist() == [3]
    assert cut.explained < whole.explained


def test_where_the_fast_svd_gives_up_a_slower_one_takes_over(generator, monkeypatch):
    """gesdd fails on rare ill-conditioned inputs; here it is made to fail on one of three."""
    matrices = torch.randn(3, 6, 4, dtype=torch.float64, generator=generator)
    expected = torch.linalg.svdvals(matrices)
    real = torch.linalg.svd

    def gives_up(matrix, full_matrices):
        if matrix.ndim == 3 or torch.equal(matrix, matrices[1]):
            raise torch.linalg.LinAlgError("did not converge")
        return real(matrix, full_matrices=full_matrices)

    monkeypatch.setattr(torch.linalg, "svd", gives_up)
    left, values, right = robust_svd(matrices)
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(left * values[:, None] @ right, matrices)
