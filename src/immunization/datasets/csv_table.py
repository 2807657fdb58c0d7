"""Your own CSV file: two regression tasks from the two parts of one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from immunization.datasets._paired import Paired, require_columns, standardised_part
from immunization.download import Place
from immunization.errors import UserError

EXTENDS = "_paired"
PARAMETERS = {
    "path": {"type": "string", "description": "the CSV file, with a header line."},
    "split_column": {"type": "string", "description": "column whose values tell the parts apart."},
    "primary_values": {
        "type": "array",
        "minItems": 1,
        "description": "values of the split column that make up D_P.",
    },
    "harmful_values": {
        "type": "array",
        "minItems": 1,
        "description": "values of the split column that make up D_H.",
    },
    "primary_target": {"type": "string", "description": "column that D_P predicts."},
    "harmful_target": {"type": "string", "description": "column that D_H predicts."},
    "missing": {
        "enum": ["refuse", "zero"],
        "default": "refuse",
        "description": "what to do with missing values: stop, or fill those of features with 0.",
    },
}


def read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV file.

    Raises:
        UserError: when it is missing, empty or malformed.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file. Correct the path in the config.")
    try:
        return pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable CSV file ({error}).") from error


def load(parameters: dict[str, Any], place: Place) -> Paired:
    """Both targets and the split column are left out of the features."""
    path = Path(parameters["path"])
    frame = read_csv(path)
    split = parameters["split_column"]
    targets = [parameters["primary_target"], parameters["harmful_target"]]
    require_columns(frame, [split, *targets], str(path))
    frame.index += 2  # line numbers of the file, the header being line 1
    both = set(parameters["primary_values"]) & set(parameters["harmful_values"])
    if both:
        raise UserError(
            f"{path}: rows with {split} in {sorted(both, key=str)} are asked for in both D_P and "
            "D_H. Give each value to one of primary_values and harmful_values."
        )
    if parameters["missing"] == "zero":
        features = [column for column in frame.columns if column not in (split, *targets)]
        frame[features] = frame[features].fillna(0)
    parts = []
    for role, target in zip(("primary", "harmful"), targets, strict=True):
        values = parameters[f"{role}_values"]
        parts.append(
            standardised_part(
                frame[frame[split].isin(values)],
                name=f"{target} where {split} is {' or '.join(map(str, values))}",
                target=target,
                exclude=[split, *targets],
                where=f"{path}, rows with {split} in {values}",
            )
        )
    return Paired(*parts)
