"""Other rules for the measure that a Gauss rule integrates, which bound that rule's error."""

from __future__ import annotations

import torch
from torch import Tensor


def jacobi_matrix(nodes: Tensor, weights: Tensor) -> Tensor:
    """The tridiagonal matrix whose Gauss rule these are, by Lanczos on the nodes themselves.

    Source: Gragg and Harrod (1984); here with full reorthogonalisation.

    Args:
        nodes: shape (j,).
        weights: positive, sum to 1.
    """
    start = weights.sqrt()
    basis = [start / start.norm()]
    diagonal, off = [], []
    for _ in range(len(nodes)):
        image = nodes * basis[-1]
        diagonal.append(torch.dot(image, basis[-1]))
        whole = torch.stack(basis)
        for _ in range(2):
            image = image - whole.mT @ (whole @ image)
        length = image.norm()
        if len(basis) == len(nodes) or not bool(length > 1e-15 * nodes.abs().max()):
            break
        off.append(length)
        basis.append(image / length)
    matrix = torch.diag(torch.stack(diagonal))
    if off:
        beside = torch.stack(off)
        matrix = matrix + torch.diag(beside, 1) + torch.diag(beside, -1)
    return matrix


def rule_of(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights of a tridiagonal matrix's Gauss rule."""
    nodes, vectors = torch.linalg.eigh(matrix)
    return nodes, vectors[0].square()


def radau_rule(matrix: Tensor, at: float) -> tuple[Tensor, Tensor]:
    """The Gauss–Radau rule of as many nodes that has one at a given point.

    With the point at or below the smallest eigenvalue it integrates a logarithm to no more than its
    integral, where Gauss's rule gives no less. Source: Golub and Meurant (1994), Sec. 3.2.

    Args:
        matrix: tridiagonal, shape (j, j).
        at: the point, below all nodes.
    """
    if len(matrix) == 1:
        return torch.full_like(matrix[0], at), torch.ones_like(matrix[0])
    changed = matrix.clone()
    inner = matrix[:-1, :-1] - at * torch.eye(len(matrix) - 1, dtype=matrix.dtype)
    last = torch.zeros_like(inner[:, 0])
    last[-1] = matrix[-1, -2].square()
    changed[-1, -1] = at + torch.linalg.solve(inner, last)[-1]
    return rule_of(changed)
