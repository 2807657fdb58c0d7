"""Files of features as the commands `assess` and `immunize` read them."""

from __future__ import annotations

import argparse
from pathlib import Path

from immunization.linear.own_tasks.feature_file import read_features, read_labels
from immunization.linear.own_tasks.task import Task
from immunization.runtime.errors import UserError

KIND = ["classification", "regression", "none"]


def add_tasks(parser: argparse.ArgumentParser) -> None:
    """Arguments that name two tasks."""
    about = "features of the {}, one row a sample: .npy, .npz, .safetensors or .parquet"
    parser.add_argument("benign", type=Path, help=about.format("benign task"))
    parser.add_argument("harmful", type=Path, help=about.format("harmful task"))
    for role in ("benign", "harmful"):
        parser.add_argument(
            f"--{role}-labels",
            metavar="FILE[:COLUMN]",
            help="labels: a file as above or a .csv, and the array or column where there are "
            "several; or :COLUMN of the features' own file",
        )
        parser.add_argument(f"--{role}-kind", choices=KIND, help="where labels alone do not tell")
        parser.add_argument(f"--{role}-array", help="name of the features in an .npz or "
                            ".safetensors file that holds several")  # fmt: skip
    parser.add_argument(
        "--intercept", action="store_true", help="probes have an intercept: κ of centred features"
    )


def read_task(options: argparse.Namespace, role: str) -> Task:
    """The task that the arguments name.

    Raises:
        UserError: for files that are missing, unreadable or of another shape.
    """
    path: Path = getattr(options, role)
    labels = getattr(options, f"{role}_labels")
    file, column = labels, ""
    if labels is not None and not Path(labels).is_file():  # a colon may be a part of a name
        file, _, column = labels.rpartition(":") if ":" in labels else (labels, "", "")
    inside = labels is not None and not file
    without = [column] if inside and path.suffix == ".parquet" else []
    features = read_features(path, getattr(options, f"{role}_array"), without=without)
    values = None
    if labels is not None:
        values = read_labels(path if inside else file, column or None)
    try:
        return Task(features, values, kind=getattr(options, f"{role}_kind"), name=role)
    except UserError as error:  # which speaks of Python's argument
        python = 'kind="classification" or kind="regression"'
        here = f"--{role}-kind classification, or regression"
        raise UserError(str(error).replace(python, here)) from None
