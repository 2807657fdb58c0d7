"""What the parsers of all subcommands share: names, examples, and JSON."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any


def command(name: str, about: str, example: str) -> argparse.ArgumentParser:
    """A parser whose help ends with an example.

    Args:
        name: of the subcommand.
        about: what it does.
        example: command lines, one a line.
    """
    lines = "\n".join(f"  {line}" for line in example.strip().splitlines())
    return argparse.ArgumentParser(
        prog=f"immunization {name}",
        description=about,
        epilog=f"example:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=1, ensure_ascii=False)
    print()
