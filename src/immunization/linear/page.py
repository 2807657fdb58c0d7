"""Stage 7: one HTML page with findings, tables and figures, readable without the paper.

    python -m immunization.report --study study.json --tables tables --figures figures/*.svg \\
        --ratios spectrum/ratios.parquet --out report.html
"""

from __future__ import annotations

import argparse
import base64
import json
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from immunization import stage
from immunization.captions import TABLES
from immunization.files import read_csv, read_json, read_table, read_text, write_text
from immunization.findings import findings, replicated
from immunization.formats import spoken
from immunization.provenance import KAPPA_DEFINITION, provenance
from immunization.registry import components
from immunization.replication import show_replication
from immunization.resistance import (
    show_attacks,
    show_prediction,
    show_resistance,
)
from immunization.tables import show_accuracy, show_definition, show_ratios, show_steps

SHOW = {
    "ratios": show_ratios,
    "definition": show_definition,
    "resistance": show_resistance,
    "attacks": show_attacks,
    "prediction": show_prediction,
    "accuracy": show_accuracy,
    "steps": show_steps,
}
TEXT = ["method", "attack", "loss", "verdict", "dataset", "quantity", "where"]


def embed(path: Path) -> str:
    """An SVG as a data URI, so that the page is one file."""
    data = base64.b64encode(read_text(path).encode()).decode("ascii")
    return f"data:image/svg+xml;base64,{data}"


def template(folder: Path) -> Template:
    """The page of a shape of study; what both share lies beside this file.

    Args:
        folder: holds its ``report.html.jinja``.
    """
    environment = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja")


def origin_of(study: dict[str, Any], path: str) -> dict[str, str]:
    """What to print under "Where the numbers come from".

    Args:
        study: study.json.
        path: a table of the spectrum stage, which carries its provenance.
    """
    record = read_table(path).attrs.get("provenance", {})
    features = {
        f"features of {name}": f"{', '.join(about['columns'])} (scale: {about['scale']})"
        for name, about in record.get("features", {}).items()
    }
    return {
        "config": json.dumps(study["config"]),
        **features,
        "versions": ", ".join(
            f"{name} {version}"
            for name, version in {
                "immunization": record.get("immunization", "unknown"),
                "python": record.get("python", "unknown"),
                **record.get("packages", {}),
            }.items()
        ),
        "device": record.get("device", "unknown"),
        "config hash": record.get("config") or "unknown: run by hand",
        "commit": record.get("commit") or "unknown",
        "code": record.get("code", "unknown"),
        "condition number": KAPPA_DEFINITION,
    }


def drawing(path: Path, uses: dict[str, str], kind: str) -> dict[str, str]:
    """One figure for the template, with its sentence and caption.

    Args:
        path: SVG file named FIGURE.SUBJECT.svg, with its sentence in a .txt beside it.
        uses: files that labels of figures stand for.
        kind: where these lie.
    """
    label = path.name.split(".")[0]
    return {
        "name": spoken(label),
        "says": read_text(path.with_suffix(".txt")).strip(),
        "caption": components(kind)[uses[label]].traits.get("CAPTION", ""),
        "data": embed(path),
    }


def shown(table: pd.DataFrame, name: str) -> dict[str, Any]:
    """One table for the template, without the column of the data set."""
    people = SHOW[name](table).drop(columns="dataset")
    return {
        "caption": TABLES[name],
        "columns": list(people.columns),
        "rows": people.values.tolist(),
    }


def page(
    study: dict[str, Any],
    tables: dict[str, pd.DataFrame],
    figures: list[Path],
    origin: dict[str, str],
) -> str:
    """The whole page as HTML.

    Args:
        study: what `workflow/rules/study.smk` wrote: the checked config, and its order.
        tables: CSV tables by name.
        figures: SVG files named FIGURE.DATASET.svg, each with its sentence in a .txt beside it.
        origin: what to print under "Where the numbers come from".
    """
    order, config = study["order"], study["config"]
    datasets = []
    for name, (source, task) in order["datasets"].items():
        parts = []
        for table in SHOW:
            part = tables[table][tables[table]["dataset"] == name]
            if not part.empty:
                parts.append(shown(part, table))
        drawings = [
            drawing(path, order["figures"], "figures")
            for path in figures
            if path.name.split(".")[1] == name
        ]
        about = components("datasets")[source].summary
        if task in ("digit", "one_vs_rest"):
            about += (
                " A task is the inputs of one class."
                if task == "digit"
                else " A task is one class against others, balanced."
            )
        datasets.append(
            {
                "name": name,
                "title": spoken(name),
                "about": about,
                "findings": findings(name, tables, order, config["attack"]["threshold"]),
                "tables": parts,
                "figures": drawings,
            }
        )
    compared = None
    if not tables["replication"].empty:
        people = show_replication(tables["replication"])
        compared = {
            "text": replicated(tables["replication"]),
            "caption": TABLES["replication"],
            "columns": list(people.columns),
            "rows": people.values.tolist(),
        }
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


def main(arguments: list[str] | None = None) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="The report of a study.")
    parser.add_argument("--study", required=True, help="study.json")
    parser.add_argument("--tables", required=True, help="folder of the tables stage")
    parser.add_argument("--figures", nargs="*", default=[], help="SVG files")
    parser.add_argument("--ratios", required=True, help="from the spectrum stage")
    parser.add_argument("--out", required=True, help="HTML file to write")
    options = parser.parse_args(arguments)
    study = read_json(options.study)
    tables = {name: read_csv(Path(options.tables) / f"{name}.csv") for name in TABLES}
    origin = origin_of(study, options.ratios)
    record = provenance(["immunization.report"], {})
    figures = [Path(path) for path in options.figures if path.endswith(".svg")]
    write_text(options.out, page(study, tables, figures, origin), record)


if __name__ == "__main__":
    stage.run(main)
