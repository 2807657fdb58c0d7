"""Run one method on every network, D_H and seed."""

from __future__ import annotations

import copy
from typing import Any

import pandas as pd
import torch

from immunization.networks.activations import Activations
from immunization.networks.backbones._backbone import Tail
from immunization.networks.contracts import MethodComponent
from immunization.networks.files import Pretrained, read_pretrained, release
from immunization.networks.image_store import ImageSet
from immunization.networks.methods._problem import Problem
from immunization.networks.training import prepare_device, rounding_record
from immunization.runtime.files.checksums import content_hash
from immunization.runtime.files.io import write_tensors
from immunization.runtime.jobs.checkpoint import Checkpoint, empty_folder
from immunization.runtime.jobs.stage import Stage, write_tables
from immunization.runtime.log import LOG
from immunization.runtime.record.provenance import essence
from immunization.runtime.seeding import seed_of
from immunization.study.components import component, import_component

Tensors = dict[str, torch.Tensor]
Rows = list[dict[str, Any]]


def immunized(
    pretrained: Pretrained,
    primary: Activations,
    harmful: Activations,
    method: MethodComponent,
    parameters: dict[str, Any],
    key: tuple[str, str, int],
    checkpoint: Checkpoint,
) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Run a method from θ₀; tensors to release, and the trajectory."""
    torch.manual_seed(seed_of("method", *key))
    tail = Tail(pretrained.backbone).eval().requires_grad_(True)
    problem = Problem(tail, copy.deepcopy(pretrained.head), primary, harmful, key, checkpoint)
    rows = method.immunize(problem, parameters)
    return release(problem.tail, problem.head), rows


def run(stage: Stage) -> None:
    """The stage: one method on every network, D_H and seed."""
    device = stage.device()
    prepare_device(device, stage.threads, deterministic=stage.config["deterministic"])
    work = Immunizer(stage, device)
    for network, harmful in stage.paths.settings:
        write(work, network, harmful)
    empty_folder(stage.progress)


class Immunizer:
    """Immunizes one subject after the other; keeps what the next one shares, since it is large.

    Args:
        stage: the job.
        device: where to compute.
    """

    def __init__(self, stage: Stage, device: str) -> None:
        self.stage, self.device, self.config = stage, device, stage.config
        self.entry = self.config["methods"][stage.label]
        self.method: MethodComponent = import_component("networks/methods", self.entry["use"])
        names = (self.config["primary"], *self.config["harmful"])
        self.images = {name: ImageSet(stage.paths.images(name), device) for name in names}
        self._pretrained: Pretrained | None = None
        self._activations: dict[str, Activations] = {}

    def pretrained(self, network: str) -> Pretrained:
        """θ₀; frees what was cached of another network."""
        if self._pretrained is None or self._pretrained.name != network:
            self._activations.clear()
            self._pretrained = read_pretrained(self.stage.paths.pretrained(network), self.device)
        return self._pretrained

    def activations(self, pretrained: Pretrained, name: str) -> Activations:
        """The trunk's outputs on training images, cached for D_P and one D_H at a time."""
        primary = self.config["primary"]
        if name not in self._activations:
            kept = self._activations.get(primary)
            self._activations = {} if kept is None else {primary: kept}
            size = self.images[primary].size
            self._activations[name] = Activations(
                pretrained.backbone, self.images[name].train, size
            )
        return self._activations[name]

    def record(self, network: str) -> dict[str, Any]:
        """Where results on a network come from."""
        use, threads = self.entry["use"], self.stage.threads
        asked = {"method": use, **self.entry["parameters"][network]}
        asked |= rounding_record(self.device, threads)
        module = component("networks/methods", use).module
        return self.stage.record(asked, "immunize", device=self.device, components=[module])

    def result(self, network: str, harmful: str, seed: int) -> tuple[Tensors, Rows]:
        """Tensors to release and the trajectory of one subject: as saved, or computed now."""
        stage, paths = self.stage, self.stage.paths
        place = stage.progress / f"{stage.label}.{network}.{harmful}.{seed}"
        key = [
            essence(self.record(network)), self.device, self.config["deterministic"], seed,
            content_hash(paths.pretrained(network)),
            [content_hash(paths.images(n)) for n in (self.config["primary"], harmful)],
        ]  # fmt: skip
        done = Checkpoint(place.with_name(f"{place.name}.done.safetensors"), key)
        kept = done.read("cpu")
        if kept is not None:
            return kept[0], kept[1]["rows"]
        unfinished = Checkpoint(
            place.with_name(f"{place.name}.safetensors"), key, stage.checkpoint_seconds
        )
        pretrained = self.pretrained(network)
        tensors, rows = immunized(
            pretrained,
            self.activations(pretrained, self.config["primary"]),
            self.activations(pretrained, harmful),
            self.method, self.entry["parameters"][network], (network, harmful, seed), unfinished,
        )  # fmt: skip
        done.write(tensors, {"rows": rows})
        unfinished.remove()
        LOG.info("%s: %s against %s, seed %d", stage.label, network, harmful, seed)
        return tensors, rows


def write(work: Immunizer, network: str, harmful: str) -> None:
    """Write the released networks of all seeds, and their trajectories."""
    stage, seeds = work.stage, work.config["seeds"]
    tensors: Tensors = {}
    frames = []
    for seed in seeds:
        of_this_seed, rows = work.result(network, harmful, seed)
        tensors |= {f"seed{seed}.{name}": value for name, value in of_this_seed.items()}
        # A checkpoint sorts keys: columns should not tell whether a job was killed.
        names = sorted({name for row in rows for name in row} - {"step"})
        frames.append(
            pd.DataFrame(rows or [{"step": 0}], columns=["step", *names]).assign(
                method=stage.label, network=network, harmful=harmful, seed=seed
            )
        )
    record = work.record(network)
    place = stage.paths.settings.index((network, harmful))
    about = {
        "method": stage.label, "network": network, "harmful": harmful, "seeds": seeds,
        "provenance": record,
    }  # fmt: skip
    write_tensors(stage.paths.immunized(stage.label)[place], tensors, about)
    trajectory = stage.paths.trajectories(stage.label)[place]
    write_tables([trajectory], [pd.concat(frames, ignore_index=True)], record)
