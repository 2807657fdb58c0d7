"""Whether a component's module declares what its kind asks for, before anything runs it."""

from __future__ import annotations

import inspect
from typing import Any

from immunization.runtime.errors import UserError
from immunization.study.components import Component


def missing(module: Any, protocol: type) -> list[str]:
    """What a module lacks of a protocol, in words."""
    problems = []
    for literal in inspect.get_annotations(protocol):
        if not hasattr(module, literal):
            problems.append(f"`{literal}` is missing")
    for name, wanted in vars(protocol).items():
        if not inspect.isfunction(wanted) or name.startswith("_"):
            continue
        names = list(inspect.signature(wanted).parameters)[1:]
        call = f"`{name}({', '.join(names)})`"
        function = getattr(module, name, None)
        if function is None:
            problems.append(f"the function {call} is missing")
        elif not callable(function):
            problems.append(f"`{name}` is no function; {call} is needed")
        else:
            try:
                inspect.signature(function).bind(*names)
            except TypeError:
                got = f"{name}{inspect.signature(function)}"
                problems.append(f"`{got}` does not take what {call} is given")
    return problems


def require(component: Component, module: Any, protocol: type) -> None:
    """Refuse a module that lacks something.

    Raises:
        UserError: naming the file, and all that is missing.
    """
    problems = missing(module, protocol)
    if problems:
        raise UserError(
            f"{component.path}: {'; '.join(problems)}. `{protocol.__module__}.{protocol.__name__}` "
            f"says what a file of {component.kind} declares; `immunization new` writes one."
        )
