"""A linear probe on features computed once: the whole grid of attackers as one tensor program."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch

from immunization.networks.attacks._victim import AttackedModel, Frames, recorded_steps
from immunization.networks.probe_sweep import Grid, least_squares, repair, sweep
from immunization.runtime.log import LOG

PARAMETERS: dict[str, dict[str, Any]] = {
    "sgd": {
        "type": "array",
        "items": {"type": "number", "exclusiveMinimum": 0},
        "default": [0.1, 0.3, 1, 3, 10],
        "description": "learning rates of SGD (Nesterov momentum 0.9), in units of 1/L.",
    },
    "adam": {
        "type": "array",
        "items": {"type": "number", "exclusiveMinimum": 0},
        "default": [0.0003, 0.001, 0.003, 0.01, 0.03],
        "description": "learning rates of Adam, on features of unit scale.",
    },
    "ridges": {
        "type": "array",
        "items": {"type": "number", "exclusiveMinimum": 0},
        "default": [1e-8, 1e-6, 1e-4, 0.01],
        "description": "ridges of closed-form least squares, relative to the largest eigenvalue. "
        "Its cost is counted as the steps of one pass over the attacker's images, which FᵀF "
        "takes.",
    },
    "fractions": {
        "type": "array",
        "items": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "minItems": 1,
        "default": [1, 0.3, 0.1],
        "description": "shares of each class's training images that attackers have.",
    },
    "repairs": {
        "type": "array",
        "items": {"enum": ["none", "standardise", "whiten"]},
        "minItems": 1,
        "default": ["none", "standardise", "whiten"],
        "description": "what the attacker does to the features first; none still rescales them to "
        "unit scale.",
    },
    "steps": {
        "type": "integer",
        "minimum": 1,
        "default": 720,
        "description": "number of steps, one minibatch each.",
    },
    "batch": {
        "type": "integer",
        "minimum": 2,
        "default": 256,
        "description": "number of images in a minibatch.",
    },
}


@torch.no_grad()
def attack(victim: AttackedModel, parameters: dict[str, Any]) -> Frames:
    """All seeds, fractions, repairs, optimisers and rates together."""
    records = recorded_steps(parameters["steps"])
    grid = Grid(
        parameters["sgd"], parameters["adam"], parameters["ridges"], parameters["steps"],
        parameters["batch"], records,
    )  # fmt: skip
    groups, labels, tests, keys = [], [], [], []
    for seed, tail in victim.tails.items():
        tail_in_float32 = tail.float()
        train, test = (
            torch.cat([tail_in_float32(activations) for activations, _ in part.in_order()])
            for part in (victim.train, victim.test)
        )
        for fraction in parameters["fractions"]:
            rows = victim.part(fraction, seed)
            for kind in parameters["repairs"]:
                change = repair(train[rows], kind)
                groups.append(change(train[rows]))
                tests.append(change(test))
                labels.append(victim.train.labels[rows])
                keys.append({"seed": seed, "fraction": fraction, "repair": kind})
    answer = victim.test.labels
    accuracies, losses = sweep(groups, labels, tests, answer, victim.classes, grid, (victim.name,))
    accuracies, losses = accuracies.cpu(), losses.cpu()
    runs: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for g, group in enumerate(keys):
        for m, (name, rate) in enumerate(grid.names):
            row = group | {"learning_rate": rate, "member": f"{name} {rate:g}, {group['repair']}"}
            runs.append(
                row | {"loss": float(losses[g, m]), "accuracy": float(accuracies[-1, g, m])}
            )
            curves += [
                row | {"step": step, "accuracy": float(accuracies[r, g, m])}
                for r, step in enumerate(records)
            ]
    plain = [g for g, group in enumerate(keys) if group["repair"] == parameters["repairs"][-1]]
    solved = least_squares(
        [groups[g] for g in plain], [labels[g] for g in plain], [tests[g] for g in plain],
        answer, victim.classes, parameters["ridges"],
    ).cpu()  # fmt: skip
    for place, g in enumerate(plain):
        for r, ridge in enumerate(parameters["ridges"]):
            row = keys[g] | {"learning_rate": ridge, "member": f"least squares, ridge {ridge:g}"}
            value = float(solved[place, r])
            runs.append(row | {"loss": float("nan"), "accuracy": value})
            curves.append(row | {"step": -(-len(groups[g]) // grid.batch), "accuracy": value})
    best = max(run["accuracy"] for run in runs)
    LOG.info("%s: %d probes, best %.1f %%", victim.name, len(runs), 100 * best)
    return pd.DataFrame(runs).assign(tuned=True), pd.DataFrame(curves).assign(tuned=True)
