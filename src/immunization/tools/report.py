"""What a finished study shows, in the terminal; the whole of it is the page report.html."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

import pandas as pd

from immunization.api._show import plain
from immunization.api.study import StudyResults, load_study
from immunization.linear.findings import findings
from immunization.reporting.text import format_number
from immunization.runtime.files.io import read_csv
from immunization.runtime.jobs.command import run_command
from immunization.tools._command import command, print_json


def parser() -> argparse.ArgumentParser:
    """Of this command."""
    made = command(
        "report",
        "What a finished study shows: verdicts and findings. The page has the rest.",
        "immunization report results/default\nimmunization report results/default --open",
    )
    made.add_argument("folder", type=Path, help="results/NAME")
    made.add_argument("--open", action="store_true", help="open the page in a browser")
    made.add_argument("--json", action="store_true", help="all tables, for programs")
    return made


def verdicts(study: StudyResults) -> pd.DataFrame:
    """One row a data set (or network) and method: S and the verdict against the best attacker."""
    table = study.tables["resistance"]
    keys = [
        k
        for k in ("dataset", "network", "harmful", "method", "attacker_kind", "loss")
        if k in table
    ]
    shown = table[keys].copy()
    if "slowdown" in table:
        bound = table.get("slowdown_is_lower_bound", pd.Series(False, table.index)).astype(bool)
        shown["S"] = bound.map({True: "≥ ", False: ""}) + table["slowdown"].map(format_number)
    shown["verdict"] = table["verdict"].fillna("") if "verdict" in table else ""
    return shown


def sentences(study: StudyResults) -> dict[str, list[str]]:
    """Findings of a linear study by data set; none for one of networks, whose page has them."""
    if study.kind != "linear":
        return {}
    tables = dict(study.tables)
    threshold = study.config["attack"]["threshold"]
    order = study.study["order"]
    return {name: findings(name, tables, order, threshold) for name in study.datasets}


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    options = parser().parse_args(arguments)
    study = load_study(options.folder)
    if options.json:
        print_json({name: _records(study, name) for name in study.tables})
        return
    print(f"{study}\n")
    for name, texts in sentences(study).items():
        print(f"{name}:")
        print("".join(f"  - {text}\n" for text in texts))
    print(plain(verdicts(study)))
    print(f"\nThe page: {study.report}")
    if options.open:
        webbrowser.open(study.report.resolve().as_uri())


def _records(study: StudyResults, name: str) -> list[dict[str, object]]:
    frame = read_csv(study.folder / "tables" / f"{name}.csv").astype(object)
    rows: list[dict[str, object]] = frame.where(frame.notna(), None).to_dict(orient="records")
    return rows


if __name__ == "__main__":
    run_command(main)
