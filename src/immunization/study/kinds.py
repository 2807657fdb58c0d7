"""The two kinds of study: which kinds of component a config has, and where their files lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

SCHEMAS = Path(__file__).parent / "schemas"


@dataclass(frozen=True)
class ComponentKind:
    """One kind of component in a config.

    Attributes:
        folder: where its files lie.
        singular: for messages.
        name_key: key that names the file.
        shared: rules of parameters that all files of the kind have.
        swept: whether entries may have a `sweep`.
    """

    folder: str
    singular: str
    name_key: str = "use"
    shared: dict[str, dict[str, Any]] = field(default_factory=dict)
    swept: bool = True


@dataclass(frozen=True)
class StudyKind:
    """One kind of study.

    Attributes:
        schema: file of the top level, in schemas/.
        components: by key of the config.
        override_by: the kind that a method's parameters may differ by (`overrides`).
    """

    schema: str
    components: dict[str, ComponentKind]
    override_by: str


OVERRIDES: dict[str, dict[str, Any]] = {"overrides": {"type": "object", "default": {}}}
LINEAR = StudyKind(
    "linear.yaml",
    {
        "datasets": ComponentKind("linear/datasets", "data set", "source"),
        "methods": ComponentKind("linear/methods", "method", shared=OVERRIDES),
        "attacks": ComponentKind("linear/attacks", "attacker"),
        "figures": ComponentKind(
            "linear/figures",
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
NETWORKS = StudyKind(
    "networks.yaml",
    {
        "datasets": ComponentKind("networks/datasets", "image data set", "source"),
        "networks": ComponentKind("networks/backbones", "family of networks", swept=False),
        "methods": ComponentKind("networks/methods", "method", shared=OVERRIDES),
        "attacks": ComponentKind("networks/attacks", "attacker"),
        "figures": ComponentKind("networks/figures", "figure", swept=False),
    },
    "networks",
)


def kind_of(raw: dict[str, Any]) -> StudyKind:
    """Which kind of study a config asks for."""
    return NETWORKS if "networks" in raw else LINEAR


def schema(kind: StudyKind = LINEAR) -> dict[str, Any]:
    """The top-level schema."""
    loaded: dict[str, Any] = yaml.safe_load((SCHEMAS / kind.schema).read_text(encoding="utf-8"))
    return loaded
