"""A network cut in three must still be the network: one forward pass shows it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from immunization.networks.backbones._backbone import Backbone
from immunization.runtime.errors import UserError

CLOSE = 1e-5
"""Relative difference of logits that float32 leaves between two orders of the same operations."""
Cut = Callable[[Any], tuple[Backbone, nn.Module]]


def checked_cut(model: nn.Module, name: str, size: int, cut: Cut) -> tuple[Backbone, nn.Linear]:
    """Cut a network into trunk, tail and head, and check that their logits equal the network's.

    The copy's weights are stirred first: a layer or head that starts at zero would agree with
    anything.

    Args:
        model: the whole network, which the cut takes apart.
        name: what the config calls it, for messages.
        size: side of its images, in pixels.
        cut: gives the backbone and the head.

    Returns:
        The backbone and the head of the model itself.

    Raises:
        UserError: where the family's parts do not fit this network, or compute something else.
    """
    trial = stirred(copy.deepcopy(model)).eval()
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        try:
            wanted = trial(images)
            backbone, head = cut(trial)
            backbone.eval()
            logits = head(backbone.features(backbone.trunk(images)))
        except UserError:
            raise
        except Exception as error:  # whatever a network of another kind stumbles over
            raise UserError(
                f"config key 'name': '{name}' cannot be cut into trunk, tail and head "
                f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}). "
                "Its blocks are not of the kind that this file knows; other families have files of "
                "their own in networks/backbones/."
            ) from error
    if not isinstance(wanted, Tensor) or wanted.shape != logits.shape:
        shape = tuple(wanted.shape) if isinstance(wanted, Tensor) else type(wanted).__name__
        raise UserError(
            f"config key 'name': '{name}' returns logits of shape {shape}; trunk, tail and head "
            f"give {tuple(logits.shape)}. One linear head on pooled features is needed."
        )
    apart = float((logits - wanted).norm() / wanted.norm().clamp_min(1e-30))
    if not apart <= CLOSE:
        raise UserError(
            f"config key 'name': '{name}', cut into trunk, tail and head, computes something else: "
            f"its logits differ by {apart:.2g} of their norm. Something between the parts is not "
            "of the kind that this file knows, such as another pooling, a second head, or "
            "positions that every block needs."
        )
    backbone, head = cut(model)
    if not isinstance(head, nn.Linear):
        raise UserError(
            f"config key 'arguments': '{name}' has no linear head ({type(head).__name__}); "
            "num_classes must be at least 1."
        )
    return backbone, head


def stirred(model: nn.Module) -> nn.Module:
    """The network with noise on all its parameters, drawn by a seed of its own."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            fan = value[0].numel() if value.ndim > 1 else 100
            value.add_(0.5 * torch.randn(value.shape, generator=generator) / max(fan, 1) ** 0.5)
    return model
