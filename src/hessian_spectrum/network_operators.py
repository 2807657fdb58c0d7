"""Hessian and generalized Gauss–Newton (GGN) products of a network's mean loss.

A loss is a function of (model(x), y) that averages (or sums) over the samples it is given. Batches
may be of any sizes: each counts by its number of samples, as if they had come as one. Nothing
here calls ``eval()`` or ``train()``, changes a buffer or draws a number: a model whose
outputs differ the second time, or in another batch, is refused. So is an operator whose network has
changed since it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from hessian_spectrum.network_check import Snapshot, check_fixed, check_separable
from hessian_spectrum.operators import Reduction, SymmetricOperator, check_reduction

Loss = Callable[[Tensor, Tensor], Tensor]
Batches = Sequence[tuple[Tensor, Tensor]]


def network_hessian(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    parameters: Sequence[str] | None = None,
    reduction: Reduction = "mean",
    check: bool = True,
    keep_graphs: bool | None = None,
    vectorise: bool = False,
) -> SymmetricOperator:
    """The Hessian of the loss over all batches, on the chosen parameters.

    The gradient's graph is kept between products where there is one batch: a product is then one
    backward pass, half the price of a fresh double backward.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Linear(2, 1, bias=False).double()
    >>> x, y = torch.eye(2, dtype=torch.float64), torch.zeros(2, 1, dtype=torch.float64)
    >>> h = network_hessian(model, nn.functional.mse_loss, [(x[:1], y[:1]), (x[1:], y[1:])])
    >>> h.dense()
    tensor([[1., 0.],
            [0., 1.]], dtype=torch.float64)

    Args:
        model: in the mode that is meant (``model.eval()`` for dropout and batch norm).
        loss: (outputs, targets) → scalar, such as ``torch.nn.functional.cross_entropy``.
        batches: pairs (inputs, targets) on the model's device. An iterable is read once and kept.
        parameters: names or prefixes ("layer4", "fc.weight"); default all that require a
            gradient. The block of H on these is meant, the others are constants.
        reduction: what ``loss`` does over samples.
        check: compare loss and gradient of two passes first, and each batch with its halves and
            some of its samples; costs two gradients and two forward passes.
        keep_graphs: keep every batch's graph between products; default only for a single batch.
            Memory is that of one training step for each batch kept.
        vectorise: all vectors of a block through one backward pass (`torch.vmap`): faster for
            small dense networks, memory times the block for convolutions.

    Returns:
        The operator; vectors are the parameters flattened in the order of `parameter_names`.

    Raises:
        NotDeterministicError: from the check; `BatchDependentError` where samples of a batch
            depend on each other.
        StaleOperatorError: from a product, where the network changed in between.
        ValueError: for unknown names, no batches, or a loss that is no scalar.
    """
    network = Network(model, loss, batches, parameters, reduction)
    if check:
        network.check()
    keep = len(network.batches) == 1 if keep_graphs is None else keep_graphs
    kept: dict[int, tuple[Tensor, ...]] = {}

    def gradient(index: int) -> tuple[Tensor, ...]:
        if index in kept:
            return kept[index]
        gradients = torch.autograd.grad(
            network.term(index), network.chosen, create_graph=True, materialize_grads=True
        )
        if keep:
            kept[index] = gradients
        return gradients

    def product(index: int, vectors: Tensor) -> Tensor:
        linearised = gradient(index)
        # A parameter that enters linearly has a constant gradient, without a graph.
        moving = [i for i, part in enumerate(linearised) if part.requires_grad]
        if not moving:
            return torch.zeros_like(vectors)
        parts = network.split(vectors)
        return network.pull(
            [linearised[i] for i in moving],
            [parts[i] for i in moving],
            keep=keep,
            vectorise=vectorise,
        )

    return network.operator(product, "Hessian")


def network_ggn(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    parameters: Sequence[str] | None = None,
    reduction: Reduction = "mean",
    check: bool = True,
    keep_graphs: bool | None = None,
    vectorise: bool = False,
) -> SymmetricOperator:
    """The GGN Σ Jᵀ(∇²loss)J of the loss over all batches; positive semi-definite for convex losses.

    See `network_hessian` for arguments and errors.
    """
    network = Network(model, loss, batches, parameters, reduction)
    if check:
        network.check()
    keep = len(network.batches) == 1 if keep_graphs is None else keep_graphs
    kept: dict[int, tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]] = {}

    def linear(index: int) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
        if index in kept:
            return kept[index]
        outputs, term = network.outputs_and_term(index)
        (by_outputs,) = torch.autograd.grad(term, outputs, create_graph=True)
        # The pull-back Jᵀu is linear in u; differentiating it in u gives J.
        dual = torch.zeros_like(outputs, requires_grad=True)
        pulled = torch.autograd.grad(
            outputs, network.chosen, dual, create_graph=True, materialize_grads=True
        )
        if keep:
            kept[index] = outputs, by_outputs, dual, pulled
        return outputs, by_outputs, dual, pulled

    def one(index: int, vector: Tensor) -> Tensor:
        outputs, by_outputs, dual, pulled = linear(index)
        moving = [i for i, part in enumerate(pulled) if part.requires_grad]
        if not moving:
            return torch.zeros_like(vector)
        whole = network.split(vector)
        parts = [whole[i].squeeze(0) for i in moving]
        (pushed,) = torch.autograd.grad([pulled[i] for i in moving], dual, parts, retain_graph=True)
        if not by_outputs.requires_grad:
            return torch.zeros_like(vector)
        (curved,) = torch.autograd.grad(by_outputs, outputs, pushed, retain_graph=True)
        return network.pull([outputs], [curved.unsqueeze(0)], keep=True, vectorise=False)

    def product(index: int, vectors: Tensor) -> Tensor:
        if not keep:
            linearised = linear(index)
            kept[index] = linearised
        result = torch.cat([one(index, column) for column in vectors.split(1, dim=1)], dim=1)
        if not keep:
            del kept[index]
        return result

    return network.operator(product, "GGN")


def parameter_names(model: nn.Module, parameters: Sequence[str] | None = None) -> list[str]:
    """Names of the parameters that a choice of names and prefixes means, in the model's order.

    Raises:
        ValueError: for a choice that matches nothing.
    """
    known = [name for name, value in model.named_parameters() if value.requires_grad]
    if parameters is None:
        return known
    chosen: set[str] = set()
    for wanted in parameters:
        matched = [name for name in known if name == wanted or name.startswith(f"{wanted}.")]
        if not matched:
            raise ValueError(
                f"No trainable parameter is called {wanted!r} or starts with '{wanted}.'. The "
                f"model has {', '.join(known[:8])}{', …' if len(known) > 8 else ''}."
            )
        chosen.update(matched)
    return [name for name in known if name in chosen]


def layer_names(model: nn.Module, depth: int = 1) -> list[str]:
    """Prefixes that cut the parameters into layers, for one block of H each.

    Args:
        model: the network.
        depth: how many parts of a dotted name make a layer; 1 gives top-level modules.
    """
    prefixes = [".".join(name.split(".")[:depth]) for name in parameter_names(model)]
    return list(dict.fromkeys(prefixes))


class Network:
    """What Hessian and GGN share: batches and their weights, the check, flat vectors."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        batches: Iterable[tuple[Tensor, Tensor]],
        parameters: Sequence[str] | None,
        reduction: Reduction,
    ) -> None:
        check_reduction(reduction)
        self.model, self.loss, self.reduction = model, loss, reduction
        self.batches: Batches = list(batches)
        if not self.batches:
            raise ValueError("A Hessian needs at least one batch.")
        named = dict(model.named_parameters())
        self.names = parameter_names(model, parameters)
        self.chosen = [named[name] for name in self.names]
        if not self.chosen:
            raise ValueError("No parameter of the model requires a gradient.")
        if len({value.dtype for value in self.chosen}) > 1:
            raise ValueError("All parameters need the same dtype.")
        self.rows = [len(targets) for _, targets in self.batches]
        if 0 in self.rows:
            raise ValueError(f"Batch {self.rows.index(0)} is empty.")
        self.total = sum(self.rows)

    def outputs_and_term(self, index: int) -> tuple[Tensor, Tensor]:
        """Outputs of a batch, and its share of the loss."""
        inputs, targets = self.batches[index]
        outputs = self.model(inputs)
        value = self.loss(outputs, targets)
        if value.ndim != 0:
            raise ValueError(f"A loss is a scalar. Got shape {tuple(value.shape)}.")
        weight = self.rows[index] / self.total if self.reduction == "mean" else 1.0
        return outputs, value * weight

    def term(self, index: int) -> Tensor:
        """A batch's share of the loss."""
        return self.outputs_and_term(index)[1]

    def check(self) -> None:
        """A fixed loss that is a mean or sum over samples; see `network_check`."""
        check_fixed(self.model, self.chosen[0].device, self._gradient)
        check_separable(self.model, self.loss, self.batches, self.reduction)

    def _gradient(self) -> tuple[float, Tensor]:
        value, total = 0.0, torch.zeros(())
        for index in range(len(self.batches)):
            term = self.term(index)
            parts = torch.autograd.grad(term, self.chosen, materialize_grads=True)
            flat = torch.cat([part.reshape(-1) for part in parts])
            value, total = value + float(term.detach()), total.to(flat) + flat
        return value, total

    def split(self, vectors: Tensor) -> list[Tensor]:
        """Columns of a block as parameter-shaped stacks, (m, *shape) each."""
        sizes = [value.numel() for value in self.chosen]
        parts = vectors.split(sizes)
        return [
            part.mT.reshape(-1, *value.shape)
            for part, value in zip(parts, self.chosen, strict=True)
        ]

    def pull(
        self, outputs: list[Tensor], cotangents: list[Tensor], *, keep: bool, vectorise: bool
    ) -> Tensor:
        """Jᵀ of ``outputs`` on stacks of cotangents, as a block (n, m)."""
        count = cotangents[0].shape[0]
        if vectorise and count > 1:
            parts = torch.autograd.grad(
                outputs,
                self.chosen,
                cotangents,
                retain_graph=keep,
                is_grads_batched=True,
                materialize_grads=True,
            )
            return torch.cat([part.reshape(count, -1) for part in parts], dim=1).mT
        columns = []
        for i in range(count):
            parts = torch.autograd.grad(
                outputs,
                self.chosen,
                [part[i] for part in cotangents],
                retain_graph=keep or i + 1 < count,
                materialize_grads=True,
            )
            columns.append(torch.cat([part.reshape(-1) for part in parts]))
        return torch.stack(columns, dim=1)

    def operator(self, product: Callable[[int, Tensor], Tensor], name: str) -> SymmetricOperator:
        """The sum over batches as an operator."""
        snapshot = Snapshot(self.model)

        def apply(vectors: Tensor) -> Tensor:
            snapshot.check()
            total = product(0, vectors)
            for index in range(1, len(self.batches)):
                total = total + product(index, vectors)
            return total.detach()

        return SymmetricOperator(
            dimension=sum(value.numel() for value in self.chosen),
            apply=apply,
            dtype=self.chosen[0].dtype,
            device=self.chosen[0].device,
            name=f"{name} of {type(self.model).__name__}",
        )
