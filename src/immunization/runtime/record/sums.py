"""SHA256SUMS and provenance.json of a study: collected, read and checked."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from immunization.runtime.errors import UserError
from immunization.runtime.files.checksums import (
    UNREADABLE,
    count_as_read,
    mismatch,
    read_seal,
)

SUMS = "SHA256SUMS"


PROVENANCE = "provenance.json"


def collect(folder: Path, files: Iterable[Path]) -> tuple[dict[str, str], dict[str, Any]]:
    """Sums and provenance of files, by path relative to the study's folder.

    Raises:
        UserError: for a file without a seal.
    """
    sums, records = {}, {}
    for path in sorted(files):
        name = path.relative_to(folder).as_posix()
        seal = read_seal(path)
        if seal is None or seal["sha256"] == UNREADABLE:
            raise UserError(
                f"{path}: has no checksum beside it. Delete it and run the same command again "
                "to recompute it."
            )
        count_as_read(path, seal)
        sums[name], records[name] = seal["sha256"], seal.get("provenance")
    return sums, records


def compact_records(records: dict[str, Any]) -> dict[str, Any]:
    """Each distinct record once, with the files that have it."""
    groups: dict[str, dict[str, Any]] = {}
    for name, record in records.items():
        key = json.dumps(record, sort_keys=True)
        groups.setdefault(key, {"files": [], "provenance": record})["files"].append(name)
    return {"results": list(groups.values())}


NEWER = "rewritten since the sums were taken, and intact; run snakemake to the end"
"""Message about a file of an unfinished run, which is not damage."""


def read_sums(path: Path) -> dict[str, str]:
    """Lines of a file of sums: digest by name.

    Raises:
        UserError: when it is missing or malformed.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}). It is written when a study is finished: run "
            "snakemake to the end first."
        ) from error
    digests = {}
    for number, line in enumerate(lines, 1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name or ".." in Path(name).parts or Path(name).is_absolute():
            raise UserError(
                f"{path}, line {number}: not a sum. Delete the file and run snakemake again."
            )
        digests[name] = digest
    return digests


def verify(folder: Path) -> dict[str, str]:
    """What is wrong with a study, by file; empty where all is well.

    Args:
        folder: of the study.

    Raises:
        UserError: when the study is not finished.
    """
    problems = {}
    sums = folder / SUMS
    known = read_sums(sums)
    own_seal = read_seal(sums)
    if own_seal is not None and (difference := mismatch(sums, own_seal)):
        problems[SUMS] = difference
    for name, digest in known.items():
        path = folder / name
        if not path.is_file():
            problems[name] = "missing; the next snakemake makes it"
            continue
        seal = read_seal(path)
        if seal is not None and seal["sha256"] != digest and mismatch(path, seal) is None:
            problems[name] = NEWER
        elif difference := mismatch(path, {"sha256": digest, "bytes": path.stat().st_size}):
            problems[name] = difference
    return problems
