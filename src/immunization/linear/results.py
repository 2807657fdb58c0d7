"""Results of a linear study that tables and figures are made from, read when asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from immunization.linear.slowdowns import BEST, with_best_and_slowdown
from immunization.reporting.table import read_published
from immunization.runtime.files.io import read_table, read_tables
from immunization.runtime.jobs.stage import Stage

TABLES = Path(__file__).parent / "tables"


@dataclass(frozen=True)
class Results:
    """Outputs of the spectrum and attack stages.

    Attributes:
        paths: of the Parquet files, by "ratios", "spectra", "steps", "curves" (these two are lists,
            one a data set and engine) and "trajectories" (a list, one a method and data set); by
            "published" and "grids" of the paper's figures, by default those that lie here.
        order: what labels stand for, and sweeps, as in study.json.
        parameters: of the figure.
        known: slowdowns by data set, once they were computed.
    """

    paths: dict[str, Any]
    order: dict[str, Any] = field(default_factory=dict)
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
        paths = {
            "ratios": lie.ratios, "spectra": lie.spectra, "steps": lie.attacked(0),
            "curves": lie.attacked(1), "trajectories": lie.all_trajectories(),
        }  # fmt: skip
        return Results(paths, stage.order, parameters or {})

    @property
    def methods(self) -> list[str]:
        """Labels in the order of the config."""
        return list(self.order["methods"])

    @cached_property
    def published(self) -> pd.DataFrame:
        """The figures that the paper prints."""
        path = self.paths.get("published", TABLES / "published.csv")
        names = ("source", "task", "method", "quantity", "value", "note", "explanation")
        table = read_published(path, names)
        return table.assign(explanation=table["explanation"].fillna(""))

    @cached_property
    def grids(self) -> pd.DataFrame:
        """The paper's Fig. 2."""
        path = self.paths.get("grids", TABLES / "published_fig2.csv")
        return read_published(path, ("method", "row", "column", "log_rir"))

    @cached_property
    def all_slowed(self) -> pd.DataFrame:
        """`slowed` of all data sets at once."""
        return with_best_and_slowdown(self.steps, self.order["methods"])

    def arrange(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows in the order of the config."""
        ranks = {
            "dataset": list(self.order["datasets"]),
            "attack": [*self.order["attacks"], BEST, f"{BEST}, logistic", f"{BEST}, softmax"],
            "method": self.methods,
        }
        columns = [name for name in ranks if name in table.columns]
        keys = table[columns].apply(lambda column: column.map(ranks[str(column.name)].index))
        return table.loc[keys.sort_values(columns, kind="stable").index].reset_index(drop=True)

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
            steps = self.steps[self.steps["dataset"] == dataset]
            self.known[dataset] = with_best_and_slowdown(steps, self.order["methods"])
        return self.known[dataset]

    @cached_property
    def trajectories(self) -> pd.DataFrame:
        """One row a (data set, method, seed, pair, recorded step), of methods that take steps."""
        return read_tables(self.paths["trajectories"])
