"""Descent on a sum of terms over minibatches, for the methods that take steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from immunization.networks.methods._problem import Problem
from immunization.networks.training import Recipe, Stepper
from immunization.runtime.errors import UserError
from immunization.runtime.log import LOG

PARAMETERS = {
    "steps": {
        "type": ["integer", "null"],
        "minimum": 1,
        "default": None,
        "description": "number of minibatches; null goes through D_H three times, as in the paper.",
    },
    "batch": {
        "type": "integer",
        "minimum": 2,
        "default": 64,
        "description": "images of D_P, and as many of D_H, in a minibatch; the paper takes 64.",
    },
    "eta": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.0001,
        "description": "learning rate of the benign loss (SGD with momentum 0.9).",
    },
    "relative_step": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.00003,
        "description": "length of each regularizer's first step, relative to the length of the "
        "trainable part; it sets the regularizer's weight. The paper balances by gradient norms "
        "and prints no weights.",
    },
    "balance": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 1,
        "description": "factor on the weight of the harmful term.",
    },
}
RECORD_EVERY = 10


class Batch(NamedTuple):
    """What terms are computed from.

    Attributes:
        activations_p: what D_P's features come from.
        features_p, features_h: (n, D), float32.
        logits_p: of D_P's head.
        labels_p, labels_h: classes.
        step: from 0.
    """

    activations_p: Tensor
    features_p: Tensor
    features_h: Tensor
    logits_p: Tensor
    labels_p: Tensor
    labels_h: Tensor
    step: int


Terms = Callable[[Batch], dict[str, Tensor]]
"""Terms of the objective, ``loss`` for D_P's and others by name; their sum is minimised."""


def length(tensors: list[Tensor]) -> Tensor:
    """Euclidean length of all together."""
    return torch.stack([t.norm() for t in tensors]).norm()


def default_steps(problem: Problem, parameters: dict[str, Any]) -> int:
    """Three times through D_H."""
    if parameters["steps"] is not None:
        return int(parameters["steps"])
    return max(1, 3 * len(problem.harmful) // min(parameters["batch"], len(problem.harmful)))


def descend(
    problem: Problem,
    parameters: dict[str, Any],
    terms: Terms,
    *,
    recipe: Recipe,
    weights: dict[str, float] | None = None,
    every_step: bool = False,
    memory: dict[str, Tensor] | None = None,
    check: Callable[[int], bool] | None = None,
    check_every: int = 1,
) -> list[dict[str, Any]]:
    """Minimise Σ weight·term over the tail and the head.

    Args:
        problem: its tail and head are changed.
        parameters: `steps`, `batch`, and for balanced weights `relative_step` and `balance`.
        terms: the objective.
        recipe: how to step.
        weights: of the terms; balanced at the first step where None: see `relative_step`.
        every_step: balance anew at every step.
        memory: tensors that terms carry from step to step, kept in checkpoints; changed in place.
        check: called with the number of steps taken: before the first step, at intervals, and after
            the last; says whether it put other weights in place, for which momentum begins anew.
        check_every: steps between two checks.

    Returns:
        The trajectory: every tenth step, and the last, with the value of each term.

    Raises:
        UserError: where it diverges.
    """
    model = nn.ModuleList([problem.tail, problem.head])
    stepper = Stepper(model, recipe, half=False)
    trained: list[Tensor] = [p for p in problem.tail.parameters() if p.requires_grad]
    steps = default_steps(problem, parameters)
    rows: list[dict[str, Any]] = []
    begin = 0
    memory = {} if memory is None else memory
    kept = problem.checkpoint.read(problem.device)
    if kept is not None:
        tensors, state = kept
        memory |= {n.removeprefix("memory."): v for n, v in tensors.items() if n[:7] == "memory."}
        stepper.load({n: v for n, v in tensors.items() if n[:7] != "memory."})
        begin, rows, weights = state["step"], state["rows"], state["weights"]
        LOG.info("goes on from step %d of %d", begin, steps)
    began = time.monotonic()
    for step, drawn in enumerate(problem.draws(begin, steps, parameters["batch"]), start=begin):
        if check is not None and step % check_every == 0 and check(step):
            stepper.restart({})
        activations_p, labels_p, activations_h, labels_h = drawn
        # One pass for both: no sample's features depend on another.
        both = problem.tail(torch.cat([activations_p, activations_h]))
        if not bool(torch.isfinite(both.detach()).all()):
            raise diverged(problem, step)
        features_p, features_h = both.split([len(labels_p), len(labels_h)])
        batch = Batch(
            activations_p,
            features_p,
            features_h,
            problem.head(features_p),
            labels_p,
            labels_h,
            step,
        )
        losses = terms(batch)
        if weights is None or every_step:
            weights = _balanced(problem, losses, trained, parameters, step)
        total = torch.stack([weights.get(name, 1.0) * v for name, v in losses.items()]).sum()
        stepper.optimiser.zero_grad(set_to_none=True)
        total.backward()
        for group in stepper.optimiser.param_groups:
            rate = recipe.rate(step, steps)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        stepper.optimiser.step()
        if step % RECORD_EVERY == 0 or step == steps - 1:
            values = {f"term_{name}": float(value.detach()) for name, value in losses.items()}
            if not all(abs(v) < float("inf") for v in values.values()):
                raise diverged(problem, step)
            rows.append({"step": step, **values})
        if problem.checkpoint.due():
            tensors = stepper.tensors() | {f"memory.{n}": v for n, v in memory.items()}
            problem.checkpoint.write(tensors, {"step": step + 1, "rows": rows, "weights": weights})
    if check is not None:
        check(steps)
    LOG.info("%d steps, %.1f s", steps - begin, time.monotonic() - began)
    return rows


def diverged(problem: Problem, step: int) -> UserError:
    """What is said where a descent diverges."""
    return UserError(
        f"immunization of {' on '.join(map(str, problem.key[:2]))} diverged at step {step}: "
        "features or a term of the objective are not finite. Take a smaller `eta` or "
        "`relative_step` for this method, or fewer `steps`."
    )


def _balanced(
    problem: Problem,
    found: dict[str, Tensor],
    trained: list[Tensor],
    parameters: dict[str, Any],
    step: int,
) -> dict[str, float]:
    """Weights with which each regularizer's step has the length that `relative_step` asks for.

    Raises:
        UserError: for a term without a gradient at the first step (later on it weighs nothing), or
            one that is not finite.
    """
    size = float(length([t.detach() for t in trained]))
    weights: dict[str, float] = {}
    for name, value in found.items():
        if name == "loss":
            weights[name] = 1.0
            continue
        gradient = torch.autograd.grad(value, trained, retain_graph=True, materialize_grads=True)
        slope = float(length(list(gradient)))
        if not slope < float("inf"):
            raise diverged(problem, step)
        if slope == 0 and step > 0:
            weights[name] = 0.0
            continue
        if slope == 0:
            raise UserError(
                f"the term '{name}' has no gradient at the start, so it cannot be weighed: do the "
                "features of D_P and D_H vary at all?"
            )
        factor = parameters["balance"] if name == "harmful" else 1.0
        weights[name] = factor * parameters["relative_step"] * size / (parameters["eta"] * slope)
    return weights


def sgd(parameters: dict[str, Any]) -> Recipe:
    """The paper's: SGD with momentum 0.9 and a constant rate."""
    return Recipe("sgd", parameters["eta"], schedule="constant")


def benign_loss(batch: Batch) -> Tensor:
    """Cross-entropy of D_P."""
    return nn.functional.cross_entropy(batch.logits_p, batch.labels_p)
