"""Assess two files of features, as `immunization.assess` does."""

from __future__ import annotations

import argparse
from pathlib import Path

from immunization.runtime.jobs.command import run_command
from immunization.tools._command import command, print_json
from immunization.tools._features import add_tasks, read_task


def parser() -> argparse.ArgumentParser:
    """Of this command."""
    made = command(
        "assess",
        "Is it immunized, what could be reached, and who breaks it? Takes seconds.",
        "immunization assess benign.npy harmful.npy --benign-labels benign.csv "
        "--harmful-labels harmful.csv\n"
        "immunization assess benign.npy harmful.npy --extractor layer.safetensors --html page.html",
    )
    add_tasks(made)
    made.add_argument("--extractor", help="the released layer: a file of `immunization immunize` "
                      "or Extractor.save")  # fmt: skip
    made.add_argument(
        "--scale",
        choices=["none", "joint", "within"],
        default="none",
        help="what is done to features first, where no extractor is given",
    )
    made.add_argument("--budget", type=int, default=2000, help="steps of an attacker")
    made.add_argument("--threshold", type=float, default=1e-3, help="loss gap of one that is done")
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="draws of rows")
    made.add_argument("--attackers", nargs="+", help="names; default: some twenty of all classes")
    made.add_argument("--json", action="store_true", help="numbers for programs")
    made.add_argument("--html", type=Path, help="write a page too")
    return made


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    options = parser().parse_args(arguments)
    benign, harmful = read_task(options, "benign"), read_task(options, "harmful")
    from immunization.api.assessment import assess

    intercept = True if options.intercept else None
    found = assess(
        benign, harmful, options.extractor,
        scale=options.scale, intercept=intercept, budget=options.budget,
        threshold=options.threshold, seeds=options.seeds, attackers=options.attackers,
    )  # fmt: skip
    if options.html:
        found.to_html(options.html)
    if options.json:
        print_json(found.to_dict())
    else:
        print(found)


if __name__ == "__main__":
    run_command(main)
