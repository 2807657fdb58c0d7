"""What components of studies of networks declare: one protocol a kind, which each file's module
fits.

Besides, every file has ``PARAMETERS``, a literal that maps parameters to JSON schemas with a
default and a description, unless it has none.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn

from immunization.data.download import Place
from immunization.networks.attacks._victim import AttackedModel, Frames
from immunization.networks.backbones._backbone import Backbone
from immunization.networks.datasets._images import Images, Listing
from immunization.networks.methods._problem import Problem
from immunization.reporting.contracts import FigureComponent, TableComponent
from immunization.study import contract
from immunization.study.components import Component


class DatasetComponent(Protocol):
    """A file in ``networks/datasets``."""

    def load(self, parameters: dict[str, Any], place: Place, size: int) -> Images | Listing:
        """Pixels in memory, or paths to decode while training; images have `size` pixels a side."""


class BackboneComponent(Protocol):
    """A file in ``networks/backbones``: a family of networks."""

    def build(self, parameters: dict[str, Any], size: int) -> tuple[Backbone, nn.Linear | None]:
        """A network, and the head of its published weights if it has some."""


class MethodComponent(Protocol):
    """A file in ``networks/methods``."""

    def immunize(self, problem: Problem, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        """Change the problem's tail and head in place; rows of the trajectory."""


class AttackerComponent(Protocol):
    """A file in ``networks/attacks``.

    Literals: ``IMAGES = True`` says that it feeds images through the whole network, ``MIRRORS =
    True`` that it wants the trunk's outputs for mirrored images too, ``CONTROL = True`` that it
    does not depend on the method, and runs once.
    """

    def attack(self, victim: AttackedModel, parameters: dict[str, Any]) -> Frames:
        """One row a run, and one a recorded step."""


PROTOCOLS: dict[str, type] = {
    "networks/datasets": DatasetComponent,
    "networks/backbones": BackboneComponent,
    "networks/methods": MethodComponent,
    "networks/attacks": AttackerComponent,
    "networks/tables": TableComponent,
    "networks/figures": FigureComponent,
}


def check(component: Component, module: Any) -> None:
    """Refuse a module that does not declare what its kind asks for.

    Raises:
        UserError: naming the file and what is missing.
    """
    contract.require(component, module, PROTOCOLS[component.kind])
