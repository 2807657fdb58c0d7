"""Which results that lie there are not those that the study asks for.

Snakemake keeps what it knows of results in ``.snakemake``, and goes by dates where that was lost or
left behind: results of another config, of other code, or from a backup would then pass for what was
asked. So every rule says what makes its results (`made_by`), a stage puts that into their seals
with the sums of what it read, and both are compared whenever the workflow is read.

Needs no torch: the Snakefile imports it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from immunization.errors import UserError
from immunization.fingerprint import fingerprint
from immunization.seals import MADE_BY, companion, read_seal


def made_by(modules: Iterable[str], asked: Any, own: Iterable[str] = ()) -> str:
    """What makes a result, in words for a command line.

    Args:
        modules: dotted names of what runs.
        asked: what it is asked to do, as JSON.
        own: paths of the user's own files and folders that it reads.

    Returns:
        Hash of the code, a dot, hash of what is asked (and of names, sizes and dates of the
        files), and the names of the modules.

    Example:
        >>> made_by(["immunization.errors"], {"steps": 5}).split()[1:]
        ['immunization.errors']
    """
    modules = list(dict.fromkeys(modules))
    text = json.dumps([asked, {path: _listing(path) for path in own}], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return " ".join([f"{fingerprint(*modules)}.{digest}", *modules])


def _listing(path: str) -> str:
    """A hash of names, sizes and dates of a file, or of all files in a folder."""
    digest = hashlib.sha256()
    for file in files_below(path):
        try:
            found = os.stat(file)  # noqa: PTH116
        except OSError:  # a link to nowhere, which whoever reads it tells of
            continue
        name = os.path.relpath(file, path)
        digest.update(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\0".encode(errors="replace"))
    return digest.hexdigest()


def files_below(path: str | Path) -> list[str]:
    """A file itself, or all that lie in a folder, in order; links are followed, hidden ones left
    out."""
    if not os.path.isdir(path):  # noqa: PTH112
        return [str(path)]
    found, seen = [], set()
    for base, below, names in os.walk(path, followlinks=True):
        real = os.path.realpath(base)
        if real in seen:  # a link to a folder that it lies in
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        found += [os.path.join(base, n) for n in sorted(names) if not n.startswith(".")]  # noqa: PTH118
    return found


def refuse_other_code() -> None:
    """Compare the code of this process with what the workflow read when it planned the job.

    Raises:
        UserError: when it has changed since.
    """
    asked = os.environ.get(MADE_BY, "").split()
    if asked and fingerprint(*asked[1:]) != asked[0].partition(".")[0]:
        raise UserError(
            f"{asked[1]}: has changed, or what it imports has, since Snakemake read the workflow; "
            "the result would pass for one of the old code. Run the same command again."
        )


def stale(expected: Mapping[str, str]) -> dict[str, str]:
    """Why files are not what a study asks for, by path; files that are, or are absent, are left
    out.

    Args:
        expected: `made_by` of every result.
    """
    found = {}
    seals: dict[str, dict[str, Any] | None] = {}

    def seal_of(path: str) -> dict[str, Any] | None:
        path = os.path.normpath(path)
        if path not in seals:
            try:
                seals[path] = read_seal(path)
            except UserError:  # whoever reads the file tells of it
                seals[path] = {"sha256": "unreadable"}
        return seals[path]

    for path, text in expected.items():
        if not os.path.isfile(path):  # noqa: PTH113
            continue
        seal = seal_of(path)
        if seal is None:
            found[path] = f"{companion(path).name}, which tells what made it, is not there"
            continue
        if seal["sha256"] == "unreadable":
            continue
        code, _, asked = text.split()[0].partition(".")
        own_code, _, own_asked = str(seal.get("made_by") or ".").partition(".")
        if not own_code:
            found[path] = "nothing tells what made it: by hand, or by an earlier version"
        elif own_asked != asked:
            found[path] = "made with other settings"
        elif own_code != code:
            found[path] = "made by other code"
        else:
            folder = os.path.dirname(path)  # noqa: PTH120
            for name, digest in (seal.get("inputs") or {}).items():
                source = os.path.normpath(os.path.join(folder, name))  # noqa: PTH118
                known = seal_of(source)
                if source in expected and known is not None and known["sha256"] != digest:
                    found[path] = f"made from another {source}"
                    break
    return found


def told(found: Mapping[str, str], results: str) -> str:
    """One message for what `stale` found, with the count of each reason and one example."""
    reasons: dict[str, list[str]] = {}
    for path, reason in found.items():
        kind = "made from other files" if reason.startswith("made from") else reason
        kind = "without a seal, which tells what made it" if "is not there" in kind else kind
        reasons.setdefault(kind, []).append(path)
    lines = [
        f"  {len(paths)} {reason}, such as {paths[0]}" for reason, paths in sorted(reasons.items())
    ]
    return (
        f"{results}: some results that lie there are not what this study asks for. They are made "
        "anew, and what depends on them:\n" + "\n".join(lines)
    )
