"""Results that show themselves: as text, in a notebook, and as a page."""

from __future__ import annotations

import html
from pathlib import Path

import pandas as pd

from immunization.runtime.files.atomic import atomic

STYLE = """
.im{font:14px/1.5 system-ui,sans-serif;max-width:70rem}
.im table{border-collapse:collapse;margin:.6em 0;display:block;overflow-x:auto}
.im caption{text-align:left;font-weight:600;padding:.2em 0}
.im th,.im td{padding:.2em .6em;text-align:right;border-bottom:1px solid #8884;vertical-align:top}
.im td{font-variant-numeric:tabular-nums}
.im th:first-child,.im td:first-child{text-align:left}
.im p{margin:.3em 0}
"""
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>:root{{color-scheme:light dark}}body{{margin:1.5rem}}
h1{{font:600 1.3rem system-ui,sans-serif}}</style></head>
<body><h1>{title}</h1>{body}</body></html>
"""


class Shown:
    """Tables with titles, and sentences before them."""

    title = "immunization"

    def _parts(self) -> list[tuple[str, pd.DataFrame]]:
        raise NotImplementedError

    def _sentences(self) -> list[str]:
        return []

    def _legend(self) -> list[str]:
        return []

    def __repr__(self) -> str:
        blocks = ["\n".join(self._sentences())]
        for title, table in self._parts():
            blocks.append("\n".join(filter(None, [title, plain(table)])))
        blocks.append("\n".join(self._legend()))
        return "\n\n".join(filter(None, blocks))

    def _repr_html_(self) -> str:
        body = "".join(f"<p>{html.escape(text)}</p>" for text in self._sentences())
        for title, table in self._parts():
            body += markup(title, table)
        body += "".join(f"<p><small>{html.escape(text)}</small></p>" for text in self._legend())
        return f'<div class="im"><style>{STYLE}</style>{body}</div>'

    def to_html(self, path: str | Path | None = None) -> str:
        """A page of its own, which needs no network.

        Args:
            path: where to write it, if anywhere.
        """
        page = PAGE.format(title=html.escape(self.title), body=self._repr_html_())
        if path is not None:
            with atomic(path, sealed=False) as draft:
                draft.write_text(page, encoding="utf-8")
        return page


def plain(table: pd.DataFrame) -> str:
    """A table in columns, for a terminal."""
    rows = [list(map(str, table.columns))]
    rows += [list(map(str, row)) for row in table.itertuples(index=False)]
    widths = [max(len(row[place]) for row in rows) for place in range(table.shape[1])]
    lines = []
    for row in rows:
        first, *rest = zip(row, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(lines)


def markup(title: str, table: pd.DataFrame) -> str:
    """A table as HTML, in which no text is markup."""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in table.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>"
        for row in table.itertuples(index=False)
    )
    caption = f"<caption>{html.escape(title)}</caption>" if title else ""
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    """A cell as HTML; a bound stays beside its number."""
    return html.escape(str(value)).replace("≥ ", "≥&nbsp;")
