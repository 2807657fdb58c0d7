"""Results of a study of networks that tables and figures are made from, read when asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from immunization.reporting.table import read_published
from immunization.runtime.files.io import read_table, read_tables
from immunization.runtime.jobs.stage import Stage
from immunization.study.components import import_component


@dataclass(frozen=True)
class Results:
    """Outputs of the spectrum and attack stages of a study of networks.

    Attributes:
        paths: of Parquet files, by "spectra", "densities" and "curves" (a list); by "published" of
            the paper's figures, by default those that lie here.
        study: study.json.
        parameters: of the figure.
        known: tables by name, once they were computed.
    """

    paths: dict[str, Any]
    study: dict[str, Any]
    parameters: dict[str, Any] = field(default_factory=dict)
    known: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def of(stage: Stage, parameters: dict[str, Any] | None = None) -> Results:
        """Those of a study.

        Args:
            stage: of its tables or figures.
            parameters: of the figure.
        """
        lie = stage.paths
        paths = {"spectra": lie.spectra, "densities": lie.densities, "curves": lie.curves()}
        return Results(paths, stage.study, parameters or {})

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config."""
        return dict(self.study["config"])

    @property
    def order(self) -> dict[str, Any]:
        """Labels in the order of the config, their components, and the label of D_P."""
        return {**self.study["order"], "primary": self.config["primary"]}

    def table(self, name: str) -> pd.DataFrame:
        """One of the study's tables, which others are computed from."""
        if name not in self.known:
            self.known[name] = import_component("networks/tables", name).table(self)
        return self.known[name]

    @property
    def methods(self) -> list[str]:
        """In the order of the config."""
        return list(self.study["order"]["methods"])

    @property
    def attacks(self) -> list[str]:
        """In the order of the config."""
        return list(self.study["order"]["attacks"])

    @property
    def uses(self) -> dict[str, str]:
        """The component of each attacker's label."""
        return dict(self.study["order"]["attacks"])

    @property
    def target(self) -> float:
        """Share of the reference's accuracy that is an attacker's goal."""
        return float(self.study["config"]["attack"]["target"])

    def rows_of(self, frame: pd.DataFrame, setting: str) -> pd.DataFrame:
        """Rows of one NETWORK-D_H."""
        network, harmful = setting.split("-")
        return frame[(frame["network"] == network) & (frame["harmful"] == harmful)]

    @cached_property
    def spectra(self) -> pd.DataFrame:
        """One row a (network, D_H, method, seed, role)."""
        return read_table(self.paths["spectra"])

    @cached_property
    def densities(self) -> pd.DataFrame:
        """One row a (network, D_H, method, seed)."""
        return read_table(self.paths["densities"])

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row a (network, D_H, task, method, seed, attack, member, recorded step)."""
        return read_tables(self.paths["curves"])

    @cached_property
    def trimmed(self) -> pd.DataFrame:
        """`spectra` with ``kappa_trimmed``."""
        return self.spectra.assign(kappa_trimmed=self.spectra["eigenvalues"].map(trimmed_condition))

    @cached_property
    def published(self) -> pd.DataFrame:
        """The figures that the paper prints."""
        path = self.paths.get("published", Path(__file__).parent / "tables" / "published.csv")
        return read_published(path, ("harmful", "network", "method"))


def trimmed_condition(eigenvalues: np.ndarray) -> float:
    """κ without the smallest hundredth of the eigenvalues, at least one: what is left when a few
    directions are given up.

    Args:
        eigenvalues: positive, ascending, at least two.
    """
    cut = math.ceil(len(eigenvalues) / 100)
    return float(eigenvalues[-1] / eigenvalues[min(cut, len(eigenvalues) - 1)])
