"""What an attack costs on the data, in floating point operations: the attacker's bill, not ours."""

from __future__ import annotations


def passes(rows: int, dimension: int, count: float = 2, extra: float = 0) -> float:
    """``count`` products with the N×D features, and ``extra`` operations for each weight."""
    return 2 * count * rows * dimension + extra * dimension


def solve(rows: int, dimension: int) -> float:
    """Gram matrix (half of it), Cholesky factor, two triangular solves, and Xᵀy."""
    return rows * dimension**2 + dimension**3 / 3 + 2 * dimension**2 + 2 * rows * dimension


REPAIR_EIGH = 9
"""D³ times this for all eigenpairs of a symmetric matrix (Golub and Van Loan, *Matrix
Computations*, §8.3)."""


def repair(kind: str, rows: int, dimension: int) -> float:
    """Cost of feature repair before the attack."""
    if kind in ("none", "intercept"):
        return 0.0
    if kind == "centre":
        return 2.0 * rows * dimension
    if kind == "scale":
        return 5.0 * rows * dimension
    whitening = rows * dimension**2 + REPAIR_EIGH * dimension**3
    return 2.0 * rows * dimension + whitening + 2.0 * rows * dimension**2
