"""Checksums beside files: what a stage writes is sealed, and every reader checks the seal.

``table.csv`` gets a hidden companion ``.table.csv.seal``, JSON with the SHA-256 and size of the
file, where it comes from, what made it, and the SHA-256 of every sealed file that was read before
it was written. A file that does not fit its seal was damaged after it was written: it is renamed
to ``table.csv.damaged`` and reported, and the next run of the same command recomputes it. Whether a
whole file is the one that a study asks for tells `immunization.runtime.record.stale`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from immunization.runtime import environment
from immunization.runtime.errors import UserError

UNREADABLE = "unreadable"
"""In place of the sum in a seal that is damaged itself: it fits no file."""
PIECES = "progress"
"""Name of folders with finished units of jobs. No other job reads them."""

_checked: dict[tuple[str, int, int], str | None] = {}
_lock = threading.Lock()


def sidecar_path(path: Path | str) -> Path:
    """Where the seal of a file lies."""
    path = Path(path)
    return path.with_name(f".{path.name}.seal")


def sha256(path: Path | str) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_seal(path: Path | str) -> dict[str, Any] | None:
    """The seal of a file: ``sha256``, ``bytes``, ``provenance``, ``made_by`` and ``inputs``; None
    where it has none.

    A seal that is itself damaged fits no file.

    Raises:
        UserError: when there is one that cannot be read, which says nothing of the file.
    """
    beside = sidecar_path(path)
    try:
        text = beside.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(
            f"{beside}: the seal of {path} cannot be read ({error.strerror}), so that file "
            "cannot be checked. Nothing was moved. Make it readable, or delete it if it is a "
            "folder, and run the same command again."
        ) from error
    try:
        seal = dict(json.loads(text))
        seal |= {"sha256": str(seal["sha256"]), "bytes": int(seal["bytes"])}
        return seal | {"inputs": dict(seal.get("inputs") or {})}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {"sha256": UNREADABLE, "bytes": -1, "provenance": None}


def write_with_checksum(path: Path, temporary: Path, record: Any = None) -> None:
    """Move a finished temporary file into place, with its seal.

    The old seal goes first and the new one comes last: a kill in between leaves a whole file
    without a seal.
    """
    about = {"sha256": sha256(temporary), "bytes": temporary.stat().st_size, "provenance": record}
    asked = os.environ.get(environment.MADE_BY, "").split()
    if asked and PIECES not in path.parts:
        about |= {"made_by": asked[0], "inputs": _inputs(path)}
    text = json.dumps(about, sort_keys=True)
    beside, draft = sidecar_path(path), temporary.with_name(f"{temporary.name}.seal")
    try:
        draft.write_text(text, encoding="utf-8")  # where the disk is full, nothing has happened yet
        beside.unlink(missing_ok=True)
        temporary.replace(path)
        draft.replace(beside)
    finally:
        draft.unlink(missing_ok=True)


def _inputs(path: Path) -> dict[str, str]:
    """SHA-256 of the sealed files that this process has read, by path from a file's folder."""
    with _lock:
        digests = {name: digest for (name, _, _), digest in _checked.items() if digest}
    return {
        os.path.relpath(name, path.parent): digest
        for name, digest in sorted(digests.items())
        if PIECES not in Path(name).parts and Path(name) != path
    }


def verify_or_quarantine(path: Path | str) -> None:
    """Compare a file with its seal; once a process, unless it changes.

    A sealed file that is dated in the future, by a machine whose clock runs ahead, is dated now:
    Snakemake would refuse whatever is made from it as older than its input.

    Raises:
        UserError: when it does not fit, and then the file is set aside; when its seal cannot be
            read.
    """
    path = Path(path)
    try:
        status = path.stat()
    except OSError:
        return  # whoever opens it says so
    key = (str(path), status.st_size, status.st_mtime_ns)
    with _lock:
        if key in _checked:
            return
    expected = read_seal(path)
    now = time.time_ns()
    if expected is not None and status.st_mtime_ns > now:
        with contextlib.suppress(OSError):
            os.utime(path, ns=(now, now))  # by this machine's clock, not a file server's
    if expected is not None:
        difference = mismatch(path, expected)
        if difference:
            raise UserError(f"{path}: damaged: {difference}. {quarantine(path)}")
    with _lock:
        _checked[key] = None if expected is None else expected["sha256"]


def count_as_read(path: Path | str, seal: dict[str, Any]) -> None:
    """Take a file for an input of this process, by its seal, without looking into it."""
    status = Path(path).stat()
    with _lock:
        _checked[str(path), status.st_size, status.st_mtime_ns] = seal["sha256"]


def mismatch(path: Path | str, expected: dict[str, Any]) -> str | None:
    """How a file differs from its seal, or None."""
    size = Path(path).stat().st_size
    if expected["sha256"] == UNREADABLE:
        return "its seal cannot be read"
    if size != expected["bytes"]:
        return f"it has {size} bytes and was written with {expected['bytes']}"
    digest = sha256(path)
    if digest != expected["sha256"]:
        return f"its SHA-256 is {digest} and was {expected['sha256']} when it was written"
    return None


def quarantine(path: Path | str) -> str:
    """Rename a damaged file, so that the next run recomputes it; returns a sentence that says so.

    What was set aside before stays: the second gets a number.
    """
    path = Path(path)
    aside, number = path.with_name(f"{path.name}.damaged"), 2
    while os.path.lexists(aside):
        aside, number = path.with_name(f"{path.name}.damaged{number}"), number + 1
    try:
        path.replace(aside)
    except OSError as error:
        return (
            f"It could not be renamed ({error.strerror}). Delete it and run the same command "
            "again; only what depends on it is recomputed."
        )
    with contextlib.suppress(OSError):
        sidecar_path(path).unlink(missing_ok=True)
    return (
        f"It was renamed to {aside.name}. Run the same command again to recompute it and what "
        "depends on it."
    )


def content_hash(path: Path | str) -> str:
    """SHA-256 of a file, from its seal where that fits; what units of a job are named by.

    Raises:
        UserError: when it cannot be read, or does not fit its seal.
    """
    verify_or_quarantine(path)
    expected = read_seal(path)
    try:
        return str(expected["sha256"]) if expected is not None else sha256(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}). If it is a result of a study, run the "
            "stage that makes it first; snakemake runs all of them in order."
        ) from error
