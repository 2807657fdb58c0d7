"""What an attacker has: released networks, and images of a task to train them for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from immunization.networks.activations import Activations
from immunization.networks.backbones._backbone import Tail
from immunization.networks.files import Pretrained
from immunization.networks.image_store import ImageSet
from immunization.runtime.seeding import seeded

Frames = tuple[pd.DataFrame, pd.DataFrame]


@dataclass
class AttackedModel:
    """One method's networks of one kind, one a seed, and the task they are trained for.

    Attributes:
        pretrained: the trunk, and θ₀.
        tails: by seed.
        images: of the task.
        rows: places of the training images that the attacker has.
        test_rows: places of the held-out images that accuracy is taken on.
        train, test: the same behind the trunk; mirrored too where that makes sense.
        name: label of the attacker, for draws.
        kept: what attackers of the same family keep between victims, such as a captured graph.
    """

    pretrained: Pretrained
    tails: dict[int, Tail]
    images: ImageSet
    rows: Tensor
    test_rows: Tensor
    train: Activations
    test: Activations
    name: str
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Number of classes of the task."""
        return len(self.images.classes)

    @property
    def device(self) -> torch.device:
        """Where all of it is."""
        return self.images.device

    def part(self, fraction: float, seed: int) -> Tensor:
        """Places within `rows` that an attacker with a share of the images has: the first so many
        of each class in an order drawn by the seed, at least one."""
        labels = self.train.labels.cpu()
        order = torch.randperm(len(labels), generator=seeded("fraction", self.images.name, seed))
        if fraction == 1:
            return order.to(self.device)
        order = order[torch.argsort(labels[order], stable=True)]
        sizes = torch.bincount(labels, minlength=self.classes)
        starts = sizes.cumsum(0) - sizes
        turn = torch.arange(len(labels)) - starts[labels[order]]
        wanted = (fraction * sizes).ceil().long().clamp_min(1)
        return order[turn < wanted[labels[order]]].to(self.device)

    def new_head(self, width: int, seed: int) -> nn.Linear:
        """A linear head with weights near zero, drawn by the seed."""
        head = nn.Linear(width, self.classes)
        with torch.no_grad():
            drawn = torch.randn(head.weight.shape, generator=seeded("head", self.name, seed))
            head.weight.copy_(0.01 * drawn)
            head.bias.zero_()
        return head


def recorded_steps(steps: int, count: int = 16) -> list[int]:
    """Steps after which accuracy is taken, evenly on a logarithmic scale, the last included."""
    return sorted({round(steps ** (i / (count - 1))) for i in range(count)} | {steps})
