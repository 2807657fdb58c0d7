"""The tables that figures draw from, read when asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from immunization.files import read_table, read_tables
from immunization.resistance import resisted


@dataclass(frozen=True)
class Results:
    """Outputs of the spectrum and attack stages.

    Attributes:
        paths: of the Parquet files, by "ratios", "spectra", "steps", "curves" (these two are lists,
            one a data set and engine) and "trajectories" (a list, one a method and data set).
        methods: labels in the order of the config.
        order: what labels stand for, and sweeps, as in study.json.
        parameters: of the figure.
        known: slowdowns by data set, once they were computed.
    """

    paths: dict[str, Any]
    methods: list[str]
    order: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    known: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False, compare=False)

    def unswept(self) -> list[str]:
        """Methods that are no members of a sweep."""
        swept = {
            member
            for sweep in self.order.get("sweeps", {}).values()
            if sweep["kind"] == "methods"
            for member in sweep["members"]
        }
        return [method for method in self.methods if method not in swept]

    @cached_property
    def ratios(self) -> pd.DataFrame:
        """One row a (data set, method, seed, pair)."""
        return read_table(self.paths["ratios"])

    @cached_property
    def spectra(self) -> pd.DataFrame:
        """One row a (data set, method, seed, pair, role)."""
        return read_table(self.paths["spectra"])

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row a (data set, method, seed, role, attack, recorded step)."""
        return read_tables(self.paths["curves"])

    @cached_property
    def steps(self) -> pd.DataFrame:
        """One row a (data set, method, seed, pair, role, attack)."""
        return read_tables(self.paths["steps"])

    def slowed(self, dataset: str) -> pd.DataFrame:
        """`steps` of attackers that take some, and of the best of them, with slowdowns."""
        if dataset not in self.known:
            own = self.steps[self.steps["dataset"] == dataset]
            self.known[dataset] = resisted(own, self.order["methods"])
        return self.known[dataset]

    @cached_property
    def trajectories(self) -> pd.DataFrame:
        """One row a (data set, method, seed, pair, recorded step), of methods that take steps."""
        return read_tables(self.paths["trajectories"])
