"""The two shapes of study: which kinds of component a config has, and where their files lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

SCHEMAS = Path(__file__).parents[2] / "workflow" / "schemas"


@dataclass(frozen=True)
class Kind:
    """One kind of component in a config.

    Attributes:
        folder: where its files lie.
        singular: for messages.
        choice: key that names the file.
        shared: rules of parameters that all files of the kind have.
        swept: whether entries may have a `sweep`.
    """

    folder: str
    singular: str
    choice: str = "use"
    shared: dict[str, dict[str, Any]] = field(default_factory=dict)
    swept: bool = True


@dataclass(frozen=True)
class Shape:
    """One shape of study.

    Attributes:
        schema: file of the top level.
        kinds: by key of the config.
        over: the kind that a method's parameters may differ by (`overrides`).
    """

    schema: str
    kinds: dict[str, Kind]
    over: str


OVERRIDES: dict[str, dict[str, Any]] = {"overrides": {"type": "object", "default": {}}}
LINEAR = Shape(
    "config.schema.yaml",
    {
        "datasets": Kind("datasets", "data set", "source"),
        "methods": Kind("methods", "method", shared=OVERRIDES),
        "attacks": Kind("attacks", "attacker"),
        "figures": Kind(
            "figures",
            "figure",
            shared={
                "datasets": {
                    "oneOf": [
                        {"enum": ["all", "pairs"]},
                        {"type": "array", "items": {"type": "string"}, "minItems": 1},
                    ],
                    "default": "all",
                }
            },
            swept=False,
        ),
    },
    "datasets",
)
NETWORKS = Shape(
    "networks.schema.yaml",
    {
        "images": Kind("networks/images", "image data set", "source"),
        "networks": Kind("networks/backbones", "family of networks", swept=False),
        "methods": Kind("networks/methods", "method", shared=OVERRIDES),
        "attacks": Kind("networks/attacks", "attacker"),
        "figures": Kind("networks/figures", "figure", swept=False),
    },
    "networks",
)


def shape_of(raw: dict[str, Any]) -> Shape:
    """Which shape of study a config asks for."""
    return NETWORKS if "networks" in raw else LINEAR


def schema(shape: Shape = LINEAR) -> dict[str, Any]:
    """The top-level schema."""
    loaded: dict[str, Any] = yaml.safe_load((SCHEMAS / shape.schema).read_text(encoding="utf-8"))
    return loaded
