"""Stage 5 of a study of networks: one attacker against every method, network, task and seed.

    python -m immunization.networks.attack --label lora_4 --attack lora --parameters '{…}' \\
        --images images/*.safetensors --harmful cars --third mnist --pretrained … \\
        --immunized immunized/*/*.safetensors --progress FOLDER --runs … --curves …

Finished pieces (a method's networks of one kind, on one task) are kept in the progress folder; a
job that was killed goes on from there.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from immunization import stage
from immunization.engines._job import Unit
from immunization.files import write_table
from immunization.networks.activations import Activations, spread_rows
from immunization.networks.attacks._victim import Victim
from immunization.networks.released import Immunized, Pretrained, read_pretrained
from immunization.networks.store import ImageSet
from immunization.networks.training import prepare_device, rounding
from immunization.progress import run_units
from immunization.provenance import essence, provenance
from immunization.registry import components, load
from immunization.seals import content_of

KINDS = ("runs", "curves")


class Field:
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
        """Places of a task's images, and what the trunk answers to them."""
        key = (network.name, name)
        if key not in self._parts:
            # One network and task at a time: activations are large.
            self._parts.clear()
            images = self.images(name)
            found = []
            for part, most, flip in (
                (images.train, self.settings["rows"], images.flip and self.mirrors),
                (images.test, self.settings["test_rows"], False),
            ):
                rows = spread_rows(part.labels, most)
                found += [
                    rows,
                    Activations(network.backbone, part, images.size, flip=flip, rows=rows),
                ]
            self._parts[key] = (found[0], found[2], found[1], found[3])
        return self._parts[key]


def units_of(
    field: Field,
    files: list[Immunized],
    networks: dict[str, str],
    third: list[str],
    label: str,
    use: str,
    parameters: dict[str, Any],
) -> list[Unit]:
    """A piece for each network, task and method."""
    module = load("networks/attacks", use)
    control = bool(components("networks/attacks")[use].traits.get("CONTROL"))
    units = []
    for network, path in networks.items():
        own = [file for file in files if file.network == network]
        tasks = list(dict.fromkeys(file.harmful for file in own))
        for task in (*tasks, *third):
            for file in own:
                role = "T" if task in third else "H"
                if role == "H" and file.harmful != task:
                    continue
                if control and file.method != "identity":
                    continue

                def run(
                    file: Immunized = file, task: str = task, role: str = role, path: str = path
                ) -> Any:
                    network, pretrained = file.network, field.pretrained(path)
                    rows, test_rows, train, test = field.parts(pretrained, task)
                    tails = {s: file.of_seed(s, pretrained, field.device)[0] for s in file.seeds}
                    victim = Victim(
                        pretrained, tails, field.images(task), rows, test_rows, train, test,
                        f"{label}.{network}.{task}",
                        field.kept.setdefault((network, task), {}),
                    )  # fmt: skip
                    found = module.attack(victim, parameters)
                    keys = {
                        "network": network, "harmful": file.harmful, "task": task, "role": role,
                        "method": file.method, "attack": label, "code": file.code,
                    }  # fmt: skip
                    for old in [k for k in field.kept if k != (network, task)]:
                        del field.kept[old]
                    stage.LOG.info("%s on %s of %s: done", label, task, file.method)
                    return tuple(frame.assign(**keys) for frame in found)

                key: list[Any] = [network, file.harmful, task, file.method, file.seeds]
                # A control depends on nothing that was immunized.
                key.append(None if control else content_of(file.path))
                units.append(Unit({"victim": key}, run))
    return units


def main(arguments: list[str] | None = None) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="One attacker against all released networks.")
    parser.add_argument("--label", required=True, help="label of the attacker in the config")
    parser.add_argument("--attack", required=True, help="file in networks/attacks")
    parser.add_argument("--parameters", type=stage.parse_json, required=True, help="JSON object")
    parser.add_argument("--settings", type=stage.parse_json, required=True, help="JSON object")
    parser.add_argument("--images", nargs="+", required=True, help="outputs of prepare")
    parser.add_argument("--third", nargs="*", default=[], help="labels of third tasks")
    parser.add_argument("--pretrained", nargs="+", required=True, help="outputs of pretrain")
    parser.add_argument("--immunized", nargs="+", required=True, help="outputs of immunize")
    parser.add_argument("--progress", type=Path, required=True, help="folder for finished pieces")
    parser.add_argument("--deterministic", action="store_true")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", required=True, help="Parquet file to write")
    parser.add_argument("--curves", required=True, help="Parquet file to write")
    options = parser.parse_args(arguments)
    device = stage.choose_device(options.device)
    traits = components("networks/attacks")[options.attack].traits
    prepare_device(
        device,
        options.threads,
        deterministic=options.deterministic,
        try_kernels=bool(traits.get("IMAGES")),
    )
    paths = {Path(path).stem: path for path in options.images}
    networks = {Path(path).stem: path for path in options.pretrained}
    files = [Immunized.open(path) for path in options.immunized]
    field = Field(paths, options.settings, device, mirrors=bool(traits.get("MIRRORS")))
    units = units_of(
        field, files, networks, options.third, options.label, options.attack, options.parameters
    )
    record = provenance(
        ["immunization.networks.attack", f"immunization.networks.attacks.{options.attack}"],
        {"use": options.attack, "settings": options.settings, **options.parameters}
        | rounding(device, options.threads),
        device,
    )
    base = [
        essence(record), device, options.deterministic,
        [content_of(p) for p in (*options.pretrained, *options.images)],
    ]  # fmt: skip
    found = run_units(units, options.progress, base, 1, KINDS)
    for place, out in enumerate((options.runs, options.curves)):
        frame = pd.concat([frames[place] for frames in found], ignore_index=True)
        frame.attrs["provenance"] = record
        write_table(out, frame)


if __name__ == "__main__":
    stage.run(main)
