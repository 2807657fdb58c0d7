"""A hash of the source code that a job runs, for Snakemake's rerun trigger.

Snakemake sees the files that a rule names, not what those import. The import closure is read
from the syntax trees, so a job reruns when code it uses has changed, and only then.
"""

from __future__ import annotations

import ast
import hashlib
import subprocess
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parent.parent
PACKAGES = ("immunization", "hessian_spectrum")


def _file(module: str) -> Path | None:
    base = SOURCE.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _imports(path: Path) -> frozenset[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(name for name in found if name.split(".")[0] in PACKAGES)


def closure(*modules: str) -> list[Path]:
    """Files of the project that these modules import, directly or not, themselves included."""
    todo, seen = list(modules), set()
    while todo:
        path = _file(todo.pop())
        if path is not None and path not in seen:
            seen.add(path)
            todo.extend(_imports(path))
    return sorted(seen)


@cache
def fingerprint(*modules: str) -> str:
    """Sixteen hexadecimal digits that change when the source of any of `closure` changes."""
    digest = hashlib.sha256()
    for path in closure(*modules):
        digest.update(path.relative_to(SOURCE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def commit() -> str | None:
    """The commit that the project's checkout is at, ``-changed`` behind it where tracked files
    differ; None where there is no history or no git."""
    root = SOURCE.parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *arguments],
                capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    top = git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root.resolve():  # a folder inside another checkout
        return None
    changed = git("status", "--porcelain", "--untracked-files=no", "src", "workflow", "Snakefile")
    return f"{git('rev-parse', 'HEAD')}{'-changed' if changed else ''}"
