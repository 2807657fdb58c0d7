"""The closed form: a linear layer after the features, its inverse folded into D_P's head."""

from __future__ import annotations

from typing import Any

import torch

from hessian_spectrum import factor_condition, generalized_spectrum, optimal_extractor, range_factor
from immunization.networks.backbones._backbone import Layer
from immunization.networks.methods._problem import Problem

PARAMETERS: dict[str, dict[str, Any]] = {
    "budget": {
        "oneOf": [{"const": "reference"}, {"type": "number", "minimum": 1}],
        "default": "reference",
        "description": "allowed κ(H_P): reference for its value at θ₀, or a number ≥ 1.",
    },
    "unseen_floor": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1,
        "default": 0.001,
        "description": "energy assigned to directions that D_P's features do not use, relative to "
        "D_P's smallest non-zero eigenvalue.",
    },
    "rows": {
        "type": "integer",
        "minimum": 2,
        "default": 16384,
        "description": "largest number of training images of each task for the second moments.",
    },
}


def immunize(problem: Problem, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Set the layer Θ* of `hessian_spectrum.optimal_extractor` and change the head to W·Θ*⁻ᵀ.

    D_P's answers stay what they were. Whoever gets the weights can leave the layer out again: this
    is what condition numbers alone can ask for, and no protection.
    """
    primary = range_factor(problem.all_features(problem.primary, parameters["rows"]))
    harmful = range_factor(problem.all_features(problem.harmful, parameters["rows"]))
    floor = parameters["unseen_floor"] if primary.rank < primary.basis.shape[0] else None
    spectrum = generalized_spectrum(primary, harmful, unseen_floor=floor)
    budget = parameters["budget"]
    if budget == "reference":
        budget = factor_condition(primary)
    theta = optimal_extractor(spectrum, budget)
    # Features keep their mean energy on D_P.
    energy = float(primary.singular_values.square().sum())
    factor = primary.matrix.mT @ theta
    theta = theta * (energy / float(factor.square().sum())) ** 0.5
    head = problem.head.weight.detach().to(torch.float64)
    problem.tail.layer = Layer(theta)
    problem.head.weight = torch.nn.Parameter(torch.linalg.solve(theta, head.mT).mT.contiguous())
    bias = problem.head.bias
    assert bias is not None
    problem.head.bias = torch.nn.Parameter(bias.detach().to(torch.float64))
    return []
