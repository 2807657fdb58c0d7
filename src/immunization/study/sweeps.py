"""Sweeps: one entry of a config that expands to many."""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Iterator
from typing import Any

from immunization.study.validation import as_number

MOST_MEMBERS = 10_000
"""That a sweep may stand for."""


def swept_label(label: str, values: dict[str, Any]) -> str:
    """Label of one member of a sweep, such as ``alg1_eta_0p005``: a dot is p and a minus m."""
    parts = [label]
    for name, value in values.items():
        text = f"{value:g}" if isinstance(value, float) else str(value)
        if value is None:
            text = "default"  # which null stands for
        parts += [name, re.sub(r"[^A-Za-z0-9_]", "", text.replace(".", "p").replace("-", "m"))]
    return "_".join(parts)


def expand_sweeps(kind: str, study: dict[str, Any], choice: str) -> Iterator[str]:
    """Put the members of every sweep in its place; yields what is wrong.

    ``sweep: {eta: [0.01, 0.1], balance: [1, 2]}`` stands for four entries with these parameters.
    """
    entries: dict[str, Any] = {}
    for label, entry in study[kind].items():
        sweep = entry.get("sweep") if isinstance(entry, dict) else None
        if sweep is None:
            entries[label] = entry
            continue
        where = f"{kind}.{label}.sweep"
        lists = isinstance(sweep, dict) and all(isinstance(v, list) and v for v in sweep.values())
        if not (lists and sweep):
            yield f"  {where}: {sweep!r} must map parameters to lists, none of them empty."
            continue
        if label == "identity":
            yield f"  {where}: `identity` is what slowdowns are taken against; leave it as it is."
            continue
        if label in study["sweeps"]:
            yield f"  {where}: another sweep is called '{label}'; labels of sweeps differ."
        count = math.prod(len(values) for values in sweep.values())
        if count > MOST_MEMBERS:
            yield f"  {where}: stands for {count:,} entries; {MOST_MEMBERS:,} are the most."
            continue
        rest = {key: value for key, value in entry.items() if key != "sweep"}
        rest.setdefault(choice, label)
        values = [[as_number(value) for value in given] for given in sweep.values()]
        members = {}
        for chosen in itertools.product(*values):
            given = dict(zip(sweep, chosen, strict=True))
            member = swept_label(label, given)
            if member in members or member in entries or member in study[kind]:
                yield f"  {where}: two entries would be called '{member}'."
            members[member] = given
            entries[member] = copy.deepcopy(rest) | given
        study["sweeps"][label] = {"kind": kind, "parameters": list(sweep), "members": members}
    study[kind] = entries
