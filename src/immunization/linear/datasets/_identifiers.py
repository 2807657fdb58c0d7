"""Columns that number the rows of a table, which are no features."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pandas as pd

from immunization.linear.datasets._cells import MISSING, NUMBER

NAMES = {"id", "index", "unnamed: 0", "row", "rownames"}
"""What row numbers are called, by programs above all."""
FEWEST = 8
"""Chance alone orders this many rows once in 20,000 times."""
FEWEST_SHUFFLED = 20


def row_number(cells: pd.Series, parts: Sequence[pd.Series]) -> bool:
    """Whether a column of whole numbers counts the rows of the file, or of each part.

    It does where it only rises or only falls, with at least half of its values different; where it
    is every number between two ends once, in any order; or by its name, where no number stands
    twice.

    Args:
        cells: text, its name the column's.
        parts: rows of D_P and of D_H, as masks.
    """
    whole = _whole(cells)
    if whole is None or len(whole) < FEWEST:
        return False
    if str(cells.name).strip().lower() in NAMES and whole.is_unique:
        return True
    columns = [whole[rows.reindex(whole.index)] for rows in parts]
    if _ordered(whole) or all(_ordered(part) for part in columns):
        return True
    span = whole.max() - whole.min() + 1
    return bool(whole.is_unique and span == len(whole) >= FEWEST_SHUFFLED)


def _ordered(whole: pd.Series) -> bool:
    if len(whole) < FEWEST or 2 * whole.nunique() < len(whole):
        return False
    return bool(whole.is_monotonic_increasing or whole.is_monotonic_decreasing)


def _whole(cells: pd.Series) -> pd.Series | None:
    """A column as exact integers; None where a cell is missing or not a whole number."""
    bare = cells.astype(str).str.strip()
    bare = bare[~bare.isin(MISSING)]
    if not bool(bare.str.fullmatch(NUMBER.pattern).all()):
        grouped = bare.str.fullmatch(r"[-+]?[1-9]\d{0,2}([,' ]\d{3})+")
        bare = bare.mask(grouped, bare.str.replace(r"[,' ]", "", regex=True))
        if not bool(bare.str.fullmatch(NUMBER.pattern).all()):
            return None
    values = bare.map(Decimal)
    if not all(value.adjusted() < 40 and value == value.to_integral_value() for value in values):
        return None
    return values.map(int).astype(object)
