"""What the parsers of all subcommands share: names, examples, and JSON."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, NoReturn

from immunization.runtime.spelling import near_spelling


class Parser(argparse.ArgumentParser):
    """One that tells a misspelt option in a line, with what is near."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        known = [option for action in self._actions for option in action.option_strings]
        unknown = [word for word in message.split() if word.startswith("--")]
        near = near_spelling(unknown[0], known) if "unrecognized" in message and unknown else ""
        self.exit(2, f"error: {self.prog}: {message}{near}. {self.prog} --help has an example.\n")


def command(name: str, about: str, example: str) -> argparse.ArgumentParser:
    """A parser whose help ends with an example.

    Args:
        name: of the subcommand.
        about: what it does.
        example: command lines, one a line.
    """
    lines = "\n".join(f"  {line}" for line in example.strip().splitlines())
    return Parser(
        prog=f"immunization {name}",
        description=about,
        epilog=f"example:\n{lines}",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=1, ensure_ascii=False)
    print()
