"""What a network and its loss must be for a Hessian to mean something.

The loss must be a fixed function of the samples, and a mean (or sum) over them: a batch's share is
weighted by its number of samples, whatever the batches are.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hessian_spectrum.operators import Reduction

SINGLES = 32
"""Samples of a batch whose losses are taken one by one."""

LOOKED_AT = 64
"""Entries of a tensor that tell whether it is still what it was."""


class NotDeterministicError(ValueError):
    """The loss of a sample is no fixed function of it: random, or not finite."""


class BatchDependentError(NotDeterministicError):
    """The loss of a sample depends on what else is in its batch."""


class StaleOperatorError(RuntimeError):
    """The network changed after its operator was made."""


def room(dtype: torch.dtype, device: torch.device) -> float:
    """Relative difference that round-off makes between two ways to compute the same.

    Parallel sums differ in their last bits. A GPU may multiply float32 matrices with TF32's ten
    bits, by an algorithm that depends on the size of a batch.
    """
    eps = torch.finfo(dtype).eps
    if eps > 1e-6:
        return 8 * eps
    return 5e-3 if device.type == "cuda" and dtype == torch.float32 else 1e3 * eps


def same(one: Tensor, two: Tensor) -> bool:
    """Whether two tensors are equal, where NaN is equal to itself."""
    return one.shape == two.shape and bool(((one == two) | ((one != one) & (two != two))).all())


class Unchanged:
    """Restores a model, and reports what a pass over the data changed."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.model, self.device = model, device
        self.buffers = {name: value.clone() for name, value in model.named_buffers()}
        self.random = torch.get_rng_state()
        self.random_cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> list[str]:
        """Put back buffers and generators; the names of what had changed."""
        changed = []
        with torch.no_grad():
            for name, value in self.model.named_buffers():
                if not same(value, self.buffers[name]):
                    changed.append(f"the buffer '{name}'")
                    value.copy_(self.buffers[name])
        drew = not torch.equal(torch.get_rng_state(), self.random)
        torch.set_rng_state(self.random)
        if self.random_cuda is not None:
            drew |= not torch.equal(torch.cuda.get_rng_state(self.device), self.random_cuda)
            torch.cuda.set_rng_state(self.random_cuda, self.device)
        return changed + ["a random number generator"] * drew


def check_fixed(
    model: nn.Module, device: torch.device, gradient: Callable[[], tuple[float, Tensor]]
) -> None:
    """Two passes over the batches must agree, draw nothing, and leave every buffer as it was.

    Args:
        model: the network; it is left as it was.
        device: where it is.
        gradient: one pass: the loss of all batches, and its flat gradient.

    Raises:
        NotDeterministicError: where they do not.
    """
    state = Unchanged(model, device)
    try:
        (first, one), (second, two) = gradient(), gradient()
    finally:
        changed = state.restore()
    if changed and changed[0].startswith("the buffer"):
        raise NotDeterministicError(
            f"A pass over the data changed {changed[0]}: batch norm in training mode has no fixed "
            "loss. Call model.eval() first. (The buffer was put back.)"
        )
    if changed:
        raise NotDeterministicError(
            "A pass over the data drew random numbers, as dropout does in training mode, so that "
            "two passes differ. Call model.eval() first."
        )
    slack = room(one.dtype, device)
    distance = float((one - two).norm())
    if not abs(first - second) <= slack * abs(first) or not distance <= slack * float(one.norm()):
        raise NotDeterministicError(
            f"The loss or its gradient changed between two passes over the same batches "
            f"({first:.9g}, {second:.9g}; gradients differ by {distance:.3g}): "
            "randomness of some kind, or values that are not finite. Call model.eval() first."
        )


def check_separable(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    reduction: Reduction,
) -> None:
    """One batch against its halves, and some of its samples one by one.

    Args:
        model: the network, which draws nothing.
        loss: (outputs, targets) → scalar.
        batches: pairs (inputs, targets).
        reduction: what ``loss`` is said to do over samples.

    Raises:
        BatchDependentError: where outputs or losses of samples depend on their batch.
    """
    for inputs, targets in batches:
        rows = len(targets)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as of a loss that broadcasts a single sample
            outputs = model(inputs)
            if rows < 2 or not isinstance(outputs, Tensor) or len(outputs) != rows:
                continue
            if isinstance(inputs, Tensor) and len(inputs) == rows:
                _compare_outputs(model, inputs, outputs)
            _compare_losses(loss, outputs, targets, reduction)


def _compare_outputs(model: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
    half = len(inputs) // 2
    try:
        apart = torch.cat([model(inputs[:half]), model(inputs[half:])])
    except (RuntimeError, ValueError, IndexError) as error:
        if half == 1:
            return  # one that squeezes a single sample returns two or more
        raise BatchDependentError(
            f"The model does not take half of a batch ({error}). Each sample must be answered by "
            "itself."
        ) from error
    if apart.shape != outputs.shape:
        if half == 1:
            return
        raise BatchDependentError(
            f"The outputs of the halves of a batch have shape {tuple(apart.shape)} together, and "
            f"those of the batch {tuple(outputs.shape)}. Each sample must be answered by itself."
        )
    distance = float((apart - outputs).abs().max())
    largest = float(outputs.abs().max())
    if not distance <= room(outputs.dtype, outputs.device) * largest:
        raise BatchDependentError(
            f"The model's output for a sample changes with its batch: outputs of {len(inputs)} "
            f"samples differ from those of their halves by {distance:.3g}, beside a largest of "
            f"{largest:.3g}. Batch norm that uses the statistics of the batch does that, in eval "
            "mode too where it keeps no running ones."
        )


def _compare_losses(
    loss: Callable[[Tensor, Tensor], Tensor],
    own: Tensor,
    targets: Tensor,
    reduction: Reduction,
) -> None:
    rows, outputs = len(targets), own
    few = torch.linspace(0, rows - 1, min(rows, SINGLES), device=outputs.device)
    few = few.round().to(torch.int64)
    try:  # in float64, whose digits show what a 16-bit loss's do not
        outputs = outputs.to(torch.float64)
        loss(outputs, targets)
    except (RuntimeError, ValueError):  # such as for float32 class weights
        outputs = own
    halves = [slice(0, rows // 2), slice(rows // 2, rows)]
    some, wanted = outputs[few], targets[few.to(targets.device)]
    singles = [slice(i, i + 1) for i in range(len(few))]
    for values, labels, parts in ((outputs, targets, halves), (some, wanted, singles)):
        try:
            _compare_sum(loss, values, labels, parts, reduction)
        except BatchDependentError:
            raise
        except (RuntimeError, ValueError, IndexError):
            if parts[0] != slice(0, 1):
                raise
            # A loss may want more than one sample, such as one that squeezes its outputs.


def _compare_sum(
    loss: Callable[[Tensor, Tensor], Tensor],
    outputs: Tensor,
    targets: Tensor,
    parts: list[slice],
    reduction: Reduction,
) -> None:
    def total(part: slice) -> float:
        count = len(targets[part]) if reduction == "mean" else 1
        return float(loss(outputs[part], targets[part])) * count

    whole = total(slice(0, len(targets)))
    pieces = [total(part) for part in parts]
    size = sum(map(abs, pieces))
    if not abs(whole - sum(pieces)) <= room(outputs.dtype, outputs.device) * size:
        count = len(targets) if reduction == "mean" else 1
        raise BatchDependentError(
            f"The loss is not the {reduction} of the losses of its samples: {whole / count:.6g} "
            f"for {len(targets)} of them together, {sum(pieces) / count:.6g} from {len(parts)} "
            "parts. Class weights or ignore_index divide by a sum of weights, which depends on "
            "the batch: use reduction='sum' for both the loss and the operator. A sum called a "
            "mean, or a mean called a sum, does it too."
        )


class Snapshot:
    """Whether a network is still what it was: values and identity of its tensors, its modules,
    their modes and hooks."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.marks, self.sums = self._look()

    def _look(self) -> tuple[list[tuple[object, ...]], Tensor]:
        tensors = [*self.model.parameters(), *self.model.buffers()]
        marks: list[tuple[object, ...]] = [
            (tensor.data_ptr(), tensor._version) for tensor in tensors
        ]
        marks += [
            (id(m), type(m), m.training, len(m._forward_hooks), len(m._forward_pre_hooks))
            for m in self.model.modules()
        ]
        # Changes through `.data` leave the version alone; the sum too where entries change places.
        sums = []
        for tensor in tensors:
            flat = tensor.detach().flatten()
            some = flat[:: max(1, len(flat) // LOOKED_AT)].to(torch.float64)
            sums.append(torch.cat([flat.sum(dtype=torch.float64)[None], some]))
        return marks, torch.cat(sums) if sums else torch.zeros(0)

    def check(self) -> None:
        """Raise where it is not.

        Raises:
            StaleOperatorError: after a step of an optimiser, say.
        """
        marks, sums = self._look()
        if marks != self.marks or not same(sums, self.sums):
            raise StaleOperatorError(
                "The network changed after this operator was made (a step of an optimiser, loaded "
                "weights, or another mode). Make a new operator for what it is now."
            )
