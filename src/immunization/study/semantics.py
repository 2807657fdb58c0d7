"""What a schema cannot say of a study."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from immunization.runtime.spelling import near_spelling
from immunization.study.components import component
from immunization.study.derived import sweep_members


def stand_ins(study: dict[str, Any]) -> None:
    """Which label represents each method of the paper, where the config does not say."""
    for use in ("r_ill_only", "imma", "opt_kappa", "alg1"):
        chosen = study["replication"].setdefault(use, {})
        label_of_profile: dict[str, str] = {}
        for label, method in study["methods"].items():
            if method["use"] == use:
                profiles = {p.get("profile") for p in method["parameters"].values()}
                for profile in ("released", "paper", "corrected"):
                    if profiles & {None, profile}:
                        label_of_profile.setdefault(profile, label)
        for profile, label in label_of_profile.items():
            chosen.setdefault(profile, label)


def linear_semantics(study: dict[str, Any]) -> Iterator[str]:
    """What a schema can't say."""
    if study["methods"].get("identity", {}).get("use") != "identity":
        yield "  methods: `identity: {}` is missing; every slowdown is taken against it."
    for label, entry in study["datasets"].items():
        count = int(component("linear/datasets", entry["source"]).traits.get("CLASSES") or 0)
        pairs = entry["parameters"].get("pairs")
        for pair in pairs if count and isinstance(pairs, list) else ():
            if any(not isinstance(c, int) or c >= count for c in pair):
                yield (
                    f"  datasets.{label}.pairs: {pair} names a class that {entry['source']} has "
                    f"not; it has 0 to {count - 1}."
                )
    for label, figure in study["figures"].items():
        if isinstance(figure["datasets"], list):
            for name in figure["datasets"]:
                if sweep_members(study, "datasets", name)[0] not in study["datasets"]:
                    known = [*study["datasets"], *study["sweeps"]]
                    near = near_spelling(name, known)
                    yield f"  figures.{label}.datasets: no data set '{name}'{near}."
    for use, profiles in study["replication"].items():
        for profile, label in profiles.items():
            if label not in study["methods"]:
                known = list(study["methods"])
                near = near_spelling(label, known)
                yield f"  replication.{use}.{profile}: no method '{label}'{near}."


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
    known = list(study["datasets"])
    named = {
        "primary": [study["primary"]],
        "harmful": study["harmful"],
        "third_tasks": study["third_tasks"],
    }
    seen: dict[str, str] = {}
    for role, labels in named.items():
        for label in labels:
            if label not in known:
                yield f"  {role}: no image data set '{label}'{near_spelling(label, known)}."
            if label in seen:
                yield f"  {role}: '{label}' is already {seen[label]}; one data set has one role."
            seen[label] = role
