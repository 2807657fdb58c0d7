"""Draw one figure for everything that it applies to, as SVG and PNG, and say what it shows.

A figure that has `says(results, subject)` gives one sentence, computed from its numbers, for the
text file and the report.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from immunization.reporting.contracts import FigureComponent
from immunization.reporting.style import STYLE
from immunization.runtime.files.atomic import atomic
from immunization.runtime.files.io import write_text


def draw_all(module: FigureComponent, results: Any, files: list[str], record: Any = None) -> None:
    """Draw a figure for everything that its files name.

    Args:
        module: of the figure.
        results: what its functions take.
        files: named FIGURE.DATASET.svg, .png and .txt.
        record: where they come from.
    """
    outputs: dict[str, list[Path]] = {}
    for path in map(Path, files):
        outputs.setdefault(path.name.split(".")[1], []).append(path)
    with mpl.rc_context(STYLE):
        for subject, paths in outputs.items():
            _draw(module, results, subject, paths, record)


def _draw(
    module: FigureComponent, results: Any, subject: str, paths: list[Path], record: Any
) -> None:
    figure = module.draw(results, subject)
    figure.draw_without_rendering()  # lays out once, which takes longer than to draw
    figure.set_layout_engine("none")
    for path in paths:
        if path.suffix == ".txt":
            says = getattr(module, "says", None)
            sentence = says(results, subject) if says is not None else ""
            write_text(path, f"{sentence}\n", record)
            continue
        # No date inside, so that the same data gives the same file.
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        with atomic(path, record) as temporary:
            figure.savefig(temporary, metadata=metadata)
    plt.close(figure)
