"""Numbers and tables as text: for people, as Markdown and as LaTeX."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

SHOWN_AS_ZERO = 1e-9
"""A deviation this small beside the mean is round-off and shown as 0."""


FORMULA = re.compile(r"[=@\t\r]|[-+](?!\d+\.?\d*(e[-+]?\d+)?$|inf$|nan$)")
"""How text begins that a spreadsheet would compute."""


def display_label(label: str) -> str:
    """A label of the config, for people; numbers of a sweep get their dot and minus back."""
    label = re.sub(r"(?<=_)(\d+)p(\d)", r"\1.\2", label)
    return re.sub(r"(?<=_)([\d.]+e)m(\d)", r"\1-\2", label).replace("_", " ")


def format_number(value: float) -> str:
    """Three significant digits, in the shortest form that people read easily."""
    if value != value:
        return "–"
    if value in (float("inf"), float("-inf")):
        return "∞" if value > 0 else "−∞"
    value = float(f"{value:.3g}")
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2e}"
    digits = max(0, 2 - int(np.floor(np.log10(abs(value)))))
    return f"{value:.{digits}f}"


def percent(share: float) -> str:
    """A share in percent, with one decimal, for a sentence; no sentence says NaN."""
    return "an unknown share" if share != share else f"{100 * share:.1f} %"


def plus_minus(mean: float, deviation: float) -> str:
    """``mean ± deviation``; the mean alone where there is no deviation to state."""
    if deviation != deviation or mean != mean:
        return format_number(mean)
    if deviation <= SHOWN_AS_ZERO * abs(mean):
        deviation = 0.0
    return f"{format_number(mean)} ± {format_number(deviation)}"


def csv_text(table: pd.DataFrame) -> str:
    """A table as CSV, in which no text is a formula to a spreadsheet: a ``'`` before it says so."""
    safe = table.copy()
    for name, column in table.items():
        if not pd.api.types.is_numeric_dtype(column):
            safe[name] = column.map(
                lambda cell: f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell
            )
    return safe.to_csv(index=False)


def markdown(table: pd.DataFrame) -> str:
    """A pipe table; what a cell holds is no markup."""

    def row(cells: Any) -> str:
        safe = (str(c).replace("<", "&lt;").replace("|", r"\|") for c in cells)
        return "| " + " | ".join(safe) + " |"

    lines = [row(table.columns), "|" + " --- |" * table.shape[1]]
    lines += [row(cells) for cells in table.itertuples(index=False)]
    return "\n".join(lines) + "\n"


SYMBOLS = {
    "\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$",
    "±": r"$\pm$", "∞": r"$\infty$", "κ": r"$\kappa$", "≤": r"$\le$", "≥": r"$\ge$", ">": r"$>$",
    "–": "--", "−": "$-$", "<": r"$<$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}  # fmt: skip


def latex(table: pd.DataFrame) -> str:
    """A booktabs tabular."""

    def row(cells: Any) -> str:
        escape = str.maketrans(SYMBOLS)
        return " & ".join(str(cell).translate(escape) for cell in cells) + r" \\"

    body = "\n".join(row(cells) for cells in table.itertuples(index=False))
    return (
        f"\\begin{{tabular}}{{{'l' * table.shape[1]}}}\n\\toprule\n{row(table.columns)}\n"
        f"\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"
    )
