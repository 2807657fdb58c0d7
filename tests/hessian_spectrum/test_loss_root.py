"""GGN spectra of singular losses, and sure softmax probes, against mpmath and numpy."""

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hessian_spectrum import ggn_spectrum, network_ggn, softmax_probe_spectrum
from hessian_spectrum.loss_root import laplacian_root, loss_root


def exact_probe_spectrum(x, logits, digits=300):
    """Eigenvalues of Σ(diag p − ppᵀ) ⊗ xxᵀ/N, ascending, p from the logits in many digits."""
    with mpmath.workdps(digits):
        rows, width, classes = len(x), x.shape[1], logits.shape[1]
        h = mpmath.zeros(classes * width)
        for i in range(rows):
            powers = [mpmath.exp(mpmath.mpf(float(v))) for v in logits[i]]
            p = [value / sum(powers) for value in powers]
            xs = [mpmath.mpf(float(v)) for v in x[i]]
            for a in range(classes):
                for b in range(classes):
                    c = p[a] * (1 - p[a]) if a == b else -p[a] * p[b]
                    for k in range(width):
                        for m in range(width):
                            h[a * width + k, b * width + m] += c * xs[k] * xs[m] / rows
        return sorted(float(v) for v in mpmath.eigsy(h, eigvals_only=True))


@pytest.mark.parametrize("gap", [0.0, 10.0, 40.0, 200.0])
@pytest.mark.parametrize("dense", [0, 2048])
def test_a_sure_softmax_probe_has_the_exact_condition_number(gap, dense, generator):
    """At a gap of 40 the mean of p − p² was round-off, and κ 24.39 where it is 33.22."""
    x = torch.randn(8, 2, dtype=torch.float64, generator=generator)
    logits = torch.randn(8, 6, dtype=torch.float64, generator=generator)
    logits[torch.arange(8), torch.randint(0, 6, (8,), generator=generator)] += gap
    exact = exact_probe_spectrum(x, logits)[2:]
    found = softmax_probe_spectrum(x, logits.softmax(1), generator=generator, dense=dense)
    assert found.rank == 10
    assert found.condition == pytest.approx(exact[-1] / exact[0], rel=1e-8)
    assert found.largest == pytest.approx(exact[-1], rel=1e-8)


@pytest.mark.parametrize("gap", [0.0, 10.0, 40.0, 200.0])
def test_the_root_of_a_cross_entropy_keeps_its_digits_at_every_scale(gap, generator):
    logits = torch.randn(5, 4, dtype=torch.float64, generator=generator)
    logits[:, 1] += gap
    logits[0, 2] -= gap  # sure to very different degrees within one sample
    targets = torch.tensor([0, 1, 2, 3, 1])
    root = loss_root(lambda z, y: F.cross_entropy(z, y, reduction="sum"), logits, targets)
    for i in range(5):
        with mpmath.workdps(300):
            powers = [mpmath.exp(mpmath.mpf(float(v))) for v in logits[i]]
            p = [value / sum(powers) for value in powers]
            exact = [[float(a * (1 - a) if r == c else -a * b) for c, b in enumerate(p)]
                     for r, a in enumerate(p)]  # fmt: skip
        exact = torch.tensor(exact, dtype=torch.float64)
        scale = exact.diagonal().sqrt()  # each entry beside the two diagonals that it belongs to
        assert (
            (root[i] / scale).mT @ (root[i] / scale) - exact / scale / scale[:, None]
        ).abs().max() < 1e-13


PRIOR = torch.tensor([0.7, 0.2, 0.09, 0.01], dtype=torch.float64).log()


@pytest.mark.parametrize("gap", [0.0, 10.0, 40.0, 200.0])
@pytest.mark.parametrize(
    ("seen", "loss"),
    [
        (lambda z: [z / 3], lambda z, y: F.cross_entropy(z / 3, y, reduction="sum") * 9),
        (lambda z: [z + PRIOR], lambda z, y: F.cross_entropy(z + PRIOR, y, reduction="sum")),
        (lambda z: [z[:3]], lambda z, y: F.cross_entropy(z[:, :3], y, reduction="sum")),
        (
            lambda z: [z[:2], z[2:]],
            lambda z, y: sum(F.cross_entropy(h, y, reduction="sum") for h in (z[:, :2], z[:, 2:])),
        ),
    ],
)
def test_a_cross_entropy_of_other_logits_keeps_its_digits(seen, loss, gap, generator):
    """With a temperature, a prior, over a part of the outputs, and of two heads."""
    logits = torch.randn(3, 4, dtype=torch.float64, generator=generator)
    logits[:, 1] += gap
    root = loss_root(loss, logits, torch.tensor([0, 1, 1]))
    for i in range(3):
        blocks = []
        for part in seen(logits[i]):
            with mpmath.workdps(300):
                powers = [mpmath.exp(mpmath.mpf(float(v))) for v in part]
                p = [value / sum(powers) for value in powers]
                blocks.append([[float(a * (1 - a) if r == c else -a * b) for c, b in enumerate(p)]
                               for r, a in enumerate(p)])  # fmt: skip
        exact = torch.block_diag(*[torch.tensor(b, dtype=torch.float64) for b in blocks])
        exact = F.pad(exact, (0, 4 - len(exact), 0, 4 - len(exact)))
        scale = exact.diagonal().sqrt()
        scale[scale == 0] = 1
        assert (
            (root[i] / scale).mT @ (root[i] / scale) - exact / scale / scale[:, None]
        ).abs().max() < 1e-12


def test_a_sure_logistic_output_keeps_its_digits_and_a_hinge_stays_flat():
    z = torch.tensor([[0.0], [5.0], [38.0], [-38.0], [300.0]], dtype=torch.float64)
    y = torch.tensor([[0.0], [1.0], [0.0], [1.0], [1.0]], dtype=torch.float64)
    weight = torch.tensor([3.0], dtype=torch.float64)
    loss = nn.BCEWithLogitsLoss(reduction="sum", pos_weight=weight)
    root = loss_root(loss, z, y).flatten()
    exact = (1 + 2 * y[:, 0]) * (-z[:, 0].abs()).exp() / (1 + (-z[:, 0].abs()).exp()).square()
    torch.testing.assert_close(root.square(), exact, rtol=1e-13, atol=0)
    hinge = loss_root(lambda z, y: (1 - z).clamp(min=0).square().sum(), z, y).flatten()
    assert hinge.tolist() == pytest.approx([2**0.5, 0, 0, 2**0.5, 0])


@pytest.mark.parametrize("gap", [0.0, 8.0])
def test_a_loss_that_takes_float32_alone_is_computed_in_it(gap, generator):
    logits = torch.randn(6, 4, generator=generator)
    logits[:, 1] += gap
    y = torch.tensor([0, 1, 2, 3, 1, 0])
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0])
    found = loss_root(nn.CrossEntropyLoss(weight=weights, reduction="sum"), logits, y)
    exact = loss_root(nn.CrossEntropyLoss(weight=weights.double(), reduction="sum"), logits, y)
    assert (found.abs().amax(dim=2) > 0).sum(dim=1).tolist() == [3] * 6
    torch.testing.assert_close(found.mT @ found, exact.mT @ exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "each"),
    [
        (F.cross_entropy, lambda c: c - 1),
        (nn.CrossEntropyLoss(label_smoothing=0.1), lambda c: c - 1),
        (lambda z, y: (z.logsumexp(1) - z[range(len(y)), y]).mean(), lambda c: c - 1),
        (lambda z, y: F.cross_entropy(z / 2, y), lambda c: c - 1),
        (lambda z, y: (z - z.mean(1, keepdim=True)).square().mean(), lambda c: c - 1),
        (lambda z, y: (z[:, 0] + z[:, 1] - y).square().mean(), lambda c: 1),
        (lambda z, y: F.mse_loss(z, F.one_hot(y, z.shape[1]).double()), lambda c: c),
    ],
)
@pytest.mark.parametrize(("rows", "classes"), [(3, 5), (6, 3), (2, 10)])
@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_a_singular_loss_gives_no_direction_to_round_off(
    loss, each, rows, classes, scale, generator
):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 7), nn.Tanh(), nn.Linear(7, classes)).double()
    x = scale * torch.randn(rows, 16, dtype=torch.float64, generator=generator)
    y = torch.randint(0, classes, (rows,), generator=generator)
    spectrum = ggn_spectrum(model, loss, [(x, y)])
    dense = network_ggn(model, loss, [(x, y)]).dense().numpy()
    values = np.linalg.eigvalsh(dense)
    assert spectrum.rank == rows * each(classes)
    # Of the dense matrix, whose round-off is at 1e-16 of the largest.
    assert spectrum.condition == pytest.approx(values[-1] / values[-spectrum.rank], rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "classes"), [(8, 10), (3, 4)])
def test_rank_and_kappa_of_a_classifier_are_numpys_through_contrasts(dtype, rows, classes):
    """P·eps of float32 cut κ 20,721 to 15; float64 counted round-off and had κ 7e16."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(300, 200), nn.Tanh(), nn.Linear(200, classes))
    x, y = torch.rand(rows, 300), torch.randint(0, classes, (rows,))
    x[-1] *= 0.02
    found = ggn_spectrum(model.to(dtype), F.cross_entropy, [(x.to(dtype), y)])

    exact = model.double()
    weights = {name: value.detach() for name, value in exact.named_parameters()}
    p = exact(x.double()).softmax(1).detach().numpy()
    jacobian = torch.func.vmap(
        torch.func.jacrev(lambda w, s: torch.func.functional_call(exact, w, (s[None],))[0]),
        in_dims=(None, 0),
    )(weights, x.double())
    flat = torch.cat([part.flatten(2) for part in jacobian.values()], dim=2).numpy()
    across = np.linalg.qr(np.c_[np.ones(classes), np.eye(classes)[:, 1:]])[0][:, 1:]
    rows_of = [
        np.linalg.cholesky(across.T @ (np.diag(q) - np.outer(q, q)) @ across).T @ across.T @ j
        for q, j in zip(p, flat, strict=True)
    ]
    values = np.linalg.svd(np.concatenate(rows_of), compute_uv=False)
    assert found.rank == rows * (classes - 1) == len(values)
    rel = 1e-3 if dtype == torch.float32 else 1e-8
    assert found.condition == pytest.approx((values[0] / values[-1]) ** 2, rel=rel)


def test_a_loss_that_takes_no_zero_is_factored_all_the_same():
    """−log of a Gamma density curves in its shape as the trigamma function does."""
    z = torch.tensor([[0.5], [2.0], [30.0]])

    def loss(z, y):
        return -torch.distributions.Gamma(z, torch.ones_like(z)).log_prob(y).sum()

    root = loss_root(loss, z, torch.ones(3, 1)).flatten()
    expected = torch.special.polygamma(1, z.double()).flatten()
    torch.testing.assert_close(root.square(), expected, rtol=1e-10, atol=0)


def test_a_loss_that_is_not_convex_is_refused():
    with pytest.raises(ValueError, match="not convex"):
        loss_root(lambda z, y: (z[:, 0] * z[:, 1]).sum(), torch.randn(3, 2), torch.zeros(3))
    with pytest.raises(ValueError, match="not convex"):
        loss_root(lambda z, y: -z.square().sum(), torch.randn(3, 2), torch.zeros(3))


def test_nodes_without_edges_leave_zero_rows():
    weights = torch.zeros(1, 3, 3, dtype=torch.float64)
    weights[0, 0, 2] = weights[0, 2, 0] = 4.0
    root = laplacian_root(weights)[0]
    expected = torch.tensor([[4.0, 0, -4], [0, 0, 0], [-4, 0, 4]], dtype=torch.float64)
    assert torch.equal(root.mT @ root, expected)
