"""Files of tables: the paper's figures in, and every table of a study out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from immunization.reporting.contracts import TableComponent
from immunization.reporting.text import csv_text, latex, markdown
from immunization.runtime.errors import UserError
from immunization.runtime.files.io import write_text
from immunization.study.components import component, components, import_component


def read_published(path: Path | str, wanted: Sequence[str]) -> pd.DataFrame:
    """A CSV file of published figures.

    Raises:
        UserError: when it cannot be read, or lacks columns.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}).") from error
    if missing := set(wanted) - set(table):
        raise UserError(f"{path}: columns {sorted(missing)} are missing.")
    return table


def in_report(folder: str) -> list[str]:
    """Names of the tables that the report shows one after the other, in its order."""
    ranks = {
        name: c.traits["REPORT"] for name, c in components(folder).items() if "REPORT" in c.traits
    }
    return sorted(ranks, key=lambda name: ranks[name])


def write_all(folder: str, results: Any, paths: Any, record: dict[str, Any]) -> None:
    """Compute and write every table of a wing.

    Args:
        folder: of the components, such as ``"linear/tables"``.
        results: what they are computed from.
        paths: where files of the study lie.
        record: where they come from.
    """
    for name in components(folder):
        module: TableComponent = import_component(folder, name)
        table = module.table(results)
        shown = module.show(table)
        write_text(paths.table(name, "csv"), csv_text(table), record)
        write_text(paths.table(name, "md"), markdown(shown), record)
        write_text(paths.table(name, "tex"), latex(shown), record)


def for_page(
    folder: str, name: str, table: pd.DataFrame, without: Sequence[str] = ()
) -> dict[str, Any]:
    """One table for the template of the report.

    Args:
        folder: of the component.
        name: of the table.
        table: as its CSV file has it.
        without: columns to leave out.
    """
    shown = import_component(folder, name).show(table).drop(columns=list(without))
    return {
        "caption": component(folder, name).traits["CAPTION"],
        "columns": list(shown.columns),
        "rows": shown.values.tolist(),
    }
