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


def eigenvalue_tolerance(dimension: int, dtype: torch.dtype) -> float:
    """Tolerance on the eigenvalues of a formed matrix relative to the largest: ``dimension * eps``.

    Forming XᵀX and decomposing it move each eigenvalue by up to about that much of σ_1, so that
    what lies under it cannot be told from zero. A factor sees deeper (`relative_tolerance`,
    squared), since it never squares.

    Args:
        dimension: D, the size of the matrix.
        dtype: floating dtype of the data before any upcast.
    """
    return dimension * torch.finfo(dtype).eps


def data_dtype(features: Tensor) -> torch.dtype:
    """The dtype whose eps limits what the data can tell; integers are exact, as float64.

    Raises:
        ValueError: for complex data.
    """
    if features.dtype.is_complex:
        raise ValueError("Features and matrices are real. Got complex numbers.")
    return features.dtype if features.dtype.is_floating_point else torch.float64


def numerical_rank(singular_values: Tensor, tolerance: float) -> Tensor:
    """Count values above ``tolerance`` times the largest one.

    Args:
        singular_values: shape (..., m), any order: singular values, or eigenvalues of a positive
            semi-definite matrix, where round-off may have left negative ones.
        tolerance: relative to the largest, see `relative_tolerance` for singular values and
            `eigenvalue_tolerance` for eigenvalues.

    Returns:
        Integer tensor of shape (...); 0 for a zero matrix.
    """
    if singular_values.shape[-1] == 0:
        return torch.zeros(singular_values.shape[:-1], dtype=torch.int64)
    largest = singular_values.amax(dim=-1, keepdim=True)
    return ((singular_values > tolerance * largest) & (largest > 0)).sum(dim=-1)
