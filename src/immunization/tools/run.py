"""Run a study: the workflow of this checkout, or the one that the installed package carries."""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from immunization.runtime import environment
from immunization.runtime.errors import UserError
from immunization.runtime.jobs.command import run_command
from immunization.runtime.record.fingerprint import SOURCE
from immunization.study.load import load, merged
from immunization.study.preflight import check_inputs
from immunization.study.resolve import resolve
from immunization.study.validation import near_spelling
from immunization.tools._command import command
from immunization.tools.check import refuse_unwritable_cache

PLACES = (SOURCE.parent, SOURCE / "immunization" / "_workflow")
"""Where the Snakefile lies: in a checkout, or in an installed package."""
CORES = ("--cores", "-c", "--jobs", "-j", "--profile", "--executor")
"""Options that say how many jobs run at a time, or where."""


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
    made.add_argument("config", nargs="+", help="YAML files, later ones over earlier ones; or the "
                      "name of a study that comes along")  # fmt: skip
    made.add_argument(
        "--allow-code", action="store_true",
        help="run files of code that the config names (use: my_method.py); read them first",
    )  # fmt: skip
    made.add_argument("--verbose", action="store_true", help="all that Snakemake prints")
    return made


def command_line(configs: list[Path], words: list[str], *, verbose: bool = False) -> list[str]:
    """The command line of Snakemake."""
    line = [sys.executable, "-m", "snakemake", "--snakefile", str(workflow() / "Snakefile")]
    if not any(word.split("=")[0] in CORES for word in words):
        line += ["--cores", "all"]
    if not verbose and not any(word.startswith("--logger") for word in words):
        line += ["--logger", "immunization"]
    return [*line, *words, "--configfile", *map(str, configs)]


def main(arguments: list[str] | None = None) -> None:
    """Command line; ends with Snakemake's exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    first = next((i for i, word in enumerate(given) if word.startswith("-")), len(given))
    # Words behind the first option belong to it, or are Snakemake's targets.
    options, words = parser().parse_known_args([*given[:first], *_ours(given[first:])])
    words = [word for word in given[first:] if word not in ("--allow-code", "--verbose")]
    configs = [config_file(word) for word in options.config]
    if importlib.util.find_spec("snakemake") is None:
        raise UserError(
            "Snakemake is not installed. Install it: pip install 'immunization[workflow]'."
        )
    if options.allow_code:
        os.environ[environment.ALLOW_CODE] = "1"
    refuse_unwritable_cache()
    for path in configs:
        load(path)
    study = resolve(merged(configs))
    check_inputs(study)
    code = subprocess.run(
        command_line(configs, words, verbose=options.verbose), check=False
    ).returncode
    report = Path("results", study["study"], "report.html")
    dry = any(word in ("-n", "--dry-run", "--dryrun") for word in words)
    if code == 0 and not dry and report.is_file():
        print(f"Done. The report: {report}    In the terminal: immunization report "
              f"{report.parent}", file=sys.stderr)  # fmt: skip
    sys.exit(code)


def _ours(words: list[str]) -> list[str]:
    return [word for word in words if word in ("--allow-code", "--verbose", "-h", "--help")]


if __name__ == "__main__":
    run_command(main)
