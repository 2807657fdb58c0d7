"""Files of pre-trained and immunized networks, as a publisher would release them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from immunization.networks.backbones._backbone import Backbone, Layer, Tail
from immunization.runtime.errors import UserError
from immunization.runtime.files.io import read_metadata, read_tensors, refuse_nan
from immunization.study.components import import_component


@dataclass(frozen=True)
class Pretrained:
    """θ₀.

    Attributes:
        name: label of the network.
        backbone: in eval mode.
        head: of D_P.
        metadata: of the file.
    """

    name: str
    backbone: Backbone
    head: nn.Linear
    metadata: dict[str, Any]


def untrained(metadata: dict[str, Any]) -> Backbone:
    """A network of the same kind with weights as torch draws them."""
    parameters = metadata["parameters"] | {"weights": "pretrain"}
    backbone: Backbone
    backbone, _ = import_component("networks/backbones", metadata["use"]).build(
        parameters, metadata["size"]
    )
    return backbone


def read_pretrained(path: Path | str, device: torch.device | str) -> Pretrained:
    """Read the output of the stage pretrain.

    Raises:
        UserError: when it is unreadable.
    """
    tensors, metadata = read_tensors(path)
    for name, value in tensors.items():
        refuse_nan(path, name, value)
    with torch.random.fork_rng(devices=[]):
        backbone = untrained(metadata)
    head = nn.Linear(backbone.width, metadata["classes"])
    for module, start in ((backbone, "backbone."), (head, "head.")):
        module.load_state_dict(
            {n.removeprefix(start): v for n, v in tensors.items() if n.startswith(start)}
        )
    backbone.to(device).eval().requires_grad_(False)
    return Pretrained(metadata["network"], backbone, head.to(device), metadata)


def release(tail: Tail, head: nn.Linear) -> dict[str, Tensor]:
    """Tensors of an immunized network, without the trunk that it shares with θ₀."""
    tensors = {f"tail.{n}": v for n, v in tail.state_dict().items()}
    tensors |= {f"head.{n}": v for n, v in head.state_dict().items()}
    return {n: v.detach().cpu() for n, v in tensors.items()}


@dataclass(frozen=True)
class Immunized:
    """A file with one method's networks of one kind against one D_H, one a seed.

    Attributes:
        path: the file.
        network, harmful, method: labels.
        seeds: those that it holds.
        code: fingerprint of what made it.
    """

    path: Path
    network: str
    harmful: str
    method: str
    seeds: list[int]
    code: str

    @staticmethod
    def open(path: Path | str) -> Immunized:
        """Read what it says of itself."""
        m = read_metadata(path)
        return Immunized(
            Path(path), m["network"], m["harmful"], m["method"], m["seeds"],
            m["provenance"]["code"],
        )  # fmt: skip

    def of_seed(
        self, seed: int, pretrained: Pretrained, device: torch.device | str
    ) -> tuple[Tail, nn.Linear]:
        """Tail and head of one seed."""
        tensors, _ = read_tensors(self.path)
        start = f"seed{seed}."
        of_this_seed = {n.removeprefix(start): v for n, v in tensors.items() if n.startswith(start)}
        if not of_this_seed:
            raise UserError(f"{self.path}: holds no seed {seed}. Delete it and run again.")
        tail = Tail(pretrained.backbone)
        if "tail.layer.theta" in of_this_seed:
            tail.layer = Layer(torch.empty_like(of_this_seed["tail.layer.theta"]))
        head = nn.Linear(pretrained.backbone.width, pretrained.head.out_features)
        head.to(of_this_seed["head.weight"].dtype)
        for name, value in of_this_seed.items():
            refuse_nan(self.path, name, value)
        for module, part in ((tail, "tail."), (head, "head.")):
            module.load_state_dict(
                {n.removeprefix(part): v for n, v in of_this_seed.items() if n.startswith(part)}
            )
        return tail.to(device).eval(), head.to(device)
