"""Parameters of the methods that reach the limit: how large κ(H_P) may become."""

from __future__ import annotations

PARAMETERS = {
    "budget": {
        "oneOf": [{"const": "reference"}, {"type": "number", "minimum": 1}],
        "default": "reference",
        "description": "allowed κ(H_P): reference for κ(K_P), the value before immunization, or "
        "a number ≥ 1; 1 makes the Hessian of D_P flat.",
    },
    "unseen_floor": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1,
        "default": 1e-3,
        "description": "energy assigned to directions that D_P does not use, relative to the "
        "smallest non-zero eigenvalue of K_P. It matters only where the limit is infinite: the "
        "smaller it is, the larger the RIR.",
    },
}
