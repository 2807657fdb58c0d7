"""Networks and losses without a Hessian of their samples are refused; operators do not go stale."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hessian_spectrum import (
    BatchDependentError,
    NotDeterministicError,
    StaleOperatorError,
    ggn_spectrum,
    network_ggn,
    network_hessian,
)

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


class PlainNorm(nn.Module):
    """Batch norm without running statistics, in whatever mode."""

    def forward(self, x):
        return F.batch_norm(x, None, None, training=True)


def model_with(*layers, dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), *layers, nn.Linear(8, 3)).to(dtype)


def batch(dtype=torch.float64, rows=24):
    x = torch.randn(rows, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    return x, torch.arange(rows) * 3 // rows  # labels sorted


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", [0.02, 0.5])
@pytest.mark.parametrize("make", [network_hessian, network_ggn, ggn_spectrum])
def test_dropout_is_refused_in_every_dtype(dtype, rate, make):
    """1e3·eps of bfloat16 is 8: two passes could not differ by more."""
    model = model_with(nn.Dropout(rate), dtype=dtype)
    state = torch.get_rng_state()
    with pytest.raises(NotDeterministicError, match="random numbers"):
        make(model, F.cross_entropy, [batch(dtype)])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer", [nn.BatchNorm1d(8, track_running_stats=False), PlainNorm()])
@pytest.mark.parametrize("training", [False, True])
def test_statistics_of_the_batch_are_refused_in_every_mode(dtype, layer, training):
    model = model_with(layer, dtype=dtype).train(training)
    with pytest.raises(BatchDependentError, match="changes with its batch"):
        network_hessian(model, F.cross_entropy, [batch(dtype)])


@pytest.mark.parametrize(
    ("loss", "reduction"),
    [
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.2]).double()), "mean"),
        (nn.CrossEntropyLoss(reduction="sum"), "mean"),
        (nn.CrossEntropyLoss(), "sum"),
        (nn.CrossEntropyLoss(ignore_index=0), "mean"),
        (lambda z, y: F.cross_entropy(z - z.mean(0), y), "mean"),
        (lambda z, y: F.cross_entropy(z, y) ** 2, "mean"),
    ],
)
@pytest.mark.parametrize("rows", [2, 24, 200])
def test_losses_that_are_no_mean_or_sum_of_samples_are_refused(loss, reduction, rows):
    with pytest.raises(BatchDependentError, match=f"not the {reduction} of the losses"):
        network_hessian(model_with(nn.Tanh()), loss, [batch(rows=rows)], reduction=reduction)


def test_an_ignored_sample_and_a_weighted_class_are_noticed():
    x, y = batch(rows=400)
    y[:] = 0
    y[37] = 1
    for loss in (
        nn.CrossEntropyLoss(ignore_index=1),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 1.0]).double()),
    ):
        with pytest.raises(BatchDependentError):
            network_hessian(model_with(nn.Tanh()), loss, [(x, y)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 2, 24])
@pytest.mark.parametrize(
    ("loss", "reduction"),
    [
        (nn.CrossEntropyLoss(), "mean"),
        (nn.CrossEntropyLoss(label_smoothing=0.1), "mean"),
        (nn.CrossEntropyLoss(reduction="sum", ignore_index=1), "sum"),
        (lambda z, y: F.mse_loss(z[:, :1].squeeze(), y.to(z.dtype).squeeze()), "mean"),
    ],
)
def test_what_is_a_mean_or_sum_of_samples_is_taken(dtype, rows, loss, reduction):
    layers = (nn.LayerNorm(8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Tanh())
    model = model_with(*layers, dtype=dtype).eval()
    network_hessian(model, loss, [batch(dtype, rows)], reduction=reduction)


class Squeezing(nn.Module):
    """One answer a sample, without its dimension of one; with a buffer that holds NaN."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 2, dtype=torch.float64)
        self.register_buffer("unused", torch.full((2,), torch.nan))

    def forward(self, x):
        return torch.stack([self.layer(x)], dim=0).squeeze()


@pytest.mark.parametrize("rows", [2, 3, 8])
def test_a_model_that_squeezes_and_a_buffer_of_nan_are_taken(rows):
    torch.manual_seed(0)
    x, y = batch(rows=rows)
    operator = network_hessian(Squeezing(), F.cross_entropy, [(x, y.clamp(max=1))])
    operator @ torch.ones(operator.dimension, dtype=torch.float64)  # nor is it stale


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_class_weights_are_found_in_sixteen_bits(dtype):
    """A tenth of the weight is a few roundings of a 16-bit loss."""
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 1.1, 1.0]).double())
    with pytest.raises(BatchDependentError, match="not the mean"):
        network_hessian(
            model_with(nn.Tanh(), dtype=dtype),
            lambda z, y: loss(z.double(), y),
            [batch(dtype)],
        )


def change_places(model):
    model[0].weight.data.copy_(model[0].weight.data.flip(0))


def change_by_hook(model):
    model[1].register_forward_hook(lambda module, inputs, output: 2 * output)


def change_a_module(model):
    model[1] = nn.ReLU()


def change_by_optimiser(model):
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for value in model.parameters():
        value.grad = torch.ones_like(value)
    optimiser.step()


def change_data(model):
    model[0].weight.data -= 0.1


def change_a_frozen_part(model):
    model[0].bias.data = model[0].bias.data + 1


@pytest.mark.parametrize("make", [network_hessian, network_ggn])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
    "change",
    [change_by_optimiser, change_data, change_a_frozen_part, nn.Module.train, change_places,
     change_by_hook, change_a_module,
     lambda m: m.load_state_dict({n: v + 1 for n, v in m.state_dict().items()})],
)  # fmt: skip
def test_an_operator_of_a_network_that_changed_is_refused(make, keep, change):
    """After a step of an optimiser it was 27 % off and said nothing."""
    model = model_with(nn.Tanh()).eval()
    operator = make(model, F.cross_entropy, [batch()], parameters=["2.weight"], keep_graphs=keep)
    vector = torch.ones(operator.dimension, dtype=torch.float64)
    first = operator @ vector
    torch.testing.assert_close(operator @ vector, first)
    change(model)
    with pytest.raises(StaleOperatorError, match="Make a new operator"):
        operator @ vector
