"""What rows of these tables are keyed and ordered by."""

from __future__ import annotations

from typing import Any

import pandas as pd

from immunization.networks.slowdowns import ATTACKER_KINDS, FINE

KEYS = ["network", "harmful", "method"]


ORDER_OF_KINDS = [ATTACKER_KINDS["linear_probe"], FINE, ATTACKER_KINDS["scratch"]]


def over_seeds(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Mean and standard deviation over seeds of each column."""
    grouped = frame.groupby(KEYS, sort=False)[columns]
    mean = grouped.mean().add_suffix("_mean")
    return mean.join(grouped.std(ddof=1).add_suffix("_std")).reset_index()


def in_order(table: pd.DataFrame, order: dict[str, Any]) -> pd.DataFrame:
    """Rows in the order of the config."""
    for column, places in (
        ("method", order["methods"]),
        ("attack", order["attacks"]),
        ("attacker_kind", ORDER_OF_KINDS),
        ("network", order["networks"]),
    ):
        if column in table:
            rank = {label: place for place, label in enumerate(places)}
            table = table.sort_values(column, key=lambda c, rank=rank: c.map(rank), kind="stable")
    return table.reset_index(drop=True)


def show_rank(mean: float) -> str:
    """A mean rank: one seed of three that lost one direction is to be seen."""
    return f"{mean:.1f}".removesuffix(".0")
