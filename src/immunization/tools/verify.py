"""Check every result of a study against the sums that were taken when it was written.

    python -m immunization.verify results/default
    python -m immunization.verify results/*

Names every file that is missing or damaged. With `--repair` damaged files are set aside, so that
the next `snakemake` makes them anew.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from immunization import stage
from immunization.errors import UserError
from immunization.holder import Holder
from immunization.manifest import SUMS
from immunization.seals import damage, read_seal, set_aside

NEWER = "made anew since the sums were taken, and whole; run snakemake to the end"
"""What is told of a file of an unfinished run: no damage."""


def read_sums(path: Path) -> dict[str, str]:
    """Lines of a file of sums: digest by name.

    Raises:
        UserError: when it is missing or malformed.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}). It is written when a study is finished: run "
            "snakemake to the end first."
        ) from error
    found = {}
    for number, line in enumerate(lines, 1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name or ".." in Path(name).parts or Path(name).is_absolute():
            raise UserError(
                f"{path}, line {number}: not a sum. Delete the file and run snakemake again."
            )
        found[name] = digest
    return found


def verify(folder: Path) -> dict[str, str]:
    """What is wrong with a study, by file; empty where all is well.

    Args:
        folder: of the study.

    Raises:
        UserError: when the study is not finished.
    """
    problems = {}
    sums = folder / SUMS
    known = read_sums(sums)
    own = read_seal(sums)
    if own is not None and (told := damage(sums, own)):
        problems[SUMS] = told
    for name, digest in known.items():
        path = folder / name
        if not path.is_file():
            problems[name] = "missing; the next snakemake makes it"
            continue
        seal = read_seal(path)
        if seal is not None and seal["sha256"] != digest and damage(path, seal) is None:
            problems[name] = NEWER
        elif told := damage(path, {"sha256": digest, "bytes": path.stat().st_size}):
            problems[name] = told
    return problems


def main(arguments: list[str] | None = None) -> None:
    """Command line; exit code 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description="Check the results of studies.")
    parser.add_argument("folders", nargs="+", type=Path, help="results/NAME")
    parser.add_argument("--repair", action="store_true", help="set damaged files aside")
    options = parser.parse_args(arguments)
    wrong = False
    for folder in options.folders:
        if options.repair:
            Holder(folder).refuse_while_running()
        problems = verify(folder)
        for name, told in problems.items():
            print(f"{folder / name}: {told}")
            if options.repair and told != NEWER and (folder / name).is_file():
                print(f"  {set_aside(folder / name)}")
        wrong = wrong or bool(problems)
        if not problems:
            print(f"{folder}: {len(read_sums(folder / SUMS))} files, all as they were written")
        elif not options.repair and set(problems.values()) != {NEWER}:
            print("Set damaged files aside with --repair; the next snakemake makes them anew.")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    stage.run(main)
