"""Columns of text cells as numbers, and nothing read silently as something else."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from immunization.runtime.errors import UserError

MISSING = {"", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "#N/A", "<NA>"}
"""What stands for a missing number unless the config names more."""
TRUE, FALSE = {"true", "yes"}, {"false", "no"}
ONE, ZERO = {"1", "1.0", "y", "t"}, {"0", "0.0", "n", "f"}
"""What stands for true and false besides, where the config says that a column is boolean."""
KINDS = ("number", "boolean", "percent", "date")
NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
CODE = re.compile(r"[-+]?0\d+")
ALIKE = {" ": " \u00a0\u202f\u2009", "'": "'\u2019"}
"""Marks between digits that look alike in print."""
DATE = re.compile(r"\d{4}-?\d{2}(-?\d{2})?([T ].*)?")
ENDLESS = {"inf", "-inf", "+inf", "infinity", "-infinity"}


def plain_numbers(cells: pd.Series, decimal: str, thousands: str | None) -> pd.Series:
    """Cells as numbers, NaN where they are none.

    Args:
        cells: stripped text.
        decimal: mark before the decimals.
        thousands: mark between groups of three digits, or None; the first group has no leading
            zero.
    """
    if thousands:
        mark = f"[{re.escape(ALIKE.get(thousands, thousands))}]"
        grouped = rf"[-+]?[1-9]\d{{0,2}}({mark}\d{{3}})+({re.escape(decimal)}\d*)?"
        fits = cells.str.fullmatch(grouped)
        cells = cells.mask(fits, cells.str.replace(mark, "", regex=True))
    if decimal != ".":
        cells = cells.mask(cells.str.contains(".", regex=False), "?")
        cells = cells.str.replace(decimal, ".", regex=False)
    numeric = cells.str.fullmatch(NUMBER.pattern) | cells.str.lower().isin(ENDLESS)
    return pd.to_numeric(cells.where(numeric), errors="coerce").astype(np.float64)


def boolean_numbers(cells: pd.Series) -> pd.Series:
    """true, yes, y and 1 as 1; false, no, n and 0 as 0; NaN for others."""
    low = cells.str.lower()
    values = pd.Series(np.nan, cells.index)
    values[low.isin(TRUE | ONE)] = 1.0
    values[low.isin(FALSE | ZERO)] = 0.0
    return values


def converted(cells: pd.Series, kind: str, decimal: str, thousands: str | None) -> pd.Series:
    """Cells by the kind that the config names, NaN where they do not fit it."""
    if kind == "boolean":
        return boolean_numbers(cells)
    if kind == "percent":
        signed = cells.str.endswith("%")
        bare = cells.str.removesuffix("%").str.rstrip()
        if signed.any():  # beside 50 %, is 0.5 a half or half a percent?
            bare = bare.where(signed, "?")
        return plain_numbers(bare, decimal, thousands) / 100
    if kind == "date":
        cells = cells.where(cells.str.fullmatch(DATE.pattern))  # `now` would be a date too
        days = pd.to_datetime(cells, errors="coerce", format="ISO8601", utc=True)
        since = (days - pd.Timestamp("1970-01-01", tz="UTC")) / pd.Timedelta(days=1)
        return since.astype(np.float64)
    return plain_numbers(cells, decimal, thousands)


def numbers(
    cells: pd.Series, where: str, parameters: dict[str, Any], kind: str | None = None
) -> pd.Series:
    """A column's cells as float64, NaN where they are missing.

    A column is one of numbers if most of its cells are. Then each must be, or stand for a missing
    one. A column of true and false is numbers too.

    Args:
        cells: text, with the rows of the file as index; its name is the column's.
        where: the file, for messages.
        parameters: ``decimal``, ``thousands`` and ``na_values`` of the config.
        kind: one of `KINDS`, where the config names it.

    Raises:
        UserError: for an odd cell, with its row; or a column that is not of numbers.
    """
    column = cells.name
    cells = cells.astype(str).str.strip()
    decimal, thousands = parameters["decimal"], parameters["thousands"]
    if decimal == thousands:
        raise UserError(
            f"{where}: `decimal` and `thousands` are both {decimal!r}. Give each its own mark."
        )
    named = pd.Series(parameters["na_values"], dtype=str).str.strip()
    gone = cells.isin(MISSING | set(named))
    # −999 stands for −999.0 too.
    numeric = plain_numbers(named, decimal, thousands).dropna()
    gone |= plain_numbers(cells, decimal, thousands).isin(numeric)
    there = cells[~gone]
    if kind is None:
        kind = "number"
        words = there.str.lower().isin(TRUE | FALSE)
        if len(there) and bool(words.mean() > 0.5):
            kind = "boolean"
    values = converted(there, kind, decimal, thousands)
    odd = there[values.isna()]
    if len(odd):
        row, cell = odd.index[0], odd.iloc[0]
        if len(odd) == len(there) or (kind == "number" and len(odd) > len(there) / 2):
            raise UserError(
                f"{where}, column {column!r}: the values are text ({_some(there)}), not "
                f"{'numbers' if kind == 'number' else kind + 's'}, as in row {row}."
                f"{_hint(there)} Name the column in `categories` to encode its values, or in "
                "`ignore` to leave it out."
            )
        raise UserError(
            f"{where}, column {column!r}, row {row}: {cell!r} is no {kind} ({len(odd)} of "
            f"{len(there)} cells are not).{_hint(odd)} Correct the file, or say in the config how "
            "it is meant: `decimal`, `thousands`, `na_values`, or `dtype` of the column."
        )
    codes = there[there.str.fullmatch(CODE.pattern)]
    if kind == "number" and len(codes) and column not in parameters["dtype"]:
        raise UserError(
            f"{where}, column {column!r}, row {codes.index[0]}: {codes.iloc[0]!r} has a leading "
            "zero, as codes have and numbers do not. Name the column in `categories` or `ignore`, "
            "or say `dtype: {" + f"{column}: number" + "}`."
        )
    return values.reindex(cells.index)


def _some(cells: pd.Series, most: int = 5) -> str:
    values = list(dict.fromkeys(cells))
    return ", ".join(map(repr, values[:most])) + (", …" if len(values) > most else "")


def _hint(odd: pd.Series) -> str:
    """A hint at what such cells often mean."""
    first = str(odd.iloc[0])
    if re.fullmatch(r"[-+]?\d+,\d+", first) and not re.fullmatch(
        r"[-+]?[1-9]\d{0,2}(,\d{3})+", first
    ):
        return " It looks like a decimal comma: `decimal: ','`."
    if re.fullmatch(r"[-+]?\d{1,3}([,.'\u2019\u00a0\u202f\u2009 ]\d{3})+([.,]\d*)?", first):
        return " It looks like a thousands separator: `thousands`."
    if first.endswith("%"):
        return f" It looks like a percentage: `dtype: {{{odd.name}: percent}}`."
    if re.match(r"\d{4}-\d{1,2}-\d{1,2}", first):
        return f" It looks like a date: `dtype: {{{odd.name}: date}}`."
    if re.match(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}", first):
        return " It looks like a date; those in ISO form (2024-05-31) are read."
    if re.match(r"[-+]?[\d.,]+\s*[^\d\s.,]+$", first):
        return " It looks like a number with a unit."
    return ""


def one_hot(cells: pd.Series, values: list[str]) -> pd.DataFrame:
    """A column of 0 and 1 for each value, named COLUMN=VALUE."""
    return pd.DataFrame(
        {f"{cells.name}={value}": (cells == value).astype(np.float64) for value in values},
        index=cells.index,
    )
