"""On a CUDA device everything gives what it gives on the CPU."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hessian_spectrum import (
    ExtremeTracker,
    GramAccumulator,
    TriangularFactor,
    joint_range,
    largest_eigenpairs,
    network_ggn,
    network_hessian,
    operator_eigenpairs,
    probe_extremes,
    range_factor,
    smallest_eigenpairs,
    softmax_probe_operator,
    softmax_probe_spectrum,
    spectral_density,
)
from hessian_spectrum.kernels.cholesky import BlockCholesky, cholesky_for

from .matrices import features_of, matrix_of, spectra

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def both(work):
    """A computation on the CPU and on the GPU, brought back."""
    return work("cpu"), work("cuda").cpu()


def close(work, rtol=1e-9, atol=0.0):
    torch.testing.assert_close(*both(work), rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", [n for n, v in spectra().items() if len(v) == 40])
def test_extreme_eigenvalues(name, generator):
    h = torch.stack([matrix_of(spectra()[name], generator) for _ in range(4)])
    scale = float(spectra()[name][-1])
    close(lambda d: largest_eigenpairs(h.to(d)).values, rtol=1e-8)
    close(lambda d: smallest_eigenpairs(h.to(d)).values, rtol=1e-8, atol=1e-12 * scale)

    def tracked(device):
        tracker = ExtremeTracker("largest", tolerance=1e-8, certified=1e-8)
        return torch.stack([tracker(h.to(device) * (1 + 0.01 * i)).values for i in range(4)])

    close(tracked, rtol=1e-8)


def test_blocked_factors_equal_dense_ones(generator):
    x = torch.randn(5, 300, 400, dtype=torch.float64, generator=generator)
    a = x @ x.mT
    rows = torch.randn(5, 4, 300, dtype=torch.float64, generator=generator)
    cholesky = cholesky_for(a.cuda())
    assert isinstance(cholesky, BlockCholesky)
    assert cholesky.factor(a.cuda()).tolist() == [True] * 5
    expected = torch.linalg.solve(a, rows.mT).mT
    torch.testing.assert_close(cholesky.solve(rows.cuda()).cpu(), expected, rtol=1e-9, atol=1e-12)
    a[3, 200, 200] = -1.0
    assert cholesky.factor(a.cuda()).tolist() == [True, True, True, False, True]


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("end", ["smallest", "largest"])
def test_a_tracker_of_large_matrices(end, place, generator):
    """Past the size from which factors come in blocks and the work is replayed as a graph; on
    whatever device, while the first is the current one."""
    if place >= torch.cuda.device_count():
        pytest.skip("needs two CUDA devices")
    device = torch.device("cuda", place)
    q = torch.linalg.qr(torch.randn(300, 300, dtype=torch.float64, generator=generator)).Q
    h = (q * torch.logspace(-6, 0, 300).double()) @ q.mT
    scale = torch.rand(2, 300, dtype=torch.float64, generator=generator) + 0.5
    scale[0, -3:] = 0
    tracker = ExtremeTracker(end, tolerance=1e-8, certified=1e-8, scale=scale.to(device))
    batch = torch.empty(2, 300, 300, dtype=torch.float64, device=device)
    for step in range(8):
        # The same memory, then other memory in between.
        batch.copy_(torch.stack([h * (1 + 0.02 * step), h + 0.01 * step * torch.eye(300)]))
        found = tracker(batch.clone() if step == 5 else batch)
        dense = scale[:, None] * batch.cpu() * scale[..., None]
        dense[0, -3:] = dense[0, :, -3:] = 0
        values = torch.linalg.eigvalsh(dense)
        ends = torch.tensor([3, 0]) if end == "smallest" else torch.tensor([299, 299])
        exact = values.gather(1, ends[:, None])[:, 0]
        torch.testing.assert_close(found.values.cpu(), exact, rtol=1e-8, atol=0)


def test_gram_matrices_factors_and_joint_coordinates(generator):
    x = torch.randn(500, 30, generator=generator)

    def gram(device):
        sums = GramAccumulator(centered=True)
        for batch in x.to(device).split(77):
            sums.update(batch)
        return sums.result().matrix

    def ends(device):
        triangle = TriangularFactor()
        triangle.update(x.to(device))
        return triangle.range_factor().singular_values

    close(gram, rtol=1e-11, atol=1e-9)
    close(ends, rtol=1e-11)
    y = features_of(torch.logspace(-6, 0, 20).double(), 25, generator)

    def ratios(device):
        joint = joint_range(
            [range_factor(x[:, :20].double().to(device))], [range_factor(y.to(device))]
        )
        return (joint.harmful / joint.primary)[0]

    close(ratios, rtol=1e-7)
    close(lambda d: probe_extremes(y.to(d)[None], 20).smallest, rtol=1e-8)


def test_softmax_probes(generator):
    x = torch.randn(300, 10, dtype=torch.float64, generator=generator)
    p = (x @ torch.randn(10, 4, dtype=torch.float64, generator=generator)).softmax(dim=1)
    v = torch.randn(40, 3, dtype=torch.float64, generator=generator)
    close(lambda d: softmax_probe_operator(x.to(d), p.to(d)) @ v.to(d), rtol=1e-10, atol=1e-13)
    for dense in (0, 2048):

        def ends(device, dense=dense):
            found = softmax_probe_spectrum(
                x.to(device), p.to(device),
                generator=torch.Generator().manual_seed(0), dense=dense,
            )  # fmt: skip
            return torch.tensor([found.smallest, found.largest])

        close(ends, rtol=1e-6)


def test_networks(generator):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Softplus(), nn.Flatten(), nn.Linear(108, 4)
    ).double()
    x = torch.randn(12, 1, 8, 8, dtype=torch.float64, generator=generator)
    y = torch.randint(0, 4, (12,), generator=generator)

    def quantities(device):
        batches = [(x[:5].to(device), y[:5].to(device)), (x[5:].to(device), y[5:].to(device))]
        placed = model.to(device)
        draws = torch.Generator().manual_seed(0)
        hessian = network_hessian(placed, F.cross_entropy, batches)
        ggn = network_ggn(placed, F.cross_entropy, batches)
        density = spectral_density(ggn, generator=draws, steps=10)
        top = operator_eigenpairs(hessian, 2, generator=draws)
        return torch.cat([top.values.cpu(), density.nodes[0].cpu()])

    close(quantities, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("shape", [(60, 80), (80, 60)])
def test_singular_values_keep_their_digits_down_to_eps(shape):
    """Beyond the square root of eps, where those of a Gram matrix have none."""
    from hessian_spectrum.kernels.svd import robust_svd

    generator = torch.Generator().manual_seed(5)
    size = min(shape)
    parts = [
        torch.linalg.qr(torch.randn(n, size, dtype=torch.float64, generator=generator)).Q
        for n in shape
    ]
    values = torch.logspace(0, -11, size, dtype=torch.float64)
    matrix = ((parts[0] * values) @ parts[1].mT).cuda()
    left, found, right = (part.cpu() for part in robust_svd(torch.stack([matrix, 2 * matrix])))
    torch.testing.assert_close(found[0], values, rtol=1e-4, atol=1e-16)
    torch.testing.assert_close(found[1], 2 * values, rtol=1e-4, atol=1e-16)
    whole = left[0] * found[0] @ right[0]
    torch.testing.assert_close(whole, matrix.cpu(), rtol=0, atol=1e-13)
