"""Algorithm 1 for a network: as printed, and in a form that survives scale control."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from immunization.networks.extremes import (
    RunningMoment,
    eigenvalues,
    r_ill,
    r_well,
    resolved,
    smooth_largest,
    smooth_smallest,
)
from immunization.networks.methods._descent import Batch, benign_loss, descend, sgd
from immunization.networks.methods._problem import Problem
from immunization.networks.training import Recipe

EXTENDS = "_descent"
PARAMETERS: dict[str, dict[str, Any]] = {
    "profile": {
        "enum": ["paper", "corrected"],
        "default": "corrected",
        "description": "paper: loss, R_well and R_ill on minibatch features, SGD. corrected: "
        "smooth log condition numbers of running second moments, which no scaling of the features "
        "changes, AdamW, and D_P's answers held to those of θ₀.",
    },
    "steps": {
        "type": ["integer", "null"],
        "minimum": 1,
        "default": None,
        "description": "minibatches; null for three times through D_H (paper) or 400 (corrected).",
    },
    "batch": {
        "type": ["integer", "null"],
        "minimum": 2,
        "default": None,
        "description": "images of D_P, and as many of D_H, in a minibatch; null for 64 (paper) or "
        "512 (corrected).",
    },
    "eta": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "default": None,
        "description": "learning rate; null for 0.0001 (paper, SGD, of the benign loss) or 0.00002 "
        "(corrected, AdamW, one cycle). At ten times the latter units of a ReLU network die, and "
        "no gradient brings them back.",
    },
    "move": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.00003,
        "description": "profile paper only: each regularizer's weight is such that its first step "
        "moves the trainable part by this share of its length.",
    },
    "balance": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 1,
        "description": "profile paper only: factor on the weight of the harmful term.",
    },
    "decay": {
        "type": "number",
        "minimum": 0,
        "exclusiveMaximum": 1,
        "default": 0.9,
        "description": "profile corrected only: of the running second moments; with 0.9 they hold "
        "some 19 batches.",
    },
    "temperature": {
        "type": "number",
        "minimum": 0,
        "default": 0.3,
        "description": "profile corrected only: τ of the smooth extreme eigenvalues; 0 for the "
        "extremes themselves.",
    },
    "reach": {
        "type": "number",
        "exclusiveMinimum": 1,
        "default": 300,
        "description": "profile corrected only: κ(H_H) that is aimed at, as a multiple of its "
        "value at θ₀; without an aim, units of a ReLU network die and the features lose rank.",
    },
    "allow": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.7,
        "description": "profile corrected only: κ(H_P) that is aimed at, as a share of its value "
        "at θ₀; under 1, for what holds on minibatches should hold on held-out images.",
    },
    "weight_h": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.1,
        "description": "profile corrected only: weight of how far log κ(H_H) is from its aim.",
    },
    "weight_p": {
        "type": "number",
        "minimum": 0,
        "default": 1,
        "description": "profile corrected only: weight of what log κ(H_P) has in excess.",
    },
}


START_ROWS = 16384
DEFAULTS = {
    "paper": {"batch": 64, "eta": 1e-4},
    "corrected": {"batch": 512, "eta": 2e-5, "steps": 400},
}


class Corrected:
    """The scale-free objective.

    L = KL(answers of θ₀ ‖ answers of θ on D_P) + cross-entropy on D_P
    + w_P·max(0, log κ_τ(H_P) − log(allow·κ_τ(H_P at θ₀)))
    + w_H·|log(reach·κ_τ(H_H at θ₀)) − log κ_τ(H_H)|,
    log κ_τ being the difference of the smooth extremes of a running second moment.

    Args:
        problem: before immunization.
        parameters: of the method.
    """

    def __init__(self, problem: Problem, parameters: dict[str, Any]) -> None:
        self.parameters = parameters
        self.head = problem.head
        self.moments = {role: RunningMoment(parameters["decay"]) for role in "ph"}
        self.before = Frozen(problem)
        self.ranks = dict(zip("ph", problem.ranks, strict=True))
        self.aims = {}
        for role, part, factor in (
            ("p", problem.primary, parameters["allow"]),
            ("h", problem.harmful, parameters["reach"]),
        ):
            start = problem.all_features(part, START_ROWS)
            kappa = float(self.log_kappa(start.mT @ start / len(start), role))
            self.aims[role] = kappa + math.log(factor)
        self.memory: dict[str, Tensor] = {}

    def log_kappa(self, moment: Tensor, role: str) -> Tensor:
        """Smooth log κ of a second moment over its non-zero spectrum, round-off cut off."""
        values = resolved(torch.linalg.eigvalsh(moment)[-self.ranks[role] :])
        tau = self.parameters["temperature"]
        return smooth_largest(values, tau) - smooth_smallest(values, tau)

    def moment(self, role: str, features: Tensor) -> Tensor:
        """The running second moment of one task; what it carries lies in `memory`."""
        running = self.moments[role]
        running.total = self.memory.get(role)
        running.weight = float(self.memory.get(f"weight.{role}", torch.zeros(())))
        value = running.update(features)
        assert running.total is not None
        self.memory[role] = running.total
        self.memory[f"weight.{role}"] = torch.tensor(running.weight, dtype=torch.float64)
        return value

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The terms, weighed."""
        kappa = {
            role: self.log_kappa(self.moment(role, features), role)
            for role, features in (("p", batch.features_p), ("h", batch.features_h))
        }
        return {
            "loss": benign_loss(batch) + self.before.divergence(batch),
            "benign": self.parameters["weight_p"] * (kappa["p"] - self.aims["p"]).clamp_min(0),
            "harmful": self.parameters["weight_h"] * (self.aims["h"] - kappa["h"]).abs(),
        }


class Frozen:
    """Answers of θ₀, for comparison."""

    def __init__(self, problem: Problem) -> None:
        self.tail, self.head = copy.deepcopy(problem.tail), copy.deepcopy(problem.head)

    def divergence(self, batch: Batch) -> Tensor:
        """Mean KL divergence of θ's answers on D_P from those of θ₀."""
        with torch.no_grad():
            wanted = self.head(self.tail(batch.activations_p)).log_softmax(dim=1)
        return nn.functional.kl_div(
            batch.logits_p.log_softmax(dim=1), wanted, log_target=True, reduction="batchmean"
        )


def immunize(problem: Problem, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """By the profile."""
    chosen = DEFAULTS[parameters["profile"]] | {
        key: value for key, value in parameters.items() if value is not None
    }
    if parameters["profile"] == "paper":
        chosen = {"steps": None} | chosen
        rank_p, rank_h = problem.ranks

        def terms(batch: Batch) -> dict[str, Tensor]:
            width = batch.features_p.shape[1]
            return {
                "loss": benign_loss(batch),
                "benign": r_well(eigenvalues(batch.features_p, rank_p), width),
                "harmful": r_ill(eigenvalues(batch.features_h, rank_h)),
            }

        return descend(problem, chosen, terms, recipe=sgd(chosen))
    objective = Corrected(problem, chosen)
    return descend(
        problem,
        chosen,
        objective,
        recipe=Recipe("adamw", chosen["eta"]),
        weights={},
        memory=objective.memory,
    )
