"""Network operators against torch.func and curvlinops."""

import pytest
import torch
import torch.nn.functional as F
from curvlinops import GGNLinearOperator, HessianLinearOperator
from torch import nn

from hessian_spectrum import (
    NotDeterministicError,
    ggn_factor,
    ggn_spectrum,
    layer_names,
    network_ggn,
    network_hessian,
    operator_eigenpairs,
    parameter_names,
    spectral_density,
)


def network(dtype=torch.float64):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 5), nn.Tanh(), nn.BatchNorm1d(5), nn.Linear(5, 3), nn.Dropout(0.5)
    )
    return model.to(dtype).eval()


def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Softplus(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4)
    ).double()


def data(generator, sizes=(30,), shape=(6,), classes=3):
    total = sum(sizes)
    x = torch.randn(total, *shape, dtype=torch.float64, generator=generator)
    y = torch.randint(0, classes, (total,), generator=generator)
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


def flat_loss(model, batches, reduction="mean"):
    """The loss of all rows as a function of the flattened parameters."""
    named = dict(model.named_parameters())
    x, y = (torch.cat(part) for part in zip(*batches, strict=True))

    def value(flat):
        pieces = flat.split([p.numel() for p in named.values()])
        merged = {
            name: piece.reshape(p.shape)
            for (name, p), piece in zip(named.items(), pieces, strict=True)
        }
        return F.cross_entropy(
            torch.func.functional_call(model, merged, (x,)), y, reduction=reduction
        )

    return value, torch.cat([p.detach().reshape(-1) for p in named.values()])


@pytest.mark.parametrize("sizes", [(30,), (5, 25), (1, 9, 20)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("options", [{}, {"vectorise": True}, {"keep_graphs": True}])
def test_the_hessian_is_that_of_all_rows_whatever_the_batches(sizes, reduction, options, generator):
    """Averaging batches without their sizes is 29 % to 130 % off on 5/25."""
    model, batches = network(), data(generator, sizes)
    value, at = flat_loss(model, batches, reduction)
    expected = torch.func.hessian(value)(at)

    def loss(outputs, targets):
        return F.cross_entropy(outputs, targets, reduction=reduction)

    operator = network_hessian(model, loss, batches, reduction=reduction, **options)
    torch.testing.assert_close(operator.dense(), expected, rtol=1e-9, atol=1e-11)
    # A second use of kept graphs.
    torch.testing.assert_close(operator.dense(), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("sizes", [(30,), (5, 25)])
@pytest.mark.parametrize("make", [network, convolutional])
def test_hessian_and_ggn_agree_with_curvlinops(sizes, make, generator):
    model = make()
    shape, classes = ((6,), 3) if make is network else ((1, 8, 8), 4)
    batches = data(generator, sizes, shape, classes)
    params = [p for p in model.parameters() if p.requires_grad]
    loss = nn.CrossEntropyLoss()
    v = torch.randn(sum(p.numel() for p in params), 3, dtype=torch.float64, generator=generator)
    for ours, theirs in (
        (network_hessian, HessianLinearOperator),
        (network_ggn, GGNLinearOperator),
    ):
        expected = theirs(model, loss, params, batches, check_deterministic=False) @ v
        for keep in (None, True):
            found = ours(model, loss, batches, keep_graphs=keep) @ v
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.MSELoss()])
@pytest.mark.parametrize("sizes", [(12,), (3, 9)])
def test_the_ggn_factor_gives_the_exact_nonzero_spectrum(loss, sizes, generator):
    model, batches = network(), data(generator, sizes)
    if isinstance(loss, nn.MSELoss):
        batches = [(x, F.one_hot(y, 3).double()) for x, y in batches]
    dense = network_ggn(model, loss, batches).dense()
    factor = ggn_factor(model, loss, batches)
    torch.testing.assert_close(factor.mT @ factor, dense, rtol=1e-9, atol=1e-12)
    spectrum = ggn_spectrum(model, loss, batches)
    values = torch.linalg.eigvalsh(dense)
    assert spectrum.rank <= 36
    torch.testing.assert_close(
        spectrum.eigenvalues, values[-spectrum.rank :], rtol=1e-7, atol=1e-13
    )
    # What is left is round-off.
    assert values[: -spectrum.rank].abs().max() <= 1e-13 * values[-1]


def test_a_block_of_layers_is_the_block_of_the_whole(generator):
    model, batches = network(), data(generator)
    assert layer_names(model) == ["0", "2", "3"]
    assert layer_names(model, depth=2)[0] == "0.weight"
    whole = network_hessian(model, F.cross_entropy, batches).dense()
    names = parameter_names(model)
    sizes = [dict(model.named_parameters())[name].numel() for name in names]
    places = torch.arange(sum(sizes)).split(sizes)
    for layer in layer_names(model):
        inside = torch.cat(
            [p for p, n in zip(places, names, strict=True) if n.startswith(f"{layer}.")]
        )
        for build in (network_hessian, network_ggn):
            block = build(model, F.cross_entropy, batches, parameters=[layer]).dense()
            full = (
                whole
                if build is network_hessian
                else build(model, F.cross_entropy, batches).dense()
            )
            torch.testing.assert_close(block, full[inside][:, inside], rtol=1e-9, atol=1e-12)


def test_top_eigenvalues_and_density_of_a_network(generator):
    model, batches = network(), data(generator, (10, 20))
    operator = network_hessian(model, F.cross_entropy, batches, keep_graphs=True)
    values = torch.linalg.eigvalsh(operator.dense())
    top = operator_eigenpairs(operator, 2, generator=generator)
    torch.testing.assert_close(top.values, values.flip(0)[:2], rtol=1e-9, atol=0)
    low = operator_eigenpairs(operator, generator=generator, end="smallest")
    assert float(low.values[0]) == pytest.approx(float(values[0]), rel=1e-8)
    density = spectral_density(operator, generator=generator, vectors=40, steps=30)
    trace = density.trace()
    assert abs(trace.value - float(values.sum())) <= 4 * trace.standard_error


def test_float32_networks_work_in_their_own_dtype(generator):
    model = network(torch.float32)
    batches = [(x.float(), y) for x, y in data(generator)]
    exact = network_hessian(network(), F.cross_entropy, data(torch.Generator().manual_seed(0)))
    operator = network_hessian(model, F.cross_entropy, batches)
    assert operator.dtype == torch.float32
    top = operator_eigenpairs(operator, generator=generator)
    assert float(top.values[0]) == pytest.approx(
        float(torch.linalg.eigvalsh(exact.dense())[-1]), rel=1e-5
    )


def test_dropout_and_batch_norm_in_training_mode_are_refused(generator):
    batches = data(generator)
    dropout = nn.Sequential(nn.Linear(6, 30), nn.Dropout(0.5), nn.Linear(30, 3)).double()
    with pytest.raises(NotDeterministicError, match="two passes"):
        network_hessian(dropout, F.cross_entropy, batches)
    norm = network().train()
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    with pytest.raises(NotDeterministicError, match=r"buffer '2\.running_mean'"):
        network_ggn(norm, F.cross_entropy, batches)
    assert norm.training
    for name, value in norm.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in norm.parameters())


def test_products_leave_mode_gradients_and_the_global_generator_alone(generator):
    model, batches = network(), data(generator)
    model[0].train()
    model.zero_grad(set_to_none=True)
    state = torch.get_rng_state()
    operator = network_hessian(model, F.cross_entropy, batches)
    operator @ torch.ones(operator.dimension, dtype=torch.float64)
    assert model[0].training
    assert not model[2].training
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_parameters_without_curvature_have_a_zero_block(generator):
    """A loss linear in some parameters: peers raise here."""

    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(1, dtype=torch.float64))
            self.scale = nn.Parameter(torch.ones(1, dtype=torch.float64))
            self.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))

        def forward(self, x):
            return self.shift + self.scale**2 * x

    x = torch.ones(4, 1, dtype=torch.float64)
    operator = network_hessian(Shifted(), lambda o, _: o.mean(), [(x, x)])
    torch.testing.assert_close(operator.dense(), torch.diag(torch.tensor([0, 2.0, 0, 0]).double()))
    linear = network_hessian(
        Shifted(), lambda o, _: o.mean(), [(x, x)], parameters=["shift", "unused"]
    )
    assert not linear.dense().any()
    flat = network_ggn(Shifted(), lambda o, _: o.mean(), [(x, x)])
    assert not flat.dense().any()
    assert not ggn_factor(Shifted(), lambda o, _: o.mean(), [(x, x)]).any()


def test_misuse_is_named(generator):
    model, batches = network(), data(generator)
    with pytest.raises(ValueError, match="No trainable parameter is called 'layer9'"):
        network_hessian(model, F.cross_entropy, batches, parameters=["layer9"])
    with pytest.raises(ValueError, match="at least one batch"):
        network_hessian(model, F.cross_entropy, [])
    with pytest.raises(ValueError, match="'mean' or 'sum'"):
        network_hessian(model, F.cross_entropy, batches, reduction="max")
    with pytest.raises(ValueError, match="scalar"):
        network_hessian(model, lambda o, y: o.sum(dim=1), batches)
    with pytest.raises(ValueError, match="same dtype"):
        network_hessian(
            nn.Sequential(nn.Linear(6, 3).double(), nn.Linear(3, 3)), F.cross_entropy, batches
        )
    frozen = network()
    frozen.requires_grad_(False)
    with pytest.raises(ValueError, match="requires a gradient"):
        network_hessian(frozen, F.cross_entropy, batches)
    for build in (network_ggn, ggn_factor):
        with pytest.raises(ValueError, match="Batch 0 is empty"):
            build(model, F.cross_entropy, [(batches[0][0][:0], batches[0][1][:0]), *batches])
        with pytest.raises(ValueError, match="requires a gradient"):
            build(frozen, F.cross_entropy, batches)
    with pytest.raises(NotDeterministicError, match="running_mean"):
        ggn_spectrum(network().train(), F.cross_entropy, batches)
    with pytest.raises(ValueError, match="beyond the 10"):
        ggn_factor(model, F.cross_entropy, batches, entries=10)
    with pytest.raises(ValueError, match="not convex"):
        ggn_factor(model, lambda o, y: -F.cross_entropy(o, y), batches)
    with pytest.raises(ValueError, match=r"shape \(n, C\)"):
        ggn_factor(_Cube(), lambda o, _: o.square().mean(), batches)
    with pytest.raises(NotDeterministicError, match="not finite"):
        network_hessian(model, lambda o, y: o.sum() * float("nan"), batches)


class _Cube(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x):
        return (self.weight * x).reshape(-1, 2, 3)
