"""Matrices with a known spectrum, so that every test has an exact answer."""

from __future__ import annotations

import torch
from torch import Tensor

N = 40


def rotation(n: int, generator: torch.Generator) -> Tensor:
    """A random orthogonal matrix."""
    return torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=generator)).Q


def matrix_of(eigenvalues: Tensor, generator: torch.Generator) -> Tensor:
    """A symmetric matrix with these eigenvalues, in a random basis."""
    values = torch.as_tensor(eigenvalues, dtype=torch.float64)
    q = rotation(len(values), generator)
    h = q @ torch.diag(values) @ q.mT
    return (h + h.mT) / 2


def features_of(eigenvalues: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    """X with XᵀX of these eigenvalues; exact in X, whose singular values are their roots."""
    values = torch.as_tensor(eigenvalues, dtype=torch.float64)
    n = len(values)
    left = torch.linalg.qr(torch.randn(rows, n, dtype=torch.float64, generator=generator)).Q
    return (left * values.sqrt()) @ rotation(n, generator).mT


def spectra() -> dict[str, Tensor]:
    """The cases that break eigensolvers, ascending."""
    double = torch.float64
    return {
        "identity": torch.ones(N, dtype=double),
        "spread 1e4": torch.logspace(-2, 2, N, dtype=double),
        "spread 1e9": torch.logspace(-6, 3, N, dtype=double),
        "spread 1e14": torch.logspace(-10, 4, N, dtype=double),
        "tied at both ends": torch.tensor([1e-3] * 5 + [1.0] * 30 + [7.0] * 5, dtype=double),
        "clustered at both ends": torch.cat(
            [
                1e-3 * (1 + 1e-9 * torch.arange(6, dtype=double)),
                torch.linspace(1, 2, 28, dtype=double),
                9 - 1e-9 * torch.arange(6, dtype=double).flip(0),
            ]
        ),
        "dominated": torch.cat(
            [torch.linspace(0.1, 1, N - 1, dtype=double), torch.tensor([100.0], dtype=double)]
        ),
        "tiny": 1e-10 * torch.logspace(-3, 0, N, dtype=double),
        "huge": 1e10 * torch.logspace(-3, 0, N, dtype=double),
        "three": torch.tensor([1.0, 2.0, 3.0], dtype=double),
        "one": torch.tensor([5.0], dtype=double),
    }
