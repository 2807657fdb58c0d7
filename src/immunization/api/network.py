"""Immunize a network of one's own from Python, and get it back under its own names."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from immunization.linear.own_tasks.task import as_array
from immunization.networks.activations import Activations
from immunization.networks.backbones._backbone import Tail
from immunization.networks.backbones._traced import resolved_names, traced_cut
from immunization.networks.files import Pretrained
from immunization.networks.image_store import InMemory
from immunization.networks.immunize import immunized
from immunization.networks.own_names import OwnNames, insert_layer, names_of
from immunization.runtime.errors import UserError
from immunization.runtime.jobs.checkpoint import Checkpoint
from immunization.study.components import import_component
from immunization.study.parameters import completed


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network, and where it is cut.

    >>> from torch import nn
    >>> import immunization as im
    >>> model = nn.Sequential()
    >>> _ = model.append(nn.Conv2d(3, 4, 3, 2)).append(nn.Conv2d(4, 8, 3, 2))
    >>> _ = model.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten()).append(nn.Linear(8, 2))
    >>> im.Network(model, tail="1", head="4")
    Network Sequential: tail 1, head 4

    Attributes:
        model: any `torch.nn.Module` from normalised images (B, 3, S, S) to logits (B, C). It is not
            changed.
        tail: name of the module that is immunized, as in ``model.named_modules()``, or several in
            the order of the forward pass. What lies between them and the head stays as it is.
        head: name of the linear layer that gives the logits, or of a module that contains it.
        normalise: mean and standard deviation of a pixel over 255, by channel, that the model was
            trained with.

    Raises:
        UserError: for names that the model has not.
    """

    model: nn.Module
    tail: str | Sequence[str]
    head: str
    normalise: tuple[Any, Any] = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))

    def __post_init__(self) -> None:
        resolved_names(self.model, self.tail, self.head, "network")

    def features(self, images: Any, batch: int = 256) -> Tensor:
        """What enters the head, shape (N, D), on the CPU: for `Task`, and so for `assess`.

        A network that was exported is read back so: load the state dict into the model, and assess
        the features of both tasks before and after.

        Args:
            images: uint8 (N, 3, S, S), before any normalisation.
            batch: images at a time.
        """
        pixels = pixels_of(images, "the")
        model = self.model.eval()
        head = model.get_submodule(resolved_names(model, self.tail, self.head, "network").head)
        mean, std = (torch.as_tensor(v, dtype=torch.float32) for v in self.normalise)
        device = next(model.parameters()).device
        kept: list[Tensor] = []
        hook = head.register_forward_pre_hook(lambda _, given: kept.append(given[0].cpu()))
        try:
            with torch.no_grad():
                for part in pixels.split(batch):
                    scaled = (part.float() / 255 - mean.reshape(-1, 1, 1)) / std.reshape(-1, 1, 1)
                    model(scaled.to(device))
        finally:
            hook.remove()
        return torch.cat(kept)

    def __repr__(self) -> str:
        tail = self.tail if isinstance(self.tail, str) else ", ".join(self.tail)
        return f"Network {type(self.model).__name__}: tail {tail}, head {self.head}"


@dataclass(frozen=True, eq=False, repr=False)
class ImmunizedNetwork:
    """What `immunize_network` made.

    Attributes:
        network: what it was made from.
        trajectory: what the method recorded on its way.
        record: method, parameters and seed.
    """

    network: Network
    trajectory: pd.DataFrame
    record: dict[str, Any]
    _state: dict[str, Tensor] = field(repr=False)
    _head: str = ""

    def __repr__(self) -> str:
        return (
            f"{self.network} immunized by {self.record['method']}: {len(self._state)} tensors, "
            f"{len(self.trajectory)} recorded steps"
        )

    @property
    def has_layer(self) -> bool:
        """Whether the method put a linear layer before the head."""
        return f"{self._head}.layer.weight" in self._state

    def features(self, images: Any, batch: int = 256) -> Tensor:
        """`Network.features` of the immunized network."""
        network = Network(self.module(), self.network.tail, self._head, self.network.normalise)
        return network.features(images, batch)

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors under the model's own names.

        A method that adds a layer before the head (``optimum``) has it in HEAD.layer and the head
        in HEAD.head; `module` gives a model that loads it.
        """
        return dict(self._state)

    def module(self) -> nn.Module:
        """A copy of the model with the immunized weights, in eval mode."""
        model = copy.deepcopy(self.network.model).cpu()
        if self.has_layer:
            insert_layer(model, self._head)
        model.load_state_dict(self._state, strict=False)
        return model.eval()

    def save(self, path: str | Path) -> Path:
        """Write `state_dict` to a .safetensors file.

        Raises:
            UserError: for another suffix, or a folder that cannot be written.
        """
        from safetensors.torch import save_file

        from immunization.runtime.files.atomic import atomic

        path = Path(path)
        if path.suffix != ".safetensors":
            raise UserError(f"{path}: the suffix is .safetensors.")
        with atomic(path, sealed=False) as draft:
            save_file(self._state, draft)
        return path


def immunize_network(
    network: Network,
    benign: tuple[Any, Any],
    harmful: tuple[Any, Any],
    *,
    method: str = "alg1",
    seed: int = 0,
    device: str = "cpu",
    **parameters: Any,
) -> ImmunizedNetwork:
    """Immunize the tail of a network.

    Args:
        network: the model and its names.
        benign: images and labels of the task that the model is released for: uint8 (N, 3, S, S),
            array or tensor, and whole numbers (N,) below the number of its classes.
        harmful: the same of the harmful task; its labels may be any whole numbers from 0.
        method: a file of ``networks/methods``.
        seed: of what the method draws.
        device: "cpu" or "cuda".
        parameters: of the method, as in a config; config/networks.md explains each.

    Raises:
        UserError: where the model cannot be cut at the names, images or labels do not fit it, an
            unknown method or parameter, or a method that diverges.

    >>> import torch
    >>> from torch import nn
    >>> import immunization as im
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 8, 3, 2), nn.AdaptiveAvgPool2d(1),
    ...                       nn.Flatten(), nn.Linear(8, 2))
    >>> images = torch.randint(256, (40, 3, 16, 16), dtype=torch.uint8)
    >>> labels = torch.arange(40) % 2
    >>> net = im.Network(model, tail="1", head="4")
    >>> done = im.immunize_network(net, (images, labels), (images.flip(0), labels), method="alg1",
    ...                            steps=2)
    >>> sorted(done.state_dict()) == sorted(model.state_dict())
    True
    """
    complete = completed("networks/methods", "method", method, parameters)
    module = import_component("networks/methods", method)
    pixels, labels = images_of(benign, "benign")
    other, other_labels = images_of(harmful, "harmful")
    size = pixels.shape[-1]
    if other.shape[-1] != size:
        raise UserError(f"benign images have {size} pixels a side and harmful {other.shape[-1]}.")
    model = copy.deepcopy(network.model).cpu().float().eval()
    before = names_of(model)
    names = resolved_names(model, network.tail, network.head, "network")
    backbone, head = traced_cut(model, names, size, "network")
    own = OwnNames.of(before, backbone, head)
    if int(labels.max()) >= head.out_features:
        raise UserError(
            f"benign labels go up to {int(labels.max())}, and the head has {head.out_features} "
            f"classes, 0 to {head.out_features - 1}."
        )
    mean, std = (torch.as_tensor(v, dtype=torch.float32) for v in network.normalise)
    backbone.mean, backbone.std = mean.reshape(-1, 1, 1), std.reshape(-1, 1, 1)
    backbone.to(device).eval().requires_grad_(False)
    pretrained = Pretrained("network", backbone, head.to(device), {})
    parts = [
        Activations(backbone, InMemory(p.to(device), y.to(device)), size)
        for p, y in ((pixels, labels), (other, other_labels))
    ]
    with tempfile.TemporaryDirectory() as folder:
        unsaved = Checkpoint(Path(folder) / "unfinished.safetensors", [], float("inf"))
        tensors, rows = immunized(
            pretrained, parts[0], parts[1], module, complete, ("network", "harmful", seed), unsaved
        )
    tail = Tail(backbone)
    new_head = nn.Linear(head.in_features, head.out_features, bias=head.bias is not None)
    load_released(tail, new_head, tensors)
    state = own.state(backbone, tail, new_head)
    if "tail.layer.theta" not in tensors:  # what no image passes through stays as it is
        whole = {n: v.detach().cpu().clone() for n, v in network.model.state_dict().items()}
        state = whole | state
    return ImmunizedNetwork(
        network,
        pd.DataFrame(rows),
        {"method": method, "parameters": complete, "seed": seed},
        state,
        own.head,
    )


def load_released(tail: Tail, head: nn.Linear, tensors: dict[str, Tensor]) -> None:
    """Put tensors of `networks.files.release` into a tail and a head."""
    from immunization.networks.backbones._backbone import Layer

    if "tail.layer.theta" in tensors:
        tail.layer = Layer(torch.empty_like(tensors["tail.layer.theta"]))
    head.to(tensors["head.weight"].dtype)
    for module, part in ((tail, "tail."), (head, "head.")):
        module.load_state_dict(
            {n.removeprefix(part): v for n, v in tensors.items() if n.startswith(part)}
        )


def pixels_of(images: Any, what: str) -> Tensor:
    """Images as a tensor, checked.

    Raises:
        UserError: for another dtype or shape.
    """
    pixels = (
        images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
    )
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] != 3:
        raise UserError(
            f"{what} images have dtype {pixels.dtype} and shape {tuple(pixels.shape)}; uint8 "
            "(N, 3, S, S), before any normalisation, is needed."
        )
    if pixels.shape[2] != pixels.shape[3]:
        raise UserError(f"{what} images are {tuple(pixels.shape[2:])}; square ones are needed.")
    return pixels


def images_of(task: tuple[Any, Any], what: str) -> tuple[Tensor, Tensor]:
    """Images and labels as tensors, checked.

    Raises:
        UserError: for another dtype or shape.
    """
    images, labels = task
    pixels = pixels_of(images, what)
    values = as_array(labels)
    if values.shape != (len(pixels),) or values.dtype.kind not in "iu" or values.min() < 0:
        raise UserError(
            f"{what} labels have shape {values.shape} and dtype {values.dtype}; one whole number "
            "from 0 for each image is needed."
        )
    return pixels.cpu(), torch.from_numpy(values.astype(np.int64))
