"""Run a study: the workflow of this checkout, or the one that the installed package carries."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from immunization.runtime import environment
from immunization.runtime.errors import UserError
from immunization.runtime.jobs.command import run_command
from immunization.runtime.record.fingerprint import SOURCE
from immunization.runtime.spelling import near_spelling
from immunization.study.components import code_allowed
from immunization.study.load import load, merged
from immunization.study.preflight import check_inputs
from immunization.study.resolve import resolve
from immunization.tools._command import command
from immunization.tools.check import OPTIONS, refuse_unwritable_cache

PLACES = (SOURCE.parent, SOURCE / "immunization" / "_workflow")
"""Where the Snakefile lies: in a checkout, or in an installed package."""
CORES = ("--cores", "-c", "--jobs", "-j", "--profile", "--executor")
"""Options that say how many jobs run at a time, or where."""
OWN_OPTIONS = ("--allow-code", "--verbose")


def workflow() -> Path:
    """Folder of the workflow.

    Raises:
        UserError: where there is none.
    """
    for place in PLACES:
        if (place / "Snakefile").is_file():
            return place
    raise UserError(f"there is no Snakefile in {' or '.join(map(str, PLACES))}. Install again.")


def carried() -> dict[str, Path]:
    """Configs that come with the package, by name."""
    paths = {path.stem: path for path in sorted((workflow() / "config").glob("*.yaml"))}
    return {"default": paths.pop("config"), **paths}


def config_file(word: str) -> Path:
    """The config file that a word names: a path, or the name of one that comes along.

    Raises:
        UserError: for neither.
    """
    if Path(word).is_file():
        return Path(word)
    known = carried()
    if word in known:
        return known[word]
    near = near_spelling(word, list(known))
    raise UserError(
        f"{word}: there is no such file (from {Path.cwd()}){near}. Studies that come along have "
        f"the names {', '.join(known)}."
    )


def parser() -> argparse.ArgumentParser:
    """Of this command."""
    made = command(
        "run",
        "Run a study. Results go to results/NAME below the folder that you are in. A second call "
        "does what is left, or nothing. All other options are Snakemake's.",
        "immunization run study.yaml --cores 8\n"
        "immunization run default                     # a study that comes along\n"
        "immunization run study.yaml --dry-run        # what would run, and why\n"
        "immunization run study.yaml --profile profiles/slurm",
    )
    made.add_argument("config", nargs="*", help="YAML files, later ones over earlier ones; or the "
                      "name of a study that comes along; default: default")  # fmt: skip
    made.add_argument(
        "--allow-code", action="store_true",
        help="run files of code that the config names (use: my_method.py); read them first",
    )  # fmt: skip
    made.add_argument("--verbose", action="store_true", help="all that Snakemake prints")
    return made


def split(given: list[str]) -> tuple[list[str], list[str]]:
    """Config files of a command line, and what is left for Snakemake.

    Words before the first option, and those behind ``--configfile``, are config files.

    Raises:
        UserError: for a word behind ``--configfile`` that is none, such as a target.
    """
    configs: list[str] = []
    words: list[str] = []
    taking, leading = False, True
    for word in given:
        name, sign, value = word.partition("=")
        if name in OPTIONS:
            taking, leading = not sign, False
            configs += [value] if sign else []
        elif word.startswith("-"):
            taking = leading = False
            words.append(word)
        elif taking and not word.endswith((".yaml", ".yml", ".json")):
            raise UserError(
                f"--configfile takes every word that follows, and {word} is no config file. Put "
                f"targets before it, or leave it out: immunization run {' '.join(configs)} -- "
                f"{word}"
            )
        elif taking or leading:
            configs.append(word)
        else:
            words.append(word)
    return configs or ["default"], [word for word in words if word not in OWN_OPTIONS]


def command_line(configs: list[Path], words: list[str], *, verbose: bool = False) -> list[str]:
    """The command line of Snakemake."""
    targets = words[words.index("--") + 1 :] if "--" in words else []
    options = words[: words.index("--")] if "--" in words else words
    line = [sys.executable, "-m", "snakemake", *targets]
    line += ["--snakefile", str(workflow() / "Snakefile")]
    if not any(word.split("=")[0] in CORES for word in options):
        line += ["--cores", "all"]
    if not verbose and not any(word.startswith("--logger") for word in options):
        line += ["--logger", "immunization"]
    return [*line, *options, "--configfile", *map(str, configs)]


def main(arguments: list[str] | None = None) -> None:
    """Command line; Snakemake takes the place of this process."""
    given = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(given):
        parser().parse_args(["--help"])
    named, words = split(given)
    configs = [config_file(word) for word in named]
    if importlib.util.find_spec("snakemake") is None:
        raise UserError(
            "Snakemake is not installed. It comes with the extra `workflow` of this package: "
            "pip install '.[workflow]' in a checkout, or 'FILE.whl[workflow]'."
        )
    if "--allow-code" in given:
        os.environ[environment.ALLOW_CODE] = "1"
    refuse_unwritable_cache()
    for path in configs:
        load(path)
    study = resolve(merged(configs))
    check_inputs(study, run_code=code_allowed())
    os.environ[environment.REPORT] = f"results/{study['study']}/report.html"
    os.environ[environment.CHECKED] = "1"
    line = command_line(configs, words, verbose="--verbose" in given)
    sys.stdout.flush()
    os.execv(line[0], line)  # signals then reach Snakemake, and its exit code whoever asked


if __name__ == "__main__":
    run_command(main)
