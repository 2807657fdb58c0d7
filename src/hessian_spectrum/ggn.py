"""The exact non-zero spectrum of a network's GGN, through its factor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from hessian_spectrum.loss_root import loss_root
from hessian_spectrum.network_operators import Loss, Network
from hessian_spectrum.operators import Reduction
from hessian_spectrum.range_factor import range_factor
from hessian_spectrum.rank import relative_tolerance
from hessian_spectrum.spectrum import Spectrum

ENTRIES = 2**28
"""Entries of the factor that are formed: 2 GiB in float64."""


def ggn_factor(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    parameters: Sequence[str] | None = None,
    reduction: Reduction = "mean",
    entries: int = ENTRIES,
) -> Tensor:
    """S with GGN = SᵀS: for each sample, (∇²loss)^{1/2} times its Jacobian.

    Args:
        model: treats each sample independently (batch norm in eval mode).
        loss: (outputs (n, C), targets) → scalar, convex in the outputs, a mean or sum over
            samples.
        batches: pairs (inputs, targets).
        parameters: names or prefixes; see `network_hessian`.
        reduction: what ``loss`` does over samples.
        entries: most entries of S that are formed.

    Returns:
        S, shape (NC, P), float64 whatever the network's dtype.

    Raises:
        ValueError: where S would be too large, outputs are not (n, C), or the loss is not convex.
    """
    network = Network(model, loss, batches, parameters, reduction)
    network.check()
    batches, names = network.batches, network.names
    values = {name: value.detach() for name, value in model.named_parameters()}
    chosen = {name: values[name] for name in names}
    width = sum(value.numel() for value in chosen.values())
    total = network.total

    def one(chosen: dict[str, Tensor], sample: Tensor) -> Tensor:
        merged = {**values, **chosen}
        output: Tensor = torch.func.functional_call(model, merged, (sample.unsqueeze(0),))
        return output.squeeze(0)

    rows = []
    for inputs, targets in batches:
        with torch.no_grad():
            outputs = torch.func.functional_call(model, values, (inputs,))
        if outputs.ndim != 2:
            raise ValueError(f"Outputs have shape (n, C). Got {tuple(outputs.shape)}.")
        if total * outputs.shape[1] * width > entries:
            raise ValueError(
                f"The factor of this GGN has {total * outputs.shape[1]} × {width} entries, beyond "
                f"the {entries} that are formed. Use fewer samples or parameters, or a density."
            )
        root = loss_root(loss, outputs, targets)
        if reduction == "mean":
            root = root * (len(targets) / total) ** 0.5
        jacobian = torch.func.vmap(torch.func.jacrev(one), in_dims=(None, 0))(chosen, inputs)
        flat = torch.cat([jacobian[name].flatten(2) for name in names], dim=2).to(torch.float64)
        rows.append((root @ flat).flatten(0, 1))
    return torch.cat(rows)


def ggn_spectrum(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    parameters: Sequence[str] | None = None,
    reduction: Reduction = "mean",
    tolerance: float | None = None,
    entries: int = ENTRIES,
) -> Spectrum:
    """Every non-zero eigenvalue of the GGN, with its rank: at most NC of them.

    By the singular values of `ggn_factor`, which takes its arguments. The dtype that limits the
    rank is the coarsest of the network's.

    Args:
        tolerance: on singular values relative to the largest; default `relative_tolerance` of
            the factor's shape and that dtype.
    """
    factor = ggn_factor(
        model, loss, batches, parameters=parameters, reduction=reduction, entries=entries
    )
    if tolerance is None:
        dtypes = [p.dtype for p in model.parameters() if p.is_floating_point()]
        dtype = max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)
        rows, width = factor.shape
        tolerance = relative_tolerance(rows, width, dtype)
    kept = range_factor(factor, tolerance=tolerance)
    return Spectrum.of_factor(kept, name=f"GGN of {type(model).__name__}")
