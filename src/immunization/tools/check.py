"""Look at a config before Snakemake does: whether it is safe to load, and whether it is right.

    python -m immunization check config/mine.yaml
    python -m immunization check --snakemake --configfile config/config.yaml config/mine.yaml

Snakemake's loader runs Python that a YAML file carries, where the file asks for its template engine
(`__use_yte__`), and resolves names of Python objects (`!!python/…`). A study needs neither; this
command refuses both and runs nothing. `make results` calls it first.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from immunization.runtime.errors import UserError
from immunization.runtime.jobs.command import run_command
from immunization.study.load import Plain, load, merged
from immunization.study.resolve import resolve

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


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m immunization check", description="Check config files; nothing is run."
    )
    parser.add_argument(
        "--snakemake",
        action="store_true",
        help="the rest is a command line of Snakemake, whose config files are checked for code "
        "alone",
    )
    options, words = parser.parse_known_args(arguments)
    if options.snakemake:
        refuse_unwritable_cache()
        for path in named_by(words):
            load(path)
        return
    study = resolve(merged([Path(word) for word in words] or named_by([])))
    print(
        f"{study['study']}: {len(study['methods'])} methods, {len(study['attacks'])} attackers, "
        f"seeds {', '.join(map(str, study['seeds']))}"
    )


if __name__ == "__main__":
    run_command(main)
