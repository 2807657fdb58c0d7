"""Vision transformers of timm; the last block is trainable, as in the paper."""

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
from immunization.networks.optional_packages import require
from immunization.runtime.errors import UserError

EXTENDS = "_backbone"
NEEDED = ("blocks", "norm", "fc_norm", "head", "global_pool", "num_prefix_tokens")
POOLS = ("token", "avg", "max", "avgmax")
PARAMETERS: dict[str, dict[str, Any]] = {
    "name": {
        "type": "string",
        "default": "vit_base_patch16_224",
        "description": "name of a vision transformer in timm.",
    },
    "trainable_blocks": {
        "type": "integer",
        "minimum": 1,
        "default": 1,
        "description": "number of last blocks that are immunized, with the norm after them. (The "
        "released code also trains every other norm.)",
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
        outputs: Tensor = self.model.forward_features(images)
        return outputs


class TokenTail(nn.Module):
    """The last blocks, the norm, and timm's own pooling of tokens."""

    def __init__(self, model: Any, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.fc_norm = model.norm, model.fc_norm
        self.kind = model.global_pool
        self.prefix = model.num_prefix_tokens
        self.with_prefix = bool(getattr(model, "pool_include_prefix", False))
        self.pool = require("timm.layers").global_pool_nlc

    def forward(self, tokens: Tensor) -> Tensor:
        """Features (B, D)."""
        tokens = self.norm(self.blocks(tokens))
        pooled = self.pool(
            tokens,
            pool_type=self.kind,
            num_prefix_tokens=self.prefix,
            reduce_include_prefix=self.with_prefix,
        )
        outputs: Tensor = self.fc_norm(pooled)
        return outputs


def build(parameters: dict[str, Any], size: int) -> tuple[Backbone, nn.Linear | None]:
    """The network, and the head of published weights."""
    return of_timm(sys.modules[__name__], parameters, size)


def original(parameters: dict[str, Any], size: int) -> nn.Module:
    """The network as timm makes it.

    Raises:
        UserError: for one that is no vision transformer with learnt positions.
    """
    check_arguments(parameters["arguments"])
    arguments = {"img_size": size} | parameters["arguments"]
    pretrained = parameters["weights"] == "timm"
    model: Any = create(parameters["name"], pretrained=pretrained, **arguments)
    missing = [n for n in ("patch_embed", *NEEDED) if not hasattr(model, n)]
    if missing:
        raise UserError(
            f"config key 'name': '{parameters['name']}' is not a vision transformer with blocks "
            f"(it has no {', '.join(missing)}). Other networks of timm: use: timm."
        )
    if getattr(model, "rope", None) is not None:
        raise UserError(
            f"config key 'name': '{parameters['name']}' has rotary positions, which every block "
            "needs and a tail of blocks would not get. Choose one with learnt positions."
        )
    if model.global_pool not in POOLS:
        raise UserError(
            f"config key 'arguments': global_pool '{model.global_pool}' is not supported; "
            f"{', '.join(POOLS)} are."
        )
    count = parameters["trainable_blocks"]
    if count >= len(model.blocks):
        raise UserError(
            f"config key 'trainable_blocks': {count} of {len(model.blocks)} blocks; at most "
            f"{len(model.blocks) - 1} can be trainable."
        )
    return model


def parts(model: nn.Module, parameters: dict[str, Any], size: int) -> tuple[Backbone, nn.Linear]:
    """The network cut in three; the parts share its modules, and the trunk loses some."""
    count = parameters["trainable_blocks"]
    return checked_cut(model, parameters["name"], size, partial(cut, count))


def cut(count: int, model: Any) -> tuple[Backbone, nn.Module]:
    """Trunk and tail of ``count`` blocks, and the head."""
    blocks, head, width = list(model.blocks), model.head, model.num_features
    tail = TokenTail(model, blocks[-count:])  # before the trunk's model loses its norms
    return Backbone(Trunk(model, blocks[:-count]), tail, width), head
