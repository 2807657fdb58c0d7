"""Model immunization: make a released model hard to fine-tune for a harmful task.

>>> import immunization as im
>>> import numpy as np
>>> random = np.random.default_rng(0)
>>> benign = im.Task(random.normal(size=(300, 8)), random.integers(2, size=300))
>>> harmful = im.Task(random.normal(size=(200, 8)) * np.geomspace(1, 3, 8), name="harmful")
>>> layer = im.immunize(benign, harmful)
>>> layer.transform(random.normal(size=(5, 8))).shape
(5, 8)

The names below are loaded when they are first used, so that ``import immunization`` costs nothing.
What else lies in the package serves the workflow, and may move between versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from immunization.api.assessment import Assessment, assess
    from immunization.api.attacking import AttackResults, attack
    from immunization.api.extractor import Extractor
    from immunization.api.immunizing import immunize
    from immunization.api.network import ImmunizedNetwork, Network, immunize_network
    from immunization.api.study import StudyResults, load_study
    from immunization.linear.own_tasks.task import Task
    from immunization.runtime.errors import UserError

__version__ = "0.2.0"

__all__ = [
    "Assessment",
    "AttackResults",
    "Extractor",
    "ImmunizedNetwork",
    "Network",
    "StudyResults",
    "Task",
    "UserError",
    "assess",
    "attack",
    "immunize",
    "immunize_network",
    "load_study",
]

_PLACES = {
    "Assessment": "api.assessment",
    "AttackResults": "api.attacking",
    "Extractor": "api.extractor",
    "ImmunizedNetwork": "api.network",
    "Network": "api.network",
    "StudyResults": "api.study",
    "Task": "linear.own_tasks.task",
    "UserError": "runtime.errors",
    "assess": "api.assessment",
    "attack": "api.attacking",
    "immunize": "api.immunizing",
    "immunize_network": "api.network",
    "load_study": "api.study",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'immunization' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"immunization.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
