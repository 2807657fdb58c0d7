"""LoRA on every convolution and linear layer of the tail, through peft, and a new head."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from immunization.networks.attacks._fine_tune import fine_tune_with_search, tail_feed
from immunization.networks.attacks._victim import AttackedModel, Frames
from immunization.networks.backbones._backbone import Tail
from immunization.networks.optional_packages import require

EXTENDS = "_fine_tune"
PARAMETERS: dict[str, dict[str, Any]] = {
    "rank": {
        "type": "integer",
        "minimum": 1,
        "default": 4,
        "description": "rank r of the updates; they are scaled by 2 at any rank.",
    },
    "batch_norm": {
        "enum": ["batch", "frozen"],
        "default": "frozen",
        "description": "as for last_stage; with adapters the released statistics are usually kept.",
    },
}
MIRRORS = True


def adapted(tail: Tail, rank: int) -> nn.Module:
    """A copy with adapters, of which alone gradients are wanted."""
    peft = require("peft")
    base = copy.deepcopy(tail).float()
    names = [
        name
        for name, module in base.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and name.startswith("tail.")
    ]
    config = peft.LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=names, bias="none"
    )
    base.requires_grad_(False)
    with_adapters: nn.Module = peft.inject_adapter_in_model(config, base)
    return with_adapters


def attack(victim: AttackedModel, parameters: dict[str, Any]) -> Frames:
    """On the trunk's activations, which are computed once."""
    first = next(iter(victim.tails.values()))
    kind = f"lora {parameters['rank']} {type(first.layer).__name__}"
    return fine_tune_with_search(
        victim,
        parameters,
        lambda seed: adapted(victim.tails[seed], parameters["rank"]),
        tail_feed(victim),
        lambda: victim.test.in_order(),
        structure=kind,
        half=victim.device.type == "cuda",
    )
