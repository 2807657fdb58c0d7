"""What components of linear studies declare: one protocol a kind, which each file's module fits.

Besides, every file has ``PARAMETERS``, a literal that maps parameters to JSON schemas with a
default and a description, unless it has none.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from immunization.data.download import Place
from immunization.linear.attacks._objective import Attack, AttackPlan, Objective
from immunization.linear.methods._descent import Immunized
from immunization.linear.tasks import Problem, TaskSet
from immunization.reporting.contracts import FigureComponent, TableComponent
from immunization.runtime.errors import UserError
from immunization.study import contract
from immunization.study.components import Component


class Source(Protocol):
    """A data set that was read."""

    def build(
        self, name: str, parameters: dict[str, Any], seeds: list[int], *, intercept: bool = False
    ) -> TaskSet:
        """Make the task pairs of a study."""


class DatasetComponent(Protocol):
    """A file in ``linear/datasets``."""

    def load(self, parameters: dict[str, Any], place: Place) -> Source:
        """Read the data."""


class MethodComponent(Protocol):
    """A file in ``linear/methods``.

    It may have `DEPENDS_ON_SEED`.
    """

    def immunize(self, problem: Problem, parameters: dict[str, Any]) -> Tensor | Immunized:
        """θ for every pair, shape (B, D, D), or with its trajectory."""


DEPENDS_ON_SEED = "depends_on_seed"
"""Name of a method's function of its parameters that says whether θ depends on the seed beyond the
two tasks. Without it, θ is taken to; where it is false, seeds with the same tasks share θ."""


class AttackerComponent(Protocol):
    """A file in ``linear/attacks``: a family of attackers that take steps.

    Attributes:
        EIGENBASIS: whether a rotation of the features changes nothing, so that a squared-loss
            attack follows exactly from eigenvalues and label coefficients.
        GRID: numeric parameters that come as tensors of shape (G, 1), one entry an attacker.

    A literal ``ROWS = True`` says that `attack` needs the features themselves beside their Gram
    matrix, in ``objective.data``.
    """

    EIGENBASIS: ClassVar[bool]
    GRID: ClassVar[tuple[str, ...]]

    def flops(self, rows: int, dimension: int, parameters: dict[str, Any]) -> tuple[float, float]:
        """Floating point operations of set-up, and of each step."""

    def attack(self, objective: Objective, parameters: dict[str, Any], plan: AttackPlan) -> Attack:
        """Run a grid of G attackers on M problems at once."""


class PredictorComponent(Protocol):
    """A file in ``linear/attacks``: attackers that predict and take no steps.

    Non-linear ones, and linear ones (with a parameter ``loss``) that weigh rows unequally.

    Attributes:
        PREDICTS: true.
    """

    PREDICTS: ClassVar[bool]

    def predict(
        self,
        train: Tensor,
        labels: Tensor,
        mask: Tensor,
        test: Tensor,
        parameters: dict[str, Any],
        generators: list[torch.Generator],
    ) -> Tensor:
        """Scores of held-out rows, shape (P, n).

        Args:
            train: features, shape (P, N, D).
            labels: ±1, shape (P, N).
            mask: which rows are data, shape (P, N).
            test: held-out features, shape (P, n, D).
            parameters: of the attacker.
            generators: one a problem.
        """


PROTOCOLS: dict[str, type] = {
    "linear/datasets": DatasetComponent,
    "linear/methods": MethodComponent,
    "linear/attacks": AttackerComponent,
    "linear/tables": TableComponent,
    "linear/figures": FigureComponent,
}


def check(component: Component, module: Any) -> None:
    """Refuse a module that does not declare what its kind asks for.

    Raises:
        UserError: naming the file and what is missing.
    """
    predicts = bool(component.traits.get("PREDICTS"))
    protocol = PredictorComponent if predicts else PROTOCOLS[component.kind]
    contract.require(component, module, protocol)
    for name in getattr(module, "GRID", ()):
        if name not in component.parameters:
            raise UserError(
                f"{component.path}: GRID names {name!r}, which is none of its parameters "
                f"({', '.join(component.parameters)})."
            )
