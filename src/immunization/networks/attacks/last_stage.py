"""Fine-tune the tail, the same part that was immunized, and a new head."""

from __future__ import annotations

import copy
from typing import Any

from immunization.networks.attacks._fine_tune import fine_tune_with_search, tail_feed
from immunization.networks.attacks._victim import AttackedModel, Frames

EXTENDS = "_fine_tune"
PARAMETERS: dict[str, dict[str, Any]] = {}
MIRRORS = True


def attack(victim: AttackedModel, parameters: dict[str, Any]) -> Frames:
    """On the trunk's activations, which are computed once."""
    first = next(iter(victim.tails.values()))
    kind = f"tail {type(first.layer).__name__}"
    return fine_tune_with_search(
        victim,
        parameters,
        lambda seed: copy.deepcopy(victim.tails[seed]).float().requires_grad_(True),
        tail_feed(victim),
        lambda: victim.test.in_order(),
        structure=kind,
        half=victim.device.type == "cuda",
    )
