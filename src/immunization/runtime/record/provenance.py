"""Where a result comes from: study, versions, code, device, parameters; stored with each file."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import Any

from immunization import __version__
from immunization.runtime import environment
from immunization.runtime.record.fingerprint import PACKAGES as OURS
from immunization.runtime.record.fingerprint import fingerprint

KAPPA_DEFINITION = "non-zero spectrum; rank decided from the data by a relative tolerance"
PACKAGES = (
    "torch", "torchvision", "timm", "peft", "numpy", "scipy", "pandas", "pyarrow", "safetensors",
    "scikit-learn", "matplotlib", "pillow",
)  # fmt: skip


def packages() -> dict[str, str]:
    """Versions of what is installed of `PACKAGES`."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def packages_of(modules: list[str]) -> dict[str, str]:
    """Versions of the installed packages that modules of others come from."""
    tops = {name.split(".")[0] for name in modules if not name.endswith(".py")} - set(OURS)
    if not tops:
        return {}
    found = packages_distributions()
    return {name: version(name) for top in sorted(tops) for name in found.get(top, [])}


def describe_device(device: str) -> str:
    """The name of a GPU for ``cuda``, else ``cpu``."""
    if device != "cuda":
        return device
    import torch

    return f"cuda, {torch.cuda.get_device_name()}"


def provenance(
    modules: list[str], parameters: dict[str, Any], device: str = "cpu"
) -> dict[str, Any]:
    """A JSON-serialisable record.

    Args:
        modules: dotted names of what ran; their import closure is hashed.
        parameters: what the stage was asked to do.
        device: where it was done.

    Returns:
        ``config`` (hash), ``commit``, ``seeds``, ``immunization``, ``code`` (hash of what
        ``modules`` import), ``parameters``, ``python``, ``packages``, ``device`` and ``kappa``,
        the definition of κ.
    """
    study = json.loads(os.environ.get(environment.STUDY) or "{}")
    return {
        "config": study.get("config"),
        "commit": study.get("commit"),
        "seeds": study.get("seeds"),
        "immunization": __version__,
        "code": fingerprint(*modules),
        "modules": modules,
        "parameters": parameters,
        "python": platform.python_version(),
        "packages": packages() | packages_of(modules),
        "device": describe_device(device),
        "kappa": KAPPA_DEFINITION,
    }


def essence(record: dict[str, Any]) -> list[Any]:
    """The part of a record that the numbers depend on: what finished units of a job are named by.

    A method added to the study, or a commit that changes nothing of it, leaves them good.
    """
    return [record["code"], record["parameters"], record["packages"], record["device"]]
