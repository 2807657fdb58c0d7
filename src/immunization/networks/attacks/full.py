"""Fine-tune every weight of the network, and a new head."""

from __future__ import annotations

import copy
from typing import Any

from immunization.networks.attacks._victim import AttackedModel, Frames
from immunization.networks.attacks._whole import attack_whole
from immunization.networks.backbones._backbone import Backbone

EXTENDS = "_fine_tune"
PARAMETERS: dict[str, dict[str, Any]] = {}
IMAGES = True


def attack(victim: AttackedModel, parameters: dict[str, Any]) -> Frames:
    """From the released weights."""

    def network(seed: int) -> Backbone:
        whole = copy.deepcopy(victim.pretrained.backbone)
        released = copy.deepcopy(victim.tails[seed]).float()
        whole.tail, whole.layer = released.tail, released.layer
        return whole

    first = next(iter(victim.tails.values()))
    return attack_whole(victim, parameters, network, f"whole {type(first.layer).__name__}")
