"""Check every result of a study against the sums that were taken when it was written.

    immunization verify results/default
    immunization verify results/*

Names every file that is missing or damaged. With `--repair` damaged files are set aside, so that
the next `snakemake` makes them anew.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from immunization.runtime.files.checksums import quarantine
from immunization.runtime.jobs.command import run_command
from immunization.runtime.jobs.run_lock import RunLock
from immunization.runtime.record.sums import NEWER, SUMS, read_sums, verify
from immunization.tools._command import command, print_json


def parser() -> argparse.ArgumentParser:
    """Of this command."""
    made = command(
        "verify",
        "Check the results of studies against the sums that were taken when they were written.",
        "immunization verify results/default\nimmunization verify results/default --repair",
    )
    made.add_argument("folders", nargs="+", type=Path, help="results/NAME")
    made.add_argument("--repair", action="store_true", help="set damaged files aside")
    made.add_argument("--json", action="store_true", help="problems by file, for programs")
    return made


def main(arguments: list[str] | None = None) -> None:
    """Command line; exit code 1 where anything is wrong."""
    options = parser().parse_args(arguments)
    wrong = False
    if options.json:
        found = {
            str(folder / name): problem
            for folder in options.folders
            for name, problem in verify(folder).items()
        }
        print_json(found)
        sys.exit(1 if found else 0)
    for folder in options.folders:
        if options.repair:
            RunLock(folder).refuse_while_running()
        problems = verify(folder)
        for name, difference in problems.items():
            print(f"{folder / name}: {difference}")
            if options.repair and difference != NEWER and (folder / name).is_file():
                print(f"  {quarantine(folder / name)}")
        wrong = wrong or bool(problems)
        if not problems:
            print(f"{folder}: {len(read_sums(folder / SUMS))} files, all as they were written")
        elif not options.repair and set(problems.values()) != {NEWER}:
            print("Set damaged files aside with --repair; the next snakemake makes them anew.")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    run_command(main)
