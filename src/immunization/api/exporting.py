"""A layer or network of a study as files for others: weights, a card, and a check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from immunization.api.extractor import Extractor
from immunization.api.study import StudyResults
from immunization.linear.files import load_task_set
from immunization.reporting.text import format_number, markdown
from immunization.runtime.errors import UserError
from immunization.runtime.files.atomic import atomic

CHECKED = 16
"""Inputs that are stored with what the layer makes of them."""

LAYER_CARD = """# {title}

{what}

| | |
| --- | --- |
{facts}

## Load it

```python
{snippet}
```

## What it withstands

{verdicts}

## Limits

- The condition numbers hold for a squared-loss probe behind this layer, on features of the same
  model at the same place.
- An attacker who can remove the layer, or invert it, has the original features back: an
  invertible layer hides nothing, and one solve in double precision undoes it.
- In single precision the layer loses what it changed beyond a κ of some 1e7.
{more}"""

LAYER_SNIPPET = """import numpy as np
import immunization as im

layer = im.Extractor.load({name!r})
check = np.load({check!r})
assert np.allclose(layer.transform(check["inputs"]{role}), check["outputs"], rtol=1e-9, atol=1e-9)
module = layer.to_module({module_role})   # torch.nn.Linear, scaling included"""


def export_layer(
    study: StudyResults, method: str, dataset: str, pair: Any, seed: int | None, out: Path
) -> list[Path]:
    """Write a layer of a linear study, its card and its check.

    Returns:
        The layer, the card (OUT.md) and the check (OUT.check.npz).

    Raises:
        UserError: as `StudyResults.extractor` and `Extractor.save`.
    """
    layer = study.extractor(method, dataset, pair=pair, seed=seed)
    # Rows as the study holds them: images as they came, others after their scaling, undone here.
    inputs = raw_inputs(study, dataset, layer)
    role = "benign" if layer.scaler.kind == "within" else None
    check = out.with_name(f"{out.stem}.check.npz")
    card = out.with_name(f"{out.stem}.md")
    layer.save(out)
    outputs = layer.transform(inputs, role)
    with atomic(check, sealed=False) as draft, draft.open("wb") as file:
        np.savez(file, inputs=inputs, outputs=outputs)
    facts = {
        "made by": f"method `{method}` ({layer.record['method']}), immunization "
        f"{layer.record['immunization']}, code {layer.record['code']}, commit "
        f"{layer.record['commit']}",
        "parameters": ", ".join(f"{k}: {v}" for k, v in layer.record["parameters"].items()),
        "benign task, harmful task": " and ".join(map(str, layer.record["pair"])),
        "data set, seed": f"{dataset}, {layer.record['seed']}",
        "features": f"{layer.width}, scaled first: {layer.scaler.kind}",
    }
    said = f"role={role!r}" if role else ""
    snippet = LAYER_SNIPPET.format(
        name=out.name, check=check.name, role=f", {said}" if said else "", module_role=said
    )
    text = LAYER_CARD.format(
        title=f"Immunized linear layer: {method} on {dataset}",
        what="A linear layer to be put behind the features of a model before it is released, so "
        "that a probe for the harmful task is badly conditioned and one for the benign task is "
        "not.",
        facts=rows(facts),
        snippet=snippet,
        verdicts=verdicts(study, method, dataset),
        more="- The layer has lost directions on purpose.\n" if layer.singular else "",
    )
    write_text(card, text)
    return [out, card, check]


def raw_inputs(study: StudyResults, dataset: str, layer: Extractor) -> np.ndarray:
    """A few inputs as `transform` takes them."""
    tasks = load_task_set(study.tasks_file(dataset))
    kept = tasks.inputs[:CHECKED].to(torch.float64)
    scaled = tasks.info.get("scale", "none") != "none"
    scale = layer.scaler.of(0)
    if scaled and scale.mean is not None and scale.deviation is not None:
        kept = kept * scale.deviation + scale.mean
    return kept.numpy()


def rows(facts: dict[str, str]) -> str:
    """Facts as lines of a Markdown table."""
    return "\n".join(f"| {name} | {value} |" for name, value in facts.items())


def verdicts(study: StudyResults, method: str, dataset: str) -> str:
    """Ratios and verdicts of a method on a data set, as a Markdown table."""
    ratios = study.tables["ratios"]
    row = ratios[(ratios["dataset"] == dataset) & (ratios["method"] == method)].iloc[0]
    resisted = study.tables["resistance"]
    mine = resisted[(resisted["dataset"] == dataset) & (resisted["method"] == method)]
    text = (
        f"Over all pairs and seeds of the study: RIR {format_number(row['rir_mean'])} (median "
        f"{format_number(row['rir_median'])}), harmful κ × {format_number(row['ratio_i_mean'])}, "
        f"benign κ × {format_number(row['ratio_ii_mean'])}.\n\n"
    )
    table = pd.DataFrame(
        {
            "attackers": [f"linear probes, {loss} loss" for loss in mine["loss"]],
            "slowdown S": [
                ("≥ " if bound else "") + format_number(s)
                for s, bound in zip(
                    mine["slowdown"], mine["slowdown_is_lower_bound"].astype(bool), strict=True
                )
            ],
            "verdict": mine["verdict"].fillna("").tolist(),
        }
    )
    return text + markdown(table)


def write_text(path: Path, text: str) -> None:
    """Text without a seal, for a folder of the user's."""
    with atomic(path, sealed=False) as draft:
        draft.write_text(text, encoding="utf-8")


def export_network(
    study: StudyResults, method: str, network: str, harmful: str, seed: int | None, out: Path
) -> list[Path]:
    """Not yet."""
    raise UserError("networks are not exported yet.")
