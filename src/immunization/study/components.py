"""Finds methods, attackers, data sets, figures and tables by their files, importing none.

A component is one Python file in one of the folders below. It declares its parameters as a
literal, `PARAMETERS = {name: JSON schema with a default}`, which is read from the syntax tree:
so the Snakefile can check a config without importing torch, and adding a component takes one
new file. `EXTENDS = "_name"` adds the parameters of a helper file of the same folder.
"""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from immunization.runtime.errors import UserError

PACKAGE = Path(__file__).parents[1]
FOLDERS = (
    "linear/datasets", "linear/methods", "linear/attacks", "linear/figures", "linear/tables",
    "networks/datasets", "networks/backbones", "networks/methods", "networks/attacks",
    "networks/figures", "networks/tables",
)  # fmt: skip


@dataclass(frozen=True)
class Component:
    """One file of a kind.

    Attributes:
        kind: folder it lies in, one of `FOLDERS`.
        name: its file name without ``.py``; what a config calls it.
        path: the file.
        summary: first line of its docstring.
        parameters: JSON schema of each parameter, with ``default`` and ``description``.
        traits: other upper-case literals of the module, such as ``CAPTION``.
    """

    kind: str
    name: str
    path: Path
    summary: str
    parameters: dict[str, dict[str, Any]]
    traits: dict[str, Any]


@cache
def components(kind: str) -> dict[str, Component]:
    """All components of a kind, by name, in alphabetical order."""
    if kind not in FOLDERS:
        raise ValueError(f"Components are {', '.join(FOLDERS)}. Got {kind!r}.")
    by_name = {}
    for path in sorted((PACKAGE / kind).glob("*.py")):
        if not path.stem.startswith("_"):
            by_name[path.stem] = _read(kind, path)
    return by_name


def _read(kind: str, path: Path) -> Component:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    literals: dict[str, Any] = {}
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        if isinstance(target, ast.Name) and target.id.isupper():
            try:
                literals[target.id] = ast.literal_eval(node.value)
            except ValueError:
                if target.id in ("PARAMETERS", "EXTENDS", "CAPTION"):
                    raise UserError(
                        f"{path}: {target.id} must be a literal, since it is read without "
                        "running the file."
                    ) from None
    summary = (ast.get_docstring(tree) or "").split("\n")[0]
    parameters = literals.pop("PARAMETERS", {})
    if "EXTENDS" in literals:
        parameters = (
            _read(kind, path.with_name(f"{literals['EXTENDS']}.py")).parameters | parameters
        )
    return Component(kind, path.stem, path, summary, parameters, literals)


def import_component(kind: str, name: str) -> Any:
    """Import a component's module."""
    if name not in components(kind):
        raise KeyError(
            f"Nothing in {kind} is named {name!r}; there are {', '.join(components(kind))}."
        )
    return importlib.import_module(f"immunization.{kind.replace('/', '.')}.{name}")
