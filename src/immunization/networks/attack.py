"""Run one attacker against every method, network, task and seed.

Finished units (a method's networks of one kind, on one task) are saved; a job that was killed goes
on from there."""

from __future__ import annotations

from typing import Any

import pandas as pd

from immunization.networks.activations import Activations, spread_rows
from immunization.networks.attacks._victim import AttackedModel
from immunization.networks.contracts import AttackerComponent
from immunization.networks.files import Immunized, Pretrained, read_pretrained
from immunization.networks.image_store import ImageSet
from immunization.networks.training import prepare_device, rounding_record
from immunization.runtime.files.checksums import content_hash
from immunization.runtime.jobs.resumable import WorkUnit, run_units
from immunization.runtime.jobs.stage import Stage, write_tables
from immunization.runtime.log import LOG
from immunization.runtime.record.provenance import essence
from immunization.study.components import component, import_component
from immunization.study.derived import attack_settings

TABLES = ("runs", "curves")


class AttackContext:
    """Everything that attackers share, computed when it is first asked for.

    Args:
        paths: of prepared images, by label.
        settings: of the study's `attack`.
        device: where to compute.
        mirrors: keep the answers to mirrored images too, where images may be mirrored.
    """

    def __init__(
        self, paths: dict[str, str], settings: dict[str, Any], device: str, *, mirrors: bool
    ) -> None:
        self.paths, self.settings, self.device = paths, settings, device
        self.mirrors = mirrors
        self._sets: dict[str, ImageSet] = {}
        self._parts: dict[tuple[str, str], tuple[Any, ...]] = {}
        self._pretrained: dict[str, Pretrained] = {}
        self.kept: dict[tuple[str, ...], dict[str, Any]] = {}

    def images(self, name: str) -> ImageSet:
        """A data set."""
        if name not in self._sets:
            self._sets[name] = ImageSet(self.paths[name], self.device)
        return self._sets[name]

    def pretrained(self, path: str) -> Pretrained:
        """A network."""
        if path not in self._pretrained:
            self._pretrained[path] = read_pretrained(path, self.device)
        return self._pretrained[path]

    def parts(self, network: Pretrained, name: str) -> tuple[Any, ...]:
        """Places of a task's images, and what the trunk outputs for them."""
        key = (network.name, name)
        if key not in self._parts:
            # One network and task at a time: activations are large.
            self._parts.clear()
            images = self.images(name)
            parts = []
            for part, most, flip in (
                (images.train, self.settings["rows"], images.flip and self.mirrors),
                (images.test, self.settings["test_rows"], False),
            ):
                rows = spread_rows(part.labels, most)
                parts += [
                    rows,
                    Activations(network.backbone, part, images.size, flip=flip, rows=rows),
                ]
            self._parts[key] = (parts[0], parts[2], parts[1], parts[3])
        return self._parts[key]


def units_of(
    context: AttackContext,
    files: list[Immunized],
    networks: dict[str, str],
    third: list[str],
    label: str,
    use: str,
    parameters: dict[str, Any],
) -> list[WorkUnit]:
    """A unit for each network, task and method."""
    module: AttackerComponent = import_component("networks/attacks", use)
    control = bool(component("networks/attacks", use).traits.get("CONTROL"))
    units = []
    for network, path in networks.items():
        files_of_network = [file for file in files if file.network == network]
        tasks = list(dict.fromkeys(file.harmful for file in files_of_network))
        for task in (*tasks, *third):
            for file in files_of_network:
                role = "T" if task in third else "H"
                if role == "H" and file.harmful != task:
                    continue
                if control and file.method != "identity":
                    continue

                def run(
                    file: Immunized = file, task: str = task, role: str = role, path: str = path
                ) -> Any:
                    network, pretrained = file.network, context.pretrained(path)
                    rows, test_rows, train, test = context.parts(pretrained, task)
                    tails = {s: file.of_seed(s, pretrained, context.device)[0] for s in file.seeds}
                    victim = AttackedModel(
                        pretrained, tails, context.images(task), rows, test_rows, train, test,
                        f"{label}.{network}.{task}",
                        context.kept.setdefault((network, task), {}),
                    )  # fmt: skip
                    frames = module.attack(victim, parameters)
                    keys = {
                        "network": network, "harmful": file.harmful, "task": task, "role": role,
                        "method": file.method, "attack": label, "code": file.code,
                    }  # fmt: skip
                    for old in [k for k in context.kept if k != (network, task)]:
                        del context.kept[old]
                    LOG.info("%s on %s of %s: done", label, task, file.method)
                    return tuple(frame.assign(**keys) for frame in frames)

                key: list[Any] = [network, file.harmful, task, file.method, file.seeds]
                # A control depends on nothing that was immunized.
                key.append(None if control else content_hash(file.path))
                units.append(WorkUnit({"victim": key}, run))
    return units


def run(stage: Stage) -> None:
    """The stage: one attacker against every method, network, task and seed."""
    config, paths, label = stage.config, stage.paths, stage.label
    use, parameters = config["attacks"][label]["use"], config["attacks"][label]["parameters"]
    settings, exact = attack_settings(config), config["deterministic"]
    traits = component("networks/attacks", use).traits
    device = stage.device()
    kernels = bool(traits.get("IMAGES"))
    prepare_device(device, stage.threads, deterministic=exact, try_kernels=kernels)
    images = {name: paths.images(name) for name in paths.datasets}
    networks = {name: paths.pretrained(name) for name in paths.networks}
    files = [Immunized.open(path) for path in paths.all_immunized()]
    context = AttackContext(images, settings, device, mirrors=bool(traits.get("MIRRORS")))
    units = units_of(context, files, networks, config["third_tasks"], label, use, parameters)
    asked = {"use": use, "settings": settings, **parameters}
    asked |= rounding_record(device, stage.threads)
    module = component("networks/attacks", use).module
    record = stage.record(asked, "attack", device=device, components=[module])
    contents = [content_hash(path) for path in (*networks.values(), *images.values())]
    base = [essence(record), device, exact, contents]
    frames_of_units = run_units(units, stage.progress, base, 1, TABLES)
    frames = [
        pd.concat([both[place] for both in frames_of_units], ignore_index=True)
        for place in range(2)
    ]
    write_tables(paths.attack(label), frames, record)
