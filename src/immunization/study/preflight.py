"""What a job would stumble over later, found before the first begins; nothing is computed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from immunization.runtime.errors import UserError
from immunization.study.components import is_path
from immunization.study.derived import is_of_networks
from immunization.study.kinds import kind_of
from immunization.study.resolve import FILES

WORDS = (None, "pretrain", "timm")
"""Values of these keys that name no file."""


def check_inputs(study: dict[str, Any], *, run_code: bool) -> None:
    """Check the files that a resolved study names, and what they hold.

    Reads the user's own data, and loads what that needs; see `missing_inputs` for the quick part.

    Args:
        study: resolved.
        run_code: whether code that the study names may be run: own data sets and networks are then
            built too.

    Raises:
        UserError: naming every entry that cannot work.
    """
    problems = missing_inputs(study)
    if not problems:
        wing = "networks" if is_of_networks(study) else "linear"
        # By name, since wings know this package and not the other way round.
        problems = importlib.import_module(f"immunization.{wing}.preflight").problems(
            study, run_code=run_code
        )
    if problems:
        raise UserError("the study cannot run:\n" + "\n".join(problems))


def missing_inputs(study: dict[str, Any]) -> list[str]:
    """Files of a resolved study that are not there, a line each."""
    return [f"  {line}" for line in _missing(study)]


def has_own_inputs(study: dict[str, Any]) -> bool:
    """Whether a resolved study names files of the user's, or networks by name."""
    return is_of_networks(study) or any(
        entry["parameters"].get(key) is not None
        for entry in study["datasets"].values()
        for key in FILES
    )


def _missing(study: dict[str, Any]) -> Iterator[str]:
    mirror = (study.get("data") or {}).get("mirror")
    if mirror and not Path(mirror).is_dir():
        yield f"data.mirror: there is no folder {mirror} (from {Path.cwd()})."
    for kind, rule in kind_of(study).components.items():
        for label, entry in study[kind].items():
            if kind == "methods" or is_path(entry[rule.name_key]):  # a set for each data set
                continue
            for key in sorted(FILES & entry["parameters"].keys()):
                value = entry["parameters"][key]
                if value in WORDS or Path(value).exists():
                    continue
                yield (
                    f"{kind}.{label}.{key}: there is no file {value} (from {Path.cwd()}). Paths "
                    "are relative to the folder that you run in."
                )
