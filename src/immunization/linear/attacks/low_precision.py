"""Least squares on features in single precision, as most training code keeps them.

"One solve at any κ" holds in double precision. Rounded to float32, directions under eps of the
largest are gone, and normal equations lose those under its square root.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from immunization.linear.attacks._dense_objectives import GramObjective
from immunization.linear.attacks._flops import solve
from immunization.linear.attacks._objective import Attack, AttackPlan, Objective
from immunization.linear.attacks._once import after_one_step

EXTENDS = "_rows_and_repair_parameters"
EIGENBASIS = False
ROWS = True
GRID: tuple[str, ...] = ()
PARAMETERS = {
    "loss": {
        "enum": ["squared"],
        "default": "squared",
        "description": "loss that the probe is trained on.",
    },
    "solver": {
        "enum": ["svd", "normal_equations"],
        "default": "svd",
        "description": "svd: of the features, singular values under eps of the largest left out "
        "(max(N, D)·eps, as library solvers have it, solves fewer). normal_equations: eigenvalues "
        "of the Gram matrix in single precision, likewise.",
    },
}


def flops(rows: int, dimension: int, parameters: dict[str, Any]) -> tuple[float, float]:
    """Set-up and each step."""
    return 0.0, solve(rows, dimension)


def attack(objective: Objective, parameters: dict[str, Any], plan: AttackPlan) -> Attack:
    """One solve in float32; its loss is taken in float64."""
    assert isinstance(objective, GramObjective)
    assert objective.data is not None
    features, labels = (part.float() for part in objective.data)
    weights = SOLVERS[parameters["solver"]](features, labels[..., None]).squeeze(-1)
    return after_one_step(objective, weights.to(objective.gram)[:, None], plan)


def by_svd(features: Tensor, labels: Tensor) -> Tensor:
    """Minimum-norm solution through the singular values of the features, (M, D, 1)."""
    left, values, right = torch.linalg.svd(features, full_matrices=False)
    cut = torch.finfo(values.dtype).eps * values[:, :1]
    inverse = torch.where(values > cut, 1 / values.clamp_min(1e-30), 0.0)
    return right.mT @ (inverse[..., None] * (left.mT @ labels))


def by_normal_equations(features: Tensor, labels: Tensor) -> Tensor:
    """The same through the Gram matrix."""
    gram = features.mT @ features
    cut = torch.finfo(gram.dtype).eps
    return torch.linalg.pinv(gram, rtol=cut, hermitian=True) @ (features.mT @ labels)


SOLVERS = {"svd": by_svd, "normal_equations": by_normal_equations}
