"""How features are scaled before θ: part of the model, kept with it, and never mixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from immunization.linear.datasets._scaling import Scaling, fitted
from immunization.runtime.errors import UserError

SCALES = ("none", "joint", "within")
ROLES = ("benign", "harmful")
ANY_SEED = "all"
"""Under which a task set records a scaling that no seed enters."""


@dataclass(frozen=True)
class Scale:
    """Of one task: (x − mean)/deviation, or nothing.

    Attributes:
        mean, deviation: shape (D,), float64; None where features stay as they are.
    """

    mean: Tensor | None = None
    deviation: Tensor | None = None

    def __call__(self, features: Tensor) -> Tensor:
        """Scaled features in float64; features as they came where nothing is done."""
        if self.mean is None or self.deviation is None:
            return features
        return (features.to(torch.float64) - self.mean.to(features.device)) / self.deviation.to(
            features.device
        )

    def offset(self, features: Tensor) -> float:
        """See `Scaling.offset`."""
        if self.mean is None or self.deviation is None:
            return 1.0
        scaling = Scaling(self.mean.numpy(), self.deviation.numpy())
        return scaling.offset(features.to(torch.float64).numpy())


@dataclass(frozen=True)
class Scaler:
    """Of both tasks.

    Attributes:
        kind: one of `SCALES`.
        scales: of the benign and the harmful task.
    """

    kind: str = "none"
    scales: tuple[Scale, Scale] = (Scale(), Scale())

    @staticmethod
    def fit(kind: str, benign: Tensor, harmful: Tensor) -> Scaler:
        """By the mean and deviation of the benign rows, or of each task's own.

        Raises:
            UserError: for another kind.
        """
        if kind not in SCALES:
            raise UserError(f"scale is {kind!r}; it is one of {', '.join(SCALES)}.")
        if kind == "none":
            return Scaler()
        p, h = (features.to(torch.float64).numpy() for features in (benign, harmful))
        if kind == "joint":
            one = _scale(fitted(p, h))
            return Scaler(kind, (one, one))
        return Scaler(kind, (_scale(fitted(p)), _scale(fitted(h))))

    def info(self) -> dict[str, Any]:
        """What a task set records of it: numbers for each task, the same under every seed."""
        if self.kind == "none":
            return {"scale": "none"}
        parts = []
        for scale in self.scales:
            assert scale.mean is not None
            assert scale.deviation is not None
            parts.append({"mean": scale.mean.tolist(), "deviation": scale.deviation.tolist()})
        both = parts if self.kind == "within" else parts[0]
        return {"scale": self.kind, "scaling": {ANY_SEED: both}}

    def of(self, role: int) -> Scale:
        """Of the benign (0) or harmful (1) task."""
        return self.scales[role]


def _scale(scaling: Scaling) -> Scale:
    return Scale(torch.from_numpy(scaling.mean), torch.from_numpy(scaling.deviation))
