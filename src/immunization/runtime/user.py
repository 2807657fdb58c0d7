"""Who runs this."""

from __future__ import annotations

import getpass
import os


def user() -> str:
    """The name of who runs this, or the number where that has no name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
