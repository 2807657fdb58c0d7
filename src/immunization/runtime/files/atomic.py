"""Atomic writes: a reader sees the old file or the whole new one."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from immunization.runtime.errors import UserError
from immunization.runtime.files.checksums import write_with_checksum

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
DRAFT = "draft-"
"""What names of temporary files hold behind the name of the file."""


_asking = Lock()


def new_file_mode() -> int:
    """Permissions that the umask leaves a new file.

    The umask can only be read by setting it, so one thread reads it, once.
    """
    with _asking:
        return _new_file_mode()


@cache
def _new_file_mode() -> int:
    umask = os.umask(0o022)
    os.umask(umask)
    return 0o666 & ~umask


@contextmanager
def atomic(path: Path | str, record: Any = None, *, sealed: bool = True) -> Iterator[Path]:
    """Give a temporary path beside ``path``; seal it and move it into place if the block succeeds.

    A reader therefore sees the old file or the whole new one, never a part of it. It has the
    permissions that the umask leaves. What a kill leaves of a write goes with `remove_drafts`.

    Args:
        path: the file.
        record: where it comes from, for its seal (see `immunization.runtime.record.provenance`).
        sealed: whether it gets a seal; downloads have checksums of their own.

    Raises:
        UserError: when the disk is full or the folder cannot be written to.
    """
    path = Path(path)
    suffix = path.suffix or ".part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name}.{DRAFT}", suffix=suffix, dir=path.parent
        )
        os.close(handle)
    except OSError as error:
        raise _unwritable(path, error) or error from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(new_file_mode())
        if sealed:
            write_with_checksum(path, temporary, record)
        else:
            temporary.replace(path)
    except Exception as error:
        unwritable = _unwritable(path, error)
        if unwritable is not None:
            raise unwritable from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_drafts(folder: Path, seconds: float = 0.0) -> None:
    """Remove what killed processes left half written, below a folder.

    For whoever knows that nobody writes there: the run that holds the study. Names of machines and
    processes would not tell that, since two containers may have the same.

    Args:
        folder: where to look.
        seconds: age from which on they go.
    """
    for path in folder.rglob(f".*.{DRAFT}*"):
        try:
            if time.time() - path.stat().st_mtime >= seconds:
                path.unlink()
        except OSError:  # gone, or not ours
            continue


def _unwritable(path: Path, error: Exception) -> UserError | None:
    """A message for a full disk or a read-only folder; None for anything else.

    Libraries wrap the system's error in exceptions of their own, which keep its text.
    """
    number = getattr(error, "errno", None)
    other = getattr(error, "filename", None)
    if isinstance(other, str | Path):
        that, folder = Path(other).absolute(), path.absolute().parent
        if folder != that.parent and that not in (folder, *folder.parents):
            return None  # of a file that is read
    text = str(error)

    def one_of(numbers: tuple[int, ...]) -> bool:
        return number in numbers or any(
            f"os error {n})" in text or os.strerror(n) in text for n in numbers
        )

    if one_of(_FULL):
        return UserError(
            f"{path}: the disk is full (no space left in {path.parent}). Completed work "
            "is saved. Free some space and run the same command again; it resumes there."
        )
    if one_of(_FORBIDDEN):
        return UserError(
            f"{path}: cannot be written, {path.parent} is read-only or belongs to another user. "
            "Make it writable, or work in a folder of your own. Completed work is saved."
        )
    return None
