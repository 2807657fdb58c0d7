"""Regularizers on minibatches against dense matrices, and smooth extreme eigenvalues."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import hessian_spectrum
from immunization.networks.minibatch_spectra import (
    eigenvalues,
    gram,
    r_ill,
    r_well,
    rank_of,
    resolved,
    running,
    smooth_largest,
    smooth_smallest,
)


@pytest.mark.parametrize(("rows", "width"), [(12, 5), (5, 12), (8, 8)])
def test_the_smaller_gram_matrix_has_the_same_non_zero_eigenvalues(rows, width, generator):
    features = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    rank = min(rows, width)
    dense = torch.linalg.eigvalsh(features.mT @ features)[-rank:]
    assert len(gram(features)) == rank
    torch.testing.assert_close(eigenvalues(features, width), dense)


@pytest.mark.parametrize(("rows", "width"), [(12, 5), (5, 12)])
def test_regularizers_and_their_gradients_are_those_of_the_dense_matrix(rows, width, generator):
    features = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    rank = min(rows, width)

    def well(s):
        return hessian_spectrum.r_well(s, torch.linalg.eigvalsh(s)[-1])

    def ill(s):
        return hessian_spectrum.r_ill(s, torch.linalg.eigvalsh(s)[-rank], rank)

    for ours, theirs in ((lambda v: r_well(v, width), well), (r_ill, ill)):
        one = features.clone().requires_grad_()
        two = features.clone().requires_grad_()
        value = ours(eigenvalues(one, width))
        dense = theirs(two.mT @ two)
        torch.testing.assert_close(value, dense)
        value.backward()
        dense.backward()
        torch.testing.assert_close(one.grad, two.grad)


@given(st.integers(0, 10**6), st.floats(0.01, 2), st.floats(-6, 6))
def test_smooth_extremes_bound_the_extremes_and_move_with_the_scale(seed, tau, shift):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(9, generator=generator, dtype=torch.float64).exp().sort().values
    top, low = smooth_largest(values, tau), smooth_smallest(values, tau)
    slack = tau * math.log(9) + 1e-12
    assert values[-1].log() - 1e-12 <= top <= values[-1].log() + slack
    assert values[0].log() - slack <= low <= values[0].log() + 1e-12
    moved = smooth_largest(values * 10**shift, tau) - smooth_smallest(values * 10**shift, tau)
    assert float(moved) == pytest.approx(float(top - low), abs=1e-9)


def test_without_a_temperature_they_are_the_extremes(generator):
    values = torch.tensor([0.5, 2.0, 8.0], dtype=torch.float64)
    assert float(smooth_largest(values, 0).exp()) == pytest.approx(8)
    assert float(smooth_smallest(values, 0).exp()) == pytest.approx(0.5)


def test_ties_have_finite_gradients():
    features = torch.eye(4, dtype=torch.float64, requires_grad=True)
    values = eigenvalues(features, 4)
    (smooth_largest(values, 0.3) - smooth_smallest(values, 0.3)).backward()
    assert torch.isfinite(features.grad).all()


def test_a_rank_that_was_decided_leaves_null_directions_out(generator):
    features = torch.randn(30, 6, generator=generator, dtype=torch.float64)
    features = features - features.mean(dim=1, keepdim=True)  # as a layer norm leaves them
    assert float(eigenvalues(features, 5)[0]) > 1e-3
    assert float(resolved(eigenvalues(features, 6))[0]) > 0


def test_a_running_moment_has_gradients_to_the_last_batch(generator):
    first = torch.eye(3, dtype=torch.float64)
    parts = [torch.randn(7, 3, generator=generator, dtype=torch.float64) for _ in range(2)]
    last = parts[1].clone().requires_grad_()
    found = running(running(first, parts[0], 0.5), last, 0.5)
    moments = [p.mT @ p / 7 for p in parts]
    torch.testing.assert_close(found.detach(), (first + moments[0]) / 4 + moments[1] / 2)
    found.trace().backward()
    torch.testing.assert_close(last.grad, 2 * parts[1] / 7)


def test_the_rank_of_a_moment_tells_a_unit_that_died(generator):
    features = torch.randn(30, 6, generator=generator, dtype=torch.float64)
    features[:, 2] *= 1e-6
    assert rank_of(features.mT @ features) == 6
    features[:, 2] = 0
    assert rank_of(features.mT @ features) == 5
    features[0, 0] = float("nan")
    assert rank_of(features.mT @ features) == 0
