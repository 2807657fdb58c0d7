"""Which existing results are not those that the study asks for.

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
from functools import cache
from pathlib import Path
from typing import Any

from immunization.runtime import environment
from immunization.runtime.errors import UserError
from immunization.runtime.files.checksums import UNREADABLE, read_seal
from immunization.runtime.files.io import files_below
from immunization.runtime.record.fingerprint import fingerprint


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
        >>> made_by(["immunization.runtime.errors"], {"steps": 5}).split()[1:]
        ['immunization.runtime.errors']
    """
    modules = list(dict.fromkeys(modules))
    text = json.dumps([asked, {path: _listing(path) for path in own}], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return " ".join([f"{fingerprint(*modules)}.{digest}", *modules])


@cache
def _listing(path: str) -> str:
    """A hash of names, sizes and dates of a file, or of all files in a folder."""
    digest = hashlib.sha256()
    for file in files_below(path):
        try:
            status = file.stat()
        except OSError:  # a link to nowhere, which whoever reads it tells of
            continue
        name = file.relative_to(path).as_posix().encode(errors="surrogateescape")
        digest.update(name + f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def refuse_other_code() -> None:
    """Compare the code of this process with what the workflow read when it planned the job.

    Raises:
        UserError: when it has changed since.
    """
    asked = os.environ.get(environment.MADE_BY, "").split()
    if asked and fingerprint(*asked[1:]) != asked[0].partition(".")[0]:
        raise UserError(
            f"{asked[1]}: has changed, or what it imports has, since Snakemake read the workflow; "
            "the result would be recorded as one of the old code. Run the same command again."
        )


def stale(expected: Mapping[str, str]) -> dict[str, str]:
    """Why files are not what a study asks for, by path; files that are, or are absent, are left
    out.

    Args:
        expected: `made_by` of every result.
    """
    there = {os.path.normpath(path): path for path in expected if Path(path).is_file()}
    seals = {path: _seal(path) for path in there}
    reasons = {}
    for path, name in there.items():
        reason = _difference(path, expected[name].split()[0], seals)
        if reason:
            reasons[name] = reason
    return reasons


def _seal(path: str) -> dict[str, Any] | None:
    try:
        seal = read_seal(path)
    except UserError:
        return {"sha256": UNREADABLE}
    return seal


def _difference(path: str, text: str, seals: Mapping[str, dict[str, Any] | None]) -> str | None:
    """How a result differs from what is asked for, in a few words; None where it does not."""
    seal = seals[path]
    if seal is None:
        return "without the hidden .seal file that records what made them"
    if seal["sha256"] == UNREADABLE:  # whoever reads the file tells of it
        return None
    code, _, asked = str(seal.get("made_by") or "").partition(".")
    if not code:
        return "with no record of what made them: by hand, or by an earlier version"
    if text != f"{code}.{asked}":
        same = text.split(".")[1] == asked
        return "made by different code" if same else "made with different settings"
    for name, digest in seal["inputs"].items():
        source = seals.get(os.path.normpath(Path(path).parent / name))
        if source is not None and source["sha256"] not in (digest, UNREADABLE):
            return "made from different inputs"
    return None


def told(found: Mapping[str, str], results: str) -> str:
    """One message for what `stale` found, with the count of each reason and one example."""
    reasons: dict[str, list[str]] = {}
    for path, reason in found.items():
        reasons.setdefault(reason, []).append(path)
    lines = [
        f"  {len(paths)} {reason}, for example {paths[0]}"
        for reason, paths in sorted(reasons.items())
    ]
    return (
        f"{results}: some results do not match this study's config, code or data. They are "
        "recomputed, with everything that depends on them:\n" + "\n".join(lines)
    )
