"""What the figures of attacks share."""

from __future__ import annotations

import pandas as pd

from immunization.linear.results import Results
from immunization.reporting.style import title
from immunization.reporting.text import display_label


def in_order(results: Results, names: pd.Series) -> list[str]:
    """Attackers that occur, in the order of the config, the best of all last."""
    there = set(names)
    order = [label for label in results.order["attacks"] if label in there]
    return order + sorted(there - set(order))


def attacker(label: str) -> str:
    """Label of an attacker, for people."""
    return "no immunization" if label == "identity" else display_label(label)


def listed(labels: list[str]) -> str:
    """Labels in a sentence."""
    names = [title(label) for label in labels]
    if not names:
        return "none"
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
