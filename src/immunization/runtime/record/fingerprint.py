"""A hash of the source code that a job runs, so that it reruns when that changes, and only then.

Snakemake sees the files that a rule names, not what those import. The import closure is read from
the syntax trees. What cannot change a number is left out: comments, docstrings, the texts of
errors, logs and help, and the modules of `OUTSIDE`. The hash is the same under every Python.

Needs no torch: the Snakefile imports it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[3]
PACKAGES = ("immunization", "hessian_spectrum")
OUTSIDE = {
    "immunization.linear.returned": "what a component gave is looked at, not changed",
    "immunization.runtime.spelling": "what a misspelt name may have meant",
    "immunization.data.download": "which copy of a public file is read; its SHA-256 is checked",
    "immunization.runtime.environment": "names of environment variables",
    "immunization.runtime.errors": "the class of messages",
    "immunization.runtime.files.atomic": "how files get into place",
    "immunization.runtime.files.checksums": "checksums of what was written",
    "immunization.runtime.gpus": "which GPU a job gets, and what it does when memory runs out",
    "immunization.runtime.jobs": "how a job starts, saves its work, resumes and ends",
    "immunization.runtime.log": "what people read while a job runs",
    "immunization.runtime.record": "what is written about a result, and whether it is made again",
    "immunization.stages": "command lines; what a stage is asked to do is compared by itself",
    "immunization.study": "configs; what they say is compared by itself",
}
"""Modules, and packages with all that lies in them, that change no number, and why; their imports
are not followed either."""
LOGS = {"debug", "info", "warning", "error", "exception", "print"}
"""Functions that tell people something."""
TEXTS = {"help", "description", "epilog"}
"""Keywords, and keys of parameters, whose text is for people."""


def _file(module: str) -> Path | None:
    if module.endswith(".py"):  # that a config names
        return Path(module) if Path(module).is_file() else None
    if module.split(".")[0] not in PACKAGES:
        return module_file(module)
    base = SOURCE.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def module_file(module: str) -> Path | None:
    """Where a module of another package lies, without importing it or its packages."""
    where: list[str] | None = None
    spec = None
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:length]), where)
        if spec is None and length > 1:
            return None
        if spec is None:  # some editable installs have finders of their own
            try:
                spec = importlib.util.find_spec(module)
            except (ImportError, ValueError):
                return None
            break
        where = list(spec.submodule_search_locations or [])
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


@cache
def _reexports(path: Path) -> dict[str, str]:
    """Where a package's ``__init__`` has names from that it passes on, by name."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in _tree(path).body
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
        for alias in node.names
        if node.module.split(".")[0] in PACKAGES
    }


def _named(module: str, name: str) -> str:
    """The module that ``from module import name`` reads: a submodule, the one that a package has
    the name from, or the module itself."""
    if _file(f"{module}.{name}") is not None:
        return f"{module}.{name}"
    path = _file(module)
    if path is not None and path.name == "__init__.py" and name in _reexports(path):
        origin, _, exported = _reexports(path)[name].rpartition(".")
        return _named(origin, exported)
    return module


@cache
def _imports(path: Path, packages: tuple[str, ...], package: tuple[str, ...]) -> frozenset[str]:
    """Modules of some packages that a file imports; it lies in ``package``."""
    modules = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            if module.split(".")[0] in packages:
                modules |= {_named(module, alias.name) for alias in node.names}
    return frozenset(name for name in modules if name.split(".")[0] in packages)


def _package(module: str, path: Path) -> tuple[str, ...]:
    """The package that relative imports of a module start from."""
    if module.endswith(".py"):  # a file by itself
        return ()
    parts = tuple(module.split("."))
    return parts if path.name == "__init__.py" else parts[:-1]


def is_outside(module: str) -> bool:
    """Whether a module, or a package that contains it, is one of `OUTSIDE`."""
    parts = module.split(".")
    return any(".".join(parts[:length]) in OUTSIDE for length in range(1, len(parts) + 1))


def closure(*modules: str) -> list[Path]:
    """Files of the project that these modules import, directly or not, themselves included and
    `OUTSIDE` left out.

    A name that a package passes on is looked for where it is defined: who imports
    `hessian_spectrum.range_factor` does not depend on all of that package. A module of another
    package, or the path of a file, brings what it imports of that package and of ours.
    """
    return sorted(_closure(*modules).values())


def _closure(*modules: str) -> dict[str, Path]:
    """The same by names that do not depend on where packages lie: of files in ours and in others.

    A workflow and its jobs may find one package by different paths.
    """
    todo, seen = list(modules), {}
    others = {m.split(".")[0] for m in modules if not m.endswith(".py")} - set(PACKAGES)
    packages = (*PACKAGES, *sorted(others))
    while todo:
        module = todo.pop()
        path = _file(module)
        if path is None or is_outside(module):
            continue
        if module.endswith(".py"):
            name = path.name
        else:
            inside = "/__init__.py" if path.name == "__init__.py" else ".py"
            name = module.replace(".", "/") + inside
        if name not in seen:
            seen[name] = path
            todo.extend(_imports(path, packages, _package(module, path)))
    return seen


def _words(node: Any, quiet: bool = False) -> Iterator[str]:
    """What a syntax tree says, but for texts that are for people.

    Args:
        node: of the tree, or a value in it.
        quiet: whether texts are left out here.
    """
    if isinstance(node, list):
        yield "["
        for item in node:
            alone = item.value if isinstance(item, ast.Expr) else None
            if not (isinstance(alone, ast.Constant) and isinstance(alone.value, str)):  # docstring
                yield from _words(item, quiet)
        yield "]"
    elif isinstance(node, ast.Constant):
        yield "" if quiet and isinstance(node.value, str) else repr(node.value)
    elif isinstance(node, ast.Dict):
        yield "Dict"
        for key, value in zip(node.keys, node.values, strict=True):
            yield from _words(key, quiet)
            name = key.value if isinstance(key, ast.Constant) else None
            yield from _words(value, quiet or name in TEXTS)
    elif isinstance(node, ast.AST):
        yield type(node).__name__
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            quiet = quiet or name in LOGS or name.endswith("Error")
        quiet = quiet or isinstance(node, ast.Raise)
        quiet = quiet or (isinstance(node, ast.keyword) and node.arg in TEXTS)
        for field in node._fields:
            part = getattr(node, field, None)
            # Fields that some versions of Python have, and that say nothing here.
            if part is None or part == [] or field in ("ctx", "kind", "type_comment"):
                continue
            yield field
            yield from _words(part, quiet)
        yield "end"  # else f(a)(k=1) would read as f(a, k=1)()
    else:
        yield str(node)


@cache
def _digest(path: Path) -> bytes:
    text = "\0".join(_words(_tree(path)))
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


@cache
def fingerprint(*modules: str) -> str:
    """Sixteen hexadecimal digits that change when the code of any file of `closure` does.

    Args:
        modules: dotted names, in any order.
    """
    digest = hashlib.sha256()
    for name, path in sorted(_closure(*modules).items()):
        digest.update(name.encode())
        digest.update(_digest(path))
    return digest.hexdigest()[:16]


def _git(*arguments: str) -> str | None:
    """What git says in the project's checkout; None where there is no history or no git."""
    try:
        done = subprocess.run(
            ["git", "-C", str(SOURCE.parent), *arguments],
            capture_output=True, text=True, check=False, timeout=60, errors="surrogateescape",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _is_checkout() -> bool:
    top = _git("rev-parse", "--show-toplevel")  # of another checkout, for a folder inside one
    return top is not None and Path(top.strip()).resolve() == SOURCE.parent.resolve()


def commit() -> str | None:
    """The commit that the project's checkout is at, ``-changed`` behind it where tracked files
    differ; None where there is no history or no git."""
    if not _is_checkout():
        return None
    changed = _git("status", "--porcelain", "--untracked-files=no", "src", "workflow", "Snakefile")
    return f"{(_git('rev-parse', 'HEAD') or '').strip()}{'-changed' if changed else ''}"


def tracked_files(root: Path) -> set[Path] | None:
    """What git tracks of the project's checkout; None where there is no history or no git."""
    listed = _git("ls-files", "-z") if _is_checkout() else None
    return None if listed is None else {root / name for name in listed.split("\0") if name}
