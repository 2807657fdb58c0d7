"""Feeding whole networks with augmented images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from immunization.networks.attacks._fine_tune import fine_tune_with_search
from immunization.networks.attacks._victim import AttackedModel, Frames
from immunization.networks.augmentation import augmented, centre_crop
from immunization.networks.backbones._backbone import Backbone
from immunization.networks.image_store import in_order
from immunization.networks.training import step_generator


class Whole(nn.Module):
    """A backbone on normalised images."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, inputs: Tensor) -> Tensor:
        """Features (B, D)."""
        return self.backbone.features(self.backbone.trunk(inputs))


def attack_whole(
    victim: AttackedModel,
    parameters: dict[str, Any],
    network: Callable[[int], Backbone],
    structure: str,
) -> Frames:
    """Train every weight on randomly cropped and mirrored images.

    Args:
        victim: networks and task.
        parameters: of `_fine_tune`.
        network: a fresh network of a seed.
        structure: see `fine_tune_with_search`.
    """
    half = victim.device.type == "cuda"
    form = torch.channels_last if half else torch.contiguous_format
    images, plain = victim.images, victim.pretrained.backbone

    def feed(rows: Sequence[Tensor], seed: int) -> Iterator[Tensor]:
        numbers = [victim.rows[r] for r in rows]
        for step, pixels in enumerate(images.train.batches(numbers)):
            generator = step_generator(victim.device, victim.name, seed, step)
            pixels = augmented(pixels, images.size, generator, flip=images.flip)
            yield plain.normalised(pixels).to(memory_format=form)

    def test() -> Iterator[tuple[Tensor, Tensor]]:
        numbers = [victim.test_rows[r] for r in in_order(len(victim.test_rows), victim.device)]
        for rows, pixels in zip(numbers, images.test.batches(numbers), strict=True):
            inputs = plain.normalised(centre_crop(pixels, images.size)).to(memory_format=form)
            yield inputs, images.test.labels[rows]

    def body(seed: int) -> nn.Module:
        return Whole(network(seed)).requires_grad_(True).to(memory_format=form)  # type: ignore[call-overload]

    return fine_tune_with_search(
        victim, parameters, body, feed, test, structure=structure, half=half
    )
