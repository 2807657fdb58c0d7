"""An immunized linear layer: θ, the scaling that belongs to it, and how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from immunization import __version__
from immunization.api._layer_file import FORMAT, read_layer, write_layer
from immunization.linear.own_tasks.scaling import ROLES, Scale, Scaler
from immunization.runtime.errors import UserError


@dataclass(frozen=True, eq=False)
class Extractor:
    """A linear layer x ↦ ((x − mean)/deviation)ᵀθ that is released with the model.

    >>> import numpy as np
    >>> import immunization as im
    >>> layer = im.Extractor.of(np.diag([1.0, 2.0]))
    >>> layer.transform(np.array([[3.0, 4.0]]))
    array([[3., 8.]])

    Attributes:
        theta: θ, shape (D, D), float64.
        scaler: what is done to features before θ; it belongs to the layer.
        singular: whether θ has lost directions on purpose, as by erasure.
        intercept: whether it was made for probes with an intercept.
        record: method, parameters and version that made it.
    """

    theta: Tensor
    scaler: Scaler = field(default_factory=Scaler)
    singular: bool = False
    intercept: bool = False
    record: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(layer: Any) -> Extractor:
        """An extractor from what a user has.

        Args:
            layer: an `Extractor`, θ as a square array or tensor (features are xᵀθ), a square
                `torch.nn.Linear`, or the path of a file that `save` wrote.

        Raises:
            UserError: for anything else, and for values that are not finite.
        """
        if isinstance(layer, Extractor):
            return layer
        if isinstance(layer, str | Path):
            return Extractor.load(layer)
        scaler = Scaler()
        if isinstance(layer, nn.Linear):
            theta = layer.weight.detach().cpu().to(torch.float64).mT.contiguous()
            if layer.bias is not None and bool((layer.bias != 0).any()):
                raise UserError(
                    "the layer has a bias, which a linear extractor has not. A probe with an "
                    "intercept does not see it: set the bias to zero, or load the file that "
                    "Extractor.save wrote, which knows its scaling."
                )
        elif isinstance(layer, Tensor):
            theta = layer.detach().cpu().to(torch.float64)
        else:
            try:
                theta = torch.from_numpy(np.array(layer, dtype=np.float64))
            except (TypeError, ValueError):
                raise UserError(
                    f"an extractor is an Extractor, a square array, a torch.nn.Linear or the path "
                    f"of a file. Got {type(layer).__name__}."
                ) from None
        if theta.ndim != 2 or theta.shape[0] != theta.shape[1]:
            raise UserError(
                f"θ has shape {tuple(theta.shape)}; a square one, (features, features), is needed."
            )
        if not bool(torch.isfinite(theta).all()):
            raise UserError("θ holds values that are not finite.")
        rank = int(torch.linalg.matrix_rank(theta))
        return Extractor(theta, scaler, singular=rank < len(theta), record={"method": "given"})

    @property
    def width(self) -> int:
        """D, the number of features."""
        return len(self.theta)

    def _scale(self, role: str | None) -> Scale:
        if self.scaler.kind != "within":
            return self.scaler.of(0)
        if role not in ROLES:
            raise UserError(
                "this layer scales each task by its own mean and deviation (scale='within'), and "
                "holds for no other features. Say which task the rows are of: role='benign' or "
                "role='harmful'. scale='joint' or 'none' makes a layer that needs no such word."
            )
        return self.scaler.of(ROLES.index(role))

    def _check(self, features: Any) -> None:
        if features.ndim != 2 or features.shape[1] != self.width:
            raise UserError(
                f"features have shape {tuple(features.shape)}; this layer takes (rows, "
                f"{self.width})."
            )

    def scale(self, features: Any, role: str | None = None) -> Any:
        """Features as they enter θ, in float64; see `transform` for the arguments."""
        rows = features if isinstance(features, Tensor) else torch.from_numpy(np.asarray(features))
        self._check(rows)
        scaled = self._scale(role)(rows.to(torch.float64))
        return scaled if isinstance(features, Tensor) else scaled.numpy()

    def transform(self, features: Any, role: str | None = None) -> Any:
        """Features after the layer, in float64.

        Args:
            features: shape (n, D), numpy array or tensor.
            role: "benign" or "harmful", for a layer with ``scale="within"`` alone.

        Returns:
            Shape (n, D), of the kind that was given.

        Raises:
            UserError: for another width, or a layer that must know the role.
        """
        scaled = self.scale(features, role)
        if isinstance(scaled, Tensor):
            return scaled @ self.theta.to(scaled.device)
        return scaled @ self.theta.numpy()

    def to_module(self, dtype: torch.dtype = torch.float64, role: str | None = None) -> nn.Linear:
        """The layer as `torch.nn.Linear`, scaling included.

        Args:
            dtype: of its weights. float64 gives κ as `assess` states it. float32 rounds it: a κ of
                2.0e13 became 1.7e13, one of 1e12 moved by 0.05 %.
            role: as in `transform`.

        Raises:
            UserError: as `transform`.
        """
        scale = self._scale(role)
        weight, bias = self.theta.mT, torch.zeros(self.width, dtype=torch.float64)
        if scale.mean is not None and scale.deviation is not None:
            weight = weight / scale.deviation
            bias = -(weight @ scale.mean)
        has_bias = bool((bias != 0).any())
        layer = nn.Linear(self.width, self.width, bias=has_bias, dtype=dtype)
        with torch.no_grad():
            layer.weight.copy_(weight)
            if has_bias:
                layer.bias.copy_(bias)
        return layer

    def save(self, path: str | Path) -> Path:
        """Write the layer with its scaling and record.

        Args:
            path: ends with .safetensors, or with .npz for numpy alone: `theta`, and `mean` and
                `deviation` where features are scaled.

        Raises:
            UserError: for another suffix, or a folder that cannot be written.
        """
        path = Path(path)
        tensors = {"theta": self.theta}
        for role, scale in zip(ROLES, self.scaler.scales, strict=True):
            if scale.mean is not None and scale.deviation is not None:
                if self.scaler.kind == "joint" and role == "harmful":
                    continue
                end = "" if self.scaler.kind == "joint" else f".{role}"
                tensors |= {f"mean{end}": scale.mean, f"deviation{end}": scale.deviation}
        about = {
            "format": FORMAT,
            "scale": self.scaler.kind,
            "singular": self.singular,
            "intercept": self.intercept,
            "record": dict(self.record),
        }
        write_layer(path, tensors, about)
        return path

    @staticmethod
    def load(path: str | Path) -> Extractor:
        """Read what `save` wrote; nothing is unpickled.

        Raises:
            UserError: for a file that is missing, damaged, or none of ours.
        """
        tensors, about = read_layer(Path(path))
        scales = []
        for role in ROLES:
            end = "" if about["scale"] == "joint" else f".{role}"
            scales.append(Scale(tensors.get(f"mean{end}"), tensors.get(f"deviation{end}")))
        return Extractor(
            tensors["theta"],
            Scaler(about["scale"], (scales[0], scales[1])),
            about["singular"],
            about["intercept"],
            about["record"],
        )

    def __repr__(self) -> str:
        made = self.record.get("method", "unknown method")
        scale = f", scale={self.scaler.kind!r}"
        return f"Extractor by {made}: {self.width} → {self.width} features{scale}"


def record_of(method: str, parameters: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What is kept of how a layer came about."""
    return {
        "method": method,
        "parameters": dict(parameters),
        "immunization": __version__,
        "torch": torch.__version__,
    } | more
