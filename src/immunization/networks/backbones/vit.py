"""Vision transformers of timm; the last block is trainable, as in the paper."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from immunization.errors import UserError
from immunization.networks.backbones._backbone import Backbone, create, load_weights, published

EXTENDS = "_backbone"
PARAMETERS: dict[str, dict[str, Any]] = {
    "name": {
        "type": "string",
        "default": "vit_base_patch16_224",
        "description": "of a vision transformer in timm.",
    },
    "trainable_blocks": {
        "type": "integer",
        "minimum": 1,
        "default": 1,
        "description": "how many of the last blocks are immunized, with the norm after them. (The "
        "released code also frees every other norm.)",
    },
}


class Trunk(nn.Module):
    """timm's own network up to the trainable blocks."""

    def __init__(self, model: Any, blocks: list[nn.Module]) -> None:
        super().__init__()
        model.blocks = nn.Sequential(*blocks)
        model.norm = model.fc_norm = model.head = nn.Identity()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Tokens (B, T, D)."""
        found: Tensor = self.model.forward_features(images)
        return found


class TokenTail(nn.Module):
    """The last blocks, the norm, and the class token or the mean of the patches."""

    def __init__(self, model: Any, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.fc_norm = model.norm, model.fc_norm
        self.token = model.global_pool == "token"
        self.prefix = model.num_prefix_tokens

    def forward(self, tokens: Tensor) -> Tensor:
        """Features (B, D)."""
        tokens = self.norm(self.blocks(tokens))
        pooled = tokens[:, 0] if self.token else tokens[:, self.prefix :].mean(dim=1)
        found: Tensor = self.fc_norm(pooled)
        return found


def build(parameters: dict[str, Any], size: int) -> tuple[Backbone, nn.Linear | None]:
    """The network, and the head of published weights."""
    weights = parameters["weights"]
    arguments = {"img_size": size} | parameters["arguments"]
    model: Any = create(parameters["name"], pretrained=weights == "timm", **arguments)
    if not hasattr(model, "blocks") or not hasattr(model, "patch_embed"):
        raise UserError(
            f"config key 'name': '{parameters['name']}' is not a vision transformer with blocks. "
            "Other families have files of their own in networks/backbones/."
        )
    if weights not in ("timm", "pretrain"):
        load_weights(model, weights)
    if model.global_pool not in ("token", "avg"):
        raise UserError(
            f"config key 'arguments': global_pool '{model.global_pool}' is not supported; token "
            "and avg are."
        )
    count = parameters["trainable_blocks"]
    blocks = list(model.blocks)
    if count >= len(blocks):
        raise UserError(
            f"config key 'trainable_blocks': {count} of {len(blocks)} blocks; at most "
            f"{len(blocks) - 1} can be trainable."
        )
    head = model.head
    tail = TokenTail(model, blocks[-count:])  # before the trunk's model loses its norms
    found = Backbone(Trunk(model, blocks[:-count]), tail, model.num_features)
    if weights == "pretrain":
        return found, None
    found.mean, found.std = published(model)
    return found, head
