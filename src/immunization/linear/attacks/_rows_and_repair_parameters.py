"""What every attacker can be told about the data it trains on."""

from __future__ import annotations

PARAMETERS = {
    "repair": {
        "enum": ["none", "centre", "scale", "pca_whiten", "zca_whiten", "ridge_whiten"],
        "default": "none",
        "description": "what is done to the features first. centre: subtract the mean, and give "
        "the probe an intercept. scale: centre, and give each feature unit variance. pca_whiten, "
        "zca_whiten: centre, and give every direction unit variance, in principal axes or in "
        "those of the features. ridge_whiten: the same with a ridge, so that small directions "
        "stay small.",
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
        "description": "share of the rows of D_H that the attacker has, at least two of each "
        "class.",
    },
    "unseen_rows": {
        "type": "boolean",
        "default": False,
        "description": "true: the attacker has rows that the publisher never saw, half of those "
        "held out, and is tested on the other half. Data sets without held-out rows are left out.",
    },
}
