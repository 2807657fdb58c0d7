"""Locks between processes, which end with whoever holds them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Whether this process has the lock; it ends with the process at the latest.

    On a file system without locks everyone has it: what two then compute is the same.

    Args:
        path: the lock's file.
        wait: for whoever has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            free = False
        except OSError:
            free = True
        else:
            free = True
        yield free
    finally:
        os.close(handle)
