"""Residual networks of timm; the last stage is trainable (`layer4`, as in the paper)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from immunization.errors import UserError
from immunization.networks.backbones._backbone import Backbone, create, load_weights, published

EXTENDS = "_backbone"
PARAMETERS: dict[str, dict[str, Any]] = {
    "name": {
        "type": "string",
        "default": "resnet18",
        "description": "of a residual network in timm.",
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
        "description": "how many of the last stages are immunized; 1 is layer4.",
    },
}


class Trunk(nn.Module):
    """Stem and the first stages."""

    def __init__(self, stem: list[nn.Module], stages: list[nn.Module]) -> None:
        super().__init__()
        self.stem, self.stages = nn.Sequential(*stem), nn.Sequential(*stages)

    def forward(self, images: Tensor) -> Tensor:
        """Activations (B, C, h, w)."""
        found: Tensor = self.stages(self.stem(images))
        return found


class PooledTail(nn.Module):
    """The last stages and global average pooling."""

    def __init__(self, stages: list[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.Sequential(*stages)

    def forward(self, activations: Tensor) -> Tensor:
        """Features (B, D)."""
        found: Tensor = self.stages(activations).mean(dim=(2, 3))
        return found


def build(parameters: dict[str, Any], size: int) -> tuple[Backbone, nn.Linear | None]:
    """The network, and the head of published weights."""
    arguments = dict(parameters["arguments"])
    weights = parameters["weights"]
    model: Any = create(parameters["name"], pretrained=weights == "timm", **arguments)
    if not all(hasattr(model, f"layer{n}") for n in range(1, 5)):
        raise UserError(
            f"config key 'name': '{parameters['name']}' is not a residual network with layer1 to "
            "layer4. Other families have files of their own in networks/backbones/."
        )
    if weights not in ("timm", "pretrain"):
        load_weights(model, weights)
    stem = [model.conv1, model.bn1, model.act1, model.maxpool]
    if parameters["stem"] == "small":
        if weights != "pretrain":
            raise UserError("config key 'stem': 'small' has no published weights; pretrain it.")
        width = model.bn1.num_features
        convolution = nn.Conv2d(3, width, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        stem = [convolution, model.bn1, model.act1]
    stages = [model.layer1, model.layer2, model.layer3, model.layer4]
    kept = 4 - parameters["trainable_stages"]
    found = Backbone(Trunk(stem, stages[:kept]), PooledTail(stages[kept:]), model.num_features)
    if weights == "pretrain":
        return found, None
    found.mean, found.std = published(model)
    return found, model.fc
