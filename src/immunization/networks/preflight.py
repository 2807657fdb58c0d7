"""Whether the networks and folders of images that a study names exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from immunization.networks.datasets._folders import list_folder
from immunization.networks.datasets._tree import has_parts
from immunization.networks.optional_packages import require
from immunization.runtime.errors import UserError
from immunization.runtime.spelling import near_spelling
from immunization.study.components import import_component
from immunization.study.derived import code_of


def problems(study: dict[str, Any], *, run_code: bool) -> list[str]:
    """Names that timm does not know, folders that hold no classes, and networks of the user's that
    cannot be built and cut, where `run_code` says so; a line each."""
    found = []
    for label, entry in study["networks"].items():
        if run_code and code_of(entry["parameters"]):
            family = import_component("networks/backbones", entry["use"])
            try:
                family.build(entry["parameters"], study["size"])
            except UserError as error:
                found.append(f"  networks.{label}: {error}")
    names = {
        label: entry["parameters"]["name"]
        for label, entry in study["networks"].items()
        if entry["parameters"].get("name")
    }
    if names:
        timm = require("timm")
        for label, name in names.items():
            if not timm.is_model(name):
                near = near_spelling(name, timm.list_models())
                found.append(f"  networks.{label}.name: timm has no model '{name}'{near}.")
    for label, entry in study["datasets"].items():
        path = entry["parameters"].get("path")
        if path is not None and Path(path).is_dir():
            try:
                folder = Path(path)
                parts = [child.name for child in folder.iterdir() if child.is_dir()]
                list_folder(folder / "train" if has_parts(iter(parts), str(path)) else folder)
            except UserError as error:
                found.append(f"  datasets.{label}: {error}")
    return found
