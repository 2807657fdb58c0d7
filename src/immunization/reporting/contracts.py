"""What tables and figures of both kinds of study declare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:  # stages that compute have no matplotlib
    import pandas as pd
    from matplotlib.figure import Figure


class TableComponent(Protocol):
    """A file in ``tables`` of a wing.

    Attributes:
        CAPTION: for a reader who does not know the paper.

    A literal ``REPORT = 3`` gives its place among the tables of the report.
    """

    CAPTION: ClassVar[str]

    def table(self, results: Any) -> pd.DataFrame:
        """Numbers, as the CSV file has them, from the wing's ``Results``."""

    def show(self, table: pd.DataFrame) -> pd.DataFrame:
        """The same for people."""


class FigureComponent(Protocol):
    """A file in ``figures`` of a wing.

    Attributes:
        CAPTION: for a reader who does not know the paper.

    It may have ``says(results, subject)``: a sentence that is computed from the numbers.
    """

    CAPTION: ClassVar[str]

    def draw(self, results: Any, subject: str) -> Figure:
        """Draw one data set, or one network and D_H, from the wing's ``Results``."""
