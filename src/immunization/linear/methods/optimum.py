"""The closed-form optimum: the largest κ(H_H) that a budget for κ(H_P) allows.

Not in the paper. For the limit and its proof see the documentation of
`hessian_spectrum.immunizability`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hessian_spectrum import RangeFactor, factor_condition, generalized_spectrum, optimal_extractor
from hessian_spectrum.kernels.cuda_streams import map_streams
from immunization.linear.tasks import Problem

EXTENDS = "_kappa_budget"
PARAMETERS: dict[str, Any] = {}


def depends_on_seed(parameters: dict[str, Any]) -> bool:
    """Whether θ depends on the seed beyond the tasks."""
    return False


def immunize(problem: Problem, parameters: dict[str, Any]) -> Tensor:
    """Returns θ*, shape (B, D, D)."""
    budget = parameters["budget"]

    def one(pair: tuple[RangeFactor, RangeFactor]) -> Tensor:
        spectrum = generalized_spectrum(*pair, unseen_floor=parameters["unseen_floor"])
        allowed = factor_condition(pair[0]) if budget == "reference" else budget
        return optimal_extractor(spectrum, allowed)

    pairs = list(zip(problem.primary.range_factors(), problem.harmful.range_factors(), strict=True))
    theta = torch.stack(map_streams(one, pairs, problem.primary.factor.device))
    # κ does not see the scale; keep that of the identity so that losses stay comparable.
    return theta * (problem.dimension**0.5 / torch.linalg.matrix_norm(theta)[:, None, None])
