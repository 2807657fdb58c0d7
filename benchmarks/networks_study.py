"""A whole study of networks in one process on one GPU, and the seconds of each stage.

    snakemake --configfile config/deepnets.yaml -- results/deepnets/study.json
    python benchmarks/networks_study.py results/deepnets/study.json --mirror FOLDER \\
        --json benchmarks/results/networks.cuda.json

Calls the stages that the workflow's rules call, in their order, but imports timm and torch once:
for machines without Snakemake, and to see what the work itself costs. Images are prepared by
processes of their own. Stages save their finished units in the same places, so that a second call
resumes.
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

from immunization.study.layout import NetworkLayout
from immunization.study.whole import read_study


def prepare(study: Path, names: list[str], options: list[str]) -> None:
    """All data sets at once."""
    jobs = [
        subprocess.Popen(
            [sys.executable, "-m", "immunization.stages.prepare", str(study), name, *options]
        )
        for name in names
    ]
    codes = [job.wait() for job in jobs]
    if any(codes):
        sys.exit("an image data set could not be prepared")


def main() -> None:
    """Run the study and print the seconds of its stages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="study.json")
    parser.add_argument("--results", help="folder of results; default: results/STUDY")
    parser.add_argument("--mirror", default="", help="as data.mirror")
    parser.add_argument("--cache", default=".cache/data")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    config = read_study(options.study)["config"]
    results = options.results or f"results/{config['study']}"
    layout = NetworkLayout(config, results)
    places = [f"--results={results}", f"--mirror={options.mirror}", f"--cache={options.cache}"]
    seconds: dict[str, float] = {}
    began = time.monotonic()
    prepare(options.study, layout.datasets, places)
    seconds["prepare"] = time.monotonic() - began
    jobs = [("pretrain", name) for name in layout.networks]
    jobs += [("immunize", label) for label in layout.methods]
    jobs += [("spectrum", "")]
    jobs += [("attack", label) for label in layout.attacks]
    try:
        for name, label in jobs:
            began = time.monotonic()
            stage = importlib.import_module(f"immunization.stages.{name}")
            labels = [label] if label else []
            stage.main([str(options.study), *labels, *places, f"--device={options.device}"])
            seconds[f"{name} {label}".strip()] = time.monotonic() - began
            logging.info("STAGE %s %s %.1f s", name, label, time.monotonic() - began)
    finally:
        import torch

        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        record = {
            "command": " ".join(["python", *sys.argv]), "device": device,
            "torch": torch.__version__, "study": config["study"],
            "seconds": seconds, "total_s": sum(seconds.values()),
        }  # fmt: skip
        for name, value in seconds.items():
            print(f"{name:32s} {value:8.1f} s")
        print(f"{'total':32s} {record['total_s']:8.1f} s on {device}")
        if options.json:
            options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
