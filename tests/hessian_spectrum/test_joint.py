"""Joint coordinates against the dense matrices that they diagonalise."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hessian_spectrum import generalized_spectrum, joint_range, range_factor

from .matrices import features_of, rotation


def pair(generator, rank_p, rank_h, dimension=24, decades=3.0):
    factors = []
    for rank in (rank_p, rank_h):
        values = torch.cat([torch.zeros(dimension - rank), torch.logspace(-decades, 0, rank)])
        factors.append(range_factor(features_of(values.double(), 40, generator)))
    return factors


@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 999))
def test_both_gram_matrices_become_diagonal_and_theta_comes_back(rank_p, rank_h, seed):
    generator = torch.Generator().manual_seed(seed)
    p, h = pair(generator, rank_p, rank_h)
    joint = joint_range([p], [h])
    m = min(24, rank_p + rank_h)
    assert int(joint.dimensions[0]) == m
    frame = (joint.basis @ joint.transform)[0]
    for factor, diagonal, blind in (
        (p, joint.primary[0], joint.blind_primary[0]),
        (h, joint.harmful[0], joint.blind_harmful[0]),
    ):
        assert int((diagonal > 0).sum()) == factor.rank
        gram = factor.matrix @ factor.matrix.mT
        # Relative to what the two Gram matrices are there together.
        scale = torch.outer(frame.norm(dim=0), frame.norm(dim=0))
        error = (frame.mT @ gram @ frame - torch.diag(diagonal)).abs() / scale
        assert error.max() <= 1e-12
        projector = factor.basis @ factor.basis.mT
        inside = joint.basis[0].mT @ projector @ joint.basis[0]
        eye = torch.eye(m, dtype=torch.float64)
        torch.testing.assert_close(inside, eye - blind @ blind.mT, rtol=0, atol=1e-10)
    shares = joint.primary[0] / p.singular_values[0] ** 2
    shares = shares + joint.harmful[0] / h.singular_values[0] ** 2
    torch.testing.assert_close(shares, torch.ones_like(shares), rtol=0, atol=1e-9)
    theta = joint.extractor(joint.coordinates())[0]
    torch.testing.assert_close(theta, torch.eye(24, dtype=torch.float64), rtol=0, atol=1e-9)


def test_the_ratios_are_the_generalized_eigenvalues(generator):
    p, h = pair(generator, 24, 9)
    joint = joint_range([p], [h])
    ratios = (joint.harmful / joint.primary)[0]
    expected = generalized_spectrum(p, h).eigenvalues
    torch.testing.assert_close(ratios[ratios > 0].sort().values, expected, rtol=1e-8, atol=0)


def test_hessians_are_read_off_the_one_product(generator):
    factors = [pair(generator, 20, 15), pair(generator, 6, 11)]
    joint = joint_range([f[0] for f in factors], [f[1] for f in factors])
    phi = joint.coordinates()
    phi = phi + 0.1 * torch.randn(phi.shape, dtype=torch.float64, generator=generator) @ phi
    # Rows in padding must stay zero.
    phi = phi * (joint.primary + joint.harmful > 0)[..., None]
    theta = joint.extractor(phi)
    product = phi @ phi.mT
    for role, diagonal in ((0, joint.primary), (1, joint.harmful)):
        root = diagonal.sqrt()
        compressed = root[:, :, None] * product * root[:, None]
        for i, both in enumerate(factors):
            rank = both[role].rank
            found = torch.linalg.eigvalsh(compressed[i])[-rank:]
            expected = torch.linalg.svdvals(both[role].matrix.mT @ theta[i]).square().flip(0)
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("faint", [1e-13, 1e-11, 3e-10])
def test_a_faint_direction_outside_does_not_cost_digits(faint, generator):
    """K_H sticks out by far less than its smallest eigenvalue (as MNIST's 1 does beside its 3)."""
    q = rotation(12, generator)
    p = range_factor(q[:, :10].mT)
    rows = torch.randn(8, 10, dtype=torch.float64, generator=generator) @ q[:, :10].mT
    sticking = faint * torch.randn(8, 1, dtype=torch.float64, generator=generator) * q[:, 11]
    h = range_factor(rows + sticking, tolerance=1e-14)
    joint = joint_range([p], [h])
    assert int(joint.dimensions[0]) == 10
    eye = torch.eye(12, dtype=torch.float64)
    torch.testing.assert_close(joint.extractor(joint.coordinates())[0], eye, rtol=0, atol=1e-12)
    # Where it is all that K_H has in a direction, it stays.
    alone = range_factor(torch.cat([rows, faint * q[:, 11:].mT]), tolerance=1e-14)
    assert int(joint_range([p], [alone]).dimensions[0]) == 11


def test_groups_hold_every_pair_once_and_padding_shrinks(generator):
    factors = [pair(generator, 4 + i, 3) for i in range(8)]
    joint = joint_range([f[0] for f in factors], [f[1] for f in factors])
    groups = joint.groups(3)
    assert sorted(torch.cat(groups).tolist()) == list(range(8))
    first = joint.select(groups[0])
    assert first.primary.shape[1] == int(first.dimensions.max()) < joint.primary.shape[1]
    torch.testing.assert_close(
        first.extractor(first.coordinates()), joint.extractor(joint.coordinates())[groups[0]]
    )
    alone = joint_range([factors[0][0]], [factors[0][1]])
    chosen = joint.select(torch.tensor([0]))
    assert chosen.blind_primary.shape == alone.blind_primary.shape


def test_lists_that_do_not_fit_are_refused(generator):
    p, h = pair(generator, 5, 5)
    with pytest.raises(ValueError, match="as many factors"):
        joint_range([p, p], [h])
    with pytest.raises(ValueError, match="same number of features"):
        joint_range([p], [range_factor(torch.eye(3))])


@pytest.mark.parametrize(("rank_p", "rank_h"), [(20, 15), (24, 9), (6, 11)])
def test_a_mirrored_pair_has_the_coordinates_it_would_have_alone(rank_p, rank_h, generator):
    p, h = pair(generator, rank_p, rank_h)
    both = joint_range([p, h], [h, p])
    alone = joint_range([h], [p])
    m = int(both.dimensions[1])
    assert m == int(alone.dimensions[0])
    torch.testing.assert_close(both.primary[1], alone.primary[0], rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(both.harmful[1], alone.harmful[0], rtol=1e-8, atol=1e-12)
    frame = both.basis[1] @ both.transform[1]
    for factor, diagonal, blind in (
        (h, both.primary[1], both.blind_primary[1]),
        (p, both.harmful[1], both.blind_harmful[1]),
    ):
        inside = frame.mT @ factor.matrix
        torch.testing.assert_close(inside @ inside.mT, torch.diag(diagonal), rtol=0, atol=1e-10)
        outside = both.basis[1] @ blind
        assert (factor.basis.mT @ outside).abs().max() <= 1e-10
    assert (both.primary[1].diff() >= -1e-12).all()
