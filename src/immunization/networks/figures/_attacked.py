"""Tables of the attack stage that several figures draw from, computed once a process."""

from __future__ import annotations

import pandas as pd

from immunization.networks.results import Results
from immunization.networks.tables.attacks import attacks_table
from immunization.networks.tables.resistance import resistance_table


def attacked(results: Results) -> pd.DataFrame:
    """See `immunization.networks.tables.attacks.attacks_table`."""
    if "attacked" not in results.known:
        results.known["attacked"] = attacks_table(results.curves, results.uses, results.target)
    return results.known["attacked"]


def resisted(results: Results) -> pd.DataFrame:
    """See `immunization.networks.tables.resistance.resistance_table`."""
    if "resisted" not in results.known:
        results.known["resisted"] = resistance_table(results.curves, results.uses, results.target)
    return results.known["resisted"]
