"""Stage 8 of a study of networks: one HTML page with findings, tables and figures.

    python -m immunization.networks.report --study study.json --tables tables --figures … \\
        --spectra spectrum/spectra.parquet --out report.html
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from immunization import stage
from immunization.files import read_csv, read_json, write_text
from immunization.formats import number, spoken
from immunization.networks.captions import TABLES
from immunization.networks.tables import SHOW
from immunization.provenance import KAPPA_DEFINITION, provenance
from immunization.report import drawing, origin_of, template

TEXT = [
    "method", "attack", "task", "kind", "verdict", "claim", "note", "fastest", "holds there",
    "survives", "role",
]  # fmt: skip


def findings(tables: dict[str, pd.DataFrame]) -> list[str]:
    """What the tables of one network and D_H say, in words."""
    told = []
    claims = tables["claims"]
    for method, part in claims.groupby("method", sort=False):
        known = part.dropna(subset=["holds"])
        held = known["holds"].map(lambda v: str(v) == "True")
        lost, open_ = (
            [str(claim).split(" (")[0] for claim in found["claim"]]
            for found in (known[~held], part[part["holds"].isna()])
        )
        told.append(
            f"Of {len(part)} claims, {int(held.sum())} survive the strict measures with "
            f"{spoken(str(method))}"
            + (f"; lost: {'; '.join(lost)}" if lost else "")
            + (f"; not decided: {'; '.join(open_)}." if open_ else ".")
        )
    table = tables["table3"]
    reference = table[table["method"] == "identity"].iloc[0]
    others = table[table["method"] != "identity"]
    kept = others[others["accuracy_p_lost"] <= 0.01]
    told.append(
        f"θ₀ has {100 * reference['accuracy_p_mean']:.1f} % on D_P; within a point of it are "
        f"{', '.join(spoken(m) for m in kept['method']) or 'none of the methods'}."
    )
    good = kept[(kept["full_i_mean"] > 1) & (kept["full_ii_mean"] <= 1)]
    if len(good):
        words = [f"{spoken(r.method)} (RIR {number(r.full_rir_mean)})" for r in good.itertuples()]
        told.append(f"Of these, κ grows on D_H and not on D_P with {', '.join(words)}.")
    resistance = tables["resistance"]
    for kind, part in resistance[resistance["method"] != "identity"].groupby("kind", sort=False):
        broken = [spoken(m) for m in part.loc[part["verdict"] == "broken", "method"]]
        slowed = part[part["verdict"].isin(["slowed", "withstood"])]
        words = [
            f"{spoken(r.method)} ({_times(r.slowdown, r.bound)}; to {r.lower_target:.3g} of the "
            f"best accuracy {_times(r.lower_slowdown, r.lower_bound)}, {r.lower_verdict})"
            for r in slowed.itertuples()
        ]
        open_ = [spoken(m) for m in part.loc[part["verdict"] == "not shown", "method"]]
        gone = [spoken(m) for m in part.loc[part["verdict"] == "destroyed", "method"]]
        told.append(
            f"Best {kind} against best {kind}: broken are {', '.join(broken) or 'none'}; slower "
            f"with {', '.join(words) or 'none'}"
            + (f"; a slowdown is not shown for {', '.join(open_)}" if open_ else "")
            + (f"; destroyed D_P: {', '.join(gone)}" if gone else "")
            + "."
        )
    return [*told, *by_chance(resistance)]


def by_chance(resistance: pd.DataFrame) -> list[str]:
    """What chance alone would give of so many intervals."""
    own = resistance[(resistance["method"] != "identity") & resistance["low"].notna()]
    if own.empty:
        return []
    count, seeds = len(own), int(own["seeds"].max())
    above = int((own["low"] > 1).sum())
    return [
        f"These are {count} intervals of 95 % from {seeds} seeds, not corrected for their number: "
        f"if no method changed anything, about {0.025 * count:.2g} would lie above 1 by chance and "
        f"as many below; {above} lie above."
    ]


def _times(slowdown: float, bound: bool) -> str:
    return f"{'at least ' if bound else ''}{number(slowdown)} times"


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
            own = {
                name: t[(t["network"] == network) & (t["harmful"] == harmful)]
                for name, t in tables.items()
            }
            name = f"{network}-{harmful}"
            parts = []
            for table in SHOW:
                if not own[table].empty:
                    people = SHOW[table](own[table]).drop(columns=["network", "harmful"])
                    parts.append(
                        {
                            "caption": TABLES[table],
                            "columns": list(people.columns),
                            "rows": people.values.tolist(),
                        }
                    )
            drawings = [
                drawing(path, order["figures"], "networks/figures")
                for path in figures
                if path.name.split(".")[1] == name
            ]
            settings.append(
                {
                    "name": name,
                    "title": f"{spoken(network)} against {spoken(harmful)}",
                    "findings": findings(own),
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


def main(arguments: list[str] | None = None) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="The report of a study of networks.")
    parser.add_argument("--study", required=True, help="study.json")
    parser.add_argument("--tables", required=True, help="folder of the tables stage")
    parser.add_argument("--figures", nargs="*", default=[], help="SVG files")
    parser.add_argument("--spectra", required=True, help="from the spectrum stage")
    parser.add_argument("--out", required=True, help="HTML file to write")
    options = parser.parse_args(arguments)
    study = read_json(options.study)
    tables = {name: read_csv(Path(options.tables) / f"{name}.csv") for name in TABLES}
    origin = origin_of(study, options.spectra)
    record = provenance(["immunization.networks.report"], {})
    figures = [Path(path) for path in options.figures if path.endswith(".svg")]
    write_text(options.out, page(study, tables, figures, origin), record)


if __name__ == "__main__":
    stage.run(main)
