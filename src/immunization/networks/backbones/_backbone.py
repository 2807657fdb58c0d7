"""A network in three parts: a trunk that stays as it is, the tail that is immunized, and a head."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from immunization.networks.optional_packages import require
from immunization.runtime.errors import UserError

PARAMETERS: dict[str, dict[str, Any]] = {
    "weights": {
        "type": "string",
        "default": "pretrain",
        "description": "pretrain: trained on D_P here. timm: the published weights, from timm's "
        "hub and with its head. Otherwise the path of a .safetensors file with timm's names.",
    },
    "arguments": {
        "type": "object",
        "default": {},
        "description": "further arguments to timm.create_model, such as {embed_dim: 256}.",
    },
    "epochs": {
        "type": "integer",
        "minimum": 1,
        "default": 20,
        "description": "of pre-training.",
    },
    "batch": {
        "type": "integer",
        "minimum": 2,
        "default": 512,
        "description": "number of images in a minibatch of pre-training.",
    },
    "optimiser": {
        "enum": ["sgd", "adamw"],
        "default": "sgd",
        "description": "optimiser of pre-training; sgd has Nesterov momentum 0.9.",
    },
    "learning_rate": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.4,
        "description": "peak learning rate of pre-training. The rate rises over a fifth of the "
        "steps and falls to zero by a cosine.",
    },
    "weight_decay": {
        "type": "number",
        "minimum": 0,
        "default": 0.0005,
        "description": "weight decay of pre-training; norms and biases have none.",
    },
    "label_smoothing": {
        "type": "number",
        "minimum": 0,
        "exclusiveMaximum": 1,
        "default": 0.1,
        "description": "of pre-training.",
    },
    "cutout": {
        "type": "integer",
        "minimum": 0,
        "default": 8,
        "description": "side of the grey square of Cutout in pre-training; 0 for none.",
    },
}


class Layer(nn.Module):
    """A linear layer x ↦ xᵀΘ after the features, in double precision unless it is trained.

    Attributes:
        theta: Θ, shape (D, D).
    """

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D) in the dtype of Θ."""
        with torch.autocast(features.device.type, enabled=False):
            return features.to(self.theta.dtype) @ self.theta


class Backbone(nn.Module):
    """A network that returns features.

    Attributes:
        trunk: normalised images (B, 3, S, S) → activations.
        tail: activations → features (B, D): the trainable part, and what follows it.
        layer: `Layer` after the tail, or identity.
        width: D.
        mean, std: of a pixel over 255, by channel, shape (3, 1, 1).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: nn.Module, tail: nn.Module, width: int) -> None:
        super().__init__()
        self.trunk, self.tail, self.width = trunk, tail, width
        self.layer: nn.Module = nn.Identity()
        self.register_buffer("mean", torch.full((3, 1, 1), 0.5))
        self.register_buffer("std", torch.full((3, 1, 1), 0.25))

    def normalised(self, images: Tensor) -> Tensor:
        """uint8 images as the trunk takes them."""
        return (images.float() / 255 - self.mean) / self.std

    def features(self, activations: Tensor) -> Tensor:
        """Features from the trunk's activations."""
        pooled: Tensor = self.layer(self.tail(activations))
        return pooled

    def forward(self, images: Tensor) -> Tensor:
        """Features of uint8 images."""
        return self.features(self.trunk(self.normalised(images)))


class Classifier(nn.Module):
    """Logits: features and a linear head.

    Attributes:
        body: maps inputs to features.
        head: linear.
    """

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C)."""
        features = self.body(inputs)
        outputs: Tensor = self.head(features.to(self.head.weight.dtype))
        return outputs


class Tail(nn.Module):
    """Tail and layer of a backbone, as one module on activations."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.tail, self.layer = copy.deepcopy(backbone.tail), copy.deepcopy(backbone.layer)

    def forward(self, activations: Tensor) -> Tensor:
        """Features (B, D)."""
        outputs: Tensor = self.layer(self.tail(activations))
        return outputs


def described(backbone: Backbone) -> str:
    """What is trainable, in a line for the log."""
    trainable = [name for name, _ in backbone.tail.named_parameters()]
    count = sum(value.numel() for value in backbone.tail.parameters())
    shown = ", ".join(trainable[:6]) + (", …" if len(trainable) > 6 else "")
    return (
        f"{count:,} trainable parameters in {len(trainable)} tensors ({shown}); {backbone.width} "
        "features"
    )


RESERVED = {
    "pretrained": "`weights` says where weights come from",
    "checkpoint_path": "it loads pickles, which can run code; name a .safetensors in `weights`",
    "pretrained_cfg": "`weights` says where weights come from",
    "pretrained_cfg_overlay": "`weights` says where weights come from",
    "model_name": "it is the key `name`",
    "cache_dir": "set HF_HOME in the environment",
    "features_only": "the whole network is needed, with its head",
    "out_indices": "the whole network is needed, with its head",
    "in_chans": "images have three channels",
    "drop_rate": "dropout before the head is no part of a linear head",
    "scriptable": "networks are differentiated twice",
    "exportable": "networks are differentiated twice",
}
PREFIXES = ("module.", "_orig_mod.", "model.")
"""What wrappers put before the names of a network: data parallel, torch.compile, Lightning."""
OWN = ("num_batches_tracked", "n_averaged")
"""Counters that come with weights and are none."""


def check_arguments(arguments: dict[str, Any]) -> None:
    """Refuse arguments of timm that would break what a backbone is.

    Raises:
        UserError: for any of `RESERVED`.
    """
    for key, why in RESERVED.items():
        if key in arguments:
            raise UserError(f"config key 'arguments': '{key}' can't be given: {why}.")
    classes = arguments.get("num_classes", 1)
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise UserError(
            f"config key 'arguments': num_classes is {classes!r}; a head of at least one class is "
            "needed."
        )


@contextmanager
def without_pickles() -> Iterator[None]:
    """Whatever a library would load with `torch.load` is refused."""

    def refuse(file: Any, *args: Any, **kwargs: Any) -> Any:
        raise UserError(
            f"{file}: a pickle, which can run code when it is loaded. Convert it to .safetensors "
            "on a machine that may, and name that file in the config: `weights: FILE.safetensors`."
        )

    original = torch.load
    torch.load = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.load = original


def create(name: str, *, pretrained: bool = False, **arguments: Any) -> nn.Module:
    """A network of timm.

    Raises:
        UserError: for a name or arguments that timm does not take, weights that it can't get or
            that are not finite, or that come as a pickle.
    """
    timm = require("timm")
    if not timm.is_model(name):
        close = timm.list_models(f"*{name[:6]}*")[:5]
        raise UserError(
            f"config key 'name': timm has no model '{name}'. Near are: {', '.join(close) or '–'}; "
            "timm.list_models() has all."
        )
    try:
        with without_pickles():
            model: nn.Module = timm.create_model(name, pretrained=pretrained, **arguments)
    except UserError:
        raise
    except Exception as error:  # of whatever the arguments break
        if pretrained:
            raise UserError(
                f"weights of '{name}' could not be had from timm's hub ({error}). Check the "
                "network, or fetch model.safetensors from huggingface.co/timm yourself and name "
                "the file in the config: `weights: FILE.safetensors`."
            ) from error
        raise UserError(f"timm cannot make '{name}' with {arguments}: {error}") from error
    check_finite(model, f"weights of '{name}'")
    return model


def check_finite(model: nn.Module, what: str) -> None:
    """Refuse weights that are not finite.

    Raises:
        UserError: naming the first tensor.
    """
    for name, value in model.state_dict().items():
        if value.dtype.is_floating_point and not bool(torch.isfinite(value).all()):
            raise UserError(
                f"{what}: '{name}' holds {int((~torch.isfinite(value)).sum())} values that are not "
                "finite. The file is damaged, or training had diverged."
            )


def unwrapped(state: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the prefixes of wrappers.

    Args:
        state: as read.
        wanted: of the network; a prefix that it has itself stays.
    """
    state = {name: value for name, value in state.items() if not name.endswith("n_averaged")}
    while True:
        prefix = next((p for p in PREFIXES if state and all(n.startswith(p) for n in state)), None)
        if prefix is None or all(name.startswith(prefix) for name in wanted):
            return state
        state = {name.removeprefix(prefix): value for name, value in state.items()}


def alike(one: Tensor, two: Tensor) -> bool:
    """Whether two tensors have one shape, and numbers of one kind: floats, or integers."""
    floating = one.dtype.is_floating_point == two.dtype.is_floating_point
    return one.shape == two.shape and floating and not one.dtype.is_complex


def load_weights(model: nn.Module, path: str) -> None:
    """Load a safetensors file with timm's names, or those behind a wrapper's prefix.

    Raises:
        UserError: where it is another format, unreadable, of another network, or not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.endswith(".safetensors"):
        raise UserError(
            f"config key 'weights': {path} is no .safetensors file. Other formats are pickles, "
            "which can run code when they are loaded; convert it on a machine that may."
        )
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"config key 'weights': {path} cannot be read ({error}).") from error
    wanted = model.state_dict()
    state = unwrapped(state, wanted)
    wrong = [n for n in wanted if n not in state or not alike(state[n], wanted[n])]
    wrong = [n for n in wrong if not n.endswith(OWN)]
    extra = [n for n in state if n not in wanted and not n.endswith(OWN)]
    for names, what in (
        (wrong, "missing, or of another shape or kind of numbers"),
        (extra, "in the file and not in the network"),
    ):
        if names:
            raise UserError(
                f"config key 'weights': {path} does not fit this network; {what}: "
                f"{', '.join(names[:5])}{' …' if len(names) > 5 else ''}."
            )
    model.load_state_dict({n: state.get(n, wanted[n]) for n in wanted})
    check_finite(model, f"config key 'weights': {path}")


def published(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and deviation that timm's weights were trained with, shape (3, 1, 1)."""
    config = getattr(model, "pretrained_cfg", None) or {}
    shape = (3, 1, 1)
    return (
        torch.tensor(config.get("mean", (0.5,) * 3)).reshape(shape),
        torch.tensor(config.get("std", (0.25,) * 3)).reshape(shape),
    )


def of_timm(
    family: Any, parameters: dict[str, Any], size: int
) -> tuple[Backbone, nn.Linear | None]:
    """A network of timm in three parts, and the head where its weights were not drawn here.

    Args:
        family: has ``original(parameters, size)``, the whole network, and ``parts(model,
            parameters, size)``, which cuts it.
        parameters: of the network.
        size: side of its images, in pixels.
    """
    weights = parameters["weights"]
    model = family.original(parameters, size)
    if weights not in ("timm", "pretrain"):
        load_weights(model, weights)
    backbone, head = family.parts(model, parameters, size)
    if weights == "pretrain":
        return backbone, None
    backbone.mean, backbone.std = published(model)
    return backbone, head
