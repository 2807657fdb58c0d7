"""Stage 3 of a study of networks: one method, on every network, D_H and seed.

    python -m immunization.networks.immunize --label alg1 --method alg1 --parameters '{…}' \\
        --images images/*.safetensors --primary cifar10 --harmful cars \\
        --pretrained pretrained/*.safetensors --seeds '[0]' --progress FOLDER --out FOLDER
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from immunization import stage
from immunization.files import write_table, write_tensors
from immunization.networks.activations import Activations
from immunization.networks.backbones._backbone import Tail
from immunization.networks.methods._problem import Problem
from immunization.networks.released import Pretrained, read_pretrained, release
from immunization.networks.store import ImageSet
from immunization.networks.training import Checkpoint, clear, prepare_device, rounding
from immunization.provenance import essence, provenance
from immunization.registry import load
from immunization.seals import content_of
from immunization.seeding import seed_of


class Subject(NamedTuple):
    """What a method immunizes at a time.

    Attributes:
        path: of the pre-trained network.
        harmful: label of D_H.
        seed: of the method.
    """

    path: str
    harmful: str
    seed: int


def immunized(
    pretrained: Pretrained,
    primary: Activations,
    harmful: Activations,
    method: Any,
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


def main(arguments: list[str] | None = None) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Immunize all networks with one method.")
    parser.add_argument("--label", required=True, help="label of the method in the config")
    parser.add_argument("--method", required=True, help="file in networks/methods")
    parser.add_argument(
        "--parameters", type=stage.parse_json, required=True, help="JSON, by network"
    )
    parser.add_argument("--images", nargs="+", required=True, help="outputs of prepare")
    parser.add_argument("--primary", required=True, help="label of D_P")
    parser.add_argument("--harmful", nargs="+", required=True, help="labels of D_H")
    parser.add_argument("--pretrained", nargs="+", required=True, help="outputs of pretrain")
    parser.add_argument("--seeds", type=stage.parse_json, required=True, help="JSON list")
    parser.add_argument("--progress", type=Path, required=True, help="own folder of the job")
    parser.add_argument("--checkpoint-seconds", type=float, default=120.0)
    parser.add_argument("--deterministic", action="store_true")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True, help="folder for NETWORK.D_H.safetensors, .parquet")
    options = parser.parse_args(arguments)
    device = stage.choose_device(options.device)
    prepare_device(device, options.threads, deterministic=options.deterministic)
    method = load("networks/methods", options.method)
    paths = {Path(path).stem: path for path in options.images}
    used = {name: ImageSet(paths[name], device) for name in (options.primary, *options.harmful)}
    code = ["immunization.networks.immunize", f"immunization.networks.methods.{options.method}"]
    records = {}
    current: tuple[str, Pretrained, Activations] | None = None
    opposite: tuple[str, str, Activations] | None = None

    def finished(subject: Subject) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """What is kept of a subject; else computed."""
        nonlocal current, opposite
        if current is None or current[0] != subject.path:
            pretrained = read_pretrained(subject.path, device)
            first = used[options.primary]
            primary = Activations(pretrained.backbone, first.train, first.size)
            current = subject.path, pretrained, primary
        pretrained, primary = current[1:]
        parameters = options.parameters[pretrained.name]
        asked = {"method": options.method, **parameters} | rounding(device, options.threads)
        record = provenance(code, asked, device)
        records[subject.path] = (pretrained.name, record)
        place = f"{options.label}.{pretrained.name}.{subject.harmful}.{subject.seed}"
        key = [
            essence(record), device, options.deterministic, subject.seed, content_of(subject.path),
            [content_of(paths[n]) for n in (options.primary, subject.harmful)],
        ]  # fmt: skip
        done = Checkpoint(options.progress / f"{place}.done.safetensors", key)
        kept = done.read("cpu")
        if kept is not None:
            return kept
        unfinished = Checkpoint(
            options.progress / f"{place}.safetensors", key, options.checkpoint_seconds
        )
        if opposite is None or opposite[:2] != subject[:2]:
            harmful = Activations(
                pretrained.backbone, used[subject.harmful].train, used[options.primary].size
            )
            opposite = (*subject[:2], harmful)
        tensors, rows = immunized(
            pretrained, primary, opposite[2], method, parameters,
            (pretrained.name, subject.harmful, subject.seed), unfinished,
        )  # fmt: skip
        done.write(tensors, {"rows": rows})
        unfinished.remove()
        stage.LOG.info(
            "%s: %s against %s, seed %d",
            options.label, pretrained.name, subject.harmful, subject.seed,
        )  # fmt: skip
        return tensors, {"rows": rows}

    for path in options.pretrained:
        for name in options.harmful:
            tensors: dict[str, torch.Tensor] = {}
            frames = []
            for seed in options.seeds:
                found = finished(Subject(path, name, seed))
                own, rows = found[0], found[1]["rows"]
                tensors |= {f"seed{seed}.{n}": v for n, v in own.items()}
                # A checkpoint sorts keys: columns should not tell whether a job was killed.
                names = sorted({n for row in rows for n in row} - {"step"})
                frames.append(
                    pd.DataFrame(rows or [{"step": 0}], columns=["step", *names]).assign(
                        method=options.label, network=records[path][0], harmful=name, seed=seed
                    )
                )
            network, record = records[path]
            base = Path(options.out) / f"{network}.{name}"
            write_tensors(
                f"{base}.safetensors",
                tensors,
                {
                    "method": options.label,
                    "network": network,
                    "harmful": name,
                    "seeds": options.seeds,
                    "provenance": record,
                },
            )
            table = pd.concat(frames, ignore_index=True)
            table.attrs["provenance"] = record
            write_table(f"{base}.parquet", table)
    clear(options.progress)


if __name__ == "__main__":
    stage.run(main)
