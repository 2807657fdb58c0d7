"""Check a study's config and fill in every default, with messages for people.

Needs no torch: the Snakefile imports it. The top level is described by
``workflow/schemas/config.schema.yaml``; what a data set, method, attacker or figure may be told
stands in its own file (see `immunization.registry`).
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from immunization.errors import UserError
from immunization.registry import components

SCHEMA = Path(__file__).parents[2] / "workflow" / "schemas" / "config.schema.yaml"
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*")
NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")
SINGULAR = {"datasets": "data set", "methods": "method", "attacks": "attacker", "figures": "figure"}
CHOICE = {"datasets": "source", "methods": "use", "attacks": "use", "figures": "use"}
SHARED: dict[str, dict[str, Any]] = {
    "methods": {"overrides": {"type": "object", "default": {}}},
    "figures": {"datasets": {"enum": ["all", "pairs"], "default": "all"}},
}


def schema() -> dict[str, Any]:
    """The top-level schema."""
    loaded: dict[str, Any] = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    return loaded


def resolve(raw: dict[str, Any]) -> dict[str, Any]:
    """The study that a config asks for: checked, complete, and without shorthand.

    Args:
        raw: what the YAML files say, merged. A component set to null is left out, so that an
            overlay can remove it.

    Returns:
        The config with every default filled in. Each method carries ``parameters`` for every
        data set, overrides applied.

    Raises:
        UserError: naming every key that is wrong, what is allowed, and near spellings.
    """
    study = _numbers(copy.deepcopy(raw))
    problems = [
        f"  {_describe(error)}" for error in _errors(schema(), study, path="") if error.message
    ]
    for kind in SINGULAR:
        entries = study.get(kind)
        if isinstance(entries, dict):
            study[kind] = {
                label: {} if entry is True else entry
                for label, entry in entries.items()
                if entry is not None and entry is not False
            }
    if not problems:
        _fill(schema(), study)
        for kind in SINGULAR:
            problems += list(_components(kind, study))
    if not problems:
        problems += list(_semantics(study))
    if problems:
        raise UserError("the config is not right:\n" + "\n".join(problems))
    return study


def _numbers(value: Any) -> Any:
    """YAML reads ``1e-3`` as text; people mean the number. ``1e2`` steps are 100, not 100.0."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if isinstance(value, str) and NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _errors(schema_: dict[str, Any], instance: Any, path: str) -> Iterator[ValidationError]:
    for error in sorted(Draft202012Validator(schema_).iter_errors(instance), key=str):
        error.where = ".".join([*filter(None, [path]), *map(str, error.absolute_path)])
        yield error


def _describe(error: ValidationError) -> str:
    """One line: the key, the value, the rule, and a hint."""
    where = error.where or "top level"
    value = error.instance
    rule = error.validator_value
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = sorted(set(value) - set(known))
        hints = "; ".join(f"'{name}'{_near(name, known)}" for name in unknown)
        return f"{where}: unknown key {hints}. Known keys: {', '.join(known) or 'none'}."
    if error.validator == "required":
        missing = [name for name in rule if name not in value]
        return f"{where}: missing key {', '.join(map(repr, missing))}."
    allowed = list(map(str, rule)) if isinstance(rule, list) else [str(rule)]
    words = {
        "exclusiveMinimum": f"must be greater than {rule}",
        "minimum": f"must be at least {rule}",
        "maximum": f"must be at most {rule}",
        "exclusiveMaximum": f"must be less than {rule}",
        "enum": f"must be one of {', '.join(allowed)}",
        "type": f"must be of type {' or '.join(allowed)}",
        "pattern": "must start with a letter or digit and hold letters, digits and '_' only",
        "minItems": f"needs at least {rule} entries",
        "uniqueItems": "must not repeat entries",
        "minProperties": f"needs at least {rule} entries",
        "oneOf": "fits none of the allowed forms",
    }.get(str(error.validator), error.message)
    about = error.schema.get("description", "") if isinstance(error.schema, dict) else ""
    return f"{where}: {value!r} {words}.{' It is: ' + about if about else ''}"


def _near(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(str(name), known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _fill(schema_: dict[str, Any], instance: dict[str, Any]) -> None:
    """Fill defaults of an object's schema, deeply."""
    for name, rule in schema_.get("properties", {}).items():
        if "default" in rule:
            instance.setdefault(name, copy.deepcopy(rule["default"]))
        if isinstance(instance.get(name), dict) and "properties" in rule:
            _fill(rule, instance[name])


def _components(kind: str, study: dict[str, Any]) -> Iterator[str]:
    """Check and complete every entry of one kind; yields what is wrong."""
    available = components(kind)
    singular, choice = SINGULAR[kind], CHOICE[kind]
    for label, entry in study[kind].items():
        where = f"{kind}.{label}"
        if not LABEL.fullmatch(str(label)):
            yield f"  {where}: a label holds letters, digits and '_' only."
            continue
        if not isinstance(entry, dict):
            yield f"  {where}: {entry!r} must be a mapping of parameters; {{}} for the defaults."
            continue
        name = entry.setdefault(choice, label)
        if name not in available:
            yield (
                f"  {where}: no {singular} named '{name}'{_near(name, list(available))}. There "
                f"are: {', '.join(available)}. Files in src/immunization/{kind}/ add more."
            )
            continue
        parameters = available[name].parameters
        rule = {
            "type": "object",
            "additionalProperties": False,
            "properties": parameters | SHARED.get(kind, {}) | {choice: {"type": "string"}},
            "required": [key for key, value in parameters.items() if "default" not in value],
        }
        wrong = [f"  {_describe(error)}" for error in _errors(rule, entry, where)]
        yield from wrong
        if wrong:
            continue
        _fill(rule, entry)
        shared = {key: entry.pop(key) for key in SHARED.get(kind, {})}
        chosen = entry.pop(choice)
        study[kind][label] = {choice: chosen, "parameters": dict(entry), **shared}
        if kind == "methods":
            yield from _overrides(where, study, study[kind][label], parameters)


def _overrides(
    where: str, study: dict[str, Any], method: dict[str, Any], parameters: dict[str, Any]
) -> Iterator[str]:
    """Turn a method's overrides into parameters for each data set."""
    overrides = method.pop("overrides")
    rule = {"type": "object", "additionalProperties": False, "properties": parameters}
    overrides = {name: values for name, values in overrides.items() if values is not None}
    for dataset, values in overrides.items():
        if dataset not in study["datasets"]:
            known = list(study["datasets"])
            yield f"  {where}.overrides: no data set '{dataset}'{_near(dataset, known)}."
        for error in _errors(rule, values, f"{where}.overrides.{dataset}"):
            yield f"  {_describe(error)}"
    method["parameters"] = {
        dataset: method["parameters"] | overrides.get(dataset, {}) for dataset in study["datasets"]
    }


def _semantics(study: dict[str, Any]) -> Iterator[str]:
    """What a schema can't say."""
    if "identity" not in {entry["use"] for entry in study["methods"].values()}:
        yield "  methods: 'identity' is missing; every ratio is taken against it."


def has_pairs(study: dict[str, Any], dataset: str) -> bool:
    """Whether a data set of a resolved study has many ordered pairs (for heat maps)."""
    parameters = study["datasets"][dataset]["parameters"]
    return parameters.get("pairs") == "all"
