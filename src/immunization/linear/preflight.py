"""Whether the data of a linear study can be read and make the tasks that it asks for."""

from __future__ import annotations

from typing import Any

from immunization.data.download import Place
from immunization.runtime.errors import UserError
from immunization.study.components import component, import_component, is_path
from immunization.study.resolve import FILES


def problems(study: dict[str, Any], *, run_code: bool) -> list[str]:
    """What is wrong with the user's own data files and with classes, a line each.

    A data set of the user's is read and its tasks are made for one seed; public ones are not
    downloaded for it, and a file of code is run where `run_code` says so.
    """
    found = []
    for label, entry in study["datasets"].items():
        parameters = entry["parameters"]
        name = entry["source"]
        if is_path(name) and not run_code:
            continue
        own = any(parameters.get(key) is not None for key in FILES)
        if not own and not component("linear/datasets", name).traits.get("SHIPPED"):
            continue
        try:
            source = import_component("linear/datasets", name).load(parameters, Place.of("", ""))
            source.build(
                label, parameters, study["seeds"][:1], intercept=study["spectrum"]["intercept"]
            )
        except UserError as error:
            found.append(f"  datasets.{label}: {error}")
    return found
