"""Where a result comes from: versions, code and parameters, kept with every file."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

from immunization import __version__
from immunization.fingerprint import fingerprint

KAPPA_DEFINITION = "non-zero spectrum; rank decided from the data by a relative tolerance"


def provenance(modules: list[str], parameters: dict[str, Any]) -> dict[str, Any]:
    """A JSON-serialisable record.

    Args:
        modules: dotted names of what ran; their import closure is hashed.
        parameters: what the stage was asked to do.
    """
    return {
        "immunization": __version__,
        "code": fingerprint(*modules),
        "parameters": parameters,
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "kappa": KAPPA_DEFINITION,
    }
