"""Residual networks of timm; the last stage is trainable (`layer4`, as in the paper)."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from torch import Tensor, nn

from immunization.networks.backbones._backbone import (
    Backbone,
    check_arguments,
    create,
    of_timm,
)
from immunization.networks.backbones._cut import checked_cut
from immunization.runtime.errors import UserError

EXTENDS = "_backbone"
NEEDED = (
    "conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4", "global_pool", "fc",
)  # fmt: skip
PARAMETERS: dict[str, dict[str, Any]] = {
    "name": {
        "type": "string",
        "default": "resnet18",
        "description": "name of a residual network in timm.",
    },
    "stem": {
        "enum": ["imagenet", "small"],
        "default": "imagenet",
        "description": "imagenet: timm's own. small: one 3×3 convolution with stride 1 and no "
        "pooling, for images of 32 pixels.",
    },
    "trainable_stages": {
        "type": "integer",
        "minimum": 1,
        "maximum": 4,
        "default": 1,
        "description": "number of last stages that are immunized; 1 is layer4.",
    },
}


class Trunk(nn.Module):
    """Stem and the first stages."""

    def __init__(self, stem: list[nn.Module], stages: list[nn.Module]) -> None:
        super().__init__()
        self.stem, self.stages = nn.Sequential(*stem), nn.Sequential(*stages)

    def forward(self, images: Tensor) -> Tensor:
        """Activations (B, C, h, w)."""
        outputs: Tensor = self.stages(self.stem(images))
        return outputs


class PooledTail(nn.Module):
    """The last stages and the network's own global pooling."""

    def __init__(self, stages: list[nn.Module], pool: nn.Module) -> None:
        super().__init__()
        self.stages, self.pool = nn.Sequential(*stages), pool

    def forward(self, activations: Tensor) -> Tensor:
        """Features (B, D)."""
        outputs: Tensor = self.pool(self.stages(activations))
        return outputs


def build(parameters: dict[str, Any], size: int) -> tuple[Backbone, nn.Linear | None]:
    """The network, and the head of published weights."""
    return of_timm(sys.modules[__name__], parameters, size)


def original(parameters: dict[str, Any], size: int) -> nn.Module:
    """The network as timm makes it, but for a small stem."""
    arguments, weights = dict(parameters["arguments"]), parameters["weights"]
    check_arguments(arguments)
    model: Any = create(parameters["name"], pretrained=weights == "timm", **arguments)
    missing = [n for n in NEEDED if not hasattr(model, n)]
    if missing:
        raise UserError(
            f"config key 'name': '{parameters['name']}' is not a residual network with layer1 to "
            f"layer4 (it has no {', '.join(missing)}). Other networks of timm: use: timm."
        )
    if parameters["stem"] == "small":
        if weights == "timm":
            raise UserError("config key 'stem': 'small' has no published weights; pretrain it.")
        width = len(model.bn1.weight)
        model.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        model.maxpool = nn.Identity()
    return model


def parts(model: nn.Module, parameters: dict[str, Any], size: int) -> tuple[Backbone, nn.Linear]:
    """The network cut in three; the parts share its modules."""
    count = parameters["trainable_stages"]
    return checked_cut(model, parameters["name"], size, partial(cut, count))


def cut(count: int, model: Any) -> tuple[Backbone, nn.Module]:
    """Trunk and tail of ``count`` stages, and the head."""
    stem = [model.conv1, model.bn1, model.act1]
    if not isinstance(model.maxpool, nn.Identity):
        stem.append(model.maxpool)
    stages = [model.layer1, model.layer2, model.layer3, model.layer4]
    tail = PooledTail(stages[4 - count :], model.global_pool)
    return Backbone(Trunk(stem, stages[: 4 - count]), tail, model.fc.in_features), model.fc
