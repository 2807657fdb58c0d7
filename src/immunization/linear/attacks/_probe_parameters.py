"""Parameters of every attacker that trains a linear probe."""

from __future__ import annotations

EXTENDS = "_rows_and_repair_parameters"
PARAMETERS = {
    "loss": {
        "enum": ["squared", "logistic", "softmax"],
        "default": "squared",
        "description": "loss that the probe is trained on. Logistic and softmax probes have an "
        "intercept and need labels that vary within a task; other data sets are skipped.",
    },
    "restarts": {
        "type": "integer",
        "minimum": 0,
        "default": 0,
        "description": "number of random starts, of which the fastest counts; weights are drawn "
        "from N(0, 1/(3D)), the variance of PyTorch's linear layer. 0 starts once, at zero.",
    },
}
