"""Algorithm 1 for a network: as printed, and in a form that survives scale control."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from immunization.networks.methods._descent import Batch, benign_loss, descend, diverged, sgd
from immunization.networks.methods._problem import Problem
from immunization.networks.minibatch_spectra import (
    FLOAT64_FLOOR,
    eigenvalues,
    r_ill,
    r_well,
    rank_of,
    resolved,
    running,
    smooth_largest,
    smooth_smallest,
)
from immunization.networks.training import Recipe
from immunization.runtime.log import LOG

EXTENDS = "_descent"
PARAMETERS: dict[str, dict[str, Any]] = {
    "profile": {
        "enum": ["paper", "corrected"],
        "default": "corrected",
        "description": "paper: loss, R_well and R_ill on minibatch features, SGD. corrected: "
        "AdamW on smooth log condition numbers of running second moments, which are invariant to "
        "the features' scale, with D_P's outputs held to those of θ₀.",
    },
    "steps": {
        "type": ["integer", "null"],
        "minimum": 1,
        "default": None,
        "description": "number of minibatches; null goes through D_H three times (paper) or takes "
        "400 (corrected).",
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
        "description": "learning rate; null for 0.0001 (paper, SGD, of the benign loss) or "
        "0.000005 (corrected, AdamW, one cycle). The higher it is, the more units of a ReLU "
        "network die.",
    },
    "relative_step": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.00003,
        "description": "profile paper only: length of each regularizer's first step, relative to "
        "the length of the trainable part; it sets the regularizer's weight.",
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
        "description": "profile corrected only: decay of the running second moments; at 0.9 they "
        "average about 19 batches.",
    },
    "temperature": {
        "type": "number",
        "minimum": 0,
        "default": 0.3,
        "description": "profile corrected only: τ of the smooth extreme eigenvalues; 0 for the "
        "extremes themselves.",
    },
    "harmful_target": {
        "type": "number",
        "exclusiveMinimum": 1,
        "default": 300,
        "description": "profile corrected only: target for κ(H_H), as a multiple of its value at "
        "θ₀. Without a target, units of a ReLU network die and the features lose rank.",
    },
    "benign_target": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.7,
        "description": "profile corrected only: target for κ(H_P), as a share of its value at θ₀. "
        "It is below 1 so that what holds on minibatches also holds on held-out images.",
    },
    "weight_h": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.1,
        "description": "profile corrected only: weight of the distance of log κ(H_H) from its "
        "target.",
    },
    "weight_p": {
        "type": "number",
        "minimum": 0,
        "default": 1,
        "description": "profile corrected only: weight of the amount by which log κ(H_P) exceeds "
        "its target.",
    },
}


DEFAULTS = {
    "paper": {"batch": 64, "eta": 1e-4},
    "corrected": {"batch": 512, "eta": 5e-6, "steps": 400},
}
MANY = 16384
"""Most images of each task that the network is checked on."""
CHECK_EVERY = 20
"""Steps between checks; one costs as much as seven steps where images are in memory."""


class Corrected:
    """The scale-free objective, and the best network on the way.

    L = KL(answers of θ₀ ‖ answers of θ on D_P) + cross-entropy on D_P
    + w_P·max(0, log κ_τ(H_P) − log(benign_target·κ_τ(H_P at θ₀)))
    + w_H·|log(harmful_target·κ_τ(H_H at θ₀)) − log κ_τ(H_H)|,
    log κ_τ being the difference of the smooth extremes of a running second moment.

    A unit of a ReLU network that answers to few images of D_H is one of its smallest eigenvalues,
    and may die altogether: then the features lose rank, and no gradient brings it back. So both
    log κ_τ and both ranks are taken from many images now and then. The network that was nearest to
    both aims is what is released, and what is gone back to where rank was lost.

    Args:
        problem: before immunization.
        parameters: of the method.
    """

    def __init__(self, problem: Problem, parameters: dict[str, Any]) -> None:
        self.problem, self.parameters = problem, parameters
        self.before = Frozen(problem)
        decided = dict(zip("ph", problem.ranks, strict=True))
        self.parts = {"p": problem.primary, "h": problem.harmful}
        self.modules = {"tail": problem.tail, "head": problem.head}
        factors = {"p": parameters["benign_target"], "h": parameters["harmful_target"]}
        moments = self.second_moments()
        # What FᵀF in float64 does not tell from zero can't be steered.
        self.ranks = {role: min(decided[role], rank_of(moments[role])) for role in decided}
        start = {role: float(self.log_kappa(moment, role)) for role, moment in moments.items()}
        self.aims = {role: start[role] + math.log(factors[role]) for role in start}
        # A κ beyond that can't be told from a lost rank.
        most = max(start["h"], -math.log(10 * FLOAT64_FLOOR))
        if self.aims["h"] > most:
            self.aims["h"] = most
            LOG.warning(
                "%s: the aim is κ(H_H) times %.3g, not %g: FᵀF in float64 tells no more",
                problem.key[0], math.exp(most - start["h"]), parameters["harmful_target"],
            )  # fmt: skip
        self.memory: dict[str, Tensor] = {
            "checks": torch.zeros(0, 4, dtype=torch.float64),
            **{f"moment.{role}": moment for role, moment in moments.items()},
        }

    def second_moments(self) -> dict[str, Tensor]:
        """FᵀF/N of many images of each task."""
        moments = {}
        for role, part in self.parts.items():
            features = self.problem.all_features(part, MANY, wide=False)
            moments[role] = features.mT @ features / len(features)
        return moments

    def log_kappa(self, moment: Tensor, role: str) -> Tensor:
        """Smooth log κ of a second moment over its non-zero spectrum, round-off cut off."""
        values = resolved(torch.linalg.eigvalsh(moment)[-self.ranks[role] :])
        tau = self.parameters["temperature"]
        return smooth_largest(values, tau) - smooth_smallest(values, tau)

    def away(self, kappa: dict[str, Tensor]) -> dict[str, Tensor]:
        """How far both log κ are from their aims."""
        return {
            "p": (kappa["p"] - self.aims["p"]).clamp_min(0),
            "h": (self.aims["h"] - kappa["h"]).abs(),
        }

    def check(self, step: int) -> bool:
        """Keep the network where it is the nearest so far, and go back to the nearest where rank
        was lost.

        Args:
            step: number of steps taken.

        Returns:
            Whether it went back.

        Raises:
            UserError: where features are not finite.
        """
        moments = self.second_moments()
        if not all(bool(torch.isfinite(moment).all()) for moment in moments.values()):
            raise diverged(self.problem, step)
        lost = any(rank_of(moments[role]) < self.ranks[role] for role in moments)
        measured = [math.nan, math.nan, math.inf]
        if not lost:
            kappa = {role: self.log_kappa(moment, role) for role, moment in moments.items()}
            away = self.away(kappa)
            measured = [float(v) for v in (kappa["p"], kappa["h"], away["p"] + away["h"])]
        checks = self.memory["checks"]
        nearest = float(checks[:, 3].min()) if len(checks) else math.inf
        self.memory["checks"] = torch.cat([checks, checks.new_tensor([[step, *measured]])])
        if lost:
            LOG.info("step %d: rank was lost, goes back to the best network so far", step)
            self.restore()
        elif measured[-1] <= nearest:
            for name, module in self.modules.items():
                for key, value in module.state_dict().items():
                    self.memory[f"best.{name}.{key}"] = value.clone()
            for role, moment in moments.items():
                self.memory[f"best.moment.{role}"] = moment
        return lost

    def restore(self) -> None:
        """The best network so far, and its second moments."""
        best = {k.removeprefix("best."): v for k, v in self.memory.items() if k[:5] == "best."}
        for name, module in self.modules.items():
            mark = f"{name}."
            module.load_state_dict(
                {k.removeprefix(mark): v for k, v in best.items() if k.startswith(mark)}
            )
        self.memory |= {k: v for k, v in best.items() if k.startswith("moment.")}

    def trajectory(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of the descent and what checks found, with the step that is released."""
        checks = {int(row[0]): row for row in self.memory["checks"].tolist()}
        kept = min(checks, key=lambda step: (checks[step][3], -step))
        if kept == 0:
            LOG.warning("no step came nearer to both aims than θ₀, which is left as it was")
        recorded = {row["step"]: row for row in rows}
        records = []
        for step in sorted(recorded | checks):
            _, kappa_p, kappa_h, _ = checks.get(step, [math.nan] * 4)
            conditions = {"log_kappa_p": kappa_p, "log_kappa_h": kappa_h, "released": step == kept}
            records.append({"step": step} | recorded.get(step, {}) | conditions)
        return records

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The terms, weighed."""
        moments = {}
        for role, features in (("p", batch.features_p), ("h", batch.features_h)):
            moments[role] = running(
                self.memory[f"moment.{role}"], features, self.parameters["decay"]
            )
            self.memory[f"moment.{role}"] = moments[role].detach()
        away = self.away({role: self.log_kappa(moment, role) for role, moment in moments.items()})
        return {
            "loss": benign_loss(batch) + self.before.divergence(batch),
            "benign": self.parameters["weight_p"] * away["p"],
            "harmful": self.parameters["weight_h"] * away["h"],
        }


class Frozen:
    """Answers of θ₀, for comparison."""

    def __init__(self, problem: Problem) -> None:
        self.tail, self.head = copy.deepcopy(problem.tail), copy.deepcopy(problem.head)

    def divergence(self, batch: Batch) -> Tensor:
        """Mean KL divergence of θ's outputs on D_P from those of θ₀."""
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
    rows = descend(
        problem,
        chosen,
        objective,
        recipe=Recipe("adamw", chosen["eta"]),
        weights={},
        memory=objective.memory,
        check=objective.check,
        check_every=CHECK_EVERY,
    )
    objective.restore()
    return objective.trajectory(rows)
