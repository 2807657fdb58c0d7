"""Numerical rank, decided once, from the data.

Everything downstream (condition numbers, range factors, limits) keeps the rank that is found
here, with the tolerance it was found at. Nothing inside an optimisation loop decides it again.
"""

from __future__ import annotations

import torch
from torch import Tensor


def relative_tolerance(rows: int, columns: int, dtype: torch.dtype) -> float:
    """Tolerance on singular values relative to the largest: ``max(rows, columns) * eps``.

    A backward-stable factorisation moves singular values by a modest multiple of ``eps`` times
    the largest one, growing with the size; values under that are noise. ``dtype`` is the dtype
    the *data* came in: casting float32 data to float64 adds digits, not information.

    Args:
        rows: number of samples N.
        columns: number of features D.
        dtype: floating dtype of the data before any upcast.

    Returns:
        The tolerance (dimensionless). Its square applies to eigenvalues of a Gram matrix.
    """
    return max(rows, columns) * torch.finfo(dtype).eps


def numerical_rank(singular_values: Tensor, tolerance: float) -> Tensor:
    """Count singular values above ``tolerance`` times the largest one.

    Args:
        singular_values: shape (..., m), non-negative, any order.
        tolerance: relative to the largest singular value, see `relative_tolerance`.

    Returns:
        Integer tensor of shape (...); 0 for a zero matrix.
    """
    if singular_values.shape[-1] == 0:
        return torch.zeros(singular_values.shape[:-1], dtype=torch.int64)
    largest = singular_values.amax(dim=-1, keepdim=True)
    return ((singular_values > tolerance * largest) & (largest > 0)).sum(dim=-1)
