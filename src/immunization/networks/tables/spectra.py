"""Table: condition numbers, ranks and scales of features."""

from __future__ import annotations

import numpy as np
import pandas as pd

from immunization.networks.results import Results
from immunization.networks.tables._keys import in_order, show_rank
from immunization.reporting.text import format_number

CAPTION = (
    "Condition numbers themselves, rank, effective rank, largest eigenvalue and scale of the "
    "features on each task, means over seeds. Released κ at unit scale is what the released "
    "definition gives once all features are divided by their root mean square."
)
REPORT = 5
"""Place in the report."""


def spectra_table(spectra: pd.DataFrame) -> pd.DataFrame:
    """κ itself on each task by each definition, and what scale and shape the features have."""
    columns = [
        "kappa", "kappa_trimmed", "kappa_ridge", "kappa_groups", "kappa_groups_released",
        "kappa_released", "kappa_released_unit", "rank", "dimension", "rows", "effective_rank",
        "lambda_max", "feature_rms", "groups_floored", "probe_kappa",
        "probe_largest", "probe_trace",
    ]  # fmt: skip
    keys = ["network", "harmful", "role", "method"]
    for column in columns:
        if column not in spectra:
            spectra = spectra.assign(**{column: np.nan})
    spectra = spectra.assign(**{c: spectra[c].astype(float) for c in columns})
    return spectra.groupby(keys, sort=False)[columns].mean().reset_index()


def show(table: pd.DataFrame) -> pd.DataFrame:
    """For people."""
    shown = table[["network", "harmful", "role", "method"]].copy()
    for column, title in (
        ("kappa", "κ"), ("rank", "rank"), ("kappa_trimmed", "κ, trimmed"),
        ("kappa_ridge", "ridge κ"), ("kappa_groups", "κ, 20 × 100"),
        ("kappa_groups_released", "released κ, 20 × 100"),
        ("kappa_released_unit", "released κ, unit scale"), ("effective_rank", "effective rank"),
        ("lambda_max", "λ_max/N"), ("feature_rms", "feature r.m.s."),
        ("probe_largest", "softmax probe: λ_max"), ("probe_trace", "softmax probe: trace"),
        ("probe_kappa", "softmax probe: κ"),
    ):  # fmt: skip
        shown[title] = table[column].map(show_rank if column == "rank" else format_number)
    return shown


def table(results: Results) -> pd.DataFrame:
    """Rows in the order of the config."""
    return in_order(spectra_table(results.trimmed), results.order)
