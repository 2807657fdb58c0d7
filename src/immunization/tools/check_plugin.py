"""Check a component of your own: what it declares, and what it returns on small problems."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from immunization.runtime import environment
from immunization.runtime.errors import UserError
from immunization.runtime.jobs.command import run_command
from immunization.runtime.log import LOG
from immunization.study.components import component, import_component
from immunization.tools._command import command
from immunization.tools.new import KINDS


def parser() -> argparse.ArgumentParser:
    """Of this command."""
    made = command(
        "check-plugin",
        "Import a component, hold it against its contract, and run it on small problems. Exit "
        "code 1 where something is wrong.",
        "immunization check-plugin method my_method.py\n"
        "immunization check-plugin method stretch        # of an installed package",
    )
    made.add_argument("kind", choices=list(KINDS))
    made.add_argument("name", help="path of a file, or name of an installed component")
    return made


def check(kind: str, name: str) -> list[str]:
    """What was done, a line each.

    Args:
        kind: one of `KINDS`.
        name: path or name.

    Raises:
        UserError: naming the file, what is expected, and what was seen.
    """
    folder = KINDS[kind][0]
    os.environ[environment.ALLOW_CODE] = "1"  # who asks for this has the file run
    try:
        found = component(folder, name)
    except KeyError as error:
        raise UserError(str(error.args[0])) from None
    module = import_component(folder, name)
    from immunization.linear import contracts

    if folder.startswith("linear"):
        contracts.check(found, module)
    done = [f"{found.path}: declares {len(found.parameters)} parameters"]
    if not found.summary:
        done.append("it has no docstring; its first line is what people read of it")
    done += {
        "method": _method, "attack": _attack, "figure": _figure, "dataset": _dataset,
        "backbone": _backbone,
    }[kind](module, name)  # fmt: skip
    return done


def _tasks() -> Any:
    """Two small tasks with a wide spectrum and two classes, held-out rows, two seeds."""
    from immunization.linear.own_tasks.pairs import study_set
    from immunization.linear.own_tasks.scaling import Scaler
    from immunization.linear.own_tasks.task import Task

    draw = torch.Generator().manual_seed(0)
    made = []
    for role, scale in (("benign", 1.0), ("harmful", -1.0)):
        features = torch.randn(80, 6, dtype=torch.float64, generator=draw)
        features = features * torch.logspace(0, scale, 6, dtype=torch.float64)
        labels = (features[:, 0] + features[:, 5] > 0).long()
        made.append(Task(features, labels, name=role))
    return study_set("check", made[0], made[1], Scaler(), seeds=[0, 1])


def _defaults(folder: str, name: str) -> dict[str, Any]:
    from immunization.study.parameters import completed

    found = component(folder, name)
    lacking = [key for key, rule in found.parameters.items() if "default" not in rule]
    if lacking:
        raise UserError(
            f"{found.path}: PARAMETERS[{lacking[0]!r}] has no default. A config would have to give "
            "it each time; a check runs with defaults."
        )
    return completed(folder, "component", name, {})


def _method(module: Any, name: str) -> list[str]:
    from immunization.linear.immunize import immunize

    tasks = _tasks()
    thetas, *_ = immunize(name, module, _defaults("linear/methods", name), tasks, "cpu", 1)
    again, *_ = immunize(name, module, _defaults("linear/methods", name), tasks, "cpu", 1)
    if any(not torch.equal(again[seed], theta) for seed, theta in thetas.items()):
        raise UserError(
            f"{module.__file__}: two runs with one seed give different θ. Draw with "
            "`problem.generators(purpose)`, which depends on the seed and the tasks alone."
        )
    if any(bool((theta == 0).flatten(1).all(1).any()) for theta in thetas.values()):
        raise UserError(
            f"{module.__file__}: θ = 0, which maps every input to the same features: the benign "
            "task is destroyed."
        )
    return ["immunize: θ of the right shape, finite, the same in two runs"]


def _attack(module: Any, name: str) -> list[str]:
    from immunization.api.attacking import attack
    from immunization.linear.own_tasks.task import Task

    draw = torch.Generator().manual_seed(0)
    features = torch.randn(80, 6, dtype=torch.float64, generator=draw)
    task = Task(features, (features[:, 0] > 0).long(), name="check")
    entry = {"use": name}
    done = attack(task, torch.eye(6), attackers={"it": entry}, budget=100, seeds=[0, 1])
    row = done.to_frame().iloc[0]
    if row["diverged, as released"]:
        raise UserError(
            f"{module.__file__}: diverges on an easy problem (κ about 2, squared loss). A step of "
            "at most 2/L, with L = objective.smoothness, does not; nor do values that are finite."
        )
    accuracy = row["accuracy, as released"]
    return [f"attack: runs with and without θ, accuracy {100 * accuracy:.0f} % on an easy task"]


def _dataset(module: Any, name: str) -> list[str]:
    from immunization.data.download import Place
    from immunization.linear.tasks import TaskSet

    parameters = _defaults("linear/datasets", name)
    source = module.load(parameters, Place.of("", ""))
    if not hasattr(source, "build"):
        raise UserError(
            f"{module.__file__}: load should give Labelled or Paired, which `build` tasks. It "
            f"gave {type(source).__name__}."
        )
    built = source.build("check", parameters, [0], intercept=False)
    if not isinstance(built, TaskSet):
        raise UserError(f"{module.__file__}: build should give a TaskSet. It gave {type(built)}.")
    return [f"load: {len(built.tasks)} tasks, {len(built.pair_names)} pairs, "
            f"{built.inputs.shape[1]} features"]  # fmt: skip


def _figure(module: Any, name: str) -> list[str]:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib.figure import Figure

    from immunization.tools._small_study import small_results

    LOG.setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        results = small_results(Path(folder))
        drawn = module.draw(results, "diabetes")
        if not isinstance(drawn, Figure):
            raise UserError(
                f"{module.__file__}: draw should give a matplotlib Figure. It gave "
                f"{type(drawn).__name__}."
            )
        drawn.savefig(Path(folder) / "figure.svg")
        if hasattr(module, "says") and not isinstance(module.says(results, "diabetes"), str):
            raise UserError(f"{module.__file__}: says should give a sentence.")
    return ["draw: a figure of a small study"]


def _backbone(module: Any, name: str) -> list[str]:
    from immunization.networks import contracts
    from immunization.networks.backbones._backbone import Backbone

    contracts.check(component("networks/backbones", name), module)
    parts, head = module.build(_defaults("networks/backbones", name), 32)
    if not isinstance(parts, Backbone):
        raise UserError(
            f"{module.__file__}: build should give (Backbone, head or None). It gave "
            f"{type(parts).__name__}."
        )
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    with torch.no_grad():
        features = parts.eval()(images)
    if tuple(features.shape) != (2, parts.width):
        raise UserError(
            f"{module.__file__}: features should have shape (2, {parts.width}), the width that it "
            f"states. They have {tuple(features.shape)}."
        )
    if head is not None and head.in_features != parts.width:
        raise UserError(f"{module.__file__}: its head takes {head.in_features} features.")
    return [f"build: features of width {parts.width} from images of 32 pixels"]


def main(arguments: list[str] | None = None) -> None:
    """Command line; exit code 1 where something is wrong."""
    options = parser().parse_args(arguments)
    try:
        for line in check(options.kind, options.name):
            print(line)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        where = importlib.import_module("traceback").extract_tb(error.__traceback__)[-1]
        print(
            f"error: {options.name}: {type(error).__name__}: {error} ({where.filename}, line "
            f"{where.lineno}).",
            file=sys.stderr,
        )
        sys.exit(1)
    print("It holds.")


if __name__ == "__main__":
    run_command(main)
