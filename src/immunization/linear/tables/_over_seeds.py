"""Means over pairs, then over seeds."""

from __future__ import annotations

import pandas as pd


def over_seeds(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mean over pairs for each seed, then mean and standard deviation over seeds."""
    by_seed = frame.groupby(["dataset", "method", "seed"])[column].mean()
    grouped = by_seed.groupby(["dataset", "method"])
    return pd.DataFrame({f"{column}_mean": grouped.mean(), f"{column}_std": grouped.std(ddof=1)})
