"""Write a component of your own that works: a file, and its test."""

from __future__ import annotations

import argparse
import keyword
from pathlib import Path

from immunization.runtime.errors import UserError
from immunization.runtime.jobs.command import run_command
from immunization.study.components import components, group
from immunization.tools._command import command

KINDS = {
    "method": ("linear/methods", "methods: {NAME: {use: PATH}}"),
    "attack": ("linear/attacks", "attacks: {NAME: {use: PATH}}"),
    "figure": ("linear/figures", "figures: {NAME: {use: PATH}}"),
    "dataset": ("linear/datasets", "datasets: {NAME: {source: PATH}}"),
    "backbone": ("networks/backbones", "networks: {NAME: {use: PATH}}"),
}
"""By kind: where files of it lie, and the line of a config."""
TEMPLATES = Path(__file__).parent / "templates"


def parser() -> argparse.ArgumentParser:
    """Of this command."""
    made = command(
        "new",
        "Write a component of your own that works, with its test. It need not lie in this "
        "project: a config names the file, or a package of yours its entry point.",
        "immunization new method stretch\nimmunization new attack decaying --into plugins",
    )
    made.add_argument("kind", choices=list(KINDS))
    made.add_argument("name", help="letters, digits and _")
    made.add_argument("--into", type=Path, default=Path(), help="folder; default: this one")
    return made


def write(kind: str, name: str, folder: Path) -> list[Path]:
    """The component and its test.

    Raises:
        UserError: for a name that is none, and a file that is there already.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise UserError(f"{name!r}: a name starts with a letter and holds letters, digits and '_'.")
    if name in components(KINDS[kind][0]):
        raise UserError(f"{name}: there is a {kind} of this name already. Choose another.")
    written = []
    for template, path in (
        (f"{kind}.py.txt", folder / f"{name}.py"),
        ("test.py.txt", folder / f"test_{name}.py"),
    ):
        if path.exists():
            raise UserError(f"{path}: is there already. Choose another name or folder.")
        text = (TEMPLATES / template).read_text(encoding="utf-8")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("NAME", name).replace("KIND", kind), encoding="utf-8")
        written.append(path)
    return written


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    options = parser().parse_args(arguments)
    paths = write(options.kind, options.name, options.into)
    folder, line = KINDS[options.kind]
    line = line.replace("NAME", options.name).replace("PATH", str(paths[0]))
    print(f"{paths[0]}, {paths[1]}")
    print(f"Check it:        immunization check-plugin {options.kind} {paths[0]}")
    print(f"In a config:     {line}")
    print("Run it:          immunization run STUDY.yaml --allow-code")
    print(f"In a package:    [project.entry-points.\"{group(folder)}\"]  {options.name} = "
          f"\"your_package.{options.name}\"")  # fmt: skip


if __name__ == "__main__":
    run_command(main)
