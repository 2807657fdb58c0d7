"""Parameters of one component that somebody names, checked and completed: for calls from Python."""

from __future__ import annotations

from typing import Any

from immunization.runtime.errors import UserError
from immunization.runtime.spelling import near_spelling
from immunization.study.components import component, components, is_path
from immunization.study.validation import (
    as_number,
    describe,
    fill_defaults,
    not_finite,
    schema_errors,
)


def completed(folder: str, singular: str, name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Parameters with every default filled in, as a config would get them.

    Args:
        folder: kind of component, such as ``"linear/methods"``.
        singular: what one is called in messages.
        name: of the component.
        given: parameters.

    Raises:
        UserError: naming what is wrong, what is allowed, and near spellings.
    """
    available = components(folder)
    if name not in available and not is_path(name):
        raise UserError(
            f"no {singular} named '{name}'{near_spelling(name, list(available))}. There are: "
            f"{', '.join(available)}."
        )
    rules = component(folder, name).parameters
    parameters = {key: as_number(value, rules.get(key)) for key, value in given.items()}
    rule = {
        "type": "object",
        "additionalProperties": False,
        "properties": rules,
        "required": [key for key, value in rules.items() if "default" not in value],
    }
    problems = [describe(error) for error in schema_errors(rule, parameters, name)]
    problems += [line.strip() for line in not_finite(parameters, name)]
    if problems:
        raise UserError(f"{singular} {problems[0]}" if len(problems) == 1 else
                        f"{singular}:\n  " + "\n  ".join(problems))  # fmt: skip
    fill_defaults(rule, parameters)
    return parameters
