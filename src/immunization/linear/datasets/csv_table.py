"""Your own CSV file: two regression tasks from the two parts of one table."""

from __future__ import annotations

import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from immunization.data.download import Place
from immunization.linear.datasets._cells import NUMBER, numbers, one_hot
from immunization.linear.datasets._identifiers import row_number
from immunization.linear.datasets._paired import (
    Paired,
    Part,
    checked,
    jointly,
    require_columns,
    within,
)
from immunization.linear.datasets._table_file import read_cells
from immunization.runtime.errors import UserError

EXTENDS = "_paired"
PARAMETERS: dict[str, dict[str, Any]] = {
    "path": {
        "type": "string",
        "description": "the CSV file in UTF-8, with a header line; compressed by gzip, bzip2, xz "
        "or zip, or not.",
    },
    "split_column": {
        "type": "string",
        "description": "column whose values say which rows belong to D_P and which to D_H.",
    },
    "primary_values": {
        "type": "array",
        "minItems": 1,
        "description": "values of the split column that make up D_P, compared as text.",
    },
    "harmful_values": {
        "type": "array",
        "minItems": 1,
        "description": "values of the split column that make up D_H, compared as text.",
    },
    "primary_target": {"type": "string", "description": "column that D_P predicts."},
    "harmful_target": {"type": "string", "description": "column that D_H predicts."},
    "missing": {
        "enum": ["refuse", "zero"],
        "default": "refuse",
        "description": "what to do about missing values: stop with an error, or fill those of "
        "features with 0.",
    },
    "scale": {
        "enum": ["joint", "within", "none"],
        "default": "joint",
        "description": "joint: features of both parts by mean and deviation of D_P's training "
        "rows, so that one θ holds for both. within: each part by its own, as the paper does with "
        "house prices; a θ then holds on features that were scaled so. none: as they are. Targets "
        "are standardised by their own training rows, but for none.",
    },
    "categories": {
        "type": "array",
        "items": {"type": "string"},
        "uniqueItems": True,
        "default": [],
        "description": "columns of text (or codes) that are features; other columns of text are "
        "refused.",
    },
    "encode": {
        "enum": ["one_hot", "rank"],
        "default": "one_hot",
        "description": "how categories are encoded, in the same way for both parts. one_hot: a "
        "column of 0 and 1 for each value. rank: the position of the value in alphabetical order.",
    },
    "ignore": {
        "type": "array",
        "items": {"type": "string"},
        "uniqueItems": True,
        "default": [],
        "description": "columns that are not features, such as row numbers.",
    },
    "features": {
        "type": ["array", "null"],
        "items": {"type": "string"},
        "uniqueItems": True,
        "minItems": 1,
        "default": None,
        "description": "the columns that are features; null for all but the split column, the "
        "targets, and those that `ignore` names.",
    },
    "dtype": {
        "type": "object",
        "additionalProperties": {"enum": ["number", "boolean", "percent", "date"]},
        "default": {},
        "description": "how to read columns that are not plain numbers: boolean (true, yes, "
        "y, 1), percent (12 % is 0.12), date (days since 1970, in ISO form, UTC), number (leading "
        "zeros allowed).",
    },
    "separator": {
        "type": "string",
        "minLength": 1,
        "maxLength": 1,
        "default": ",",
        "description": "character between cells.",
    },
    "decimal": {"enum": [".", ","], "default": ".", "description": "decimal mark."},
    "thousands": {
        "enum": [None, ",", ".", "'", " ", "_"],
        "default": None,
        "description": "mark between groups of three digits; null if there is none.",
    },
    "na_values": {
        "type": "array",
        "items": {"type": "string"},
        "default": [],
        "description": "cells that stand for a missing number, besides empty ones, NA, N/A, NaN, "
        "null and their like.",
    },
}
LOG = logging.getLogger("immunization")
MOST = 12


def load(parameters: dict[str, Any], place: Place) -> Paired:
    """Both targets and the split column are left out of the features."""
    defaults = {name: rule["default"] for name, rule in PARAMETERS.items() if "default" in rule}
    parameters = defaults | parameters
    path = Path(parameters["path"])
    frame = read_cells(path, parameters["separator"])
    split = parameters["split_column"]
    targets = [parameters["primary_target"], parameters["harmful_target"]]
    named = [*(parameters["features"] or []), *parameters["categories"], *parameters["dtype"]]
    require_columns(frame, [split, *targets, *named, *parameters["ignore"]], str(path))
    _check_roles(path, parameters, split, targets)
    chosen = _chosen_rows(path, frame, split, parameters)
    columns = _feature_columns(path, frame, [split, *targets], chosen, parameters)
    used = pd.concat([frame[rows] for rows in chosen]).sort_index()
    features = _features(used, columns, str(path), parameters)
    parts = []
    for rows, target, role in zip(chosen, targets, ("primary", "harmful"), strict=True):
        values = parameters[f"{role}_values"]
        where = f"{path}, rows with {split} in {values}"
        index = frame.index[rows]
        selected = features.loc[index]
        kind = parameters["dtype"].get(target)
        wanted = numbers(frame.loc[index, target], str(path), parameters, kind)
        if target in selected.columns:
            raise UserError(f"{path}: the target {target!r} is among the features too.")
        checked(selected.assign(**{target: wanted}), target, where)
        name = f"{target} where {split} is {' or '.join(map(str, values))}"
        parts.append(Part(name, selected.to_numpy(np.float64), wanted.to_numpy(np.float64)))
    names = list(features.columns)
    LOG.info("%s: %d features: %s", path, len(names), ", ".join(names))
    raw = parts[0], parts[1]
    scale = parameters["scale"]
    if scale == "joint":
        (primary, harmful), _ = jointly(raw)
        return Paired(primary, harmful, raw, names, scale)
    if scale == "within":
        raw = within(raw[0]), within(raw[1])
    return Paired(*raw, columns=names, scale=scale)


def _check_roles(path: Path, parameters: dict[str, Any], split: str, targets: list[str]) -> None:
    """Refuse a column with two roles."""
    for key in ("features", "categories", "ignore"):
        both = sorted(set(parameters[key] or []) & {split, *targets})
        if both:
            raise UserError(
                f"{path}: the column {both[0]!r} is the split column or a target, which are no "
                f"features. Take it out of `{key}`."
            )
    for one, two in (("categories", "ignore"), ("features", "ignore"), ("categories", "dtype")):
        both = sorted(set(parameters[one] or []) & set(parameters[two]))
        if both:
            raise UserError(f"{path}: the column {both[0]!r} is in both `{one}` and `{two}`.")


def _chosen_rows(
    path: Path, frame: pd.DataFrame, split: str, parameters: dict[str, Any]
) -> list[pd.Series]:
    """Which rows make up D_P and D_H."""
    cells = frame[split]
    occur = list(dict.fromkeys(cells))
    listed = ", ".join(map(repr, occur[:MOST])) + (", …" if len(occur) > MOST else "")
    chosen = []
    for role in ("primary", "harmful"):
        wanted: set[str] = set()
        for value in parameters[f"{role}_values"]:
            fits = {str(value)} & set(occur) or {cell for cell in occur if same(value, cell)}
            if not fits:
                raise UserError(
                    f"{path}: no row has {value!r} in column {split!r} (an empty class; "
                    f"`{role}_values`). Values are compared as text; these occur: {listed}. Quote "
                    "values that YAML takes for something else."
                )
            wanted |= fits
        chosen.append(wanted)
    if both := sorted(chosen[0] & chosen[1]):
        raise UserError(
            f"{path}: rows with {split} in {both} are asked for in both D_P and D_H. Give each "
            "value to one of primary_values and harmful_values."
        )
    return [cells.isin(wanted) for wanted in chosen]


def same(value: Any, cell: str) -> bool:
    """Whether a value of the config is a cell of the file: by its text, or as the same number.

    A cell with leading zeros is no number: 7 is not 007. Numbers are compared in all digits.
    """
    if isinstance(value, bool):
        return cell.lower() == str(value).lower()
    if str(value) == cell:
        return True
    if isinstance(value, int | float) and NUMBER.fullmatch(cell):
        led = cell.lstrip("+-")
        coded = len(led) > 1 and led[0] == "0" and led[1].isdigit()
        return Decimal(cell) == Decimal(str(value)) and not coded
    return False


def _feature_columns(
    path: Path,
    frame: pd.DataFrame,
    others: list[str],
    chosen: list[pd.Series],
    parameters: dict[str, Any],
) -> list[str]:
    """Columns that are features: not the ``others``, the split column and the targets."""
    if parameters["features"] is not None:
        extra = [name for name in parameters["categories"] if name not in parameters["features"]]
        return [*parameters["features"], *extra]
    left_out = {*others, *parameters["ignore"]}
    columns = [name for name in frame.columns if name not in left_out]
    for name in columns:
        if name not in parameters["categories"] and row_number(frame[name], chosen):
            raise UserError(
                f"{path}: the column {name!r} ({frame[name].iloc[0]}, {frame[name].iloc[1]}, …) "
                "only rises or falls along the rows, or counts them in another order, as a row "
                "number or an identifier does. Name it in `ignore` to leave it out; if it is a "
                "feature, name all features in `features`."
            )
    return columns


def _features(
    frame: pd.DataFrame, columns: list[str], where: str, parameters: dict[str, Any]
) -> pd.DataFrame:
    """Numbers for both parts, in one encoding."""
    made: list[pd.Series | pd.DataFrame] = []
    for column in columns:
        cells = frame[column]
        if column in parameters["categories"]:
            gone = cells.isin({"", *parameters["na_values"]})
            if gone.any() and parameters["missing"] == "refuse":
                raise UserError(
                    f"{where}, column {column!r}, row {cells.index[gone][0]}: the value is missing "
                    f"or infinite ({int(gone.sum())} such in this column). Fill or remove them; "
                    "`missing: zero` makes them a category of their own."
                )
            values = sorted(set(cells))
            if parameters["encode"] == "one_hot":
                made.append(one_hot(cells, values))
            else:
                made.append(cells.map({value: float(i) for i, value in enumerate(values)}))
            continue
        numeric = numbers(cells, where, parameters, parameters["dtype"].get(column))
        if parameters["missing"] == "zero":
            numeric = numeric.fillna(0.0)
        made.append(numeric.rename(column))
    if not made:
        raise UserError(f"{where}: no feature columns are left besides the targets.")
    numeric = pd.concat(made, axis=1)
    twice = numeric.columns[numeric.columns.duplicated()]
    if len(twice):
        raise UserError(
            f"{where}: two features are called {twice[0]!r}, a column and a value of a category. "
            "Rename the column in the file."
        )
    return numeric
