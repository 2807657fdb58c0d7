"""Look at a config before Snakemake does: whether it is safe to load, and whether it is right.

    immunization check config/mine.yaml
    immunization check --snakemake --configfile config/config.yaml config/mine.yaml

Snakemake's loader runs Python that a YAML file carries, where the file asks for its template engine
(`__use_yte__`), and resolves names of Python objects (`!!python/…`). A study needs neither; this
command refuses both and runs nothing. `make results` and `immunization run` call it first.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from immunization.runtime import environment
from immunization.runtime.errors import UserError
from immunization.runtime.jobs.command import run_command
from immunization.study.components import code_allowed, is_path
from immunization.study.kinds import kind_of
from immunization.study.load import Plain, load, merged
from immunization.study.preflight import check_inputs
from immunization.study.resolve import CODE, resolve
from immunization.tools._command import command, print_json

Plain.add_constructor("tag:yaml.org,2002:int", Plain.construct_yaml_int)
Plain.add_constructor("tag:yaml.org,2002:float", Plain.construct_yaml_float)
Plain.add_constructor("tag:yaml.org,2002:str", Plain.construct_yaml_str)

OPTIONS = ("--configfile", "--configfiles")


def refuse_unwritable_cache() -> None:
    """Check that Snakemake can write its cache; without one it ends with a traceback.

    Raises:
        UserError: naming the folder.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path("~").expanduser() / ".cache"
    folder = Path(base) / "snakemake"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}), and Snakemake keeps a cache there. "
            "Set XDG_CACHE_HOME to a folder that you may write."
        ) from error


def named_by(arguments: list[str]) -> list[Path]:
    """Config files that a command line of Snakemake names; the default study's where it names
    none."""
    named, taking = [], False
    for word in arguments:
        name, _, value = word.partition("=")
        if name in OPTIONS:
            taking = not value
            named += [value] if value else []
        elif word.startswith("-"):
            taking = False
        elif taking:
            named.append(word)
    return [Path(path) for path in named or ["config/config.yaml"]]


def code_named_by(study: dict[str, Any]) -> list[str]:
    """Files of code that a resolved study names, which a run needs permission for."""
    shape = kind_of(study)
    names = [
        entry[rule.name_key]
        for kind, rule in shape.components.items()
        for entry in study[kind].values()
    ]
    named = [e["parameters"][CODE] for e in study.get("networks", {}).values()
             if CODE in e["parameters"]]  # fmt: skip
    return sorted({name for name in names if is_path(name)} | set(named))


def parser() -> argparse.ArgumentParser:
    """Of this command."""
    made = command(
        "check",
        "Check config files and the data files that they name; nothing is run.",
        "immunization check config/config.yaml config/mine.yaml",
    )
    made.add_argument("config", nargs="*", help="YAML files, later ones over earlier ones")
    made.add_argument("--json", action="store_true", help="the complete config for programs")
    made.add_argument("--inputs", help=argparse.SUPPRESS)  # of a resolved study, by the Snakefile
    made.add_argument(
        "--snakemake",
        action="store_true",
        help="the rest is a command line of Snakemake, whose config files are checked for code "
        "alone",
    )
    return made


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    options, others = parser().parse_known_args(arguments)
    if options.snakemake:
        words = list(arguments or [])
        refuse_unwritable_cache()
        for path in named_by(words):
            load(path)
        return
    if options.inputs == "-":
        check_inputs(json.load(sys.stdin), run_code=code_allowed())
        return
    if others:
        parser().error(f"unknown argument {others[0]}")
    # Components are read as text here, and none is run.
    os.environ[environment.ALLOW_CODE] = "1"
    study = resolve(merged([Path(word) for word in options.config] or named_by([])))
    check_inputs(study, run_code=False)
    if options.json:
        print_json(study)
        return
    for name in code_named_by(study):
        print(f"{name}: is code, which a run executes; read it, then run with --allow-code")
    print(
        f"{study['study']}: {len(study['methods'])} methods, {len(study['attacks'])} attackers, "
        f"seeds {', '.join(map(str, study['seeds']))}"
    )


if __name__ == "__main__":
    run_command(main)
