"""A whole study of networks in one process on one GPU, and the seconds of each stage.

    snakemake --configfile config/deepnets.yaml -- results/deepnets/study.json
    python benchmarks/networks_study.py results/deepnets/study.json --out results/deepnets \\
        --mirror FOLDER --json benchmarks/results/networks.cuda.json

Calls what the workflow's rules call, in their order and with their arguments, but imports timm and
torch once: for machines without Snakemake, and to see what the work itself costs. Images are
prepared by processes of their own. Stages keep their finished pieces in the same places, so that
a second call goes on from there.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class Study:
    """The stages of one study.

    Args:
        config: the checked and completed config.
        out: folder of its results.
        device: auto, cpu or cuda.
    """

    def __init__(self, config: dict[str, Any], out: Path, device: str) -> None:
        self.config, self.out, self.device = config, out, device
        self.seconds: dict[str, float] = {}
        self.images = {
            name: str(out / "images" / f"{name}.safetensors") for name in config["images"]
        }
        self.pretrained = [str(out / "pretrained" / f"{n}.safetensors") for n in config["networks"]]
        self.released = [
            str(out / "immunized" / method / f"{network}.{harmful}.safetensors")
            for method in config["methods"]
            for network in config["networks"]
            for harmful in config["harmful"]
        ]

    def run(self, name: str, module: str, *arguments: object) -> None:
        """One stage, timed."""
        began = time.monotonic()
        stage = importlib.import_module(f"immunization.networks.{module}")
        exact = ["--deterministic"] if self.config["deterministic"] else []
        stage.main([*map(str, arguments), *exact, "--device", self.device])
        self.seconds[name] = time.monotonic() - began
        logging.info("STAGE %s %.1f s", name, self.seconds[name])

    def prepare(self, mirror: str, cache: str) -> None:
        """All data sets at once."""
        began = time.monotonic()
        jobs = [
            subprocess.Popen(
                [sys.executable, "-m", "immunization.networks.prepare", "--name", name,
                 "--source", entry["source"], "--parameters", json.dumps(entry["parameters"]),
                 "--size", str(self.config["size"]), "--mirror", mirror, "--cache", cache,
                 "--out", self.images[name]]
            )
            for name, entry in self.config["images"].items()
        ]  # fmt: skip
        codes = [job.wait() for job in jobs]
        if any(codes):
            sys.exit("an image data set could not be prepared")
        self.seconds["prepare"] = time.monotonic() - began

    def all(self) -> None:
        """Every stage after preparation."""
        config, progress = self.config, self.out / "progress"
        roles = ["--primary", config["primary"], "--harmful", *config["harmful"]]
        third = ["--third", *config["third"]]
        for path, (name, entry) in zip(self.pretrained, config["networks"].items(), strict=True):
            self.run(
                f"pretrain {name}", "pretrain", "--name", name, "--use", entry["use"],
                "--parameters", json.dumps(entry["parameters"]), "--images",
                self.images[config["primary"]], "--seed", config["seeds"][0],
                "--progress", progress / "pretrain" / name, "--out", path,
            )  # fmt: skip
        used = [self.images[name] for name in (config["primary"], *config["harmful"])]
        for label, entry in config["methods"].items():
            self.run(
                f"immunize {label}", "immunize", "--label", label, "--method", entry["use"],
                "--parameters", json.dumps(entry["parameters"]), "--images", *used, *roles,
                "--pretrained", *self.pretrained, "--seeds", json.dumps(config["seeds"]),
                "--progress", progress / "immunize" / label,
                "--out", self.out / "immunized" / label,
            )  # fmt: skip
        shared = [
            "--images", *self.images.values(), *third, "--pretrained", *self.pretrained,
            "--immunized", *self.released,
        ]  # fmt: skip
        self.run(
            "spectrum", "spectrum", *shared, *roles, "--parameters", json.dumps(config["spectrum"]),
            "--progress", progress / "spectrum",
            "--spectra", self.out / "spectrum" / "spectra.parquet",
            "--densities", self.out / "spectrum" / "densities.parquet",
        )  # fmt: skip
        settings = {key: value for key, value in config["attack"].items() if "target" not in key}
        for label, entry in config["attacks"].items():
            self.run(
                f"attack {label}", "attack", "--label", label, "--attack", entry["use"],
                "--parameters", json.dumps(entry["parameters"]),
                "--settings", json.dumps(settings), *shared,
                "--progress", progress / "attack" / label,
                "--runs", self.out / "attack" / f"{label}.runs.parquet",
                "--curves", self.out / "attack" / f"{label}.curves.parquet",
            )  # fmt: skip


def main() -> None:
    """Run the study and print the seconds of its stages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="study.json")
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--mirror", default="", help="as data.mirror")
    parser.add_argument("--cache", default=".cache/data")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    config = json.loads(options.study.read_text(encoding="utf-8"))["config"]
    study = Study(config, options.out, options.device)
    study.prepare(options.mirror, options.cache)
    try:
        study.all()
    finally:
        import torch

        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        record = {
            "command": " ".join(["python", *sys.argv]), "device": device,
            "torch": torch.__version__, "study": config["study"],
            "seconds": study.seconds, "total_s": sum(study.seconds.values()),
        }  # fmt: skip
        for name, value in study.seconds.items():
            print(f"{name:32s} {value:8.1f} s")
        print(f"{'total':32s} {record['total_s']:8.1f} s on {device}")
        if options.json:
            options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
