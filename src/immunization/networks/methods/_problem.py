"""What a method of immunization is given, and what it gives back."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from hessian_spectrum import range_factor
from immunization.networks.activations import Activations, spread_rows
from immunization.networks.backbones._backbone import Tail
from immunization.runtime.errors import UserError
from immunization.runtime.jobs.checkpoint import Checkpoint
from immunization.runtime.seeding import seeded

RANK_ROWS = 16384
WIDE_BATCH = 512
"""Images a batch in float64."""


@dataclass
class Problem:
    """One network, one D_H and one seed.

    Attributes:
        tail: the trainable part, a copy of its own in eval mode: batch norm uses its running
            statistics, so that the features of an image depend on that image alone and H(θ) is a
            function of θ. They are not updated.
        head: of D_P, a copy of its own.
        primary, harmful: training images behind the trunk.
        key: network, D_H and seed; draws depend on it and on the step.
        checkpoint: where unfinished work is kept.
    """

    tail: Tail
    head: nn.Linear
    primary: Activations
    harmful: Activations
    key: tuple[str, str, int]
    checkpoint: Checkpoint

    @property
    def device(self) -> torch.device:
        """Where all of it is."""
        return self.primary.labels.device

    def draws(
        self, begin: int, end: int, batch: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Batches of steps begin … end−1: activations and labels of D_P and D_H, drawn with
        replacement."""
        parts = (self.primary, self.harmful)
        chosen: list[list[Tensor]] = [[], []]
        for step in range(begin, end):
            generator = seeded("immunize", *self.key, step)
            for numbers, part in zip(chosen, parts, strict=True):
                drawn = torch.randint(len(part), (min(batch, len(part)),), generator=generator)
                numbers.append(drawn.to(self.device))
        streams = [p.batches(numbers) for p, numbers in zip(parts, chosen, strict=True)]
        for rows_p, rows_h, found_p, found_h in zip(*chosen, *streams, strict=True):
            yield found_p, self.primary.labels[rows_p], found_h, self.harmful.labels[rows_h]

    @cached_property
    def ranks(self) -> tuple[int, int]:
        """Rank of the features of D_P and of D_H at θ₀, from up to 16,384 images each."""
        ranks = []
        for what, part in (("D_P", self.primary), ("D_H", self.harmful)):
            features = self.all_features(part, RANK_ROWS)
            if not bool(torch.isfinite(features).all()) or not bool(features.any()):
                raise UserError(
                    f"the features of {self.key[0]} on {what} are all zero, or not finite, before "
                    "anything was done to them. Pre-train the network longer, or look at its "
                    "weights."
                )
            ranks.append(range_factor(features).rank)
        return ranks[0], ranks[1]

    @torch.no_grad()
    def all_features(
        self, part: Activations, most: int | None = None, *, wide: bool = True
    ) -> Tensor:
        """Features of the images of a part, float64, (N, D).

        Args:
            part: the images.
            most: largest number of images, spread over the classes; all where None.
            wide: by a tail in float64; else as it is trained, in float32.
        """
        tail = copy.deepcopy(self.tail).double() if wide else self.tail
        kind = torch.float64 if wide else torch.float32
        numbers = list(spread_rows(part.labels, most).split(WIDE_BATCH))
        return torch.cat(
            [tail(activations.to(kind)).double() for activations in part.batches(numbers)]
        )
