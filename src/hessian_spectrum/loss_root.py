"""Square roots of a loss's Hessian in the outputs of each sample, without cancellation.

A cross-entropy has ∇² = w·(diag p − ppᵀ), which is singular: one number added to all logits
changes nothing. An eigendecomposition leaves round-off where its zero is, whose square root, 1e-8,
would pass for a direction of the GGN. And a sure sample's 1 − p is lost in p − p².
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

EPS = torch.finfo(torch.float64).eps


def loss_root(loss: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Tensor) -> Tensor:
    """R with RᵀR = ∇²loss in each sample's outputs.

    Three cases. The Hessian itself decides between them, not the loss's name:

    - A weighted graph Laplacian (no positive entry off the diagonal, rows that sum to zero), which
      every cross-entropy of softmax probabilities has: weighted, smoothed, with a temperature or
      over a part of the outputs. By elimination without subtraction, so that every entry keeps the
      digits of those off the diagonal however sure the sample is. Source: Grassmann, Taksar and
      Heyman (1985).
    - A diagonal matrix: by its roots; logistic losses by σ(z)σ(−z), see `_logistic`.
    - Any other: by eigenvalues.

    What is under 16·C·eps of the sample's largest entry, or of that which it has at outputs of
    zero, where no sample is sure, is round-off: the sum of a row, a positive entry off the
    diagonal, an eigenvalue.

    Args:
        loss: (outputs (n, C), targets) → scalar.
        outputs: shape (n, C).
        targets: as the loss takes them.

    Returns:
        R, shape (n, C, C), float64; rows beyond the rank are zero.

    Raises:
        ValueError: where the loss is not convex in the outputs.
    """
    outputs = outputs.detach()
    hessian, eps = _hessian(loss, outputs, targets)
    unsure = _elsewhere(loss, torch.zeros_like(outputs), targets)
    slack = torch.fmax(_largest(hessian), _largest(unsure).nan_to_num(posinf=0))
    noise = 16 * outputs.shape[1] * eps * slack
    apart = -_off_diagonal(hessian)
    diagonal = (apart == 0).all(dim=(1, 2))
    sums = hessian.sum(dim=2).abs().amax(dim=1)
    laplacian = ~diagonal & (apart.amin(dim=(1, 2)) >= -noise) & (sums <= noise)

    root = torch.zeros_like(hessian)
    root[laplacian] = laplacian_root(apart[laplacian].clamp(min=0))
    if bool(diagonal.any()):
        values = _logistic(loss, outputs, targets, hessian, unsure, noise)[diagonal]
        _check_convex(values, noise[diagonal])
        root[diagonal] = torch.diag_embed(values.clamp(min=0).sqrt())
    rest = ~(laplacian | diagonal)
    if bool(rest.any()):
        values, vectors = torch.linalg.eigh(hessian[rest])
        _check_convex(values, noise[rest])
        kept = torch.where(values > noise[rest, None], values, 0.0)
        root[rest] = kept.sqrt()[:, :, None] * vectors.mT
    return root


def laplacian_root(weights: Tensor) -> Tensor:
    """R with RᵀR = diag(A1) − A, for symmetric non-negative weights A.

    Taking out one node after the other adds a_jv·a_kv/Σ_l a_lv to the weights that are left.
    Nothing is subtracted, so each entry of R is right to a few eps of itself.

    >>> import torch
    >>> p = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    >>> root = laplacian_root(torch.outer(p, p)[None])[0]
    >>> torch.allclose(root.T @ root, torch.diag(p) - torch.outer(p, p))
    True

    Args:
        weights: A, shape (n, C, C); the diagonal is not looked at.

    Returns:
        Shape (n, C, C); the last row is zero.
    """
    left = weights.clone()
    root = torch.zeros_like(left)
    for node in range(left.shape[-1] - 1):
        edges = left[:, node, node + 1 :].clone()
        degree = edges.sum(dim=1, keepdim=True)
        safe = torch.where(degree > 0, degree, 1.0)
        root[:, node, node] = degree.squeeze(1).sqrt()
        root[:, node, node + 1 :] = -edges / safe.sqrt()
        left[:, node + 1 :, node + 1 :] += edges[:, :, None] * (edges / safe)[:, None]
    return root


def _hessian(
    loss: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Tensor
) -> tuple[Tensor, float]:
    """∇² of each sample, (n, C, C), symmetric, in float64; and the eps that it was computed with.

    That of the outputs' own dtype where the loss takes no other, as one with float32 class weights.
    """
    try:
        return _second(loss, outputs.to(torch.float64), targets), EPS
    except RuntimeError:
        if outputs.dtype == torch.float64:
            raise
        exact = _second(loss, outputs, targets).to(torch.float64)
        return exact, torch.finfo(outputs.dtype).eps


def _elsewhere(loss: Callable[[Tensor, Tensor], Tensor], at: Tensor, targets: Tensor) -> Tensor:
    """∇² at other outputs; zero where the loss does not take them, as one of rates does not."""
    try:
        return _hessian(loss, at, targets)[0]
    except (RuntimeError, ValueError):
        return torch.zeros(*at.shape, at.shape[1], dtype=torch.float64, device=at.device)


def _second(loss: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Tensor) -> Tensor:
    outputs = outputs.detach().requires_grad_()
    if targets.dtype.is_floating_point:
        targets = targets.to(outputs.dtype)
    (gradient,) = torch.autograd.grad(loss(outputs, targets), outputs, create_graph=True)
    columns = []
    for index in range(outputs.shape[1]):
        pick = torch.zeros_like(outputs)
        pick[:, index] = 1
        if not gradient.requires_grad:
            columns.append(torch.zeros_like(outputs))
            continue
        (column,) = torch.autograd.grad(gradient, outputs, pick, retain_graph=True)
        columns.append(column)
    hessians = torch.stack(columns, dim=-1).detach()
    return (hessians + hessians.mT) / 2


def _logistic(
    loss: Callable[[Tensor, Tensor], Tensor],
    outputs: Tensor,
    targets: Tensor,
    hessian: Tensor,
    unsure: Tensor,
    noise: Tensor,
) -> Tensor:
    """Diagonals (n, C), where the loss is logistic in an output by 4·h(0)·σ(z)σ(−z).

    Autograd has σ − σ², of which nothing is left from z = 37 on. That the loss is logistic is told
    at z = 1 and 3, sample by sample and output by output.
    """
    values = hessian.diagonal(dim1=1, dim2=2)
    level = 4 * unsure.diagonal(dim1=1, dim2=2)

    def at(z: Tensor) -> Tensor:
        z = z.to(torch.float64)
        return level * z.sigmoid() * (-z).sigmoid()

    fits = (values - at(outputs)).abs() <= noise[:, None]
    for point in (1.0, 3.0):
        there = torch.full_like(outputs, point)
        hessians = _elsewhere(loss, there, targets)
        fits &= (hessians.diagonal(dim1=1, dim2=2) - at(there)).abs() <= noise[:, None]
    return torch.where(fits, at(outputs), values)


def _largest(matrices: Tensor) -> Tensor:
    return matrices.abs().amax(dim=(1, 2))


def _off_diagonal(matrices: Tensor) -> Tensor:
    return matrices - torch.diag_embed(matrices.diagonal(dim1=1, dim2=2))


def _check_convex(values: Tensor, noise: Tensor) -> None:
    if bool((values < -noise[:, None]).any()):
        raise ValueError("The loss is not convex in the network's outputs; its GGN is indefinite.")
