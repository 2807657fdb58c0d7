"""What follows from a checked study. Needs the standard library alone: stages read it too."""

from __future__ import annotations

from typing import Any

from immunization.study.components import component

ENGINES = ("simulated", "trained", "nonlinear")


def is_of_networks(config: dict[str, Any]) -> bool:
    """Whether a config is one of a study of networks; the other kind is linear."""
    return "networks" in config


def engine(entry: dict[str, Any]) -> str:
    """Which of `ENGINES` runs an attacker of a resolved study."""
    traits = component("linear/attacks", entry["use"]).traits
    if traits.get("PREDICTS"):
        return "nonlinear"
    exact = traits.get("EIGENBASIS") and entry["parameters"]["loss"] == "squared"
    return "simulated" if exact else "trained"


def figure_datasets(study: dict[str, Any], figure: str) -> list[str]:
    """Data sets that a figure of a resolved study is drawn for; the first member of a sweep stands
    for it."""
    wanted = study["figures"][figure]["datasets"]
    if isinstance(wanted, list):
        return [sweep_members(study, "datasets", name)[0] for name in wanted]
    return [name for name in study["datasets"] if wanted == "all" or has_pairs(study, name)]


def attack_settings(config: dict[str, Any]) -> dict[str, Any]:
    """What attackers read of a resolved config's ``attack``: all but what only tables use."""
    if is_of_networks(config):
        return {key: value for key, value in config["attack"].items() if "target" not in key}
    return {key: value for key, value in config["attack"].items() if key != "flops_per_second"}


def code_of(parameters: dict[str, Any]) -> list[str]:
    """Modules and files of a user's own code that a network is built by.

    >>> code_of({"module": "nets/mine.py:build"}), code_of({})
    (['nets/mine.py'], [])
    """
    return [parameters["module"].partition(":")[0]] if "module" in parameters else []


def has_pairs(study: dict[str, Any], dataset: str) -> bool:
    """Whether a data set of a resolved study has many ordered pairs (for heat maps)."""
    parameters = study["datasets"][dataset]["parameters"]
    return parameters.get("pairs") == "all"


def sweep_members(study: dict[str, Any], kind: str, label: str) -> list[str]:
    """The labels behind a label of the config: itself, or the members of its sweep."""
    sweep = study["sweeps"].get(label)
    return list(sweep["members"]) if sweep and sweep["kind"] == kind else [label]
