"""One command with subcommands, each of which is loaded when it is called.

python -m immunization check config/mine.yaml
python -m immunization verify results/default
"""

from __future__ import annotations

import importlib
import sys

from immunization.runtime.jobs.command import run_command

TOOLS = {
    "check": ("check", "check config files; nothing is run"),
    "verify": ("verify", "check the results of studies against their sums"),
    "archive": ("archive", "put a finished study into one file, or unpack one"),
    "rank-sweeps": ("rank_sweeps", "rank the members of a study's sweeps"),
}
"""Subcommands: module of `immunization.tools`, and one line of help."""


def main(arguments: list[str] | None = None) -> None:
    """Hand the arguments to a subcommand, or say which there are."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] not in TOOLS:
        asked = bool(words) and words[0] not in ("-h", "--help")
        out = sys.stderr if asked or not words else sys.stdout
        if asked:
            print(f"error: no command {words[0]!r}.", file=out)
        print("usage: python -m immunization COMMAND ...\n", file=out)
        for name, (_, about) in TOOLS.items():
            print(f"  {name:<12} {about}", file=out)
        print("\nStages of a study: python -m immunization.stages.NAME --help", file=out)
        sys.exit(2 if out is sys.stderr else 0)
    name = words[0]
    sys.argv[0] = f"python -m immunization {name}"
    importlib.import_module(f"immunization.tools.{TOOLS[name][0]}").main(words[1:])


if __name__ == "__main__":
    run_command(main)
