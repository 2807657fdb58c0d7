"""One HTML page with findings, tables and figures, readable without the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from immunization.linear.findings import findings, replicated
from immunization.reporting.page import drawing, template, write_report
from immunization.reporting.table import for_page, in_report
from immunization.reporting.text import display_label
from immunization.runtime.jobs.stage import Stage
from immunization.runtime.record.provenance import KAPPA_DEFINITION
from immunization.study.components import component

TASKS = {
    "digit": " A task is the inputs of one class.",
    "one_vs_rest": " A task is one class against others, balanced.",
    "two files": " Each task is a file; the classes of a task are so many pairs, with one θ.",
}
"""What a task is, behind what is said of the data set."""
TEXT = ["method", "attack", "loss", "verdict", "dataset", "quantity", "published in"]


def page(
    study: dict[str, Any],
    tables: dict[str, pd.DataFrame],
    figures: list[Path],
    origin: dict[str, str],
) -> str:
    """The whole page as HTML.

    Args:
        study: study.json.
        tables: CSV tables by name.
        figures: SVG files named FIGURE.DATASET.svg, each with its sentence in a .txt beside it.
        origin: what to print under "Where the numbers come from".
    """
    order, config = study["order"], study["config"]
    datasets = []
    for name, (source, task) in order["datasets"].items():
        parts = []
        for table in in_report("linear/tables"):
            part = tables[table][tables[table]["dataset"] == name]
            if not part.empty:
                parts.append(for_page("linear/tables", table, part, ["dataset"]))
        drawings = [
            drawing(path, order["figures"], "linear/figures")
            for path in figures
            if path.name.split(".")[1] == name
        ]
        about = component("linear/datasets", source).summary
        about += TASKS.get(task, "")
        datasets.append(
            {
                "name": name,
                "title": display_label(name),
                "about": about,
                "findings": findings(name, tables, order, config["attack"]["threshold"]),
                "tables": parts,
                "figures": drawings,
            }
        )
    compared = None
    if not tables["replication"].empty:
        table = tables["replication"]
        compared = {"text": replicated(table)} | for_page("linear/tables", "replication", table)
    return template(Path(__file__).parent).render(
        study=config["study"],
        seeds=config["seeds"],
        much_larger=config["spectrum"]["much_larger"],
        kappa=KAPPA_DEFINITION,
        methods=order["methods"],
        datasets=datasets,
        replication=compared,
        origin=origin,
        text=TEXT,
    )


def run(stage: Stage) -> None:
    """The stage: the report of the study."""
    write_report(stage, page, stage.paths.ratios)
