"""What every attacker that trains a linear probe can be told."""

from __future__ import annotations

EXTENDS = "_rows_and_repair_parameters"
PARAMETERS = {
    "loss": {
        "enum": ["squared", "logistic", "softmax"],
        "default": "squared",
        "description": "what the probe is trained on; logistic and softmax probes have an "
        "intercept and need labels that vary within a task, other data sets are left out.",
    },
    "restarts": {
        "type": "integer",
        "minimum": 0,
        "default": 0,
        "description": "start so many times from random weights N(0, 1/(3D)), the variance of "
        "PyTorch's linear layer, and count the fastest; 0 starts once, at zero.",
    },
}
