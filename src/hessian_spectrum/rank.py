"""Numerical rank, decided once, from the data.

Everything downstream (condition numbers, range factors, limits) keeps the rank that is found
here, with the tolerance it was found at. Nothing inside an optimisation loop decides it again.
"""

from __future__ import annotations

import torch
from torch import Tensor

DOUBLE = torch.finfo(torch.float64).eps
"""Everything here is computed in float64, whatever the dtype of the data."""


def relative_tolerance(
    rows: int, columns: int, dtype: torch.dtype, *, offset: float = 1.0
) -> float:
    """Tolerance on singular values relative to the largest; values under it are noise.

    It is the larger of two numbers with different causes:

    - **The data were rounded.** Each entry of X is off by up to u = eps/2 of itself, eps being
      that of the dtype the data came in. So ‖E‖₂ ≤ ‖E‖_F ≤ u·‖X‖_F ≤ u·√min(N, D)·σ_1, and no
      singular value moves further (Weyl). This does not grow with N for tall data. Casting float32
      data to float64 adds digits, not information.
    - **We computed.** A backward-stable factorisation in float64 moves singular values by a modest
      multiple of its eps times σ_1, which grows with the size: max(N, D)·eps of float64.

    Where a mean was taken off, both the data and the mean were rounded relative to what they were
    before, and only a part of their norm is left: the first number becomes u·√min(N, D)·(2f − 1)
    for an ``offset`` f.

    >>> import torch
    >>> f"{relative_tolerance(1_000_000, 16, torch.float32):.2g}"
    '2.4e-07'
    >>> f"{relative_tolerance(1_000_000, 16, torch.float64):.2g}"
    '2.2e-10'

    Args:
        rows: number of samples N.
        columns: number of features D.
        dtype: floating dtype of the data before any upcast.
        offset: Frobenius norm of the features over that of the centred ones, at least 1; 1 where
            no mean was taken off.

    Returns:
        The tolerance (dimensionless). Its square applies to eigenvalues of a Gram matrix.
    """
    rounding = min(rows, columns) ** 0.5 * torch.finfo(dtype).eps / 2 * (2 * offset - 1)
    return max(rounding, max(rows, columns) * DOUBLE)


def eigenvalue_tolerance(dimension: int, dtype: torch.dtype) -> float:
    """Tolerance on the eigenvalues of a formed matrix relative to the largest.

    D·eps, by which rounding the entries of a D×D matrix to ``dtype`` and summing them up in it move
    its eigenvalues at most. 16-bit entries are rounded once and added up in more digits: √D·eps,
    which leaves something to see. A factor sees deeper (`relative_tolerance`, squared), since it
    never squares.

    Args:
        dimension: D, the size of the matrix.
        dtype: floating dtype that the matrix was formed in.
    """
    eps = torch.finfo(dtype).eps
    return dimension**0.5 * eps if eps > 1e-6 else dimension * eps


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
