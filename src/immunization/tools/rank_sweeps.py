"""The best member of every sweep of a study, by one stated rule.

    immunization rank-sweeps --ratios results/tuning/spectrum/ratios.parquet \\
        --study results/tuning/study.json

The rule: the largest share of pairs with (i) > 1 and (ii) ≤ 1; among equals, the largest median
log RIR. A pair whose κ float64 does not resolve counts as not met, and its RIR as 1.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

from immunization.linear.tolerances import UNCHANGED
from immunization.reporting.text import format_number, markdown
from immunization.runtime.files.io import read_table
from immunization.runtime.jobs.command import run_command
from immunization.study.whole import read_study
from immunization.tools._command import command

"""Slack for "not larger than", as in `immunization.linear.evaluation`."""


def scores(ratios: pd.DataFrame) -> pd.DataFrame:
    """Both criteria of each method of a study, over all of its data sets, seeds and pairs.

    Args:
        ratios: rows of the spectrum stage.

    Returns:
        Columns share and log_rir, by method.
    """
    resolved = ratios["resolved"]
    met = (ratios["ratio_i"] > 1 + UNCHANGED) & (ratios["ratio_ii"] <= 1 + UNCHANGED) & resolved
    logs = np.log(ratios["rir"]).where(resolved, 0.0)
    keys = ratios["method"]
    return pd.DataFrame({"share": met.groupby(keys).mean(), "log_rir": logs.groupby(keys).median()})


def trials(ratios: pd.DataFrame, sweeps: dict[str, dict[str, object]]) -> pd.DataFrame:
    """One row a member of a sweep over methods, the best of each sweep first.

    Args:
        ratios: rows of the spectrum stage.
        sweeps: of study.json.
    """
    scored = scores(ratios)
    rows = []
    for label, sweep in sweeps.items():
        if sweep["kind"] != "methods":
            continue
        members: dict[str, dict[str, object]] = sweep["members"]  # type: ignore[assignment]
        order = scored.loc[list(members)].sort_values(
            ["share", "log_rir"], ascending=False, kind="stable"
        )
        for place, (member, row) in enumerate(order.iterrows()):
            chosen = ", ".join(f"{name}: {value}" for name, value in members[str(member)].items())
            rows.append(
                {
                    "method": label,
                    "rank": place + 1,
                    "parameters": chosen,
                    "(i) > 1 and (ii) ≤ 1": f"{row['share']:.0%}",
                    "median RIR": format_number(float(np.exp(row["log_rir"]))),
                }
            )
    return pd.DataFrame(rows)


def parser() -> argparse.ArgumentParser:
    """Of this command."""
    made = command(
        "rank-sweeps",
        "Rank the members of a study's sweeps.",
        "immunization rank-sweeps --ratios results/tuning/spectrum/ratios.parquet "
        "--study results/tuning/study.json",
    )
    made.add_argument("--ratios", required=True, help="from the spectrum stage")
    made.add_argument("--study", required=True, help="study.json")
    made.add_argument("--all", action="store_true", help="every trial, not the best alone")
    return made


def main(arguments: list[str] | None = None) -> None:
    """Command line; prints a Markdown table."""
    options = parser().parse_args(arguments)
    table = trials(read_table(options.ratios), read_study(options.study)["order"]["sweeps"])
    if not options.all and not table.empty:
        table = table[table["rank"] == 1]
    print(markdown(table), end="")


if __name__ == "__main__":
    run_command(main)
