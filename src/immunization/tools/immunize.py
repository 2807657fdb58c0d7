"""Write an immunized layer for two files of features, as `immunization.immunize` makes it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from immunization.runtime.errors import UserError
from immunization.runtime.jobs.command import run_command
from immunization.tools._command import command
from immunization.tools._features import add_tasks, read_task


def parser() -> argparse.ArgumentParser:
    """Of this command."""
    made = command(
        "immunize",
        "Compute an immunized linear layer for two tasks.",
        "immunization immunize benign.npy harmful.npy --out layer.safetensors\n"
        "immunization immunize benign.npy harmful.npy --method alg1 --set profile=paper "
        "--out layer.npz",
    )
    add_tasks(made)
    made.add_argument("--out", type=Path, required=True, help="layer to write: .safetensors, .npz")
    made.add_argument("--method", default="multiplicative", help="default: multiplicative, which "
                      "reaches the limit of invertible layers; erase takes the harmful label from "
                      "linear sight; alg1, imma, … are the paper's")  # fmt: skip
    made.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", dest="parameters",
                      help="parameters of the method")  # fmt: skip
    made.add_argument("--scale", choices=["none", "joint", "within"], default="none",
                      help="what the layer does to features first")  # fmt: skip
    made.add_argument("--seed", type=int, default=0, help="of methods that draw")
    made.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    return made


def assignments(words: list[str]) -> dict[str, Any]:
    """NAME=VALUE, values as YAML reads them.

    Raises:
        UserError: for a word without an equals sign.
    """
    parameters = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign:
            raise UserError(f"--set: {word!r} is no NAME=VALUE.")
        parameters[name] = yaml.safe_load(value)
    return parameters


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    options = parser().parse_args(arguments)
    benign, harmful = read_task(options, "benign"), read_task(options, "harmful")
    from immunization.api.immunizing import immunize

    layer = immunize(
        benign, harmful, method=options.method, scale=options.scale, intercept=options.intercept,
        seed=options.seed, device=options.device, **assignments(options.parameters),
    )  # fmt: skip
    layer.save(options.out)
    print(f"{options.out}: {layer}")
    labels = [
        f"--{role}-labels {given}"
        for role in ("benign", "harmful")
        if (given := getattr(options, f"{role}_labels"))
    ]
    words = [str(options.benign), str(options.harmful), *labels, "--extractor", str(options.out)]
    print(f"Look at it: immunization assess {' '.join(words)}")


if __name__ == "__main__":
    run_command(main)
