"""Take an immunized layer or network out of a study, with a card and a check."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from immunization.api.exporting import export_layer, export_network
from immunization.api.study import load_study
from immunization.runtime import environment
from immunization.runtime.errors import UserError
from immunization.runtime.jobs.command import run_command
from immunization.tools._command import command


def parser() -> argparse.ArgumentParser:
    """Of this command."""
    made = command(
        "export",
        "Take an immunized layer (a linear study) or a whole network under its own names (a study "
        "of networks) out of a study, with a model card and a check that it gives what the study "
        "measured.",
        "immunization export results/default --method optimum --dataset digits --pair 0 1 "
        "--out layer.safetensors\n"
        "immunization export results/mine --method alg1 --network mine --harmful dh "
        "--out model.safetensors",
    )
    made.add_argument("folder", type=Path, help="results/NAME")
    made.add_argument("--method", required=True, help="label of the method")
    made.add_argument("--out", type=Path, required=True, help="file to write: .safetensors, or "
                      ".npz for a layer")  # fmt: skip
    made.add_argument("--seed", type=int, help="default: the first of the study")
    made.add_argument("--dataset", help="label of the data set, in a linear study")
    made.add_argument("--pair", nargs=2, metavar=("D_P", "D_H"), help="default: the first pair")
    made.add_argument("--allow-code", action="store_true",
                      help="run the code that the network is built by")  # fmt: skip
    made.add_argument("--network", help="label of the network, in a study of networks")
    made.add_argument("--harmful", help="label of D_H, in a study of networks")
    return made


def _one(given: str | None, known: list[str], option: str) -> str:
    if given is not None:
        return given
    if len(known) != 1:
        raise UserError(f"{option}: the study has several; name one of {', '.join(known)}.")
    return known[0]


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    options = parser().parse_args(arguments)
    if options.allow_code:
        os.environ[environment.ALLOW_CODE] = "1"
    study = load_study(options.folder)
    if study.kind == "linear":
        dataset = _one(options.dataset, study.datasets, "--dataset")
        pair = tuple(options.pair) if options.pair else 0
        written = export_layer(study, options.method, dataset, pair, options.seed, options.out)
    else:
        network = _one(options.network, list(study.config["networks"]), "--network")
        harmful = _one(options.harmful, list(study.config["harmful"]), "--harmful")
        written = export_network(study, options.method, network, harmful, options.seed, options.out)
    for path in written:
        print(path)


if __name__ == "__main__":
    run_command(main)
