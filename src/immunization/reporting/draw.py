"""Draw one figure for everything that it applies to, as SVG and PNG, and say what it shows.

A figure that has `says(results, subject)` gives one sentence, computed from its numbers, for the
text file and the report.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from immunization.runtime.files.atomic import atomic
from immunization.runtime.files.io import write_text


def draw_all(module: Any, results: Any, files: list[str], record: Any = None) -> None:
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
    for dataset, paths in outputs.items():
        figure = module.draw(results, dataset)
        figure.draw_without_rendering()  # lays out once, which takes longer than to draw
        figure.set_layout_engine("none")
        for path in paths:
            if path.suffix == ".txt":
                told = module.says(results, dataset) if hasattr(module, "says") else ""
                write_text(path, f"{told}\n", record)
                continue
            # No date inside, so that the same data gives the same file.
            metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
            with atomic(path, record) as temporary:
                figure.savefig(temporary, metadata=metadata)
        plt.close(figure)
