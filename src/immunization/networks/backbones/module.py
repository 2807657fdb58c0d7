"""Your own network: any `torch.nn.Module`, cut by the names of its modules."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from immunization.networks.backbones._backbone import Backbone, load_weights
from immunization.networks.backbones._traced import resolved_names, traced_cut
from immunization.runtime.errors import UserError
from immunization.study.components import code_allowed, needs_permission, run_file

EXTENDS = "_backbone"
PARAMETERS: dict[str, dict[str, Any]] = {
    "module": {
        "type": "string",
        "pattern": "^[^:]+:[A-Za-z_][A-Za-z0-9_]*$",
        "description": "what builds the network, as package.file:function or file.py:function: a "
        "function or class that gives a torch.nn.Module. It is code, which runs with your rights "
        "(`immunization run --allow-code`). `arguments` are handed to it.",
    },
    "weights": {
        "type": "string",
        "default": "pretrain",
        "description": "path of a .safetensors file with the network's own names; or pretrain: "
        "trained on D_P here.",
    },
    "arguments": {
        "type": "object",
        "default": {},
        "description": "handed to what builds the network, such as {classes: 10}.",
    },
    "tail": {
        "oneOf": [
            {"type": "string"},
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
        ],
        "description": "name of the module that is immunized, such as layer4; or several, in the "
        "order of the forward pass. What lies between them and the head stays as it is.",
    },
    "head": {
        "type": "string",
        "description": "name of the linear layer that gives the logits, or of a module whose last "
        "linear layer does.",
    },
    "mean": {
        "type": "array",
        "items": {"type": "number"},
        "minItems": 3,
        "maxItems": 3,
        "default": [0.5, 0.5, 0.5],
        "description": "of a pixel over 255, by channel, that the network was trained with.",
    },
    "std": {
        "type": "array",
        "items": {"type": "number", "exclusiveMinimum": 0},
        "minItems": 3,
        "maxItems": 3,
        "default": [0.25, 0.25, 0.25],
        "description": "standard deviation, likewise.",
    },
}


def make(name: str, arguments: dict[str, Any]) -> nn.Module:
    """Call what builds the network.

    Raises:
        UserError: without permission to run code, for a name that does not exist, and for what
            builds no module.
    """
    place, _, function = name.partition(":")
    if not code_allowed():
        raise UserError(needs_permission(name))
    try:
        if place.endswith(".py"):
            if not Path(place).is_file():
                raise UserError(f"config key 'module': there is no file {place}.")
            module = run_file(Path(place).resolve())
        else:
            module = importlib.import_module(place)
        if not hasattr(module, function):
            raise UserError(f"config key 'module': {place} has no '{function}'.")
        made = getattr(module, function)(**arguments)
    except UserError:
        raise
    except Exception as error:  # of a user's own code
        raise UserError(
            f"config key 'module': {name} failed ({type(error).__name__}: {error})."
        ) from error
    if not isinstance(made, nn.Module):
        raise UserError(
            f"config key 'module': {name} gave {type(made).__name__}; a torch.nn.Module is needed."
        )
    return made


def build(parameters: dict[str, Any], size: int) -> tuple[Backbone, nn.Linear | None]:
    """The network, and its head where its weights were given."""
    model = original(parameters, size)
    weights = parameters["weights"]
    if weights == "timm":
        raise UserError("config key 'weights': 'timm' is for networks of timm; name a file.")
    if weights != "pretrain":
        load_weights(model, weights)
    backbone, head = parts(model, parameters, size)
    if weights == "pretrain":
        return backbone, None
    for name in ("mean", "std"):
        setattr(backbone, name, torch.tensor(parameters[name]).reshape(3, 1, 1))
    return backbone, head


def parts(model: nn.Module, parameters: dict[str, Any], size: int) -> tuple[Backbone, nn.Linear]:
    """The network cut in three; the parts share its modules."""
    what = f"network {parameters['module']}"
    names = resolved_names(model, parameters["tail"], parameters["head"], what)
    backbone, head = traced_cut(model, names, size, what)
    return backbone, head


def original(parameters: dict[str, Any], size: int) -> nn.Module:
    """The network as its author has it, for export under its own names."""
    return make(parameters["module"], parameters["arguments"])
