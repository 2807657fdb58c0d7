"""Any network of timm whose forward pass can be followed; `resnet` and `vit` are quicker ways."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from immunization.networks.backbones._backbone import (
    Backbone,
    check_arguments,
    create,
    of_timm,
)
from immunization.networks.backbones._traced import resolved_names, traced_cut
from immunization.runtime.errors import UserError

EXTENDS = "_backbone"
PARAMETERS: dict[str, dict[str, Any]] = {
    "name": {"type": "string", "description": "name of a network in timm."},
    "tail": {
        "oneOf": [
            {"type": "null"},
            {"type": "string"},
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
        ],
        "default": None,
        "description": "name of the module that is immunized, or several; null for the last stage "
        "or block before the head at which the network can be cut.",
    },
}


def stages(model: nn.Module, head: str) -> list[str]:
    """Modules that may be the tail, the last first: members of the last sequence, or children."""
    found = []
    for name, child in reversed(list(model.named_children())):
        inside = not any(True for _ in child.parameters())
        if inside or name == head or head.startswith(f"{name}."):
            continue
        if isinstance(child, nn.Sequential | nn.ModuleList) and len(child) > 1:
            inner = [
                n for n, part in child.named_children() if any(True for _ in part.parameters())
            ]
            found += [f"{name}.{part}" for part in reversed(inner)]
        found.append(name)
    return found


def classifier(model: Any) -> str:
    """Dotted name of the linear head, as timm itself has it.

    Raises:
        UserError: for none, or several.
    """
    given = (getattr(model, "default_cfg", None) or {}).get("classifier")
    if not isinstance(given, str):
        heads = "several heads" if given else "no head"
        raise UserError(
            f"config key 'name': {type(model).__name__} has {heads} in timm; one linear head is "
            "needed."
        )
    return given


def build(parameters: dict[str, Any], size: int) -> tuple[Backbone, nn.Linear | None]:
    """The network, and the head of published weights."""
    return of_timm(sys.modules[__name__], parameters, size)


def parts(model: nn.Module, parameters: dict[str, Any], size: int) -> tuple[Backbone, nn.Linear]:
    """The network cut in three; the parts share its modules.

    Raises:
        UserError: where it cannot be cut at the tail that is named, or at any.
    """
    what = f"network '{parameters['name']}'"
    head = classifier(model)
    wanted = parameters["tail"]
    problem: UserError | None = None
    for tail in [wanted] if wanted is not None else stages(model, head):
        try:
            backbone, linear = traced_cut(
                model, resolved_names(model, tail, head, what), size, what
            )
        except UserError as error:
            problem = problem or error
            continue
        return backbone, linear
    raise problem or UserError(f"{what}: has nothing before its head that could be a tail.")


def original(parameters: dict[str, Any], size: int) -> nn.Module:
    """The network as timm makes it.

    Raises:
        UserError: for a name or arguments that timm does not take.
    """
    check_arguments(parameters["arguments"])
    name, pretrained = parameters["name"], parameters["weights"] == "timm"
    arguments = dict(parameters["arguments"])
    made: nn.Module
    if "img_size" in arguments:
        made = create(name, pretrained=pretrained, **arguments)
    else:
        try:  # many transformers must know the size of images; other networks refuse to be told
            made = create(name, pretrained=pretrained, img_size=size, **arguments)
            arguments["img_size"] = size
        except UserError as error:
            if "img_size" not in str(error):
                raise
            made = create(name, pretrained=pretrained, **arguments)
    if getattr(made, "num_classes", None) == 0 and not pretrained:
        # Without classes by default; pre-training gives it a head for D_P's.
        return create(name, **arguments | {"num_classes": 2})
    return made
