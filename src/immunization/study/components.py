"""Finds methods, attackers, data sets, figures and tables by their files, importing none.

A component is one Python file. It declares its parameters as a literal,
`PARAMETERS = {name: JSON schema with a default}`, which is read from the syntax tree: so the
Snakefile can check a config without importing torch, and adding a component takes one new file.
`EXTENDS = "_name"` adds the parameters of a helper file of the same folder, or of ours.

Files lie in one of the folders below; in an installed package that names them as entry points of
the group of their kind, such as ``immunization.methods``; or anywhere, where a config names the
path (``use: my_method.py``), which runs that file and therefore wants `environment.ALLOW_CODE`.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from immunization.runtime import environment
from immunization.runtime.errors import UserError
from immunization.runtime.record.fingerprint import module_file

PACKAGE = Path(__file__).parents[1]
FOLDERS = (
    "linear/datasets", "linear/methods", "linear/attacks", "linear/figures", "linear/tables",
    "networks/datasets", "networks/backbones", "networks/methods", "networks/attacks",
    "networks/figures", "networks/tables",
)  # fmt: skip
READ = (
    "PARAMETERS", "EXTENDS", "CAPTION", "EIGENBASIS", "GRID", "ROWS", "PREDICTS", "REPORT",
    "IMAGES", "MIRRORS", "CONTROL", "SHIPPED", "CLASSES", "NEEDS_HARMFUL_LABELS",
)  # fmt: skip
"""Literals of a component that something reads."""
LITERALS = ("PARAMETERS", "EXTENDS", "CAPTION")
"""What is read without running the file."""


def group(kind: str) -> str:
    """Entry points of a kind: ``immunization.methods``, ``immunization.networks.methods``.

    >>> group("linear/methods"), group("networks/attacks")
    ('immunization.methods', 'immunization.networks.attacks')
    """
    return f"immunization.{kind.removeprefix('linear/').replace('/', '.')}"


@dataclass(frozen=True)
class Component:
    """One file of a kind.

    Attributes:
        kind: one of `FOLDERS`.
        name: what a config calls it: its file name without ``.py``, the name of an entry point, or
            a path.
        path: the file.
        module: dotted name, or the path as the config has it.
        summary: first line of its docstring.
        parameters: JSON schema of each parameter, with ``default`` and ``description``.
        traits: other upper-case literals of the module, such as ``CAPTION``.
        origin: the installed package that it comes from; empty for ours and for paths.
        rival: the installed package that has one of the same name too.
    """

    kind: str
    name: str
    path: Path
    module: str
    summary: str
    parameters: dict[str, dict[str, Any]]
    traits: dict[str, Any]
    origin: str = ""
    rival: str = ""


@cache
def components(kind: str) -> dict[str, Component]:
    """All components of a kind that have a name, ours in alphabetical order, then installed ones.

    A file of another package that cannot be read is left out here; `component` says why.
    """
    if kind not in FOLDERS:
        raise ValueError(f"Components are {', '.join(FOLDERS)}. Got {kind!r}.")
    by_name = {}
    for path in sorted((PACKAGE / kind).glob("*.py")):
        if not path.stem.startswith("_"):
            module = f"immunization.{kind.replace('/', '.')}.{path.stem}"
            by_name[path.stem] = _read(kind, path.stem, path, module)
    for point in _points(kind):
        try:
            read = _installed(kind, point)
        except UserError:
            continue
        known = by_name.get(point.name)
        if known is not None:
            by_name[point.name] = _with_rival(known, read)
        else:
            by_name[point.name] = read
    return by_name


def component(kind: str, name: str) -> Component:
    """The component that a config names.

    Raises:
        UserError: for a file that is missing or declares what it should not, or a name that two
            packages have.
        KeyError: for a name that nothing has.
    """
    if is_path(name):
        return _of_path(kind, name)
    known = components(kind).get(name)
    if known is None:
        for point in _points(kind):
            if point.name == name:
                return _installed(kind, point)  # which says why it could not be read
        raise KeyError(
            f"Nothing in {kind} is named {name!r}; there are {', '.join(components(kind))}."
        )
    if known.rival:
        first = known.origin or "this package"
        raise UserError(
            f"'{name}' in {kind}: {first} and {known.rival} both have one of this name. Rename "
            f"the entry point in the group {group(kind)}."
        )
    return known


def is_path(name: str) -> bool:
    """Whether a config names a file, and not something by its name."""
    return name.endswith(".py")


def code_allowed() -> bool:
    """Whether files that a config names may be run."""
    return os.environ.get(environment.ALLOW_CODE) == "1"


@cache
def _points(kind: str) -> tuple[Any, ...]:
    return tuple(sorted(entry_points(group=group(kind)), key=lambda point: str(point.name)))


def _installed(kind: str, point: Any) -> Component:
    origin = f"{point.dist.name} {point.dist.version}" if point.dist else str(point.value)
    path = module_file(point.module)
    if path is None:
        raise UserError(
            f"{origin}: the entry point '{point.name}' of {point.group} names {point.value}, and "
            "there is no such module. It names a module, package.module."
        )
    return _read(kind, point.name, path, point.module, origin)


def _with_rival(known: Component, other: Component) -> Component:
    return Component(**{**vars(known), "rival": other.origin})


def _of_path(kind: str, name: str) -> Component:
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(
            f"{name}: there is no such file (from {Path.cwd()}). A name that ends with .py is the "
            "path of a file of your own."
        )
    if any(c.isspace() for c in name):
        raise UserError(f"{name}: the path holds spaces. Rename the file or its folder.")
    return _read(kind, name, path, str(path))


def _read(kind: str, name: str, path: Path, module: str, origin: str = "") -> Component:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as Python ({error}).") from error
    literals: dict[str, Any] = {}
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        if isinstance(target, ast.Name) and target.id.isupper():
            try:
                literals[target.id] = ast.literal_eval(node.value)
            except (ValueError, TypeError):
                if target.id in LITERALS:
                    raise UserError(
                        f"{path}, line {node.lineno}: {target.id} must be a literal, since it is "
                        "read without running the file."
                    ) from None
    summary = (ast.get_docstring(tree) or "").split("\n")[0]
    parameters = literals.pop("PARAMETERS", {})
    if not path.is_relative_to(PACKAGE):  # tests hold ours against it
        check_spelling(path, list(literals))
        check_parameters(path, parameters)
    if "EXTENDS" in literals:
        helper = path.with_name(f"{literals['EXTENDS']}.py")
        if not helper.is_file():
            helper = PACKAGE / kind / helper.name
        if not helper.is_file():
            raise UserError(
                f"{path}: EXTENDS is {literals['EXTENDS']!r}, and there is no {helper.name} beside "
                f"it or in immunization/{kind}/."
            )
        parameters = _read(kind, helper.stem, helper, helper.stem).parameters | parameters
    return Component(kind, name, path, module, summary, parameters, literals, origin)


def check_spelling(path: Path, names: list[str]) -> None:
    """Refuse a literal that is nearly one that is read; it would be ignored in silence.

    Raises:
        UserError: naming both.
    """
    for name in set(names) - set(READ):
        near = difflib.get_close_matches(name, READ, n=1, cutoff=0.8)
        if near:
            raise UserError(
                f"{path}: declares {name}, which nothing reads (did you mean {near[0]}?)."
            )


def check_parameters(path: Path, parameters: Any) -> None:
    """Refuse declarations that would be found out when a job has run for an hour.

    Raises:
        UserError: naming the file and the parameter.
    """
    from jsonschema import Draft202012Validator  # not on every machine that runs stages
    from jsonschema.exceptions import SchemaError

    if not isinstance(parameters, dict) or not all(isinstance(key, str) for key in parameters):
        raise UserError(
            f"{path}: PARAMETERS maps names to JSON schemas. Got {type(parameters).__name__}."
        )
    for name, rule in parameters.items():
        where = f"{path}: PARAMETERS[{name!r}]"
        if not isinstance(rule, dict):
            raise UserError(f"{where} is {rule!r}; a JSON schema is a mapping, such as "
                            '{"type": "number", "default": 1}.')  # fmt: skip
        try:
            Draft202012Validator.check_schema(rule)
        except SchemaError as error:
            key = ".".join(map(str, error.absolute_path)) or "it"
            raise UserError(
                f"{where} is no JSON schema: {key} is {error.instance!r}. Types are number, "
                "integer, boolean, string, array, object and null."
            ) from None
        if "default" in rule and not Draft202012Validator(rule).is_valid(rule["default"]):
            raise UserError(f"{where}: its default, {rule['default']!r}, breaks its own rule.")


def import_component(kind: str, name: str) -> Any:
    """Import a component's module.

    Raises:
        UserError: for a file that a config names, unless `environment.ALLOW_CODE` is set; and where
            the import fails in a file that is not ours.
    """
    found = component(kind, name)
    if not is_path(name) and not found.origin:
        return importlib.import_module(found.module)
    try:
        if not is_path(name):
            module = importlib.import_module(found.module)
        elif code_allowed():
            module = run_file(found.path.resolve())
        else:
            raise UserError(needs_permission(name))
    except UserError:
        raise
    except Exception as error:  # whatever a file of somebody else's does while it is imported
        raise UserError(
            f"{found.path}: could not be imported ({type(error).__name__}: {error})."
        ) from error
    # By name, since the wings know this module and not the other way round.
    importlib.import_module(f"immunization.{kind.split('/')[0]}.contracts").check(found, module)
    return module


@cache
def run_file(path: Path) -> Any:
    """Run a file as a module, once; who calls it has asked `code_allowed`."""
    spec = importlib.util.spec_from_file_location(f"immunization_file_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def needs_permission(name: str) -> str:
    """Why a file that a config names is not run, and what to do."""
    return (
        f"{name}: the config names a file of code, which would run with your rights. Read it; then "
        f"allow it with --allow-code (immunization run, export), or {environment.ALLOW_CODE}=1 in "
        "the environment."
    )
