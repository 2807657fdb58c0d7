"""One HTML page with findings, tables and figures, readable without the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from immunization.networks.findings import findings
from immunization.reporting.page import drawing, template, write_report
from immunization.reporting.table import for_page, in_report
from immunization.reporting.text import display_label
from immunization.runtime.jobs.stage import Stage
from immunization.runtime.record.provenance import KAPPA_DEFINITION

TEXT = [
    "method", "attack", "task", "kind", "verdict", "claim", "note", "fastest", "holds there",
    "survives", "role",
]  # fmt: skip


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
        figures: SVG files named FIGURE.NETWORK-D_H.svg, each with its sentence in a .txt beside it.
        origin: what to print under "Where the numbers come from".
    """
    order, config = study["order"], study["config"]
    settings = []
    for network in order["networks"]:
        for harmful in config["harmful"]:
            tables_of_setting = {
                name: t[(t["network"] == network) & (t["harmful"] == harmful)]
                for name, t in tables.items()
            }
            name = f"{network}-{harmful}"
            parts = []
            for table in in_report("networks/tables"):
                if not tables_of_setting[table].empty:
                    keys = ["network", "harmful"]
                    parts.append(for_page("networks/tables", table, tables_of_setting[table], keys))
            drawings = [
                drawing(path, order["figures"], "networks/figures")
                for path in figures
                if path.name.split(".")[1] == name
            ]
            settings.append(
                {
                    "name": name,
                    "title": f"{display_label(network)} against {display_label(harmful)}",
                    "findings": findings(tables_of_setting),
                    "tables": parts,
                    "figures": drawings,
                }
            )
    return template(Path(__file__).parent).render(
        study=config["study"],
        seeds=config["seeds"],
        networks=list(order["networks"]),
        primary=config["primary"],
        harmful=config["harmful"],
        methods=order["methods"],
        kappa=KAPPA_DEFINITION,
        settings=settings,
        origin=origin,
        text=TEXT,
    )


def run(stage: Stage) -> None:
    """The stage: the report of the study."""
    write_report(stage, page, stage.paths.spectra)
