"""Softmax probes against autograd's Hessian, dense and assembled."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from hessian_spectrum import (
    operator_eigenpairs,
    softmax_probe_operator,
    softmax_probe_spectrum,
    softmax_probe_trace,
    spectral_density,
)


def probe(generator, rows=60, width=7, classes=4, rank=None, sharp=1.0):
    x = torch.randn(rows, width, dtype=torch.float64, generator=generator)
    if rank is not None:
        x = x[:, :rank] @ torch.randn(rank, width, dtype=torch.float64, generator=generator)
    w = sharp * torch.randn(classes, width, dtype=torch.float64, generator=generator)
    y = torch.randint(0, classes, (rows,), generator=generator)
    return x, w, y, (x @ w.mT).softmax(dim=1)


def autograd(x, w, y, reduction="mean"):
    return torch.func.hessian(
        lambda flat: F.cross_entropy(x @ flat.reshape(w.shape).mT, y, reduction=reduction)
    )(w.reshape(-1))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_operator_is_autograds_hessian(reduction, generator):
    x, w, y, p = probe(generator)
    operator = softmax_probe_operator(x, p, reduction=reduction)
    expected = autograd(x, w, y, reduction)
    torch.testing.assert_close(operator.dense(), expected, rtol=1e-12, atol=1e-13)
    assert operator.trace == pytest.approx(float(expected.trace()), rel=1e-12)
    assert softmax_probe_trace(x, p, reduction=reduction) == operator.trace


def test_products_in_slices_of_rows_are_the_same(generator, monkeypatch):
    import hessian_spectrum.softmax_probe as module

    x, _, _, p = probe(generator, rows=100)
    v = torch.randn(28, 3, dtype=torch.float64, generator=generator)
    whole = softmax_probe_operator(x, p) @ v
    monkeypatch.setattr(module, "ROWS", 17 * 7 * 8)
    torch.testing.assert_close(softmax_probe_operator(x, p) @ v, whole, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dense", [2048, 0])
@pytest.mark.parametrize("rank", [None, 3])
def test_rank_and_ends_are_those_of_the_dense_hessian(dense, rank, generator):
    x, w, y, p = probe(generator, rank=rank)
    values = torch.linalg.eigvalsh(autograd(x, w, y))
    expected = 3 * (rank or 7)
    found = softmax_probe_spectrum(x, p, generator=generator, dense=dense)
    assert found.rank == expected
    assert found.dimension == 28
    assert found.largest == pytest.approx(float(values[-1]), rel=1e-9)
    assert found.smallest == pytest.approx(float(values[-expected]), rel=1e-8)
    assert found.condition == pytest.approx(float(values[-1] / values[-expected]), rel=1e-8)
    assert (found.eigenvalues is None) == (dense == 0)


@given(st.integers(0, 999), st.floats(1e-3, 1e3))
def test_scaling_the_features_at_fixed_probabilities_leaves_kappa_alone(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    x, _, _, p = probe(generator, rows=20, width=3, classes=3)
    plain = softmax_probe_spectrum(x, p, generator=generator)
    scaled = softmax_probe_spectrum(scale * x, p, generator=generator)
    assert scaled.condition == pytest.approx(plain.condition, rel=1e-8)
    assert scaled.largest == pytest.approx(scale**2 * plain.largest, rel=1e-10)


def test_top_and_density_agree_with_the_dense_spectrum(generator):
    x, _, _, p = probe(generator, rows=200, width=12, classes=5)
    operator = softmax_probe_operator(x, p)
    values = torch.linalg.eigvalsh(operator.dense())
    top = operator_eigenpairs(operator, 3, generator=generator)
    torch.testing.assert_close(top.values, values.flip(0)[:3], rtol=1e-9, atol=0)
    density = spectral_density(operator, generator=generator, steps=60)
    assert density.largest == pytest.approx(float(values[-1]), rel=1e-10)


def test_a_sure_probe_loses_rank_and_says_so(generator):
    x, _, _, p = probe(generator, sharp=300.0)
    dense = softmax_probe_spectrum(x, p, generator=generator)
    assert 0 < dense.rank < 21
    with pytest.raises(ValueError, match="numerically singular"):
        softmax_probe_spectrum(x, p, generator=generator, dense=0)
    certain = F.one_hot(p.argmax(dim=1), 4).double()
    with pytest.raises(ValueError, match="certain of every sample"):
        softmax_probe_spectrum(x, certain, generator=generator)
    with pytest.raises(ValueError, match="certain of every sample"):
        softmax_probe_spectrum(x, certain, generator=generator, dense=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.index_fill(0, torch.tensor([2]), 1.0), "Row 2 sums to"),
        (lambda p: p.index_fill(0, torch.tensor([0]), float("nan")), "sums to nan"),
        (lambda p: p + torch.tensor([2.0, -2.0, 0.0, 0.0]).double(), "non-negative"),
    ],
)
def test_what_are_no_probabilities_is_refused(change, message, generator):
    x, _, _, p = probe(generator)
    with pytest.raises(ValueError, match=message):
        softmax_probe_operator(x, change(p))


def test_probabilities_may_come_in_float32(generator):
    x, _, _, p = probe(generator)
    found = softmax_probe_spectrum(x.float(), p.float(), generator=generator)
    exact = softmax_probe_spectrum(x, p, generator=generator)
    assert found.condition == pytest.approx(exact.condition, rel=1e-4)


def test_a_misspelt_reduction_and_a_single_class_are_refused(generator):
    x, _, _, p = probe(generator)
    with pytest.raises(ValueError, match="'mean' or 'sum'"):
        softmax_probe_operator(x, p, reduction="none")
    with pytest.raises(ValueError, match="two classes"):
        softmax_probe_operator(x, torch.ones(60, 1, dtype=torch.float64))
    with pytest.raises(ValueError, match="floats"):
        softmax_probe_operator(x, F.one_hot(p.argmax(dim=1), 4))


def test_shapes_that_do_not_fit_are_refused(generator):
    x, _, _, p = probe(generator)
    with pytest.raises(ValueError, match=r"features \(N, D\)"):
        softmax_probe_operator(x[:3], p)


def test_a_sure_probe_keeps_its_digits(generator):
    """p(1 − p) of p = 1 − 1e-14 has two digits in float64; the sum of the others has all."""
    x, _, _, _ = probe(generator)
    logits = torch.tensor([30.0, 0.0, -1.0, -2.0]).double().expand(60, -1)
    p = logits.softmax(dim=1)
    values = torch.linalg.eigvalsh(softmax_probe_operator(x, p).dense())
    small = p[0, 1:]
    # To first order in the small ones, (diag p − ppᵀ) is their Laplacian with the sure class.
    laplacian = torch.zeros(4, 4, dtype=torch.float64)
    laplacian[1:, 1:] = torch.diag(small)
    laplacian[0, 1:] = laplacian[1:, 0] = -small
    laplacian[0, 0] = small.sum()
    expected = torch.linalg.eigvalsh(torch.kron(laplacian, x.mT @ x / 60))
    torch.testing.assert_close(values[-21:], expected[-21:], rtol=1e-9, atol=0)
    assert softmax_probe_trace(x, p) == pytest.approx(float(expected.sum()), rel=1e-9)
