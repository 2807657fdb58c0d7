"""The tables that figures of networks draw from, read when asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from immunization.files import read_table, read_tables
from immunization.networks.resistance import attacks_table, resistance_table


@dataclass(frozen=True)
class Results:
    """Outputs of the spectrum and attack stages of a study of networks.

    Attributes:
        paths: of Parquet files, by "spectra", "densities" and "curves" (a list).
        study: study.json.
        parameters: of the figure.
    """

    paths: dict[str, Any]
    study: dict[str, Any]
    parameters: dict[str, Any] = field(default_factory=dict)

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
        """Files that attackers stand for."""
        return dict(self.study["order"]["attacks"])

    @property
    def target(self) -> float:
        """Share of the reference's accuracy that is an attacker's goal."""
        return float(self.study["config"]["attack"]["target"])

    def of(self, frame: pd.DataFrame, setting: str) -> pd.DataFrame:
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
    def attacked(self) -> pd.DataFrame:
        """See `immunization.networks.resistance.attacks_table`."""
        return attacks_table(self.curves, self.uses, self.target)

    @cached_property
    def resisted(self) -> pd.DataFrame:
        """See `immunization.networks.resistance.resistance_table`."""
        return resistance_table(self.curves, self.uses, self.target)
