"""Scales of a table's features: what an extractor θ that is made on them holds for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hessian_spectrum import relative_tolerance

Matrix = NDArray[np.float64]


class Scaling(NamedTuple):
    """Features are (x − mean)/deviation, column by column."""

    mean: Matrix
    deviation: Matrix

    def __call__(self, values: Matrix) -> Matrix:
        """Scaled values, (N, D)."""
        return (values - self.mean) / self.deviation

    def offset(self, values: Matrix) -> float:
        """Frobenius norm of the values in units of the deviations over that of the scaled ones."""
        left = np.linalg.norm(self(values))
        return float(np.linalg.norm(values / self.deviation) / left) if left > 0 else 1.0


def fitted(values: Matrix, other: Matrix | None = None) -> Scaling:
    """Mean and deviation (N − 1 in the denominator) of each column.

    A constant column has its value for a mean and becomes 0. Its deviation is that of ``other``
    rows, or 1.

    Args:
        values: rows that they are fitted on, (N, D).
        other: rows that will be scaled too.
    """
    low, high = values.min(axis=0), values.max(axis=0)
    constant = low == high
    mean = np.where(constant, low, values.mean(axis=0))
    deviation = _deviation(values)
    if other is not None and len(other) > 1:
        spread = _deviation(other)
        spread = np.where(other.min(axis=0) == other.max(axis=0), 0.0, spread)
        deviation = np.where(constant, spread, deviation)
        constant = constant & (spread == 0)
    return Scaling(mean, np.where(constant, 1.0, deviation))


def _deviation(values: Matrix) -> Matrix:
    """Standard deviation of each column; its square would not fit where values are 1e-170."""
    if len(values) < 2:
        return np.zeros(values.shape[1])
    largest = np.abs(values).max(axis=0)
    unit = np.exp2(np.floor(np.log2(np.where(largest > 0, largest, 1.0))))
    deviation: Matrix = (values / unit).std(axis=0, ddof=1) * unit
    return deviation


def without_round_off(scaled: Matrix, offset: float) -> Matrix:
    """Scaled features without directions that are nothing but the digits that their means took.

    Two columns that are one up to an offset differ, once the offset is gone, by what it had
    rounded off. Singular values under the tolerance that the offset leaves are set to zero.

    Args:
        scaled: features, (N, D).
        offset: see `Scaling.offset`.
    """
    if not scaled.size:
        return scaled
    rows, columns = scaled.shape
    tolerance = relative_tolerance(rows, columns, torch.float64, offset=offset)
    if tolerance <= relative_tolerance(rows, columns, torch.float64):
        return scaled
    _, values, right = np.linalg.svd(scaled, full_matrices=False)
    noise = right[(values > 0) & (values <= tolerance * values[0])]
    for _ in range(2):
        scaled = scaled - (scaled @ noise.T) @ noise
    return scaled
