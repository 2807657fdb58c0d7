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

    Three cases, told apart by the Hessian itself and not by the loss's name:

    - A weighted graph Laplacian (no positive entry off the diagonal, rows that sum to zero), which
      every loss of softmax probabilities has, weighted and smoothed ones too: by elimination
      without subtraction, so that every entry keeps its digits however sure the sample is. Source:
      Grassmann, Taksar and Heyman (1985).
    - A diagonal matrix: by its roots.
    - Any other: by eigenvalues, of which those under C·eps of the sample's largest are zero.

    Args:
        loss: (outputs (n, C), targets) → scalar.
        outputs: shape (n, C).
        targets: as the loss takes them.

    Returns:
        R, shape (n, C, C), float64; rows beyond the rank are zero.

    Raises:
        ValueError: where the loss is not convex in the outputs.
    """
    outputs = outputs.detach().to(torch.float64)
    hessian = _hessian(loss, outputs, targets)
    classes = outputs.shape[1]
    apart = -_off_diagonal(hessian)
    largest = hessian.abs().amax(dim=(1, 2))
    diagonal = (apart == 0).all(dim=(1, 2))
    sums = hessian.sum(dim=2).abs().amax(dim=1)
    # The likeliest class has p − p² on its diagonal, which is off by eps·w: more than all that a
    # sure sample has.
    weight, exact = _of_softmax(outputs, apart)
    slack = torch.maximum(largest, weight)
    apart = torch.where((weight > 0)[:, None, None], exact, apart)
    laplacian = (apart >= 0).all(dim=(1, 2)) & (sums <= 16 * classes * EPS * slack)

    root = torch.zeros_like(hessian)
    root[laplacian] = laplacian_root(apart[laplacian])
    plain = diagonal & ~laplacian
    values = hessian.diagonal(dim1=1, dim2=2)
    _check_convex(values[plain], largest[plain])
    root[plain] = torch.diag_embed(values[plain].clamp(min=0).sqrt())
    rest = ~(laplacian | diagonal)
    if bool(rest.any()):
        values, vectors = torch.linalg.eigh(hessian[rest])
        _check_convex(values, largest[rest])
        kept = torch.where(values > classes * EPS * values[:, -1:], values, 0.0)
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


def _hessian(loss: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Tensor) -> Tensor:
    """∇² of each sample, (n, C, C), symmetric."""
    outputs = outputs.requires_grad_()
    if targets.dtype.is_floating_point:
        targets = targets.to(torch.float64)
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
    found = torch.stack(columns, dim=-1).detach()
    return (found + found.mT) / 2


def _of_softmax(outputs: Tensor, apart: Tensor) -> tuple[Tensor, Tensor]:
    """w where a sample's entries off the diagonal are w·p_c·p_k, else 0, shape (n,); and w·p_c·p_k.

    Autograd's entries are off by eps·w·p_c, which is more than all of one whose p_k is tiny.
    """
    p = outputs.detach().softmax(dim=1)
    products = _off_diagonal(p[:, :, None] * p[:, None])
    total = products.sum(dim=(1, 2))
    weight = apart.sum(dim=(1, 2)) / total.clamp_min(torch.finfo(torch.float64).tiny)
    scale = weight[:, None, None]
    room = 1e-8 * apart.abs() + 64 * p.shape[1] * EPS * scale * (p[:, :, None] + p[:, None])
    fits = ((apart - scale * products).abs() <= room).flatten(1).all(dim=1)
    weight = torch.where(fits, weight, 0.0)
    return weight, weight[:, None, None] * products


def _off_diagonal(matrices: Tensor) -> Tensor:
    return matrices - torch.diag_embed(matrices.diagonal(dim1=1, dim2=2))


def _check_convex(values: Tensor, largest: Tensor) -> None:
    if bool((values < -1e-10 * largest[:, None]).any()):
        raise ValueError("The loss is not convex in the network's outputs; its GGN is indefinite.")
