"""Checks of a config against a schema, with messages for people."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from immunization.runtime.spelling import near_spelling

NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")


LARGEST = 2**63 - 1
"""What a whole number of 64 bits holds."""


def as_number(value: Any, rule: dict[str, Any] | None = None) -> Any:
    """YAML reads ``1e-3`` as text; people mean the number. ``1e2`` steps are 100, not 100.0.

    Where a rule asks for text, text stays.
    """
    if isinstance(value, dict):
        return {key: as_number(item) for key, item in value.items()}
    if isinstance(value, list) and (rule or {}).get("type") != "array":
        return [as_number(item) for item in value]
    if (rule or {}).get("type") == "string":
        return value
    if isinstance(value, str) and NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST:
        return int(value)
    return value


def expanded_path(path: Any) -> Any:
    """A path with ``~`` written out."""
    if not isinstance(path, str) or not path.startswith("~"):
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError:  # a user whom this machine does not know
        return path


def unprintable(value: Any, path: str = "") -> Iterator[str]:
    """Names and values with line breaks and other control characters."""
    if isinstance(value, dict):
        for key, item in value.items():
            where = f"{path}.{key}".lstrip(".")
            if isinstance(key, str) and not key.isprintable():
                yield f"  {where!r}: the name holds a line break or another control character."
            yield from unprintable(item, where)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from unprintable(item, f"{path}.{place}")
    elif isinstance(value, str) and not value.isprintable():
        yield f"  {path}: {value!r} holds a line break or another control character."


def not_finite(value: Any, path: str = "") -> Iterator[str]:
    """Numbers that no rule of a schema catches."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from not_finite(item, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from not_finite(item, f"{path}.{place}")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"  {path}: {value} is not a finite number."
    elif isinstance(value, int) and abs(value) > LARGEST:
        yield f"  {path}: {str(value)[:20]}… is too large for a whole number; 2⁶³ is the limit."
    elif isinstance(value, date):
        yield f"  {path}: {value} is a date to YAML. Put it in quotes."


# A float without a fraction is a whole number to JSON Schema; `as_number` has made those whole that
# fit 64 bits.
_Validator = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


def schema_errors(schema_: dict[str, Any], instance: Any, path: str) -> Iterator[ValidationError]:
    for error in sorted(_Validator(schema_).iter_errors(instance), key=str):
        error.where = ".".join([*filter(None, [path]), *map(str, error.absolute_path)])
        yield error


def describe(error: ValidationError) -> str:
    """One line: the key, the value, the rule, and a hint."""
    where = error.where or "top level"
    value = error.instance
    shown = repr(value) if len(repr(value)) <= 120 else f"{repr(value)[:120]}…"
    rule = error.validator_value
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = sorted(set(value) - set(known), key=str)
        hints = "; ".join(f"'{name}'{renamed_or_near(str(name), known)}" for name in unknown)
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
        "maxLength": f"must have at most {rule} letters",
        "minItems": f"needs at least {rule} entries",
        "uniqueItems": "must not repeat entries",
        "minProperties": f"needs at least {rule} entries",
        "oneOf": "fits none of the allowed forms",
    }.get(str(error.validator), error.message)
    about = error.schema.get("description", "") if isinstance(error.schema, dict) else ""
    return f"{where}: {shown} {words}.{' It is: ' + about if about else ''}"


RENAMED = {
    "images": "datasets", "third": "third_tasks", "move": "relative_step",
    "reach": "harmful_target", "allow": "benign_target", "cut": "cutout",
    "sample": "sampled_pairs", "fresh": "unseen_rows",
}  # fmt: skip
"""Keys of earlier versions, and what they are called now."""


def renamed_or_near(name: str, known: list[str]) -> str:
    """What an unknown key may have meant, in brackets."""
    if RENAMED.get(name) in known:
        return f" (now called '{RENAMED[name]}')"
    return near_spelling(name, known)


def fill_defaults(schema_: dict[str, Any], instance: dict[str, Any]) -> None:
    """Fill defaults of an object's schema, deeply."""
    for name, rule in schema_.get("properties", {}).items():
        if "default" in rule:
            instance.setdefault(name, copy.deepcopy(rule["default"]))
        if isinstance(instance.get(name), dict) and "properties" in rule:
            fill_defaults(rule, instance[name])
