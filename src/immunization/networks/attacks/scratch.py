"""Control: train the same network on the task from random weights, without what was released."""

from __future__ import annotations

from typing import Any

from immunization.networks.attacks._victim import AttackedModel, Frames
from immunization.networks.attacks._whole import attack_whole
from immunization.networks.backbones._backbone import Backbone
from immunization.networks.files import untrained

EXTENDS = "_fine_tune"
PARAMETERS: dict[str, dict[str, Any]] = {}
IMAGES = True
CONTROL = True  # does not depend on the method, and runs once


def attack(victim: AttackedModel, parameters: dict[str, Any]) -> Frames:
    """From random weights."""

    def network(seed: int) -> Backbone:
        fresh = untrained(victim.pretrained.metadata)
        fresh.mean, fresh.std = victim.pretrained.backbone.mean, victim.pretrained.backbone.std
        return fresh

    return attack_whole(victim, parameters, network, "whole Identity")
