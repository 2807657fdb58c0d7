"""What the report pages of both kinds of study share."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from immunization.reporting.text import display_label
from immunization.runtime.files.io import read_csv, read_table, read_text, write_text
from immunization.runtime.jobs.stage import Stage
from immunization.runtime.record.provenance import KAPPA_DEFINITION
from immunization.study.components import component


def embed(path: Path) -> str:
    """An SVG as a data URI, so that the page is one file."""
    data = base64.b64encode(read_text(path).encode()).decode("ascii")
    return f"data:image/svg+xml;base64,{data}"


def template(folder: Path) -> Template:
    """The page of a kind of study.

    Args:
        folder: holds its ``page.html.jinja``; what both kinds share lies in `templates`.
    """
    environment = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent / "templates"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja")


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
        "name": display_label(label),
        "says": read_text(path.with_suffix(".txt")).strip(),
        "caption": component(kind, uses[label]).traits.get("CAPTION", ""),
        "data": embed(path),
    }


def write_report(stage: Stage, page: Callable[..., str], spectra: str) -> None:
    """Write the page of a study from its tables and figures.

    Args:
        stage: the job.
        page: makes the page of study, tables, SVG files of figures, and origin.
        spectra: a table of the spectrum stage, which tells where the numbers come from.
    """
    paths = stage.paths
    tables = {name: read_csv(paths.table(name)) for name in paths.tables}
    figures = [Path(path) for path in paths.figure_files if path.endswith(".svg")]
    text = page(stage.study, tables, figures, origin_of(stage.study, spectra))
    modules = ["page", *(f"tables.{name}" for name in paths.tables)]
    write_text(paths.report, text, stage.record({}, *modules))
