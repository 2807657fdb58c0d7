"""The whole of a study as study.json holds it: the config, its order, and what the files said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from immunization.runtime.errors import UserError
from immunization.runtime.files.io import read_json
from immunization.study.derived import is_of_networks

FORMAT = 2
"""Format of study.json. The first format carried no number."""
SITE = {"device", "jobs_per_gpu", "threads", "data", "checkpoint_seconds"}
"""Keys that no number depends on: left out of study.json, so that a change of them reruns nothing.
On a CPU the last digits of networks depend on their threads, which therefore stay."""


def recorded(config: dict[str, Any]) -> dict[str, Any]:
    """A config, resolved or raw, without the keys of `SITE`."""
    left_out = SITE - {"threads"} if is_of_networks(config) else SITE
    return {key: value for key, value in config.items() if key not in left_out}


def whole(config: dict[str, Any], raw: dict[str, Any]) -> dict[str, Any]:
    """What stages read of a study.

    Args:
        config: resolved.
        raw: what the files say, from which an archive makes a config of its own.

    Returns:
        ``format``, ``config``, ``order`` (labels in the order of the config, and what they stand
        for) and ``raw``.
    """
    order = network_order(config) if is_of_networks(config) else linear_order(config)
    return {"format": FORMAT, "config": config, "order": order, "raw": recorded(raw)}


def uses(config: dict[str, Any], key: str) -> dict[str, str]:
    """The component of each label of one kind."""
    return {label: entry["use"] for label, entry in config[key].items()}


def task_of(parameters: dict[str, Any]) -> str:
    """What a task of a data set is, by its parameters.

    >>> task_of({"task": "digit"}), task_of({"task": "digit", "harmful_path": "h.npy"}), task_of({})
    ('digit', 'two files', 'regression')
    """
    if parameters.get("harmful_path") is not None:
        return "two files"
    return str(parameters.get("task", "regression"))


def linear_order(config: dict[str, Any]) -> dict[str, Any]:
    """Labels of a linear study in the order of the config, and their components."""
    return {
        "datasets": {
            label: [entry["source"], task_of(entry["parameters"])]
            for label, entry in config["datasets"].items()
        },
        "methods": uses(config, "methods"),
        "attacks": uses(config, "attacks"),
        "figures": uses(config, "figures"),
        "sweeps": config["sweeps"],
        "intercept": config["spectrum"]["intercept"],
        "replication": config["replication"],
        "flops_per_second": config["attack"]["flops_per_second"],
    }


def network_order(config: dict[str, Any]) -> dict[str, Any]:
    """Labels of a study of networks in the order of the config, and their components."""
    datasets = config["datasets"]
    return {
        "datasets": {label: entry["source"] for label, entry in datasets.items()},
        "forms": {label: entry["parameters"].get("form", "") for label, entry in datasets.items()},
        "networks": {
            label: entry["parameters"].get("name", entry["use"])
            for label, entry in config["networks"].items()
        },
        "methods": uses(config, "methods"),
        "attacks": uses(config, "attacks"),
        "figures": uses(config, "figures"),
        "profiles": {
            label: next(iter(entry["parameters"].values())).get("profile", "")
            for label, entry in config["methods"].items()
        },
    }


def told_of_format(path: Path | str) -> str:
    """A sentence for a study whose study.json is of an earlier format, or nothing."""
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
        made = raw.get("format", 1)
    except (OSError, ValueError, AttributeError):
        return ""  # there is none, or whoever reads it says what is wrong
    if made == FORMAT:
        return ""
    return (
        f"\nAn earlier version made them (format {made} of study.json, now {FORMAT}). To keep "
        "them, continue with that version."
    )


def read_study(path: Path | str) -> dict[str, Any]:
    """Read study.json, or the file with which the workflow calls its stages.

    Raises:
        UserError: when it cannot be read, is none, or is of another format.
    """
    study = read_json(path)
    if not isinstance(study, dict) or not {"config", "order"} <= study.keys():
        raise UserError(f"{path}: is no study.json; it lacks the keys config and order.")
    made = study.get("format", 1)
    if made != FORMAT:
        raise UserError(
            f"{path}: has format {made}, and this version reads format {FORMAT}. Run snakemake "
            "with the study's config: it recomputes the results once. Or use the version that "
            "wrote it."
        )
    return study
