"""One command with subcommands, each of which is loaded when it is called.

immunization assess benign.npy harmful.npy
immunization run study.yaml --cores 8
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Any

from immunization import __version__
from immunization.runtime.jobs.command import run_command
from immunization.runtime.spelling import near_spelling

TOOLS = {
    "assess": ("assess", "two files of features: is it immunized, what could be reached"),
    "immunize": ("immunize", "two files of features: write an immunized layer"),
    "run": ("run", "run a study"),
    "check": ("check", "check config files; nothing is run"),
    "report": ("report", "what a finished study shows, in the terminal"),
    "verify": ("verify", "check the results of studies against their sums"),
    "archive": ("archive", "put a finished study into one file, or unpack one"),
    "export": ("export", "take an immunized layer or network out of a study"),
    "new": ("new", "write a method, attacker, figure, data set or network of your own"),
    "check-plugin": ("check_plugin", "check a file of your own, or an installed package's"),
    "rank-sweeps": ("rank_sweeps", "rank the members of a study's sweeps"),
}
"""Subcommands: module of `immunization.tools`, and one line of help. Each module has ``parser()``
and ``main(arguments)``."""


def parser() -> argparse.ArgumentParser:
    """The parser of everything, for shell completion; it loads all subcommands."""
    whole = argparse.ArgumentParser(prog="immunization", description=__doc__)
    whole.add_argument("--version", action="version", version=__version__)
    parts: Any = whole.add_subparsers(dest="command")
    for name, (module, about) in TOOLS.items():
        tool = importlib.import_module(f"immunization.tools.{module}").parser()
        parts.add_parser(
            name, parents=[tool], help=about, add_help=False, conflict_handler="resolve"
        )
    return whole


def usage() -> str:
    """All subcommands."""
    lines = ["usage: immunization COMMAND ...", ""]
    lines += [f"  {name:<13} {about}" for name, (_, about) in TOOLS.items()]
    lines += [
        "",
        "immunization COMMAND --help explains one, with an example.",
        "Exit codes: 0 done; 1 something was found to be wrong (verify, check-plugin), or a job",
        "of a study failed (run); 2 the request itself is wrong.",
        "Completion: immunization --completion bash (or zsh, tcsh) prints a script for your shell.",
        "Stages of a study: python -m immunization.stages.NAME --help",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Hand the arguments to a subcommand, or say which there are."""
    words = sys.argv[1:] if arguments is None else arguments
    first = words[0] if words else ""
    if first == "--version":
        print(__version__)
    elif first == "--completion":
        import shtab

        shell = words[1] if len(words) > 1 else "bash"
        if shell not in shtab.SUPPORTED_SHELLS:
            print(f"error: --completion: one of {', '.join(shtab.SUPPORTED_SHELLS)}.",
                  file=sys.stderr)  # fmt: skip
            sys.exit(2)
        print(shtab.complete(parser(), shell))
    elif first in TOOLS:
        importlib.import_module(f"immunization.tools.{TOOLS[first][0]}").main(words[1:])
    elif first in ("-h", "--help"):
        print(usage())
        sys.exit(0)
    else:
        if first:
            near = near_spelling(first, list(TOOLS))
            print(f"error: no command {first!r}{near}.", file=sys.stderr)
        print(usage(), file=sys.stderr)
        sys.exit(2)


def console() -> None:
    """The installed command."""
    run_command(main)


if __name__ == "__main__":
    console()
