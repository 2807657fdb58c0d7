"""Attackers that `attack` and `assess` use unasked, by what they need."""

from __future__ import annotations

from typing import Any

ONE_SOLVE = "one solve"
ATTACKERS: dict[str, dict[str, Any]] = {
    "gradient descent": {
        "gradient_descent": {},
    },
    "momentum and adaptive steps": {
        "line_search": {"use": "gradient_descent", "step": "line_search"},
        "nesterov": {"momentum": "optimal"},
        "chebyshev": {},
        "conjugate_gradients": {},
        "lbfgs": {},
        "adam": {"learning_rate": 0.01},
    },
    ONE_SOLVE: {
        "least_squares": {},
        "ridge": {"use": "least_squares", "ridge": 1e-6},
        "newton": {},
    },
    "repaired features": {
        "scaled_nesterov": {"use": "nesterov", "momentum": "optimal", "repair": "scale"},
        "scaled_conjugate_gradients": {"use": "conjugate_gradients", "repair": "scale"},
        "whitened_gradient_descent": {"use": "gradient_descent", "repair": "ridge_whiten"},
    },
    "another loss": {
        "logistic_lbfgs": {"use": "lbfgs", "loss": "logistic"},
        "logistic_newton": {"use": "newton", "loss": "logistic"},
    },
    "few or unequal rows": {
        "few_rows": {"use": "conjugate_gradients", "fraction": 0.1},
        "reweighted_rows": {"repair": "scale"},
    },
    "non-linear probes": {
        "kernel_ridge": {},
        "nearest_neighbours": {},
        "mlp": {},
    },
}
"""By class of attackers: label, and the entry as a config would have it."""


def standard() -> dict[str, dict[str, Any]]:
    """All of them by label."""
    return {label: entry for group in ATTACKERS.values() for label, entry in group.items()}


def class_of(label: str, entry: dict[str, Any]) -> str:
    """The class that an attacker belongs to; one of a user's own is a class of that name."""
    for name, group in ATTACKERS.items():
        if group.get(label) == entry:
            return name
    return "others"
