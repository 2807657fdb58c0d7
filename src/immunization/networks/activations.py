"""Activations of the frozen trunk, computed once where they fit the device's memory.

The trunk is the same for every method and seed, so a network that is immunized or fine-tuned in its
tail alone needs no image twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from immunization.networks.augmentation import centre_crop
from immunization.networks.backbones._backbone import Backbone
from immunization.networks.image_store import BATCH, Store, in_order

LIMIT = 12 * 2**30
"""Bytes of activations up to which they are kept."""


class Activations:
    """The trunk's outputs for one part of a data set.

    Args:
        backbone: its trunk is used, in eval mode.
        store: the images.
        size: side of a network's input.
        flip: keep the mirrored images' answers too.
        rows: use these images only.
        limit: bytes up to which answers are kept; beyond, they are computed each time; default
            `LIMIT`.
    """

    def __init__(
        self,
        backbone: Backbone,
        store: Store,
        size: int,
        *,
        flip: bool = False,
        rows: Tensor | None = None,
        limit: int | None = None,
    ) -> None:
        self.backbone, self.store, self.size = backbone, store, size
        device = store.labels.device
        self.rows = torch.arange(len(store), device=device) if rows is None else rows.to(device)
        self.labels = store.labels[self.rows]
        self.views = 2 if flip else 1
        self.limit = LIMIT if limit is None else limit
        self._kept: Tensor | None = None
        self._asked = False

    def _fill(self) -> None:
        """Compute all activations at the first use, if they fit."""
        self._asked = True
        device = self.labels.device
        one = self._answer(next(iter(self.store.batches([self.rows[:1]]))), None)
        if one.numel() * one.element_size() * len(self) * self.views > self.limit:
            return
        kept = one.new_empty(self.views, len(self), *one.shape[1:])
        numbers = in_order(len(self), device)
        for view in range(self.views):
            stream = self.store.batches([self.rows[n] for n in numbers])
            for places, images in zip(numbers, stream, strict=True):
                kept[view, places] = self._answer(images, torch.tensor(view == 1))
        self._kept = kept

    def __len__(self) -> int:
        return len(self.rows)

    @torch.no_grad()
    def _answer(self, images: Tensor, mirrored: Tensor | None) -> Tensor:
        images = centre_crop(images, self.size)
        if mirrored is not None:
            turned = mirrored.to(images.device).reshape(-1, 1, 1, 1)
            images = torch.where(turned, images.flip(-1), images)
        outputs: Tensor = self.backbone.trunk(self.backbone.normalised(images))
        return outputs

    def batches(
        self, numbers: Sequence[Tensor], mirrored: Sequence[Tensor] | None = None
    ) -> Iterator[Tensor]:
        """Answers to the images at these places, batch after batch.

        Args:
            numbers: places within the part.
            mirrored: booleans of the same shapes; none are mirrored by default.
        """
        if not self._asked:
            self._fill()
        if self._kept is not None:
            for place, rows in enumerate(numbers):
                if mirrored is None or self.views == 1:
                    yield self._kept[0, rows]
                else:
                    yield self._kept[mirrored[place].long(), rows]
            return
        stream = self.store.batches([self.rows[rows] for rows in numbers])
        for place, images in enumerate(stream):
            turn = mirrored[place] if mirrored is not None and self.views == 2 else None
            yield self._answer(images, turn)

    def in_order(self, batch: int = BATCH) -> Iterator[tuple[Tensor, Tensor]]:
        """All activations with their labels, in order."""
        numbers = in_order(len(self), self.labels.device, batch)
        for rows, activations in zip(numbers, self.batches(numbers), strict=True):
            yield activations, self.labels[rows]


def spread_rows(labels: Tensor, most: int | None) -> Tensor:
    """Places of a limited number of rows, spread over the classes: the first of each class, then
    the second of each, and so on."""
    count = len(labels)
    if most is None or count <= most:
        return torch.arange(count, device=labels.device)
    order = torch.argsort(labels, stable=True)
    sizes = torch.bincount(labels)
    starts = sizes.cumsum(0) - sizes
    turn = torch.arange(count, device=labels.device) - starts[labels[order]]
    chosen = order[torch.argsort(turn, stable=True)[:most]]
    return chosen.sort().values
