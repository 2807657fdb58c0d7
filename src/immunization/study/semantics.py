"""What a schema cannot say of a study, and what follows from a checked one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from immunization.study.components import components
from immunization.study.sweeps import sweep_members
from immunization.study.validation import near_spelling

ENGINES = ("simulated", "trained", "nonlinear")


def is_of_networks(config: dict[str, Any]) -> bool:
    """Whether a config is one of a study of networks; the other kind is linear."""
    return "networks" in config


def stand_ins(study: dict[str, Any]) -> None:
    """Which label stands for each method of the paper, where the config leaves it open."""
    for use in ("r_ill_only", "imma", "opt_kappa", "alg1"):
        chosen = study["replication"].setdefault(use, {})
        found: dict[str, str] = {}
        for label, method in study["methods"].items():
            if method["use"] == use:
                profiles = {p.get("profile") for p in method["parameters"].values()}
                for profile in ("released", "paper", "corrected"):
                    if profiles & {None, profile}:
                        found.setdefault(profile, label)
        for profile, label in found.items():
            chosen.setdefault(profile, label)


def linear_semantics(study: dict[str, Any]) -> Iterator[str]:
    """What a schema can't say."""
    if study["methods"].get("identity", {}).get("use") != "identity":
        yield "  methods: `identity: {}` is missing; every slowdown is taken against it."
    for label, figure in study["figures"].items():
        if isinstance(figure["datasets"], list):
            for name in figure["datasets"]:
                if sweep_members(study, "datasets", name)[0] not in study["datasets"]:
                    known = [*study["datasets"], *study["sweeps"]]
                    yield f"  figures.{label}.datasets: no data set '{name}'{near_spelling(name, known)}."
    for use, profiles in study["replication"].items():
        for profile, label in profiles.items():
            if label not in study["methods"]:
                known = list(study["methods"])
                yield f"  replication.{use}.{profile}: no method '{label}'{near_spelling(label, known)}."


def network_semantics(study: dict[str, Any]) -> Iterator[str]:
    """What a schema can't say of a study of networks."""
    if study["methods"].get("identity", {}).get("use") != "identity":
        yield "  methods: `identity: {}` is missing; every ratio is taken against it."
    goals = study["attack"]
    if goals["lower_target"] >= goals["target"]:
        yield (
            f"  attack.lower_target: {goals['lower_target']:g} should be less than attack.target, "
            f"{goals['target']:g}."
        )
    known = list(study["images"])
    named = {"primary": [study["primary"]], "harmful": study["harmful"], "third": study["third"]}
    seen: dict[str, str] = {}
    for role, labels in named.items():
        for label in labels:
            if label not in known:
                yield f"  {role}: no image data set '{label}'{near_spelling(label, known)}."
            if label in seen:
                yield f"  {role}: '{label}' is already {seen[label]}; one data set has one role."
            seen[label] = role


def figure_datasets(study: dict[str, Any], figure: str) -> list[str]:
    """Data sets that a figure of a resolved study is drawn for; the first member of a sweep stands
    for it."""
    wanted = study["figures"][figure]["datasets"]
    if isinstance(wanted, list):
        return [sweep_members(study, "datasets", name)[0] for name in wanted]
    return [name for name in study["datasets"] if wanted == "all" or has_pairs(study, name)]


def engine(entry: dict[str, Any]) -> str:
    """Which of `ENGINES` runs an attacker of a resolved study."""
    traits = components("linear/attacks")[entry["use"]].traits
    if traits.get("PREDICTS"):
        return "nonlinear"
    exact = traits.get("EIGENBASIS") and entry["parameters"]["loss"] == "squared"
    return "simulated" if exact else "trained"


def has_pairs(study: dict[str, Any], dataset: str) -> bool:
    """Whether a data set of a resolved study has many ordered pairs (for heat maps)."""
    parameters = study["datasets"][dataset]["parameters"]
    return parameters.get("pairs") == "all"
