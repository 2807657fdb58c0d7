"""Check every result of a study against the sums that were taken when it was written.

    python -m immunization verify results/default
    python -m immunization verify results/*

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


def main(arguments: list[str] | None = None) -> None:
    """Command line; exit code 1 where anything is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m immunization verify", description="Check the results of studies."
    )
    parser.add_argument("folders", nargs="+", type=Path, help="results/NAME")
    parser.add_argument("--repair", action="store_true", help="set damaged files aside")
    options = parser.parse_args(arguments)
    wrong = False
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
