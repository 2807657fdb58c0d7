"""timm and peft, imported so that they work beside a CPU build of torch.

torchvision's wheel registers its operators with a compiled library that does not load beside a CPU
build of torch; importing torchvision, which timm and peft do, then fails with "operator
torchvision::nms does not exist". Nothing here calls these operators, so declaring them is enough.
"""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

import torch

from immunization.runtime.errors import UserError

SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


@cache
def declare_operators() -> torch.library.Library | None:
    """Declare torchvision's operators where its own library could not; the object keeps them."""
    try:
        importlib.import_module("torchvision")
        return None
    except ImportError:
        return None  # timm says so itself, with what it needs
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for schema in SCHEMAS.values():
            library.define(schema)
        return library


def require(name: str) -> ModuleType:
    """Import an optional package.

    Raises:
        UserError: where it is not installed, saying how to install it.
    """
    declare_operators()
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"{name} is not installed ({error}). Studies of networks need the extra `networks`: "
            "pip install '.[networks]' in a checkout, or `make results`, which brings it."
        ) from error
