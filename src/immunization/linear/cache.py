"""What jobs on the same tasks may reuse while the program runs; none of it is stored."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from hessian_spectrum import JointRange

RowSelection = tuple[float, bool]
"""Share of a task's rows that an attacker has, and whether they are unseen ones."""
JointKey = tuple[torch.device, tuple[int, ...], tuple[int, ...]]
"""A device, and the tasks of D_P and D_H of every pair."""


@dataclass
class TaskCache:
    """Of one task set.

    Attributes:
        inputs: raw inputs by the device that they were sent to.
        statistics: of a task by the rows of an attacker, seed and number of the task; on the CPU.
        goals: loss to come close to, by training loss, ridge, name and rows of the task.
        joint: joint coordinates of the last batch of pairs, with what they belong to. Set as one,
            since other threads may be at other seeds.
    """

    inputs: dict[torch.device, Tensor] = field(default_factory=dict)
    statistics: dict[tuple[RowSelection, int, int], dict[str, Tensor]] = field(default_factory=dict)
    goals: dict[tuple[str, float, str, bytes], Tensor] = field(default_factory=dict)
    joint: tuple[JointKey, JointRange] | None = None
