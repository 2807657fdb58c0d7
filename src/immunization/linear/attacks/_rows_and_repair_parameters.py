"""Parameters of every attacker: its rows, and its repair of the features."""

from __future__ import annotations

PARAMETERS = {
    "repair": {
        "enum": ["none", "centre", "scale", "pca_whiten", "zca_whiten", "ridge_whiten"],
        "default": "none",
        "description": "what the attacker does to the features first. centre: subtracts the mean, "
        "and gives the probe an intercept. scale: centres, and gives each feature unit variance. "
        "pca_whiten, zca_whiten: centres, and gives every direction unit variance, in principal "
        "axes or in those of the features. ridge_whiten: the same with a ridge, so that small "
        "directions stay small.",
    },
    "repair_ridge": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 1e-6,
        "description": "ridge of ridge_whiten, relative to the largest eigenvalue.",
    },
    "fraction": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1,
        "default": 1,
        "description": "share of D_H's rows that the attacker has, at least two of each class.",
    },
    "unseen_rows": {
        "type": "boolean",
        "default": False,
        "description": "true: the attacker trains on half of the held-out rows, which the "
        "publisher never saw, and is tested on the other half. Data sets without held-out rows "
        "are skipped.",
    },
}
